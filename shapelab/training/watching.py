"""What stands beside a training and changes nothing of it: a look at what it is of, and a limit of its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from shapelab.errors import ShapelabError, in_range
from shapelab.training.batches import Batch
from shapelab.training.history import History

if TYPE_CHECKING:
    from shapelab.training.loop import FitSettings, Run

Step = Callable[[Batch], Mapping[str, Tensor]]
MakeOptimiser = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class TimeUp(ShapelabError):
    """The time that a training was given is over (`time_limit`); what it did is in its checkpoint."""


@dataclass(frozen=True)
class Training:
    """All that `fit` was called with: `fit(**vars(training))` is that call. The model is on `run.target` already."""

    step: Step
    model: nn.Module
    batches: Callable[[int], Iterable[Batch]] | Sequence[Batch]
    epochs: int
    settings: FitSettings
    optimiser: MakeOptimiser | None
    validate: Callable[[nn.Module], Mapping[str, float]] | None
    run: Run


Probe = Callable[[Training], History]

_probe: ContextVar[Probe | None] = ContextVar("probe", default=None)
_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


@contextmanager
def probing(probe: Probe) -> Iterator[None]:
    """Context in which `fit` trains nothing: it hands what it was called with to `probe`, and returns its history.

    So whoever calls a trainer by its name gets its very network, step and batches; a trainer of several stages hands
    over each. Inside `probe` itself `fit` trains, so a probe may train for a few steps.

    >>> with probing(lambda training: print(training.epochs) or History()):           # doctest: +SKIP
    ...     train_autoencoder(labels, config)
    """
    token = _probe.set(probe)
    try:
        yield
    finally:
        _probe.reset(token)


def probed(training: Training) -> History | None:
    """What the probe that is active makes of a training; None where there is none."""
    if (probe := _probe.get()) is None:
        return None
    token = _probe.set(None)
    try:
        return probe(training)
    finally:
        _probe.reset(token)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Context in which a training that is not done `seconds` after its beginning ends in TimeUp, its checkpoint saved.

    It stops after the step it is at, so each call does one step at least. Called again later it goes on from there, and
    ends in the weights of a training that was never stopped. Of two limits, one in the other, the nearer counts.
    """
    token = _deadline.set(min(time.monotonic() + in_range("seconds", seconds), _deadline.get()))
    try:
        yield
    finally:
        _deadline.reset(token)


def time_is_up() -> bool:
    """Whether the limit that is active has passed."""
    return time.monotonic() > _deadline.get()
