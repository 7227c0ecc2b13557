"""The three named sets of numbers: `quick` for any laptop, `full` for one GPU, `paper` as published."""

from __future__ import annotations

import os

from shapelab.errors import UsageError

PROFILES = ("quick", "full", "paper")


def current_profile(name: str | None = None) -> str:
    """`name`, else the variable SHAPELAB_PROFILE, else "quick".

    A machine with a GPU is no exception: the weights that ship are those of "quick", and "full" would train for hours
    what others open.

    Raises UsageError for a name that is none of the three.
    """
    name = name or os.environ.get("SHAPELAB_PROFILE") or "quick"
    if name not in PROFILES:
        raise UsageError(f"profile: found {name!r}; expected one of {', '.join(PROFILES)}")
    return name
