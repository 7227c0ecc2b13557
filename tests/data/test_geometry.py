import numpy as np
import pytest

from shapelab.data.geometry import (
    FACES,
    bounding_box,
    check_voxels,
    components,
    count_components,
    count_holes,
    largest_component,
    most_probable,
    off_level,
    reaches,
    skew,
)
from shapelab.errors import DataError


def volume(*voxels, shape=(6, 5, 4)):
    mask = np.zeros(shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def test_a_box_holds_all_that_is_not_0_and_no_more():
    mask = volume((1, 2, 3), (4, 2, 0))
    assert bounding_box(mask) == (slice(1, 5), slice(2, 3), slice(0, 4))
    assert mask[bounding_box(mask)].shape == (4, 1, 4)
    assert bounding_box(np.float32(mask) * -7) == bounding_box(mask)


def test_a_margin_ends_at_the_border():
    mask = volume((1, 2, 3))
    assert bounding_box(mask, 1) == (slice(0, 3), slice(1, 4), slice(2, 4))
    assert bounding_box(mask, (1, 1, 0)) == (slice(0, 3), slice(1, 4), slice(3, 4))
    assert bounding_box(mask, np.array([9, 9, 9])) == (slice(0, 6), slice(0, 5), slice(0, 4))


def test_a_box_has_as_many_slices_as_the_mask_axes():
    assert bounding_box(np.array([0, 0, 5, 0, 2])) == (slice(2, 5),)
    assert bounding_box(np.eye(3)[:2]) == (slice(0, 2), slice(0, 2))
    with pytest.raises(ValueError, match="broadcast"):
        bounding_box(np.eye(3), (1, 2, 3))


def test_an_empty_mask_has_no_box():
    assert bounding_box(volume()) is None
    assert bounding_box(np.zeros((0, 3))) is None


def test_pieces_and_their_sizes():
    mask = volume((0, 0, 0), (1, 1, 1), (4, 4, 3), (4, 4, 2), (4, 3, 2))
    numbers, sizes = components(mask)
    assert sizes.tolist() == [0, 2, 3]
    assert (numbers > 0).sum() == 5 and numbers[1, 1, 1] == 1 and numbers[4, 4, 3] == 2
    assert components(mask, FACES)[1].tolist() == [0, 1, 1, 3]  # a corner is no face
    assert count_components(mask) == 2
    assert components(volume())[1].tolist() == [0]


def test_the_largest_piece():
    mask = volume((0, 0, 0), (4, 4, 3), (4, 4, 2))
    assert np.array_equal(largest_component(mask), volume((4, 4, 3), (4, 4, 2)))
    alike = volume((0, 0, 0), (4, 4, 3))
    assert np.array_equal(largest_component(alike), volume((0, 0, 0)))
    assert not largest_component(volume()).any()


def test_a_hole_is_wholly_enclosed():
    ball = np.ones((3, 3, 3), bool)
    assert count_holes(ball) == 0
    ball[1, 1, 1] = False
    assert count_holes(ball) == 1
    ball[0, 1, 1] = False  # open now
    assert count_holes(ball) == 0
    ring = np.ones((5, 3, 3), bool)
    ring[1, 1, 1] = ring[3, 1, 1] = False
    assert count_holes(ring) == 2
    corner = np.ones((4, 4, 4), bool)
    corner[1, 1, 1] = corner[2, 2, 2] = False  # two voxels that share a corner alone are two holes
    assert count_holes(corner) == 2


def test_a_structure_is_where_it_has_half_or_more():
    third = np.float32(1) / 3
    shares = np.array([0, 0.4999, 0.5, third + (1 - 2 * third) / 2, 0.5001, 1], np.float32)  # the fourth: 1/2, rounded
    assert reaches(shares).tolist() == [False, False, True, True, True, True]
    assert reaches(np.array([0.2, 0.25]), 0.25).tolist() == [False, True]


def test_for_marching_cubes_what_is_on_the_level_is_moved_inside_and_nothing_else():
    shares = np.array([0, 0.4999, 0.5, 0.5001, 1], np.float32)
    moved = off_level(shares)
    assert moved[2] > 0.5 and moved[2] == pytest.approx(0.5, abs=2e-4)
    assert np.array_equal(np.delete(moved, 2), np.delete(shares, 2)) and moved.dtype == np.float32


def test_of_equals_the_last_channel_so_that_no_structure_is_lost_to_the_background():
    maps = np.array([[0.5, 0.0, 0.5], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5], [0.4, 0.3, 0.3]])
    assert most_probable(maps).tolist() == [2, 1, 2, 0]
    assert most_probable(maps.T, 0).tolist() == [2, 1, 2, 0] and most_probable(maps).dtype == np.uint8
    noise = np.random.default_rng(0).random((5, 4, 3, 2))
    assert np.array_equal(most_probable(noise), noise.argmax(1))  # without ties it is the argmax


def test_the_skew_of_axes_is_the_largest_cosine_between_two():
    c, s = np.cos(0.3), np.sin(0.3)
    turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, -1]]) @ np.diag([1.5, 2, 10])
    assert skew(turned) == pytest.approx(0, abs=1e-12)  # neither a turn nor sizes nor a mirror lean
    sheared = turned.copy()
    sheared[:, 2] += 7 * turned[:, 0]  # by 10.5 mm on 10
    assert skew(sheared) == pytest.approx(10.5 / np.hypot(10, 10.5))


def test_voxels_in_another_unit_are_named():
    for spacing in ((0.02, 1, 100), np.array([1.4, 1.4, 10])):
        check_voxels("a.nii", spacing)
    for spacing in ((0.0014, 0.0014, 0.01), (1400, 1400, 10000), (1, 1, 101)):
        with pytest.raises(DataError, match=f"a.nii: found voxels of {spacing[0]:g} x .*Is the unit mm"):
            check_voxels("a.nii", spacing)
