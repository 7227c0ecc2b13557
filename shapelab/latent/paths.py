"""Paths through a shape space: along a dimension, from one subject to another, and plain voxel blending beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shapelab.data.geometry import count_components, count_holes, most_probable
from shapelab.data.scheme import LabelScheme
from shapelab.errors import in_range, must, whole
from shapelab.metrics import dice
from shapelab.metrics.clinical import structure_volumes
from shapelab.spaces.contract import ShapeSpace, batches, check_codes, code_size
from shapelab.types import Triple


@dataclass(frozen=True, eq=False)
class Path:
    """Points on a way through shapes.

    Attributes:
        position: (S,), multiples of sigma for a traversal, 0 (A) to 1 (B) for an interpolation or a blend
        codes: (S, d) float32, or None for a blend, which has none
        probabilities: (S, C, X, Y, Z) float32, summing to 1 over C
    """

    position: np.ndarray
    codes: np.ndarray | None
    probabilities: np.ndarray

    @property
    def channels(self) -> np.ndarray:
        """(S, X, Y, Z) uint8, the most probable channel; of equals the last, so a structure with 1/2 is there."""
        return most_probable(self.probabilities)

    def __len__(self) -> int:
        return len(self.position)


def traverse(
    space: ShapeSpace,
    dimensions: int | Sequence[int],
    n_sigma: float = 2.0,
    steps: int = 5,
    base: np.ndarray | None = None,
) -> Path:
    """Walk along one dimension of a space, or along several at once, from -n_sigma to +n_sigma about `base`.

    z(s) = base + s sigma_k in every dimension k asked for (ACNN, Fig. 9).

    Args:
        space: fitted
        dimensions: of the space, counted from 0; `important_dimensions` gives those a classifier uses
        n_sigma: standard deviations of the training codes
        steps: points on the way, at least 2; an odd number has `base` in the middle
        base: (d,) code to start from; None: the mean

    Raises:
        UsageError: a dimension the space does not have, steps < 2, n_sigma not above 0, a base of another length
    """
    d = code_size(space)
    chosen = np.unique(np.atleast_1d(dimensions))
    must(
        chosen.size != 0 and np.issubdtype(chosen.dtype, np.integer) and chosen[0] >= 0 and chosen[-1] < d,
        "traverse",
        f"dimensions={dimensions!r}",
        f"integers from 0 to {d - 1}",
    )
    in_range("traverse: n_sigma", n_sigma, above=True)
    start = check_codes(space.mean if base is None else base, d)[0]
    position = np.linspace(-n_sigma, n_sigma, whole("traverse: steps", steps, 2))
    codes = np.repeat(start[None], steps, axis=0)
    codes[:, chosen] += (position[:, None] * np.asarray(space.sigma)[chosen]).astype(np.float32)
    return Path(position, codes, _decode(space, codes))


def interpolate(space: ShapeSpace, a: np.ndarray, b: np.ndarray, steps: int = 9) -> Path:
    """The straight way between two codes, z(t) = (1 - t) a + t b, decoded.

    Args:
        space: fitted
        a: (d,) codes, as `space.encode` gives them; the ends of the path are exactly these
        b: see `a`
        steps: points on the way with both ends, at least 2
    """
    d = code_size(space)
    a, b = check_codes(a, d)[0], check_codes(b, d)[0]
    t = np.linspace(0, 1, whole("interpolate: steps", steps, 2))
    weight = t[:, None].astype(np.float32)
    codes = (1 - weight) * a + weight * b
    return Path(t, codes, _decode(space, codes))


def blend(labels_a: np.ndarray, labels_b: np.ndarray, steps: int = 9, scheme: LabelScheme | None = None) -> Path:
    """Plain voxel blending, p(t) = (1 - t) onehot(A) + t onehot(B): what interpolation has to be better than.

    Each voxel's label is A's until t = 1/2 and B's after it, so the label map jumps in the middle; at t = 1/2, where A
    and B tie, a structure is where either has it (`most_probable`), so nothing that one of them has is lost.

    Args:
        labels_a: (X, Y, Z) integers of the scheme, on one grid
        labels_b: (X, Y, Z) integers of the scheme, on one grid
        scheme: gives the channels
    """
    must(scheme is not None, "blend", "no scheme", "scheme=..., which says what the integers mean")
    assert scheme is not None
    labels_a, labels_b = np.asarray(labels_a), np.asarray(labels_b)
    must(
        labels_a.shape == labels_b.shape and labels_a.ndim == 3,
        "blend",
        f"label maps of shapes {labels_a.shape} and {labels_b.shape}",
        "the same (X, Y, Z)",
    )
    t = np.linspace(0, 1, whole("blend: steps", steps, 2))
    weight = t[:, None, None, None, None].astype(np.float32)
    return Path(t, None, (1 - weight) * scheme.onehot(labels_a) + weight * scheme.onehot(labels_b))


def path_table(
    path: Path | np.ndarray,
    spacing: Triple,
    scheme: LabelScheme,
    ends: tuple[np.ndarray, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Volume, Dice with both ends, and plausibility of each structure along a path.

    Args:
        path: a `Path`, or label maps (S, X, Y, Z), integers of the scheme
        spacing: (3,) mm
        scheme: of the label maps
        ends: the label maps A and B (X, Y, Z) to compare with; None: the path's own first and last point

    Returns:
        DataFrame, one row per (step, structure), with step, position, structure, volume_ml, dice_a, dice_b, components
        (pieces, 26-connected; a heart's structure is one), holes (background or other structures wholly inside it:
        6-connected pieces of what is not the structure that do not reach the grid's border)
    """
    if isinstance(path, Path):
        maps, position = scheme.integers(path.channels), path.position
    else:
        maps = np.asarray(path)
        position = np.linspace(0, 1, len(maps) if maps.ndim == 4 else 0)
    must(maps.ndim == 4 and len(maps) != 0, "path_table", f"label maps of shape {maps.shape}", "(S, X, Y, Z)")
    a, b = (maps[0], maps[-1]) if ends is None else ends
    rows = []
    for step, one in enumerate(maps):
        volumes, to_a, to_b = structure_volumes(one, spacing, scheme), dice(one, a, scheme), dice(one, b, scheme)
        for structure in scheme.structures:
            mask = one == structure.value
            rows.append(
                {
                    "step": step,
                    "position": float(position[step]),
                    "structure": structure.name,
                    "volume_ml": volumes[structure.name],
                    "dice_a": to_a[structure.name],
                    "dice_b": to_b[structure.name],
                    "components": count_components(mask),
                    "holes": count_holes(mask),
                }
            )
    return pd.DataFrame(rows)


def _decode(space: ShapeSpace, codes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(space.decode(codes[part]), dtype=np.float32) for part in batches(len(codes))])
