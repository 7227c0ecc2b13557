"""``shapelab doctor``: what is on this machine, what is missing, and how to fix it.

Versions are read from the packages' metadata, so a missing or broken package is reported and not stumbled over;
torch is imported once, at the end, for the devices.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shapelab.commands.terminal import data_root, print_table
from shapelab.errors import UsageError

if TYPE_CHECKING:
    from shapelab.data.cards import Card

OK, NOTE, BAD = "ok", "note", "BAD"

OLDEST_PYTHON = (3, 11)
MIN_DISK_GB = 2.0
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# What does not go together although each says that it does: too old a package, and beside which one.
BAD_PAIRS = (
    ("nbconvert", "<7.16.5", "mistune", ">=3.1", "no page of a notebook can be written"),
    ("umap-learn", "<0.5.8", "scikit-learn", ">=1.8", "no UMAP can be fitted"),
)
OPENMP_VARIABLES = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report: `status` is OK, NOTE (works, but know this) or BAD (needs fixing)."""

    status: str
    what: str
    found: str
    fix: str = ""


@click.command("doctor")
def command() -> int:
    """Versions, devices, what is missing and how to fix it."""
    checks = examine()
    print_table(["", "what", "found", "how to fix it"], [astuple(check) for check in checks])
    bad = [check.what for check in checks if check.status == BAD]
    if bad:
        print(f"shapelab: needs fixing: {', '.join(bad)}", file=sys.stderr)
    return int(bool(bad))


