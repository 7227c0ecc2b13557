"""Slices that nobody annotated: empty ones between drawn ones are not seen, and no background.

In clinics often every second slice of a stack is drawn. Taken for background, the others make a heart a third or half
too small. Here they are found and filled from their drawn neighbours by shape-based interpolation (Raya and Udupa, IEEE
TMI 9(1), 1990; Herman, Zheng and Bucholtz, IEEE CG&A 12(3), 1992): the signed distance to an outline, in mm in the
plane, runs linearly from slice to slice. The outlines are nested (LV cavity, within the epicardium, within all that is
drawn), so a wall keeps its thickness and is never torn.

Slices lie along the last axis. Label maps of whole hearts (`is_whole_heart`) are no stacks: nothing is filled in them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt, generate_binary_structure, grey_erosion

from shapelab.data.geometry import bounding_box
from shapelab.data.orientation import Orientation, canonical, is_whole_heart, thick_axis
from shapelab.data.scheme import VENTRICLES, LabelScheme, present_values
from shapelab.data.subject import Subject
from shapelab.errors import few, must, spacing3
from shapelab.types import Triple

_CROSS = generate_binary_structure(2, 1)


def gaps(label: np.ndarray) -> list[int]:
    """Numbers of the slices that were not annotated: the empty ones between two drawn slices that show one thing.

    Two slices show one thing if they share a structure and their outlines overlap. So empty slices above and below a
    shape are none, nor are those that part two shapes.

    Args:
        label: (X, Y, Z) integers, slices along the last axis
    """
    return [k for above, below in _drawn_beside_gaps(label) for k in range(above + 1, below)]


def fill_gaps(label: np.ndarray, spacing: Triple, scheme: LabelScheme | None = None) -> tuple[np.ndarray, list[int]]:
    """Draw the slices that were not annotated (`gaps`) from the drawn ones beside them.

    A structure of which one neighbour has nothing shrinks towards that one to the middle of its outline, as the cavity
    does at the apex; the RV, to the outline of the LV.

    Args:
        label: (X, Y, Z) integers, slices along the last axis
        spacing: (3,) mm
        scheme: of `label`; a heart's says what lies in what. Of other structures those come first, from inside out,
            whose outlines meet the background least

    Returns:
        the label map, drawn slices as they were (the array itself where there is no gap), and the numbers of the slices
        that were filled
    """
    found = [] if scheme is not None and is_whole_heart(scheme) else _drawn_beside_gaps(label)
    if not found:
        return label, []
    in_plane = np.array(spacing3("fill_gaps: spacing", spacing))[:2]
    box = (bounding_box(label) or ())[:2]
    order = _inside_out(label, scheme)
    filled, numbers = label.copy(), []
    for above, below in found:
        a, b = (np.pad(label[:, :, k][box], 1) for k in (above, below))
        values = [v for v in order if v in a or v in b]
        depths = list(zip(reversed(values), _depths(a, b, values, in_plane), _depths(b, a, values, in_plane)))
        for k in range(above + 1, below):
            share, within = (k - above) / (below - above), np.full(a.shape, np.inf)
            drawn = filled[:, :, k][box]
            for value, one, other in depths:
                within = np.minimum(within, (1 - share) * one + share * other)
                drawn[within[1:-1, 1:-1] > 0] = value
            numbers.append(k)
    return filled, numbers


def without_gaps(
    label: np.ndarray, spacing: Triple, scheme: LabelScheme | None = None, file: str | Path | None = None
) -> np.ndarray:
    """`fill_gaps`, with a warning that names the file and the slices where there are any."""
    filled, numbers = fill_gaps(label, spacing, scheme)
    if numbers:
        warnings.warn(filled_text(file, numbers), stacklevel=3)
    return filled


def slice_axis(spacing: Triple) -> int:
    """The axis along which the slices lie: that of the thickest voxels, or the last where none is clearly thickest."""
    thick = thick_axis(spacing)
    return 2 if thick is None else thick


def canonical_without_gaps(subject: Subject, from_base: bool = False) -> tuple[Subject, Orientation]:
    """`shapelab.data.orientation.canonical`, gaps of a label map filled; the warning counts slices as the file does.

    Slices lie along the axis of the thickest voxels (`slice_axis`), which of a heart is the last one.
    """
    subject, turn = canonical(subject, from_base)
    if (label := subject.label) is None:
        return subject, turn
    axis = slice_axis(subject.spacing)
    order = [*(other for other in range(3) if other != axis), axis]
    filled, numbers = fill_gaps(label.transpose(order), subject.spacing[order], subject.scheme)
    if not numbers:
        return subject, turn
    warnings.warn(filled_text(subject.where, turn.slices_in_file(numbers, axis)), stacklevel=3)
    return subject.with_(label=np.ascontiguousarray(np.moveaxis(filled, 2, axis))), turn


def filled_text(file: str | Path | None, numbers: Sequence[int]) -> str:
    """What is said of a label map whose slices were filled."""
    return (
        f"{file or '(array)'}: found empty {listed(numbers)} between drawn ones; expected every slice annotated. They "
        "are taken as not seen and filled by the shapes of the slices beside them, not as background. Draw them, or "
        "count on less exact results."
    )


def listed(numbers: Sequence[int], most: int = 12) -> str:
    """Numbers of slices in words: "slices 1, 3, 5 (counted from 0)"."""
    return f"slice{'s' * (len(numbers) != 1)} {few(numbers, most)} (counted from 0)"


def forgotten(label: np.ndarray, scheme: LabelScheme) -> dict[str, list[int]]:
    """Structures of a heart that are missing in a drawn slice although they are there above and below it: name ->
    numbers of the slices. No plausible heart has any; nothing is filled.

    UsageError for a scheme without LV cavity, LV myocardium and RV cavity.
    """
    must(set(VENTRICLES) <= set(scheme.names), "forgotten", f"scheme {scheme.name!r}", "a heart's")
    drawn = set(np.flatnonzero(label.any((0, 1))).tolist())
    found = {n: drawn & {*interruptions(label == scheme.structure(n).value)} for n in VENTRICLES}
    return {name: sorted(missing) for name, missing in found.items() if missing}


def interruptions(mask: np.ndarray) -> list[int]:
    """Numbers of the slices without a structure between slices with it."""
    used = np.flatnonzero(mask.any((0, 1)))
    return np.setdiff1d(np.arange(*used[[0, -1]]), used).tolist() if len(used) else []


def _drawn_beside_gaps(label: np.ndarray) -> list[tuple[int, int]]:
    """Numbers of the drawn slices above and below each gap."""
    must(label.ndim == 3, "gaps", f"a label map of shape {label.shape}", "three axes (X, Y, Z)")
    drawn = np.flatnonzero(label.any((0, 1))).tolist()
    return [
        (a, b) for a, b in zip(drawn[:-1], drawn[1:]) if b > a + 1 and _show_one_thing(label[:, :, a], label[:, :, b])
    ]


def _show_one_thing(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(set(present_values(a)) & set(present_values(b)) - {0}) and bool(((a > 0) & (b > 0)).any())


def _inside_out(label: np.ndarray, scheme: LabelScheme | None) -> list[int]:
    """Integers of the structures, what lies within before what lies around it."""
    known = [] if scheme is None else [v for name in VENTRICLES for v in scheme.labels_of(name)]
    others = [v for v in present_values(label) if v and v not in known]
    around = np.pad(label, ((1, 1), (1, 1), (0, 0)))
    beside = [around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]]

    def exposed(value: int) -> float:
        """Share of its outline in the plane that meets the background."""
        mask = label == value
        bare, outline = (
            sum(int((mask & m).sum()) for m in met) for met in zip(*[(b == 0, b != value) for b in beside])
        )
        return bare / outline

    return [*known, *sorted(others, key=exposed)]


def _depths(drawn: np.ndarray, other: np.ndarray, values: Sequence[int], spacing: np.ndarray) -> list[np.ndarray]:
    """Of one slice: how deep each place lies in all structures, in all but the last, ..., in the first alone; mm,
    negative outside. Of structures that the slice lacks: how far from the middle of what `other` has of them, and no
    deeper than what lies around them allows."""
    depths: list[np.ndarray] = []
    for n in range(len(values), 0, -1):
        mask = np.isin(drawn, values[:n])
        if mask.any():
            depths.append(np.subtract(*(distance_transform_edt(m, sampling=spacing) for m in (mask, ~mask))))
        else:
            middle = np.argwhere(np.isin(other, values[:n])).mean(0)
            away = np.hypot(*((np.indices(mask.shape) - middle[:, None, None]) * spacing[:, None, None]))
            depths.append(np.minimum(-away, grey_erosion(depths[-1], footprint=_CROSS)))
    return depths
