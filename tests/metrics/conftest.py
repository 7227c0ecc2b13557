"""Pairs of label maps that surfaces are hard on, for every test of distances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

Pair = tuple[np.ndarray, np.ndarray, tuple[float, float, float]]


def _blobs(shape, n, seed, sigma=2.5):
    """Labels 0 to n, each where its own smooth random field is the greatest; they reach the border."""
    generator = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(generator.normal(size=shape), sigma) for _ in range(n + 1)]
    return np.argmax(fields, axis=0).astype(np.uint8)


def _radius(shape, centre):
    grid = np.meshgrid(*[np.arange(n) - c for n, c in zip(shape, centre)], indexing="ij")
    return np.sqrt(sum(g**2.0 for g in grid))


def _pair(kind: str) -> Pair:
    if kind == "blobs":
        return _blobs((30, 25, 20), 3, 0), _blobs((30, 25, 20), 3, 1), (1.0, 1.0, 1.0)
    if kind == "blobs, thick slices":
        return _blobs((31, 27, 9), 2, 2), _blobs((31, 27, 9), 2, 3), (1.4, 1.5, 10.0)
    if kind == "sparse points":
        generator = np.random.default_rng(4)
        a, b = (generator.random((17, 19, 23)) < 0.005 for _ in range(2))
        return a.astype(np.int64) * 7, b.astype(np.int64) * 7, (2.0, 0.7, 1.1)
    if kind == "thin shells":  # one inside the other, 1 voxel thick
        r = _radius((40, 40, 30), (20, 19, 15))
        return (np.abs(r - 8) < 0.6).astype(np.uint8), (np.abs(r - 13) < 0.6).astype(np.uint8), (1.0, 0.9, 1.2)
    if kind == "far apart":  # past every offset that is looked up
        a, b = np.zeros((90, 30, 30), np.uint8), np.zeros((90, 30, 30), np.uint8)
        a[3:9, 4:12, 5:9], b[75:85, 20:28, 15:28] = 1, 1
        return a, b, (1.0, 1.1, 0.9)
    if kind == "near and far":  # a stray piece: offsets and tree in one map
        r = _radius((70, 30, 20), (15, 15, 10))
        a, b = (r < 9).astype(np.uint16), (r < 7).astype(np.uint16)
        a[60:63, 20:25, 2:6] = 1
        return 300 * a, 300 * b, (1.0, 1.0, 1.5)
    if kind == "at the border":
        a, b = np.zeros((12, 10, 9), np.uint8), np.zeros((12, 10, 9), np.uint8)
        a[:5, :, 2:], b[:7, 3:, :] = 2, 2
        a[8:, :3, :4], b[7:, :2, :] = 1, 1
        return a, b, (1.0, 2.0, 3.0)
    if kind == "one slice":
        return _blobs((24, 21, 1), 2, 5), _blobs((24, 21, 1), 2, 6), (1.5, 1.5, 8.0)
    raise KeyError(kind)


KINDS = (
    "blobs",
    "blobs, thick slices",
    "sparse points",
    "thin shells",
    "far apart",
    "near and far",
    "at the border",
    "one slice",
)


@pytest.fixture(params=KINDS)
def pair(request) -> Pair:
    """(prediction, truth, spacing) of each kind in turn."""
    return _pair(request.param)


@pytest.fixture(scope="session")
def pair_of() -> Callable[[str], Pair]:
    """`pair_of("blobs")` and so on: one kind."""
    return _pair
