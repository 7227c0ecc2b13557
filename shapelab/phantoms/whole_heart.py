"""The surfaces of a whole heart, and its label maps on any grid.

Seven structures, each where a level function is negative, in mm: LV, its myocardium and the RV are the short-axis
heart's own surfaces (`shapelab.phantoms.anatomy`), continued to their valves; atria are ellipsoids with a neck to the
valve, the LA with four veins; aorta and pulmonary artery are tubes along splines. Neighbours overlap and the first in a
fixed order has the voxel, so that no gap opens between structures that touch.

Frames. The heart's own frame has its origin at the middle of the LV's base, x towards the RV, y anterior, z from base
to apex; it is left-handed. The world is R, A, S: x grows to the patient's right, y to the front, z to the head, in mm
from the middle of the grid. A rotation near that of a real heart (`AXES`) leads from one to the other, and a smooth
random displacement bends the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from scipy import ndimage
from scipy.interpolate import CubicSpline

from shapelab.data.geometry import TOUCHING, components
from shapelab.data.scheme import WHOLE_HEART
from shapelab.errors import whole
from shapelab.phantoms.anatomy import build_heart
from shapelab.phantoms.heart import N_ANGLES, N_LEVELS, GridLike, as_grid
from shapelab.phantoms.patients import Patient
from shapelab.phantoms.whole_heart_population import whole_heart_factors

LV, MYO, RV, LA, RA, AO, PA = range(7)
#: Axes x, y, z of the heart's frame in (R, A, S): of a real heart, made orthogonal
AXES = np.array([[0.79, 0.61, -0.05], [-0.22, 0.36, 0.91], [-0.57, 0.71, -0.42]])
_MIDDLE = np.array([16.0, 12.9, 8.2])  # of the heart, from the middle of the LV's base in R, A, S
_N_WAVES = 6  # plane waves of the smooth displacement
_BLOCK = 4  # voxels along each axis that are tested together for what lies near
_COARSE = ((38, 34, 38), (5.0, 5.0, 5.0))  # on which volumes are solved for
_STEPS = 2
_STEEP = 1.5  # the most that a level function grows per mm


class Surfaces(NamedTuple):
    """One whole heart, as the compiled loops take it: float32 arrays, mm, in the heart's frame.

    Attributes:
        to_heart: (3, 4) world -> heart's frame
        waves: (waves, 7) of the displacement in the world: frequency (3), amplitude (3), phase
        endo: (U, T + 2) radii of the short-axis surfaces, the first two angles repeated at the end
        epi: see `endo`
        rv: see `endo`
        pole: (U,) the RV's pole
        lengths: base and length of the tables of LV cavity, LV and RV
        planes: (3, 6) aortic, pulmonary and tricuspid valve: a point, and the normal out of the ventricle
        balls: (2, 15) LA and RA: centre, semi-axes, and the axes as rows
        segments: (n, 8) of all tubes: start, way to the end, radius at the start, its growth
        tubes: (tubes, 6) first segment, end of the segments, and a ball round all of them (centre, radius)
    """

    to_heart: np.ndarray
    waves: np.ndarray
    endo: np.ndarray
    epi: np.ndarray
    rv: np.ndarray
    pole: np.ndarray
    lengths: np.ndarray
    planes: np.ndarray
    balls: np.ndarray
    segments: np.ndarray
    tubes: np.ndarray


# order of the tubes
_LVOT, _CONUS, _LA_NECK, _RA_NECK, _VEINS, _AORTA, _TRUNK, _LPA, _RPA, _SVC, _IVC, _DESCENDING = range(12)


def _spline(points: Sequence[np.ndarray], n: int) -> np.ndarray:
    """n points of a smooth line through the given ones."""
    t = np.cumsum([0.0, *np.linalg.norm(np.diff(points, axis=0), axis=1)])
    return CubicSpline(t, np.asarray(points))(np.linspace(0, t[-1], n))


def _segments(points: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    """A tube along a line of points, (n - 1, 8)."""
    radius = np.broadcast_to(radius, len(points)).astype(float)
    return np.concatenate([points[:-1], np.diff(points, axis=0), radius[:-1, None], np.diff(radius)[:, None]], 1)


def _turned(x: float, y: float, z: float) -> np.ndarray:
    """Rotation by three angles in degrees, about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad([x, y, z])), np.sin(np.deg2rad([x, y, z]))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ about_y @ about_x


