"""Interpolation by hand and against scipy; SR-CNN's layers, size and first output."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from shapelab.errors import UsageError
from shapelab.models.acnn import SubPixelConfig, SubPixelNet, predict_images
from shapelab.models.acnn.sr_baselines import (
    INTERPOLATIONS,
    SRCNN,
    Interpolation,
    Residual,
    SRCNNConfig,
    SubPixelSR,
    interpolation_matrix,
    through_plane_product,
)
from shapelab.spaces import load_network, save_network


def n_parameters(network) -> int:
    return sum(p.numel() for p in network.parameters())


def test_linear_by_hand():
    # K = 2: fine centres lie a quarter slice before and behind each thick centre; the ends repeat
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    assert np.allclose(interpolation_matrix(2, 2, "linear"), expected)
    # K = 5: the middle one of five fine slices is the thick slice itself
    assert np.allclose(interpolation_matrix(3, 5, "linear")[[2, 7, 12]], np.eye(3))
    assert np.allclose(interpolation_matrix(3, 5, "linear")[3], [0.8, 0.2, 0])


def test_bspline_by_hand():
    # far from the ends the cardinal cubic spline: weight 0.6 of the slice half way, -0.127 of the next ones
    row = interpolation_matrix(40, 2, "bspline")
    quarter = row[40]  # a quarter slice before thick slice 20
    z = np.sqrt(3) - 2  # pole of the cubic spline's inverse filter
    coefficients = -6 * z / (1 - z**2) * z ** np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    t = np.abs(19.75 - np.arange(40))
    basis = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6)
    assert np.allclose(quarter, basis @ coefficients, atol=1e-9)
    assert quarter.min() < -0.05  # it overshoots at edges, linear does not
    assert np.allclose(interpolation_matrix(7, 5, "bspline")[2::5], np.eye(7), atol=1e-8)  # it goes through the slices


@given(slices=st.integers(1, 14), factor=st.integers(1, 6), kind=st.sampled_from(INTERPOLATIONS))
def test_a_constant_stays_and_both_ends_are_alike(slices, factor, kind):
    matrix = interpolation_matrix(slices, factor, kind)
    assert matrix.shape == (slices * factor, slices)
    assert np.allclose(matrix.sum(1), 1)
    assert np.allclose(matrix, matrix[::-1, ::-1])


@pytest.mark.parametrize(("kind", "order"), [("linear", 1), ("bspline", 3)])
@pytest.mark.parametrize(("slices", "factor"), [(12, 5), (12, 2), (9, 3), (4, 4)])
def test_agrees_with_scipy(kind, order, slices, factor):
    stack = np.random.default_rng(0).random((3, 4, slices)).astype(np.float32)
    ours = Interpolation(factor, kind)(torch.from_numpy(stack)[None, None])[0, 0].numpy()
    zoomed = ndimage.zoom(stack, (1, 1, factor), order=order, mode="nearest", grid_mode=True)
    # half a slice beyond the last centres nothing changes any more
    where = ((np.arange(slices * factor) + 0.5) / factor - 0.5).clip(0, slices - 1)
    at = np.meshgrid(np.arange(3), np.arange(4), where, indexing="ij")
    mapped = ndimage.map_coordinates(stack, at, order=order, mode="nearest")
    assert np.allclose(ours, mapped, atol=2e-5)
    inside = slice(factor // 2 + 1, slices * factor - factor // 2 - 1)
    assert np.allclose(ours[..., inside], zoomed[..., inside], atol=2e-5)


def test_a_straight_line_stays_straight_between_the_outer_centres():
    stack = torch.arange(8.0).expand(1, 1, 2, 2, 8)
    where = (torch.arange(40) + 0.5) / 5 - 0.5
    linear = Interpolation(5, "linear")(stack)[0, 0, 0, 0]
    assert torch.allclose(linear, where.clamp(0, 7), atol=1e-5)
    middle = slice(15, 25)  # the spline feels the bend at the ends
    assert torch.allclose(Interpolation(5, "bspline")(stack)[0, 0, 0, 0][middle], where[middle], atol=2e-2)


def test_interpolation_learns_nothing_and_passes_gradients():
    network, stack = Interpolation(3, "bspline"), torch.rand(2, 1, 4, 5, 6, requires_grad=True)
    assert n_parameters(network) == 0
    network(stack).sum().backward()
    assert torch.allclose(stack.grad[0, 0, 0, 0], torch.as_tensor(interpolation_matrix(6, 3, "bspline").sum(0)).float())


def test_product_keeps_its_digits_under_autocast():
    images, matrix = torch.rand(2, 3, 8), interpolation_matrix(8, 2, "linear")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = through_plane_product(images, matrix)
    assert out.dtype == torch.float32
    assert torch.allclose(out, images @ torch.from_numpy(matrix).float().T, atol=1e-6)


@pytest.mark.parametrize(("arguments", "word"), [((0, 2), "slices"), ((4, 0), "factor"), ((4, 2, "cubic"), "kind")])
def test_bad_interpolation(arguments, word):
    with pytest.raises(UsageError, match=word):
        interpolation_matrix(*arguments)


# ------------------------------------------------------------------------------------------------------------- SR-CNN


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_srcnn_shapes_and_size(factor):
    config = SRCNNConfig(factor, (6, 5, 4))
    network = SRCNN(config)
    assert network(torch.rand(2, 1, 7, 9, 4)).shape == (2, 1, 7, 9, 4 * factor)  # any X, Y, Z
    by_hand = (9 * 2 * factor * 6 + 6) + (27 * 6 * 5 + 5) + (27 * 5 * 4 + 4) + (27 * 4 + 1)
    assert n_parameters(network) == config.parameters == by_hand


def test_srcnn_starts_from_the_interpolated_stack():
    stack = torch.rand(1, 1, 8, 8, 5)
    assert torch.equal(SRCNN(SRCNNConfig(2, (4, 4)))(stack), Interpolation(2, "linear")(stack))


def test_srcnn_convolves_on_the_fine_grid():
    seen = []
    network = SRCNN(SRCNNConfig(5, (4, 4, 4)))
    for layer in network.features:
        layer.register_forward_hook(lambda _, __, out: seen.append(out.shape[-1]))
    network(torch.rand(1, 1, 8, 8, 3))
    assert set(seen) == {15}  # early upsampling: what ACNN-SR avoids


def test_srcnn_learns():
    torch.manual_seed(0)
    fine = torch.rand(4, 1, 6, 6, 8).cumsum(-1) / 8
    stack = fine.unflatten(-1, (4, 2)).mean(-1)
    network = SRCNN(SRCNNConfig(2, (8, 8)))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.smooth_l1_loss(network(stack), fine)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("profile", ["quick", "full", "paper"])
def test_srcnn_has_the_capacity_of_the_backbone(profile):
    config = SubPixelConfig.profile(profile, n_out=1)
    wanted = n_parameters(SubPixelNet(config))
    matched = SRCNNConfig.matching(wanted, config.factor)
    assert len(matched.widths) == 6
    assert abs(n_parameters(SRCNN(matched)) / wanted - 1) < 0.03


@given(st.integers(2_000, 2_000_000), st.sampled_from([2, 3, 5]))
def test_matching_comes_within_three_per_cent(parameters, factor):
    assert abs(SRCNNConfig.matching(parameters, factor).parameters / parameters - 1) <= 0.03


def test_bad_srcnn():
    with pytest.raises(UsageError, match="factor"):
        SRCNNConfig(1)
    with pytest.raises(UsageError, match="widths"):
        SRCNNConfig(2, ())
    with pytest.raises(UsageError, match="layers"):
        SRCNNConfig.matching(10_000, 2, layers=1)
    with pytest.raises(UsageError, match="parameters"):
        SRCNNConfig.matching(70, 2)
    with pytest.raises(UsageError, match=r"\(N, 1, X, Y, Z\)"):
        SRCNN(SRCNNConfig())(torch.rand(1, 2, 8, 8, 4))


def test_srcnn_keeps_the_scale_of_its_features():
    torch.manual_seed(0)
    network = SRCNN(SRCNNConfig(2, (24,) * 6))
    features = network.features(network.upsample(torch.rand(2, 1, 12, 12, 6))).detach()
    assert 0.1 < float(features.square().mean().sqrt()) < 10  # neither dead nor exploding after six layers
    assert 0.2 < float((features > 0).float().mean()) < 0.8


# ---------------------------------------------------------------------------------------------------------- residuals


def test_residual_starts_from_linear_interpolation_and_learns():
    torch.manual_seed(0)
    config = SubPixelConfig(shape=(16, 16, 8), spacing=(9.0, 9.0, 15.0), n_out=1, widths=(4, 4, 4, 4))
    network, stack = SubPixelSR(config), torch.rand(2, 1, 16, 16, 4)
    assert network.config is config and n_parameters(network) == n_parameters(SubPixelNet(config))
    assert torch.equal(network(stack), Interpolation(2, "linear")(stack))
    network(stack).square().sum().backward()
    assert network.network.head.weight.grad.abs().max() > 0
    with pytest.raises(UsageError, match="n_out=4"):
        SubPixelSR(SubPixelConfig(shape=(16, 16, 8), spacing=(9.0, 9.0, 15.0)))


def test_residual_adds_any_network():
    network = torch.nn.Sequential()
    network.head = torch.nn.ConvTranspose3d(1, 1, (1, 1, 2), (1, 1, 2))
    residual, stack = Residual(network, 2), torch.rand(1, 1, 3, 3, 4)
    assert torch.equal(residual(stack), Interpolation(2, "linear")(stack))
    torch.nn.init.constant_(network.head.bias, 0.5)
    assert torch.allclose(residual(stack), Interpolation(2, "linear")(stack) + 0.5)


@pytest.mark.parametrize("kind", ["sr", "srcnn"])
def test_networks_are_saved_and_read_back(kind, tmp_path):
    config = SubPixelConfig(shape=(16, 16, 8), spacing=(9.0, 9.0, 15.0), n_out=1, widths=(4, 4, 4, 4))
    network = SubPixelSR(config) if kind == "sr" else SRCNN(SRCNNConfig(2, (4, 4)))
    torch.nn.init.normal_(next(network.parameters()))
    torch.nn.init.normal_((network.network if kind == "sr" else network).head.weight)
    save_network(tmp_path, network, task="sr")
    again, stacks = load_network(tmp_path), torch.rand(2, 16, 16, 4)
    assert type(again) is type(network) and again.task == "sr" and again.config == network.config
    assert np.allclose(predict_images(again, stacks), predict_images(network, stacks), atol=1e-6)
