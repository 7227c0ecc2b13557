"""Boxes, pieces and holes of masks, and where a probability makes one: plain geometry of arrays, for every room from
data on.

Pieces (components) are voxels that touch: by faces, edges or corners (`TOUCHING`) unless said otherwise. What is not in
a mask then hangs together by faces alone (`FACES`): with both rules alike, a diagonal line would part nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from shapelab.errors import need

TOUCHING = ndimage.generate_binary_structure(3, 3)
FACES = ndimage.generate_binary_structure(3, 1)
VOXEL_MM = (0.02, 100.0)  # outside this the unit is metres or micrometres, and no resampling has an end
MOST_SKEW = 0.01  # 100 mm along one axis then lie 1 mm off, and volumes are right to a ten-thousandth
_ROUNDING = 1e-6  # of probabilities in 32 bits that were added up


def check_voxels(file: str | Path | None, spacing: Sequence[float] | np.ndarray) -> None:
    """DataError naming the file for voxels of a size that no scan has in mm: then the unit is another one."""
    need(
        VOXEL_MM[0] <= min(spacing) and max(spacing) <= VOXEL_MM[1],
        file,
        f"voxels of {' x '.join(f'{s:g}' for s in spacing)} mm",
        f"{VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm",
        "Is the unit mm? Write the file again in mm.",
    )


def skew(affine: np.ndarray) -> float:
    """How far an affine's axes are from right angles: the largest cosine between two of its columns.

    >>> round(skew(np.array([[2, 1, 0, 0], [0, 1, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1]])), 4)
    0.7071
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def reaches(share: np.ndarray, level: float = 0.5) -> np.ndarray:
    """Where a structure of these probabilities is: where they are at least 1/2, to the rounding of 32 bits.

    Exactly 1/2 is inside. Half way of a blend of two hearts a structure has 1/2 wherever one of them has it and the
    other has not, and would be lost there otherwise.

    >>> reaches(np.array([0.49, 0.5, 0.51])).tolist()
    [False, True, True]
    """
    return share >= level - _ROUNDING


def off_level(share: np.ndarray, level: float = 0.5) -> np.ndarray:
    """The same for marching cubes: what lies on the level is moved a little inside, as `reaches` has it.

    A sample that is exactly on the level would give triangles of no area and edges with four faces.
    """
    return np.where(np.abs(share - level) <= _ROUNDING, np.float32(level + 1e-4), share)


def most_probable(probabilities: np.ndarray, axis: int = 1) -> np.ndarray:
    """Channel numbers, uint8, from probabilities with the background as channel 0: of equals the last.

    So a structure that reaches 1/2 is there (`reaches`), and of a wall and its cavity the cavity, which our schemes of
    the LV list after it.

    >>> most_probable(np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [0.0, 0.5, 0.5]])).tolist()
    [1, 0, 2]
    """
    n = probabilities.shape[axis]
    return (n - 1 - np.flip(probabilities, axis).argmax(axis)).astype(np.uint8)


def bounding_box(mask: np.ndarray, margin: int | Sequence[int] | np.ndarray = 0) -> tuple[slice, ...] | None:
    """The smallest box that holds all that is not 0, as slices: `mask[bounding_box(mask)]`. None for an empty mask.

    Args:
        mask: bool or numbers, of any number of axes
        margin: voxels by which the box is widened on each side, one number or one an axis; it ends at the array's
            borders

    >>> bounding_box(np.array([[0, 0, 0, 0], [0, 3, 0, 0]]), margin=(0, 1))
    (slice(1, 2, None), slice(0, 3, None))
    """
    mask = np.asarray(mask).astype(bool, copy=False)
    axes = range(mask.ndim)
    used = [np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    if not all(len(u) for u in used):
        return None
    ends = zip(used, np.broadcast_to(margin, mask.ndim), mask.shape, strict=True)
    return tuple(slice(max(int(u[0] - m), 0), min(int(u[-1] + 1 + m), n)) for u, m, n in ends)


def cut_out(array: np.ndarray, box: Sequence[slice], reach: Sequence[int], **beyond: Any) -> np.ndarray:
    """A box of an array and what lies within `reach` voxels of it along each axis, contiguous.

    Args:
        beyond: what stands for places beyond the array's borders, as `numpy.pad` takes it; 0 by default
    """
    ends = [(b.start - int(r), b.stop + int(r), n) for b, r, n in zip(box, reach, array.shape, strict=True)]
    inside = tuple(slice(max(low, 0), min(high, n)) for low, high, n in ends)
    outside = [(max(-low, 0), max(high - n, 0)) for low, high, n in ends]
    return np.ascontiguousarray(np.pad(array[inside], outside, **beyond))


def components(mask: np.ndarray, links: np.ndarray = TOUCHING) -> tuple[np.ndarray, np.ndarray]:
    """The pieces of a mask: their numbers from 1 as a map (0 outside it), and the voxels of each; `sizes[0]` is 0.

    Args:
        links: which neighbours are one piece, as `scipy.ndimage.label` takes it
    """
    numbers, n = ndimage.label(mask, links)
    sizes = np.bincount(numbers.ravel(), minlength=n + 1)
    sizes[0] = 0
    return numbers, sizes


def largest_component(mask: np.ndarray, links: np.ndarray = TOUCHING) -> np.ndarray:
    """The largest piece of a mask, as a mask; of several alike the first; an empty mask has none."""
    numbers, sizes = components(mask, links)
    return (numbers == sizes.argmax()) & (numbers > 0)


def count_components(mask: np.ndarray) -> int:
    """Pieces of a mask (X, Y, Z); voxels that share a corner belong together."""
    return int(ndimage.label(mask, TOUCHING)[1])


def count_holes(mask: np.ndarray) -> int:
    """Pieces of what is not in a mask (X, Y, Z) that are wholly enclosed by it."""
    return int(ndimage.label(np.pad(~np.asarray(mask, dtype=bool), 1, constant_values=True), FACES)[1]) - 1
