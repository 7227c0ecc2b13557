"""shapelab: a course and a laboratory for shape priors in medical image segmentation.

The first lines set two OpenMP variables. torch and numba each bring a copy of libgomp, and on a machine with
few cores the threads of the one spin while the other works: up to 13 times slower. libgomp reads the
variables once, when torch is loaded, so this package sets them before anything can import torch. numba is told where to
keep what it compiles (`shapelab.places`).

Everything here is imported when first asked for, so ``import shapelab`` costs nothing and loads no torch.
"""

import os as _os

_os.environ.setdefault("GOMP_SPINCOUNT", "0")
_os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from shapelab import places as _places
from shapelab.doors import open_room as _open_room

__version__ = "0.1.0"

_places.choose_numba_cache()

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
