"""From the factors of a whole heart to its surfaces, as arrays that the compiled loops take.

LV, its myocardium and the RV are the short-axis heart's own surfaces (`shapelab.phantoms.anatomy`), continued to their
valves; atria are ellipsoids with a neck to the valve, the LA with four veins; aorta and pulmonary artery are tubes
along splines. Proportions follow a real heart in CT: where its valves lie, and the ways of its vessels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline

from shapelab.phantoms.anatomy import build_heart
from shapelab.phantoms.heart import ANGLES, N_ANGLES

#: Axes x (to the RV), y (anterior), z (to the apex) of the heart's frame in R, A, S: of a real heart in CT
_REAL_AXES = np.array([[0.79, 0.61, -0.05], [-0.22, 0.36, 0.91], [-0.57, 0.71, -0.42]])
_LEFT, _, _RIGHT = np.linalg.svd(_REAL_AXES)
AXES = _LEFT @ _RIGHT  # the nearest orthogonal ones
_UP = AXES @ np.array([0.0, 0.0, 1.0])  # towards the head, in the heart's frame
_N_WAVES = 6  # plane waves of the smooth displacement
# order of the tubes
LVOT, CONUS, LA_NECK, RA_NECK, VEINS, AORTA, TRUNK, LPA, RPA, SVC, IVC, DESCENDING = range(12)


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


class _Valve(NamedTuple):
    """Middle of a valve, and the unit vector out of the ventricle."""

    at: np.ndarray
    out: np.ndarray


def _unit(*v: float) -> np.ndarray:
    return np.array(v) / np.linalg.norm(v)


def _spline(points: Sequence[np.ndarray], n: int) -> np.ndarray:
    """n points of a smooth line through the given ones."""
    t = np.cumsum([0.0, *np.linalg.norm(np.diff(points, axis=0), axis=1)])
    return CubicSpline(t, np.asarray(points))(np.linspace(0, t[-1], n))


def _segments(points: np.ndarray, radius: np.ndarray | tuple[float, float] | float) -> np.ndarray:
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


def _jitter(f: Mapping[str, float], name: str) -> np.ndarray:
    """The random shift of a part, as drawn."""
    return np.array([f[f"{name}_{axis}"] for axis in "xyz"])


def surfaces(f: Mapping[str, float], sizes: Mapping[str, float], middle: np.ndarray) -> Surfaces:
    """The surfaces of one heart.

    Args:
        f: the factors, as `whole_heart_population.whole_heart_factors` draws them
        sizes: what the geometry is made with in place of the factors' volumes, since valves, veins and tubes add to it:
            LVV_ED, RVV_ED (ml), LVM (g), la_radius and ra_radius (mm)
        middle: R, A, S in mm, what is laid in the middle of the world, from the middle of the LV's base
    """
    short = {n: v.numpy()[0] for n, v in vars(build_heart({**f, **sizes}, ("ED",))["ED"].surfaces).items()}
    size = float(short["epi"][0].mean())  # outer radius at the base
    aortic = _Valve(np.array([0.50 * size, 0.36 * size, 0.0]), _unit(0.45, 0.35, -0.82))
    mitral = np.array([-0.12 * size, -0.10 * size, 0.0]) + _jitter(f, "mitral") * (1, 1, 0)
    at = _in_rv(short, size, -14) + _jitter(f, "tricuspid") * (1, 1, 0)
    tricuspid = _Valve(at, _unit(0.26, -0.13, -0.957))
    pulmonary = _Valve(_in_rv(short, size, 80) - (0, 0, 5.0), _unit(-0.06, 0.2, -0.97))

    la, la_size, la_axes = _left_atrium(f, sizes["la_radius"], mitral)
    ra_size = sizes["ra_radius"] * np.array([0.82 * f["ra_wide"], 1.18 * f["ra_long"], 1.0 / f["ra_wide"]])
    ra = tricuspid.at + np.array([7.0, 2.0, -0.62 * sizes["ra_radius"]]) + _jitter(f, "ra")
    balls = [[*la, *la_size, *la_axes.ravel()], [*ra, *ra_size, *_turned(20, -20, 0).ravel()]]
    root, trunk = 12.0 * f["root"], f["trunk"] / 2
    aorta = _aorta(f, aortic, root)
    tubes = [
        _segments(np.stack([(0.12 * size, 0.08 * size, 20.0), aortic.at + 2 * aortic.out]), root),
        _segments(np.stack([pulmonary.at - 16 * pulmonary.out, pulmonary.at + 2 * pulmonary.out]), (trunk + 2, trunk)),
        _segments(np.stack([la, mitral + (0, 0, 4.0)]), (17.0, 0.56 * size)),
        _segments(np.stack([ra, tricuspid.at - 4 * tricuspid.out]), (20.0, 18.0)),
        _veins(f, la, la_size, la_axes),
        aorta,
        *_pulmonary(f, pulmonary, aorta),
        *_unlabelled(f, la, la_size, ra, ra_size),
    ]
    planes = np.array([[*valve.at, *valve.out] for valve in (aortic, pulmonary, tricuspid)])
    return _packed(short, planes, np.array(balls), tubes, _world(f, middle))


def _in_rv(short: Mapping[str, np.ndarray], size: float, degrees: float) -> np.ndarray:
    """The point of the RV's base half way from septum to free wall, at an angle about the RV's pole."""
    k = round(degrees * N_ANGLES / 360) % N_ANGLES
    ray, pole = np.array([np.cos(ANGLES[k]), np.sin(ANGLES[k])]), np.array([short["pole"][0], 0.0])
    along = pole @ ray
    septum = np.sqrt(along**2 - pole @ pole + size**2) - along
    return np.append(pole + ray * (septum + max(short["rv"][0, k], septum)) / 2, short["rv_base"])


def _left_atrium(
    f: Mapping[str, float], radius: float, mitral: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle, semi-axes and axes (rows) of the LA."""
    size = radius * np.array([1.22 * f["la_wide"], 1.0 / f["la_wide"], 0.82 * f["la_flat"]])
    axes = np.array([[0.77, 0, -0.64], [0, 1, 0], [0.64, 0, 0.77]])
    return mitral + np.array([12.0, 2.0, -6.0 - 0.74 * radius]) + _jitter(f, "la"), size, axes


