"""The errors shapelab raises on purpose.

Anything that a user can cause (a broken file, a wrong argument) ends in one of these. The command line prints the
message alone, without a traceback; in a notebook the last line says it all.
"""

from __future__ import annotations

from pathlib import Path


class ShapelabError(Exception):
    """Base of every error raised on purpose; exit code 1 on the command line."""


class DataError(ShapelabError):
    """A file or an array is not what it should be.

    Parameters
    ----------
    file : the file (or the subject's id) that is at fault
    found : what was found there
    expected : what would have been right
    todo : what the user can do about it
    """

    def __init__(self, file: str | Path | None, found: str, expected: str, todo: str = ""):
        self.file = str(file) if file is not None else "(array)"
        self.found, self.expected, self.todo = found, expected, todo
        message = f"{self.file}: found {found}; expected {expected}."
        super().__init__(f"{message} {todo}".rstrip())

    def __reduce__(self):  # exceptions with several arguments cross process borders (joblib) only if told how
        return type(self), (self.file, self.found, self.expected, self.todo)


class UsageError(ShapelabError):
    """A wrong argument; exit code 2 on the command line."""
