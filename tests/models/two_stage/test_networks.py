"""Both nets against the paper's text: layers, shapes, parameters and memory of every profile; slices, scales."""

import json
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shapelab.errors import UsageError
from shapelab.models.two_stage import networks
from shapelab.models.two_stage.networks import (
    UNITS,
    Block,
    Net1,
    Net2,
    TwoStageConfig,
    TwoStageNet,
    Unit,
    coarse_image,
    full_sized,
    short_axis_config,
)
from shapelab.training import numbers_of
from shapelab.training.exact import exact_gradients

HEART = (128, 112, 128)  # full-resolution voxels of a whole heart at 1.5 mm
PROFILES = {name: TwoStageConfig.profile(name) for name in ("quick", "full", "paper")}
PROFILES["short axis"] = short_axis_config("quick")
PAPER = PROFILES["paper"]
TINY = TwoStageConfig(n_classes=3, width1=2, width2=2, dilation=(2, 4), levels2=2, outputs=4, fold=1, skip_all=False)
SELU = {"units1": "selu", "units2": "selu"}  # no statistics: a voxel is what its neighbourhood makes it


def convolutions(net):
    return [m for m in net.modules() if isinstance(m, nn.Conv3d)]


def on_meta(build, config):
    """Its layers and shapes without its numbers."""
    with torch.device("meta"):
        return build(config)


def seeded(build, config, seed=0):
    torch.manual_seed(seed)
    return build(config)


def shapes_of(net, *size):
    """Name of a block -> channels and (x, y, z) of what it gives for an input of a size."""
    found = {}

    def note(name):
        def hook(_, __, out):
            c, z, x, y = out.shape[1:]
            found[name] = (c, (x, y, z))

        return hook

    for name, module in net.named_modules():
        if name.split(".")[0] in ("down", "bottom", "flat", "up") and name.count(".") == 1:
            module.register_forward_hook(note(name))
    out = net.eval()(torch.zeros(1, *size, device="meta"))
    return found, tuple(out.shape)


# ----------------------------------------------------------------------------------------------------- the paper's text


def test_net1_of_the_paper():
    """5 x 5 x 5, dilation 2n in block n and reversed on the way up, zero padding: shapes stay, pooling halves them."""
    net = on_meta(Net1, PAPER)
    assert len(convolutions(net)) == 23
    for blocks, spread in ((net.down, (2, 4, 6, 8)), (net.up, (8, 6, 4, 2))):
        for block, d in zip(blocks, spread, strict=True):
            for conv in convolutions(block):
                assert (conv.kernel_size, conv.dilation, conv.padding) == ((5, 5, 5), (d, d, d), (2 * d, 2 * d, 2 * d))
            assert isinstance(block.drop, nn.Dropout3d) and block.drop.p == 0.2
    undilated = [*convolutions(net.bottom), *convolutions(net.grow)]
    assert [(c.kernel_size, c.dilation) for c in undilated] == [((5, 5, 5), (1, 1, 1))] * 6
    found, out = shapes_of(net, 1, 96, 80, 96)
    assert found == {
        "down.0": (16, (96, 80, 96)),
        "down.1": (32, (48, 40, 48)),
        "down.2": (64, (24, 20, 24)),
        "down.3": (128, (12, 10, 12)),
        "bottom.0": (256, (6, 5, 6)),
        "bottom.1": (256, (6, 5, 6)),
        "up.0": (128, (12, 10, 12)),
        "up.1": (64, (24, 20, 24)),
        "up.2": (32, (48, 40, 48)),
        "up.3": (16, (96, 80, 96)),
    }
    assert out == (1, 8, 96, 80, 96)


