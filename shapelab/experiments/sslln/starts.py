"""Fig. 12 of SSLLN: where the deformation may start from.

"the non-rigid refinement failed completely if the affine transform is initialised from the tissue classes. In
contrast, initialising it directly on the landmarks resulted in an accurate refinement." The paper registers label maps
with IRTK (12 degrees of freedom). Here: gradient ascent on the overlap of all structures, from centres that match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shapelab.atlas import Atlas, transform_points
from shapelab.data.scheme import LabelScheme
from shapelab.types import Triple

COARSE_MM = 6.0  # positions at which overlap is measured
MARGIN_MM = 12.0  # round the target's labels


def class_affines(
    label: np.ndarray, spacing: Triple, atlases: Sequence[Atlas], scheme: LabelScheme, steps: int = 80
) -> np.ndarray:
    """Affine maps (n, 4, 4), mm of the target -> mm of each atlas, that make the tissue classes overlap.

    label (X, Y, Z) integers of the scheme, spacing (3,) mm; atlases of one shape. Adam on 12 numbers an atlas; a
    non-convex problem, so that what it finds depends on how atlas and target lie. Deterministic.
    """
    spacing = np.asarray(spacing, float)
    at = np.argwhere(label > 0) * spacing
    places = [
        torch.arange(lo, hi + COARSE_MM, COARSE_MM)
        for lo, hi in zip(at.min(0) - MARGIN_MM, at.max(0) + MARGIN_MM, strict=True)
    ]
    x = torch.stack(torch.meshgrid(*places, indexing="ij"), -1).reshape(-1, 3).float()
    index = torch.round(x / torch.tensor(spacing, dtype=torch.float32)).long()
    inside = ((index >= 0) & (index < torch.tensor(label.shape))).all(1)
    index = torch.where(inside[:, None], index, 0)
    values = torch.as_tensor(scheme.channels(label).astype(np.int64))[tuple(index.T)] * inside
    target = F.one_hot(values, scheme.n_classes)[:, 1:].T.float()  # (C - 1, points)
    maps = torch.stack([torch.from_numpy(scheme.onehot(a.label)[1:]) for a in atlases])
    maps = F.avg_pool3d(maps, 3, 1, 1, count_include_pad=False)  # edges that a gradient can see
    size = torch.tensor(np.array(maps.shape[2:]) - 1.0).float() * torch.tensor(atlases[0].spacing).float()
    theirs = [torch.tensor((np.argwhere(a.label > 0) * a.spacing).mean(0)) for a in atlases]
    centres = torch.stack(theirs).float()[:, None]
    middle = torch.tensor(at.mean(0)).float()
    matrix = torch.eye(3).repeat(len(atlases), 1, 1).requires_grad_()
    shift = torch.zeros(len(atlases), 1, 3, requires_grad=True)
    optimiser = torch.optim.Adam([{"params": [matrix], "lr": 0.02}, {"params": [shift], "lr": 1.0}])
    for _ in range(steps):
        optimiser.zero_grad()
        _mismatch(maps, target, (x - middle) @ matrix.transpose(1, 2) + centres + shift, size).backward()
        optimiser.step()
    out = np.tile(np.eye(4), (len(atlases), 1, 1))
    out[:, :3, :3] = matrix.detach().numpy()
    out[:, :3, 3] = ((centres + shift)[:, 0] - middle @ matrix.transpose(1, 2)).detach().numpy()
    return out


def _mismatch(maps: Tensor, target: Tensor, places: Tensor, size: Tensor) -> Tensor:
    """Minus the sum over atlases of the mean soft Dice; places (n, points, 3) mm of each atlas."""
    grid = (2 * places / size - 1).flip(2)[:, :, None, None]  # the last axis first, as grid_sample has it
    found = F.grid_sample(maps, grid, align_corners=True)[..., 0, 0]  # (n, C - 1, points)
    both = (found * target).sum(2)
    return -(2 * both / (found.square().sum(2) + target.sum(1) + 1e-6)).mean(1).sum()


def started_from(
    affines: np.ndarray, atlases: Sequence[Atlas], label: np.ndarray, spacing: Triple
) -> tuple[np.ndarray, list[Atlas]]:
    """Landmarks of a target and atlases whose landmark affine is the map given: for `shapelab.atlas.refine`."""
    at = np.argwhere(label > 0) * np.asarray(spacing, float)
    low, high = at.min(0), at.max(0)
    points = np.array([low, high, *(np.where(np.arange(3) == a, high, low) for a in range(3)), (low + high) / 2])
    return points, [replace(a, landmarks=transform_points(m, points)) for a, m in zip(atlases, affines, strict=True)]
