"""Signed distance maps of label maps, and probabilities from them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from shapelab.data.geometry import bounding_box


def signed_distance(mask: np.ndarray, spacing: np.ndarray, limit: float) -> np.ndarray:
    """Signed Euclidean distance to the border of a mask, in mm, negative inside, cut at +-`limit`.

    Args:
        mask: (X, Y, Z) bool, or a slice of it (X, Y)
        spacing: voxel size in mm, a number an axis
        limit: mm; beyond it a distance says nothing about the shape's border. An empty mask is +limit everywhere
            and a full one -limit, so a structure that is absent still has a finite map.

    Returns:
        float32, as large as the mask. Distances run between voxel centres, so the zero crossing lies between the
        innermost outside and the outermost inside voxel.
    """
    if not mask.any():
        return np.full(mask.shape, limit, dtype=np.float32)
    if mask.all():
        return np.full(mask.shape, -limit, dtype=np.float32)
    # Only a box about the mask is transformed (4-10x less work), with the same result: past `limit` from the mask the
    # distance is cut anyway, and the nearest outside voxel of an inside one is at most one voxel out of the mask's box.
    signed = np.full(mask.shape, limit, dtype=np.float32)
    near = bounding_box(mask, np.ceil(limit / np.asarray(spacing)).astype(int))
    signed[near] = np.minimum(distance_transform_edt(~mask[near], sampling=spacing), limit)
    tight = bounding_box(mask, 1)
    inside = np.minimum(distance_transform_edt(mask[tight], sampling=spacing), limit)
    signed[tight] = np.where(mask[tight], -inside, signed[tight])
    return signed


def signed_distances(channels: np.ndarray, n_classes: int, spacing: np.ndarray, limit: float) -> np.ndarray:
    """Channel numbers (N, X, Y, Z) -> signed distances (N, C - 1, X, Y, Z) in mm, background left out."""
    maps = np.empty((len(channels), n_classes - 1, *channels.shape[1:]), dtype=np.float32)
    for i, one in enumerate(channels):
        for k in range(1, n_classes):
            maps[i, k - 1] = signed_distance(one == k, spacing, limit)
    return maps


def distance_probabilities(distances: np.ndarray, temperature: float) -> np.ndarray:
    """Signed distances of the structures -> class probabilities.

    The background's distance is minus the smallest of the structures' (a voxel is in the background as deep
    as it is out of every structure), and p = softmax(-distance / temperature). At the border of one structure
    with the background p = 1/2 for both, so a surface drawn at 1/2 lies where the distance is zero; the label
    map is the argmin of the distances.

    Args:
        distances: (N, C - 1, X, Y, Z) in mm, negative inside
        temperature: mm over which a border is blurred

    Returns:
        (N, C, X, Y, Z) float32, channel 0 the background, summing to 1
    """
    nearest = distances.min(axis=1, keepdims=True)
    scores = np.concatenate([nearest, -distances], axis=1) / np.float32(temperature)
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores.astype(np.float32, copy=False)