def test_net2_of_the_paper():
    """3 x 3 x 3 down, pooled in plane alone, slices stay; 1 x 1 x (K - 1), then 1 x 1 x 2; 5 x 5 up; K in, one out."""
    net = on_meta(Net2, PAPER)
    assert len(convolutions(net)) == 23
    assert {(c.kernel_size, c.padding) for c in convolutions(net.down)} == {((3, 3, 3), (1, 1, 1))}
    assert [(c.kernel_size, c.padding) for c in convolutions(net.flat)] == [
        ((8, 1, 1), (0,) * 3),
        ((2, 1, 1), (0,) * 3),
    ]
    up = [*convolutions(net.grow), *convolutions(net.up)]
    assert len(up) == 4 + 8 and {(c.kernel_size, c.padding) for c in up} == {((1, 5, 5), (0, 2, 2))}
    assert {c.dilation for c in convolutions(net)} == {(1, 1, 1)}
    assert convolutions(net)[0].in_channels == 9  # the probabilities of eight classes, and the image
    found, out = shapes_of(net, 9, 256, 256, 9)
    assert found == {
        "down.0": (16, (256, 256, 9)),
        "down.1": (32, (128, 128, 9)),
        "down.2": (64, (64, 64, 9)),
        "down.3": (128, (32, 32, 9)),
        "flat.0": (256, (16, 16, 2)),
        "flat.1": (256, (16, 16, 1)),
        "up.0": (128, (32, 32, 1)),
        "up.1": (64, (64, 64, 1)),
        "up.2": (32, (128, 128, 1)),
        "up.3": (16, (256, 256, 1)),
    }
    assert out == (1, 8, 256, 256, 1)


def of_units(n_in, n_out, taps):
    """Parameters of a convolution without bias, and the two numbers a channel of its normalisation."""
    return n_in * n_out * taps + 2 * n_out


def test_parameters_follow_from_the_list_of_layers():
    w = (16, 32, 64, 128, 256)
    pairs = [*zip(w, w[1:])]
    down = sum(of_units(i, o, 125) + of_units(o, o, 125) for i, o in zip((1, *w), w[:4]))
    up = sum(of_units(b, a, 125) + of_units(2 * a, a, 125) + of_units(a, a, 125) for a, b in pairs)
    bottom = of_units(128, 256, 125) + of_units(256, 256, 125)
    assert down + bottom + up + 16 * 8 + 8 == 29_957_560
    down = sum(of_units(i, o, 27) + of_units(o, o, 27) for i, o in zip((9, *w), w[:4]))
    up = sum(of_units(b, a, 25) + of_units(2 * a, a, 25) + of_units(a, a, 25) for a, b in pairs)
    flat = of_units(128, 256, 8) + of_units(256, 256, 2)
    assert down + flat + up + 16 * 8 + 8 == 3_998_488


@pytest.mark.parametrize(
    ("profile", "net1", "net2", "layers"),
    [
        ("quick", 1_857_888, 1_002_304, (18, 18)),
        ("full", 4_178_828, 2_241_872, (18, 18)),
        ("paper", 29_957_560, 3_998_488, (23, 23)),
        ("short axis", 606_304, 1_220_832, (13, 20)),  # three heads: two coarser scales are supervised too
    ],
)
def test_parameters_of_every_profile(profile, net1, net2, layers):
    net = on_meta(TwoStageNet, PROFILES[profile])
    assert [sum(p.numel() for p in part.parameters()) for part in (net.net1, net.net2)] == [net1, net2]
    assert (len(convolutions(net.net1)), len(convolutions(net.net2))) == layers


def kept_for_the_way_back(net, size, device="meta"):
    """MiB of what the forward pass keeps for the gradient, fp32, each storage once; weights aside. On "meta" nothing is
    computed, so that it can be asked of what no memory here would hold."""
    own = {p.untyped_storage()._cdata for p in net.parameters()}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor  # held, so that no number is given twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = net.train()(torch.zeros(size, device=device))
    assert out is not None
    return sum(t.untyped_storage().nbytes() for number, t in kept.items() if number not in own) / 2**20


