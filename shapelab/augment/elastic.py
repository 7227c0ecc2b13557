"""Elastic deformation of images with their label maps, in one interpolation with the affine map; mirror images.

As in `shapelab.augment.affine`: a random wrapper (`random_warp_pair`) round a deterministic core (`warp_pair`), with
one result on the CPU (numba) and on a GPU (torch).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Generator, Tensor

from shapelab.augment.affine import AffineRanges, Places, check_generator, check_pair, pulled, random_matrices
from shapelab.device import sent
from shapelab.errors import in_range, must, one_of, spacing3


@dataclass(frozen=True)
class ElasticRanges:
    """How far a random deformation may go, at knots that lie on a lattice over the grid.

    A large `knot_mm` along z, more than the stack is long, moves all slices alike, and an sd of 0 along z leaves each
    in its plane: so does a short-axis stack keep its slices.

    Tissue folds where sd_mm is large against knot_mm: of 2,500 draws over the field of a whole heart (192 x 168 x 192
    mm) none did at the defaults (the least determinant of the Jacobian was 0.11); with 5 mm 20 of 60 did.
    """

    # fmt: off
    knot_mm: tuple[float, float, float] = (32.0, 32.0, 32.0)   # least distance of knots along each axis
    sd_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)        # of the displacement along each axis; 0 leaves it out
    # fmt: on

    def __post_init__(self) -> None:
        object.__setattr__(self, "knot_mm", tuple(self.knot_mm))  # JSON gives lists
        object.__setattr__(self, "sd_mm", tuple(self.sd_mm))
        numbers = [*self.knot_mm, *self.sd_mm]
        must(
            len(self.knot_mm) == len(self.sd_mm) == 3
            and all(math.isfinite(v) and v >= 0 for v in numbers)
            and min(self.knot_mm) > 0,
            "ElasticRanges",
            self,
            "three finite distances above 0 and three finite sd from 0",
        )


def random_knots(
    n: int, shape: Sequence[int], spacing: Sequence[float], ranges: ElasticRanges, generator: Generator | None = None
) -> Tensor:
    """Displacements (n, 3, gx, gy, gz) float64 in mm at knots over a grid, normal and of mean 0; see `warp_pair`.

    Drawn on the CPU, so that a seed gives the same on every device; generator None is torch's default one.
    """
    check_generator(generator, "cpu")
    lengths = [(size - 1) * mm for size, mm in zip(shape, spacing3("spacing", spacing))]
    knots = [1 + int(length / mm + 1e-9) for length, mm in zip(lengths, ranges.knot_mm)]
    draws = torch.randn(n, 3, *knots, generator=generator, dtype=torch.float64)
    return draws * torch.tensor(ranges.sd_mm, dtype=torch.float64).view(3, 1, 1, 1)


def random_warp_pair(
    images: Tensor,
    labels: Tensor,
    spacing: Sequence[float],
    affine: AffineRanges | None = None,
    elastic: ElasticRanges | None = None,
    generator: Generator | None = None,
    fill: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Move every image and its label map by a random affine map and a random deformation, interpolated once.

    Args:
        images: (N, X, Y, Z) of any floating type
        labels: (N, X, Y, Z) uint8
        spacing: mm per voxel along x, y, z
        affine: how far its affine map may go; None is `AffineRanges()`
        elastic: how far its deformation may go; None leaves it out: then this is `random_affine_pair`
        generator: on the CPU, so that a seed gives the same on every device; None is torch's default one
        fill: what the image shows outside the grid

    Returns:
        See `warp_pair`. The affine maps are drawn first, then the displacements (`random_knots`).
    """
    matrices = random_matrices(len(images), affine or AffineRanges(), generator)
    displacement = None
    if elastic is not None:
        displacement = random_knots(len(images), images.shape[1:], spacing, elastic, generator)
    return warp_pair(images, labels, matrices, displacement, spacing, fill)


