"""What lies in and round a whole heart, so that a scanner sees more than seven even structures.

A map of materials on the drawing's voxels: the seven structures, then what no label map names: walls of chambers and
vessels, papillary muscles and trabeculae (labelled as cavity, as on MM-WHS), pericardial fat of uneven thickness with
vessels in it, descending aorta and caval veins, lung with its vessels, oesophagus, windpipe, spine, chest wall with
ribs and sternum, liver and stomach under a domed diaphragm. The body is laid against the heart that was drawn (chest
wall before it, diaphragm at its lowest point, spine beside the descending aorta), and is the same in CT and MR.

Random fields are cubic B-splines whose knots have fixed places in mm, so that a patient's body is one at every grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from shapelab.data.scheme import WHOLE_HEART
from shapelab.phantoms.whole_heart import Drawn

LV, MYOCARDIUM, RV, LA, RA, AORTA, PA = (s.value for s in WHOLE_HEART.structures)
_UNLABELLED = (
    "lung",
    "air",
    "fat",
    "soft",
    "muscle",
    "wall",
    "bone",
    "liver",
    "stomach",
    "descending",
    "superior vein",
)
#: Materials by number: 0 none, 1 to 7 the structures, then those that no label map names.
MATERIALS = ("", *WHOLE_HEART.names, *_UNLABELLED, "inferior vein", "vessels")
(LUNG, AIR, FAT, SOFT, MUSCLE, WALL, BONE, LIVER, STOMACH, DESCENDING, SUPERIOR, INFERIOR, VESSELS) = range(
    len(WHOLE_HEART.names) + 1, len(MATERIALS)
)
PERIOD_MM = 280.0  # after which a random field repeats; larger than a crop round a heart
Axes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Body:
    """A heart and what surrounds it, on the voxels of a drawing.

    Attributes:
        materials: (X, Y, Z) uint8, numbers of `MATERIALS`
        texture: (X, Y, Z) float32 of mean 0 and sd 1, varying over some 8 mm
        mixing: (X, Y, Z) float32 likewise, over some 25 mm: how blood with and without contrast agent has mixed
        axes: mm from the middle of the grid to the right, front and top
    """

    materials: np.ndarray
    texture: np.ndarray
    mixing: np.ndarray
    axes: Axes


def random_field(rng: np.random.Generator, axes: Axes, knots_mm: float) -> np.ndarray:
    """Smooth random field (X, Y, Z) float32 of mean 0 and sd 1 at positions in mm: cubic B-splines with random heights.

    Args:
        axes: positions along x, y and z, which the field is a function of: finer axes show the same field
        knots_mm: distance of the knots
    """
    n = round(PERIOD_MM / knots_mm)
    field = rng.standard_normal((n, n, n), dtype=np.float32)
    for axis in axes:  # each turn contracts the first axis and appends what it becomes
        field = np.tensordot(field, _splines(axis, n), ([0], [0]))
    return field / np.float32((151 / 315) ** 1.5)  # the mean of the squares' sum of a cubic B-spline, an axis each


def _splines(axis: np.ndarray, n: int) -> np.ndarray:
    """(n, len(axis)) weights of n periodic cubic B-splines at positions in mm."""
    at = np.asarray(axis, float) / PERIOD_MM * n
    away = np.abs((at - np.arange(n)[:, None] + n / 2) % n - n / 2)
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away) ** 3 / 6
    return np.where(away < 1, near, np.where(away < 2, far, 0)).astype(np.float32)


def make_body(drawn: Drawn, rng: np.random.Generator) -> Body:
    """The body round a drawn heart; see the module."""
    points = drawn.points
    axes = (points[:, 0, 0, 0], points[0, :, 0, 1], points[0, 0, :, 2])
    fields = {mm: random_field(rng, axes, mm) for mm in (50, 25, 8, 5)}
    materials = np.full(drawn.labels.shape, LUNG, np.uint8)
    hilar = np.exp(drawn.distance.clip(0, None) / -20)  # lung vessels grow denser and wider towards the heart
    materials[fields[5] + 0.8 * hilar > rng.uniform(1.9, 2.4)] = VESSELS
    frame = _frame(drawn, axes, rng)
    _lay_back(materials, axes, fields, frame, rng)
    _lay_chest(materials, axes, fields, frame, rng)
    _lay_abdomen(materials, axes, fields, frame, rng)
    _lay_arch(materials, drawn.labels, axes, frame, rng)
    _lay_heart(materials, drawn, axes, fields, rng)
    return Body(materials, fields[8], fields[25], axes)


def _open(axes: Axes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (X, 1, 1), (1, Y, 1), (1, 1, Z), to compute with."""
    x, y, z = axes
    return x[:, None, None], y[None, :, None], z[None, None, :]