def inputs_of(config):
    """Sizes of what both nets see in a batch: whole hearts at full field, a slab of whole slices; stacks."""
    deep = config.slices + config.outputs - 1
    if config.looks is not None:
        side = config.field // config.factor[0]
        return (config.batch[0], 1, side, side, config.outputs), (
            config.batch[1],
            5,
            config.window,
            config.window,
            deep,
        )
    x, y, z = (round(n * 1.5 / config.spacing[0]) for n in HEART)
    coarse = [-(-n // f) for n, f in zip((x, y, z), config.factor)]
    return (config.batch[0], 1, *coarse), (config.batch[1], config.inputs2, x, y, deep)


@pytest.mark.parametrize(
    ("profile", "net1", "net2"),
    [("quick", 33.4, 86.9), ("full", 50.0, 126.4), ("paper", 301.0, 1257.8), ("short axis", 40.8, 218.8)],
)
def test_memory_of_a_training_step_of_every_profile(profile, net1, net2):
    """MiB. Whole hearts of 192 x 168 x 192 mm; the paper's at .5 mm, 384 x 336 pixels a slice, is the most by far."""
    config = PROFILES[profile]
    found = [
        kept_for_the_way_back(on_meta(build, config), size)
        for build, size in zip((Net1, Net2), inputs_of(config), strict=True)
    ]
    assert found == pytest.approx([net1, net2], rel=0.01)


def test_memory_is_counted_alike_where_it_is_computed():
    config = replace(TINY, slices=3)
    for build, size in ((Net1, (1, 1, 12, 10, 8)), (Net2, (1, 4, 16, 12, 6))):
        there, here = on_meta(build, config), build(config)
        assert kept_for_the_way_back(there, size) == pytest.approx(kept_for_the_way_back(here, size, "cpu"), rel=1e-6)


# --------------------------------------------------------------------------------------------------------------- slices


@pytest.mark.parametrize("k", [3, 5, 9])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_k_slices_give_one_and_k_plus_n_minus_1_give_n(k, n):
    net = on_meta(Net2, replace(TINY, slices=k)).eval()
    assert net(torch.zeros(2, 4, 16, 12, k + n - 1, device="meta")).shape == (2, 3, 16, 12, n)


@pytest.mark.parametrize("changes", [{}, {"fold": 2, "deep": 1, "kernel2_up": 3}])
def test_one_pass_is_as_many_passes_of_k_slices(changes):
    """Where no kernel on the way down looks through plane, and statistics are not of the slab."""
    net = seeded(Net2, replace(TINY, kernel2=(3, 3, 1), slices=5, **SELU, **changes)).eval()
    x = torch.rand(1, 4, 16, 12, 8, generator=torch.Generator().manual_seed(1))
    whole = net(x)
    each = [net(x[..., start : start + 5]) for start in range(4)]
    assert torch.allclose(whole, torch.cat(each, 4), atol=1e-5) and whole.std() > 1e-3
    assert (each[0] - each[1]).abs().max() > 1e-3


def seen_by(net, x, voxel):
    """Where the input changes the logits of one voxel (x, y, z): (C, X, Y, Z) bool."""
    x = x.clone().requires_grad_(True)
    net(x)[(0, slice(None), *voxel)].square().sum().backward()
    return x.grad[0] != 0


def test_a_slice_is_labelled_from_the_k_about_it():
    net = seeded(Net2, replace(TINY, kernel2=(3, 3, 1), slices=5, **SELU)).eval()
    for slice_ in range(4):
        seen = seen_by(net, torch.rand(1, 4, 16, 12, 8), (8, 6, slice_))
        assert seen.any(dim=0).any(dim=0).any(dim=0).nonzero()[:, 0].tolist() == [*range(slice_, slice_ + 5)]
    for unit in net.flat:  # what is left are the skips
        nn.init.zeros_(unit.conv.weight)
    for slice_ in range(4):
        seen = seen_by(net, torch.rand(1, 4, 16, 12, 8), (8, 6, slice_))
        assert seen.any(dim=0).any(dim=0).any(dim=0).nonzero()[:, 0].tolist() == [slice_ + 2]  # the middle one


def test_kernels_are_given_as_x_y_z():
    config = replace(TINY, kernel1=(1, 1, 3), pool1=(1, 1, 1), **SELU)
    for axis, kernel in enumerate(((3, 1, 1), (1, 3, 1), (1, 1, 3))):
        net = seeded(Net1, replace(config, kernel1=kernel)).eval()
        seen = seen_by(net, torch.rand(1, 1, 9, 9, 9), (4, 4, 4))[0]
        reach = [int(seen.any(dim=a).any(dim=b).sum()) if (a, b) else 0 for a, b in ((1, 1), (0, 1), (0, 0))]
        assert [r > 1 for r in reach] == [k == axis for k in range(3)]
        pool = [1, 1, 1]
        pool[axis] = 2
        net = on_meta(Net1, replace(config, pool1=tuple(pool)))
        found, _ = shapes_of(net, 1, 8, 12, 16)
        expected = [8, 12, 16]
        expected[axis] //= 4
        assert found["bottom.0"] == (8, tuple(expected))


@pytest.mark.parametrize("size", [(13, 11, 7), (5, 6, 3), (1, 1, 1), (16, 9, 10)])
def test_odd_sizes(size):
    assert on_meta(Net1, TINY).eval()(torch.zeros(1, 1, *size, device="meta")).shape == (1, 3, *size)
    stack = torch.zeros(1, 4, *size[:2], 9 + size[2] - 1, device="meta")
    assert on_meta(Net2, TINY).eval()(stack).shape == (1, 3, *size)
    torch.manual_seed(0)
    assert torch.isfinite(Net1(TINY).eval()(torch.rand(1, 1, *size))).all()


def test_the_papers_smallest_sub_volume_ends_in_one_voxel():
    """64 voxels a side are 11 coarse ones, 6, 3, 2 and 1: of one voxel there is no spread to normalise by."""
    net = seeded(Net1, replace(TINY, dilation=(2, 4, 6, 8))).train()
    net(torch.rand(1, 1, 11, 11, 11)).square().mean().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


def test_a_voxel_keeps_its_place():
    """A mirror of the input mirrors the output where all kernels are symmetric: no axis goes another way."""
    for build, size in ((Net1, (1, 1, 16, 8, 12)), (Net2, (1, 4, 16, 8, 12))):
        net = seeded(build, replace(TINY, **SELU)).eval()
        for conv in convolutions(net):
            for axis in (2, 3, 4):
                conv.weight.data = (conv.weight.data + conv.weight.data.flip(axis)) / 2
        x = torch.rand(size)
        for axis in (2, 3, 4):
            made = net(x)
            assert torch.allclose(net(x.flip(axis)), made.flip(axis), atol=1e-5)
            assert (made.flip(axis) - made).abs().max() > 1e-3


# ----------------------------------------------------------------------------------------------------------- the layers


def test_group_normalisation_is_of_all_channels_together_instance_of_each():
    x = torch.randn(2, 3, 4, 5, 6) * torch.tensor([1.0, 5.0, 9.0]).view(1, 3, 1, 1, 1) + 4
    for units, axes in (("group", (1, 2, 3, 4)), ("instance", (2, 3, 4))):
        made = Unit(3, 3, (1, 1, 1), units).norm(x)
        expected = (x - x.mean(axes, keepdim=True)) / x.std(axes, correction=0, keepdim=True)
        assert torch.allclose(made, expected, atol=1e-4)


def test_a_dilated_convolution_is_the_plain_one_of_every_dth_voxel():
    """While it is learned from: values and gradients are torch's own of the dilated one."""
    torch.manual_seed(0)
    unit = Unit(2, 3, (3, 5, 3), "relu", dilation=2)
    for size in ((2, 2, 6, 12, 10), (1, 2, 7, 9, 8)):  # what can be taken apart, and what cannot
        x = torch.randn(size, requires_grad=True)
        plain = F.conv3d(x, unit.conv.weight, unit.conv.bias, padding=unit.conv.padding, dilation=2)
        made, target = unit.conv(x), torch.randn(plain.shape)
        assert torch.allclose(made, plain, atol=1e-5)
        for a, b in zip(*(torch.autograd.grad((y * target).sum(), (x, unit.conv.weight)) for y in (made, plain))):
            assert torch.allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("recurrent", [1, 2, 3])
def test_a_recursive_unit_is_one_layer_applied_again_its_input_added(recurrent):
    torch.manual_seed(0)
    block = Block(2, 3, (3, 3, 1), "relu", 0.0, recurrent=recurrent)
    x = torch.randn(1, 2, 4, 6, 5)
    first, second = (
        lambda t, conv=unit.conv: F.conv3d(t, conv.weight, conv.bias, padding=(0, 1, 1))
        for unit in (block.first, block.second)
    )
    start = made = first(x).relu()
    for _ in range(recurrent):
        made = (second(made) + (start if recurrent > 1 else 0)).relu()
    assert torch.allclose(block(x), made, atol=1e-6)
    assert sum(p.numel() for p in block.parameters()) == 3 * (2 * 9 + 1) + 3 * (3 * 9 + 1)


@pytest.mark.parametrize("units", UNITS)
def test_what_follows_a_convolution(units):
    config = replace(TINY, units1=units, units2=units, dropout=0.2)
    unit = Unit(1, 2, (3, 3, 3), units)
    norms = {"group": nn.GroupNorm, "instance": nn.InstanceNorm3d, "batch": nn.BatchNorm3d}
    assert isinstance(unit.norm, norms.get(units, nn.Identity)) and type(unit.act) is (
        nn.SELU if units == "selu" else nn.ReLU
    )
    assert (unit.conv.bias is None) == (units in norms)
    drop = Block(1, 2, (3, 3, 3), units, 0.2).drop
    assert type(drop) is (nn.FeatureAlphaDropout if units == "selu" else nn.Dropout3d) and drop.p == 0.2
    net = seeded(TwoStageNet, config)
    losses = [
        net.net1(torch.randn(1, 1, 16, 12, 8)).square().mean(),
        net.net2(torch.randn(1, 4, 16, 16, 9)).square().mean(),
    ]
    sum(losses).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_selu_keeps_mean_and_variance():
    """The paper's abstract: self-normalising. Ten units, and they are still about 0 and 1; ReLU alone loses them."""
    spread = {}
    for units in ("selu", "relu"):
        torch.manual_seed(0)
        x = torch.randn(2, 32, 6, 6, 6)
        for _ in range(10):
            x = Unit(32, 32, (1, 1, 1), units)(x).detach()
        spread[units] = (float(x.mean()), float(x.std()))
    assert spread["selu"] == pytest.approx((0, 1), abs=0.3)
    assert spread["relu"][1] < 0.3


def test_coarser_scales_are_supervised_at_full_size_while_training_alone():
    net = seeded(Net2, replace(TINY, deep=2, levels2=3, fold=2))
    x = torch.rand(1, 4, 16, 24, 12)
    made = net.train()(x)
    assert [m.shape for m in made] == [(1, 3, 16, 24, 4)] * 3
    assert [head.in_channels for head in net.out] == [2, 4, 8]  # the finest first
    sum(m.square().mean() for m in made[1:]).backward()
    assert all(p.grad is None for p in net.out[0].parameters())  # each is of its own scale
    assert all(p.grad is None for p in net.up[-1].parameters())
    alone = net.eval()(x)
    assert isinstance(alone, torch.Tensor) and alone.shape == (1, 3, 16, 24, 4)


@settings(max_examples=20)
@given(
    fold=st.integers(1, 4),
    n=st.integers(1, 2),
    c=st.integers(1, 3),
    z=st.integers(1, 3),
    xy=st.tuples(*[st.integers(1, 4)] * 2),
)
def test_unfolding_undoes_folding(fold, n, c, z, xy):
    x = torch.randn(n, c, z, *(fold * s for s in xy))
    folded = networks._folded(x, fold)
    assert folded.shape == (n, c * fold**2, z, *xy)
    assert torch.equal(networks._unfolded(folded, fold), x)
    for row, column in product(range(fold), repeat=2):  # its own channel, in reading order
        assert torch.equal(folded[:, row * fold + column :: fold**2], x[..., row::fold, column::fold])


def test_one_stage_has_no_net1():
    net = on_meta(TwoStageNet, replace(TINY, stages=1))
    assert net.net1 is None and convolutions(net.net2)[0].in_channels == 1
    assert not [name for name in net.state_dict() if name.startswith("net1")]


@pytest.mark.filterwarnings("ignore:.*its map is narrower than its kernel")
@pytest.mark.parametrize(
    "build, size", [(Net1, (2, 1, 16, 16, 16)), (Net1, (1, 1, 14, 12, 20)), (Net2, (1, 9, 20, 16, 10))]
)
def test_gradients_in_bf16_are_right(build, size):
    """Maps two voxels wide under kernels of five, dilated ones among them: where some processors' bf16 gradients are
    wrong or NaN. Each layer's gradient of its weights is that of fp32 for what the layer was given."""
    torch.manual_seed(0)
    net, given, wanted = build(replace(TwoStageConfig(), width1=4, width2=4)).train(), {}, {}
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_pre_hook(lambda _, x, name=name: given.setdefault(name, []).append(x[0].detach()))
            layer.register_full_backward_hook(lambda _, __, g, name=name: wanted.setdefault(name, []).append(g[0]))
    with exact_gradients(net), torch.autocast("cpu", torch.bfloat16):
        net(torch.rand(size, requires_grad=True)).float().square().mean().backward()
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv3d):  # a recursive unit is called more than once, and its gradients come backwards
            expected = sum(
                torch.nn.grad.conv3d_weight(
                    x.float(), layer.weight.shape, g.float(), layer.stride, layer.padding, layer.dilation
                )
                for x, g in zip(given[name], wanted[name][::-1], strict=True)
            )
            assert torch.isfinite(layer.weight.grad).all(), name
            assert float((layer.weight.grad - expected).norm()) <= 0.02 * float(expected.norm()), name


# -------------------------------------------------------------------------------------------------- from coarse to fine


def line(values, axis):
    """A volume (1, 1, ...) of values along one axis."""
    size = [1, 1, 1]
    size[axis] = -1
    return torch.tensor(values, dtype=torch.float32).view(1, 1, *size)


@pytest.mark.parametrize("axis", range(3))
def test_coarse_to_fine_by_hand(axis):
    factor = [1, 1, 1]
    factor[axis] = 4
    box = [slice(0, 1)] * 3

    def part(start, stop):
        box[axis] = slice(start, stop)
        return full_sized(line([0, 8, 4], axis), tuple(factor), box).flatten().tolist()

    # the centres of coarse voxels lie at 1.5, 5.5, 9.5; beyond the first and the last nothing changes
    whole = [0, 0, 1, 3, 5, 7, 7.5, 6.5, 5.5, 4.5, 4, 4]
    assert part(0, 12) == whole
    assert part(3, 8) == whole[3:8]
    assert coarse_image(line(range(6), axis), tuple(factor)).flatten().tolist() == [1.5, 4.5]  # of four, and of two


@settings(max_examples=60)
@given(data=st.data())
def test_a_box_is_a_part_of_the_whole(data):
    factor = data.draw(st.sampled_from([(4, 4, 4), (4, 4, 1), (2, 3, 5), (1, 1, 1), (6, 6, 6)]))
    size = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    box = []
    for n, f in zip(size, factor):
        start = data.draw(st.integers(0, n * f - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, n * f))))
    coarse = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(coarse, size=[n * f for n, f in zip(size, factor)], mode="trilinear", align_corners=False)
    made = full_sized(coarse, factor, box)
    assert torch.allclose(made, whole[(..., *box)], atol=1e-5)
    sums = full_sized(coarse.softmax(1), factor, box).sum(1)
    assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)


