"""Rows by name or by position: shuffling what has names never changes anything."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapelab.data.rows import check_fact_names, in_one_order, in_order, positions, row_names
from shapelab.errors import DataError, UsageError

NAMES = ["a", "b", "c", "d"]
VALUES = pd.Series([10, 20, 30, 40], index=NAMES)


@given(st.permutations(NAMES))
def test_the_order_of_what_has_names_does_not_matter(order):
    shuffled = VALUES[order]
    assert list(in_order("x", shuffled, NAMES)) == [10, 20, 30, 40]
    assert in_order("x", dict(shuffled), NAMES) == [10, 20, 30, 40]
    assert in_order("x", shuffled.to_frame("n"), NAMES)["n"].tolist() == [10, 20, 30, 40]
    assert positions("x", shuffled > 15, NAMES).tolist() == [1, 2, 3]
    first, second = in_one_order("x", shuffled, VALUES)
    assert list(first.index) == list(second.index) == order


def test_what_has_no_names_goes_by_position():
    for values in ([1, 2, 3, 4], np.arange(1, 5), torch.arange(1, 5)):
        assert in_order("x", values, NAMES) is values
    assert in_order("x", (n for n in range(4)), NAMES) == [0, 1, 2, 3]
    a, b = in_one_order("x", VALUES[::-1], np.arange(4))
    assert a.tolist() == [40, 30, 20, 10] and b.tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match="x: found 3 values for 4 rows; expected one a row"):
        in_order("x", [1, 2, 3], NAMES)


@pytest.mark.parametrize(
    "wrong", [["a", "b", "c"], ["a", "b", "c", "e"], ["a", "b", "c", "c"], list("abcde"), range(4)]
)
def test_names_that_do_not_fit_are_refused(wrong):
    named = pd.Series(1.0, index=wrong)
    with pytest.raises(DataError, match="values for .*expected one for each of 'a', 'b', 'c', 'd'.*to_numpy"):
        in_order("x", named, NAMES)
    with pytest.raises(DataError):
        in_one_order("x", VALUES, named)


def test_the_message_says_which_names():
    with pytest.raises(DataError, match="Lacking: 'b', 'd'. Others: 'e'. Where it is"):
        in_order("x", {"a": 1, "e": 2, "c": 3}, NAMES)


def test_positions():
    for key in (torch.tensor([True, False, True, False]), pd.array([True, False, True, False])):
        assert positions("x", key, NAMES).tolist() == [0, 2]
    assert positions("x", [-1, 0], NAMES).tolist() == [3, 0] and positions("x", [], NAMES).tolist() == []
    assert positions("x", {3, 0}, NAMES).tolist() == [0, 3]
    assert positions("x", pd.Index([30, 10]), [10, 20, 30]).tolist() == [2, 0]
    for wrong in (np.zeros(0, bool), [True, None, False, True], [[0, 1]], 3, "a", [0, "a"]):
        with pytest.raises(UsageError, match="x: found"):
            positions("x", wrong, NAMES)


def test_rows_of_a_patient_are_told_apart_by_side_and_visit():
    table = pd.DataFrame({"patient": ["p", "p", "q", "q"], "phase": "ED", "side": ["L", "R", "L", "R"]}, index=NAMES)
    assert row_names(table).tolist() == ["p, side L", "p, side R", "q, side L", "q, side R"]
    assert row_names(table.assign(visit=[1, 1, 2, 2])).tolist() == row_names(table).tolist()  # one visit a patient
    both = table.assign(visit=[1, 2, 1, 1])
    assert row_names(both).tolist() == [
        "p, side L, visit 1",
        "p, side R, visit 2",
        "q, side L, visit 1",
        "q, side R, visit 1",
    ]
    one = table.iloc[[0, 3]]  # a row a patient: the patient is its name, of whatever type
    assert row_names(one.assign(patient=[7, 8])).tolist() == [7, 8]


def test_known_facts_in_another_spelling():
    check_fact_names(["patient", "Patient", "age", 3], "x")  # the one that is meant is there
    for names in (["Patient"], ["patient", " GROUP"], ["Side"]):
        with pytest.raises(DataError, match="x: found a column '.*'; expected '(patient|group|side)'. Rename it"):
            check_fact_names(names, "x")


def test_rows_without_a_name():
    table = pd.DataFrame({"patient": ["p", "p", "q"], "side": ["L", "R", None]}, index=list("abc"))
    with pytest.raises(DataError, match="no 'side' for subject 'c'"):
        row_names(table)
    with pytest.raises(DataError, match="no 'patient' for subject 'b'"):
        row_names(table.assign(patient=["p", None, "q"]))
    with pytest.raises(UsageError, match="no column 'patient'"):
        row_names(table[["side"]])