def _frame(drawn: Drawn, axes: Axes, rng: np.random.Generator) -> dict[str, float]:
    """Where the body's midline, the heart's ends and the descending aorta are, mm."""
    labelled, aorta = drawn.labels > 0, drawn.others == 1
    ends: dict[str, float] = {}
    for k, (name, axis) in enumerate(zip(("right", "front", "top"), axes, strict=True)):
        others = tuple(i for i in range(3) if i != k)
        inside, seen = axis[labelled.any(others)], aorta.sum(others)
        ends[f"{name} low"], ends[f"{name} high"] = (
            (float(inside.min()), float(inside.max())) if len(inside) else (-50, 50)
        )
        ends[name] = float((seen * axis).sum() / seen.sum()) if seen.any() else (-30.0, -45.0, 0.0)[k]
    return {**ends, "midline": ends["right"] + rng.uniform(20, 28)}


def _lay_back(
    materials: np.ndarray, axes: Axes, fields: dict[int, np.ndarray], frame: dict[str, float], rng: np.random.Generator
) -> None:
    """Mediastinum behind and above the heart, oesophagus, windpipe and spine."""
    x, y, z = _open(axes)
    middle, uneven = frame["midline"], fields[50]
    wide = rng.uniform(20, 30)
    aside = np.abs(x - middle + 10 + 5 * uneven + 3 * fields[25])
    upper = frame["top high"] - rng.uniform(35, 55) + 8 * fields[25] + 0.02 * (x - middle + 10) ** 2
    behind = (aside < wide) & (y < frame["front"] + rng.uniform(15, 25))
    behind |= (aside < wide + 10) & (z > upper) & (y < frame["front high"] - rng.uniform(5, 25) + 5 * fields[25])
    np.copyto(materials, FAT, where=behind)
    np.copyto(materials, SOFT, where=behind & (fields[25] > rng.uniform(-0.3, 0.8)))
    spine_y = frame["front"] - rng.uniform(8, 16)
    spine = ((x - middle) / rng.uniform(17, 21)) ** 2 + ((y - spine_y) / rng.uniform(14, 17)) ** 2 < 1
    disc = np.cos((z + rng.uniform(0, 28)) * (2 * np.pi / rng.uniform(24, 29))) > 0.85
    np.copyto(materials, BONE, where=spine & ~disc)
    np.copyto(materials, SOFT, where=spine & disc)
    beside = (np.abs(np.abs(x - middle) - 26) < 8) & (y < spine_y - 8)
    np.copyto(materials, MUSCLE, where=beside)
    gullet = np.hypot(x - frame["right"] - rng.uniform(10, 16), y - frame["front"] - rng.uniform(6, 11))
    np.copyto(materials, SOFT, where=gullet < rng.uniform(6, 9))
    if rng.random() < 0.3:
        np.copyto(materials, AIR, where=gullet < 3)
    pipe = np.hypot(x - middle + 4, y - frame["front"] - rng.uniform(18, 24)) < rng.uniform(7, 9)
    np.copyto(materials, AIR, where=pipe & (z > frame["top high"] - rng.uniform(15, 30)))


def _lay_arch(
    materials: np.ndarray, labels: np.ndarray, axes: Axes, frame: dict[str, float], rng: np.random.Generator
) -> None:
    """The aorta beyond its label: from the highest labelled part in an arch to the descending aorta, ball by ball."""
    radius, rise = rng.uniform(10, 13), rng.uniform(15, 30)
    labelled = labels == AORTA
    if not labelled.any():
        return
    x, y, z = axes
    top = np.flatnonzero(labelled.any((0, 1)))[-1]
    here = labelled[:, :, top]
    start = np.array([x[here.any(1)].mean(), y[here.any(0)].mean(), z[top]])
    end = np.array([frame["right"], frame["front"], z[top]])
    for t in np.linspace(0, 1, 31):
        middle = start + t * (end - start) + (0, 0, 4 * rise * t * (1 - t) - radius)
        box = tuple(slice(*np.searchsorted(a, (m - radius, m + radius))) for a, m in zip(axes, middle))
        apart = [a[part] - m for a, part, m in zip(axes, box, middle)]
        dx, dy, dz = _open((apart[0], apart[1], apart[2]))
        np.copyto(materials[box], DESCENDING, where=dx**2 + dy**2 + dz**2 < radius**2)


