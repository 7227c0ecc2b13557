"""Label consistency of a target and a warped atlas, and its gradient: the compiled and the torch path of one formula.

SSLLN's eq. 4: C = sum_i P(i, i), with P(i, j) the joint probability of label i in the target and j in the warped
atlas. With linear interpolation of the atlas' one-hot maps p_c (partial volumes), C is the mean over the target's
voxels x of p_S(x)(y(x)), y(x) = M (x + u(x)) + t the place in the atlas. So only one of the atlas' channels is looked
at per voxel, and d C / d u(x) = M' grad p_S(x)(y(x)) / n: no other channel, and no automatic differentiation.

Atlas maps are (C, q0, q1, q2) float32 with a border of background, so that every place outside takes its value.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from shapelab.atlas.warp import places


def consistency(target, maps, matrix, origin, step, displacement, gradient):
    """Sum over the target's voxels of the probability of their label at their place in the atlas.

    Args:
        target: (p0, p1, p2) uint8, channel numbers
        maps: (C, q0, q1, q2) float32, probabilities of the atlas' channels, borders background
        matrix: (3, 4) mm of the target -> voxel index of `maps`
        origin: (3,) mm, where voxel (0, 0, 0) lies and how far apart voxels are
        step: see `origin`
        displacement: (3, p0, p1, p2) float32 mm
        gradient: the same, overwritten with the derivative of the sum with respect to `displacement`, 1/mm

    Returns the sum, a float. Tensors on any device, or numpy arrays: each has its own path.
    """
    if isinstance(target, Tensor):
        return _consistency_torch(target, maps, matrix, origin, step, displacement, gradient)
    return _consistency(target, maps, matrix, origin, step, displacement, gradient)


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp"})
def _consistency(target, maps, matrix, origin, step, displacement, gradient):  # pragma: no cover - compiled
    n0, n1, n2 = target.shape
    q0, q1, q2 = maps.shape[1:]
    flat = maps.ravel()
    size, plane, row = q0 * q1 * q2, q1 * q2, q2
    m = matrix.astype(np.float32)
    top0, top1, top2 = np.float32(q0 - 1), np.float32(q1 - 1), np.float32(q2 - 1)
    one, zero = np.float32(1), np.float32(0)
    total = 0.0
    for i in range(n0):
        x0 = np.float32(origin[0] + i * step[0])
        for j in range(n1):
            x1 = np.float32(origin[1] + j * step[1])
            part = zero
            for k in range(n2):
                c = target[i, j, k]
                g0, g1, g2 = zero, zero, zero
                a0 = x0 + displacement[0, i, j, k]
                a1 = x1 + displacement[1, i, j, k]
                a2 = np.float32(origin[2] + k * step[2]) + displacement[2, i, j, k]
                y0 = m[0, 0] * a0 + m[0, 1] * a1 + m[0, 2] * a2 + m[0, 3]
                y1 = m[1, 0] * a0 + m[1, 1] * a1 + m[1, 2] * a2 + m[1, 3]
                y2 = m[2, 0] * a0 + m[2, 1] * a1 + m[2, 2] * a2 + m[2, 3]
                if y0 > zero and y1 > zero and y2 > zero and y0 < top0 and y1 < top1 and y2 < top2:
                    i0, i1, i2 = int(y0), int(y1), int(y2)
                    w0, w1, w2 = y0 - np.float32(i0), y1 - np.float32(i1), y2 - np.float32(i2)
                    p = np.int64(c) * size + i0 * plane + i1 * row + i2
                    v000, v001 = flat[p], flat[p + 1]
                    v010, v011 = flat[p + row], flat[p + row + 1]
                    p += plane
                    v100, v101 = flat[p], flat[p + 1]
                    v110, v111 = flat[p + row], flat[p + row + 1]
                    d00, d01, d10, d11 = v001 - v000, v011 - v010, v101 - v100, v111 - v110
                    e00, e01 = v000 + w2 * d00, v010 + w2 * d01
                    e10, e11 = v100 + w2 * d10, v110 + w2 * d11
                    low, high = e00 + w1 * (e01 - e00), e10 + w1 * (e11 - e10)
                    part += low + w0 * (high - low)
                    h0 = high - low
                    h1 = (one - w0) * (e01 - e00) + w0 * (e11 - e10)
                    f0, f1 = d00 + w1 * (d01 - d00), d10 + w1 * (d11 - d10)
                    h2 = f0 + w0 * (f1 - f0)
                    g0 = m[0, 0] * h0 + m[1, 0] * h1 + m[2, 0] * h2
                    g1 = m[0, 1] * h0 + m[1, 1] * h1 + m[2, 1] * h2
                    g2 = m[0, 2] * h0 + m[1, 2] * h1 + m[2, 2] * h2
                elif c == 0:
                    part += one
                gradient[0, i, j, k] = g0
                gradient[1, i, j, k] = g1
                gradient[2, i, j, k] = g2
            total += part
    return total


def _consistency_torch(target, maps, matrix, origin, step, displacement, gradient) -> float:
    """The same on any device: eight neighbours of one channel are gathered per voxel."""
    m, q = np.asarray(matrix, np.float32), maps.shape[1:]
    y = places(m, origin, step, displacement, torch.float32)
    inside = torch.stack([(v > 0) & (v < n - 1) for v, n in zip(y, q)]).all(0)
    low = [torch.where(inside, v, 0).floor() for v in y]
    w0, w1, w2 = (torch.where(inside, v, 0) - f for v, f in zip(y, low))
    i0, i1, i2 = (f.long() for f in low)
    channel = target.long()
    first = ((channel * q[0] + i0) * q[1] + i1) * q[2] + i2
    flat = maps.reshape(-1)
    v = [flat[first + (a * q[1] + b) * q[2] + c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    d = [v[2 * k + 1] - v[2 * k] for k in range(4)]  # along axis 2
    e = [v[2 * k] + w2 * d[k] for k in range(4)]
    lower, upper = e[0] + w1 * (e[1] - e[0]), e[2] + w1 * (e[3] - e[2])
    values = torch.where(inside, lower + w0 * (upper - lower), (channel == 0).float())
    slope = [
        upper - lower,
        (1 - w0) * (e[1] - e[0]) + w0 * (e[3] - e[2]),
        (1 - w0) * (d[0] + w1 * (d[1] - d[0])) + w0 * (d[2] + w1 * (d[3] - d[2])),
    ]
    used = inside.float()
    for axis in range(3):
        gradient[axis] = used * sum(float(row[axis]) * s for row, s in zip(m, slope))
    return float(values.sum(dtype=torch.float64))
