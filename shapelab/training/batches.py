"""The data of a training in an order that is a function of (seed, epoch), and seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shapelab.data.rows import in_one_order
from shapelab.device import gathered, resident, sent
from shapelab.errors import must, whole
from shapelab.types import Network

Batch = Any  # whatever `step` understands: a tensor, a tuple, a list or a dict of tensors


def derive_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers; neighbours give unrelated seeds.

    >>> derive_seed(0, 1, 2) == derive_seed(0, 1, 2), derive_seed(0, 1, 2) == derive_seed(0, 2, 1)
    (True, False)
    """
    return int(np.random.SeedSequence([int(n) for n in numbers]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Batches:
    """Shuffled mini-batches of arrays that share their first axis; the order is a function of (seed, epoch).

    >>> batches = Batches(labels, table["ef"], batch_size=8, seed=0)                  # doctest: +SKIP
    >>> for maps, ef in batches(epoch=3): ...                                         # doctest: +SKIP

    One array gives tensors, several give tuples of tensors. Anything NumPy can index by rows will do, a memory map as
    well: rows are read when their batch is. All batches of an epoch are of even size (33 rows in eights are 5 batches
    of 6 or 7), since a lone last row would upset batch normalisation.
    """

    def __init__(self, *arrays: Any, batch_size: int, seed: int = 0, shuffle: bool = True) -> None:
        named = (pd.Series, pd.DataFrame)  # matched with one another by their index; NumPy's rows are positions
        arrays = tuple(a.to_numpy() if isinstance(a, named) else a for a in in_one_order("batches", *arrays))
        lengths = [len(a) for a in arrays]
        must(
            arrays and len(set(lengths)) == 1 and lengths[0] != 0,
            "batches",
            f"arrays of lengths {lengths}",
            "equal lengths of at least 1",
        )
        whole("batch_size", batch_size)
        self.arrays: Sequence[Any] = arrays
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle

    @property
    def identity(self) -> dict[str, Any]:
        """What they depend on (`shapelab.training.identity`)."""
        arrays = {f"array {i}": array for i, array in enumerate(self.arrays)}
        return {"batch_size": self.batch_size, "seed": self.seed, "shuffle": self.shuffle, **arrays}

    def __len__(self) -> int:
        return -(-len(self.arrays[0]) // self.batch_size)

    def rows(self, epoch: int) -> list[np.ndarray]:
        """Row numbers of each batch of an epoch."""
        n = len(self.arrays[0])
        order = np.random.default_rng([self.seed, epoch]).permutation(n) if self.shuffle else np.arange(n)
        return np.array_split(order, len(self))

    def __call__(self, epoch: int) -> Sequence[Batch]:
        return _Epoch(self.arrays, self.rows(epoch))

    def on(self, device: torch.device | str) -> Batches:
        """The same batches, made on the device, where the arrays find room there (`resident`)."""
        there = copy.copy(self)
        there.arrays = resident(self.arrays, device)
        return there


class _Epoch(Sequence[Batch]):
    """The batches of one epoch, each made when it is asked for."""

    def __init__(self, arrays: Sequence[Any], rows: list[np.ndarray]) -> None:
        self.arrays, self.rows = arrays, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # nobody takes slices of an epoch
        parts = tuple(gathered(a, self.rows[index]) for a in self.arrays)
        return parts if len(parts) > 1 else parts[0]


def made_ahead(items: Sequence[Batch], start: int) -> Iterator[tuple[int, Batch]]:
    """(index, batch) from `start` on, the next one made by a thread, in pinned memory, while this one is used."""

    def make(index: int) -> Batch:
        return _each(items[index], lambda t: t.pin_memory() if t.device.type == "cpu" else t)

    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(make, index) for index in range(start, min(start + 1, len(items)))]
        for index in range(start, len(items)):
            batch = coming.pop().result()
            coming += [pool.submit(make, index + 1)] if index + 1 < len(items) else []
            yield index, batch


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch with every tensor in it on `device`."""
    return _each(batch, lambda tensor: sent(tensor, device))


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor in it changed."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: _each(value, change) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(_each(value, change) for value in batch)
    return batch


def seeded(build: Callable[[], Network], seed: int) -> Network:
    """`build()` with its initial weights a function of `seed`, without touching torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
