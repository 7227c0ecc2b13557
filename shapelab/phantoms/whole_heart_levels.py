"""Level functions of a whole heart, compiled: label map, distances and unlabelled vessels on a grid.

Everything here takes `Surfaces`, which `whole_heart_surfaces` makes, and works on single points, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numba
import numpy as np

from shapelab.phantoms.heart import N_ANGLES, N_LEVELS
from shapelab.phantoms.whole_heart_surfaces import (
    AORTA,
    CONUS,
    DESCENDING,
    IVC,
    LA_NECK,
    LPA,
    LVOT,
    RA_NECK,
    RPA,
    SVC,
    TRUNK,
    VEINS,
    Surfaces,
)

Number: TypeAlias = float | np.floating
LV, MYO, RV, LA, RA, AO, PA, LID = range(8)  # places of the levels; the lid is the wall's, above the LV's base
BLOCK = 4  # voxels along each axis that are tested together for what lies near
STEEP = 1.5  # the most that a level function grows per mm, nearly everywhere
LID_MM = 3.5
MOST_SLOPE = 1.5  # at the very apex it has no limit, and far beside the apex all would be near


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _radial(table: np.ndarray, s: Number, slope_length: Number, x: Number, y: Number) -> Number:
    """Distance from a surface given as radii about a line, divided by the slope of the radius along the line."""
    clipped = min(max(s, np.float32(0)), np.float32(0.9999))
    root = np.sqrt(np.float32(1) - clipped)
    u = (np.float32(1) - root) * np.float32(N_LEVELS - 1)
    low = min(int(u), N_LEVELS - 2)
    w = u - low
    turn = np.arctan2(y, x) * np.float32(N_ANGLES / (2 * np.pi))
    if turn < 0:
        turn += np.float32(N_ANGLES)
    k = min(int(turn), N_ANGLES)
    v = turn - k
    a = table[low, k] + v * (table[low, k + 1] - table[low, k])
    b = table[low + 1, k] + v * (table[low + 1, k + 1] - table[low + 1, k])
    radius = a + w * (b - a)
    distance = np.sqrt(x * x + y * y) - radius
    if s >= 1:
        beyond = (s - np.float32(1)) * slope_length
        outside = max(distance, np.float32(0))
        return np.sqrt(outside * outside + beyond * beyond)
    if s > 0:
        slope = (b - a) * np.float32(0.5 * (N_LEVELS - 1)) / (root * slope_length)
        slope = min(abs(slope), np.float32(MOST_SLOPE))
        distance /= np.sqrt(np.float32(1) + slope * slope)
    return distance


@numba.njit(nogil=True, cache=True, fastmath=True)
def _tube(s: Surfaces, number: int, x: Number, y: Number, z: Number) -> Number:
    """Distance from a tube; of one that is farther than 40 mm, from the ball round it."""
    dx, dy, dz = x - s.tubes[number, 2], y - s.tubes[number, 3], z - s.tubes[number, 4]
    far = np.sqrt(dx * dx + dy * dy + dz * dz) - s.tubes[number, 5]
    if far > 40:
        return far
    best = np.float32(1e9)
    for i in range(int(s.tubes[number, 0]), int(s.tubes[number, 1])):
        ax, ay, az = s.segments[i, 3], s.segments[i, 4], s.segments[i, 5]
        px, py, pz = x - s.segments[i, 0], y - s.segments[i, 1], z - s.segments[i, 2]
        t = (px * ax + py * ay + pz * az) / (ax * ax + ay * ay + az * az)
        t = min(max(t, np.float32(0)), np.float32(1))
        px, py, pz = px - t * ax, py - t * ay, pz - t * az
        d = np.sqrt(px * px + py * py + pz * pz) - (s.segments[i, 6] + t * s.segments[i, 7])
        best = min(best, d)
    return best


@numba.njit(nogil=True, cache=True, fastmath=True)
def _ball(ball: np.ndarray, x: Number, y: Number, z: Number) -> Number:
    """Distance from an ellipsoid, to first order."""
    dx, dy, dz = x - ball[0], y - ball[1], z - ball[2]
    k0, k1 = np.float32(0), np.float32(0)
    for i in range(3):
        e = (ball[6 + 3 * i] * dx + ball[7 + 3 * i] * dy + ball[8 + 3 * i] * dz) / ball[3 + i]
        k0 += e * e
        k1 += (e / ball[3 + i]) ** 2
    k0 = np.sqrt(k0)
    return k0 * (k0 - np.float32(1)) / max(np.sqrt(k1), np.float32(1e-6))


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _merge(a: Number, b: Number, k: Number) -> Number:
    """Union of two level functions, rounded over k mm where they meet."""
    h = min(max(np.float32(0.5) + np.float32(0.5) * (b - a) / k, np.float32(0)), np.float32(1))
    return b + (a - b) * h - k * h * (np.float32(1) - h)


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _beyond(planes: np.ndarray, i: int, x: Number, y: Number, z: Number) -> Number:
    """How far a point lies beyond a valve plane."""
    p = planes[i]
    return (x - p[0]) * p[3] + (y - p[1]) * p[4] + (z - p[2]) * p[5]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _levels(s: Surfaces, x: Number, y: Number, z: Number, near: np.ndarray, level: np.ndarray) -> None:
    """Levels of the seven structures at a point of the heart's frame, and in place 7 that of the lid of the wall.

    Those that are not near are set far away.
    """
    f, n = np.float32, s.lengths
    level[:] = f(1e6)
    aortic, pulmonary = _beyond(s.planes, 0, x, y, z), _beyond(s.planes, 1, x, y, z)
    tricuspid = _beyond(s.planes, 2, x, y, z)
    if near[LV] or near[MYO] or near[RV] or near[LID]:
        epi = _radial(s.epi, (z - n[2]) / n[3], n[3], x, y)
        whole = -_merge(-epi, z + f(LID_MM), f(10))
        level[MYO] = max(whole, -z)
        level[LID] = max(whole, z)
        if near[LV]:
            endo = _radial(s.endo, (z - n[0]) / n[1], n[1], x, y)
            out = max(max(_tube(s, LVOT, x, y, z), epi + f(2)), max(aortic, -z - f(5)))
            level[LV] = min(-_merge(-endo, z, f(8)), out)
        if near[RV]:
            h = (z - n[4]) / n[5]
            u = (f(1) - np.sqrt(f(1) - min(max(h, f(0)), f(0.9999)))) * f(N_LEVELS - 1)
            low = min(int(u), N_LEVELS - 2)
            pole = s.pole[low] + (u - low) * (s.pole[low + 1] - s.pole[low])
            rv = max(_radial(s.rv, h, n[5], x - pole, y), max(tricuspid, s.planes[1, 2] + f(2) - z))
            rv = _merge(rv, max(_tube(s, CONUS, x, y, z), pulmonary), f(5))
            level[RV] = max(rv, -epi)
    if near[LA]:
        la = _merge(_ball(s.balls[0], x, y, z), _tube(s, LA_NECK, x, y, z), f(6))
        level[LA] = max(_merge(la, _tube(s, VEINS, x, y, z), f(4)), z)
    if near[RA]:
        ra = _merge(_ball(s.balls[1], x, y, z), _tube(s, RA_NECK, x, y, z), f(6))
        level[RA] = max(ra, -tricuspid)
    if near[AO]:
        level[AO] = max(_tube(s, AORTA, x, y, z), -aortic)
    if near[PA]:
        pa = _merge(_tube(s, LPA, x, y, z), _tube(s, RPA, x, y, z), f(3))
        level[PA] = max(_merge(pa, _tube(s, TRUNK, x, y, z), f(3)), -pulmonary)


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _decide(level: np.ndarray) -> int:
    """Channel number of a point from its levels: of neighbours that overlap the first."""
    for structure in (LV, AO, MYO, PA, RV, LA, RA):
        if level[structure] < 0:
            return structure + 1
    return 2 if level[LID] < 0 else 0


@numba.njit(nogil=True, cache=True, fastmath=True)
def _waves(s: Surfaces, axes: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Sines and cosines of the plane waves along each axis, (waves, n, 2) each: sums of angles make the rest."""
    n = len(s.waves)
    x, y, z = (np.empty((n, len(axes[0]), 2), np.float32), np.empty((n, len(axes[1]), 2), np.float32),
               np.empty((n, len(axes[2]), 2), np.float32))  # fmt: skip
    for w in range(n):
        for i in range(len(axes[0])):
            angle = s.waves[w, 0] * axes[0][i] + s.waves[w, 6]
            x[w, i, 0], x[w, i, 1] = np.sin(angle), np.cos(angle)
        for i in range(len(axes[1])):
            angle = s.waves[w, 1] * axes[1][i]
            y[w, i, 0], y[w, i, 1] = np.sin(angle), np.cos(angle)
        for i in range(len(axes[2])):
            angle = s.waves[w, 2] * axes[2][i]
            z[w, i, 0], z[w, i, 1] = np.sin(angle), np.cos(angle)
    return x, y, z


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _along(waves: Sequence[np.ndarray], i: int, j: int, row: np.ndarray) -> None:
    """Sines and cosines of the waves on a line of voxels, without its own axis, into row (waves, 2)."""
    x, y = waves[0], waves[1]
    for w in range(len(x)):
        row[w, 0] = x[w, i, 0] * y[w, j, 1] + x[w, i, 1] * y[w, j, 0]
        row[w, 1] = x[w, i, 1] * y[w, j, 1] - x[w, i, 0] * y[w, j, 0]


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _place(s: Surfaces, row: np.ndarray, z_waves: np.ndarray, k: int, point: Sequence[Number], q: np.ndarray) -> None:
    """A voxel of that line -> the heart's frame."""
    dx, dy, dz = point
    for w in range(len(row)):
        wave = row[w, 0] * z_waves[w, k, 1] + row[w, 1] * z_waves[w, k, 0]
        dx += s.waves[w, 3] * wave
        dy += s.waves[w, 4] * wave
        dz += s.waves[w, 5] * wave
    for i in range(3):
        m = s.to_heart[i]
        q[i] = m[0] * dx + m[1] * dy + m[2] * dz + m[3]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _vessel(s: Surfaces, q: np.ndarray, reach: Number) -> int:
    """Which vessel without label is nearer than `reach`: 1 descending aorta, 2 caval veins, 0 none."""
    if _tube(s, DESCENDING, q[0], q[1], q[2]) < reach:
        return 1
    return 2 if min(_tube(s, SVC, q[0], q[1], q[2]), _tube(s, IVC, q[0], q[1], q[2])) < reach else 0


