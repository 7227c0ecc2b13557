"""Exercises that check themselves: they say whether an answer is right, without giving the right one away."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np


def check(
    exercise: str,
    answer: Any,
    expected: Any,
    *,
    tolerance: float = 0.0,
    wrong: Mapping[str, Any] | None = None,
    hint: str = "",
) -> None:
    """Say whether an answer is right, without giving the right one away.

    Args:
        exercise: its number, as in its heading
        answer: what the reader worked out; None or ... is no answer yet
        expected: the right answer (number, text, bool, array, list, dict), or a function answer -> bool
        tolerance: how far a number may be off
        wrong: explanation -> the value that shows this very mistake ("that is mm3, not ml" -> 147600)
        hint: said with any other wrong answer

    It prints "right.", "not yet. ..." or "no answer yet." and returns nothing, so that a cell may end with it.
    """
    if _is_open(answer):
        return _say(exercise, None)
    if callable(expected):
        try:
            return _say(exercise, bool(expected(answer)), hint)
        except Exception as error:
            return _say(exercise, False, f"Your answer could not be looked at ({_short(error)}). {hint}")
    if same(answer, expected, tolerance):
        return _say(exercise, True)
    known = (explanation for explanation, value in (wrong or {}).items() if same(answer, value, tolerance))
    return _say(exercise, False, next(known, None) or _kind_hint(answer, expected) or hint)


def check_function(
    exercise: str,
    function: Callable[..., Any],
    cases: Iterable[tuple[Sequence[Any], Any]],
    *,
    tolerance: float = 1e-6,
    hint: str = "",
) -> None:
    """Try a reader's function on cases ((arguments), expected), and say whether all come out right.

    A function that returns None (or ...) is no answer yet; one that raises, or is wrong in a case, is told which.
    """
    cases = list(cases)
    for number, (arguments, expected) in enumerate(cases, 1):
        try:
            answer = function(*arguments)
        except Exception as error:
            return _say(exercise, False, f"Your function raised {_short(error)} in case {number} of {len(cases)}.")
        if _is_open(answer):
            return _say(exercise, None)
        if not same(answer, expected, tolerance):
            return _say(
                exercise,
                False,
                f"Case {number} of {len(cases)} comes out wrong. {_kind_hint(answer, expected) or hint}",
            )
    return _say(exercise, True)


def same(answer: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Whether two values agree: numbers and arrays within `tolerance`, text without regard to case and spaces."""
    if isinstance(expected, str):
        return isinstance(answer, str) and answer.strip().casefold() == expected.strip().casefold()
    if isinstance(expected, Mapping):
        return (
            isinstance(answer, Mapping)
            and set(answer) == set(expected)
            and all(same(answer[key], expected[key], tolerance) for key in expected)
        )
    truths = [isinstance(value, (bool, np.bool_)) for value in (answer, expected)]
    if any(truths):  # 1 is a count, True a statement
        return all(truths) and bool(answer) == bool(expected)
    try:
        ours, theirs = np.asarray(answer), np.asarray(expected)
        if ours.shape != theirs.shape:
            return False
        if ours.dtype.kind in "biufc" and theirs.dtype.kind in "biufc":
            return bool(np.allclose(ours, theirs, rtol=1e-9, atol=tolerance, equal_nan=True))
        return bool((ours == theirs).all())
    except (TypeError, ValueError):
        return False


def _is_open(answer: Any) -> bool:
    return answer is None or answer is ...


def _kind_hint(answer: Any, expected: Any) -> str:
    """What is of the wrong kind or shape, if that is what is wrong."""
    if isinstance(expected, str) != isinstance(answer, str):
        return f"Expected {'a text' if isinstance(expected, str) else 'no text'}, found {type(answer).__name__}."
    if isinstance(expected, Number) and np.size(answer) != 1:
        return f"Expected one number, found {np.size(answer)}."
    if isinstance(expected, Number) and isinstance(answer, Number) and not math.isfinite(abs(answer)):
        return "Found no finite number."
    if isinstance(expected, np.ndarray) and np.shape(answer) != expected.shape:
        return f"Expected shape {expected.shape}, found {np.shape(answer)}."
    return ""


def _short(error: Exception) -> str:
    text = str(error).split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _say(exercise: str, right: bool | None, more: str = "") -> None:
    word = {None: "no answer yet.", True: "right.", False: "not yet."}[right]
    print(f"Exercise {exercise}: {word}" + (f" {more.strip()}" if right is False and more.strip() else ""))
