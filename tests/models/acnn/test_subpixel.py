"""The sub-pixel backbone against Fig. 2 of the paper."""

import pytest
import torch
from torch import nn

from shapelab.errors import UsageError
from shapelab.models.acnn import AEConfig, SubPixelConfig, SubPixelNet


def layers(network):
    """(kind, kernel, stride) of every convolution, in the order in which data pass them."""
    order = (
        "scale1",
        "scale2",
        "scale3",
        "scale4",
        "up3",
        "merge3",
        "up2",
        "merge2",
        "up1",
        "merge1",
        "through_plane",
        "head",
    )
    out = []
    for name in order:
        for m in getattr(network, name).modules():
            if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d)):
                out.append(("deconv" if isinstance(m, nn.ConvTranspose3d) else "conv", m.kernel_size, m.stride))
    return out


def test_the_paper_profile_is_fig_2():
    config = SubPixelConfig.profile("paper")
    assert (config.shape, config.lr_shape, config.factor) == ((120, 120, 60), (120, 120, 12), 5)
    cube, flat, one, two = (3, 3, 3), (3, 3, 1), (1, 1, 1), (2, 2, 1)
    assert layers(SubPixelNet(config)) == [
        ("conv", cube, one),
        ("conv", cube, one),
        ("conv", cube, two),
        ("conv", cube, one),
        ("conv", cube, two),
        ("conv", cube, one),
        ("conv", flat, two),
        ("conv", flat, one),
        ("deconv", (4, 4, 1), two),
        ("conv", flat, one),
        ("deconv", (4, 4, 1), two),
        ("conv", cube, one),
        ("deconv", (4, 4, 1), two),
        ("conv", cube, one),
        ("deconv", (1, 1, 10), (1, 1, 5)),
        ("conv", cube, one),
    ]


def test_parameters_counted_by_hand():
    a, b, c, d, k, out = 24, 48, 112, 128, 5, 4
    weights = 27 * (a + a * a + a * b + b * b + b * c + c * c) + 9 * (c * d + d * d)
    weights += 16 * (d * c + c * b + b * a) + 9 * 2 * c * c + 27 * 2 * (b * b + a * a)
    weights += 2 * k * a * a + 27 * a * out + out
    normalised = 2 * a + 2 * b + 2 * c + 2 * d + 2 * (c + b + a) + a  # outputs of all but the last convolution
    network = SubPixelNet(SubPixelConfig.profile("paper"))
    assert sum(p.numel() for p in network.parameters()) == weights + 2 * normalised
    assert abs(weights + 2 * normalised - 1.60e6) < 0.03 * 1.60e6  # Table I


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("slices", [1, 3, 12])
def test_the_output_has_k_times_the_slices(factor, slices):
    config = SubPixelConfig(shape=(16, 24, 12 * factor), factor=factor, widths=(4, 4, 4, 4))
    network = SubPixelNet(config).eval()
    assert network(torch.zeros(2, 1, 16, 24, slices)).shape == (2, 4, 16, 24, factor * slices)


def test_an_output_slice_sees_its_own_input_slices():
    """Through plane nothing is mirrored or shifted: slice k of the stack governs slices kK to kK + K - 1."""
    torch.manual_seed(0)
    config = SubPixelConfig(shape=(16, 16, 60), factor=5, widths=(4, 4, 4, 4))
    network = SubPixelNet(config).eval()
    stack = torch.randn(1, 1, 16, 16, 12)
    changed = stack.clone()
    changed[..., 6] += 1
    with torch.no_grad():
        moved = (network(changed) - network(stack)).abs().sum((0, 1, 2, 3))
    centre = (moved * torch.arange(60)).sum() / moved.sum()
    assert 30 <= float(centre) <= 34.5
    before, here, after = (float(moved[k : k + 5].sum()) for k in (25, 30, 35))
    assert here > before and here > after


@pytest.mark.parametrize("profile", ["quick", "full", "paper"])
def test_grids_are_the_autoencoders(profile):
    ours, theirs = SubPixelConfig.profile(profile), AEConfig.profile(profile)
    assert ours.grid == theirs.grid
    assert ours.shape[2] // ours.factor == 12 and ours.spacing[2] * ours.factor == pytest.approx(10)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (47, 48, 24)},
        {"shape": (48, 48, 25)},
        {"factor": 0},
        {"widths": (8, 8, 8)},
        {"n_out": 0},
        {"epochs": 0},
    ],
)
def test_impossible_numbers_are_named(changes):
    with pytest.raises(UsageError, match="SubPixelConfig"):
        SubPixelConfig(**changes)


@pytest.mark.parametrize("shape", [(1, 1, 20, 16, 3), (1, 2, 16, 16, 3), (1, 16, 16, 3)])
def test_a_stack_that_does_not_fit_is_named(shape):
    network = SubPixelNet(SubPixelConfig(widths=(4, 4, 4, 4)))
    with pytest.raises(UsageError, match="multiples of 8"):
        network(torch.zeros(shape))
