"""Deformations and mirror images: known ones, two paths with one result, an independent resampler, no folds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from shapelab.augment.affine import (
    AffineRanges,
    Places,
    affine_pair,
    images_by_torch,
    labels_by_torch,
    random_affine_pair,
    random_matrices,
)
from shapelab.augment.elastic import (
    ElasticRanges,
    _table,
    random_flip_pair,
    random_knots,
    random_warp_pair,
    warp_pair,
)
from shapelab.errors import UsageError

SPACING = (2.0, 1.5, 4.0)
SHAPE = (20, 22, 12)
STILL = AffineRanges((0, 0, 0), 0, 0, 0, (0, 0, 0))


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def eye(n):
    return torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)


def pair(n=3, shape=SHAPE, seed=0, sd=2.5):
    """Smooth images from -1 to 1, each its own, and label maps of four levels of them."""
    noise = np.random.default_rng(seed).normal(size=(n, *shape))
    smooth = np.stack([gaussian_filter(one, sd, mode="constant") for one in noise])
    smooth /= np.abs(smooth).max((1, 2, 3), keepdims=True)
    return torch.from_numpy(smooth.astype(np.float32)), torch.from_numpy(np.digitize(smooth, (-0.3, 0, 0.3))).byte()


def field(knots, shape):
    """The displacement (3, X, Y, Z) in mm at every voxel."""
    tables = [_table(size, n) for size, n in zip(shape, knots.shape[1:])]
    return np.einsum("cijk,xi,yj,zk->cxyz", knots.numpy(), *tables, optimize=True)


def dice(a, b):
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_no_displacement_is_the_affine_map_bit_by_bit():
    images, labels = pair()
    matrices = random_matrices(3, AffineRanges(), gen())
    moved, moved_labels = affine_pair(images, labels, matrices, SPACING)
    for none in (None, torch.zeros(3, 3, 4, 1, 2)):
        warped, warped_labels = warp_pair(images, labels, matrices, none, SPACING)
        assert torch.equal(warped, moved) and torch.equal(warped_labels, moved_labels)
    ours = random_warp_pair(images, labels, SPACING, None, None, gen(5))
    theirs = random_affine_pair(images, labels, SPACING, None, gen(5))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    elastic = random_warp_pair(images, labels, SPACING, None, ElasticRanges(sd_mm=(0, 0, 0)), gen(5))
    assert all(torch.equal(a, b) for a, b in zip(elastic, theirs, strict=True))


def test_one_displacement_everywhere_moves_what_is_seen_the_other_way():
    images, labels = pair()
    knots = torch.tensor([4.0, -1.5, 8.0]).view(1, 3, 1, 1, 1).expand(3, 3, 4, 1, 2)  # 2, -1 and 2 voxels
    moved, moved_labels = warp_pair(images, labels, eye(3), knots, SPACING)
    assert torch.allclose(moved[:, :-2, 1:, :-2], images[:, 2:, :-1, 2:], atol=1e-5)
    assert torch.equal(moved_labels[:, :-2, 1:, :-2], labels[:, 2:, :-1, 2:])
    assert not moved[:, -2:].abs().gt(1e-5).any() and not moved_labels[:, :, :1].any()
    matrices = random_matrices(3, AffineRanges(), gen())
    shift = eye(3)
    shift[:, :3, 3] = -torch.tensor([3.1, -1.7, 2.3], dtype=torch.float64)
    warped, warped_labels = warp_pair(images, labels, matrices, -shift[:, :3, 3].view(3, 3, 1, 1, 1), SPACING)
    moved, moved_labels = affine_pair(images, labels, shift @ matrices, SPACING)
    assert torch.allclose(warped, moved, atol=1e-5) and (warped_labels != moved_labels).sum() <= 2


def test_the_values_between_two_knots_by_hand():
    """With slope 0 at both ends it is 3 t^2 - 2 t^3: 5/32 a quarter of the way, 1/2 half way."""
    image = torch.arange(9.0).view(1, 9, 1, 1)  # shows where a voxel comes from
    label = torch.arange(9).to(torch.uint8).view(1, 9, 1, 1)
    knots = torch.zeros(1, 3, 2, 1, 1)
    knots[0, 0, 1] = 4.0  # mm, at the last voxel: 2 voxels of 2 mm
    moved, moved_label = warp_pair(image, label, eye(1), knots, SPACING)
    assert moved[0, :5, 0, 0].tolist() == pytest.approx([0, 1 + 2 * 11 / 256, 2.3125, 3 + 2 * 81 / 256, 5.0])
    assert moved_label[0, :5, 0, 0].tolist() == [0, 1, 2, 4, 5] and moved[0, 8, 0, 0] == 0
    twice = torch.diag(torch.tensor([2.0, 1, 1, 1], dtype=torch.float64))[None]
    moved, _ = warp_pair(image, label, twice, knots, SPACING)
    assert moved[0, 2, 0, 0].item() == pytest.approx(4 + (2.3125 - 4) / 2)  # displaced first, then the affine map


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_both_paths_agree_and_scipy_with_them(seed):
    """scipy's cubic spline in a mirror has slope 0 at the ends too; it interpolates through the knots by a filter."""
    images, labels = pair(seed=seed)
    matrices = random_matrices(3, AffineRanges((20, 20, 40), 0.3, 0.2, 0.2, (8, 8, 8)), gen(seed))
    knots = random_knots(3, SHAPE, SPACING, ElasticRanges((10, 8, 15), (2, 3, 4)), gen(seed))
    moved, moved_labels = warp_pair(images, labels, matrices, knots, SPACING)
    places, size = Places.of(labels, matrices, SPACING), torch.tensor(SPACING).double()
    voxels = places.maps[:, :, :3] @ (knots / size.view(3, 1, 1, 1)).flatten(2)
    tables = [torch.from_numpy(_table(*sizes)) for sizes in zip(SHAPE, knots.shape[2:])]
    places = Places(places.maps, voxels.view_as(knots), tables)
    assert torch.allclose(images_by_torch(places, images), moved, atol=2e-5)
    assert (labels_by_torch(places, labels) != moved_labels).sum() <= 4
    where = np.stack(np.indices(SHAPE)).astype(float)
    for i in range(3):
        at = [w / max(s - 1, 1) * (n - 1) for w, s, n in zip(where, SHAPE, knots.shape[2:])]
        u = np.stack([map_coordinates(one, at, order=3, mode="mirror") for one in knots[i].numpy()])
        assert np.allclose(u, field(knots[i], SHAPE), atol=1e-9)
        centre, mm = (np.array(SHAPE) - 1) / 2, np.array(SPACING)
        p = (np.moveaxis(where, 0, -1) - centre) * mm + np.moveaxis(u, 0, -1)
        back = np.linalg.inv(matrices[i].numpy())
        source = (p @ back[:3, :3].T + back[:3, 3]) / mm + centre
        padded = np.pad(images[i].double().numpy(), 1)
        expected = map_coordinates(padded, np.moveaxis(source, -1, 0) + 1, order=1)
        assert np.allclose(moved[i].numpy(), expected, atol=1e-5)


