import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from shapelab.spaces.distances import distance_probabilities, signed_distance, signed_distances

MASKS = arrays(bool, st.tuples(*[st.integers(1, 9)] * 3), elements=st.booleans())


@settings(max_examples=100, deadline=None)
@given(MASKS, st.tuples(*[st.sampled_from([0.5, 1.0, 2.5, 8.0])] * 3), st.sampled_from([0.7, 3.0, 20.0]), st.booleans())
def test_equals_scipys_transform_of_the_whole_grid(mask, spacing, limit, sparse):
    if sparse:
        mask = mask & (np.add.outer(np.add.outer(*map(np.arange, mask.shape[:2])), np.arange(mask.shape[2])) % 5 == 0)
    if not mask.any() or mask.all():
        expected = np.full(mask.shape, limit if not mask.any() else -limit)
    else:
        expected = np.clip(
            distance_transform_edt(~mask, sampling=spacing) - distance_transform_edt(mask, sampling=spacing),
            -limit,
            limit,
        )
    np.testing.assert_allclose(signed_distance(mask, np.array(spacing), limit), expected, rtol=1e-6)


def test_one_map_a_structure():
    channels = np.zeros((2, 5, 5, 3), np.uint8)
    channels[0, 2, 2, 1], channels[1, 0, 0, 0] = 1, 2
    maps = signed_distances(channels, 3, (2, 2, 5), 10)
    assert maps.shape == (2, 2, 5, 5, 3) and maps.dtype == np.float32
    assert maps[0, 0, 2, 2, 1] == -2 and maps[0, 0, 2, 2, 2] == 5 and (maps[0, 1] == 10).all()
    assert maps[1, 1, 1, 1, 0] == pytest.approx(8**0.5)


def test_probabilities_by_hand():
    # two structures at distances d1, d2; the background's distance is -min
    d = np.array([[0.0, 3.0], [-2.0, 4.0], [1.0, 1.0]], np.float32).T.reshape(1, 2, 3, 1, 1)
    p = distance_probabilities(d, 2.0)[0, :, :, 0, 0].T
    for one, (d1, d2) in zip(p, [(0, 3), (-2, 4), (1, 1)], strict=True):
        e = np.exp(np.array([min(d1, d2), -d1, -d2]) / 2)
        np.testing.assert_allclose(one, e / e.sum(), rtol=1e-6)
    assert p[0, 0] == p[0, 1]  # at the border: as much background as structure


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, (1, 6, 5, 4), elements=st.integers(0, 3)))
def test_probabilities_of_distances_give_the_label_map_back(channels):
    p = distance_probabilities(signed_distances(channels, 4, (1.0, 2.0, 5.0), 30.0), 1.0)
    np.testing.assert_array_equal(p.argmax(axis=1), channels)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
