"""Batches of two kinds in turn: which come when, and that each kind goes through all of its data."""

import numpy as np
import pytest
import torch

from shapelab.errors import UsageError
from shapelab.training import Batches
from shapelab.training.turns import Turns


def kinds(turns, epoch):
    """Of each batch of an epoch: whether it is of the main kind, whose data are 100 and more."""
    return [bool((batch >= 100).all()) for batch in turns(epoch)]


@pytest.fixture
def main_and_others():
    return Batches(np.arange(100, 107), batch_size=3, seed=1), Batches(np.arange(5), batch_size=2, seed=1)


def test_others_come_before_each_and_a_head_start_before_all(main_and_others):
    turns = Turns(*main_and_others, steps=5, every=2, each=2, lead=3)
    assert len(turns) == 2
    assert [turns.steps_until(epoch) for epoch in range(3)] == [0, 2, 5]
    assert kinds(turns, 0) == [False] * 3 + [False, False, True] * 2
    assert kinds(turns, 1) == [False, False, True] * 3
    assert kinds(Turns(main_and_others[0], steps=5, every=2, each=2, lead=3), 1) == [True] * 3
    assert len(Turns(main_and_others[0], steps=2, every=7)) == 1


def test_each_kind_is_gone_through_before_any_of_it_comes_again(main_and_others):
    turns = Turns(*main_and_others, steps=6, every=2, each=1)
    batches = [batch for epoch in range(len(turns)) for batch in turns(epoch)]
    images, maps = ([b for b in batches if (b >= 100).all() == main] for main in (True, False))
    assert len(images) == len(maps) == 6
    for start in (0, 3):  # 7 and 5 rows are 3 batches each
        assert sorted(torch.cat(images[start : start + 3]).tolist()) == [*range(100, 107)]
        assert sorted(torch.cat(maps[start : start + 3]).tolist()) == [*range(5)]
    assert [b.tolist() for b in images[:3]] != [b.tolist() for b in images[3:]]


def test_identity_tells_turns_apart_and_a_device_keeps_them(main_and_others):
    turns = Turns(*main_and_others, steps=6, each=2)
    assert turns.identity["each"] == 2
    assert turns.identity != Turns(*main_and_others, steps=6, each=1).identity
    there = turns.on("cpu")
    assert [b.tolist() for b in there(1)] == [b.tolist() for b in turns(1)]
    assert there.identity["lead"] == 0


def test_numbers_are_checked(main_and_others):
    with pytest.raises(UsageError, match="steps: found 0"):
        Turns(*main_and_others, steps=0)
    with pytest.raises(UsageError, match="lead: found -1"):
        Turns(*main_and_others, steps=1, lead=-1)
