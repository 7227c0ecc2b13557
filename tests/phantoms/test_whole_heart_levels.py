"""Level functions of whole hearts: against scipy and against themselves without the short cut."""

import numpy as np
import pytest
from scipy import ndimage

from shapelab.phantoms.whole_heart_levels import close_wall, draw
from shapelab.phantoms.whole_heart_population import whole_heart_factors
from shapelab.phantoms.whole_heart_surfaces import surfaces

SIZES = {"LVV_ED": 150.0, "LVM": 115.0, "RVV_ED": 170.0, "la_radius": 29.0, "ra_radius": 33.0}
MIDDLE = np.array([17.0, 13.0, 2.0])


def axes(spacing: float, n: int) -> tuple[np.ndarray, ...]:
    return ((np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)) * np.float32(spacing),) * 3


def drawn(group: str, spacing: float, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    s = surfaces(whole_heart_factors((0, 1, group, 1)), SIZES, MIDDLE)
    labels, others = np.zeros((n, n, n), np.uint8), np.zeros((n, n, n), np.uint8)
    distance = np.empty((n, n, n), np.float32)
    draw(s, axes(spacing, n), labels, np.empty((0, 0, 0), np.float32), np.empty((0, 0, 0), np.uint8))
    draw(s, axes(spacing, n), np.empty_like(labels), distance, others)
    return labels, distance, others


@pytest.mark.parametrize("group", ["NOR", "PH", "HCM"])
@pytest.mark.parametrize(("spacing", "n"), [(3.0, 64), (6.0, 33)])
def test_blocks_leave_nothing_out(group, spacing, n):
    """Labels are asked for where something is near, distances in every voxel: both say the same."""
    labels, distance, others = drawn(group, spacing, n)
    assert ((labels > 0) == (distance < 0)).mean() > 0.99999
    assert set(np.unique(labels)) == set(range(8)) and set(np.unique(others)) == {0, 1, 2}
    assert not (others[labels > 0] > 0).any()


def test_distance_is_that_to_the_labels():
    labels, distance, _ = drawn("NOR", 3.0, 64)
    true = ndimage.distance_transform_edt(labels == 0, sampling=3.0)
    near = (true > 3) & (true < 12)
    assert np.abs(distance[near] - true[near]).mean() < 1.6
    beside = (true > 8) & (true < 25)
    assert (distance[beside] > 0.35 * true[beside]).all()  # nowhere a false nearness, as beside a steep apex
    assert np.corrcoef(distance[near], true[near])[0, 1] > 0.85  # to first order


def test_wall_is_closed_round_the_cavity():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1, 1] = 1
    close_wall(labels)
    assert (labels == 2).sum() == 6 and labels[0, 0, 1] == 0 and labels[1, 1, 1] == 1


def test_a_gap_at_a_valve_becomes_what_lies_there():
    labels = np.ones((3, 3, 5), np.uint8)
    labels[:, :, 3:] = 4  # the atrium beyond the valve
    labels[1, 1, 3] = 0
    close_wall(labels)
    assert labels[1, 1, 3] == 4
    labels[1, 1, 0], labels[0, 0, 0] = 0, 2  # next to wall
    close_wall(labels)
    assert labels[1, 1, 0] == 2
