"""What a user's type checker is told of the names in README and notebooks: read by mypy (`make lint`), never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

import numpy as np
import pandas as pd

import shapelab
from shapelab import CARDIAC, Cohort, Grid, LabelScheme, Subject, open_cohort, stack_labels, to_grid
from shapelab.data.grid import GridSample
from shapelab.data.placement import LaidLabels
from shapelab.latent import classify, traverse
from shapelab.latent.paths import Path
from shapelab.metrics import evaluate
from shapelab.models.acnn import AESpace
from shapelab.spaces import PCASpace, ShapeSpace
from shapelab.spaces.contract import ShapeSpace as AtHome


def doors() -> None:
    """By attribute after `import shapelab`, a thing is what its own module has."""
    check: Callable[..., pd.DataFrame] = shapelab.metrics.evaluate
    same: type[PCASpace] = shapelab.spaces.PCASpace
    grid: type[Grid] = shapelab.data.grid.Grid
    assert_type(shapelab.models.acnn.AESpace.load("folder"), AESpace)
    assert_type(shapelab.atlas.frame.Frame((1, 2, 3), (1, 1, 1)).matrix, np.ndarray)
    assert_type(shapelab.errors.DataError("file", "this", "that").file, str)
    del check, same, grid


def hearts() -> None:
    cohort = open_cohort("phantom", n=4)
    assert_type(cohort, Cohort)
    assert_type(cohort[0], Subject)
    assert_type(cohort["phantom000_ED"], Subject)
    assert_type(cohort[:2], Cohort)
    assert_type(cohort.table, pd.DataFrame)
    assert_type(cohort.split(), tuple[Cohort, Cohort])
    assert_type(CARDIAC, LabelScheme)
    grid = Grid((64, 64, 16), (2.25, 2.25, 8.0))
    assert_type(grid.extent, tuple[float, float, float])
    assert_type(to_grid(cohort[0], grid), GridSample)
    assert_type(stack_labels(cohort, grid), tuple[LaidLabels, pd.DataFrame])
    assert_type(evaluate(np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int), (1, 1, 1)), pd.DataFrame)


def analyses(space: ShapeSpace, codes: pd.DataFrame) -> None:
    assert_type(classify(codes), pd.DataFrame)
    assert_type(traverse(space, 0), Path)
    at_home: AtHome = space
    del at_home
