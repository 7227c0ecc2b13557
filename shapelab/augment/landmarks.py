"""Random maps of volumes with landmarks, and gaps where slices are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from shapelab.augment.affine import AffineRanges, random_matrices
from shapelab.device import sent


def random_maps(n: int, ranges: AffineRanges, generator: torch.Generator | None = None) -> Tensor:
    """n affine maps (n, 4, 4) as the paper draws them: in-plane translation, isotropic scaling, and a rotation about
    *one* axis, x, y or z, drawn for each volume."""
    axes = torch.randint(3, (n,), generator=generator)
    about = [
        random_matrices(
            n, replace(ranges, rotation=tuple(r if i == k else 0.0 for i, r in enumerate(ranges.rotation))), generator
        )
        for k in range(3)
    ]
    return torch.stack(about)[axes, torch.arange(n)]


def move_landmarks(landmarks: Tensor, matrices: Tensor, shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Landmarks (N, L, 3) in voxels after affine maps (N, 4, 4) in mm about the centre of the grid, as `affine_pair`
    moves the volume."""
    numbers = torch.tensor([*spacing, *((n - 1) / 2 for n in shape)], dtype=torch.float64)
    unit, centre = sent(numbers, landmarks.device).view(2, 3)
    matrices = sent(matrices, landmarks.device)
    mm = (landmarks.double() - centre) * unit
    moved = mm @ matrices[:, :3, :3].transpose(1, 2) + matrices[:, None, :3, 3]
    return (moved / unit + centre).float()


def random_gaps(images: Tensor, share: float, most: int) -> Tensor:
    """Volumes (N, X, Y, S), in a share of which (drawn) 1 to `most` consecutive slices are zero, anywhere."""
    n, slices = len(images), images.shape[3]
    width = torch.randint(1, most + 1, (n,)) * (torch.rand(n) < share)
    first = (torch.rand(n) * (slices - width + 1)).long()
    behind = torch.arange(slices) - first[:, None]
    hidden = (behind >= 0) & (behind < width[:, None])
    return images.masked_fill(hidden[:, None, None].to(images.device), 0)
