"""Batches of two kinds in turn, such as images and label maps, for a number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from shapelab.errors import whole
from shapelab.training.batches import Batch, Batches


class Turns(Batches):
    """`steps` batches of one kind; between them, others of another kind.

    An "epoch" of `fit`, which is a row of its history, is about `every` steps, whatever the number of rows in the data.
    Each kind goes through its data in an order of its own, all of it before any of it again.

    Args:
        main: what is counted
        others: what else is learned from; None: nothing
        steps: batches of `main` in the whole training
        every: ... between two rows of the history
        each: batches of `others` before each of `main`
        lead: ... and besides, before the first
    """

    def __init__(
        self, main: Batches, others: Batches | None = None, *, steps: int, every: int = 1, each: int = 1, lead: int = 0
    ) -> None:
        self.main, self.others, self.batch_size = main, others, main.batch_size
        self.steps, self.every = whole("steps", steps), whole("every", every)
        self.each, self.lead = whole("each", each, 0), whole("lead", lead, 0)

    @property
    def identity(self) -> dict[str, Any]:
        """What they depend on."""
        numbers = {"steps": self.steps, "every": self.every, "each": self.each, "lead": self.lead}
        return {**numbers, "main": self.main, "others": self.others}

    def __len__(self) -> int:
        """Epochs."""
        return max(1, round(self.steps / self.every))

    def steps_until(self, epoch: int) -> int:
        """Batches of `main` before an epoch."""
        return self.steps * epoch // len(self)

    def on(self, device: torch.device | str) -> Turns:
        others = None if self.others is None else self.others.on(device)
        numbers = {"steps": self.steps, "every": self.every, "each": self.each, "lead": self.lead}
        return Turns(self.main.on(device), others, **numbers)

    def __call__(self, epoch: int) -> Sequence[Batch]:
        turns: list[tuple[Batches | None, int]] = []
        lead, each = (0, 0) if self.others is None else (self.lead, self.each)
        turns += [(self.others, number) for number in range(lead if epoch == 0 else 0)]
        for step in range(self.steps_until(epoch), self.steps_until(epoch + 1)):
            turns += [(self.others, lead + step * each + k) for k in range(each)]
            turns += [(self.main, step)]
        return _Epoch(turns)


class _Epoch(Sequence[Batch]):
    """The batches of an epoch, each made when it is asked for: the number-th of its kind, passes counted on."""

    def __init__(self, turns: list[tuple[Any, int]]) -> None:
        self.turns = turns

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # nobody takes slices of it
        kind, number = self.turns[index]
        return kind(number // len(kind))[number % len(kind)]
