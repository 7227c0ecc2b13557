from .batches import (
    Batch as Batch,
    Batches as Batches,
    derive_seed as derive_seed,
    seeded as seeded,
    to_device as to_device,
)
from .history import History as History
from .loop import FitSettings as FitSettings, TrainingError as TrainingError, fit as fit
