from . import (
    acnn_methods as acnn_methods,
    hearts as hearts,
    laboratory as laboratory,
    layout as layout,
    refinement_acdc as refinement_acdc,
    starts as starts,
    tables as tables,
)
from .tables import run as run
