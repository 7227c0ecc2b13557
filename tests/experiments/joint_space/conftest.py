"""Tiny scans that several tests share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shapelab.data.grid import Grid, z_normalised
from shapelab.data.scheme import CARDIAC, WHOLE_HEART
from shapelab.data.volumes import Scans
from shapelab.experiments.joint_space import hearts
from shapelab.experiments.joint_space.laboratory import JointExperiment
from shapelab.models.joint_space import JointSpaceConfig

GRID = Grid((8, 8, 8), (12.0, 12.0, 12.0))
TINY = JointSpaceConfig(
    shape=GRID.shape, spacing=GRID.spacing, widths=(2, 4), convs=(1, 1), batch=2, steps=4, every=2, affine={}
)


def boxes(rng: np.random.Generator, structures: int, shape=GRID.shape) -> np.ndarray:
    """A label map of boxes beside each other, a little elsewhere each time."""
    label = np.zeros(shape, np.uint8)
    x, y = rng.integers(0, 2, 2)
    for value in range(1, structures + 1):
        label[x + 1 : x + 7, y + 1 : y + 6, value - 1 : value + 1] = value
    return label


def tiny_scans(patients: int, modalities=("CT", "MR"), seed: int = 0, scheme=WHOLE_HEART, first: int = 0) -> Scans:
    """Scans of boxes: the same ones in every modality."""
    images, labels, rows = [], [], {}
    for number in range(first, first + patients):
        label = boxes(np.random.default_rng([seed, number]), len(scheme.names))
        label[7, number // 8, number % 8] = 1  # no two alike
        for i, modality in enumerate(modalities):
            noise = np.random.default_rng([seed, number, i]).standard_normal(label.shape)
            images.append(z_normalised(label * (1.0 - 2 * i) + 0.1 * noise))
            labels.append(label)
            name = f"phantom{number:03d}"
            rows[f"{name}_{modality}"] = {"patient": name, "modality": modality, "group": f"g{number % 2}"}
    table = pd.DataFrame(list(rows.values()), index=list(rows))
    return Scans(np.stack(images).astype(np.float16), np.stack(labels), table, GRID, scheme)


@pytest.fixture
def scans() -> Scans:
    """Three hearts in CT and MR."""
    return tiny_scans(3)


@pytest.fixture
def short_axis() -> Scans:
    """Ten patients' scans in MR."""
    return tiny_scans(10, ("MR",), scheme=CARDIAC)


@pytest.fixture
def config() -> JointExperiment:
    """The experiment on a handful of hearts."""
    short = JointSpaceConfig(**{**vars(TINY), "n_classes": 4})
    return JointExperiment(
        training=2,
        test=2,
        seeds=(0,),
        methods=("CE-Reg", "E-D", "U-Net"),
        early=2,
        pairs=2,
        labelled=(2,),
        maps=1,
        network=TINY,
        short_axis=short,
    )


@pytest.fixture
def boxed(monkeypatch, short_axis):
    """Boxes in place of phantoms and of a data set's hearts."""

    def made(n, grid, seed=0, modalities=("CT", "MR"), first=0, cache=None):
        return tiny_scans(n, modalities, seed, first=first)

    monkeypatch.setattr(hearts, "whole_heart_scans", made)
    monkeypatch.setattr(hearts, "real_scans", lambda data, grid, root=None, folder=None: short_axis)
    monkeypatch.setattr(hearts, "short_axis_maps", lambda n, grid, folder=None: short_axis.labels[: 2 * n])