def examine(root: Path | None = None) -> list[Check]:
    """Every check, in the order of reading.

    Args:
        root: folder of data sets (default: SHAPELAB_DATA)
    """
    return [
        check_python(),
        *check_packages(),
        *check_combinations(),
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
        return [Check(BAD, distribution, "not installed", f"make setup (or: {pip_install('-e', '.')})")]
    return [Check(OK, distribution, version), *map(check_package, declared)]


def check_package(declared: str) -> Check:
    """One requirement as metadata has it: ``name>=floor`` or ``name>=floor; extra == "test"``."""
    from packaging.requirements import Requirement

    wanted = Requirement(declared)
    worst, fix = BAD, pip_install(f"{wanted.name}{wanted.specifier}")
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        worst, fix = NOTE, f"{pip_install('shapelab[test]')} (only for {wanted.marker})"
    version = version_of(wanted.name)
    if not version:
        return Check(worst, wanted.name, "not installed", fix)
    if not wanted.specifier.contains(version, prereleases=True):
        return Check(worst, wanted.name, f"{version}; expected {wanted.specifier}", fix)
    return Check(OK, wanted.name, version)


def check_combinations(distribution: str = "shapelab") -> list[Check]:
    """Installed packages that do not go together: pairs of `BAD_PAIRS`, and whatever `distribution` needs, directly or
    not, that lacks a package it needs itself, or has one of a wrong version."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    checks = []
    for old, bad, new, beside, outcome in BAD_PAIRS:
        a, b = version_of(old), version_of(new)
        if a and b and a in SpecifierSet(bad) and b in SpecifierSet(beside):
            fix = pip_install(old + bad.replace("<", ">="))
            checks.append(Check(BAD, old, f"{a}, with {new} {b} {outcome}", fix))
    reached, todo = {distribution}, [distribution] if version_of(distribution) else []
    for name in todo:  # which grows
        for wanted in map(Requirement, metadata.requires(name) or []):
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            version = version_of(wanted.name)
            fits = bool(version) and wanted.specifier.contains(version, prereleases=True)
            if not fits and name != distribution:  # its own are for `check_packages`
                found = f"{version_of(name)} needs {wanted.name}{wanted.specifier}; found {version or 'none'}"
                checks.append(Check(BAD, name, found, pip_install("--upgrade", name)))
            if version and wanted.name not in reached:
                reached.add(wanted.name)
                todo.append(wanted.name)
    return checks


def version_of(package: str) -> str:
    """Installed version of a package; "" if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def pip_install(*arguments: str) -> str:
    """The command that installs something for this very Python."""
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


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

        spec = KernelSpecManager().get_kernel_spec("python3")
    except (ImportError, KeyError) as error:  # NoSuchKernel is a KeyError
        return Check(BAD, "Jupyter kernel", f"none: {error}", pip_install("--force-reinstall", "ipykernel"))
    if _is_this_python(spec.argv[0]):
        return Check(OK, "Jupyter kernel", "python3, this Python")
    # JUPYTER_PATH comes first, before the folders of the user, of this Python and of the system
    home = Path(sys.prefix, "share", "jupyter")
    fix = f"export JUPYTER_PATH={shlex.quote(str(home))}${{JUPYTER_PATH:+:$JUPYTER_PATH}}"
    own = KernelSpecManager(kernel_dirs=[str(home / "kernels")], ensure_native_kernel=False)
    if "python3" not in own.find_kernel_specs() or not _is_this_python(own.get_kernel_spec("python3").argv[0]):
        fix = f"{shlex.join([sys.executable, '-m', 'ipykernel', 'install', '--sys-prefix'])} && {fix}"
    found = f"JupyterLab starts another Python: {spec.argv[0]}, as {spec.resource_dir} says"
    return Check(NOTE, "Jupyter kernel", found, fix)


def _is_this_python(command: str) -> bool:
    """Whether the first word of a kernel is this Python; a bare "python" is the Python that starts it."""
    bare = (f"python{'.'.join(map(str, sys.version_info[:n]))}" for n in range(3))
    return command in bare or Path(command).absolute() == Path(sys.executable).absolute()


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
        return [Check(BAD, "data", f"cannot read the catalogue: {error}", "see the packages above")]
    return [_check_card(card, root / card.folder) for card in cards]


def _check_card(card: Card, folder: Path) -> Check:
    """One data set: where it is, or how to get it."""
    if folder.is_dir():
        return Check(OK, f"data: {card.name}", str(folder))
    how = f"shapelab data fetch {card.name}" if card.fetchable else f"from {card.home}"
    return Check(NOTE, f"data: {card.name}", "not here", f"optional: {how}; or use the phantom")


def check_devices(describe: Callable[[], dict[str, str]] | None = None) -> list[Check]:
    """What computes here: the device that is used, the cores, and the profile that fits."""
    try:
        if describe is None:
            from shapelab.device import describe as usual

            describe = usual
        from shapelab.profiles import current_profile

        facts = describe()
    except (ImportError, OSError) as error:  # OSError: a torch that lacks one of its libraries
        return [Check(BAD, "device", f"torch cannot be imported: {error}", pip_install("--force-reinstall", "torch"))]
    checks = [Check(OK, "device", f"{facts['machine']}, {facts['cores']} cores"), *check_gpu()]
    try:
        checks.append(Check(OK, "profile", current_profile()))
    except UsageError as error:
        checks.append(Check(BAD, "profile", str(error), "unset SHAPELAB_PROFILE, or set it to one of these"))
    return checks


def check_gpu() -> list[Check]:
    """A GPU that torch does not use, or a torch for GPUs where there is none; nothing where all is as it should be."""
    import torch

    if torch.cuda.is_available():
        return []
    built = torch.version.cuda and f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
    if not driver_lists_gpu():
        return [Check(OK, "GPU", f"{built} and finds no driver: it runs on the CPU")] if built else []
    if built:
        found, fix = f"{built}, and cannot use this NVIDIA GPU", "update the GPU's driver: nvidia-smi says what it has"
    else:
        found = "an NVIDIA GPU, and a torch that is built without CUDA"
        fix = pip_install("--force-reinstall", "torch")
    return [Check(NOTE, "GPU", found, f"{fix} (the notebooks run on the CPU meanwhile)")]


def driver_lists_gpu() -> bool:
    """Whether NVIDIA's driver is here and knows a GPU."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout
