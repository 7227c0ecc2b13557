"""Overlap and surface distances of two label maps: `evaluate`, with one definition of each measure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from shapelab.errors import DataError, must, need, one_of, spacing3
from shapelab.metrics.agreement import as_array
from shapelab.metrics.elements import element_surfaces
from shapelab.metrics.surface import distances, scan
from shapelab.types import Array, Triple, Vector3

Surface = np.ndarray | tuple[np.ndarray, np.ndarray]  # points, or points and their areas

SURFACES = ("voxel", "element")
COLUMNS = ("dice", "jaccard", "hd", "hd95", "assd", "volume", "volume_truth", "missed")
MM3_PER_ML = 1000.0


def evaluate(
    prediction: Array, truth: Array, spacing: Triple, labels: Sequence[int] | None = None, surface: str = "voxel"
) -> pd.DataFrame:
    """How well a label map agrees with the truth, all labels at once.

    Args:
        prediction: (D0, D1, D2) label maps of integers, numpy or torch, same shape
        truth: see `prediction`
        spacing: mm, in the order of the axes
        labels: which ones, in the order of the rows; None: all that are in either map, but 0
        surface: what the surface of a structure is made of. "voxel": its voxels that have a face neighbour outside it,
            each at its centre (scipy, MONAI, SimpleITK). "element": the surface elements between voxel centres, each
            with its area (DeepMind's surface-distance, MONAI's use_subvoxels); hd95 and assd are weighted by area. In
            both, what lies beyond the border of the array is background: a structure that is cut off there has a
            surface there.

    Returns:
        DataFrame, index "label", one row a label.

        - dice, jaccard: 2 |A n B| / (|A| + |B|), |A n B| / |A u B|
        - hd: Hausdorff distance, the greatest distance from a point of either surface to the other surface, mm
        - hd95: the 95th percentile of the distances from prediction to truth or of those back, the greater of both, mm
        - assd: average symmetric surface distance, the mean of the distances of both surfaces' points taken together,
          mm
        - volume, volume_truth: of prediction and truth, ml
        - missed: exactly one of the two is empty

        Both empty: dice 1, jaccard 1, distances 0. One empty: dice 0, jaccard 0, distances inf, missed.

    Raises:
        UsageError: wrong spacing, labels or surface
        DataError: shapes differ, not three axes, no integers, NaN, negative labels
    """
    one_of("surface", surface, SURFACES)
    spacing = spacing3("spacing", spacing)
    a, b = label_map(prediction, "prediction"), label_map(truth, "truth")
    need(a.shape == b.shape, "evaluate", f"prediction {a.shape} and truth {b.shape}", "the same shape")
    wanted = None if labels is None else check_labels(labels)
    a, b, values = _same_type(a, b)
    found = scan(a, b)
    surfaces = element_surfaces(a, b, spacing) if surface == "element" else (found.prediction, found.truth)
    present = np.flatnonzero(found.size_prediction + found.size_truth).tolist()
    of_value = {(int(values[v]) if values is not None else v): v for v in present}
    wanted = sorted(of_value) if wanted is None else wanted
    ml = math.prod(spacing) / MM3_PER_ML
    rows = []
    for value in wanted:
        v = of_value.get(value)
        n_a, n_b, both = found.sizes(v) if v is not None else (0, 0, 0)
        row = absent(n_a * ml, n_b * ml)
        if v is not None and n_a and n_b:
            row |= {"dice": 2 * both / (n_a + n_b), "jaccard": both / (n_a + n_b - both)}
            row |= _surface_measures(surfaces[0][v], surfaces[1][v], spacing)
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(wanted, name="label", dtype=np.int64), columns=list(COLUMNS))


def absent(volume: float = 0.0, volume_truth: float = 0.0) -> dict[str, float | bool]:
    """The row of a label that is missing in one of the two maps, or in both: the policy for empty masks."""
    missed = (volume > 0) != (volume_truth > 0)
    overlap, distance = (0.0, math.inf) if missed else (1.0, 0.0)
    return dict(zip(COLUMNS, (overlap, overlap, *3 * [distance], volume, volume_truth, missed)))


def _surface_measures(surface_a: Surface, surface_b: Surface, spacing: Vector3) -> dict[str, float]:
    """hd, hd95 and assd of two surfaces: points (n, 3), or points and their areas."""
    (points_a, weight_a), (points_b, weight_b) = (
        s if isinstance(s, tuple) else (s, None) for s in (surface_a, surface_b)
    )
    to_b, to_a = distances(points_a, points_b, spacing), distances(points_b, points_a, spacing)
    hd = float(max(to_b.max(), to_a.max()))
    if weight_a is None or weight_b is None:
        hd95 = max(_percentile(to_b, 95), _percentile(to_a, 95))
        return {"hd": hd, "hd95": hd95, "assd": float((to_b.sum() + to_a.sum()) / (len(to_b) + len(to_a)))}
    hd95 = max(_weighted_percentile(to_b, weight_a, 95), _weighted_percentile(to_a, weight_b, 95))
    assd = (to_b @ weight_a + to_a @ weight_b) / (weight_a.sum() + weight_b.sum())
    return {"hd": hd, "hd95": hd95, "assd": float(assd)}


def _percentile(values: np.ndarray, q: float) -> float:
    """As numpy.percentile (linear interpolation), at a third of its time."""
    position = (len(values) - 1) * q / 100
    low = int(position)
    high = min(low + 1, len(values) - 1)
    part = np.partition(values, (low, high))
    return float(part[low] + (position - low) * (part[high] - part[low]))


def _weighted_percentile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    """The smallest value such that it and all smaller ones hold q % of the weight, as DeepMind has it."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(values[order[min(int(np.searchsorted(share, q / 100)), len(values) - 1)]])


# ------------------------------------------------------------------------------------------------ what is accepted


def check_labels(labels: Iterable[int]) -> list[int]:
    """Distinct integers from 1; UsageError otherwise."""
    try:
        values = [int(v) for v in labels]
        whole = all(v == w for v, w in zip(values, labels))
    except (TypeError, ValueError):
        values, whole = [], False
    distinct = whole and values and min(values) >= 1 and len(set(values)) == len(values)
    must(distinct, "labels", repr(labels), "distinct integers from 1 (0 is the background)")
    return values


def label_map(values: Array, name: str) -> np.ndarray:
    """An array (D0, D1, D2) of integers from 0, from numpy or torch (any device); DataError that names it otherwise."""
    array = as_array(values)
    if array.dtype == bool:
        array = array.view(np.uint8)
    nan = np.issubdtype(array.dtype, np.floating) and np.isnan(array).any()
    whole = array.dtype.kind == "f" and not nan and bool((array == np.rint(array)).all())
    todo = "Make it one: label.astype(np.uint8)." if whole else "Turn probabilities into labels with argmax."
    need(
        np.issubdtype(array.dtype, np.integer),
        name,
        f"an array of type {array.dtype}{' with NaN' if nan else ''}",
        "a label map of integers",
        todo,
    )
    need(array.ndim == 3 and array.size, name, f"shape {array.shape}", "three axes (D0, D1, D2), none of them empty")
    if np.issubdtype(array.dtype, np.signedinteger) and int(array.min()) < 0:
        raise DataError(name, f"label {int(array.min())}", "labels from 0")
    return array


def _same_type(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Both as uint8 or uint16, whatever is enough; labels past 65535 are numbered anew (their values are returned)."""
    if a.dtype == b.dtype == np.uint8:
        return a, b, None
    top = max(int(a.max()), int(b.max()))
    if top < 65536:
        kind = np.uint8 if top < 256 else np.uint16
        return a.astype(kind), b.astype(kind), None
    values = np.union1d(np.unique(a), np.unique(b))
    values = values if values[0] == 0 else np.concatenate([np.zeros(1, values.dtype), values])
    need(len(values) <= 65536, "evaluate", f"{len(values)} different labels", "at most 65536, as in a label map")
    return np.searchsorted(values, a).astype(np.uint16), np.searchsorted(values, b).astype(np.uint16), values
