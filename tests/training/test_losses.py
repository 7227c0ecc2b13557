"""Losses against values worked out by hand and against other implementations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapelab.training.losses import code_distance, cross_entropy, dice_scores, onehot, soft_dice_loss


def maps(seed, n=2, classes=4, shape=(5, 4, 3)):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, classes, (n, *shape), dtype=np.uint8))


def test_onehot_is_one_at_the_label_and_laid_out_channels_last():
    labels = maps(0)
    hot = onehot(labels, 4)
    assert hot.shape == (2, 4, 5, 4, 3) and hot.dtype == torch.float32 and (hot.sum(1) == 1).all()
    assert torch.equal(hot.argmax(1), labels.long())
    assert hot.is_contiguous(memory_format=torch.channels_last_3d)
    assert onehot(labels, 4, torch.bfloat16).dtype == torch.bfloat16


def test_cross_entropy_by_hand():
    logits = torch.zeros(1, 2, 2, 1, 1)
    logits[0, 1, 1] = math.log(3)  # voxel 0: 1/2 and 1/2; voxel 1: 1/4 and 3/4
    labels = torch.tensor([0, 1], dtype=torch.uint8).view(1, 2, 1, 1)
    expected = -(math.log(1 / 2) + math.log(3 / 4)) / 2
    assert cross_entropy(logits, labels).item() == pytest.approx(expected)
    weighted = -(1 * math.log(1 / 2) + 3 * math.log(3 / 4)) / 4
    assert cross_entropy(logits, labels, torch.tensor([1.0, 3.0])).item() == pytest.approx(weighted)


def test_cross_entropy_of_bf16_logits_is_computed_in_fp32():
    assert cross_entropy(torch.randn(1, 4, 5, 4, 3).bfloat16(), maps(0, 1)).dtype == torch.float32


def test_soft_dice_by_hand():
    labels = torch.tensor([0, 1, 1, 0], dtype=torch.uint8).view(1, 4, 1, 1)
    logits = torch.zeros(1, 2, 4, 1, 1)  # p = 1/2 everywhere: overlap 1, sizes 2 and 2
    assert soft_dice_loss(logits, labels, smooth=0).item() == pytest.approx(1 - 2 * 1 / 4)
    assert soft_dice_loss(logits, labels, smooth=1).item() == pytest.approx(1 - 3 / 5)
    sure = 60 * (onehot(labels, 2) - 0.5)
    assert soft_dice_loss(sure, labels).item() == pytest.approx(0, abs=1e-6)
    nothing = torch.zeros_like(labels)
    assert soft_dice_loss(60 * (onehot(nothing, 2) - 0.5), nothing).item() == pytest.approx(0, abs=1e-6)


def test_soft_dice_leaves_the_background_out():
    labels = torch.tensor([0, 0, 0, 1], dtype=torch.uint8).view(1, 4, 1, 1)
    other = torch.tensor([0, 0, 0, 2], dtype=torch.uint8).view(1, 4, 1, 1)
    # both structures (0 + 1) / (1 + 1); the background, which is right, would make it 1 - (1 + 1/2 + 1/2) / 3
    assert soft_dice_loss(60 * (onehot(other, 3) - 0.5), labels).item() == pytest.approx(1 / 2)


def test_code_distance_by_hand():
    assert code_distance(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])).item() == 7.0


def test_dice_by_hand():
    labels = torch.tensor([1, 1, 0, 2], dtype=torch.uint8).view(1, 4, 1, 1)
    predicted = torch.tensor([1, 0, 0, 1], dtype=torch.uint8).view(1, 4, 1, 1)
    # structure 1: 2 * 1 / (2 + 2); structure 2: one empty; structure 3: absent from both
    assert dice_scores(predicted, labels, 4).tolist() == [[0.5, 0.0, 1.0]]


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 6))
def test_dice_agrees_with_counting_sets(seed, n, classes):
    a, b = maps(seed, n, classes), maps(seed + 1, n, classes)
    got = dice_scores(a, b, classes)
    assert got.shape == (n, classes - 1)
    for i in range(n):
        for k in range(1, classes):
            x, y = set(np.flatnonzero(a[i].numpy() == k)), set(np.flatnonzero(b[i].numpy() == k))
            expected = 2 * len(x & y) / (len(x) + len(y)) if x or y else 1.0
            assert got[i, k - 1].item() == pytest.approx(expected)
    assert torch.equal(dice_scores(a, a, classes), torch.ones(n, classes - 1))
    assert torch.equal(got, dice_scores(b, a, classes))
