"""Order and size of batches, seeds, tensors inside containers."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapelab.errors import DataError, UsageError
from shapelab.training import Batches, derive_seed, to_device
from shapelab.training.batches import made_ahead


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


def test_series_go_by_their_index_and_never_by_its_numbers():
    x = np.arange(12)
    shuffled = pd.Series(-x, index=x[::-1])  # the label 0 is on the last row
    order = [np.concatenate(b) for b in zip(*Batches(x, shuffled, batch_size=5, seed=1)(0), strict=True)]
    assert (order[0] == -order[1]).all()  # beside an array: by position
    a, b = pd.Series(x, index=list("abcdefghijkl")), pd.DataFrame({"y": -x, "z": x}, index=list("abcdefghijkl"))
    for one, two in Batches(a, b.sample(frac=1, random_state=1), batch_size=5)(2):
        assert torch.equal(one, -two[:, 0]) and torch.equal(one, two[:, 1])
    with pytest.raises(DataError, match="batches: found values for 0, 1"):
        Batches(a, b.reset_index(drop=True), batch_size=5)


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


# ------------------------------------------------------------------------------------------------------- on a device


@pytest.mark.parametrize("room", [0, 40 * 8 + 40 * 3 * 2 - 1, 10**6])
def test_on_a_device_the_rows_and_their_order_are_the_same(room, monkeypatch):
    monkeypatch.setattr("shapelab.device.room_for_data", lambda device: room)
    x, y = np.arange(40), np.random.default_rng(0).random((40, 3)).astype(np.float16)
    here = Batches(x, torch.from_numpy(y), batch_size=7, seed=3)
    there = here.on("cpu")
    assert all(isinstance(a, torch.Tensor) for a in there.arrays) == (room == 10**6)  # whole, or not at all
    assert isinstance(here.arrays[0], np.ndarray)
    for (a, b), (c, d) in zip(here(2), there(2), strict=True):
        assert torch.equal(a, c) and torch.equal(b, d) and (a.dtype, b.dtype) == (c.dtype, d.dtype)
        assert np.array_equal(b.numpy(), y[a.numpy()])


def test_a_memory_map_is_not_read_where_there_is_no_room():
    class Rows:
        def __len__(self):
            return 6

        def __getitem__(self, rows):
            return np.asarray(rows) * 10

        def __array__(self, *_, **__):
            raise AssertionError("read whole")

    batches = Batches(Rows(), batch_size=4, shuffle=False).on("cpu")
    assert [b.tolist() for b in batches(0)] == [[0, 10, 20], [30, 40, 50]]


def test_batches_made_ahead_are_the_same_and_only_one_is_ahead(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: t)
    made = []

    class Items(list):
        def __getitem__(self, index):
            made.append(index)
            return {"x": torch.tensor([float(index)]), "name": str(index)}

        def __len__(self):
            return 5

    seen = []
    for index, batch in made_ahead(Items(), 2):
        seen.append((index, batch["x"].item(), batch["name"]))
        assert max(made) <= index + 1
    assert seen == [(2, 2.0, "2"), (3, 3.0, "3"), (4, 4.0, "4")] and made == [2, 3, 4]
    assert list(made_ahead(Items(), 5)) == []

    class Broken(Items):
        def __getitem__(self, index):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(made_ahead(Broken(), 0))


def test_batches_say_what_they_depend_on():
    """Two of the same say the same; another array, size, seed or order is told."""
    from shapelab.training.identity import fingerprint

    x, y = np.arange(6), np.arange(6.0)
    first = fingerprint(Batches(x, y, batch_size=2))
    assert first == fingerprint(Batches(x.copy(), y.copy(), batch_size=2))
    others = [Batches(x, y, batch_size=3), Batches(x, y, batch_size=2, seed=1), Batches(x, batch_size=2)]
    others += [Batches(x, y, batch_size=2, shuffle=False), Batches(x, y + 1, batch_size=2)]
    assert all(fingerprint(other) != first for other in others)
