"""The errors shapelab raises on purpose, and the checks of arguments that raise them.

Anything that a user can cause (a broken file, a wrong argument) ends in one of these. The command line prints the
message alone, without a traceback; in a notebook the last line says it all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class ShapelabError(Exception):
    """Base of every error raised on purpose; exit code 1 on the command line."""


class DataError(ShapelabError):
    """A file or an array is not what it should be.

    Args:
        file: the file (or the subject's id) that is at fault
        found: what was found there
        expected: what would have been right
        todo: what the user can do about it
    """

    def __init__(self, file: str | Path | None, found: str, expected: str, todo: str = ""):
        self.file = str(file) if file is not None else "(array)"
        self.found, self.expected, self.todo = found, expected, todo
        message = f"{self.file}: found {found}; expected {expected}."
        super().__init__(f"{message} {todo}".rstrip())

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # exceptions with several arguments cross process borders (joblib) only if told how
        return type(self), (self.file, self.found, self.expected, self.todo)


def need(holds: Any, file: str | Path | None, found: str, expected: str, todo: str = "") -> None:
    """DataError with these words unless the condition holds."""
    if not holds:
        raise DataError(file, found, expected, todo)


class UsageError(ShapelabError):
    """A wrong argument; exit code 2 on the command line."""


def must(holds: Any, what: str, found: Any, expected: str) -> None:
    """UsageError "what: found ...; expected ..." unless the condition holds."""
    if not holds:
        raise UsageError(f"{what}: found {found}; expected {expected}")


def one_of(what: str, value: T, known: Iterable[Any]) -> T:
    """`value`, if it is among `known`; else UsageError, with the name that is nearest to it where one is near.

    >>> one_of("surface", "voxel", ("voxel", "element"))
    'voxel'
    """
    names = list(known)
    if any(value is name or (isinstance(value, type(name)) and value == name) for name in names):
        return value
    near = get_close_matches(str(value), [str(name) for name in names], n=1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"{what}: found {value!r}; expected one of {', '.join(map(str, names))}{hint}")


def whole(what: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """`value` as an int, if it is a whole number from `least` (to `most`); else UsageError. True and 3.0 are none."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if least <= number <= (number if most is None else most):
            return number
    to = "" if most is None else f" to {most}"
    raise UsageError(f"{what}: found {value!r}; expected a whole number from {least}{to}")


def in_range(what: str, value: Any, low: float = 0.0, high: float = math.inf, above: bool = False) -> float:
    """`value` as a float, if it is a finite number from `low` to `high` (above: more than `low`); else UsageError."""
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(number := float(value)):
        if (number > low if above else number >= low) and number <= high:
            return number
    limits = f"{'above' if above else 'from'} {low:g}" + ("" if high == math.inf else f" to {high:g}")
    raise UsageError(f"{what}: found {value!r}; expected a number {limits}")


def few(names: Sequence[Any], n: int = 5) -> str:
    """The first n of some names, and how many there are where these are more.

    >>> few(["a", "b", "c"], 2)
    'a, b, ... (3 in all)'
    """
    return ", ".join(map(str, names[:n])) + (f", ... ({len(names)} in all)" if len(names) > n else "")


def spacing3(what: str, spacing: Any) -> tuple[float, float, float]:
    """Voxel size in mm as three floats; UsageError unless it is three finite numbers above 0."""
    try:
        x, y, z = (float(s) for s in spacing)
    except (TypeError, ValueError):
        x = y = z = math.nan
    if not all(math.isfinite(s) and s > 0 for s in (x, y, z)):
        raise UsageError(f"{what}: found {spacing!r}; expected three voxel sizes in mm, above 0")
    return x, y, z
