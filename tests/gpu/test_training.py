"""What the loop does on a GPU: cohorts there whole or made ahead, memory given back, bf16 where maps are narrow."""

import gc

import numpy as np
import pytest
import torch
from torch import nn

from shapelab.device import autocast
from shapelab.training import Batches, FitSettings, Run, fit, seeded
from shapelab.training.exact import exact_gradients, gradient_errs

MAPS = np.random.default_rng(0).normal(size=(12, 2, 6, 6, 6)).astype(np.float32)


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 216, 1)
    )


def trained(device, amp=False):
    model = seeded(small, 0)
    history = fit(
        lambda batch: {"loss": model(batch).square().mean()},
        model,
        Batches(MAPS, batch_size=3, seed=1),
        4,
        settings=FitSettings(amp=amp),
        run=Run(progress=False, device=device),
    )
    return model.cpu(), history


def test_a_training_is_that_of_the_cpu_to_rounding(place):
    (there, history), (here, expected) = trained(place.device), trained("cpu")
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    for a, b in zip(there.parameters(), here.parameters(), strict=True):
        assert float((a - b).detach().norm()) <= 1e-2 * float(b.detach().norm())


@pytest.mark.parametrize("room", [0, 10**9])
def test_a_cohort_that_does_not_fit_is_gathered_ahead_to_the_same_weights(place, room, monkeypatch):
    expected, _ = trained(place.device)
    monkeypatch.setattr("shapelab.device.room_for_data", lambda device: room)
    model, _ = trained(place.device)
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert float((a - b).detach().norm()) <= (0 if place.exact else 1e-4) * float(b.detach().norm())


def test_losses_are_read_back_once_an_epoch(pretended):
    pretended.waits.clear()
    trained(pretended.device)
    assert pretended.waits["tolist"] == 4  # epochs of four steps, read every 20


@pytest.mark.gpu
def test_memory_is_given_back(gpu):
    if gpu.device.type != "cuda":
        pytest.skip("counts the memory of a GPU")
    trained(gpu.device)
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    trained(gpu.device)
    gc.collect()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*its map is narrower than its kernel")
@pytest.mark.parametrize("kernel, width", [(3, 2), (5, 3), (5, 4)])
def test_gradients_in_bf16_are_right_where_the_map_is_narrow(gpu, kernel, width):
    """What `training.exact` keeps from the CPU's kernels is right on a GPU: finite, repeatable, near fp32."""
    layer = nn.Conv3d(8, 8, kernel, padding=kernel // 2, bias=False).to(
        gpu.device, memory_format=torch.channels_last_3d
    )
    assert gradient_errs(layer, width)
    generator = torch.Generator().manual_seed(0)
    x, slope = (torch.randn(4, 8, width, 8, 8, generator=generator).to(gpu.device) for _ in range(2))
    x = x.contiguous(memory_format=torch.channels_last_3d)

    def gradient(fast: bool) -> torch.Tensor:
        layer.zero_grad()
        with exact_gradients(layer), autocast(gpu.device, enabled=fast):
            made = layer(x)
        (made.float() * slope).sum().backward()
        return layer.weight.grad.clone()

    exact, first, second = gradient(False), gradient(True), gradient(True)
    assert torch.isfinite(first).all() and float((first - second).norm()) <= 1e-3 * float(exact.norm())
    assert float((first - exact).norm()) <= 2e-2 * float(exact.norm())
