"""Where things lie: what ships with the code, and where what is trained or compiled here is kept.

In a checkout (an editable install of one, too) these are the checkout's own folders. An installed shapelab carries what
ships inside its package, laid out as in the checkout (`setup.py` copies it there). It writes nothing into the package:
what it makes goes to the user's cache folder.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
#: Inside an installed package: what ships beside the package in a checkout.
INSIDE = "shipped_files"


def installed() -> bool:
    """Whether this is a built package, or a bare copy of one, and no checkout."""
    return (PACKAGE / INSIDE).is_dir() or not (PACKAGE.parent / "pyproject.toml").is_file()


def shipped_folder(name: str) -> Path:
    """A folder that ships, by its name in a checkout: "data/weights", "notebooks" or "benchmarks/results"."""
    return (PACKAGE / INSIDE if installed() else PACKAGE.parent) / name


def cache_folder() -> Path:
    """Where what can be made again is kept: the folder named by SHAPELAB_CACHE, else the user's cache folder."""
    if named := os.environ.get("SHAPELAB_CACHE"):
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("shapelab", appauthor=False)


def weights_folders() -> list[Path]:
    """Where weights are looked for, in this order: what ships, then what was trained here, which is kept in the last.

    In a checkout both are data/weights. A folder named by SHAPELAB_WEIGHTS is the only one.
    """
    if named := os.environ.get("SHAPELAB_WEIGHTS"):
        return [Path(named).expanduser()]
    ships = shipped_folder("data/weights")
    return [ships, cache_folder() / "weights"] if installed() else [ships]


def weights_of(name: str) -> Path:
    """The folder of the weights of this name; where there are none yet, the one to keep them in."""
    folders = [folder / name for folder in weights_folders()]
    return next((folder for folder in folders if folder.is_dir()), folders[-1])


def choose_numba_cache() -> None:
    """Tell numba where to keep what it compiles, where that is not beside the code.

    In a checkout that can be written to numba does that itself. Installed, or where the checkout is read-only, it is
    the user's cache folder; where that cannot be written to either (a container, no home), a temporary folder for as
    long as this process runs, as numba's `cache=True` ends in an error without any. A NUMBA_CACHE_DIR that is set
    stays.
    """
    if os.environ.get("NUMBA_CACHE_DIR") or (not installed() and os.access(PACKAGE, os.W_OK)):
        return
    folder = cache_folder() / "numba"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        folder = _temporary_folder()
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:  # it has read its variables already
        sys.modules["numba"].config.CACHE_DIR = str(folder)


def _temporary_folder() -> Path:
    """A folder of this process alone, removed when it ends."""
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="shapelab-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
