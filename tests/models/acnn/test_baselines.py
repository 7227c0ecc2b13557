"""Baselines of Table I: capacity, shapes, what each can and cannot see."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapelab.errors import UsageError
from shapelab.models.acnn import SubPixelConfig
from shapelab.models.acnn.baselines import (
    FCN2D,
    PAPER_PARAMETERS,
    AESeg,
    CascadeLoss,
    UNet3D,
    build,
    count_parameters,
    matched_widths,
    parameter_target,
    upsample,
)
from shapelab.spaces import load_network, save_network

METHODS = list(PAPER_PARAMETERS)
TINY = SubPixelConfig(shape=(16, 16, 8), spacing=(9.0, 9.0, 15.0), factor=2, widths=(8, 8, 12, 16))


def test_the_parameters_of_the_paper_profile_are_table_ones_within_three_percent(capsys):
    config = SubPixelConfig.profile("paper")
    found = {method: count_parameters(build(method, config)) for method in METHODS}
    with capsys.disabled():
        print("\nparameters, paper profile          Table I       ours  ratio")
        for method, paper in PAPER_PARAMETERS.items():
            print(f"  {method:28s} {paper:12,.0f} {found[method]:10,d}  {found[method] / paper:.3f}")
    for method, paper in PAPER_PARAMETERS.items():
        assert found[method] == pytest.approx(paper, rel=0.03), method


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_other_profiles_keep_table_ones_ratios(profile):
    config = SubPixelConfig.profile(profile)
    segmentation = count_parameters(build("3D-Seg", config))
    for method, paper in PAPER_PARAMETERS.items():
        wanted = segmentation * paper / PAPER_PARAMETERS["3D-Seg"]
        assert count_parameters(build(method, config)) == pytest.approx(wanted, rel=0.05), method


@settings(max_examples=6)
@given(a=st.integers(12, 40), method=st.sampled_from(["2D-FCN", "3D-UNet", "AE-Seg-M"]))
def test_capacity_is_matched_whatever_the_size_of_3d_seg(a, method):
    config = replace(TINY, widths=(a, 2 * a, 3 * a, 4 * a))
    assert count_parameters(build(method, config)) == pytest.approx(parameter_target(method, config), rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_maps_a_thick_stack_to_the_fine_grid(method):
    network = build(method, TINY).eval()
    with torch.no_grad():
        out = network(torch.rand(2, 1, *TINY.lr_shape))
    assert out.shape == (2, 4, *TINY.shape) and torch.isfinite(out).all()


@pytest.mark.parametrize("method", METHODS)
def test_native_resolution_and_other_channels(method):
    config = replace(TINY, factor=1, n_in=2, n_out=3)
    with torch.no_grad():
        assert build(method, config).eval()(torch.rand(1, 2, 16, 16, 8)).shape == (1, 3, 16, 16, 8)


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_gives_the_weights_and_torchs_own_generator_is_left_alone(method):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = build(method, TINY, seed=1), build(method, TINY, seed=1), build(method, TINY, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    pairs = zip(one.parameters(), same.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)
    assert any(not torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_other_widths_than_the_matched_ones():
    assert UNet3D(TINY, (2, 4, 6, 8)).widths == (2, 4, 6, 8)
    assert UNet3D(TINY).widths == matched_widths("3D-UNet", TINY)
    with pytest.raises(UsageError, match=r"widths: found \(2, 4, 6\); expected 4 whole numbers"):
        UNet3D(TINY, (2, 4, 6))


def test_hand_counted_parameters():
    config = replace(TINY, n_in=1, n_out=2)

    def conv(n, m, k):
        return n * m * k + 2 * m  # weights, and scale and shift of the normalisation

    a, b, c, d = 2, 4, 6, 8
    fcn = conv(1, a, 9) + 2 * conv(a, a, 9) + conv(a, b, 9) + 3 * conv(b, b, 9) + conv(b, c, 9) + 3 * conv(c, c, 9)
    fcn += conv(c, d, 9) + 3 * conv(d, d, 9)
    fcn += (d + c + b) * 2 + 3 * 2 + 3 * 2 * 2 * 16 + (2 * 2 + 2)  # scores, upsampling, last convolution
    assert count_parameters(FCN2D(config, (a, b, c, d))) == fcn

    down = [(1, 1, a), (a, b // 2, b), (b, c // 2, c), (c, d // 2, d)]
    unet = sum(conv(n, half, 27) + conv(half, m, 27) for n, half, m in down)
    unet += (d * d * 4 + d) + (c * c * 8 + c) + (b * b * 8 + b)  # the first way up is in plane alone
    unet += sum(conv(n + m, m, 27) + conv(m, m, 27) for n, m in ((d, c), (c, b), (b, a))) + 2 * a + 2
    assert count_parameters(UNet3D(config, (a, b, c, d))) == unet

    autoencoder = conv(2, a, 27) + conv(a, b, 27) + conv(b, c, 27)
    autoencoder += conv(c, b, 64) + conv(b, a, 64) + conv(a, a, 16) + (a * 2 * 27 + 2)
    cascade = AESeg(config, (a, b, c))
    assert count_parameters(cascade) == count_parameters(cascade.first) + autoencoder


def test_2d_fcn_is_blocky_and_its_slices_know_nothing_of_each_other():
    network = build("2D-FCN", TINY).eval()
    stack = torch.rand(1, 1, *TINY.lr_shape)
    changed = stack.clone()
    changed[..., 2] = torch.rand(16, 16)
    with torch.no_grad():
        out, other = network(stack), network(changed)
    assert torch.equal(out[..., 0::2], out[..., 1::2])  # K = 2 slices alike
    same = [bool(torch.allclose(out[..., k], other[..., k], atol=1e-5)) for k in range(8)]
    assert same == [True] * 4 + [False] * 2 + [True] * 2  # LR slice 2 is HR slices 4 and 5


@pytest.mark.parametrize("method", ["3D-Seg", "3D-UNet", "AE-Seg"])
def test_3d_networks_see_neighbouring_slices(method):
    stack = torch.rand(1, 1, *TINY.lr_shape, requires_grad=True)
    network = AESeg(TINY, (8, 16, 32)) if method == "AE-Seg" else build(method, TINY)
    network.eval()(stack)[..., 2].square().sum().backward()
    assert float(stack.grad[..., 2].abs().sum()) > 0  # HR slice 2 is LR slice 1's


def test_upsampling_puts_an_lr_slice_in_the_middle_of_its_hr_slices():
    stack = torch.tensor([0.0, 10.0, 20.0]).view(1, 1, 1, 1, 3)
    twice = upsample(stack, 2).ravel().tolist()  # LR centres at HR slices .5, 2.5, 4.5
    assert twice == pytest.approx([0, 2.5, 7.5, 12.5, 17.5, 20], abs=1e-5)
    assert upsample(stack, 3).ravel().tolist() == pytest.approx(
        [0, 0, 10 / 3, 20 / 3, 10, 40 / 3, 50 / 3, 20, 20], abs=1e-5
    )
    assert upsample(stack, 1) is stack


def test_the_cascade_gives_both_outputs_in_training_and_one_in_use():
    network = build("AE-Seg", TINY)
    stack = torch.rand(2, 1, *TINY.lr_shape)
    first, final = network.train()(stack)
    assert first.shape == final.shape == (2, 4, *TINY.shape)
    with torch.no_grad():
        network.eval()
        assert torch.equal(network(stack), network.autoencoder(network.first(stack).softmax(1)))


def test_the_cascade_learns_at_both_ends():
    target = torch.zeros(1, 1, 1, 2, dtype=torch.uint8)
    sure, unsure = torch.zeros(1, 2, 1, 1, 2), torch.zeros(1, 2, 1, 1, 2)
    sure[:, 0] = math.log(3)  # probability 3/4 of the right class
    found = CascadeLoss()((unsure, sure), target)
    assert float(found["pixel"]) == pytest.approx(math.log(4 / 3))
    assert float(found["first"]) == pytest.approx(math.log(2))
    assert float(found["loss"]) == pytest.approx(math.log(4 / 3) + math.log(2))
    alone = CascadeLoss()(sure, target)
    assert set(alone) == {"loss", "pixel"} and float(alone["loss"]) == pytest.approx(math.log(4 / 3))


@pytest.mark.parametrize("method", METHODS)
def test_every_weight_learns(method):
    network = build(method, TINY).train()
    output = network(torch.rand(2, 1, *TINY.lr_shape))
    CascadeLoss()(output, torch.randint(0, 4, (2, *TINY.shape)))["loss"].backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_bad_input_is_named():
    with pytest.raises(UsageError, match="method: found 'V-Net'"):
        build("V-Net", TINY)
    for method in ("3D-UNet", "AE-Seg", "AE-Seg-M"):
        name = method.removesuffix("-M")
        with pytest.raises(UsageError, match=f"{name}: found 6 HR slices; expected a multiple of 4"):
            build(method, replace(TINY, shape=(16, 16, 6)))
    for method in METHODS:
        with pytest.raises(UsageError, match=r"stack: found shape \(1, 1, 12, 16, 4\)"):
            build(method, TINY)(torch.zeros(1, 1, 12, 16, 4))


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_read_again(tmp_path, method):
    network = build(method, TINY, seed=3).eval()
    again = load_network(save_network(tmp_path, network, metadata={"data": "none"}), device="cpu")
    assert type(again) is type(network) and again.config == TINY and again.metadata["data"] == "none"
    stack = torch.rand(1, 1, *TINY.lr_shape)
    with torch.no_grad():
        assert torch.equal(network(stack), again(stack))


def test_widths_keep_the_architectures_proportions():
    for method in ("2D-FCN", "3D-UNet"):
        a, b, c, _ = matched_widths(method, SubPixelConfig.profile("paper"))
        assert (b, c) == (2 * a, 4 * a)
