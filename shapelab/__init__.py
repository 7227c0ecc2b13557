"""shapelab: a course and a laboratory for shape priors in medical image segmentation.

The first lines set two OpenMP variables. torch and numba each bring a copy of libgomp, and on a machine with
few cores the threads of the one spin while the other works: up to 13 times slower. libgomp reads the
variables once, when torch is loaded, so this package sets them before anything can import torch.

Everything here is imported when first asked for, so ``import shapelab`` costs nothing and loads no torch.
"""

import os as _os

_os.environ.setdefault("GOMP_SPINCOUNT", "0")
_os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers only
    from shapelab.data import Cohort as Cohort
    from shapelab.data import LabelScheme as LabelScheme
    from shapelab.data import Structure as Structure
    from shapelab.data import Subject as Subject
    from shapelab.data import open_cohort as open_cohort
    from shapelab.data.grid import Grid as Grid
    from shapelab.data.grid import from_grid as from_grid
    from shapelab.data.grid import to_grid as to_grid
    from shapelab.errors import DataError as DataError
    from shapelab.errors import ShapelabError as ShapelabError
    from shapelab.errors import UsageError as UsageError

__version__ = "0.1.0"

#: Name -> module it lives in.
_NAMES = {
    "open_cohort": "shapelab.data",
    "Subject": "shapelab.data.subject",
    "Cohort": "shapelab.data.cohort",
    "LabelScheme": "shapelab.data.scheme",
    "Structure": "shapelab.data.scheme",
    "CARDIAC": "shapelab.data.scheme",
    "BIVENTRICULAR": "shapelab.data.scheme",
    "HIPPOCAMPUS": "shapelab.data.scheme",
    "Grid": "shapelab.data.grid",
    "to_grid": "shapelab.data.grid",
    "from_grid": "shapelab.data.grid",
    "stack_labels": "shapelab.data.grid",
    "current_profile": "shapelab.profiles",
    "DataError": "shapelab.errors",
    "ShapelabError": "shapelab.errors",
    "UsageError": "shapelab.errors",
}

#: Rooms that ``shapelab.<room>`` opens without an import of its own.
_ROOMS = frozenset(
    {
        "atlas",
        "augment",
        "course",
        "data",
        "device",
        "experiments",
        "latent",
        "metrics",
        "models",
        "phantoms",
        "profiles",
        "show",
        "spaces",
        "training",
    }
)

__all__ = ["__version__", *sorted(_NAMES)]


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name in _NAMES:
        value = getattr(_importlib.import_module(_NAMES[name]), name)
        globals()[name] = value  # next time without this function
        return value
    if name in _ROOMS:
        return _importlib.import_module(f"shapelab.{name}")
    raise AttributeError(f"module 'shapelab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_ROOMS})
