"""`draw_whole_heart`: the label map of a whole heart on any grid, with what an image of it needs besides.

Seven structures, each where a level function is negative, in mm. Neighbours overlap, and the first in a fixed order has
the voxel, so that no gap opens between structures that touch.

Frames. The heart's own frame has its origin at the middle of the LV's base, x towards the RV, y anterior, z from base
to apex; it is left-handed. The world is R, A, S: x grows to the patient's right, y to the front, z to the head, in mm
from the middle of the grid. A rotation near that of a real heart leads from one to the other, and a smooth random
displacement bends the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from shapelab.data.geometry import FACES, TOUCHING, bounding_box, components
from shapelab.data.scheme import WHOLE_HEART
from shapelab.errors import whole
from shapelab.phantoms.heart import GridLike, as_grid
from shapelab.phantoms.patients import Patient
from shapelab.phantoms.whole_heart_levels import close_wall, draw
from shapelab.phantoms.whole_heart_population import whole_heart_factors
from shapelab.phantoms.whole_heart_surfaces import Surfaces, surfaces

_COARSE = ((38, 34, 38), (5.0, 5.0, 5.0))  # the grid on which volumes are solved for
_STEPS = 2
_NOTHING = np.empty((0, 0, 0), np.float32), np.empty((0, 0, 0), np.uint8)  # in place of distance and others
_SOLID = ("LVV_ED", "LVM", "RVV_ED")
_ROUND = {"la_radius": "LAV", "ra_radius": "RAV"}
_MIDDLE = np.array([17.0, 13.0, 2.0])  # of most hearts' chambers, from the middle of the LV's base in R, A, S
_BELOW = np.array([0.0, 0.0, 12.0])  # mm, middle of the grid above that of the chambers
_FIELD = np.array([168.0, 144.0, 168.0])  # mm, of the grids of whole hearts
_MARGIN = 8.0  # mm between the ventricles and the borders of that field
MYOCARDIUM = 1.05  # g a ml


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
    """The surfaces of a patient, such that the drawn chambers have the volumes of its factors.

    What is solved for are the volumes that the geometry is made with: each step draws the heart on a coarse grid and
    corrects them by what is missing. Meanwhile the box round the chambers is moved to the middle of the world, a little
    below it, as the field of a scan lies round a heart with its great vessels; the drawn shift is taken as far as the
    ventricles stay in that field.
    """
    f = whole_heart_factors(who)
    sizes = {name: f[name] for name in _SOLID} | {name: (240 * f[ml]) ** (1 / 3) for name, ml in _ROUND.items()}
    target = {name: f[name] for name in _SOLID} | {name: f[ml] for name, ml in _ROUND.items()}
    shift = np.array([f[f"shift_{axis}"] for axis in "xyz"])
    axes, labels, middle = _axes(_COARSE, 1), np.empty(_COARSE[0], np.uint8), _MIDDLE
    for _ in range(_STEPS):
        draw(surfaces(f, sizes, middle), axes, labels, *_NOTHING)
        ml = np.bincount(labels.ravel(), minlength=WHOLE_HEART.n_classes)[1:6] * np.prod(_COARSE[1]) / 1000
        drawn = dict(zip(target, ml * (1, MYOCARDIUM, 1, 1, 1), strict=True))
        for name in _SOLID:
            sizes[name] += np.clip(target[name] - drawn[name], -0.4 * sizes[name], 0.4 * sizes[name])
        for name in _ROUND:
            sizes[name] *= np.clip(target[name] / drawn[name], 0.6, 1.7) ** 0.4
        heart, ventricles = (_extent(axes, (labels > 0) & (labels <= last)) for last in (5, 3))
        wish = heart.mean(0) + _BELOW - shift
        half = _FIELD / 2 - _MARGIN
        middle = middle + np.clip(wish, ventricles[1] - half, ventricles[0] + half)
    return surfaces(f, sizes, middle)


def _extent(axes: Sequence[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """First and last voxel of a mask along each axis, (2, 3) mm."""
    box = bounding_box(mask) or ()
    return np.array([(a[b.start], a[b.stop - 1]) for a, b in zip(axes, box, strict=True)]).T


def _tidied(labels: np.ndarray) -> np.ndarray:
    """The largest piece of each structure without holes, crumbs as background, the LV cavity closed by its wall.

    Where two surfaces meet at an edge thinner than a voxel, a voxel's centre can lie inside alone. In place.
    """
    for value, box in enumerate(ndimage.find_objects(labels, max_label=len(WHOLE_HEART.values)), 1):
        if box is not None:
            part = labels[box]
            pieces, size = components(part == value, TOUCHING)
            if len(size) > 2:
                part[(pieces > 0) & (pieces != size.argmax())] = 2 if value == 1 else 0
            around, size = components(np.pad(part != value, 1, constant_values=True), FACES)
            if len(size) > 2:
                part[around[1:-1, 1:-1, 1:-1] > 1] = value  # what lies round the structure has number 1
    close_wall(labels)
    return labels


def whole_heart_labels(who: Patient, grid: GridLike, oversample: int = 1) -> np.ndarray:
    """Label map (X, Y, Z) uint8 of one patient, channel numbers of `WHOLE_HEART`: see `draw_whole_heart`."""
    axes = _axes(grid, whole("oversample", oversample))
    labels = np.empty(tuple(len(a) for a in axes), np.uint8)
    draw(_solved(who), axes, labels, *_NOTHING)
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
    draw(_solved(who), axes, np.empty_like(labels), distance, others)
    others[labels > 0] = 0
    return Drawn(labels, distance, others, np.stack(np.meshgrid(*axes, indexing="ij"), -1))
