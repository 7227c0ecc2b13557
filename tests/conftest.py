"""Fixtures for every test: where real data is, and builders of tiny data sets laid out as their publishers do."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import settings

# The same examples every time: a red run can be repeated, and a green one stays green.
settings.register_profile("shapelab", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("shapelab")


def _real(folder: str, marker_file: str) -> Path:
    """Folder of a real data set under SHAPELAB_DATA, or a skip that says what is missing."""
    base = os.environ.get("SHAPELAB_DATA")
    if not base:
        pytest.skip(f"needs the real data set {folder!r}: SHAPELAB_DATA is not set")
    root = Path(base).expanduser() / folder
    if not (root / marker_file).exists():
        pytest.skip(f"needs the real data set {folder!r}: there is no {root / marker_file}")
    return root


@pytest.fixture(scope="session")
def acdc_root() -> Path:
    """The real ACDC (80 or more patients); skips where it is absent."""
    return _real("acdc", "training")


@pytest.fixture(scope="session")
def whole_heart_root() -> Path:
    """Label maps of one real whole heart (1 Myo 2 LA 3 LV 4 RA 5 RV 6 aorta 7 PA); skips where they are absent."""
    return _real("whole_heart", "heart_with_veins.nii.gz")


@pytest.fixture(scope="session")
def hippocampus_root() -> Path:
    """The real Decathlon hippocampus task; skips where it is absent."""
    return _real("Task04_Hippocampus", "dataset.json")


@pytest.fixture(scope="session")
def unprivileged() -> list[str] | None:
    """What to put before a command so that it cannot write where permissions forbid it, which root could; None where
    that cannot be had."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return []
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    works = shutil.which("setpriv") and subprocess.run([*drop, "true"], capture_output=True).returncode == 0
    return drop if works else None


def _write_nifti(path: Path, array: np.ndarray, spacing=(1.5, 1.5, 10.0), affine: np.ndarray | None = None) -> Path:
    import nibabel

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if affine is None:
        affine = np.diag([*np.resize(spacing, 3).astype(float), 1.0])
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def _heart(shape=(24, 20, 5), scale: float = 1.0) -> np.ndarray:
    """A label map with ACDC's integers: LV cavity 3 in its wall 2, RV cavity 1 at smaller x."""
    x, y, z = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in shape], indexing="ij")
    left = np.sqrt((x - 0.1) ** 2 + y**2 + (0.4 * z) ** 2)
    right = np.sqrt((x + 0.12) ** 2 + y**2 + (0.4 * z) ** 2)
    label = np.zeros(shape, np.uint8)
    label[right < 0.25 * scale] = 1
    label[left < 0.28] = 2
    label[left < 0.2 * scale] = 3
    return label


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., Path]:
    """``write_nifti(path, array, spacing=(1.5, 1.5, 10), affine=None) -> path``: one NIfTI-1 file in mm."""
    return _write_nifti


@pytest.fixture(scope="session")
def tiny_heart() -> Callable[..., np.ndarray]:
    """``tiny_heart(shape=(24, 20, 5), scale=1) -> uint8 label map`` with ACDC's integers 1, 2, 3."""
    return _heart


@pytest.fixture(scope="session")
def make_acdc() -> Callable[..., Path]:
    """``make_acdc(root, n=5, subset="training") -> root``: a valid ACDC of n tiny patients, groups in turn.

    Frames 1 (ED) and 4 (ES) of 8, each with image and label; ``patient001`` is NOR, 170 cm, 70 kg.
    """

    def make(root: Path, n: int = 5, subset: str | None = "training", shape=(24, 20, 5)) -> Path:
        root = Path(root)
        generator = np.random.default_rng(0)
        for i in range(n):
            name = f"patient{i + 1:03d}"
            folder = root / subset / name if subset else root / name
            folder.mkdir(parents=True)
            group = ("NOR", "DCM", "HCM", "MINF", "RV")[i % 5]
            (folder / "Info.cfg").write_text(
                f"ED: 1\nES: 4\nGroup: {group}\nHeight: {170 + i}.0\nNbFrame: 8\nWeight: {70 + i}.0\n"
            )
            for frame, scale in ((1, 1.0), (4, 0.75)):
                image = generator.integers(0, 255, shape).astype(np.int16)
                _write_nifti(folder / f"{name}_frame{frame:02d}.nii.gz", image)
                _write_nifti(folder / f"{name}_frame{frame:02d}_gt.nii.gz", _heart(shape, scale))
        return root

    return make


@pytest.fixture(scope="session")
def make_decathlon() -> Callable[..., Path]:
    """``make_decathlon(root, n=3) -> root``: a valid Decathlon task (hippocampus) of n tiny cases."""

    def make(root: Path, n: int = 3, name: str = "Hippocampus", shape=(12, 16, 10)) -> Path:
        root = Path(root)
        generator = np.random.default_rng(0)
        training = []
        for i in range(n):
            case = f"hippocampus_{i + 1:03d}"
            label = np.zeros(shape, np.uint8)
            label[3:9, 2:8, 3:7] = 1
            label[3:9, 8 : 12 + i % 3, 3:7] = 2
            _write_nifti(root / "imagesTr" / f"{case}.nii.gz", generator.random(shape, np.float32), (1, 1, 1))
            _write_nifti(root / "labelsTr" / f"{case}.nii.gz", label, (1, 1, 1))
            training.append({"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"})
        (root / "dataset.json").write_text(
            json.dumps(
                {
                    "name": name,
                    "description": "tiny",
                    "licence": "CC-BY-SA 4.0",
                    "tensorImageSize": "3D",
                    "modality": {"0": "MRI"},
                    "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
                    "numTraining": n,
                    "numTest": 0,
                    "training": training,
                    "test": [],
                }
            )
        )
        return root

    return make


@pytest.fixture(scope="session")
def make_folder() -> Callable[..., Path]:
    """``make_folder(root, n=3, layout="folders", images=True, facts=True) -> root``: one's own label maps.

    Layouts: "folders" (labels/ and images/), "beside" (X_gt.nii.gz and X.nii.gz), "plain" (label maps alone).
    """

    def make(root: Path, n: int = 3, layout: str = "folders", images: bool = True, facts: bool = True) -> Path:
        root = Path(root)
        rows = ["id,group,age"]
        for i in range(n):
            label = _heart(scale=1 - 0.1 * i)
            image = label.astype(np.float32) * 10 + i
            name = f"case{i:02d}"
            target = {"folders": f"labels/{name}.nii.gz", "beside": f"{name}_gt.nii.gz", "plain": f"{name}.nii.gz"}
            _write_nifti(root / target[layout], label)
            if images and layout != "plain":
                _write_nifti(root / ("images" if layout == "folders" else "") / f"{name}.nii.gz", image)
            rows.append(f"{name},{'ab'[i % 2]},{40 + i}")
        if facts:
            (root / "facts.csv").write_text("\n".join(rows) + "\n")
        return root

    return make


@pytest.fixture
def every_order():
    """Function (label, image, affine) -> the same volume in all 48 orders and directions, the affine turned with it."""

    def stored(label, image, affine):
        for order in itertools.permutations(range(3)):
            for directions in itertools.product((1, -1), repeat=3):
                axes = np.column_stack([order, directions]).astype(float)
                turned = (nibabel.orientations.apply_orientation(a, axes) for a in (label, image))
                yield (*turned, affine @ nibabel.orientations.inv_ornt_aff(axes, label.shape))

    return stored