def _apart(points: np.ndarray, others: np.ndarray, least: float) -> np.ndarray:
    """Points moved away from the nearest of the others until they are `least` away."""
    away = points[:, None] - others
    distance = np.linalg.norm(away, axis=-1)
    nearest = distance.argmin(1)
    rows = np.arange(len(points))
    step = np.clip(least - distance[rows, nearest], 0, None) / distance[rows, nearest]
    return points + away[rows, nearest] * step[:, None]


def _orthogonal() -> np.ndarray:
    u, _, v = np.linalg.svd(AXES)
    return u @ v


def _surfaces(f: dict[str, float], shape: dict[str, float]) -> Surfaces:
    """The surfaces of a heart with factors f, sizes of the chambers as in `shape` (see `_solved`)."""
    short = {n: v.numpy()[0] for n, v in vars(build_heart({**f, **shape}, ("ED",))["ED"].surfaces).items()}
    epi, rv = short["epi"], short["rv"]

    def jitter(name: str) -> np.ndarray:
        return np.array([f[f"{name}_{axis}"] for axis in "xyz"])

    size = float(epi[0].mean())  # outer radius at the base
    base = float(short["rv_base"])

    def in_rv(degrees: float, share: float) -> np.ndarray:
        """A point of the RV's base, at an angle about its pole, a share of the way from septum to free wall."""
        k = round(degrees * N_ANGLES / 360) % N_ANGLES
        ray = np.array([np.cos(2 * np.pi * k / N_ANGLES), np.sin(2 * np.pi * k / N_ANGLES)])
        pole = np.array([short["pole"][0], 0.0])
        along = pole @ ray
        septum = -along + np.sqrt(max(along**2 - pole @ pole + size**2, 0.0))
        return np.append(pole + ray * (septum + share * max(rv[0, k] - septum, 0.0)), base)

    root, trunk, aorta = 12.0 * f["root"], f["trunk"] / 2, f["aorta"] / 2
    aortic = np.array([0.50 * size, 0.36 * size, 0.0])
    ascend = np.array([0.45, 0.35, -0.82]) / np.linalg.norm([0.45, 0.35, -0.82])
    mitral = np.array([-0.12 * size, -0.10 * size, 0.0]) + jitter("mitral") * (1, 1, 0)
    tricuspid = in_rv(-14, 0.5) + jitter("tricuspid") * (1, 1, 0)
    tilt = np.array([0.26, -0.13, -0.957])
    outlet = in_rv(80, 0.5)
    outlet[2] = base - ((outlet - tricuspid)[:2] @ tilt[:2]) / -tilt[2] - 4.0
    leave = np.array([-0.06, 0.24, -0.97])

    la_axes = np.array([[0.77, 0, -0.64], [0, 1, 0], [0.64, 0, 0.77]])
    la_size = shape["la_radius"] * np.array([1.22 * f["la_wide"], 1.0 / f["la_wide"], 0.82 * f["la_flat"]])
    la = mitral + np.array([12.0, 2.0, -6.0 - 0.74 * shape["la_radius"]]) + jitter("la")
    ra_size = shape["ra_radius"] * np.array([0.88 * f["ra_wide"], 1.0 / f["ra_wide"], 1.08 * f["ra_long"]])
    ra = tricuspid + np.array([11.0, 2.0, -0.66 * shape["ra_radius"]]) + jitter("ra")
    ra_axes = _turned(20, -20, 0)
    balls = np.array([[*la, *la_size, *la_axes.ravel()], [*ra, *ra_size, *ra_axes.ravel()]])

    start = aortic - 4 * ascend
    rise = np.array([[8, 7, -11], [17, 15, -20], [26, 25, -29], [28, 37, -38], [21, 50, -47], [2, 60, -58]])
    knots = aortic + rise * (0.9 + 0.1 * aorta / 16.5) + np.array([0.3, 0.7, 1, 1, 1, 1])[:, None] * jitter("ao")
    knots[4:] += jitter("arch")
    line = _spline([start, *(knots if f["arch"] else knots[:5])], 12)
    share = np.linspace(0, 1, len(line))
    ao_radius = np.interp(share, [0, 0.08, 0.2, 0.38, 0.5, 1], [root, root, root * 1.32, aorta * 0.97, aorta, aorta])

    way = np.array([[0, 4, -14], [-7, 7, -29], [-15, 7, -43]]) + np.array([0.3, 0.6, 1])[:, None] * jitter("pa")
    middle = _apart(outlet + way, line, 0.92 * (aorta + trunk))
    stem = _spline([outlet - 4 * leave, outlet + 2 * leave, *middle], 9)
    fork, small = middle[-1], f["branches"] * trunk
    left = _spline([fork, *(fork + np.array([[-18, -5, -4], [-34, -14, 2]]) + jitter("lpa"))], 6)
    right_way = np.array([[12, -13, -15], [26, -27, -22], [40, -42, -30]])
    right = _spline([fork, *_apart(fork + right_way + jitter("rpa"), line, 0.95 * (aorta + small))], 8)

    veins = []
    for k, (sx, sy) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        near = la + np.array([sx * 0.55, sy * 0.28, -0.12]) * la_size @ la_axes
        far = la + (np.array([sx * 1.05, sy * 0.42, -0.42]) * la_size + (sx * 11.0, sy * 6.0, -5.0)) @ la_axes
        veins.append(_segments(np.stack([near, far + jitter(f"vein{k + 1}")]), np.array([f["veins"] + 1, f["veins"]])))
    axes = _orthogonal()
    up = axes @ np.array([0, 0, 1.0])
    caval = np.stack([ra + up * 0.5 * ra_size[1], ra + up * (ra_size[1] + 60) + axes @ np.array([-6.0, -4, 0])])
    below = np.stack([ra - up * 0.5 * ra_size[1], ra - up * (ra_size[1] + 60) + axes @ np.array([-4.0, -8, 0])])
    back = la + axes @ np.array([-26.0, -0.95 * la_size[0] - f["descending"], 0])
    tubes = [
        _segments(np.stack([(0.12 * size, 0.08 * size, 20.0), aortic + 2 * ascend]), 0.95 * root),
        _segments(np.stack([outlet - 16 * leave, outlet + 2 * leave]), np.array([trunk + 2, trunk])),
        _segments(np.stack([la, mitral + (0, 0, 4.0)]), np.array([17.0, 0.56 * size])),
        _segments(np.stack([ra, tricuspid - 4 * tilt]), np.array([20.0, 18.0])),
        np.concatenate(veins),
        _segments(line, ao_radius),
        _segments(stem, trunk),
        _segments(left, np.linspace(small, 0.75 * small, 6)),
        _segments(right, np.linspace(small, 0.75 * small, 8)),
        _segments(caval, f["cavae"]),
        _segments(below, f["cavae"] * 1.15),
        _segments(np.stack([back - 110 * up, back + 110 * up]), f["descending"]),
    ]
    planes = np.array([[*aortic, *ascend], [*outlet, *leave], [*tricuspid, *tilt]])
    return _packed(f, short, planes, balls, tubes)


