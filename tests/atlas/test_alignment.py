"""Slices brought into line: a bent tube whose centres are known, label maps and images that are moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapelab.atlas import RefinementSettings, move_slices, refine, simulate_low_resolution, slice_shifts
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS
from shapelab.errors import DataError, UsageError
from shapelab.metrics import dice

SPACING = (2.0, 2.0, 10.0)


def tube(shift: np.ndarray, bend: float = 0.1) -> np.ndarray:
    """An LV of Z slices whose centre runs down a parabola, each slice out of line by shift (Z, 2) mm."""
    x, y = np.meshgrid(np.arange(48) * 2.0, np.arange(40) * 2.0, indexing="ij")
    label = np.zeros((48, 40, len(shift)), np.uint8)
    for k, (dx, dy) in enumerate(shift):
        r = np.hypot(x - 46 - bend * k**2 - dx, y - 40 - 0.8 * k - dy)
        label[:, :, k] = np.where(r < 20, 3, np.where(r < 30, 2, 0))
    return label


def test_a_smooth_course_is_left_alone_and_a_displaced_slice_found():
    still = np.zeros((9, 2))
    assert np.abs(slice_shifts(tube(still), SPACING, CARDIAC)).max() < 0.2  # pixels of 2 mm
    moved = still.copy()
    moved[4] = 6.0, -4.0
    found = slice_shifts(tube(moved), SPACING, CARDIAC)
    # a parabola through nine slices follows the middle one by 0.2554 of its shift (the hat matrix)
    z = np.vander(np.arange(9.0), 3)
    hat = z @ np.linalg.inv(z.T @ z) @ z.T
    assert found == pytest.approx(moved - hat @ moved, abs=0.35)


def test_each_slice_is_weighed_by_its_area():
    label = np.zeros((12, 12, 4), np.uint8)
    for k, (start, side) in enumerate(((2, 6), (4, 4), (3, 2), (5, 1))):  # squares: 36, 16, 4 and 1 voxels
        label[start : start + side, 2 : 2 + side, k] = 3
    centres = 2.0 * np.array([4.5, 5.5, 3.5, 5.0])
    z, area = np.vander(np.arange(4.0), 3), np.diag([36.0, 16.0, 4.0, 1.0])
    smooth = z @ np.linalg.solve(z.T @ area @ z, z.T @ area @ centres)
    assert slice_shifts(label, SPACING, CARDIAC)[:, 0] == pytest.approx(centres - smooth, abs=1e-9)


def test_a_line_does_not_follow_a_bend_and_slices_without_lv_stay():
    label = np.concatenate([tube(np.zeros((9, 2)), bend=0.25), np.zeros((48, 40, 2), np.uint8)], 2)
    line, parabola = (slice_shifts(label, SPACING, CARDIAC, degree) for degree in (1, 2))
    assert np.abs(line).max() > 1.5 and np.abs(parabola).max() < 0.3
    assert not line[9:].any()
    assert not slice_shifts(label[:, :, :3], SPACING, CARDIAC).any()  # three slices: nothing can be told


@given(st.integers(-3, 3), st.integers(-3, 3), arrays(np.uint8, (9, 8, 2), elements=st.integers(0, 3)))
def test_whole_pixels_move_as_they_are(a, b, label):
    made = move_slices(label, np.tile([2.0 * a, 2.0 * b], (2, 1)), SPACING)
    wide = np.pad(label, ((3, 3), (3, 3), (0, 0)))
    assert np.array_equal(made, wide[3 - a : 12 - a, 3 - b : 11 - b])


def test_images_are_moved_linearly_and_their_edge_is_repeated():
    image = np.arange(12.0, dtype=np.float32).reshape(4, 3, 1)
    made = move_slices(image, np.array([[1.0, 0.0]]), SPACING)  # half a pixel
    assert np.allclose(made[1:, :, 0], (image[1:, :, 0] + image[:-1, :, 0]) / 2) and np.allclose(made[0], image[0])


def test_moving_back_restores_a_label_map():
    shift = np.random.default_rng(0).normal(0, 3, (9, 2))
    label = tube(np.zeros((9, 2)))
    back = move_slices(move_slices(label, shift, SPACING), -shift, SPACING)
    assert (back != label).mean() < 0.005


def test_a_refinement_of_aligned_slices_is_nearer_to_the_truth(hearts):
    stack = simulate_low_resolution(hearts[0], 2, 5.0, 1, seed=2)
    given = stack.label, stack.image, stack.landmarks, hearts[1:3], stack.spacing
    ways = [refine(*given, settings=RefinementSettings(align=a)) for a in (False, True)]
    plain, aligned = (dice(r.label, stack.truth_frame.nearest(stack.truth.label, r.frame), r.scheme) for r in ways)
    assert aligned["LV myocardium"] > plain["LV myocardium"] + 0.03 and aligned.mean() > plain.mean()
    assert not ways[0].shift.any() and ways[1].shift.shape == stack.shift.shape and "alignment" in ways[1].seconds
    assert np.array_equal(ways[1].target, move_slices(stack.label, -ways[1].shift, stack.spacing))


def test_bad_input_is_named():
    label = tube(np.zeros((5, 2)))
    with pytest.raises(UsageError, match="without .'LV cavity', 'LV myocardium'"):
        slice_shifts(label, SPACING, HIPPOCAMPUS)
    with pytest.raises(UsageError, match="degree -1"):
        slice_shifts(label, SPACING, BIVENTRICULAR, -1)
    with pytest.raises(DataError, match="three lengths"):
        slice_shifts(label[0], SPACING, CARDIAC)
    with pytest.raises(DataError, match="finite"):
        move_slices(label, np.full((5, 2), np.nan), SPACING)
    with pytest.raises(DataError, match="shift .4, 2."):
        move_slices(label, np.zeros((4, 2)), SPACING)
