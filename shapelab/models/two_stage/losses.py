"""Losses of the two-stage U-Net, its equations 1 to 4.

    S_c    = (2 sum t_c p_c + e) / (sum t_c + sum p_c + e)        (1)   soft Dice of structure c
    L      = 1 - sum_c w_c S_c                                    (2)   w_c of 1 / N_c
    S_ROI  = (1) of what is not background, L_ROI = 1 - S_ROI     (3, 4)

Deviations:
    Weights: as printed, 1 / N_c with N_c in thousands leaves next to no gradient. They are normalised to 1 over the
        structures that are there; N_c is counted once, over all training volumes; in equation 4 the weight is 1.
    Sums: the printed sums run over the N_c voxels of one class; here over all voxels, else no voxel outside a structure
        is ever told that it is none.
    Absent structures: have no part in the sum, and the background none at all.
    Cross-entropy: Dice alone ends as background (notebook 09 shows the curve); it is added, weighted. In step 1 it is
        of heart against background, as L_ROI is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from shapelab.training.losses import onehot

SMOOTH = 1.0  # voxels, e of equations 1 and 3


def class_weights(counts: Tensor) -> Tensor:
    """w_c, (C,) float32, of voxels per class (C,): 1 / N_c, the mean of the structures' 1; 0 of the background and of
    what has no voxel."""
    weights = torch.where(counts > 0, 1 / counts.clamp(min=1).double(), 0.0)
    weights[0] = 0
    return (weights * (weights > 0).sum() / weights.sum().clamp(min=1e-12)).float()


def dice_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Equation 2 of a batch as one image.

    Args:
        logits: (N, C, X, Y, Z)
        labels: (N, X, Y, Z) channel numbers
        weights: (C,) of `class_weights`; normalised here over the structures that are there
    """
    axes = (0, *range(2, logits.ndim))
    probabilities, truth = logits.float().softmax(1), onehot(labels, logits.shape[1])
    size = truth.sum(axes)
    scores = (2 * (truth * probabilities).sum(axes) + SMOOTH) / (size + probabilities.sum(axes) + SMOOTH)
    here = torch.where(size > 0, weights, 0.0)
    return (here * (1 - scores)).sum() / here.sum().clamp(min=1e-12)


def roi_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L_ROI, equations 3 and 4: 1 - soft Dice of heart against background. Arguments as of `dice_loss`."""
    heart, truth = 1 - logits.float().softmax(1)[:, 0], (labels > 0).float()
    return 1 - (2 * (truth * heart).sum() + SMOOTH) / (truth.sum() + heart.sum() + SMOOTH)


def roi_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of heart against background. Arguments as of `dice_loss`."""
    logits = logits.float()
    odds = logits[:, 1:].logsumexp(1) - logits[:, 0]
    return F.binary_cross_entropy_with_logits(odds, (labels > 0).float())