def _packed(
    f: dict[str, float], short: dict[str, np.ndarray], planes: np.ndarray, balls: np.ndarray, tubes: list[np.ndarray]
) -> Surfaces:
    """The arrays of a heart, with its place in the world and its smooth displacement."""
    endo, epi, rv = (np.concatenate([short[n], short[n][:, :2]], 1) for n in ("endo", "epi", "rv"))
    lengths = [short[n] for n in ("lv_base", "endo_length", "lv_base", "epi_length", "rv_base", "rv_length")]
    ends, rows = np.cumsum([0, *(len(t) for t in tubes)]), []
    for tube, first, end in zip(tubes, ends, ends[1:]):
        points = np.concatenate([tube[:, :3], tube[:, :3] + tube[:, 3:6]])
        middle = (points.min(0) + points.max(0)) / 2
        reach = np.linalg.norm(points - middle, axis=1).max() + max(tube[:, 6].max(), (tube[:, 6] + tube[:, 7]).max())
        rows.append([first, end, *middle, reach])
    axes = _orthogonal()
    turn = axes @ _turned(f["turn_x"], f["turn_y"], f["turn_z"])
    middle = axes @ _MIDDLE - turn @ np.array([f["shift_x"], f["shift_y"], f["shift_z"]])
    rng = np.random.default_rng([int(f["shape_seed"]), 5])
    direction = rng.standard_normal((_N_WAVES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    wave = 2 * np.pi / rng.uniform(90, 200, _N_WAVES)[:, None]
    amount = rng.standard_normal((_N_WAVES, 3)) * f["warp"] * np.sqrt(2 / _N_WAVES)
    waves = np.concatenate([direction * wave, amount, rng.uniform(0, 2 * np.pi, (_N_WAVES, 1))], 1)
    arrays = (np.concatenate([turn, middle[:, None]], 1), waves, endo, epi, rv, short["pole"], lengths, planes, balls,
              np.concatenate(tubes), np.array(rows))  # fmt: skip
    return Surfaces(*(np.ascontiguousarray(a, np.float32) for a in arrays))


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _radial(table, s, slope_length, x, y):
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
        distance /= np.sqrt(np.float32(1) + slope * slope)
    return distance


@numba.njit(nogil=True, cache=True, fastmath=True)
def _tube(s, number, x, y, z):
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
def _ball(ball, x, y, z):
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
def _merge(a, b, k):
    """Union of two level functions, rounded over k mm where they meet."""
    h = min(max(np.float32(0.5) + np.float32(0.5) * (b - a) / k, np.float32(0)), np.float32(1))
    return b + (a - b) * h - k * h * (np.float32(1) - h)


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _beyond(planes, i, x, y, z):
    """How far a point lies beyond a valve plane."""
    p = planes[i]
    return (x - p[0]) * p[3] + (y - p[1]) * p[4] + (z - p[2]) * p[5]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _levels(s, x, y, z, near, level):
    """Levels of the seven structures at a point of the heart's frame, and in place 7 that of the lid of the wall.

    Those that are not near are set far away.
    """
    f, n = np.float32, s.lengths
    level[:] = f(1e6)
    aortic, pulmonary = _beyond(s.planes, 0, x, y, z), _beyond(s.planes, 1, x, y, z)
    tricuspid = _beyond(s.planes, 2, x, y, z)
    if near[LV] or near[MYO] or near[RV] or near[7]:
        epi = _radial(s.epi, (z - n[2]) / n[3], n[3], x, y)
        level[MYO] = max(epi, -z)
        level[7] = max(epi, max(-z - f(3.5), z))
        if near[LV]:
            endo = _radial(s.endo, (z - n[0]) / n[1], n[1], x, y)
            out = max(max(_tube(s, _LVOT, x, y, z), epi + f(3.5)), max(aortic, -z - f(2)))
            level[LV] = min(max(endo, -z), out)
        if near[RV]:
            h = (z - n[4]) / n[5]
            u = (f(1) - np.sqrt(f(1) - min(max(h, f(0)), f(0.9999)))) * f(N_LEVELS - 1)
            low = min(int(u), N_LEVELS - 2)
            pole = s.pole[low] + (u - low) * (s.pole[low + 1] - s.pole[low])
            rv = max(_radial(s.rv, h, n[5], x - pole, y), tricuspid)
            rv = _merge(rv, max(_tube(s, _CONUS, x, y, z), pulmonary), f(5))
            level[RV] = max(rv, max(-epi, -z - f(10)))
    if near[LA]:
        la = _merge(_ball(s.balls[0], x, y, z), _tube(s, _LA_NECK, x, y, z), f(6))
        level[LA] = max(_merge(la, _tube(s, _VEINS, x, y, z), f(4)), z)
    if near[RA]:
        ra = _merge(_ball(s.balls[1], x, y, z), _tube(s, _RA_NECK, x, y, z), f(6))
        level[RA] = max(ra, -tricuspid)
    if near[AO]:
        level[AO] = max(_tube(s, _AORTA, x, y, z), -aortic)
    if near[PA]:
        pa = _merge(_tube(s, _LPA, x, y, z), _tube(s, _RPA, x, y, z), f(3))
        level[PA] = max(_merge(pa, _tube(s, _TRUNK, x, y, z), f(3)), -pulmonary)


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _decide(level):
    """Channel number of a point from its levels: of neighbours that overlap the first."""
    for structure in (LV, MYO, AO, PA, RV, LA, RA):
        if level[structure] < 0:
            return structure + 1
    return 2 if level[7] < 0 else 0


@numba.njit(nogil=True, cache=True, fastmath=True)
def _waves(s, axes):
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
def _along(waves, i, j, row):
    """Sines and cosines of the waves on a line of voxels, without its own axis, into row (waves, 2)."""
    x, y = waves[0], waves[1]
    for w in range(len(x)):
        row[w, 0] = x[w, i, 0] * y[w, j, 1] + x[w, i, 1] * y[w, j, 0]
        row[w, 1] = x[w, i, 1] * y[w, j, 1] - x[w, i, 0] * y[w, j, 0]


@numba.njit(nogil=True, cache=True, fastmath=True, inline="always")
def _place(s, row, z_waves, k, point, q):
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
def _draw(s, axes, labels):
    """Fill a label map, block by block: what lies far from a block's middle is not asked for its voxels."""
    x, y, z = axes
    nx, ny, nz = labels.shape
    waves = _waves(s, axes)
    level, q, row = np.empty(8, np.float32), np.empty(3, np.float32), np.empty((len(s.waves), 2), np.float32)
    half = np.float32(0.5 * (_BLOCK - 1))
    reach = half * np.sqrt((x[1] - x[0]) ** 2 + (y[1] - y[0]) ** 2 + (z[1] - z[0]) ** 2) * np.float32(_STEEP) + 3
    near = np.empty(8, np.bool_)
    middle = _BLOCK // 2
    for i0 in range(0, nx, _BLOCK):
        for j0 in range(0, ny, _BLOCK):
            for k0 in range(0, nz, _BLOCK):
                i, j, k = min(i0 + middle, nx - 1), min(j0 + middle, ny - 1), min(k0 + middle, nz - 1)
                _along(waves, i, j, row)
                _place(s, row, waves[2], k, (x[i], y[j], z[k]), q)
                near[:] = True
                _levels(s, q[0], q[1], q[2], near, level)
                for structure in range(8):
                    near[structure] = level[structure] < reach
                if not near.any():
                    labels[i0 : i0 + _BLOCK, j0 : j0 + _BLOCK, k0 : k0 + _BLOCK] = 0
                    continue
                for i in range(i0, min(i0 + _BLOCK, nx)):
                    for j in range(j0, min(j0 + _BLOCK, ny)):
                        _along(waves, i, j, row)
                        for k in range(k0, min(k0 + _BLOCK, nz)):
                            _place(s, row, waves[2], k, (x[i], y[j], z[k]), q)
                            _levels(s, q[0], q[1], q[2], near, level)
                            labels[i, j, k] = _decide(level)


@numba.njit(nogil=True, cache=True, fastmath=True)
def _measure(s, axes, distance, others):
    """Fill the distance to the heart and the vessels without label."""
    x, y, z = axes
    waves = _waves(s, axes)
    level, q, row = np.empty(8, np.float32), np.empty(3, np.float32), np.empty((len(s.waves), 2), np.float32)
    near = np.ones(8, np.bool_)
    for i in range(len(x)):
        for j in range(len(y)):
            _along(waves, i, j, row)
            for k in range(len(z)):
                _place(s, row, waves[2], k, (x[i], y[j], z[k]), q)
                _levels(s, q[0], q[1], q[2], near, level)
                distance[i, j, k] = level.min()
                if level.min() > 0:
                    if _tube(s, _DESCENDING, q[0], q[1], q[2]) < 0:
                        others[i, j, k] = 1
                    elif min(_tube(s, _SVC, q[0], q[1], q[2]), _tube(s, _IVC, q[0], q[1], q[2])) < 0:
                        others[i, j, k] = 2


@numba.njit(nogil=True, cache=True)
def _close_wall(labels):
    """Background that shares a face with the LV cavity becomes wall: where the wall is thinner than a voxel."""
    nx, ny, nz = labels.shape
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                if labels[i, j, k] == 1:
                    for a, b, c in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
                        m, n, o = i + a, j + b, k + c
                        if 0 <= m < nx and 0 <= n < ny and 0 <= o < nz and labels[m, n, o] == 0:
                            labels[m, n, o] = 2


@dataclass(frozen=True, eq=False)
class Drawn:
    """A whole heart on a grid.

    Attributes:
        labels: (X, Y, Z) uint8, channel numbers of `WHOLE_HEART`
        distance: (X, Y, Z) float32, mm to the surface of the nearest labelled structure, negative inside
        others: (X, Y, Z) uint8, vessels without label: 1 descending aorta, 2 caval veins, 0 none
        points: (X, Y, Z, 3) float32, R, A, S of each voxel, mm from the middle of the grid
    """

    labels: np.ndarray
    distance: np.ndarray
    others: np.ndarray
    points: np.ndarray


def _axes(grid: GridLike, oversample: int) -> tuple[np.ndarray, ...]:
    grid = as_grid(grid)
    return tuple(
        ((np.arange(n * oversample) - (n * oversample - 1) / 2) * (d / oversample)).astype(np.float32)
        for n, d in zip(grid.shape, grid.spacing)
    )


@lru_cache(maxsize=512)
def _solved(who: Patient) -> Surfaces:
    """The surfaces of a patient: the sizes of the chambers are corrected until the drawn volumes are the targets."""
    f = whole_heart_factors(who)
    target = np.array([f["LVV_ED"], f["LVM"] / 1.05, f["RVV_ED"], f["LAV"], f["RAV"]])
    shape = {name: f[name] for name in ("LVV_ED", "LVM", "RVV_ED")}
    shape |= {name: (0.24 * ml * 1000) ** (1 / 3) for name, ml in (("la_radius", f["LAV"]), ("ra_radius", f["RAV"]))}
    axes = _axes(_COARSE, 1)
    labels = np.empty(_COARSE[0], np.uint8)
    for _ in range(_STEPS):
        s = _surfaces(f, shape)
        _draw(s, axes, labels)
        drawn = np.bincount(labels.ravel(), minlength=WHOLE_HEART.n_classes)[1:6] * (np.prod(_COARSE[1]) / 1000)
        for i, name in enumerate(("LVV_ED", "LVM", "RVV_ED")):
            shape[name] += np.clip((target - drawn)[i], -0.4 * shape[name], 0.4 * shape[name]) * (1.05 if i == 1 else 1)
        for i, name in ((3, "la_radius"), (4, "ra_radius")):
            shape[name] *= np.clip(target[i] / drawn[i], 0.6, 1.7) ** 0.4
    return _surfaces(f, shape)


def _tidied(labels: np.ndarray) -> np.ndarray:
    """The largest piece of each structure, crumbs as background, and the LV cavity closed by its wall; in place."""
    for value, box in enumerate(ndimage.find_objects(labels, max_label=len(WHOLE_HEART.values)), 1):
        if box is not None:
            part = labels[box]
            pieces, size = components(part == value, TOUCHING)
            if len(size) > 2:
                part[(pieces > 0) & (pieces != size.argmax())] = 2 if value == 1 else 0
    _close_wall(labels)
    return labels


def whole_heart_labels(who: Patient, grid: GridLike, oversample: int = 1) -> np.ndarray:
    """Label map (X, Y, Z) uint8 of one patient, channel numbers of `WHOLE_HEART`: see `draw_whole_heart`."""
    axes = _axes(grid, whole("oversample", oversample))
    labels = np.empty(tuple(len(a) for a in axes), np.uint8)
    _draw(_solved(who), axes, labels)
    if oversample > 1:
        shape = [m for n in as_grid(grid).shape for m in (n, oversample)]
        shares = [(labels == c).reshape(shape).mean((1, 3, 5), dtype=np.float32) for c in range(WHOLE_HEART.n_classes)]
        labels = np.argmax(shares, 0).astype(np.uint8)
    return _tidied(labels)


def labels_of_whole_hearts(who: Sequence[Patient], grid: GridLike, threads: int = 2) -> np.ndarray:
    """Label maps (N, X, Y, Z) uint8 of many patients, several at a time."""
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(lambda one: whole_heart_labels(one, grid), who)))


def draw_whole_heart(who: Patient, grid: GridLike, oversample: int = 1) -> Drawn:
    """Label map, distances and unlabelled vessels of one patient.

    Args:
        who: the patient's key, as `Mix.patient` makes it, with a group of `WHOLE_GROUPS`
        grid: `Grid`, or (shape, spacing in mm); axes R, A, S
        oversample: samples a voxel and axis; a voxel then has the label of most of them
    """
    labels, axes = whole_heart_labels(who, grid, oversample), _axes(grid, 1)
    distance, others = np.empty(labels.shape, np.float32), np.zeros(labels.shape, np.uint8)
    _measure(_solved(who), axes, distance, others)
    others[labels > 0] = 0
    return Drawn(labels, distance, others, np.stack(np.meshgrid(*axes, indexing="ij"), -1))
