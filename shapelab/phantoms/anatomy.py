"""From the factors of one heart (volumes, wall pattern, infarct, ...) to its surfaces at ED and ES.

The volumes are targets that the geometry is solved for, in the order outer LV surface (LV volume + wall volume),
inner LV surface (LV volume), RV cavity, RV wall. Each is an integral of squared radii over angle and height, so the
outer LV surface and the RV cavity have closed solutions, and the other two are found by bisection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.interpolate import CubicSpline, PchipInterpolator

from shapelab.data.facts import HEART_LANDMARKS as LANDMARKS
from shapelab.data.facts import PHASES
from shapelab.phantoms.heart import ANGLES, MIN_WALL, N_ANGLES, N_LEVELS, NODES, POLE, HeartSurfaces

MODES = np.arange(2, 8)  # angular frequencies of the smooth deformations; 1 would only move the centre
N_WAVES = 5  # cosine modes base to apex
# Standard deviation of a deformation, as a share of the radius, per angular frequency: the part of the variation
# between ACDC hearts that is coherent from slice to slice.
EPI_SPREAD = np.array([0.020, 0.0075, 0.0040, 0.0025, 0.0018, 0.0012])
WAVE_SPREAD = np.array([1.0, 0.65, 0.45, 0.3, 0.2])

# Depth of the RV (septal to free wall, seen from the pole, in units of the LV's largest radius) against the angle about
# the pole (columns, degrees; 0 away from the LV, 90 anterior) and height (rows, base to apex). Rounded means of the
# normal ACDC hearts at ED; negative where the RV has ended, so that the surface dips below the LV's.
_RV_ANGLES = np.array([-180, -125, -105, -90, -75, -60, -40, -25, -10, 10, 30, 50, 70, 85, 97, 108, 120, 135])
_RV_LEVELS = np.array([0.0, 0.08, 0.25, 0.42, 0.58, 0.75, 0.92, 1.0])
_RV_DEPTH = np.array(
    [
        [-.4, -.35, -.20, 0.08, 0.55, 0.83, 1.13, 1.25, 1.22, 1.14, 1.06, 1.04, 1.00, 0.82, 0.46, 0.10, -.2, -.35],
        [-.4, -.35, -.18, 0.10, 0.54, 0.81, 1.12, 1.25, 1.22, 1.13, 1.04, 1.03, 0.97, 0.78, 0.42, 0.08, -.2, -.35],
        [-.4, -.35, -.14, 0.17, 0.52, 0.77, 1.11, 1.24, 1.17, 1.06, 0.99, 0.93, 0.78, 0.56, 0.24, -.04, -.2, -.35],
        [-.4, -.35, -.12, 0.17, 0.47, 0.72, 1.03, 1.11, 1.04, 0.96, 0.89, 0.76, 0.57, 0.37, 0.12, -.10, -.2, -.35],
        [-.4, -.30, -.10, 0.20, 0.45, 0.67, 0.89, 0.90, 0.82, 0.71, 0.59, 0.47, 0.32, 0.16, -.02, -.14, -.2, -.35],
        [-.4, -.30, -.08, 0.22, 0.43, 0.59, 0.70, 0.67, 0.56, 0.43, 0.31, 0.22, 0.12, 0.02, -.08, -.16, -.2, -.35],
        [-.4, -.30, -.12, 0.08, 0.28, 0.42, 0.44, 0.36, 0.27, 0.19, 0.12, 0.07, 0.01, -.06, -.13, -.18, -.2, -.35],
        [-.4, -.35, -.25, -.15, 0.0, 0.10, 0.12, 0.06, 0.0, -.05, -.08, -.1, -.12, -.15, -.2, -.25, -.3, -.35],
    ]
)  # fmt: skip


@cache
def _rv_depth_spline() -> CubicSpline:
    """The table above as a periodic function of the angle in degrees, -> (..., levels)."""
    closed = np.concatenate([_RV_DEPTH, _RV_DEPTH[:, :1]], 1)
    return CubicSpline(np.append(_RV_ANGLES, 180), closed.T, bc_type="periodic")


@dataclass(frozen=True, eq=False)
class Heart:
    """One phase of one heart: surfaces (a batch of one) and landmarks in the heart's frame, name -> (3,) mm."""

    surfaces: HeartSurfaces
    landmarks: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Chamber:
    """Curves of the LV at one phase: radii (U, T) at heights base + NODES * length."""

    endo: np.ndarray
    epi: np.ndarray
    base: float
    endo_length: float
    epi_length: float