@settings(max_examples=20)
@given(factor=st.tuples(*[st.integers(1, 4)] * 3), size=st.tuples(*[st.integers(1, 6)] * 3))
def test_coarse_voxels_are_means_of_those_they_cover(factor, size):
    image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
    coarse = coarse_image(image, factor)
    assert coarse.shape[2:] == tuple(-(-n // f) for n, f in zip(size, factor))
    for place in product(*[range(n) for n in coarse.shape[2:]]):
        part = tuple(slice(p * f, (p + 1) * f) for p, f in zip(place, factor))
        assert float(coarse[(0, 0, *place)]) == pytest.approx(float(image[(0, 0, *part)].mean()), abs=1e-5)


# ---------------------------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("profile", PROFILES)
def test_numbers_come_back_from_json(profile):
    config = PROFILES[profile]
    assert TwoStageConfig(**json.loads(json.dumps(numbers_of(config)))) == config


def test_short_axis_numbers():
    config = short_axis_config("quick", slices=5, width2=16)
    assert (config.slices, config.width2, config.n_classes, config.factor) == (5, 16, 4, (4, 4, 1))
    assert config.looks.missing == 0  # a slice is not taken from a stack that is labelled slice by slice
    assert config.spacing[2] == 0 and config.pool1[2] == config.kernel2[2] == 1  # nothing is done through plane


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"units1": "layer"}, "TwoStageConfig.units1: found 'layer'"),
        ({"units2": "layer"}, "TwoStageConfig.units2: found 'layer'"),
        ({"stages": 3}, "TwoStageConfig.stages"),
        ({"slices": 8}, "TwoStageConfig.slices: found 8; expected an odd number"),
        ({"slices": 1}, "TwoStageConfig.slices"),
        ({"steps": (0, 0, 0, 0)}, "TwoStageConfig.steps"),
        ({"steps": (1, 2, 3)}, r"TwoStageConfig.steps: found \(1, 2, 3\)"),
        ({"steps": (1, -1, 0, 0)}, "TwoStageConfig.steps"),
        ({"rates": (1e-3,)}, "TwoStageConfig.steps"),
        ({"fold": 3}, "window 96; expected multiples of fold 3"),
        ({"fold": 2, "field": 161}, "field 161, window 96; expected multiples of fold 2"),
    ],
)
def test_numbers_that_cannot_be_are_named(changes, match):
    with pytest.raises(UsageError, match=match):
        replace(TINY, **changes)
