"""Label maps and images looked up at displaced places: by hand, and the two paths against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapelab.atlas.warp import warp_image, warp_label

PATHS = pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numba", "torch"])
STAY = np.eye(4)[:3]


def row(values, dtype) -> np.ndarray:
    return np.array(values, dtype).reshape(-1, 1, 1)


def shift(mm: float, n: int, axis: int = 0) -> np.ndarray:
    out = np.zeros((3, n, 1, 1), np.float32)
    out[axis] = mm
    return out


def warped(function, kind, array, matrix, origin, step, displacement) -> list:
    return np.asarray(function(kind(array), matrix, origin, step, kind(displacement))).ravel().tolist()


@PATHS
def test_an_image_is_linear_and_goes_on_with_its_border(kind):
    image = row([0, 10, 40], np.float32)
    # voxel k of the target at 0.5 k mm, moved by 0.25: places 0.25, 0.75, 1.25, ... of voxels of 1 mm
    made = warped(warp_image, kind, image, STAY, (0, 0, 0), (0.5, 1, 1), shift(0.25, 6))
    assert made == pytest.approx([2.5, 7.5, 17.5, 32.5, 40, 40])
    assert warped(warp_image, kind, image, STAY, (-3, 0, 0), (1, 1, 1), shift(0, 2)) == [0, 0]


@PATHS
def test_a_label_is_that_of_most_weight_of_two_alike_the_smaller_and_0_outside(kind):
    label = row([5, 7, 7], np.uint8)
    for mm, expected in ((0.4, [5, 7, 7]), (0.5, [5, 7, 0]), (0.6, [7, 7, 0]), (-0.6, [0, 5, 7])):
        assert warped(warp_label, kind, label, STAY, (0, 0, 0), (1, 1, 1), shift(mm, 3)) == expected, mm


@PATHS
def test_displacement_comes_before_the_matrix_and_matrix_takes_mm_to_voxels(kind):
    image = row([0, 10, 20, 30, 40], np.float32)
    matrix = np.array([[2, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]], float)  # 2 (x + u) + 1
    assert warped(warp_image, kind, image, matrix, (0, 0, 0), (1, 1, 1), shift(0.5, 2)) == pytest.approx([20, 40])


def test_both_paths_agree_on_any_map():
    rng = np.random.default_rng(0)
    label, image = rng.integers(0, 4, (7, 6, 5), np.uint8), rng.random((7, 6, 5), np.float32)
    matrix = np.array([[0.8, 0.1, 0, 1], [-0.1, 0.9, 0.2, 0], [0, 0.1, 0.7, -0.5]])
    given = matrix, (0.3, -1.0, 0.2), (1.1, 0.9, 1.3), rng.normal(0, 0.7, (3, 6, 7, 4)).astype(np.float32)
    tensors = *given[:3], torch.from_numpy(given[3])
    assert np.array_equal(warp_label(label, *given), warp_label(torch.from_numpy(label), *tensors).numpy())
    assert np.allclose(warp_image(image, *given), warp_image(torch.from_numpy(image), *tensors).numpy(), atol=1e-5)
