"""Acquisition, slice motion, noise, missing slices: hand-worked values, properties, independent resamplers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import affine_transform, gaussian_filter1d

from shapelab.augment import (
    Corruption,
    MotionRanges,
    acquire,
    acquisition_matrix,
    add_noise,
    corrupt,
    drop_slices,
    missing_slices,
    noisy,
    random_missing,
    random_motion,
    rician_noise,
    sample_seeds,
    shift_slices,
)
from shapelab.errors import UsageError

SPACING = (2.0, 3.0, 2.0)
ALL = Corruption(2, shift_mm=2.0, rotation_deg=5.0, rician=0.05, noise=0.05, missing=1.5)


def images(n=3, shape=(12, 10, 12), seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def still(n, slices):
    return torch.zeros(n, slices, 3)


# ------------------------------------------------------------------------------------------------------ thick slices


@pytest.mark.parametrize("factor, centres", [(1, [0, 1, 2, 3, 4, 5]), (2, [0.5, 2.5, 4.5]), (3, [1, 4]), (5, [2])])
def test_rows_are_gaussians_about_the_middle_of_their_planes(factor, centres):
    weights = acquisition_matrix(6, 2.0, factor, 4.0).double().numpy()
    for row, centre in zip(weights, centres, strict=True):
        bell = [math.exp(-((2.0 * (j - centre)) ** 2) / (2 * 4.0**2)) for j in range(6)]
        assert np.allclose(row, np.array(bell) / sum(bell), atol=1e-7)


def test_a_bright_plane_shows_the_column_of_weights():
    volume = torch.zeros(1, 4, 4, 12)
    volume[0, 1, 2, 5] = 1.0
    stack = acquire(volume, SPACING, 3)
    assert torch.equal(stack[0, 1, 2], acquisition_matrix(12, 2.0, 3)[:, 5])
    assert stack.sum() == stack[0, 1, 2].sum()  # nothing leaks in plane


def test_no_profile_takes_the_plane_in_the_middle_or_the_mean_of_two():
    volume = images()
    assert torch.equal(acquire(volume, SPACING, 1, 0.0), volume)
    assert torch.equal(acquire(volume, SPACING, 3, 0.0), volume[..., 1::3])
    assert torch.allclose(acquire(volume, SPACING, 4, 0.0), (volume[..., 1::4] + volume[..., 2::4]) / 2)
    assert torch.allclose(acquire(volume, SPACING, 4, 1e-3), acquire(volume, SPACING, 4, 0.0))  # no 0 / 0 on the way


def test_planes_left_over_have_no_slice():
    assert acquire(images(shape=(4, 4, 11)), SPACING, 3).shape == (3, 4, 4, 3)


@given(st.integers(1, 6), st.floats(0, 10), st.integers(6, 40), st.floats(0.5, 10))
def test_a_constant_volume_stays_constant(factor, sigma, planes, spacing):
    stack = acquire(torch.full((1, 3, 2, planes), 0.7), (1, 1, spacing), factor, sigma)
    assert torch.allclose(stack, torch.tensor(0.7), atol=1e-6)


@pytest.mark.parametrize("factor", [3, 5])
def test_scipy_blurs_and_decimates_to_the_same(factor):
    volume = images(shape=(6, 5, 60))
    blurred = gaussian_filter1d(volume.double().numpy(), 4.0 / 2.0, axis=-1, truncate=8)
    ours = acquire(volume, SPACING, factor).numpy()
    inner = slice(4, -4)  # scipy mirrors at the ends
    assert np.allclose(ours[..., inner], blurred[..., (factor - 1) // 2 :: factor][..., inner], atol=1e-6)


def test_a_gradient_comes_back_along_the_weights():
    volume = images().requires_grad_()
    acquire(volume, SPACING, 3)[..., 1].sum().backward()
    assert torch.allclose(volume.grad, acquisition_matrix(12, 2.0, 3)[1].expand_as(volume), atol=1e-7)


def test_a_matrix_first_made_in_inference_mode_serves_training_as_well():
    with torch.inference_mode():
        acquire(images(), (1, 1, 3.21), 2)
    volume = images().requires_grad_()
    acquire(volume, (1, 1, 3.21), 2).sum().backward()
    assert volume.grad is not None


def test_autocast_does_not_coarsen_the_stack():
    plain = acquire(images(), SPACING, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(acquire(images(), SPACING, 2), plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_of_image_are_kept(dtype):
    out = corrupt(images().to(dtype), SPACING, ALL, 0)
    assert out.dtype == dtype and out.shape == (3, 12, 10, 6)
    assert torch.allclose(out.float(), corrupt(images(), SPACING, ALL, 0), atol=0.03) or dtype == torch.float64


# ------------------------------------------------------------------------------------------------------------- motion


def test_a_shift_is_in_mm_along_its_axis_and_repeats_the_edge():
    stack = images(1, (12, 10, 3))
    motion = still(1, 3)
    motion[0, 0] = torch.tensor([4.0, 0.0, 0.0])  # two voxels of 2 mm along x
    motion[0, 1] = torch.tensor([0.0, -3.0, 0.0])  # one voxel of 3 mm along -y
    moved = shift_slices(stack, motion, SPACING)
    assert torch.allclose(moved[0, 2:, :, 0], stack[0, :-2, :, 0], atol=1e-5)
    assert torch.allclose(moved[0, :2, :, 0], stack[0, :1, :, 0].expand(2, -1), atol=1e-5)
    assert torch.allclose(moved[0, :, :-1, 1], stack[0, :, 1:, 1], atol=1e-5)
    assert torch.allclose(moved[0, :, :, 2], stack[0, :, :, 2], atol=1e-5)


def test_half_a_voxel_is_the_mean_of_two():
    stack = images(1, (12, 10, 1))
    moved = shift_slices(stack, torch.tensor([[[1.0, 0.0, 0.0]]]), SPACING)
    assert torch.allclose(moved[0, 1:], (stack[0, 1:] + stack[0, :-1]) / 2, atol=1e-5)


def test_a_quarter_turn_of_a_square_slice_takes_x_to_y():
    stack = images(2, (9, 9, 2))
    motion = still(2, 2)
    motion[1, 0, 2] = 90.0
    moved = shift_slices(stack, motion, (2.0, 2.0, 10.0))
    assert torch.allclose(moved[1, ..., 0], torch.rot90(stack[1, ..., 0], 1, dims=(0, 1)), atol=1e-5)
    assert torch.allclose(moved[0], stack[0], atol=1e-5)
    assert torch.allclose(moved[1, ..., 1], stack[1, ..., 1], atol=1e-5)


@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(-180, 180))
def test_scipy_moves_a_slice_to_the_same_place(dx, dy, degrees):
    stack = images(1, (14, 11, 1))
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    size = np.array(SPACING[:2])
    middle = (np.array([14, 11]) - 1) / 2
    back = np.linalg.inv(turn)
    linear = back * size / size[:, None]
    offset = middle - linear @ middle - back @ np.array([dx, dy]) / size
    expected = affine_transform(stack[0, ..., 0].double().numpy(), linear, offset, order=1, mode="nearest")
    moved = shift_slices(stack, torch.tensor([[[dx, dy, degrees]]]), SPACING)
    assert np.allclose(moved[0, ..., 0].numpy(), expected, atol=1e-4)


def test_stack_and_motion_both_get_gradients():
    ramp = torch.arange(12.0)[:, None, None].expand(12, 10, 1)[None].clone().requires_grad_()
    motion = torch.full((1, 1, 3), 0.1, requires_grad=True)
    shift_slices(ramp, motion, SPACING)[:, 4:8, 4:6].sum().backward()
    assert motion.grad[0, 0, 0] == pytest.approx(-8 / 2.0, rel=1e-3)  # 8 voxels on a slope of 1 / 2 mm, moved along it
    assert ramp.grad.sum() == pytest.approx(8.0, rel=1e-4)


def test_motion_has_the_spread_asked_for():
    drawn = random_motion(4000, 3, MotionRanges(3.0, 1.5), torch.Generator().manual_seed(0))
    assert drawn.shape == (4000, 3, 3) and drawn.dtype == torch.float32
    assert torch.allclose(drawn.flatten(0, 1).std(0), torch.tensor([3.0, 3.0, 1.5]), rtol=0.03)
    assert torch.allclose(drawn.flatten(0, 1).mean(0), torch.zeros(3), atol=0.1)
    assert (random_motion(2, 3, MotionRanges(0, 0)) == 0).all()


# -------------------------------------------------------------------------------------------- noise, missing slices


def test_gaussian_noise_has_its_spread_and_no_mean():
    flat = torch.full((2, 40, 40, 40), 0.5)
    noisy = add_noise(flat, torch.tensor([0.1, 0.3]), 7)
    assert torch.allclose(noisy.flatten(1).mean(1), torch.tensor(0.5), atol=4e-3)
    assert torch.allclose(noisy.flatten(1).std(1), torch.tensor([0.1, 0.3]), rtol=0.02)
    assert torch.equal(noisy, add_noise(flat, torch.tensor([0.1, 0.3]), 7))
    assert not torch.equal(noisy, add_noise(flat, torch.tensor([0.1, 0.3]), 8))


def test_rician_noise_lifts_the_dark_to_rayleighs_mean():
    dark = rician_noise(torch.zeros(1, 40, 40, 40), 0.2, 0)
    assert dark.mean().item() == pytest.approx(0.2 * math.sqrt(math.pi / 2), rel=0.01) and dark.min() >= 0
    bright = rician_noise(torch.full((1, 40, 40, 40), 5.0), 0.2, 0)
    assert bright.mean().item() == pytest.approx(math.hypot(5.0, 0.2 / math.sqrt(2)), rel=1e-3)
    assert bright.std().item() == pytest.approx(0.2, rel=0.02)


def test_no_noise_gives_the_image_itself():
    assert add_noise(images(), 0.0) is not None and torch.equal(add_noise(images(), 0.0), images())
    assert torch.equal(rician_noise(images(), 0.0), images())


def test_noise_follows_the_generator_and_torchs_default():
    a = add_noise(images(), 0.1, torch.Generator().manual_seed(1))
    assert torch.equal(a, add_noise(images(), 0.1, torch.Generator().manual_seed(1)))
    torch.manual_seed(3)
    b = rician_noise(images(), 0.1)
    torch.manual_seed(3)
    assert torch.equal(b, rician_noise(images(), 0.1))


@pytest.mark.parametrize("count", [0, 1, 2.25, 6])
def test_as_many_slices_are_missing_as_asked_for(count):
    mask = random_missing(4000, 6, count, torch.Generator().manual_seed(0))
    missing = mask.sum(1)
    assert mask.dtype == torch.bool and set(missing.tolist()) <= {math.floor(count), math.ceil(count)}
    assert missing.double().mean().item() == pytest.approx(count, abs=0.03)
    assert torch.allclose(mask.double().mean(0), torch.tensor(count / 6, dtype=torch.float64), atol=0.03)


def test_a_missing_slice_is_zero_and_the_others_are_untouched():
    stack, mask = images(2, (4, 5, 3)), torch.tensor([[True, False, False], [False, False, True]])
    dropped = drop_slices(stack, mask)
    assert (dropped[0, ..., 0] == 0).all() and (dropped[1, ..., 2] == 0).all()
    assert torch.equal(dropped[0, ..., 1:], stack[0, ..., 1:]) and torch.equal(dropped[1, ..., :2], stack[1, ..., :2])


# --------------------------------------------------------------------------------------------------------- all of it


def test_the_steps_come_in_the_order_of_the_scanner():
    """Without noise, `corrupt` is acquisition, motion and missing slices, with the draws of its seeds."""
    volume, p = images(2), Corruption(2, shift_mm=3.0, missing=2)
    out = corrupt(volume, SPACING, p, 5)
    gone = (out == 0).all(2).all(1)
    assert gone.sum(1).tolist() == [2, 2]
    moved = corrupt(volume, SPACING, Corruption(2, shift_mm=3.0), 5)
    assert torch.equal(out, drop_slices(moved, gone))
    still_stack = corrupt(volume, SPACING, Corruption(2), 5)
    assert torch.equal(still_stack, acquire(volume, SPACING, 2)) and not torch.allclose(moved, still_stack, atol=0.05)


@given(st.integers(0, 2**63), st.integers(0, 4))
def test_a_sample_depends_on_its_seed_alone(seed, i):
    volume = images(5, (6, 6, 8))
    whole = corrupt(volume, SPACING, ALL, seed)
    torch.rand(3)  # what was drawn elsewhere does not matter
    assert torch.equal(whole, corrupt(volume, SPACING, ALL, seed))
    seeds = sample_seeds(seed, 5)
    assert torch.allclose(corrupt(volume[i : i + 1], SPACING, ALL, seeds[i : i + 1])[0], whole[i], atol=1e-6)
    assert torch.allclose(corrupt(volume.flip(0), SPACING, ALL, seeds[::-1]).flip(0), whole, atol=1e-6)
    assert torch.allclose(corrupt(volume[:2], SPACING, ALL, seed), whole[:2], atol=1e-6)


def test_samples_and_seeds_differ():
    volume = images(1).repeat(4, 1, 1, 1)
    out = corrupt(volume, SPACING, ALL, 0)
    assert len({o.numpy().tobytes() for o in out}) == 4 == len(set(sample_seeds(0, 4)))
    assert not set(sample_seeds(0, 4)) & set(sample_seeds(1, 4))
    assert not torch.equal(out, corrupt(volume, SPACING, ALL, 1))
    state = torch.random.get_rng_state()
    corrupt(volume, SPACING, ALL, 0)
    assert torch.equal(state, torch.random.get_rng_state())  # and it takes nothing from torch's default generator


@given(st.integers(0, 10_000))
def test_at_strength_zero_only_the_slices_thickness_is_left(seed):
    volume = images()
    native = Corruption(shift_mm=2.0, rotation_deg=5.0, rician=0.05, noise=0.05, missing=1.5)
    assert torch.equal(corrupt(volume, SPACING, native.scaled(0), seed), volume)
    assert torch.equal(corrupt(volume, SPACING, ALL.scaled(0), seed), acquire(volume, SPACING, 2))
    assert torch.equal(corrupt(volume, SPACING, ALL.scaled(1), seed), corrupt(volume, SPACING, ALL, seed))


def test_growing_strength_goes_on_in_the_same_direction():
    volume = images(2, (24, 24, 12))
    noise = [corrupt(volume, SPACING, Corruption(noise=s), 0) - volume for s in (0.1, 0.2)]
    assert torch.allclose(2 * noise[0], noise[1], atol=1e-6)
    gone = [(corrupt(volume, SPACING, Corruption(missing=2.5).scaled(s), 0) == 0).all(2).all(1) for s in (0.4, 1, 2, 9)]
    for few, more in zip(gone, gone[1:]):
        assert (more | ~few).all()
    assert gone[-1].all()  # more than there are: all of them
    ramp = torch.arange(24.0)[:, None, None].expand(24, 24, 12)[None]
    shifts = [(corrupt(ramp, SPACING, Corruption(shift_mm=s), 3) - ramp)[0, 12, 12] for s in (1.0, 2.0)]
    assert torch.allclose(2 * shifts[0], shifts[1], atol=1e-4) and shifts[0].abs().max() > 0.3
    assert ALL.scaled(2) == Corruption(2, shift_mm=4.0, rotation_deg=10.0, rician=0.1, noise=0.1, missing=3.0)


# ------------------------------------------------------------------------------------------- arrays of normalised scans


def test_arrays_of_scans_get_noise_of_the_sd_asked_for_whatever_else_is_beside():
    scans = images(3, (20, 20, 20)).numpy().astype(np.float16)
    weak, strong = (noisy(scans, sd, 7).astype(np.float32) - scans for sd in (0.5, 1.0))
    assert strong.std() == pytest.approx(1.0, abs=0.02) and np.allclose(2 * weak, strong, atol=0.01)
    assert noisy(scans, 0.5, 7).dtype == np.float16 and np.array_equal(
        noisy(scans[:1], 0.5, 7), noisy(scans, 0.5, 7)[:1]
    )
    assert np.array_equal(noisy(scans, 0.0, 7), scans)


def test_missing_slices_of_arrays_are_dark_and_the_rest_is_untouched():
    scans = images(4, (5, 5, 10)).numpy() - 0.5
    few, more = (missing_slices(scans, share, 2) for share in (0.2, 0.5))
    gone, lost = ((a != scans).any((1, 2)) for a in (few, more))
    assert gone.sum(1).tolist() == [2] * 4 and lost.sum(1).tolist() == [5] * 4 and (lost | ~gone).all()
    darkest = np.broadcast_to(scans.min((1, 2, 3))[:, None, None, None], scans.shape)
    assert np.array_equal(more, np.where(lost[:, None, None], darkest, scans))
    assert np.array_equal(missing_slices(scans[:2], 0.5, 2), more[:2]) and len({row.tobytes() for row in lost}) > 1


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: noisy(images().numpy(), -1.0, 0), "Corruption.noise: found -1.0"),
        (lambda: missing_slices(images().numpy(), 1.5, 0), "share: found 1.5; expected a number from 0 to 1"),
        (lambda: acquire(images()[0], SPACING, 2), r"images: found shape \(12, 10, 12\)"),
        (lambda: acquire(images().to(torch.uint8), SPACING, 2), "images: found shape .* of torch.uint8"),
        (lambda: acquire(images(), (2, 2), 2), "spacing: found"),
        (lambda: acquire(images(), SPACING, 0), "factor: found 0"),
        (lambda: acquire(images(), SPACING, 13), "factor: found 13; expected .* 12"),
        (lambda: acquire(images(), SPACING, 2, -1.0), "sigma_mm: found -1.0"),
        (lambda: acquisition_matrix(12, 0.0, 2), "spacing_z: found 0.0"),
        (lambda: shift_slices(images(), still(3, 11), SPACING), r"motion: found shape \(3, 11, 3\); expected \(3, 12"),
        (lambda: shift_slices(images()[0], still(3, 12), SPACING), "stack: found"),
        (lambda: MotionRanges(shift_mm=-1), "MotionRanges.shift_mm: found -1"),
        (lambda: MotionRanges(rotation_deg=float("nan")), "rotation_deg: found nan"),
        (lambda: add_noise(images(), -0.1), "sigma: found -0.1"),
        (lambda: add_noise(images(), torch.ones(2)), "one an image"),
        (lambda: rician_noise(images(), float("inf")), "sigma: found inf"),
        (lambda: random_missing(2, 6, 7), "count: found 7; expected .* 0 to 6"),
        (lambda: drop_slices(images(), torch.zeros(3, 12)), "mask: found .* torch.float32"),
        (lambda: drop_slices(images(), torch.zeros(3, 11, dtype=torch.bool)), r"mask: found shape \(3, 11\)"),
        (lambda: Corruption(factor=0), "factor: found 0"),
        (lambda: Corruption(factor=2.5), "factor: found 2.5"),
        (lambda: Corruption(noise=-1.0), "noise: found -1.0"),
        (lambda: Corruption(missing="two"), "missing: found 'two'"),
        (lambda: ALL.scaled(-1), "strength: found -1"),
        (lambda: corrupt(images(), SPACING, ALL, [1, 2]), r"seed: found 2 numbers; .* a sample \(3\)"),
        (lambda: corrupt(images().int(), SPACING, ALL, 0), "volume: found shape"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(UsageError, match=words):
        call()
