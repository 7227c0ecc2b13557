"""Tiny scans that several tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shapelab.data.grid import Grid, z_normalised
from shapelab.data.scheme import WHOLE_HEART
from shapelab.data.volumes import Scans
from shapelab.experiments.two_stage import hearts
from shapelab.experiments.two_stage.laboratory import TwoStageExperiment
from shapelab.experiments.two_stage.short_axis import ShortAxisExperiment
from shapelab.models.two_stage import TwoStageConfig, short_axis_config

SPACING = (12.0, 12.0, 12.0)
TINY = TwoStageConfig(
    spacing=SPACING,
    factor=(2, 2, 2),
    width1=2,
    dilation=(2,),
    kernel1=(3, 3, 3),
    width2=2,
    levels2=1,
    slices=3,
    outputs=2,
    steps=(1, 1, 1, 1),
    sides=(8,),
    unet_mm=12.0,
    unet_width=2,
    unet_levels=1,
    every=1,
)
TINY_STACKS = short_axis_config(
    "quick",
    width1=2,
    width2=2,
    levels2=2,
    deep=0,
    outputs=2,
    batch=(2, 2),
    steps=(1, 1, 1, 1),
    every=2,
    sides=(16,),
    field=32,
    window=16,
)


def boxes(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """A label map of seven boxes one above the other, a little elsewhere each time."""
    label = np.zeros(shape, np.uint8)
    x, y = rng.integers(0, 4, 2)
    for value in range(1, 8):
        label[x + 2 : x + 10, y + 2 : y + 9, 2 * value - 1 : 2 * value + 1] = value
    return label


def tiny_scans(patients: int, grid: Grid, seed: int = 0, modalities=("CT",), first: int = 0) -> Scans:
    """Scans of boxes: the same ones in every modality."""
    images, labels, rows = [], [], {}
    for number in range(first, first + patients):
        label = boxes(np.random.default_rng([seed, number]), grid.shape)
        for modality in modalities:
            noise = np.random.default_rng([seed, number, len(modality)]).standard_normal(label.shape)
            images.append(z_normalised(label * (1.0 if modality == "CT" else -1.0) + 0.1 * noise))
            labels.append(label)
            name = f"phantom{number:03d}"
            rows[f"{name}_{modality}"] = {"patient": name, "modality": modality, "group": f"g{number % 2}"}
    table = pd.DataFrame(list(rows.values()), index=list(rows))
    return Scans(np.stack(images).astype(np.float16), np.stack(labels), table, grid, WHOLE_HEART)


@pytest.fixture
def scans() -> Scans:
    """Eight hearts in CT."""
    return tiny_scans(8, hearts.field(SPACING))


@pytest.fixture
def config() -> TwoStageExperiment:
    """The experiment on a handful of hearts."""
    return TwoStageExperiment(training=4, more=5, shipped=2, watched=1, test=2, seeds=(0,), network=TINY)


@pytest.fixture
def boxed(monkeypatch):
    """Boxes in place of phantoms; what was asked for."""
    asked = []

    def made(n, grid, seed=0, modalities=("CT",), first=0, cache=None):
        asked.append({"n": n, "seed": seed, "modalities": modalities, "first": first, "cache": cache})
        return tiny_scans(n, grid, seed, modalities, first)

    monkeypatch.setattr(hearts, "whole_heart_scans", made)
    return asked


@pytest.fixture
def mmwhs(tmp_path_factory, write_nifti):
    """Folder of a data set as MM-WHS lays it out: four labelled scans of each modality, one without label map."""
    root, grid = tmp_path_factory.mktemp("data") / "MM-WHS", hearts.field(SPACING)
    integers = np.array([0, 500, 205, 600, 420, 550, 820, 850], np.int16)  # of the challenge, in the scheme's order
    for kind in ("ct", "mr"):
        made = tiny_scans(5, grid, modalities=(kind.upper(),))
        cases = [*(f"{kind}_train_{number}" for number in range(1001, 1005)), f"{kind}_test_2001"]
        for case, image, label in zip(cases, made.images, made.labels, strict=True):
            name = root / case[:-5] / case
            write_nifti(Path(f"{name}_image.nii.gz"), (100 * image.astype(float)).astype(np.int16), SPACING)
            if "train" in case:
                write_nifti(Path(f"{name}_label.nii.gz"), integers[label], SPACING)
    return root


@pytest.fixture
def stacks() -> ShortAxisExperiment:
    """The experiment of short-axis stacks on a handful of hearts."""
    few = {"few": (1, 0, 1, 1), "patients": (2,)}
    return ShortAxisExperiment(hearts=1, taught=(1, 0, 0, 1), seeds=(0,), watched=1, network=TINY_STACKS, **few)


@pytest.fixture
def acdc(tmp_path, make_acdc, monkeypatch):
    """Folder of ten tiny patients, two of each group; no weights that ship."""
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path / "weights"))
    return make_acdc(tmp_path / "acdc", n=10)
