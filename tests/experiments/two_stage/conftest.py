"""Tiny numbers that several tests share."""

from __future__ import annotations

import pytest

from shapelab.experiments.two_stage.short_axis import ShortAxisExperiment
from shapelab.models.two_stage import short_axis_config

TINY = short_axis_config(
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


@pytest.fixture
def config() -> ShortAxisExperiment:
    """The experiment on a handful of hearts."""
    return ShortAxisExperiment(hearts=1, taught=(1, 0, 0, 1), seeds=(0,), patients=(2,), watched=1, network=TINY)


@pytest.fixture
def acdc(tmp_path, make_acdc, monkeypatch):
    """Folder of ten tiny patients, two of each group; no weights that ship."""
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path / "weights"))
    return make_acdc(tmp_path / "acdc", n=10)