def warp_pair(
    images: Tensor,
    labels: Tensor,
    matrices: Tensor,
    displacement: Tensor | None,
    spacing: Sequence[float],
    fill: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Move images and their label maps by the same affine maps and deformations, interpolated once.

    The voxel at p of the output shows what lies at A^-1 (p + u(p)) in the input: A is the affine map, u the
    displacement. So a u that is the same everywhere moves what is seen by -u.

    Args:
        images: (N, X, Y, Z) of any floating type; interpolated linearly, in fp32 at least
        labels: (N, X, Y, Z) uint8; each voxel takes the label of most weight, see `apply_affine`
        matrices: (N, 4, 4) in mm about the centre of the grid, input -> output
        displacement: (N, 3, gx, gy, gz) in mm at knots that lie evenly along each axis of the output, from the first
            voxel to the last; one knot alone stands for all of its axis; None is none. Between knots u is the cubic
            spline through them, with slope 0 at the ends.
        spacing: mm per voxel along x, y, z
        fill: what the image shows outside the grid, where the label is background; both fade alike, within a voxel of
            the border (see `affine_pair`)

    Returns:
        A tuple of

        - images, labels: of the same types, on the same device. No gradient flows through.

        Raises UsageError for a wrong shape or type.
    """
    check_pair(images, labels)
    in_range("fill", fill, -math.inf)
    places = Places.of(labels, matrices, spacing)
    if displacement is not None:
        must(
            displacement.ndim == 5
            and displacement.shape[:2] == (len(images), 3)
            and min(displacement.shape[2:]) > 0
            and bool(displacement.isfinite().all()),
            "displacement",
            f"shape {tuple(displacement.shape)}",
            f"({len(images)}, 3, gx, gy, gz) of finite numbers, a knot an axis at least",
        )
        voxels = displacement.to("cpu", torch.float64) / torch.tensor(spacing).double().view(3, 1, 1, 1)
        places = replace(
            places,
            knots=(places.maps[:, :, :3] @ voxels.flatten(2)).view_as(voxels),
            tables=[torch.from_numpy(_table(*sizes)) for sizes in zip(images.shape[1:], displacement.shape[2:])],
        )
    fine = images.detach().to(torch.promote_types(images.dtype, torch.float32))
    moved, moved_labels = pulled(places, fine - fill, labels)
    return (moved + fill).to(images.dtype), moved_labels


def random_flip_pair(
    images: Tensor, labels: Tensor, axes: Sequence[int], generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Mirror every image and its label map along each of some axes, with a chance of 1/2 each.

    Only where a mirror image is one that a scanner could give. The order of a short-axis stack's slices is a matter of
    the scan, so it may be turned round. Left and right of a heart are none: its mirror image is another organ (situs
    inversus), which a network must not be told to be a heart like all others.

    Args:
        images: (N, X, Y, Z) of any floating type
        labels: (N, X, Y, Z)
        axes: of 0, 1 and 2, for X, Y and Z
        generator: on the CPU; None is torch's default one

    Returns:
        A tuple of

        - images, labels: of the same types, on the same device

        Raises UsageError for a wrong shape, or an axis that is none of these.
    """
    check_pair(images, labels)
    check_generator(generator, "cpu")
    mirrored = torch.rand(len(images), len(axes), generator=generator) < 0.5
    for axis, rows in zip(axes, sent(mirrored, images.device).view(len(images), len(axes), 1, 1, 1).unbind(1)):
        side = one_of("axis", axis, (0, 1, 2)) + 1
        images, labels = (torch.where(rows, batch.flip(side), batch) for batch in (images, labels))
    return images, labels


@lru_cache(maxsize=64)
def _table(size: int, knots: int) -> np.ndarray:
    """What each of the knots along an axis of `size` voxels adds to each voxel: (size, knots) float64, rows of sum 1.

    Kept: not to be written into.
    """
    if knots == 1:
        return np.ones((size, 1))
    return CubicSpline(np.arange(knots), np.eye(knots), bc_type="clamped")(np.linspace(0, knots - 1, size))
