"""``shapelab doctor``: what is on this machine, what is missing, and how to mend it.

Versions are read from the packages' metadata, so a missing or broken package is reported and not stumbled over;
torch is imported once, at the end, for the devices.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple, dataclass
from importlib import metadata
from pathlib import Path

import click

from shapelab.commands.terminal import data_root, print_table
from shapelab.errors import UsageError

OK, NOTE, BAD = "ok", "note", "BAD"

OLDEST_PYTHON = (3, 11)
MIN_DISK_GB = 2.0
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
OPENMP_VARIABLES = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report: `status` is OK, NOTE (works, but know this) or BAD (needs mending)."""

    status: str
    what: str
    found: str
    mend: str = ""


@click.command("doctor")
def command() -> int:
    """Versions, devices, what is missing and how to mend it."""
    checks = examine()
    print_table(["", "what", "found", "how to mend it"], [astuple(check) for check in checks])
    bad = [check.what for check in checks if check.status == BAD]
    if bad:
        print(f"shapelab: needs mending: {', '.join(bad)}", file=sys.stderr)
    return int(bool(bad))


def examine(root: Path | None = None) -> list[Check]:
    """Every check, in the order of reading.

    Args:
        root: folder of data sets (default: SHAPELAB_DATA)
    """
    return [
        check_python(),
        *check_packages(),
        check_openmp(),
        check_kernel(),
        check_chromium(),
        check_disk(),
        *check_data(root or data_root()),
        *check_devices(),
    ]


def check_python() -> Check:
    """Python's version against the oldest that is supported."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return Check(BAD, "Python", found, f"needs {wanted} or newer: make setup PYTHON=/path/to/python{wanted}")
    return Check(OK, "Python", found)


def check_packages(distribution: str = "shapelab") -> list[Check]:
    """The packages that `distribution` declares: one missing or too old is BAD, or a NOTE if it is of an extra."""
    try:
        declared, version = metadata.requires(distribution) or [], metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return [Check(BAD, distribution, "not installed", "make setup (or: pip install -e .)")]
    return [Check(OK, distribution, version), *map(check_package, declared)]


def check_package(declared: str) -> Check:
    """One requirement as metadata has it: ``name>=floor`` or ``name>=floor; extra == "test"``."""
    from packaging.requirements import Requirement

    wanted = Requirement(declared)
    worst, mend = BAD, "make setup"
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        worst, mend = NOTE, f"make setup (only for {wanted.marker})"
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return Check(worst, wanted.name, "not installed", mend)
    if not wanted.specifier.contains(version, prereleases=True):
        return Check(worst, wanted.name, f"{version}; expected {wanted.specifier}", mend)
    return Check(OK, wanted.name, version)


def check_openmp() -> Check:
    """The variables that keep torch's and numba's OpenMP copies from spinning against each other."""
    wrong = [f"{name}={value}" for name, value in OPENMP_VARIABLES.items() if os.environ.get(name) != value]
    if wrong:
        return Check(NOTE, "OpenMP", "may spin: up to 13 times slower on few cores", f"export {' '.join(wrong)}")
    return Check(OK, "OpenMP", "waits quietly")


def check_kernel() -> Check:
    """The Jupyter kernel "python3", in which notebooks run, is this very Python."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        python = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    except (ImportError, KeyError) as error:  # NoSuchKernel is a KeyError
        return Check(BAD, "Jupyter kernel", f"none: {error}", "make setup (or: pip install ipykernel)")
    # a bare "python" in a kernel spec means the Python that starts it
    if str(python) in ("python", "python3") or python.absolute() == Path(sys.executable).absolute():
        return Check(OK, "Jupyter kernel", "python3, this Python")
    return Check(
        NOTE,
        "Jupyter kernel",
        f"python3 is another Python: {python}",
        f"{sys.executable} -m ipykernel install --sys-prefix",
    )


def check_chromium() -> Check:
    """A Chromium for the browser tests; nothing else needs it."""
    if path := next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None):
        return Check(OK, "Chromium", path)
    return Check(NOTE, "Chromium", "not found", "only for `make browser`: apt-get install chromium")


def check_disk(folder: Path | None = None) -> Check:
    """Free space where results are written, in GB."""
    folder = folder or Path.cwd()
    free = shutil.disk_usage(folder).free / 1e9
    if free < MIN_DISK_GB:
        return Check(BAD, "free disk", f"{free:.1f} GB at {folder}", f"free at least {MIN_DISK_GB:.0f} GB")
    return Check(OK, "free disk", f"{free:.0f} GB")


def check_data(root: Path | None) -> list[Check]:
    """Which data sets lie under `root`. None is a NOTE: everything runs on the phantoms."""
    if root is None:
        return [
            Check(
                NOTE,
                "data",
                "SHAPELAB_DATA is not set",
                "optional: export SHAPELAB_DATA=FOLDER (see `shapelab data list`); the phantoms need none",
            )
        ]
    if not root.is_dir():
        return [Check(BAD, "data", f"{root} is no folder", "make the folder, or set SHAPELAB_DATA to one that exists")]
    try:
        from shapelab.data import catalogue

        cards = [card for card in catalogue().values() if card.folder]
    except ImportError as error:  # a package is missing: reported above, the rest is still worth seeing
        return [Check(BAD, "data", f"cannot read the catalogue: {error}", "make setup")]
    return [_check_card(card, root / card.folder) for card in cards]


def _check_card(card, folder: Path) -> Check:
    """One data set: where it is, or how to get it."""
    if folder.is_dir():
        return Check(OK, f"data: {card.name}", str(folder))
    how = f"shapelab data fetch {card.name}" if card.fetchable else f"from {card.home}"
    return Check(NOTE, f"data: {card.name}", "not here", f"optional: {how}; or use the phantom")


def check_devices(describe: Callable[[], dict[str, str]] | None = None) -> list[Check]:
    """What computes here: the device that is used, the cores, and the profile that fits."""
    try:
        if describe is None:
            from shapelab.device import describe
        from shapelab.profiles import current_profile

        facts = describe()
    except (ImportError, OSError) as error:  # OSError: a torch that lacks one of its libraries
        return [Check(BAD, "device", f"torch cannot be imported: {error}", "make setup")]
    checks = [Check(OK, "device", f"{facts['machine']}, {facts['cores']} cores")]
    if has_unused_gpu():
        checks.append(
            Check(
                NOTE,
                "GPU",
                "an NVIDIA GPU that this torch does not use",
                "install a torch built for CUDA; the notebooks run on the CPU meanwhile",
            )
        )
    try:
        checks.append(Check(OK, "profile", current_profile()))
    except UsageError as error:
        checks.append(Check(BAD, "profile", str(error), "unset SHAPELAB_PROFILE, or set it to one of these"))
    return checks


def has_unused_gpu() -> bool:
    """Whether the driver lists a GPU that torch does not see."""
    import torch

    if torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return False
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout
