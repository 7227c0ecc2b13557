"""Which atlases are most like the target: normalised mutual information.

SSLLN, section II-C: "According to the normalised mutual information (NMI) scores between the target segmentation and
each of affinely warped atlas segmentations, L most similar atlases can be selected" (L = 5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shapelab.errors import must, need, whole
from shapelab.metrics.agreement import as_array
from shapelab.types import Array


def normalised_mutual_information(a: Array, b: Array, bins: int = 64) -> float:
    """(H(A) + H(B)) / H(A, B) of two arrays of one shape (Studholme et al., Pattern Recognition 32, 1999).

    1 where the one says nothing about the other, 2 where each can be told from the other. Two constant arrays: 2.

    Args:
        a: label maps (integers: one bin a value) or images (floats: `bins` bins of equal width from least to greatest),
            any number of axes, numpy or torch. DataError where shapes differ, an array is empty or not finite.
        b: see `a`
    """
    first, second = as_array(a), as_array(b)
    need(
        first.shape == second.shape and first.size != 0,
        "normalised_mutual_information",
        f"arrays of shape {first.shape} and {second.shape}",
        "one shape for both, not empty",
    )
    (bin_a, n_a), (bin_b, n_b) = _binned(first, bins), _binned(second, bins)
    joint = np.bincount(bin_a * n_b + bin_b, minlength=n_a * n_b).reshape(n_a, n_b) / first.size
    h_a, h_b, h_ab = (_entropy(p) for p in (joint.sum(1), joint.sum(0), joint.ravel()))
    return (h_a + h_b) / h_ab if h_ab > 0 else 2.0


def select_atlases(target: Array, warped: Sequence[Array], n: int = 5, bins: int = 64) -> tuple[list[int], np.ndarray]:
    """The n atlases most like the target by normalised mutual information.

    Args:
        target: label map or image (D0, D1, D2)
        warped: the atlases' label maps or images, brought into the target's voxels (by their affine maps)
        n: how many; all of them if there are fewer

    Returns:
        indices of the chosen, best first (of two alike the earlier), and the score of every atlas (len(warped),)
    """
    must(n >= 1 and len(warped), "select_atlases", f"n={n} of {len(warped)} atlases", "at least one of each")
    scores = np.array([normalised_mutual_information(target, atlas, bins) for atlas in warped])
    return np.argsort(-scores, kind="stable")[:n].tolist(), scores


def _binned(values: np.ndarray, bins: int) -> tuple[np.ndarray, int]:
    """Bin numbers (size,) int64 and how many bins there are."""
    flat = values.ravel()
    if flat.dtype == bool or np.issubdtype(flat.dtype, np.integer):
        least, most = int(flat.min()), int(flat.max())
        if most - least > 4096:
            found, flat = np.unique(flat, return_inverse=True)
            return flat.astype(np.int64), len(found)
        return flat.astype(np.int64) - least, most - least + 1
    low, high = float(flat.min()), float(flat.max())
    need(
        np.isfinite([low, high]).all(),
        "normalised_mutual_information",
        "values that are not finite",
        "finite intensities",
    )
    whole("bins", bins)
    if high == low:
        return np.zeros(flat.size, np.int64), 1
    scaled = (flat.astype(np.float64) - low) * (bins / (high - low))
    return np.minimum(scaled.astype(np.int64), bins - 1), bins


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
