"""shapelab.atlas.frame: where voxels lie, by hand and against scipy."""

import numpy as np
import pytest
from scipy import ndimage

from shapelab.atlas import Frame
from shapelab.atlas.frame import as_frame
from shapelab.errors import DataError, UsageError


def test_positions_and_matrix():
    frame = Frame((3, 2, 1), (1.0, 2.0, 10.0), (5.0, 0.0, -1.0))
    assert [list(p) for p in frame.positions()] == [[5, 6, 7], [0, 2], [-1]]
    assert list(frame.matrix @ [2, 1, 0, 1]) == [7, 2, -1, 1]


def test_part():
    frame = Frame((10, 10, 4), (1.0, 2.0, 10.0))
    part, cut = frame.part((2.5, 4.0, 9.0), (6.0, 7.9, 100.0))
    assert cut == (slice(3, 7), slice(2, 4), slice(1, 4)) and part.origin == (3, 4, 10) and part.shape == (4, 2, 3)
    assert frame.part((50, 50, 500), (60, 60, 600))[0].shape == (1, 1, 1)  # nothing there: the nearest voxel


def test_covering_lies_on_whole_multiples():
    frame = Frame.covering((-3.0, 0.0, 1.0), (2.0, 1.0, 9.0), (1.25, 0.5, 2.0))
    assert frame.origin == (-3.75, 0, 0) and frame.shape == (6, 3, 6)


def test_linear_agrees_with_scipy_and_repeats_the_border():
    image = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    here = Frame(image.shape, (1.0, 2.0, 10.0), (0.5, 0, 0))
    there = Frame((9, 8, 11), (0.9, 1.3, 4.0), (-1.0, 0.3, -2.0))
    index = [(x - o) / s for x, o, s in zip(there.positions(), here.origin, here.spacing)]
    expected = ndimage.map_coordinates(image, np.meshgrid(*index, indexing="ij"), order=1, mode="nearest")
    assert np.allclose(here.linear(image, there), expected, atol=1e-5)


def test_nearest_is_the_voxel_whose_centre_is_nearer():
    label = np.arange(1, 4, dtype=np.uint8).reshape(3, 1, 1)
    there = Frame((6, 1, 1), (0.4, 1.0, 1.0), (0.0, 0.0, 0.0))  # 0, .4, .8, 1.2, 1.6, 2
    assert Frame((3, 1, 1), (1.0, 1.0, 1.0)).nearest(label, there).ravel().tolist() == [1, 1, 2, 2, 3, 3]


def test_nearest_is_zero_outside():
    label = np.arange(1, 9, dtype=np.uint8).reshape(2, 2, 2)
    found = Frame((2, 2, 2), (1, 1, 10)).nearest(label, Frame((4, 2, 3), (1, 1, 5), (-1, 0, 0)))
    assert found[0].max() == 0 and found[3].max() == 0
    assert np.array_equal(found[1:3, :, 0], label[:, :, 0]) and np.array_equal(found[1:3, :, 2], label[:, :, 1])


@pytest.mark.parametrize(
    "wrong", [((3, 3), (1, 1, 1)), ((3, 3, 3), (1, 0, 1)), ((3, 3, 0), (1, 1, 1)), ((3, 3, 3), None)]
)
def test_what_cannot_be_a_frame(wrong):
    with pytest.raises(UsageError, match="Frame: found"):
        Frame(*wrong)


def test_an_array_that_does_not_fit():
    with pytest.raises(DataError, match="its frame's shape"):
        as_frame(Frame((2, 2, 2), (1, 1, 1)), np.zeros((2, 2, 3)), "target")
    with pytest.raises(DataError, match="three axes"):
        as_frame((1, 1, 1), np.zeros((2, 2)), "target")