def _lay_chest(
    materials: np.ndarray, axes: Axes, fields: dict[int, np.ndarray], frame: dict[str, float], rng: np.random.Generator
) -> None:
    """Chest wall in front: muscle with oblique ribs, the sternum in the midline, fat before it."""
    x, y, z = _open(axes)
    aside, half = np.abs(x - frame["midline"]) / rng.uniform(125, 145), rng.uniform(80, 100)
    front = frame["front high"] + rng.uniform(2, 10) - half
    depth = (y - front) - half * (1 - aside.clip(0, 1) ** 3) ** (1 / 3) + 2 * fields[50]  # mm into the wall
    thick = rng.uniform(14, 24)
    np.copyto(materials, MUSCLE, where=depth > 0)
    off = np.abs(x - frame["midline"])
    ribs = np.sin((z + 0.5 * off + rng.uniform(0, 25)) * (2 * np.pi / rng.uniform(24, 30))) > 0.2
    sternum = off < rng.uniform(14, 20)
    np.copyto(materials, BONE, where=(depth > 3) & (depth < 13) & (ribs | sternum))
    np.copyto(materials, FAT, where=depth > thick)


def _lay_abdomen(
    materials: np.ndarray, axes: Axes, fields: dict[int, np.ndarray], frame: dict[str, float], rng: np.random.Generator
) -> None:
    """Diaphragm with its right dome; liver under it, to the left stomach and fat."""
    x, y, z = _open(axes)
    right = x - frame["midline"]
    dome = rng.uniform(15, 30) * np.exp(-(((right - 65) / 45) ** 2) - ((y + 5) / 60) ** 2)
    floor = frame["top low"] + rng.uniform(0, 10) + dome - 0.004 * (y - 15).clip(None, 0) ** 2 + 3 * fields[50]
    below = z < floor
    np.copyto(materials, LIVER, where=below)
    left = below & (right < rng.uniform(-75, -25) + 8 * fields[50])
    np.copyto(materials, FAT, where=left)
    np.copyto(materials, STOMACH, where=left & (z < floor - rng.uniform(4, 10)))
    if rng.random() < 0.5:  # gas in it
        np.copyto(materials, AIR, where=left & (z < floor - 8) & (y > rng.uniform(-20, 20)))


def _lay_heart(
    materials: np.ndarray, drawn: Drawn, axes: Axes, fields: dict[int, np.ndarray], rng: np.random.Generator
) -> None:
    """The heart, the fat and walls round it, and what stands in its cavities."""
    distance, labels, fine = drawn.distance, drawn.labels, fields[5]
    outside, spacing = labels == 0, [float(a[1] - a[0]) if len(a) > 1 else 1.0 for a in axes]
    lean = rng.uniform(1, 7)
    fat = outside & (distance < (lean + 2.5 * fields[25] + 6 * (fields[50] - 0.8).clip(0)).clip(0.5))
    around = ndimage.uniform_filter((~outside).astype(np.float32), [max(round(30 / s), 1) for s in spacing])
    fat |= outside & (around > 0.42)  # grooves and gaps between chambers hold no lung
    np.copyto(materials, FAT, where=fat)
    np.copyto(materials, VESSELS, where=fat & (fine > rng.uniform(1.6, 2.2)) & (distance > 1))  # coronaries, cut across
    vein = rng.uniform(-15, 15)  # mm, below which the caval vein is the inferior one
    for other, above, value in ((1, None, DESCENDING), (2, False, INFERIOR), (2, True, SUPERIOR)):
        there = drawn.others == other
        np.copyto(materials, value, where=there if above is None else there & ((axes[2] > vein) == above))
    outside &= drawn.others == 0
    np.copyto(materials, WALL, where=outside & (distance < rng.uniform(1.0, 2.0)))
    thick = rng.uniform(2.5, 4.0)  # of the RV's free wall, which has no label
    near = ndimage.maximum_filter((labels == RV).view(np.uint8), [2 * round(thick / s) + 1 for s in spacing])
    np.copyto(materials, WALL, where=outside & (distance < thick) & (near > 0))
    inside = labels > 0
    np.copyto(materials, labels, where=inside)
    _lay_muscles(materials, labels, spacing, fields, rng)


def _lay_muscles(
    materials: np.ndarray,
    labels: np.ndarray,
    spacing: Sequence[float],
    fields: dict[int, np.ndarray],
    rng: np.random.Generator,
) -> None:
    """Trabeculae on the walls of both ventricles, and papillary muscles, which reach farther in."""
    rough, wide = rng.uniform(0.9, 1.6), 5.0  # mm
    low, high = rng.uniform(0.75, 0.9), rng.uniform(0.96, 0.99)  # 3 to 6 mm, 9 to 12 mm from an even wall
    for value, box in enumerate(ndimage.find_objects(labels, max_label=RV), 1):
        if box is not None and value != MYOCARDIUM:
            cavity = labels[box] == value
            inner = ndimage.gaussian_filter(cavity.astype(np.float32), wide / np.array(spacing), mode="constant")
            muscle = (inner < low) & (fields[5][box] > rough) | (inner < high) & (fields[8][box] > rough + 0.2)
            np.copyto(materials[box], WALL, where=cavity & muscle)
