"""shapelab.atlas.interpolation: slices stay, between them borders move evenly, nothing past half a slice."""

import numpy as np
import pytest

from shapelab.atlas import Frame, interpolate_slices
from shapelab.errors import DataError


def squares(*halves):
    """Slices of 41 x 41 pixels of 1 mm, 10 mm apart, each a square of 3 round the middle."""
    out = np.zeros((41, 41, len(halves)), np.uint8)
    for k, half in enumerate(halves):
        out[20 - half : 21 + half, 20 - half : 21 + half, k] = 3
    return out


def test_half_way_the_border_is_half_way():
    label, fine = squares(6, 10), Frame((41, 41, 11), (1, 1, 1))
    found = interpolate_slices(label, (1, 1, 10), fine)
    assert np.array_equal(found[:, :, [0, 10]], label)  # the slices themselves
    widths = [(found[20, :, k] == 3).sum() for k in range(11)]
    assert widths[5] == 17 and widths == sorted(widths)  # 13, ..., 17, ..., 21
    assert found.dtype == np.uint8


def test_a_slice_that_nobody_annotated_lies_between_its_neighbours():
    label, fine = squares(6, 10), Frame((41, 41, 21), (1, 1, 1))
    sparse = np.insert(label, 1, 0, 2)
    with pytest.warns(UserWarning, match="found empty slice 1 "):
        found = interpolate_slices(sparse, (1, 1, 10), fine)
    widths = [(found[20, :, k] == 3).sum() for k in range(21)]
    assert widths[::10] == [13, 17, 21] and widths == sorted(widths)


def test_two_structures_that_touch_leave_no_gap():
    label = np.zeros((40, 40, 2), np.uint8)
    label[8:20, 8:32] = 1
    label[20:32, 8:32] = 2
    label[:, :, 1] = np.roll(label[:, :, 1], 4, 0)
    found = interpolate_slices(label, (1, 1, 10), Frame((40, 40, 11), (1, 1, 1)))
    middle = found[:, 20, 5]
    assert (middle[10:34] > 0).all() and not (np.diff(middle[10:34].astype(int)) < 0).any()
    assert (middle == 1).sum() == 12 and (middle == 2).sum() == 12


def test_a_place_on_the_border_is_the_structure_s():
    label = np.zeros((4, 4, 2), np.uint8)
    label[2:] = 3
    fine = interpolate_slices(label, (1, 1, 10), Frame((7, 4, 1), (0.5, 1, 1)))
    assert (fine[:, 1, 0] > 0).tolist() == [False, False, False, True, True, True, True]  # 1.5: as far in as out


def test_it_ends_half_a_slice_past_the_last():
    found = interpolate_slices(squares(5, 5), (1, 1, 10), Frame((41, 41, 30), (1, 1, 1), (0, 0, -10)))
    z = np.arange(-10, 20)[found.any((0, 1))]
    assert (z[0], z[-1]) == (-5, 15)


def test_what_was_not_labelled_stays_so_and_shapes_are_checked():
    assert not interpolate_slices(squares(5, 5) * 0, (1, 1, 10), Frame((41, 41, 5), (1, 1, 2))).any()
    with pytest.raises(DataError, match="three axes"):
        interpolate_slices(squares(5)[0], (1, 1, 10), Frame((41, 41, 5), (1, 1, 2)))