def deformation(rng: np.random.Generator, spread: np.ndarray, modes: np.ndarray = MODES) -> np.ndarray:
    """Smooth random function of level and angle, (U, T), mean 0: `spread` is its sd per angular frequency.

    Cosines from base to apex, so that neighbouring slices deform alike.
    """
    amount = rng.standard_normal((2, len(modes), N_WAVES)) * spread[None, :, None] * WAVE_SPREAD
    waves = np.cos(np.pi * np.arange(N_WAVES)[:, None] * NODES)  # (W, U)
    angles = modes[:, None] * ANGLES  # (M, T)
    return np.einsum("mw,wu,mt->ut", amount[0], waves, np.cos(angles)) + np.einsum(
        "mw,wu,mt->ut", amount[1], waves, np.sin(angles)
    )


def profile(equator: float, narrowing: float, taper: float = 0.5) -> np.ndarray:
    """Radius at `NODES` of a truncated ellipsoid (taper 0.5; less is blunter), largest (1) at height `equator`."""
    below = np.clip((NODES - equator) / (1 - equator), 0, 1)
    above = np.clip((equator - NODES) / max(equator, 1e-6), 0, 1)
    return np.clip(1 - below**2, 0, None) ** taper * (1 - narrowing * above**2)


def _girth(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Smooth random function of level alone, (U, 1): the LV wider here and narrower there."""
    waves = np.cos(np.pi * np.arange(1, N_WAVES)[:, None] * NODES) * WAVE_SPREAD[1:, None]
    return spread * (rng.standard_normal(N_WAVES - 1) @ waves)[:, None]


def _flatten(radius: np.ndarray, chord: float) -> np.ndarray:
    """Flatten closed curves (U, T) towards the RV, to a chord at `chord` of the radius (smooth minimum, power 10)."""
    return radius * (1 + (np.clip(np.cos(ANGLES), 0, None) / chord) ** 10) ** -0.1


def _bump(centre_deg: float, width_deg: float, level: float, height: float) -> np.ndarray:
    """Smooth patch on the wall, (U, T), 1 in its middle; half widths in degrees and as a share of the length."""
    away = np.rad2deg(np.abs((ANGLES - np.deg2rad(centre_deg) + np.pi) % (2 * np.pi) - np.pi))
    width = width_deg * (1 + 1.2 * NODES[:, None] ** 4)  # near the apex a territory reaches further round
    along = 1 / (1 + (np.abs(NODES - level) / height) ** 6)
    return along[:, None] * (1 / (1 + (away / width) ** 6))


def volume(radius: np.ndarray, length: float, inner: np.ndarray | float = 0.0) -> float:
    """Volume (ml) between two surfaces given as radii (U, T) in mm at heights NODES * length."""
    area = np.mean(np.maximum(radius, inner) ** 2 - np.square(inner), -1) * np.pi
    return float(np.trapezoid(area, NODES) * length / 1000)


def _solve(function, low: float, high: float, target: float) -> float:
    """Bisection of a monotonic function to 1e-6 of the interval."""
    rising = function(high) > function(low)
    for _ in range(20):
        middle = (low + high) / 2
        if (function(middle) < target) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _integral(squares: np.ndarray, length: float) -> float:
    """Volume (ml) of squared radii (U, T) in mm2 at heights NODES * length."""
    return np.trapezoid(np.mean(squares, -1), NODES) * np.pi * length / 1000


def _scale(shape: np.ndarray, fixed: np.ndarray | float, length: float, target: float) -> float:
    """a so that volume(a * shape + fixed) = target: a quadratic equation."""
    squares, mixed, rest = shape**2, shape * fixed, np.square(fixed) + 0 * shape
    a, b, c = _integral(squares, length), 2 * _integral(mixed, length), _integral(rest, length) - target
    return float((-b + np.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a))


class _Anatomy:
    """What ED and ES of one heart share: deformations, wall pattern, infarct."""

    def __init__(self, f: Mapping[str, float]):
        self.f = f
        rng = np.random.default_rng([int(f["shape_seed"]), 1])
        mean = -0.016 * np.cos(2 * ANGLES) - 0.010 * np.cos(3 * ANGLES)  # ACDC: outline narrow and angular to the RV
        self.epi = mean + deformation(rng, EPI_SPREAD * f["irregularity"])
        self.endo = deformation(rng, EPI_SPREAD * 0.7 * f["irregularity"])
        self.contraction = deformation(rng, np.array([0.014, 0.007, 0.004, 0.003, 0.002, 0.001]) * f["irregularity"])
        self.girth = _girth(rng, 0.045), _girth(rng, 0.03)
        thickness = deformation(rng, np.array([0.03, 0.035, 0.025, 0.02]), np.arange(1, 5))
        # ACDC: septum and anterior wall thicker than the posterolateral; base thicker than apex
        usual = 0.08 * np.cos(ANGLES + np.deg2rad(25)) + 0.06 * np.cos(2 * np.pi * NODES[:, None])
        own = (
            thickness
            + (0.5 - NODES[:, None]) * f["base_thicker"]
            + f["hypertrophy"]
            * _bump(f["hypertrophy_angle"], f["hypertrophy_width"], f["hypertrophy_level"], f["hypertrophy_height"])
        )
        self.scar = _bump(f["infarct_angle"], f["infarct_width"], f["infarct_level"], f["infarct_height"])
        self.still = self.scar * f["infarct_akinesia"]
        self.pattern = np.clip(1 + usual + own, 0.35, None) * (1 - f["infarct_thinning"] * self.scar)
        # thin parts thicken more, so that a wall is more even at ES; next to the valve it thickens little
        basal = 1 - f["basal_thinning_ES"] * np.exp(-((NODES[:, None] / 0.12) ** 2))
        self.pattern_es = np.clip(1 + 0.6 * (own - own.mean()), 0.35, None) * basal
        spread = np.array([0.15, 0.12, 0.06, 0.03, 0.018, 0.012, 0.008])
        self.rv = deformation(rng, spread * f["irregularity"], np.arange(1, 8))


def build_heart(f: Mapping[str, float], phases: tuple[str, ...] = PHASES) -> dict[str, Heart]:
    """Surfaces and landmarks of one heart.

    Args:
        f: the factors, as `shapelab.phantoms.population.draw_factors` draws them (one float each)

    The origin of the surfaces is the centre of the mitral valve at ED, at 0 mm, and their angle 0: see
    `HeartSurfaces.moved`.
    """
    shared = _Anatomy(f)
    ed = _left(shared, "ED", None)
    return {phase: _right(shared, ed if phase == "ED" else _left(shared, "ES", ed), phase) for phase in phases}


def _left(a: _Anatomy, phase: str, ed: tuple[_Chamber, float] | None) -> tuple[_Chamber, float]:
    """Solve the two surfaces of the LV; returns them and the scale of the wall (mm)."""
    f, end = a.f, phase == "ES"
    cavity = f["LVV_ED"] * (1 - f["LVEF"] / 100 if end else 1.0)
    wall = f["LVM"] / 1.05 * (f["wall_ratio"] if end else 1.0)
    shortening = f["shortening"] if end else 0.0
    length = f["LV_length"] * (1 - shortening)
    base = f["LV_length"] * shortening * f["base_share"]
    apex = f["apex_wall"] * (1 + (1.3 * f["LVEF"] / 100 if end else 0.0))
    g = profile(f["equator"], f["narrowing"] + (f["narrowing_ES"] if end else 0.0), f["taper"])[:, None] * (
        1 + a.girth[0]
    )
    chord = f["septum_chord_ES" if end else "septum_chord_ED"]
    shape = _flatten(g * (1 + a.epi + (0.2 * a.contraction if end else 0)), chord)
    fixed = 0.0
    if end:
        # a wall that does not move keeps its ED surface, carried along with the base
        fixed = a.still * ed[0].epi
        shape = shape * (1 - a.still)
    size = _scale(shape, fixed, length, cavity + wall)
    epi = size * shape + fixed
    bulge = _flatten(g * (1 + a.epi + a.endo + a.girth[1] * 0.4 + (a.contraction if end else 0)), chord)
    endo_length = length - apex
    moving = size * bulge * (1 - a.still if end else 1) + (a.still * ed[0].epi if end else 0)

    def inner(t: float) -> np.ndarray:
        thick = t * (a.pattern_es if end else a.pattern)
        if end:
            thick = (1 - a.still) * thick + a.still * ed[1] * a.pattern
        # the wall may close the cavity of a strong heart at ES only down to a fifth of the radius
        radius = np.maximum(moving - g * thick, 0.14 * size * g)
        return np.minimum(radius, np.maximum(_epi_at(epi, length, endo_length) - MIN_WALL, 0.5 * radius))

    t = _solve(lambda t: volume(inner(t), endo_length), 0.0, 1.2 * size, cavity)
    return _Chamber(inner(t), epi, base, endo_length, length), t


def _epi_at(epi: np.ndarray, length: float, other_length: float) -> np.ndarray:
    """Radii (U, T) given at NODES * length, taken at NODES * other_length instead (both from the base)."""
    s = np.clip(NODES * other_length / length, 0, 1)
    u = (1 - np.sqrt(1 - s)) * (N_LEVELS - 1)
    low = np.clip(np.floor(u).astype(int), 0, N_LEVELS - 2)
    w = (u - low)[:, None]
    return (1 - w) * epi[low] + w * epi[low + 1]


def _lv_from_pole(epi: np.ndarray, pole: np.ndarray) -> np.ndarray:
    """LV outline (U, T) about its own centre -> the same outline about poles (U,) at (pole, 0), by angle."""
    x, y = epi * np.cos(ANGLES) - pole[:, None], epi * np.sin(ANGLES)
    turn, distance = np.arctan2(y, x) % (2 * np.pi), np.hypot(x, y)
    return np.stack([np.interp(ANGLES, t, d, period=2 * np.pi) for t, d in zip(turn, distance)])


def _right(a: _Anatomy, solved: tuple[_Chamber, float], phase: str) -> Heart:
    """Solve the RV round a finished LV, and collect surfaces and landmarks."""
    f, end, lv = a.f, phase == "ES", solved[0]
    rv_base = lv.base + f["rv_drop_ES" if end else "rv_drop_ED"]
    rv_end = lv.base + lv.epi_length - f["rv_short_ES" if end else "rv_short_ED"]
    length = rv_end - rv_base
    pole_nodes = POLE * lv.epi.mean(-1)
    u = 1 - np.sqrt(1 - np.clip((rv_base + NODES * length - lv.base) / lv.epi_length, 0, 1))
    nodes = np.linspace(0, 1, N_LEVELS)
    outline = np.stack([np.interp(u, nodes, lv.epi[:, j]) for j in range(N_ANGLES)], 1)
    septum = _lv_from_pole(outline, np.interp(u, nodes, pole_nodes))

    level = NODES ** (f["rv_fullness"] * (f["rv_fullness_ES"] if end else 1))
    turned = (np.rad2deg(ANGLES) - f["rv_turn"] + 180) % 360 - 180
    depth = PchipInterpolator(_RV_LEVELS, _rv_depth_spline()(turned).T, axis=0)(level)
    twist = np.deg2rad((f["rv_twist"] - (5 if end else 0)) * (NODES - 0.3))  # towards the apex more inferior
    depth = np.stack([np.interp(ANGLES - t, ANGLES, row, period=2 * np.pi) for t, row in zip(twist, depth)])
    depth = depth - f["rv_thin"] - (0.05 if end else 0.0)
    depth = np.where(depth > 0, depth * np.clip(1 + a.rv * (1.15 if end else 1), 0.3, None), depth)
    target = f["RVV_ED"] * (1 - f["RVEF"] / 100 if end else 1.0)
    positive = np.clip(depth, 0, None)
    qa, qb = _integral(positive**2, length), 2 * _integral(septum * positive, length)
    size = float((-qb + np.sqrt(qb * qb + 4 * qa * target)) / (2 * qa))
    inner = np.clip(septum + size * depth, 0.3 * septum, None)
    slope = np.gradient(np.concatenate([inner[:, -1:], inner, inner[:, :1]], 1), 2 * np.pi / N_ANGLES, axis=1)[:, 1:-1]
    oblique = np.clip(np.sqrt(1 + (slope / np.clip(inner, 1, None)) ** 2), 1, 1.8)  # along the ray, not the normal
    cavity = np.maximum(inner, septum)
    t = _solve(lambda t: volume(np.maximum(inner + t * oblique, cavity), length, cavity), 0.0, 25.0, f["RVM"] / 1.05)
    return Heart(
        _tensors(f, lv, inner, inner + t * oblique, rv_base, length, pole_nodes),
        _landmarks(f, lv, septum, inner, rv_base, length, pole_nodes),
    )


def centre_line(f: Mapping[str, float]) -> np.ndarray:
    """Polynomial (2, 3) of the LV's centre line: tilt, and a bow that is 0 at the valve and at the ED apex."""
    length = f["LV_length"]
    courses = ((np.tan(np.deg2rad(f[f"tilt_{axis}"])), f[f"bow_{axis}"]) for axis in "xy")
    return np.array([[0.0, slope + 4 * bow / length, -4 * bow / length**2] for slope, bow in courses])


def _tensors(f, lv: _Chamber, rv, rv_outer, rv_base, rv_length, pole) -> HeartSurfaces:
    """What was solved for, as float32 tensors of a batch of one."""

    def t(value):
        return torch.from_numpy(np.asarray(value, dtype=np.float32)[None].copy())

    return HeartSurfaces(
        endo=t(lv.endo),
        epi=t(lv.epi),
        rv=t(rv),
        rv_outer=t(rv_outer),
        lv_base=t(lv.base),
        endo_length=t(lv.endo_length),
        epi_length=t(lv.epi_length),
        rv_base=t(rv_base),
        rv_length=t(rv_length),
        pole=t(pole),
        centre=t(centre_line(f)),
        origin=t(np.zeros(3)),
        angle=t(0.0),
    )


def _landmarks(f, lv: _Chamber, septum, rv, rv_base, rv_length, pole) -> dict[str, np.ndarray]:
    """The six landmarks in the heart's frame; the four of the wall in the plane half way down the LV."""
    line = centre_line(f)

    def centre(z: float) -> np.ndarray:
        return line @ np.array([1.0, z, z * z])

    def at(table: np.ndarray, s: float) -> np.ndarray:
        u = (1 - np.sqrt(1 - np.clip(s, 0, 1))) * (N_LEVELS - 1)
        low = min(int(u), N_LEVELS - 2)
        return table[low] + (u - low) * (table[low + 1] - table[low])

    z = lv.base + 0.5 * lv.epi_length
    epi, endo = at(lv.epi, 0.5), at(lv.endo, 0.5 * lv.epi_length / lv.endo_length)
    middle = N_ANGLES // 2  # 180 degrees: opposite the RV
    lateral = centre(z) + [-(epi[middle] + endo[middle]) / 2, 0.0]
    s = (z - rv_base) / rv_length
    rho, wall = at(rv, s), at(septum, s)
    start = centre(z) + [at(pole[:, None], 0.5)[0], 0.0]
    anterior, inferior = _insertions(rho - wall)
    chord = [
        start + np.interp(p, ANGLES, wall, period=2 * np.pi) * np.array([np.cos(p), np.sin(p)])
        for p in (anterior, inferior)
    ]
    normal = np.array([chord[0][1] - chord[1][1], chord[1][0] - chord[0][0]])
    outline = start + rho[:, None] * np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)
    turning = outline[np.argmax(np.where(rho > wall, np.abs((outline - chord[0]) @ normal), -np.inf))]
    deep = lv.base + lv.epi_length
    places = (lateral, chord[0], chord[1], turning, centre(deep), centre(lv.base))
    heights = (z, z, z, z, deep, lv.base)
    return {name: np.array([*p, h]) for name, p, h in zip(LANDMARKS, places, heights, strict=True)}


def _insertions(gap: np.ndarray) -> tuple[float, float]:
    """Angles about the RV's pole at which the free wall meets the LV, `gap` (T,) changing sign: anterior, inferior."""
    peak = int(np.argmax(gap))
    found = []
    for step in (1, -1):
        k = 0
        while gap[(peak + step * (k + 1)) % N_ANGLES] > 0 and k < N_ANGLES:
            k += 1
        here, there = gap[(peak + step * k) % N_ANGLES], gap[(peak + step * (k + 1)) % N_ANGLES]
        found.append((peak + step * (k + here / (here - there))) * 2 * np.pi / N_ANGLES)
    return found[0], found[1]
