from . import batches as batches, config as config, exact as exact, history as history, loop as loop, losses as losses
from .batches import (
    Batch as Batch,
    Batches as Batches,
    derive_seed as derive_seed,
    seeded as seeded,
    to_device as to_device,
)
from .config import Config as Config, numbers_of as numbers_of
from .history import History as History
from .loop import FitSettings as FitSettings, Run as Run, TrainingError as TrainingError, fit as fit
from .watching import TimeUp as TimeUp, Training as Training, probing as probing, time_limit as time_limit
