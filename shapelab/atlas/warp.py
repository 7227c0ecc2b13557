"""Label maps and images of an atlas, looked up at their places in a target: a compiled and a torch path each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add

import numba
import numpy as np
import torch
from torch import Tensor

from shapelab.augment.affine import most_weight
from shapelab.types import Kind, Triple


def warp_label(label: Kind, matrix: np.ndarray, origin: Triple, step: Triple, displacement: Kind) -> Kind:
    """A label map at displaced places.

    Args:
        label: (q0, q1, q2) integers, numpy, or a tensor on any device
        matrix: (3, 4) mm of the target -> voxel index of `label`
        origin: (3,) mm, of the target's voxels
        step: (3,) mm, of the target's voxels
        displacement: (3, p0, p1, p2) float32 mm, added to a voxel's position before `matrix`

    Returns:
        (p0, p1, p2) of the label's type; the label of most weight among the eight neighbours (linear weights), of two
        alike the smaller; outside the array is 0.
    """
    if isinstance(label, Tensor):
        return _label_torch(label, matrix, origin, step, displacement)
    m, o, s = _numbers(matrix, origin, step)
    return _label_numba(np.ascontiguousarray(label), m, o, s, displacement)


def warp_image(image: Kind, matrix: np.ndarray, origin: Triple, step: Triple, displacement: Kind) -> Kind:
    """An image (q0, q1, q2) at displaced places, float32, linear; outside the array its border values. See
    `warp_label`."""
    if isinstance(image, Tensor):
        return _image_torch(image, matrix, origin, step, displacement)
    m, o, s = _numbers(matrix, origin, step)
    return _image_numba(np.ascontiguousarray(image, np.float32), m, o, s, displacement)


def _numbers(*values: Triple) -> list[np.ndarray]:
    return [np.ascontiguousarray(v, np.float64) for v in values]


@numba.njit(nogil=True, cache=True, inline="always")
def _place(
    m: np.ndarray, origin: np.ndarray, step: np.ndarray, displacement: np.ndarray, i: int, j: int, k: int
) -> tuple[float, float, float]:  # pragma: no cover - compiled
    """Where the target's voxel (i, j, k) lies in the atlas, as voxel index."""
    a = origin[0] + i * step[0] + displacement[0, i, j, k]
    b = origin[1] + j * step[1] + displacement[1, i, j, k]
    c = origin[2] + k * step[2] + displacement[2, i, j, k]
    y0 = m[0, 0] * a + m[0, 1] * b + m[0, 2] * c + m[0, 3]
    y1 = m[1, 0] * a + m[1, 1] * b + m[1, 2] * c + m[1, 3]
    return y0, y1, m[2, 0] * a + m[2, 1] * b + m[2, 2] * c + m[2, 3]


@numba.njit(nogil=True, cache=True)
def _label_numba(
    label: np.ndarray, matrix: np.ndarray, origin: np.ndarray, step: np.ndarray, displacement: np.ndarray
) -> np.ndarray:  # pragma: no cover - compiled
    q0, q1, q2 = label.shape
    _, p0, p1, p2 = displacement.shape
    out = np.zeros((p0, p1, p2), label.dtype)
    near, weight = np.empty(8, label.dtype), np.empty(8)
    for i in range(p0):
        for j in range(p1):
            for k in range(p2):
                y0, y1, y2 = _place(matrix, origin, step, displacement, i, j, k)
                if y0 <= -1 or y1 <= -1 or y2 <= -1 or y0 >= q0 or y1 >= q1 or y2 >= q2:
                    continue
                i0, i1, i2 = int(np.floor(y0)), int(np.floor(y1)), int(np.floor(y2))
                w0, w1, w2 = y0 - i0, y1 - i1, y2 - i2
                same = True
                for n in range(8):
                    d0, d1, d2 = (n >> 2) & 1, (n >> 1) & 1, n & 1
                    inside = 0 <= i0 + d0 < q0 and 0 <= i1 + d1 < q1 and 0 <= i2 + d2 < q2
                    near[n] = label[i0 + d0, i1 + d1, i2 + d2] if inside else 0
                    same = same and near[n] == near[0]
                    weight[n] = (w0 if d0 else 1 - w0) * (w1 if d1 else 1 - w1) * (w2 if d2 else 1 - w2)
                if same:  # most voxels: nothing to weigh
                    out[i, j, k] = near[0]
                    continue
                best, winner = -1.0, near[0]
                for n in range(8):
                    votes = 0.0
                    for o in range(8):
                        if near[o] == near[n]:
                            votes += weight[o]
                    if votes > best or (votes == best and near[n] < winner):
                        best, winner = votes, near[n]
                out[i, j, k] = winner
    return out


