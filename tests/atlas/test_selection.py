"""shapelab.atlas.selection: by hand, and against scikit-image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import normalized_mutual_information

from shapelab.atlas import normalised_mutual_information, select_atlases
from shapelab.errors import DataError, UsageError


def test_by_hand():
    a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert np.isclose(normalised_mutual_information(a, b), 1)  # neither says anything about the other
    assert np.isclose(normalised_mutual_information(a, 7 - 3 * a), 2)  # each determines the other
    c = np.array([0, 0, 0, 1])
    # H(A) = log 2, H(C) = 2 log 2 - 3/4 log 3, joint 1/2 1/4 1/4: 3/2 log 2
    expected = (np.log(2) + 2 * np.log(2) - 0.75 * np.log(3)) / (1.5 * np.log(2))
    assert np.isclose(normalised_mutual_information(a, c), expected)
    assert normalised_mutual_information(np.ones(5, int), np.zeros(5, int)) == 2


maps = hnp.arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 4))


@given(maps, maps)
def test_of_label_maps_as_scikit_image(a, b):
    if a.min() == a.max() and b.min() == b.max():
        return  # its histogram has no width there
    ours = normalised_mutual_information(a, b)
    assert np.isclose(ours, normalized_mutual_information(a, b, bins=[np.arange(-0.5, 5)] * 2))
    assert np.isclose(ours, normalised_mutual_information(b, a)) and 1 - 1e-9 <= ours <= 2 + 1e-9
    assert ours == normalised_mutual_information(torch.from_numpy(a), torch.from_numpy(b))


def test_of_images_as_scikit_image():
    rng = np.random.default_rng(0)
    a = rng.random((9, 8, 7)).astype(np.float32)
    b = (a**2 + 0.1 * rng.random(a.shape)).astype(np.float32)
    expected = normalized_mutual_information(a.astype(float), b.astype(float), bins=64)
    assert np.isclose(normalised_mutual_information(a, b), expected, atol=2e-3)
    assert normalised_mutual_information(a, np.full_like(a, 3.0)) == 1


def test_the_most_alike_come_first(ball):
    shape = (30, 30, 20)
    target = ball(shape, (15, 15, 10), 8).astype(np.uint8)
    moved = [ball(shape, (15 + d, 15, 10), 8).astype(np.uint8) for d in (6, 0, 3, 0)]
    chosen, scores = select_atlases(target, moved, 3)
    assert chosen == [1, 3, 2] and np.isclose(scores[1], 2) and scores.shape == (4,)
    assert select_atlases(target, moved, 9)[0] == [1, 3, 2, 0]


def test_labels_far_apart_in_number():
    a = np.array([[0, 60000], [60000, 0]], np.uint16)
    assert np.isclose(normalised_mutual_information(a, a), 2)


def test_wrong_arguments():
    with pytest.raises(DataError, match="one shape for both"):
        normalised_mutual_information(np.zeros(3, int), np.zeros(4, int))
    with pytest.raises(DataError, match="not finite"):
        normalised_mutual_information(np.array([0.0, np.nan]), np.zeros(2))
    with pytest.raises(UsageError, match="n=0"):
        select_atlases(np.zeros(3, int), [np.zeros(3, int)], 0)
    with pytest.raises(UsageError, match="of 0 atlases"):
        select_atlases(np.zeros(3, int), [])
