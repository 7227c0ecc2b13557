"""The affine map between two sets of landmarks.

SSLLN, section II-C: "An affine transformation with 12 degrees of freedom was first computed between the target
landmarks and the atlas landmarks"; "a convex least squares problem" (section III-E). The paper has six landmarks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from shapelab.errors import DataError, UsageError, must, need

# Landmarks flatter than this (rms distance from their best plane over their rms distance from their centre) do not say
# what happens across the plane: an error of 1 mm there would be one of 50 mm. The phantom's six are at 0.15 to 0.25.
FLATTEST = 0.02

Landmarks = Mapping[str, np.ndarray] | pd.DataFrame | np.ndarray


def landmark_affine(source: Landmarks, target: Landmarks) -> np.ndarray:
    """The affine map that takes landmarks nearest to others, in the least squares sense (12 degrees of freedom).

    Args:
        source: name -> (3,) mm, or a table of them (index = names), of which the names in both are used; or (n, 3) mm
            in the same order; n >= 4
        target: see `source`

    Returns:
        (4, 4) float64 in mm; ``target = matrix @ (*source, 1)``, exact for four landmarks. Its inverse is not the map
        the other way (which is least in the other's mm), so ask for that one.

    Raises:
        UsageError: two arrays of different shape, or not (n, 3)
        DataError: fewer than four landmarks (in common), numbers that are not finite, or landmarks that lie in one
            plane, on one line or in one place, source or target, so that no affine map is determined
    """
    names, (source, target) = paired(source, target)
    for which, points in (("source", source), ("target", target)):
        _check_spread(which, points, names)
    middle = source.mean(0)  # centred: better conditioned far from the origin
    solution = np.linalg.lstsq(np.column_stack([source - middle, np.ones(len(source))]), target, rcond=None)[0].T
    matrix = np.eye(4)
    matrix[:3, :3] = solution[:, :3]
    matrix[:3, 3] = solution[:, 3] - solution[:, :3] @ middle
    need(
        abs(np.linalg.det(matrix[:3, :3])) > 1e-6,
        "landmark_affine",
        f"a map of determinant {np.linalg.det(matrix[:3, :3]):.2g}",
        "landmarks that correspond",
        "Check that both list the same landmarks in the same order.",
    )
    return matrix


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) mm through a 4x4 matrix."""
    return np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def paired(source: Landmarks, target: Landmarks) -> tuple[list[str], tuple[np.ndarray, np.ndarray]]:
    """Names and positions (n, 3) float64 of the landmarks that both have; see `landmark_affine`."""
    source, target = (
        dict(zip(points.index, points.to_numpy())) if isinstance(points, pd.DataFrame) else points
        for points in (source, target)
    )
    must(
        isinstance(source, Mapping) == isinstance(target, Mapping),
        "landmarks",
        "names for the one and none for the other",
        "names for both or none",
    )
    names: list[str] = []
    found: list[Any] = [source, target]
    if isinstance(source, Mapping) and isinstance(target, Mapping):
        names = [name for name in source if name in target]
        need(
            len(names) >= 4,
            "landmarks",
            f"{len(names)} in common {names} of {sorted(source)} and {sorted(target)}",
            "at least four of the same name",
        )
        found = [[points[name] for name in names] for points in (source, target)]
    try:
        a, b = (np.asarray(points, np.float64) for points in found)
    except (TypeError, ValueError):
        raise UsageError("landmarks: found values that are no numbers; expected (n, 3) in mm") from None
    must(
        a.ndim == 2 and a.shape[1:] == (3,) and a.shape == b.shape,
        "landmarks",
        f"shapes {a.shape} and {b.shape}",
        "(n, 3) for both",
    )
    return names or [f"number {i}" for i in range(len(a))], (a, b)


def _check_spread(which: str, points: np.ndarray, names: list[str]) -> None:
    """DataError unless the points are finite and span three dimensions."""
    need(len(points) >= 4, f"{which} landmarks", f"{len(points)}", "at least four", "The paper has six.")
    wrong = [name for name, point in zip(names, points) if not np.isfinite(point).all()]
    need(not wrong, f"{which} landmarks", f"positions that are not finite: {wrong}", "three numbers in mm each")
    size = np.linalg.svd(points - points.mean(0), compute_uv=False) / np.sqrt(len(points))
    total = np.sqrt((size**2).sum())
    flat = int((size <= FLATTEST * total).sum()) if total > 1e-9 else 3
    if flat:
        same = sorted(
            {
                f"{a} = {b}"
                for i, (a, p) in enumerate(zip(names, points))
                for b, q in zip(names[i + 1 :], points[i + 1 :])
                if np.abs(p - q).max() < 1e-6
            }
        )
        place = ("in one plane", "on one line", "in one place")[flat - 1]
        raise DataError(
            f"{which} landmarks",
            f"{len(points)} points {place} (spread {', '.join(f'{s:.3g}' for s in size)} mm along their axes)"
            + (f"; the same position: {', '.join(same)}" if same else ""),
            f"points in space, at least {FLATTEST:.0%} as thick as they are wide",
            "Correct the landmarks, or leave them out: the label map then gives the initialisation.",
        )
