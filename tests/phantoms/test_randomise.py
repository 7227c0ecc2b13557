"""Random contrast, surroundings and artefacts: pure functions that never touch the labels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from shapelab.errors import UsageError
from shapelab.phantoms import randomise as r

STILL = r.Randomisation(**dict.fromkeys(vars(r.Randomisation()), 0))


def batch(n: int = 3, size: int = 64):
    """Images and tissues (n, 3, size, size): a bright LV in a grey wall beside a less bright RV, on a dark ground."""
    x, y = torch.meshgrid(torch.arange(size) - size / 2, torch.arange(size) - size / 2, indexing="ij")
    tissues = torch.zeros(n, 3, size, size, dtype=torch.uint8)
    tissues[:, :, torch.hypot(x + 12, y) < 13] = 4
    tissues[:, :, torch.hypot(x + 12, y) < 11] = 1
    tissues[:, :, torch.hypot(x - 4, y) < 14] = 2
    tissues[:, :, torch.hypot(x - 4, y) < 9] = 3
    return torch.tensor([0.05, 0.6, 0.3, 0.8, 0.3])[tissues.long()], tissues


def test_a_function_of_the_seed_alone():
    images, tissues = batch()
    torch.manual_seed(1)
    a, la = r.randomise(images, tissues, 1.6, 48, r.Randomisation(), 5)
    torch.manual_seed(2)
    b, lb = r.randomise(images, tissues, 1.6, 48, r.Randomisation(), 5)
    c, _ = r.randomise(images, tissues, 1.6, 48, r.Randomisation(), 6)
    assert torch.equal(a, b) and torch.equal(la, lb) and not torch.equal(a, c)
    assert torch.equal(images, batch()[0]) and torch.equal(tissues, batch()[1])  # what was given is left alone


def test_with_every_strength_at_zero_the_middle_is_cut_and_nothing_else_is_done():
    images, tissues = batch()
    out, label = r.randomise(images, tissues, 1.6, 48, STILL, 0)
    assert torch.equal(label, tissues[:, 1, 8:-8, 8:-8])
    # only the window of the percentiles is drawn: an affine function of the intensities, cut at 0 and 1
    inside = (out > 0.01) & (out < 0.99)
    for before, after, where in zip(images[:, :, 8:-8, 8:-8], out, inside, strict=True):
        if where.sum() > 10 and before[where].unique().numel() > 1:
            assert np.corrcoef(before[where], after[where])[0, 1] > 0.9999


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), n=st.integers(1, 4), size=st.sampled_from([32, 48]))
def test_range_shape_and_labels(seed, n, size):
    images, tissues = batch(n)
    out, label = r.randomise(images, tissues, 1.6, size, r.Randomisation(), seed)
    assert out.shape == (n, 3, size, size) and out.dtype == torch.float32
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1
    assert label.shape == (n, size, size) and label.dtype == torch.uint8 and int(label.max()) <= 4


def test_rotation_agrees_with_scipy():
    images, tissues = batch(1)
    strength = r.Randomisation(**{**vars(STILL), "rotation_deg": 30.0})
    g = r.generator_of(3)
    angle = float((torch.rand((1, 5), generator=r.generator_of(3)) * 2 - 1)[0, 0]) * 30
    moved, _ = r.move(images, tissues, 1.6, 64, strength, g)
    expected = ndimage.rotate(images[0, 1].numpy(), -angle, reshape=False, order=1)
    assert abs(angle) > 3
    assert np.abs(moved[0, 1].numpy() - expected)[16:-16, 16:-16].max() < 0.02  # the rims differ


def test_shift_is_in_mm():
    images, tissues = batch(4)
    strength = r.Randomisation(**{**vars(STILL), "shift_mm": 16.0})
    _, named = r.move(images, tissues, 2.0, 64, strength, r.generator_of(0))
    drawn = (torch.rand((4, 5), generator=r.generator_of(0)) * 2 - 1)[:, 3:] * 8  # pixels
    for k in range(4):
        before, after = (np.argwhere(t.numpy() == 3).mean(0) for t in (tissues[k, 1], named[k, 1]))
        assert np.allclose(before - after, drawn[k], atol=0.5)


def test_slices_of_one_stack_move_alike():
    images, tissues = batch(4)
    stacks = torch.tensor([7, 7, 9, 9])
    moved, _ = r.move(images, tissues, 1.6, 48, r.Randomisation(), r.generator_of(1), stacks)
    assert torch.equal(moved[0], moved[1]) and torch.equal(moved[2], moved[3]) and not torch.equal(moved[0], moved[2])


def test_surroundings_change_and_the_heart_stays():
    images, tissues = batch()
    changed = r.new_surroundings(images, tissues, 1.0, r.generator_of(4))
    heart = tissues > 0
    assert torch.allclose(changed[heart], images[heart], atol=1e-5)
    assert (changed[~heart] - images[~heart]).abs().mean() > 0.05


def test_contrast_changes_the_heart_and_keeps_its_order():
    images, tissues = batch(8)
    changed = r.new_contrast(images, tissues, 1.0, r.generator_of(5))
    far = torch.nn.functional.max_pool2d((tissues > 0).float(), 5, 1, 2) == 0
    assert torch.equal(changed[far], images[far])
    ratios = [float(changed[k][tissues[k] == 2].mean() / changed[k][tissues[k] == 3].mean()) for k in range(8)]
    assert max(ratios) < 0.8 and max(ratios) - min(ratios) > 0.15  # the wall stays darker than the LV's blood


def test_trabeculae_are_dark_in_cavities_alone():
    images, tissues = batch(6)
    changed = r.more_trabeculae(images, tissues, 1.0, r.generator_of(6))
    cavity = (tissues == 1) | (tissues == 3)
    assert torch.equal(changed[~cavity], images[~cavity])
    assert (changed[cavity] <= images[cavity] + 1e-6).all() and (changed[cavity] < images[cavity] - 0.1).any()


def test_curve_rises_but_for_small_stretches():
    ramp = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(20, 1, 8, 8)
    out = r.intensity_curve(ramp, 1.0, r.generator_of(7)).flatten(1)
    steps = out.diff(dim=1)
    assert (out.amin(1) == 0).all() and torch.allclose(out.amax(1), torch.ones(20), atol=0.01)  # a peak between samples
    assert steps.min() > -0.03 and (steps.clamp(max=0).sum(1) > -0.2).all()


def test_missing_neighbours_are_zero_and_the_middle_slice_stays():
    images, _ = batch(50)
    out = r.without_neighbours(images, 0.5, r.generator_of(8))
    gone = out.sum((2, 3)) == 0
    assert not gone[:, 1].any() and 30 < gone[:, [0, 2]].sum() < 70


def test_unit_range_is_by_percentiles_of_each_stack():
    images = torch.rand(2, 3, 60, 60, generator=r.generator_of(0)) * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1)
    out = r.to_unit(images)
    assert out.min() == 0 and out.max() == 1
    assert torch.allclose(out.mean((1, 2, 3)), torch.tensor(0.5), atol=0.02)


def test_the_middle_slice_of_a_stack_is_what_randomise_gives():
    """One function: `randomise` keeps of the tissues the middle slice."""
    images, tissues = batch()
    whole, named = r.randomised_stacks(images, tissues, 1.6, 48, r.Randomisation(), 5)
    out, label = r.randomise(images, tissues, 1.6, 48, r.Randomisation(), 5)
    assert torch.equal(whole, out) and torch.equal(named[:, 1], label)


@pytest.mark.parametrize("slices", [1, 2, 4, 7])
def test_stacks_of_any_number_of_slices_move_as_a_whole(slices):
    """Each slice has the tissues that it would have alone: all of a stack are moved and turned over together."""
    images, tissues = batch(3)
    images, tissues = images[:, :1].repeat(1, slices, 1, 1), tissues[:, :1].repeat(1, slices, 1, 1)
    for k in range(slices):  # slices that can be told apart by the RV's size
        tissues[:, k, : 4 * k] = 0
    strength = r.Randomisation(**{**vars(STILL), "rotation_deg": 30.0, "upside_down": 0.5, "noise": 0.05})
    out, named = r.randomised_stacks(images, tissues, 1.6, 48, strength, 3)
    assert out.shape == named.shape == (3, slices, 48, 48) and named.dtype == torch.uint8
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1
    moved = r.move(images, tissues, 1.6, 48, strength, r.generator_of(3))[1]
    for before, after in zip(moved, named, strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(0))
    again = r.randomised_stacks(images, tissues, 1.6, 48, strength, 3)
    assert torch.equal(again[0], out) and torch.equal(again[1], named)


def test_a_stack_that_is_turned_over_takes_its_tissues_along():
    images, tissues = batch(1)
    tissues[:, 0] = 0
    images = torch.where(tissues > 0, 0.9, 0.1)
    out, named = r.randomised_stacks(
        images, tissues, 1.6, 48, r.Randomisation(**{**vars(STILL), "upside_down": 1.0}), 0
    )
    assert not named[:, 2].any() and named[:, 0].any()
    assert (out[0, 0][named[0, 0] > 0] > 0.9).all() and (out[0, 2] < 0.1).all()


@pytest.mark.parametrize("shapes", [((2, 3, 8, 8), (2, 3, 8, 9)), ((2, 2, 8, 8), (2, 2, 8, 8)), ((3, 8, 8), (3, 8, 8))])
def test_wrong_shapes_are_named(shapes):
    images, tissues = torch.rand(shapes[0]), torch.zeros(shapes[1], dtype=torch.uint8)
    with pytest.raises(UsageError, match="expected (two of one shape|an odd number)"):
        r.randomise(images, tissues, 1.6, 8, r.Randomisation(), 0)


def test_a_negative_strength_is_named():
    with pytest.raises(UsageError, match="noise: found -1"):
        r.Randomisation(noise=-1)