def least_jacobian(ranges, seed, n=4):
    """The least determinant of d(p + u)/dp over the field of a whole heart, mm a mm."""
    shape, mm = (33, 29, 33), (6.0, 6.0, 6.0)
    least = math.inf
    for knots in random_knots(n, shape, mm, ranges, gen(seed)):
        gradient = np.stack([np.stack(np.gradient(u, *mm)) for u in field(knots, shape)])
        least = min(least, np.linalg.det(np.eye(3) + np.moveaxis(gradient, (0, 1), (-2, -1))).min())
    return least


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_nothing_folds_at_the_defaults(seed):
    assert least_jacobian(ElasticRanges(), seed) > 0


def test_tissue_folds_where_the_sd_is_too_large():
    assert least_jacobian(ElasticRanges(sd_mm=(16, 16, 16)), 0) < 0


def test_a_label_moves_with_its_image():
    images, _ = pair(2, (48, 44, 40), sd=5)
    labels = (images > 0.2).to(torch.uint8)
    ranges = ElasticRanges((20, 20, 20), (4, 4, 4))
    moved, moved_labels = random_warp_pair(images, labels, (1.5, 1.5, 1.5), STILL, ranges, gen())
    assert dice(moved > 0.2, moved_labels > 0) > 0.97 > 0.85 > dice(labels > 0, moved_labels > 0)


def test_draws_follow_the_seed_and_have_the_sd_asked_for():
    images, labels = pair()
    one, other, third = (random_warp_pair(images, labels, SPACING, None, ElasticRanges(), gen(s)) for s in (0, 0, 1))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) and not torch.equal(one[0], third[0])
    torch.manual_seed(0)
    assert torch.equal(random_warp_pair(images, labels, SPACING, None, ElasticRanges())[0], one[0])
    knots = random_knots(50, (128, 112, 128), (1.5, 1.5, 1.5), ElasticRanges((32, 40, 400), (3, 0, 1)), gen())
    assert knots.shape == (50, 3, 6, 5, 1)  # 190.5 mm hold five times 32 mm, 166.5 mm four times 40
    assert knots.std((0, 2, 3, 4)).tolist() == pytest.approx([3, 0, 1], rel=0.05)
    assert abs(knots[:, 0].mean()) < 0.3
    alike = images[:1].expand(3, *SHAPE)
    assert len({m.numpy().tobytes() for m in random_warp_pair(alike, labels, SPACING, STILL, ElasticRanges())[0]}) == 3


def test_a_short_axis_stack_keeps_its_slices():
    """No displacement along z: a slice's own number stays. Knots farther apart than the stack: all move alike."""
    shape, mm = (40, 40, 9), (1.5, 1.5, 10.0)
    numbers = torch.arange(1.0, 10).expand(2, *shape).contiguous()
    labels = numbers.to(torch.uint8)
    moved, moved_labels = random_warp_pair(numbers, labels, mm, STILL, ElasticRanges((20, 20, 20), (4, 4, 0)), gen())
    inside = slice(14, -14)
    assert torch.allclose(moved[:, inside, inside], numbers[:, inside, inside], atol=1e-5)
    assert torch.equal(moved_labels[:, inside, inside], labels[:, inside, inside])
    flat = pair(2, shape)[0][..., :1].expand(2, *shape).contiguous()
    moved, _ = random_warp_pair(flat, labels, mm, STILL, ElasticRanges((20, 20, 1000), (4, 4, 0)), gen())
    assert torch.allclose(moved, moved[..., :1].expand_as(moved), atol=1e-6) and (moved - flat).abs().max() > 0.1


