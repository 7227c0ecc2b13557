import numpy as np
import pytest

from shapelab.spaces.axes import principal_axes, shape_axes, with_fixed_signs


def test_signs_are_those_of_the_largest_entry():
    axes = np.array([[1.0, 2.0, 0.0], [-3.0, -1.0, 4.0]])
    assert with_fixed_signs(axes).tolist() == [[-1, 2, 0], [3, -1, 4]]
    assert with_fixed_signs(np.zeros((5, 0))).shape == (5, 0)


def test_principal_axes_come_sorted():
    codes = np.random.default_rng(0).normal(size=(50, 4)) * [1, 3, 2, 0.5]
    axes = principal_axes(np.cov(codes.T))
    assert np.allclose(axes.T @ axes, np.eye(4)) and np.abs(axes).argmax(0).tolist() == [1, 2, 0, 3]
    by_hand = principal_axes(np.array([[2.0, 1.0], [1.0, 2.0]]))  # variances 3 and 1 along the diagonals
    assert np.allclose(np.abs(by_hand), np.sqrt(0.5)) and by_hand[0, 0] * by_hand[1, 0] > 0


def test_shape_axes_are_sorted_by_the_variance_of_the_label_maps():
    # label maps that differ in two ways, one four times as strong as the other; codes that mix them at equal size
    large, small = np.tile([0, 1], 100), np.repeat([0, 1], 100)
    maps = np.zeros((200, 10, 1, 1), np.uint8)
    maps[:, :8, 0, 0] = 3 * large[:, None]
    maps[:, 8:, 0, 0] = 1 * small[:, None]
    codes = np.stack([large + small, large - small], axis=1) * 7.0
    turned = codes @ shape_axes(codes, maps, 4)
    assert abs(np.corrcoef(turned[:, 0], large)[0, 1]) > 0.999 and abs(np.corrcoef(turned[:, 1], small)[0, 1]) > 0.999
    variance = turned.var(axis=0)
    assert variance.sum() == pytest.approx(codes.var(axis=0).sum())
    assert variance[0] / variance[1] == pytest.approx(4 * large.var() / small.var(), rel=0.02)
    # any other basis of the same codes comes to the same axes
    other = codes @ np.array([[2.0, 1.0], [0.5, -3.0]])
    again = other @ shape_axes(other, maps, 4)
    assert np.allclose(np.abs(np.corrcoef(turned.T, again.T)[:2, 2:]), np.eye(2), atol=1e-6)


def test_axes_can_be_undone_where_codes_are_few_or_idle():
    maps = np.random.default_rng(0).integers(0, 4, (5, 4, 4, 4)).astype(np.uint8)
    codes = np.random.default_rng(1).normal(size=(5, 8))  # fewer shapes than numbers
    codes[:, 3] = 0.0
    axes = shape_axes(codes, maps, 4)
    assert np.isfinite(axes).all() and np.linalg.matrix_rank(axes) == 8
    assert np.allclose(codes @ axes @ np.linalg.inv(axes), codes, atol=1e-6)
