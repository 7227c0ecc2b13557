"""Whole hearts: structures whole, neighbours in touch, the right way up."""

import numpy as np
import pytest
from scipy import ndimage

from shapelab.data.geometry import TOUCHING
from shapelab.phantoms.patients import Patient
from shapelab.phantoms.whole_heart import draw_whole_heart, labels_of_whole_hearts, whole_heart_labels
from shapelab.phantoms.whole_heart_population import WHOLE_GROUPS

LV, MYO, RV, LA, RA, AO, PA = range(1, 8)
GRID = ((72, 61, 84), (3.0, 3.0, 3.0))
COARSE = ((28, 24, 28), (6.0, 6.0, 6.0))


def patients(n: int, seed: int = 0) -> list[Patient]:
    return [(seed, i, WHOLE_GROUPS[i % 6], i // 6) for i in range(n)]


@pytest.mark.parametrize("grid", [GRID, COARSE])
def test_structures_are_whole_and_neighbours_touch(grid):
    for who in patients(12):
        labels = whole_heart_labels(who, grid)
        for value in range(1, 8):
            assert ndimage.label(labels == value, TOUCHING)[1] == 1, (who, value)
        for one, other in ((LV, MYO), (LV, LA), (RV, RA), (LV, AO), (RV, PA), (RV, MYO)):
            assert (ndimage.binary_dilation(labels == one) & (labels == other)).any(), (who, one, other)
        assert not (ndimage.binary_dilation(labels == LV) & (labels == 0)).any(), who


def test_apex_points_left_forward_and_down():
    labels = draw_whole_heart((0, 0, "NOR", 0), GRID).labels
    apex = np.argwhere(labels == LV).mean(0) - np.argwhere(labels == LA).mean(0)
    assert apex[0] < 0 < apex[1] and apex[2] < 0
    assert np.argwhere(labels == RV).mean(0)[0] > np.argwhere(labels == LV).mean(0)[0]


def test_many_are_each_alone():
    both = labels_of_whole_hearts(patients(3), COARSE)
    assert all((a == whole_heart_labels(who, COARSE)).all() for a, who in zip(both, patients(3)))
