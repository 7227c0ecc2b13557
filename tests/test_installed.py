"""An installed shapelab is whole: a wheel is built, installed beside, and used from an empty folder.

The checkout is out of sight, there is no network, and the package's folder is read-only: nothing may appear in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import nbformat
import nibabel
import numpy as np
import pytest

from shapelab.data import open_cohort

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
OF_A_BUILD = ("shapelab", "data/weights", "notebooks", "benchmarks/results")  # what setup.py and MANIFEST.in speak of
NOT_SOURCE = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "shipped_files")
NOTEBOOK = "05"  # weights that ship, and tables that were measured


def files_under(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of a folder, with its size and time."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def python(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a source distribution of this checkout: both ways to build are gone."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in OF_A_BUILD:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=NOT_SOURCE)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    made = python("-c", build, cwd=folder / "source")
    assert made.returncode == 0, made.stderr
    (source,) = folder.glob("*.tar.gz")
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "-w", folder)
    made = python("-m", "pip", "wheel", *options, source)
    assert made.returncode == 0, made.stdout + made.stderr
    return next(folder.glob("*.whl"))


@dataclass(frozen=True)
class Installed:
    """The package in a folder of its own, and the empty folder from which it is used."""

    site: Path
    work: Path
    prefix: list[str]

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess:
        """Run Python with it; nothing may have changed in it afterwards."""
        before = files_under(self.site)
        hidden = ("SHAPELAB_", "NUMBA_CACHE", "XDG_", "JUPYTER", "IPYTHON", "PYTHON")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        environment |= {"PYTHONPATH": str(self.site), "PYTHONSAFEPATH": "1", "HOME": str(self.work / "home")}
        environment |= {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}  # nobody answers there
        command = [*self.prefix, sys.executable, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.work)
        assert files_under(self.site) == before
        return done

    def shapelab(self, *arguments: object) -> str:
        """What a command prints."""
        done = self("-m", "shapelab", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory, unprivileged) -> Iterator[Installed]:
    site, work = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("work")
    made = python("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", site, wheel)
    assert made.returncode == 0, made.stderr
    (work / "home").mkdir()
    paths = [site, *site.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    yield Installed(site, work, unprivileged or [])
    for path in paths:  # so that it can be removed
        path.chmod(path.stat().st_mode | 0o200)


def test_the_wheel_holds_the_package_and_what_ships(wheel):
    def names(folder: str, pattern: str = "**/*", inside: str = "") -> set[str]:
        files = (path for path in (ROOT / folder).glob(pattern) if path.is_file() and "__pycache__" not in path.parts)
        return {f"{inside}{path.relative_to(ROOT)}" for path in files}

    ships = names("data/weights") | names("notebooks", "*.ipynb") | names("benchmarks/results")
    expected = names("shapelab") | {f"shapelab/shipped_files/{name}" for name in ships}
    with ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
        for name in ships:
            assert file.read(f"shapelab/shipped_files/{name}") == (ROOT / name).read_bytes()
    assert held == expected and len(ships) > 90


def test_the_installed_package_is_the_one_that_runs(installed):
    code = """
import shapelab, sys
from shapelab import places
from shapelab.experiments.kept_runs import measured
import shapelab.metrics.surface, numba
print(shapelab.__file__, *places.weights_folders(), numba.config.CACHE_DIR, len(measured("sslln_table1")) > 0)
"""
    done = installed("-c", code)
    assert done.returncode == 0, done.stderr
    package, cache = installed.site / "shapelab", installed.work / "home" / ".cache" / "shapelab"
    weights = [package / "shipped_files" / "data" / "weights", cache / "weights"]
    assert done.stdout.split() == [str(p) for p in (package / "__init__.py", *weights, cache / "numba", True)]


@pytest.fixture(scope="module")
def truth(installed) -> np.ndarray:
    """Where the LV cavity of a phantom is, whose scan lies in the folder as scan.nii.gz."""
    (patient,) = open_cohort("phantom", n=1, seed=7, images=True, resolution="LR").filter(phase="ED")
    nibabel.save(nibabel.Nifti1Image(patient.image, patient.affine), installed.work / "scan.nii.gz")
    return patient.label == 3


def test_it_segments_a_scan(installed, truth):
    report = json.loads(installed.shapelab("predict", "acnn_seg_native_quick", "scan.nii.gz", "-o", "label.nii.gz"))
    assert report["model"] == "acnn_seg_native_quick" and report["volumes_ml"]["LV cavity"] > 0
    label = np.asarray(nibabel.load(installed.work / "label.nii.gz").dataobj)
    assert 2 * ((label == 3) & truth).sum() > 0.8 * ((label == 3).sum() + truth.sum())


def test_an_unknown_model_is_answered_by_those_that_ship(installed, truth):
    done = installed("-m", "shapelab", "predict", "nonsense", "scan.nii.gz", "-o", "other.nii.gz")
    assert done.returncode == 2 and "'acnn_fcn_quick', 'acnn_seg_native_quick', 'acnn_seg_prior_quick'" in done.stderr


def test_the_course_is_laid_out_and_a_notebook_runs(installed):
    said = installed.shapelab("course", "--copy", "mine")
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert said.splitlines() == [f"mine: {len(notebooks)} new", f"Now: jupyter lab mine/{notebooks[0].name}"]
    assert [p.read_bytes() for p in sorted((installed.work / "mine").glob("*.ipynb"))] == [
        p.read_bytes() for p in notebooks
    ]

    said = installed.shapelab("notebooks", NOTEBOOK, "--profile", "quick")
    assert "1 of 1 notebooks passed" in said
    (executed,) = (installed.work / "results" / "notebooks").glob(f"{NOTEBOOK}_*.ipynb")
    first = next(cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code")
    assert "profile quick | device" in first.outputs[0].text
    assert not (installed.work / "home" / ".cache" / "shapelab" / "weights").exists()  # nothing had to be trained
