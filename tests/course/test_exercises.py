"""What an exercise says of an answer."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab import course


@pytest.mark.parametrize(
    ("answer", "expected", "tolerance", "right"),
    [
        (60.02, 60.0, 0.05, True),
        (60.2, 60.0, 0.05, False),
        (np.float32(2), 2, 0, True),
        (" Septum ", "septum", 0, True),
        ("apex", "septum", 0, False),
        (True, True, 0, True),
        (1, True, 0, False),
        (True, 1, 0, False),
        (np.array([1.0, 2.0]), np.array([1.0, 2.001]), 0.01, True),
        ([1, 2], np.array([1, 2, 3]), 0, False),
        (["a", "b"], ["a", "b"], 0, True),
        ({"a": 1.0}, {"a": 1.0}, 0, True),
        ({"a": 1.0}, {"a": 1.0, "b": 2}, 0, False),
        (float("nan"), 1.0, 0, False),
        ("3", 3, 0, False),
        (["3"], [3], 0, False),
        ([[1], [2, 3]], [1, 2], 0, False),
    ],
)
def test_same(answer, expected, tolerance, right):
    assert course.same(answer, expected, tolerance) is right


@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer_is_not_wrong(answer, capsys):
    course.check("1", answer, 3)
    assert capsys.readouterr().out == "Exercise 1: no answer yet.\n"


def test_right_and_wrong(capsys):
    course.check("2", 147.6, 147.6)
    course.check("2", 147_600, 147.6, wrong={"That is mm3; ml are a thousand of them.": 147_600})
    course.check("2", 12, 147.6, hint="Count voxels first.")
    assert capsys.readouterr().out.splitlines() == [
        "Exercise 2: right.",
        "Exercise 2: not yet. That is mm3; ml are a thousand of them.",
        "Exercise 2: not yet. Count voxels first.",
    ]


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        ("3", 3, "no text"),
        (3, "septum", "Expected a text"),
        ([1, 2], 3, "Expected one number, found 2"),
        (float("inf"), 3.0, "no finite number"),
        (np.zeros(2), np.zeros(3), "Expected shape (3,), found (2,)"),
    ],
)
def test_the_kind_of_an_answer_is_told_first(answer, expected, said, capsys):
    course.check("1", answer, expected, hint="elsewhere")
    assert said in capsys.readouterr().out


def test_a_predicate_decides(capsys):
    course.check("3", 8, lambda n: n % 2 == 0)
    course.check("3", 7, lambda n: n % 2 == 0, hint="Even.")
    course.check("3", "x", lambda n: n % 2 == 1)
    right, wrong, strange = capsys.readouterr().out.splitlines()
    assert (right, wrong) == ("Exercise 3: right.", "Exercise 3: not yet. Even.")
    assert "could not be looked at (TypeError" in strange


def test_functions(capsys):
    cases = [((1, 2), 3), ((5, 5), 10)]
    course.check_function("4", lambda a, b: a + b, cases)
    course.check_function("4", lambda a, b: None, cases)
    course.check_function("4", lambda a, b: 3, cases, hint="Look at both.")
    course.check_function("4", lambda a, b: a / 0, cases)
    assert capsys.readouterr().out.splitlines() == [
        "Exercise 4: right.",
        "Exercise 4: no answer yet.",
        "Exercise 4: not yet. Case 2 of 2 comes out wrong. Look at both.",
        "Exercise 4: not yet. Your function raised ZeroDivisionError: division by zero in case 1 of 2.",
    ]
