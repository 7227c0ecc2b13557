"""Order and size of batches, seeds, tensors inside containers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapelab.errors import UsageError
from shapelab.training import Batches, derive_seed, to_device


@given(n=st.integers(1, 60), size=st.integers(1, 20), seed=st.integers(0, 99), epoch=st.integers(0, 99))
def test_an_epoch_is_each_row_once_in_even_batches(n, size, seed, epoch):
    batches = Batches(np.arange(n), batch_size=size, seed=seed)
    items = list(batches(epoch))
    assert sorted(torch.cat(items).tolist()) == list(range(n))
    sizes = {len(b) for b in items}
    assert len(items) == len(batches) == math.ceil(n / size) and max(sizes) - min(sizes) <= 1 and max(sizes) <= size
    assert all(torch.equal(a, b) for a, b in zip(items, batches(epoch)))


def test_order_changes_with_epoch_and_seed_and_rows_stay_together():
    x = np.arange(40)
    order = [
        torch.cat([a for a, _ in Batches(x, -x, batch_size=7, seed=s)(e)]).tolist() for s, e in ((0, 0), (0, 1), (1, 0))
    ]
    assert order[0] != order[1] != order[2] != order[0]
    assert all(torch.equal(a, -b) for a, b in Batches(x, -x, batch_size=7)(3))
    assert torch.cat(list(Batches(x, batch_size=7, shuffle=False)(5))).tolist() == x.tolist()


def test_wrong_batches_are_named():
    with pytest.raises(UsageError, match=r"lengths \[3, 4\]"):
        Batches(np.zeros(3), np.zeros(4), batch_size=2)
    with pytest.raises(UsageError, match=r"lengths \[0\]"):
        Batches(np.zeros(0), batch_size=2)
    with pytest.raises(UsageError, match="batch_size: found 0"):
        Batches(np.zeros(3), batch_size=0)


def test_seeds_of_neighbours_are_unrelated():
    seeds = {derive_seed(a, b, c) for a in range(6) for b in range(6) for c in range(6)}
    assert len(seeds) == 216 and all(0 <= s < 2**63 for s in seeds)


def test_to_device_goes_into_containers():
    batch = {"a": [torch.zeros(1), (torch.ones(2), "name")]}
    moved = to_device(batch, "meta")
    assert moved["a"][0].device.type == moved["a"][1][0].device.type == "meta" and moved["a"][1][1] == "name"