def _veins(f: Mapping[str, float], la: np.ndarray, size: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Four pulmonary veins, two to each side."""
    tubes = []
    for k, (x, y) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1)), 1):
        near = la + np.array([x * 0.55, y * 0.28, -0.12]) * size @ axes
        far = la + (np.array([x * 1.05, y * 0.42, -0.42]) * size + (x * 11.0, y * 4.0, -5.0)) @ axes
        tubes.append(_segments(np.stack([near, far + _jitter(f, f"vein{k}")]), (f["veins"] + 1, f["veins"])))
    return np.concatenate(tubes)


def _aorta(f: Mapping[str, float], valve: _Valve, root: float) -> np.ndarray:
    """Root, ascending aorta, and in some the arch."""
    radius = f["aorta"] / 2
    rise = np.array([[8, 7, -11], [17, 15, -20], [26, 25, -29], [28, 37, -38], [21, 50, -47], [2, 60, -58]])
    knots = valve.at + rise * (0.9 + 0.1 * radius / 16.5)
    knots += np.array([0.3, 0.7, 1, 1, 1, 1])[:, None] * _jitter(f, "ao")
    knots[4:] += _jitter(f, "arch")
    line = _spline([valve.at - 4 * valve.out, *(knots if f["arch"] else knots[:5])], 12)
    sinus = [root, root, root * 1.32, radius * 0.97, radius, radius]
    return _segments(line, np.interp(np.linspace(0, 1, len(line)), [0, 0.08, 0.2, 0.38, 0.5, 1], sinus))


def _pulmonary(f: Mapping[str, float], valve: _Valve, aorta: np.ndarray) -> list[np.ndarray]:
    """Trunk, left and right pulmonary artery: the trunk to the left of the aorta, the right branch behind it."""
    trunk, wide, line = f["trunk"] / 2, f["aorta"] / 2, aorta[:, :3]
    way = np.array([[0, 4, -14], [-7, 7, -29], [-15, 7, -43]]) + np.array([0.3, 0.6, 1])[:, None] * _jitter(f, "pa")
    middle = _apart(valve.at + way, line, 0.92 * (wide + trunk))
    stem = _spline([valve.at - 4 * valve.out, valve.at + 2 * valve.out, *middle], 9)
    fork, small = middle[-1], f["branches"] * trunk
    left = _spline([fork, *(fork + np.array([[-18, -3, -5], [-34, -10, -1]]) + _jitter(f, "lpa"))], 6)
    behind = fork + np.array([[12, -11, -16], [26, -24, -23], [40, -38, -31]]) + _jitter(f, "rpa")
    right = _spline([fork, *_apart(behind, line, 0.95 * (wide + small))], 8)
    tapered = [_segments(branch, np.linspace(small, 0.75 * small, len(branch))) for branch in (left, right)]
    return [_segments(stem, trunk), *tapered]


def _unlabelled(
    f: Mapping[str, float], la: np.ndarray, la_size: np.ndarray, ra: np.ndarray, ra_size: np.ndarray
) -> list[np.ndarray]:
    """Upper and lower vena cava, and the descending aorta behind the LA."""
    above, below = _UP * 0.5 * ra_size[1], _UP * (ra_size[1] + 60)
    upper = np.stack([ra + above, ra + below + AXES @ np.array([-6.0, -4, 0])])
    lower = np.stack([ra - above, ra - below + AXES @ np.array([-4.0, -8, 0])])
    back = la + AXES @ np.array([-26.0, -0.95 * la_size[0] - f["descending"], 0])
    down = np.stack([back - 110 * _UP, back + 110 * _UP])
    return [_segments(upper, f["cavae"]), _segments(lower, 1.15 * f["cavae"]), _segments(down, f["descending"])]


def _world(f: Mapping[str, float], middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World -> heart's frame, (3, 4), and the plane waves of the smooth displacement, (waves, 7)."""
    turn = AXES @ _turned(f["turn_x"], f["turn_y"], f["turn_z"])
    rng = np.random.default_rng([int(f["shape_seed"]), 5])
    direction = rng.standard_normal((_N_WAVES, 3))
    frequency = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    frequency *= 2 * np.pi / rng.uniform(90, 200, (_N_WAVES, 1))
    amount = rng.standard_normal((_N_WAVES, 3)) * f["warp"] * np.sqrt(2 / _N_WAVES)
    waves = np.concatenate([frequency, amount, rng.uniform(0, 2 * np.pi, (_N_WAVES, 1))], 1)
    return np.concatenate([turn, (turn @ middle)[:, None]], 1), waves


def _packed(
    short: Mapping[str, np.ndarray],
    planes: np.ndarray,
    balls: np.ndarray,
    tubes: Sequence[np.ndarray],
    world: tuple[np.ndarray, np.ndarray],
) -> Surfaces:
    """The arrays of a heart, each tube with a ball round it."""
    endo, epi, rv = (np.concatenate([short[n], short[n][:, :2]], 1) for n in ("endo", "epi", "rv"))
    lengths = np.array([short[n] for n in ("lv_base", "endo_length", "lv_base", "epi_length", "rv_base", "rv_length")])
    ends, rows = np.cumsum([0, *(len(t) for t in tubes)]), []
    for tube, first, end in zip(tubes, ends[:-1], ends[1:], strict=True):
        points = np.concatenate([tube[:, :3], tube[:, :3] + tube[:, 3:6]])
        middle = (points.min(0) + points.max(0)) / 2
        reach = np.linalg.norm(points - middle, axis=1).max() + max(tube[:, 6].max(), (tube[:, 6] + tube[:, 7]).max())
        rows.append([first, end, *middle, reach])
    ventricles = (endo, epi, rv, short["pole"], lengths)
    arrays = (*world, *ventricles, planes, balls, np.concatenate(tubes), np.array(rows))
    return Surfaces(*(np.ascontiguousarray(a, np.float32) for a in arrays))
