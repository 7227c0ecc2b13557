"""Is a label map of a whole heart anatomically possible? Checks that need no truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from shapelab.data.geometry import FACES, TOUCHING, bounding_box, components
from shapelab.data.scheme import WHOLE_HEART, LabelScheme
from shapelab.errors import in_range, spacing3
from shapelab.metrics.evaluation import MM3_PER_ML, label_map
from shapelab.types import Array, Triple

CAVITY, WALL, RV, LA, RA, AORTA, PA = range(1, WHOLE_HEART.n_classes)
#: What touches, side to side, in every heart: chambers their valves, the LV its wall and the vessel that leaves it.
TOUCH = ((CAVITY, WALL), (CAVITY, LA), (CAVITY, AORTA), (WALL, RV), (RV, RA), (RV, PA))
MAY_OPEN_TO = (CAVITY, WALL, LA, AORTA)  # what may lie beside the LV cavity


def plausibility(
    label: Array,
    scheme: LabelScheme = WHOLE_HEART,
    spacing: Triple | None = None,
    min_voxels: int = 1,
    leak: float = 0.1,
) -> pd.Series:
    """Count what cannot be in a label map (X, Y, Z) of a whole heart.

    Two voxels of a structure are neighbours if they share a side, an edge or a corner, two of what is not in it if they
    share a side.

    Args:
        label: (X, Y, Z) integers of the scheme, numpy or torch
        scheme: must name the structures of `WHOLE_HEART`; others are looked at as background
        spacing: mm; the only use of it is to give `stray` in ml
        min_voxels: a hole or a piece counts from so many voxels
        leak: the LV leaks if more than this share of the rim of its cavity is open

    Returns:
        Series

        - missing: structures without a voxel
        - pieces: of each structure, beside its largest
        - holes: what is not of a structure and wholly enclosed by it; the LV is taken with its wall
        - leaks: 1 if the LV cavity touches, side to side, what is neither its wall nor left atrium nor aorta, or the
          border of the array, in more than the share `leak` of those of its voxels that have a side to another
          structure
        - lost: pairs of `TOUCH` that share no side, though both are there
        - violations: missing + pieces + holes + leaks + lost (one flaw may be several of them)
        - plausible: there is none
        - leak_voxels: cavity voxels that touch what they must not
        - stray: volume of all holes and pieces, the smallest too, ml; voxels if there is no spacing

        With these thresholds 60 of 60 phantoms (of six groups) are plausible at 6 and at 3 mm; at most 1.5 % of a rim
        is open, so that `leak` could be .05 for them. It is .1 for the sake of one real heart, outlined in CT at 0.5 x
        0.5 x 0.6 mm, of whose rim 5, 5 and 9 % are open on grids of 1.5, 3 and 6 mm, between valve and wall: with .05
        it leaks at 3 and 6 mm. As outlined it has 526 holes, of 692 voxels in all.

    Raises:
        UsageError: a scheme without one of the structures, thresholds below 0, wrong spacing
        DataError: not a label map (X, Y, Z) of the scheme
    """
    array = as_whole_heart(label, scheme, "plausibility")
    for name, threshold in (("min_voxels", min_voxels), ("leak", leak)):
        in_range(name, threshold)
    unit = np.prod(spacing3("spacing", spacing)) / MM3_PER_ML if spacing is not None else 1
    array = np.pad(array[bounding_box(array) or ()], 1)
    boxes = ndimage.find_objects(array, max_label=PA)
    there = [value for value, box in enumerate(boxes, 1) if box is not None]
    stray = {
        "pieces": [n for v in there for n in _beside_the_largest(array[boxes[v - 1]] == v)],
        "holes": [n for values in ((CAVITY, WALL), RV, LA, RA, AORTA, PA) for n in _holes(np.isin(array, values))],
    }
    touching = _sides(array)
    leaking, rim = _leak(array)
    counts: dict[str, float] = {
        "missing": PA - len(there),
        **{name: sum(size >= min_voxels for size in sizes) for name, sizes in stray.items()},
        "leaks": int(leaking > leak * rim),
        "lost": sum(a in there and b in there and not touching[a, b] for a, b in TOUCH),
    }
    violations = sum(counts.values())
    counts |= {
        "violations": violations,
        "plausible": violations == 0,
        "leak_voxels": leaking,
        "stray": float(unit * sum(map(sum, stray.values()))),
    }
    return pd.Series(counts, dtype=object, name="plausibility")


def as_whole_heart(label: Array, scheme: LabelScheme, what: str) -> np.ndarray:
    """Channel numbers of `WHOLE_HEART` from a label map (X, Y, Z); structures that it lacks become background.

    Raises:
        UsageError: a scheme without one of its structures
        DataError: not a label map (X, Y, Z) of the scheme, naming `what` it was for
    """
    array = label_map(label, what)
    scheme.check(array, what)
    table = np.zeros(max(scheme.values) + 1, np.uint8)
    table[[scheme.structure(name).value for name in WHOLE_HEART.names]] = range(1, WHOLE_HEART.n_classes)
    return table[array]


def _beside_the_largest(mask: np.ndarray) -> list[int]:
    """Sizes of the pieces of a mask but its largest."""
    return np.sort(components(mask, TOUCHING)[1][1:])[:-1].tolist()


def _holes(mask: np.ndarray) -> list[int]:
    """Sizes of what a mask encloses; it has a margin."""
    numbers, sizes = components(~mask[bounding_box(mask, 1) or ()], FACES)
    return np.delete(sizes, [0, numbers[0, 0, 0]]).tolist()


def _sides(array: np.ndarray) -> np.ndarray:
    """(8, 8) whether two channels have a side in common."""
    n = WHOLE_HEART.n_classes
    pairs = np.zeros(n * n, bool)
    for axis in range(3):
        lines = np.moveaxis(array, axis, 0)
        pairs |= np.bincount((lines[:-1] * n + lines[1:]).ravel(), minlength=n * n) > 0
    return pairs.reshape(n, n) | pairs.reshape(n, n).T


def _leak(array: np.ndarray) -> tuple[int, int]:
    """Voxels of the LV cavity with a side to what it may not touch, and with a side to what is not cavity."""
    cavity = array == CAVITY
    shut, deep = (ndimage.binary_erosion(np.isin(array, v), FACES) for v in (MAY_OPEN_TO, CAVITY))
    return int((cavity & ~shut).sum()), int((cavity & ~deep).sum())
