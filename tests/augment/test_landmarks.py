"""Maps drawn for volumes with landmarks, and slices that are missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapelab.augment import AffineRanges, affine_pair
from shapelab.models import sslln


def test_missing_slices_are_consecutive_and_as_many_as_asked_for():
    torch.manual_seed(0)
    images = torch.rand(400, 2, 2, 9) + 1
    holed = sslln.random_gaps(images, 0.5, 4)
    missing = (holed == 0).all((1, 2))
    assert torch.equal(holed, images * ~missing[:, None, None])
    count = missing.sum(1)
    assert set(count.tolist()) == {0, 1, 2, 3, 4} and 0.4 < float((count > 0).float().mean()) < 0.6
    changes = missing.int().diff(dim=1).abs().sum(1) + missing[:, 0].int() + missing[:, -1].int()
    assert set(changes[count > 0].tolist()) == {2}  # one block: a start and an end
    assert missing.any(0).all()  # anywhere


def test_landmarks_move_with_the_volume():
    spacing = (2.0, 2.0, 3.0)
    image = torch.zeros(3, 32, 32, 16)
    place = torch.tensor([[[12.0, 18.0, 7.0]]] * 3)
    image[:, 10:15, 16:21, 6:9] = 1
    maps = sslln.random_maps(3, AffineRanges((20, 20, 20), 0.1, 0, 0, (6, 6, 0)), torch.Generator().manual_seed(0))
    moved, _ = affine_pair(image, torch.zeros(3, 32, 32, 16, dtype=torch.uint8), maps, spacing)
    expected = sslln.move_landmarks(place, maps, (32, 32, 16), spacing)
    for one, where in zip(moved, expected[:, 0], strict=True):
        weights = one / one.sum()
        centre = [
            float((weights.sum([a for a in range(3) if a != k]) * torch.arange(one.shape[k])).sum()) for k in range(3)
        ]
        assert where.tolist() == pytest.approx(centre, abs=0.15)


def test_rotations_are_about_one_axis_and_nothing_is_sheared():
    maps = sslln.random_maps(50, AffineRanges((20, 20, 20), 0.1, 0, 0, (6, 6, 0)), torch.Generator().manual_seed(0))
    linear = maps[:, :3, :3].numpy()
    scale = np.cbrt(np.linalg.det(linear))
    turned = linear / scale[:, None, None]
    assert np.allclose(turned @ turned.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    kept = turned[:, range(3), range(3)] > 1 - 1e-12  # the axis it turns about
    assert (kept.sum(1) == 1).all() and kept.any(0).all()
    assert (0.9 <= scale).all() and (scale <= 1.1).all() and np.allclose(maps[:, 2, 3], 0)
