"""benchmarks/two_stage.py at a tiny size; its peers are what it says, and the layers made faster are torch's."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from shapelab.models.two_stage import Net2, TwoStageConfig, Volume, networks, short_axis_config

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("monai")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    return importlib.import_module("two_stage")


@pytest.mark.parametrize("config", [TwoStageConfig.profile("quick"), short_axis_config("quick")])
@pytest.mark.parametrize("make", ["dyn_unet", "res_unet"])
def test_peers_have_net2s_parameters_and_answer_for_its_slices(bench, config, make):
    network, net2 = bench.of_size(config, getattr(bench, make)), Net2(config)
    assert bench.count(network) == pytest.approx(bench.count(net2), rel=0.02)
    x = torch.rand(1, config.inputs2, 32, 32, config.outputs + config.slices - 1)
    with torch.no_grad():
        assert bench.Planes(network.eval(), config.slices)(x).shape == net2.eval()(x).shape
    poolings = [m.stride for m in network.modules() if isinstance(m, torch.nn.Conv3d) and max(m.stride) > 1]
    assert set(poolings) == {(2, 2, 1)}  # never through plane


def test_the_region_is_that_of_the_labels(bench):
    config = TwoStageConfig.profile("quick", width1=2, width2=2, dilation=(2,), levels2=2, margin_mm=3.0)
    label = np.zeros((48, 40, 48), np.uint8)
    label[16:32, 12:28, 8:36] = 3
    volume = Volume(np.zeros(label.shape, np.float32), label, (1.5, 1.5, 1.5))
    aimed = bench.Aimed(config, volume)
    x, y, z = aimed.roi(aimed.coarse(volume), volume)
    assert (x, y, z) == (slice(14, 34), slice(10, 30), slice(6, 38))  # two voxels about it
    assert not aimed.segment(volume).any()  # nothing is found, so that the border of the region is not reached


@given(st.sampled_from([(8, 12, 10), (10, 11, 14), (6, 6, 6)]), st.sampled_from([1, 2, 3]), st.integers(1, 2))
def test_a_dilated_convolution_is_torchs_and_so_are_its_gradients(shape, dilation, n):
    ours = networks.Convolution(2, 3, 3, padding=dilation, dilation=dilation).double()
    theirs = nn.Conv3d(2, 3, 3, padding=dilation, dilation=dilation).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(n, 2, *shape, dtype=torch.double, requires_grad=True)
    weight = torch.rand(n, 3, *shape, dtype=torch.double)
    found, expected = (torch.autograd.grad((net(x) * weight).sum(), [x, *net.parameters()]) for net in (ours, theirs))
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(found, expected)


@given(st.integers(1, 3), st.booleans())
def test_instance_normalisation_is_torchs_and_lies_channels_last(n, last):
    ours, theirs = (kind(4, affine=True).double() for kind in (networks.InstanceNorm, nn.InstanceNorm3d))
    with torch.no_grad():
        ours.weight.copy_(torch.rand(4))
        ours.bias.copy_(torch.rand(4))
    theirs.load_state_dict(ours.state_dict())
    layout = torch.channels_last_3d if last else torch.contiguous_format
    x = torch.rand(n, 4, 3, 5, 6, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours(x).is_contiguous(memory_format=layout)
    weight = torch.rand(n, 4, 3, 5, 6, dtype=torch.double)
    found, expected = (torch.autograd.grad((net(x) * weight).sum(), [x, *net.parameters()]) for net in (ours, theirs))
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_it_runs(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["two_stage.py", "--small", "--rounds", "1", "-o", str(tmp_path / "speed.csv")])
    threads = torch.get_num_threads()
    bench.main()
    torch.set_num_threads(threads)
    table = pd.read_csv(tmp_path / "speed.csv")
    assert list(table["part"].unique()) == ["volume", "step, whole hearts", "step, short axis", "drawing"]
    assert (table["ms"] > 0).all()
    assert (table.loc[table["part"] == "volume", "MB"] > 0).all()
    assert (table.loc[table["what"] == table["reference"], "this / reference"] == 1).all()
    assert (tmp_path / "speed.json").exists()
