"""What every notebook of the course needs: its first line, the hearts it runs on, and checks for exercises.

>>> from shapelab import course                                        # doctest: +SKIP
>>> run = course.start("02", data="phantom", seed=0)                   # doctest: +SKIP
profile quick | device cpu | data phantom | seed 0
>>> hearts = run.hearts(40)                                            # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from numbers import Number
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from shapelab.errors import DataError, UsageError
from shapelab.profiles import current_profile

if TYPE_CHECKING:
    from shapelab.data.cohort import Cohort

DATA_SETS = ("phantom", "acdc")
T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """How one notebook runs: what `start` printed, and what follows from it."""

    chapter: str
    profile: str
    device: str
    data: str
    seed: int

    def __str__(self) -> str:
        return f"profile {self.profile} | device {self.device} | data {self.data} | seed {self.seed}"

    def pick(self, quick: T, full: T, paper: T) -> T:
        """The one of three values that belongs to this run's profile."""
        return {"quick": quick, "full": full, "paper": paper}[self.profile]

    def hearts(self, n: int, **options: Any) -> Cohort:
        """The chapter's hearts, ED and ES of n patients (all there are, if fewer), groups in turn.

        options : for the phantoms only, as `shapelab.phantoms.heart_cohort` takes them (resolution, images, ...); real
            hearts are what they are.
        """
        from shapelab.data import open_cohort

        if self.data == "phantom":
            return open_cohort("phantom", **{"n": n, "seed": self.seed} | options)
        return groups_in_turn(_acdc(), n)


def start(chapter: str, data: str = "phantom", seed: int = 0) -> Context:
    """First call of a notebook: seeds everything and prints the one line that says how it runs.

    Parameters
    ----------
    chapter : number of the notebook, "00" to "99"
    data : "phantom" or "acdc"
    seed : of Python, NumPy and torch

    Raises
    ------
    UsageError : unknown data
    DataError : `data` is "acdc" and it is not there: where to get it
    """
    if data not in DATA_SETS:
        raise UsageError(f"DATA: found {data!r}; expected one of {', '.join(map(repr, DATA_SETS))}")
    if data != "phantom":
        from shapelab.data.cards import locate

        locate(data)
    from shapelab.device import best_device, seed_everything

    seed_everything(seed)
    _set_look()
    context = Context(str(chapter), current_profile(), best_device().type, data, int(seed))
    print(context)
    return context


def _set_look() -> None:
    """Figures drawn in a notebook look like the library's; tables have three digits, which is what cohorts can tell."""
    import matplotlib
    import pandas as pd

    from shapelab.show import style

    matplotlib.rcParams.update(style.RC)
    pd.set_option("display.float_format", lambda value: f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}")


def real_hearts(n: int | None = None) -> Cohort | None:
    """ACDC, for a section "On real hearts": its training part, or None and one message where it is absent.

    Parameters
    ----------
    n : at most so many patients, groups in turn; None: all

    A data set that is there but broken is an error, as ever.
    """
    from shapelab.data.cards import get_card, locate

    card = get_card("acdc")
    try:
        locate("acdc")
    except DataError:
        print(f"No real hearts here, so this section computes nothing. {card.how_to_get}")
        return None
    hearts = _acdc()
    hearts = hearts if n is None else groups_in_turn(hearts, n)
    print(f"ACDC: {len(hearts.patients)} patients, {len(hearts)} label maps. {card.citation}. {card.licence}.")
    return hearts


def _acdc() -> Cohort:
    """ACDC's training part (or what there is, where no subset is told), ED and ES."""
    from shapelab.data import open_cohort

    return open_cohort("acdc").filter(lambda s: s.facts.get("subset", "training") == "training")


def groups_in_turn(cohort: Cohort, n: int) -> Cohort:
    """The first n patients when the groups take turns, each with all its subjects.

    ACDC lists its groups one after another; the first ten of it would be ten of one disease.
    """
    if n < 1:
        raise UsageError(f"groups_in_turn: found n={n}; expected at least 1")
    by_group: dict[Any, list[str]] = {}
    for subject in cohort:
        patients = by_group.setdefault(subject.facts.get("group"), [])
        if subject.patient not in patients:
            patients.append(subject.patient)
    taken = [p for turn in zip_longest(*by_group.values()) for p in turn if p is not None][:n]
    subjects: dict[str, list[str]] = {patient: [] for patient in taken}
    for subject in cohort:
        if subject.patient in subjects:
            subjects[subject.patient].append(subject.id)
    return cohort[[identity for identities in subjects.values() for identity in identities]]


# ---------------------------------------------------------------------------------------------- exercises


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

    Parameters
    ----------
    exercise : its number, as in its heading
    answer : what the reader worked out; None or ... is no answer yet
    expected : the right answer (number, text, bool, array, list, dict), or a function answer -> bool
    tolerance : how far a number may be off
    wrong : explanation -> the value that shows this very mistake ("that is mm3, not ml" -> 147600)
    hint : said with any other wrong answer

    It prints "right.", "not yet. ..." or "no answer yet." and returns nothing, so that a cell may end with it.
    """
    if _is_open(answer):
        return _say(exercise, None)
    if callable(expected):
        try:
            right = bool(expected(answer))
        except Exception as error:
            return _say(exercise, False, f"Your answer could not be looked at ({_short(error)}). {hint}")
        return _say(exercise, right, hint)
    if same(answer, expected, tolerance):
        return _say(exercise, True)
    for explanation, value in (wrong or {}).items():
        if same(answer, value, tolerance):
            return _say(exercise, False, explanation)
    return _say(exercise, False, _kind_hint(answer, expected) or hint)


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
            where = f"Case {number} of {len(cases)} comes out wrong."
            return _say(exercise, False, f"{where} {_kind_hint(answer, expected) or hint}")
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
