"""Every trainer on a GPU, whatever recipes there are: its networks, its step, and that a killed run loses nothing.

Networks on the GPU against the CPU, fp32 without TF32: outputs within 1e-4 of their largest value, all gradients
together within 1e-3 of their length (one rounding turns a ReLU here and there). Runs of ten steps, one of them killed
and resumed, end in the same weights: in every bit on the CPU, within 1e-3 of their length on a GPU, whose sums of
interpolations are added up in any order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shapelab.device import without_autocast
from shapelab.experiments.recipes import Order, recipes
from shapelab.training import Batch, History, TimeUp, Training, fit, probing, time_limit, to_device

STEPS = 10
PHANTOMS = ("phantom", "phantom-us")
RECIPES = recipes()
#: One recipe of each trainer: those that differ in their method alone share a function.
TRAINERS = sorted(
    {getattr(r.train, "func", r.train): name for name, r in RECIPES.items() if {*PHANTOMS} & {*r.learns_from}}.values()
)

pytestmark = pytest.mark.slow


class Killed(Exception):
    pass


def order_of(name: str) -> Order:
    """What a recipe is asked for here: few hearts, one epoch."""
    data = [d for d in RECIPES[name].learns_from if d in PHANTOMS]
    if not data:
        pytest.skip(f"{name} learns from real hearts alone")
    return Order(
        name,
        None,
        data[0],
        profile="quick",
        hearts=4,
        epochs=None if name in ("native", "two-stage-sa") else 1,
        progress=False,
    )


@contextmanager
def outermost(model):
    """Context that collects (module, arguments) of the calls that are not inside another module's."""
    calls, depth = [], [0]

    def enter(module, arguments):
        if depth[0] == 0:
            calls.append((module, copied(arguments)))
        depth[0] += 1

    def leave(*_):
        depth[0] -= 1

    hooks = [h for m in model.modules() for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def copied(values):
    return tuple(v.detach().cpu().clone() if isinstance(v, Tensor) else v for v in values)


def outcome(module, arguments, device) -> tuple[list[Tensor], Tensor]:
    """Outputs, and all gradients of the mean of their squares as one vector, of a copy of a module on a device."""
    module = copy.deepcopy(module).to(device).requires_grad_(True)
    torch.manual_seed(0)
    with without_autocast(device):
        made = module(*(a.float().to(device) if isinstance(a, Tensor) else a for a in arguments))
    made = [m for m in (made if isinstance(made, tuple) else (made,)) if m is not None]
    sum(m.square().mean() for m in made).backward()
    slopes = [p.grad.flatten().cpu() for p in module.parameters() if p.grad is not None]
    return [m.detach().cpu() for m in made], torch.cat(slopes)


def networks_agree(training, batch, place) -> int:
    """How many networks of a step, forward and backward, are on the device as on the CPU."""
    with outermost(training.model) as calls, without_autocast(place.device):
        training.model.train()
        training.step(batch)
    for module, arguments in calls:
        there, here = outcome(module, arguments, place.device), outcome(module, arguments, "cpu")
        for a, b in zip(there[0], here[0], strict=True):
            assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max()), type(module).__name__
        assert float((there[1] - here[1]).norm()) <= 1e-3 * float(here[1].norm()), type(module).__name__
    return len(calls)


def ten_steps(training, folder, killed_at=None):
    """Ten steps of a training from its first weights, kept in a folder; killed before the step of a number."""
    steps = iter(range(STEPS + 1))

    def step(batch):
        if next(steps) == killed_at:
            raise Killed
        return training.step(batch)

    def batches(epoch):
        items = training.batches(epoch) if callable(training.batches) else training.batches
        return [items[i % len(items)] for i in range(STEPS // 2)]

    settings = replace(training.settings, checkpoint_seconds=0, patience=None)
    run = replace(training.run, checkpoint=folder)
    return fit(step, training.model, batches, 2, settings=settings, optimiser=training.optimiser, run=run)


def killed_and_resumed(training, folder, exact: bool) -> None:
    """A run that is killed at its seventh step, and stopped by a limit at another, ends as one that is not."""
    first = {k: v.clone() for k, v in training.model.state_dict().items()}
    history = ten_steps(training, folder / "whole")
    expected = {k: v.clone() for k, v in training.model.state_dict().items()}
    training.model.load_state_dict(first)
    with pytest.raises(Killed):
        ten_steps(training, folder / "pieces", killed_at=6)
    training.model.load_state_dict(first)  # a killed process has nothing but its checkpoint
    with time_limit(0), pytest.raises(TimeUp):
        ten_steps(training, folder / "pieces")
    training.model.load_state_dict(first)
    again = ten_steps(training, folder / "pieces")
    assert torch.isfinite(torch.tensor(history["loss"])).all() and len(history) == len(again) == 2
    assert again["loss"].tolist() == (history["loss"].tolist() if exact else pytest.approx(history["loss"], rel=1e-2))
    ends = [torch.cat([v.float().flatten().cpu() for v in s.values()]) for s in (training.model.state_dict(), expected)]
    assert float((ends[0] - ends[1]).norm()) <= (0 if exact else 1e-3) * float(ends[1].norm())
    moved = [float((expected[k].float() - v.float()).abs().max()) for k, v in first.items()]
    assert max(moved) > 0  # it did learn


def probed(name: str, look: Callable[[Training, Batch, int], None]) -> int:
    """Call a recipe, and `look` at each stage of its training, with its first batch; the number of stages."""
    order, seen = order_of(name), []

    def probe(training):
        items = training.batches(0) if callable(training.batches) else training.batches
        look(training, to_device(items[0], training.run.target), len(seen))
        seen.append(training)
        return History([{"epoch": 0, "loss": 1.0, "dice": 0.5}], "probed")

    with probing(probe):
        RECIPES[name].train(order)
    return len(seen)


@pytest.mark.gpu
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipes_networks_and_steps(name, gpu, tmp_path):
    def look(training, batch, stage):
        assert networks_agree(training, batch, gpu) >= 1
        killed_and_resumed(training, tmp_path / str(stage), gpu.exact)

    assert probed(name, look) >= 1


@pytest.mark.parametrize("name", TRAINERS)
def test_a_step_mixes_no_devices_and_waits_for_none(name, pretended):
    def look(training, batch, stage):
        assert networks_agree(training, batch, pretended) >= 1
        pretended.waits.clear()
        training.step(batch)
        assert not pretended.waits, f"{name}: a step waits for the device: {pretended.waits}"

    assert probed(name, look) >= 1
