"""Affine maps and label swaps: known maps, two paths with one result, an independent resampler."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from shapelab.augment.affine import (
    AffineRanges,
    Places,
    _voxel_matrices,
    affine_pair,
    apply_affine,
    images_by_torch,
    labels_by_torch,
    random_affine,
    random_affine_pair,
    random_matrices,
    swap_labels,
)
from shapelab.errors import UsageError

SPACING = (2.0, 2.0, 4.0)
NONE = AffineRanges((0, 0, 0), 0, 0, 0, (0, 0, 0))


def blobs(n=3, shape=(20, 22, 12), classes=4):
    """Balls of every label, not symmetric about anything."""
    x, y, z = np.meshgrid(*[np.arange(s) for s in shape], indexing="ij")
    out = np.zeros((n, *shape), np.uint8)
    for i in range(n):
        for k in range(1, classes):
            centre = np.array([6 + 3 * k, 14 - 3 * k + i, 4 + k])
            out[i][(x - centre[0]) ** 2 + (y - centre[1]) ** 2 + 4 * (z - centre[2]) ** 2 < 26 - 4 * k] = k
    return torch.from_numpy(out)


def matrix(linear=None, shift=(0, 0, 0), n=3):
    out = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
    if linear is not None:
        out[:, :3, :3] = torch.tensor(linear, dtype=torch.float64)
    out[:, :3, 3] = torch.tensor(shift, dtype=torch.float64)
    return out


def test_identity_changes_nothing():
    labels = blobs()
    assert torch.equal(apply_affine(labels, matrix(), SPACING), labels)
    assert torch.equal(random_affine(labels, SPACING, NONE), labels)


def test_translation_is_in_mm_and_brings_background():
    labels = blobs()
    moved = apply_affine(labels, matrix(shift=(4.0, -2.0, 8.0)), SPACING)  # 2, -1 and 2 voxels
    assert torch.equal(moved[:, 2:, :-1, 2:], labels[:, :-2, 1:, :-2])
    assert not moved[:, :2].any() and not moved[:, :, -1:].any() and not moved[..., :2].any()


def test_a_quarter_turn_in_plane_takes_x_to_y():
    labels = blobs(shape=(20, 20, 12))
    moved = apply_affine(labels, matrix([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), SPACING)
    assert torch.equal(moved, torch.rot90(labels, 1, dims=(1, 2)))
    angle = torch.tensor(math.pi / 2, dtype=torch.float64)
    from shapelab.augment.affine import _rotations

    turned = matrix()
    turned[:, :3, :3] = _rotations(angle.repeat(3), 2)
    assert torch.equal(apply_affine(labels, turned, SPACING), moved)


def test_a_turn_about_x_heeds_the_voxels_shape():
    """y and z voxels differ in size: a ball in mm stays a ball."""
    x, y, z = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip((16, 32, 16), SPACING)], indexing="ij")
    ball = torch.from_numpy((x**2 + y**2 + z**2 < 14**2).astype(np.uint8))[None]
    c, s = math.cos(0.6), math.sin(0.6)
    moved = apply_affine(ball, matrix([[1, 0, 0], [0, c, -s], [0, s, c]], n=1), SPACING)
    assert 2 * (moved & ball).sum() / (moved.sum() + ball.sum()) > 0.96


def test_scale_multiplies_volume():
    x, y, z = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip((64, 64, 40), SPACING)], indexing="ij")
    ball = torch.from_numpy((x**2 + y**2 + z**2 < 45**2).astype(np.uint8))[None]
    moved = apply_affine(ball, matrix([[1.2, 0, 0], [0, 1.2, 0], [0, 0, 1.2]], n=1), SPACING)
    assert moved.sum() / ball.sum() == pytest.approx(1.2**3, rel=0.04)


@given(st.integers(0, 10_000))
def test_both_paths_agree_and_scipy_with_them(seed):
    labels, ranges = blobs(), AffineRanges((20, 20, 40), 0.3, 0.2, 0.2, (8, 8, 8))
    matrices = random_matrices(3, ranges, torch.Generator().manual_seed(seed))
    maps = _voxel_matrices(matrices, labels.shape[1:], SPACING)
    ours = apply_affine(labels, matrices, SPACING)
    assert (ours != labels_by_torch(Places(maps), labels)).sum() <= 2  # fp32 against fp64 at a tie
    soft = np.stack(
        [
            affine_transform(
                np.pad((labels[0].numpy() == k).astype(float), 1),
                maps[0, :, :3].numpy(),
                maps[0, :, 3].numpy() + 1,
                labels.shape[1:],
                order=1,
            )
            for k in range(1, 4)
        ]
    )
    full = np.concatenate([1 - soft.sum(0, keepdims=True), soft])
    highest = np.sort(full, axis=0)
    clear = highest[-1] - highest[-2] > 1e-6  # scipy has its own way with ties
    assert (full.argmax(0)[clear] == ours[0].numpy()[clear]).all() and clear.mean() > 0.99


def test_paths_agree_where_no_voxel_is_background():
    labels = blobs() % 3 + 1
    maps = matrix(shift=(9.0, 3.0, 1.0))
    other = labels_by_torch(Places(_voxel_matrices(maps, labels.shape[1:], SPACING)), labels)
    assert torch.equal(apply_affine(labels, maps, SPACING), other) and (other == 0).any()


def test_draws_stay_in_their_ranges_and_follow_the_generator():
    ranges = AffineRanges((0, 0, 0), 0.1, 0, 0, (3.0, 0.0, 5.0))
    drawn = random_matrices(2000, ranges, torch.Generator().manual_seed(0))
    factors = drawn[:, 0, 0]
    assert 0.9 <= factors.min() < 0.905 and 1.095 < factors.max() <= 1.1
    assert torch.equal(drawn[:, 0, 0], drawn[:, 2, 2]) and (drawn[:, 1, 3] == 0).all()
    assert drawn[:, 2, 3].abs().max() <= 5 and drawn[:, 0, 3].abs().max() <= 3
    assert torch.equal(drawn, random_matrices(2000, ranges, torch.Generator().manual_seed(0)))
    assert not torch.equal(drawn, random_matrices(2000, ranges, torch.Generator().manual_seed(1)))
    turn = random_matrices(500, AffineRanges((0, 0, 30), 0, 0, 0, (0, 0, 0)), torch.Generator().manual_seed(0))
    angles = torch.atan2(turn[:, 1, 0], turn[:, 0, 0]).rad2deg()
    assert 29 < angles.abs().max() <= 30 and torch.allclose(
        torch.linalg.det(turn), torch.ones(500, dtype=torch.float64)
    )
    sheared = random_matrices(500, AffineRanges((0, 0, 0), 0, 0, 0.3, (0, 0, 0)), torch.Generator().manual_seed(0))
    assert torch.allclose(torch.linalg.det(sheared), torch.ones(500, dtype=torch.float64))  # shear keeps the volume


def test_each_map_of_a_batch_moves_on_its_own():
    labels = blobs(1).repeat(4, 1, 1, 1)
    moved = random_affine(labels, SPACING, generator=torch.Generator().manual_seed(0))
    assert len({m.numpy().tobytes() for m in moved}) == 4


def pictures(labels, seed=0):
    """An image of its own for each label map."""
    return labels / 4 + 0.1 * torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 10_000))
def test_image_and_label_move_together_by_both_paths_and_scipy(seed):
    labels, ranges = blobs(), AffineRanges((20, 20, 40), 0.3, 0.2, 0.2, (8, 8, 8))
    images, matrices = pictures(labels, seed), random_matrices(3, ranges, torch.Generator().manual_seed(seed))
    maps = _voxel_matrices(matrices, labels.shape[1:], SPACING)
    moved, moved_labels = affine_pair(images, labels, matrices, SPACING)
    assert torch.equal(moved_labels, apply_affine(labels, matrices, SPACING))
    assert torch.allclose(moved, images_by_torch(Places(maps), images), atol=2e-5)
    for i in range(3):
        padded = np.pad(images[i].double().numpy(), 1)  # beyond the grid all is 0, and fades to it within a voxel
        m = maps[i].numpy()
        expected = affine_transform(padded, m[:, :3], m[:, 3] + 1, labels.shape[1:], order=1)
        assert np.allclose(moved[i].numpy(), expected, atol=1e-5)


def test_a_pair_shifted_by_whole_voxels_is_exact_and_brings_zeros():
    labels = blobs()
    images = pictures(labels)
    moved, moved_labels = affine_pair(images, labels, matrix(shift=(4.0, -2.0, 8.0)), SPACING)  # 2, -1 and 2 voxels
    assert torch.equal(moved[:, 2:, :-1, 2:], images[:, :-2, 1:, :-2])
    assert torch.equal(moved_labels[:, 2:, :-1, 2:], labels[:, :-2, 1:, :-2])
    assert not moved[:, :2].any() and not moved[:, :, -1:].any() and not moved[..., :2].any()
    still, still_labels = random_affine_pair(images, labels, SPACING, NONE)
    assert torch.equal(still, images) and torch.equal(still_labels, labels)


def test_paths_agree_on_a_single_slice():
    labels = blobs(shape=(20, 22, 1))
    images = pictures(labels)
    maps = matrix(shift=(3.0, 1.0, 1.0))
    moved, _ = affine_pair(images, labels, maps, SPACING)
    other = images_by_torch(Places(_voxel_matrices(maps, (20, 22, 1), SPACING)), images)
    assert torch.allclose(moved, other, atol=1e-6)
    assert torch.allclose(
        moved[0, 5, 9, 0],
        0.75 * (images[0, 3, 8, 0] + images[0, 4, 8, 0] + images[0, 3, 9, 0] + images[0, 4, 9, 0]) / 4,
    )


@pytest.mark.parametrize("dtype, close", [(torch.float16, 1e-3), (torch.bfloat16, 8e-3), (torch.float64, 1e-6)])
def test_images_of_any_floating_type_keep_it(dtype, close):
    labels = blobs()
    images, generator = pictures(labels), torch.Generator()
    moved, _ = random_affine_pair(images.to(dtype), labels, SPACING, generator=generator.manual_seed(0))
    exact, _ = random_affine_pair(images, labels, SPACING, generator=generator.manual_seed(0))
    assert moved.dtype == dtype and torch.allclose(moved.float(), exact, atol=close)


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_swaps_hit_the_share_asked_for_and_all_other_classes_alike(p):
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (2, 50, 50, 20), dtype=np.uint8))
    swapped = swap_labels(labels, p, 4, torch.Generator().manual_seed(0))
    assert swapped.dtype == torch.uint8 and int(swapped.max()) <= 3
    changed = swapped != labels
    assert changed.float().mean().item() == pytest.approx(p, abs=0.005)
    for k in range(4):
        went = torch.bincount(swapped[changed & (labels == k)].long(), minlength=4) / (changed & (labels == k)).sum()
        assert went[k] == 0 and np.allclose(np.delete(went.numpy(), k), 1 / 3, atol=0.02)


def test_no_swap_at_zero_and_two_classes_flip():
    labels = blobs()
    assert torch.equal(swap_labels(labels, 0, 4), labels)
    assert torch.equal(swap_labels((labels > 0).to(torch.uint8), 1.0, 2), (labels == 0).to(torch.uint8))


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: apply_affine(blobs().float(), matrix(), SPACING),
            r"labels: found shape .* of torch.float32; expected",
        ),
        (lambda: apply_affine(blobs()[0], matrix(), SPACING), r"labels: found shape \(20, 22, 12\)"),
        (
            lambda: apply_affine(blobs(), matrix(n=2), SPACING),
            r"matrices: found shape \(2, 4, 4\); expected \(3, 4, 4\)",
        ),
        (lambda: apply_affine(blobs(), matrix(), (1, 1)), "spacing: found"),
        (lambda: apply_affine(blobs(), matrix(), (1, 0, 1)), "spacing: found"),
        (lambda: affine_pair(blobs(), blobs(), matrix(), SPACING), r"images: found shape .* of torch.uint8"),
        (lambda: affine_pair(blobs()[0].float(), blobs(), matrix(), SPACING), r"images: found shape \(20, 22, 12\)"),
        (lambda: affine_pair(blobs().float(), blobs(2), matrix(), SPACING), r"labels: found shape \(2, 20, 22, 12\)"),
        (lambda: affine_pair(blobs().float(), blobs().int(), matrix(), SPACING), "labels: found .* of torch.int32"),
        (lambda: affine_pair(blobs().float(), blobs(), matrix(n=2), SPACING), "matrices: found"),
        (lambda: AffineRanges(scale=-0.1), "AffineRanges: found"),
        (lambda: AffineRanges(rotation=(1, 2)), "three each"),
        (lambda: AffineRanges(scale=1.0), "below 1"),
        (lambda: AffineRanges(shear=float("nan")), "finite"),
        (lambda: swap_labels(blobs(), 1.5, 4), "p: found 1.5"),
        (lambda: swap_labels(blobs(), 0.1, 1), "n_classes: found 1"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(UsageError, match=words):
        call()