def test_outside_the_grid_the_image_shows_the_fill():
    images, labels = torch.full((1, 6, 5, 4), 3.0), torch.ones(1, 6, 5, 4, dtype=torch.uint8)
    half = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1, 1)  # half a voxel of 2 mm, from behind the last
    moved, _ = warp_pair(images, labels, eye(1), half, SPACING, fill=-1.0)
    assert torch.allclose(moved[:, -1], torch.tensor(1.0)) and torch.allclose(moved[:, :-1], torch.tensor(3.0))
    gone, no_labels = warp_pair(images, labels, eye(1), 50 * half, SPACING, fill=-1.0)
    assert (gone == -1).all() and not no_labels.any()
    assert (warp_pair(images, labels, eye(1), 50 * half, SPACING)[0] == 0).all()


@pytest.mark.parametrize("dtype, close", [(torch.float16, 2e-3), (torch.bfloat16, 1e-2), (torch.float64, 1e-6)])
def test_images_of_any_floating_type_keep_it(dtype, close):
    images, labels = pair()
    moved, _ = random_warp_pair(images.to(dtype), labels, SPACING, None, ElasticRanges(), gen(), -1.0)
    exact, _ = random_warp_pair(images, labels, SPACING, None, ElasticRanges(), gen(), -1.0)
    assert moved.dtype == dtype and torch.allclose(moved.float(), exact, atol=close)


def test_each_axis_is_mirrored_with_even_chance_image_and_label_alike():
    images, labels = pair(1)
    images, labels = images.expand(400, *SHAPE), labels.expand(400, *SHAPE)
    mirrored, mirrored_labels = random_flip_pair(images, labels, (0, 2), gen())
    counts = []
    for dims in ((), (0,), (2,), (0, 2)):
        same = (mirrored == images[0].flip(dims)).flatten(1).all(1)
        assert torch.equal(same, (mirrored_labels == labels[0].flip(dims)).flatten(1).all(1))
        counts.append(int(same.sum()))
    assert sum(counts) == 400 and min(counts) > 70 and max(counts) < 130
    again, _ = random_flip_pair(images, labels, [0, 2], gen())
    assert torch.equal(again, mirrored) and mirrored_labels.dtype == torch.uint8
    assert torch.equal(random_flip_pair(images, labels, ())[0], images)


IMAGES, LABELS = pair()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: ElasticRanges((32, 32)), "ElasticRanges: found .* three finite distances"),
        (lambda: ElasticRanges((0, 32, 32)), "ElasticRanges: found"),
        (lambda: ElasticRanges(sd_mm=(-1, 0, 0)), "ElasticRanges: found"),
        (lambda: ElasticRanges(sd_mm=(math.nan, 0, 0)), "ElasticRanges: found"),
        (lambda: ElasticRanges(sd_mm=(1, 1, 1, 1)), "ElasticRanges: found"),
        (
            lambda: warp_pair(IMAGES, LABELS, eye(3), torch.zeros(3, 2, 4, 4, 4), SPACING),
            r"displacement: found shape \(3, 2, 4, 4, 4\); expected \(3, 3, gx, gy, gz\)",
        ),
        (lambda: warp_pair(IMAGES, LABELS, eye(3), torch.zeros(2, 3, 4, 4, 4), SPACING), "displacement: found"),
        (lambda: warp_pair(IMAGES, LABELS, eye(3), torch.zeros(3, 3, 4, 0, 4), SPACING), "displacement: found"),
        (lambda: warp_pair(IMAGES, LABELS, eye(3), torch.zeros(3, 3), SPACING), "displacement: found"),
        (lambda: warp_pair(IMAGES, LABELS, eye(3), torch.full((3, 3, 1, 1, 1), math.nan), SPACING), "finite"),
        (lambda: warp_pair(IMAGES, LABELS, eye(2), None, SPACING), "matrices: found"),
        (lambda: warp_pair(IMAGES, LABELS.int(), eye(3), None, SPACING), "labels: found .* of torch.int32"),
        (lambda: warp_pair(IMAGES, LABELS[:2], eye(3), None, SPACING), "labels: found shape"),
        (lambda: warp_pair(LABELS, LABELS, eye(3), None, SPACING), "images: found"),
        (lambda: warp_pair(IMAGES, LABELS, eye(3), None, SPACING, math.inf), "fill: found inf"),
        (lambda: random_warp_pair(IMAGES, LABELS, (1, 1), None, ElasticRanges()), "spacing: found"),
        (lambda: random_flip_pair(IMAGES, LABELS, (0, 3)), "axis: found 3"),
        (lambda: random_flip_pair(IMAGES, LABELS[:2], (0,)), "labels: found"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(UsageError, match=words):
        call()