@numba.njit(nogil=True, cache=True, fastmath=True)
def draw(s: Surfaces, axes: Sequence[np.ndarray], labels: np.ndarray, distance: np.ndarray, others: np.ndarray) -> None:
    """Fill a label map, block by block: what lies far from a block's middle is not asked for its voxels.

    Args:
        distance: as large as the labels: filled with the distance to the nearest structure, or empty: left out
        others: the same for the vessels without label (see `_vessel`)
    """
    x, y, z = axes
    nx, ny, nz = labels.shape
    waves, measured = _waves(s, axes), distance.size > 0
    level, q, row = np.empty(8, np.float32), np.empty(3, np.float32), np.empty((len(s.waves), 2), np.float32)
    half = np.float32(BLOCK // 2)
    reach = half * np.sqrt((x[1] - x[0]) ** 2 + (y[1] - y[0]) ** 2 + (z[1] - z[0]) ** 2) * np.float32(STEEP) + 3
    near = np.empty(8, np.bool_)
    for i0 in range(0, nx, BLOCK):
        for j0 in range(0, ny, BLOCK):
            for k0 in range(0, nz, BLOCK):
                i, j, k = min(i0 + BLOCK // 2, nx - 1), min(j0 + BLOCK // 2, ny - 1), min(k0 + BLOCK // 2, nz - 1)
                _along(waves, i, j, row)
                _place(s, row, waves[2], k, (x[i], y[j], z[k]), q)
                near[:] = True
                _levels(s, q[0], q[1], q[2], near, level)
                # whatever is nearest to one of the block's voxels is among these
                limit = max(level.min(), np.float32(0)) + 2 * reach if measured else reach
                near[:] = level < limit
                if not near.any():
                    labels[i0 : i0 + BLOCK, j0 : j0 + BLOCK, k0 : k0 + BLOCK] = 0
                    continue
                vessel = measured and _vessel(s, q, reach) > 0
                for i in range(i0, min(i0 + BLOCK, nx)):
                    for j in range(j0, min(j0 + BLOCK, ny)):
                        _along(waves, i, j, row)
                        for k in range(k0, min(k0 + BLOCK, nz)):
                            _place(s, row, waves[2], k, (x[i], y[j], z[k]), q)
                            _levels(s, q[0], q[1], q[2], near, level)
                            labels[i, j, k] = _decide(level)
                            if measured:
                                distance[i, j, k] = level.min()
                                others[i, j, k] = _vessel(s, q, np.float32(0)) if vessel and level.min() > 0 else 0


@numba.njit(nogil=True, cache=True)
def _neighbour(labels: np.ndarray, i: int, j: int, k: int) -> int:
    """Wall if any of the 26 neighbours is wall, else what lies there besides the LV cavity, else wall."""
    found = 0
    for m in range(max(i - 1, 0), min(i + 2, labels.shape[0])):
        for n in range(max(j - 1, 0), min(j + 2, labels.shape[1])):
            for o in range(max(k - 1, 0), min(k + 2, labels.shape[2])):
                if labels[m, n, o] == MYO + 1:
                    return MYO + 1
                if labels[m, n, o] > MYO + 1:
                    found = labels[m, n, o]
    return found if found > 0 else MYO + 1


@numba.njit(nogil=True, cache=True)
def close_wall(labels: np.ndarray) -> None:
    """Background that shares a face with the LV cavity becomes wall, or at the valves what else lies beside it.

    It is there where the wall is thinner than a voxel. In place.
    """
    nx, ny, nz = labels.shape
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                if labels[i, j, k] == LV + 1:
                    for a, b, c in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
                        m, n, o = i + a, j + b, k + c
                        if 0 <= m < nx and 0 <= n < ny and 0 <= o < nz and labels[m, n, o] == 0:
                            labels[m, n, o] = _neighbour(labels, m, n, o)