@numba.njit(nogil=True, cache=True)
def _image_numba(
    image: np.ndarray, matrix: np.ndarray, origin: np.ndarray, step: np.ndarray, displacement: np.ndarray
) -> np.ndarray:  # pragma: no cover - compiled
    q0, q1, q2 = image.shape
    _, p0, p1, p2 = displacement.shape
    out = np.empty((p0, p1, p2), np.float32)
    for i in range(p0):
        for j in range(p1):
            for k in range(p2):
                y0, y1, y2 = _place(matrix, origin, step, displacement, i, j, k)
                y0, y1, y2 = min(max(y0, 0.0), q0 - 1.0), min(max(y1, 0.0), q1 - 1.0), min(max(y2, 0.0), q2 - 1.0)
                i0, i1, i2 = int(y0), int(y1), int(y2)
                j0, j1, j2 = min(i0 + 1, q0 - 1), min(i1 + 1, q1 - 1), min(i2 + 1, q2 - 1)
                w0, w1, w2 = y0 - i0, y1 - i1, y2 - i2
                low = (1 - w1) * ((1 - w2) * image[i0, i1, i2] + w2 * image[i0, i1, j2])
                low += w1 * ((1 - w2) * image[i0, j1, i2] + w2 * image[i0, j1, j2])
                high = (1 - w1) * ((1 - w2) * image[j0, i1, i2] + w2 * image[j0, i1, j2])
                high += w1 * ((1 - w2) * image[j0, j1, i2] + w2 * image[j0, j1, j2])
                out[i, j, k] = low + w0 * (high - low)
    return out


# ------------------------------------------------------------------------------------------------ torch


def places(
    matrix: np.ndarray, origin: Triple, step: Triple, displacement: Tensor, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Voxel indices in the atlas, one tensor an axis; float64 rounds as the compiled path does."""
    device, shape = displacement.device, displacement.shape[1:]
    views = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
    x = [
        float(o) + float(s) * torch.arange(n, device=device, dtype=dtype).view(v) + u
        for o, s, n, v, u in zip(origin, step, shape, views, displacement)
    ]
    return [float(r[0]) * x[0] + float(r[1]) * x[1] + float(r[2]) * x[2] + float(r[3]) for r in np.asarray(matrix)]


def _corner_values(array: Tensor, low: list[Tensor], border: bool) -> Iterator[Tensor]:
    """Values at the eight corners of each cell, in the order of `_weights`; outside 0, or the nearest inside."""
    shape = array.shape
    for n in range(8):
        where = [f + ((n >> (2 - axis)) & 1) for axis, f in enumerate(low)]
        inside = torch.stack([(w >= 0) & (w < size) for w, size in zip(where, shape)]).all(0)
        w0, w1, w2 = (w.clamp(0, size - 1) for w, size in zip(where, shape))
        value = array[w0, w1, w2]
        yield value if border else torch.where(inside, value, 0)


def _weights(fraction: list[Tensor]) -> Iterator[Tensor]:
    for n in range(8):
        parts = [f if (n >> (2 - axis)) & 1 else 1 - f for axis, f in enumerate(fraction)]
        yield parts[0] * parts[1] * parts[2]


def _label_torch(label: Tensor, matrix: np.ndarray, origin: Triple, step: Triple, displacement: Tensor) -> Tensor:
    at = places(matrix, origin, step, displacement)
    low = [y.floor() for y in at]
    weights = list(_weights([y - f for y, f in zip(at, low)]))
    return most_weight(list(_corner_values(label, [f.long() for f in low], border=False)), weights)


def _image_torch(image: Tensor, matrix: np.ndarray, origin: Triple, step: Triple, displacement: Tensor) -> Tensor:
    at = [y.clamp(0, n - 1) for y, n in zip(places(matrix, origin, step, displacement), image.shape)]
    low = [y.floor() for y in at]
    weights = _weights([y - f for y, f in zip(at, low)])
    values = _corner_values(image, [f.long() for f in low], border=True)
    return reduce(add, (w * v for w, v in zip(weights, values))).float()
