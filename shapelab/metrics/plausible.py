"""Is a label map of the short axis anatomically possible? Checks that need no truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from shapelab.data.gaps import interruptions
from shapelab.data.geometry import TOUCHING, bounding_box
from shapelab.data.orientation import is_whole_heart
from shapelab.data.scheme import CARDIAC, LV, VENTRICLES, WHOLE_HEART, LabelScheme
from shapelab.errors import in_range, spacing3
from shapelab.metrics.evaluation import MM3_PER_ML, label_map
from shapelab.metrics.whole_heart import plausibility as of_whole_heart
from shapelab.types import Array, Triple

_SIDES = np.zeros((3, 3, 3), bool)  # neighbours in the slice that share a side: 4
_SIDES[1, :, 1] = _SIDES[:, 1, 1] = True
_SLICE = np.zeros((3, 3, 3), bool)  # and those that share a corner: 8
_SLICE[:, :, 1] = True
# What `map_doubts` lets pass; in ACDC's expert maps the RV is in 30 % of the LV's slices at least.
LEAST_SLICES, LEAST_RV, MOST_OPEN, MOST_STRAY = 3, 0.25, 1 / 3, 0.02


def plausibility(
    label: Array,
    scheme: LabelScheme = CARDIAC,
    spacing: Triple | None = None,
    min_voxels: int = 1,
    slack: int = 1,
    leak: float = 0.05,
) -> pd.Series:
    """Count what cannot be in a short-axis label map (X, Y, Z), slices along Z; of a whole heart, what
    `shapelab.metrics.whole_heart.plausibility` counts.

    LV is the cavity with its wall. In a slice two voxels of a structure are neighbours if they share a side or a
    corner, two of the background if they share a side: a ring that is closed only corner to corner holds a hole.

    Args:
        label: (X, Y, Z) integers of the scheme, numpy or torch
        scheme: must name "LV cavity", "LV myocardium" and "RV cavity"; other structures are looked at as background
        spacing: mm; the only use of it is to give `stray` in ml
        min_voxels: a hole or a piece counts from so many voxels
        slack: pieces in 3-D are one if they come together when each is widened in its slice by so many voxels: slices
            of one heart are displaced by breath-holds, and a thin RV falls apart on a coarse grid
        leak: a slice leaks if more than this share of the rim of its cavity is open (`slack` and this: of
            stacks alone)

    Returns:
        Series

        - holes: patches that LV, or the RV cavity, encloses in a slice
        - pieces: of LV and of the RV cavity in 3-D (26 neighbours, `slack`), beside the largest of each; and of wall
          and LV cavity in each slice, beside the largest (an RV may be in two near the base)
        - leaks: slices in which the LV cavity touches, side to side, what is neither cavity nor wall, or the border of
          the array, in more than the share `leak` of those of its voxels that have a side to another structure
        - gaps: slices without RV cavity, wall or LV cavity between slices with it
        - missing: which of these three have no voxel
        - violations: holes + pieces + leaks + gaps + missing (one flaw may be several of them)
        - plausible: there is none
        - leak_voxels: cavity voxels that touch what they must not, in all slices
        - stray: volume of all holes and pieces, the smallest too, ml; voxels if there is no spacing

        With these thresholds 158 of the 160 expert maps of ACDC at hand are plausible at their native resolution, 98 to
        100 % of phantoms drawn on a fine grid, and 92 % of phantom stacks of displaced 10 mm slices (their RV comes
        apart). Maps of 10 mm slices that were resampled to thin slices mostly are not (ACDC at 3 x 3 x 5 mm: 37 %):
        between two slices whose rings do not overlap the cavity meets the background.

    Raises:
        UsageError: a scheme without the three structures, thresholds below 0, wrong spacing
        DataError: not a label map (X, Y, Z) of the scheme
    """
    if is_whole_heart(scheme):
        return of_whole_heart(label, scheme, spacing, min_voxels)
    array = label_map(label, "plausibility")
    scheme.check(array, "plausibility")
    values = [scheme.structure(name).value for name in VENTRICLES]
    for name, threshold in (("min_voxels", min_voxels), ("slack", slack), ("leak", leak)):
        in_range(name, threshold)
    unit = np.prod(spacing3("spacing", spacing)) / MM3_PER_ML if spacing is not None else 1
    array = np.where(np.isin(array, values), array, 0)
    array = array[bounding_box(array, (1, 1, 0)) or ()]
    cavity, wall, rv = (array == v for v in values)
    lv = cavity | wall
    stray = {
        "holes": [*_holes(lv), *_holes(rv)],
        "pieces": [*_pieces(lv, slack), *_pieces(rv, slack), *_pieces_in_slices(wall), *_pieces_in_slices(cavity)],
    }
    leaking, rim = _leaks(cavity, lv)
    counts: dict[str, float] = {name: sum(size >= min_voxels for size in sizes) for name, sizes in stray.items()}
    counts |= {
        "leaks": int((leaking > leak * rim).sum()),
        "gaps": sum(len(interruptions(mask)) for mask in (cavity, wall, rv)),
        "missing": sum(not mask.any() for mask in (cavity, wall, rv)),
    }
    violations = sum(counts.values())
    counts |= {
        "violations": violations,
        "plausible": violations == 0,
        "leak_voxels": int(leaking.sum()),
        "stray": float(unit * sum(map(sum, stray.values()))),
    }
    return pd.Series(counts, dtype=object, name="plausibility")


def map_doubts(label: Array, scheme: LabelScheme = CARDIAC) -> list[str]:
    """What in a label map of a heart speaks of a segmentation that failed, in words; nothing: [].

    A whole heart is judged by what `shapelab.metrics.whole_heart.plausibility` counts, without knowledge of how often
    experts' maps are in doubt. Of the 160 expert maps of ACDC at hand none is. Of the shipped network's
    (`acnn_seg_native_quick`) 8 are, 7 of which have a structure of Dice below .6; 15 have such a one, so that a map
    without doubt may be wrong as well.

    Arguments and errors are those of `plausibility`.
    """
    array, found = label_map(label, "map_doubts"), plausibility(label, scheme)
    names = WHOLE_HEART.names if is_whole_heart(scheme) else VENTRICLES
    missing = [n for n in names if not (array == scheme.structure(n).value).any()]
    words = {
        f"no {', no '.join(missing)}": bool(missing),
        **(_doubts_of_whole(found) if is_whole_heart(scheme) else _doubts_of_stack(array, found, scheme)),
        "separate pieces or holes": found["stray"] > MOST_STRAY * int((array > 0).sum()),
    }
    return [text for text, holds in words.items() if holds]


def _doubts_of_whole(found: pd.Series) -> dict[str, bool]:
    return {
        f"{found['lost']} pair(s) of structures apart that touch in a heart": found["lost"] > 0,
        "an LV cavity that is open to what is not its wall": found["leaks"] > 0,
    }


def _doubts_of_stack(array: np.ndarray, found: pd.Series, scheme: LabelScheme) -> dict[str, bool]:
    lv, rv = (np.isin(array, scheme.labels_of(*names)).any((0, 1)) for names in (LV, VENTRICLES[2:]))
    slices = int(lv.sum())
    return {
        f"an LV in {slices} slice{'s' * (slices != 1)} alone": 0 < slices < LEAST_SLICES,
        f"an RV in {int((lv & rv).sum())} of the LV's {slices} slices": rv.any()
        and (lv & rv).sum() < LEAST_RV * slices,
        f"{found['gaps']} slice(s) without a structure between slices with it": found["gaps"] > 0,
        f"an LV cavity that is open to what is not its wall in {found['leaks']} of {slices} slices": found["leaks"]
        > MOST_OPEN * slices,
    }


def _holes(mask: np.ndarray) -> list[int]:
    """Sizes of the patches of what is not `mask` that reach no border of their slice."""
    parts, _ = ndimage.label(np.pad(~mask, ((1, 1), (1, 1), (0, 0)), constant_values=True), _SIDES)
    sizes = np.bincount(parts.ravel())
    sizes[0] = sizes[parts[0, 0]] = 0  # the padding joins, in each slice, all that reaches the border
    return sizes[sizes > 0].tolist()


def _pieces(mask: np.ndarray, slack: int) -> list[int]:
    """Sizes of the components in 3-D beside the largest, after each slice was widened by `slack` voxels.

    Slices without the structure are left out first: they are gaps, and what they part is not counted again.
    """
    mask = mask[:, :, mask.any((0, 1))]
    wide = mask
    if slack:
        wide = ndimage.binary_dilation(np.pad(mask, ((slack, slack), (slack, slack), (0, 0))), _SLICE, int(slack))
        wide = wide[slack:-slack, slack:-slack]
    parts, _ = ndimage.label(wide, TOUCHING)
    return np.sort(np.bincount(parts[mask])[1:])[:-1].tolist()


def _pieces_in_slices(mask: np.ndarray) -> list[int]:
    """Sizes of the components in each slice beside its largest."""
    parts, n = ndimage.label(mask, _SLICE)
    numbers = parts[mask]
    sizes, home = np.bincount(numbers, minlength=n + 1)[1:], np.zeros(n, int)
    home[numbers - 1] = np.nonzero(mask)[2]
    return [int(size) for z in np.unique(home) for size in np.sort(sizes[home == z])[:-1]]


def _leaks(cavity: np.ndarray, lv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By slice: cavity voxels with a side to what is not LV, and cavity voxels with a side to what is not cavity."""
    counts = []
    for inside in (lv, cavity):
        around = np.pad(inside, ((1, 1), (1, 1), (0, 0)))
        shut = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
        counts.append((cavity & ~shut).sum((0, 1)))
    return counts[0], counts[1]
