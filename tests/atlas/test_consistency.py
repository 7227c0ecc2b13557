"""shapelab.atlas.consistency and warp: plain definitions, numeric gradients, both paths alike."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from shapelab.atlas.consistency import consistency
from shapelab.atlas.warp import warp_image, warp_label

SHAPE, ORIGIN, STEP = (7, 6, 5), (3.0, -2.0, 1.0), (1.5, 2.0, 4.0)


@pytest.fixture
def case():
    """target, maps (3 channels, background border), matrix, displacement; some places lie outside the atlas."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, SHAPE).astype(np.uint8)
    maps = np.zeros((3, 9, 8, 10), np.float32)
    maps[1:, 1:-1, 1:-1, 1:-1] = rng.random((2, 7, 6, 8)) / 2
    maps[0] = 1 - maps[1:].sum(0)
    matrix = np.array([[0.8, 0.1, 0, -1.2], [-0.1, 0.6, 0.05, 2.1], [0, 0.1, 0.45, 0.3]])
    return target, maps, matrix, rng.normal(0, 1, (3, *SHAPE)).astype(np.float32)


def places(matrix, displacement):
    x = np.stack(np.meshgrid(*[o + s * np.arange(n) for o, s, n in zip(ORIGIN, STEP, SHAPE)], indexing="ij"))
    return np.einsum("ij,jabc->iabc", matrix[:, :3], x + displacement) + matrix[:, 3, None, None, None]


def plain(target, maps, matrix, displacement):
    """The definition: interpolate every channel, pick the target's, add up."""
    y = places(matrix, displacement)
    p = [
        ndimage.map_coordinates(m.astype(float), y, order=1, mode="grid-constant", cval=float(c == 0))
        for c, m in enumerate(maps)
    ]
    return float(np.take_along_axis(np.stack(p), target[None].astype(int), 0).sum())


def test_sum_is_the_definition(case):
    target, maps, matrix, u = case
    total = consistency(target, maps, matrix, ORIGIN, STEP, u, np.empty_like(u))
    assert np.isclose(total, plain(*case[:3], u), rtol=1e-5)


def test_gradient_is_that_of_finite_differences(case):
    target, maps, matrix, u = case
    gradient = np.empty_like(u)
    consistency(target, maps, matrix, ORIGIN, STEP, u, gradient)
    y = places(matrix, u)
    # away from the faces of the atlas' cells, where the slope jumps
    smooth = np.argwhere((np.abs(y - np.rint(y)) > 0.02).all(0))
    assert len(smooth) > 50
    for voxel in smooth[::7]:
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                moved = u.astype(np.float64)
                moved[(axis, *voxel)] += sign * 1e-3
                ends.append(plain(target, maps, matrix, moved))
            assert np.isclose((ends[0] - ends[1]) / 2e-3, gradient[(axis, *voxel)], atol=1e-4)


def test_both_paths_agree(case):
    target, maps, matrix, u = case
    ours, theirs = np.empty_like(u), torch.empty(u.shape)
    a = consistency(target, maps, matrix, ORIGIN, STEP, u, ours)
    b = consistency(*(torch.from_numpy(v) for v in (target, maps)), matrix, ORIGIN, STEP, torch.from_numpy(u), theirs)
    assert np.isclose(a, b, rtol=1e-5) and np.allclose(ours, theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["numba", "torch"])
def test_warp_of_a_label_map_elects_by_weight(case, kind):
    _, _, matrix, u = case
    label = np.random.default_rng(1).integers(0, 4, (9, 8, 10)).astype(np.uint8)
    y = places(matrix, u)
    votes = [
        ndimage.map_coordinates((label == v).astype(float), y, order=1, mode="grid-constant", cval=float(v == 0))
        for v in range(4)
    ]
    arguments = (label, u) if kind == "numba" else (torch.from_numpy(label), torch.from_numpy(u))
    found = np.asarray(warp_label(arguments[0], matrix, ORIGIN, STEP, arguments[1]))
    assert found.dtype == np.uint8 and np.array_equal(found, np.argmax(votes, 0))


@pytest.mark.parametrize("kind", ["numba", "torch"])
def test_warp_of_an_image_is_scipys(case, kind):
    _, _, matrix, u = case
    image = np.random.default_rng(2).random((9, 8, 10)).astype(np.float32)
    expected = ndimage.map_coordinates(image, places(matrix, u), order=1, mode="nearest")
    arguments = (image, u) if kind == "numba" else (torch.from_numpy(image), torch.from_numpy(u))
    assert np.allclose(np.asarray(warp_image(arguments[0], matrix, ORIGIN, STEP, arguments[1])), expected, atol=1e-5)


def test_one_slice_and_one_voxel():
    still = np.zeros((3, 2, 2, 1), np.float32)
    label = np.full((1, 1, 1), 3, np.uint8)
    matrix = np.eye(4)[:3]
    assert warp_label(label, matrix, (0, 0, 0), (1, 1, 1), still).tolist() == [[[3], [0]], [[0], [0]]]
    assert (warp_image(label.astype(float), matrix, (0, 0, 0), (1, 1, 1), still) == 3).all()
