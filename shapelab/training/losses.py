"""Losses and the training-time Dice, on tensors (N, C, X, Y, Z) on any device.

What is reported in tables comes from `shapelab.metrics`; `dice_scores` here is the same definition, kept on the device
so that it can be logged while training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def onehot(channels: Tensor, n_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Channel numbers (N, X, Y, Z) -> one-hot (N, C, X, Y, Z), laid out channels last, as the convolutions like it."""
    classes = torch.arange(n_classes, device=channels.device, dtype=channels.dtype)
    return (channels.unsqueeze(-1) == classes).to(dtype).movedim(-1, 1)


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over voxels of -log softmax(logits)[label]: L_x of the ACNN paper, section II-B.

    logits (N, C, X, Y, Z); labels (N, X, Y, Z) channel numbers, any integer type; weights (C,) per class or None
    """
    return F.cross_entropy(logits.float(), labels.long(), weight=weights)


def soft_dice_loss(logits: Tensor, labels: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - mean soft Dice of the structures (the background left out), per sample and class, then averaged.

    `smooth` voxels are added above and below, so that a structure absent from both counts as 1.
    """
    probabilities = logits.float().softmax(1)[:, 1:]
    truth = onehot(labels, logits.shape[1])[:, 1:]
    axes = tuple(range(2, logits.ndim))
    overlap = (probabilities * truth).sum(axes)
    size = probabilities.sum(axes) + truth.sum(axes)
    return 1 - ((2 * overlap + smooth) / (size + smooth)).mean()


def code_distance(codes: Tensor, others: Tensor) -> Tensor:
    """Mean over samples of the squared Euclidean distance of codes (N, d): L_h and L_he of the ACNN paper."""
    return (codes.float() - others.float()).square().sum(1).mean()


def dice_scores(predicted: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Dice of each structure, (N, C - 1) float32; a structure absent from both counts as 1.

    Args:
        predicted: channel numbers (N, X, Y, Z)
        labels: channel numbers (N, X, Y, Z)
    """
    # counted class by class: `bincount` would make a GPU be waited for
    classes = torch.arange(1, n_classes, dtype=torch.uint8, device=labels.device)[:, None]
    made, true = (maps.reshape(len(maps), 1, -1).to(torch.uint8) == classes for maps in (predicted, labels))
    overlap, *sizes = (mask.sum(2, dtype=torch.int32).double() for mask in (made & true, made, true))  # (N, C - 1)
    size = sum(sizes)
    return torch.where(size > 0, 2 * overlap / size.clamp(min=1), 1.0).float()
