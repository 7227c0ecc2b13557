"""The three named sets of numbers: `quick` for any laptop, `full` for one GPU, `paper` as published."""

from __future__ import annotations

import os
from typing import Any

from shapelab.errors import UsageError, must

PROFILES = ("quick", "full", "paper")
LIMITS = "SHAPELAB_LIMITS"


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


def limits() -> dict[str, int]:
    """What the variable SHAPELAB_LIMITS says, as "hearts=8,epochs=2": name -> the most that a number of the profile
    `full` may be. So the lines of `full` are rehearsed with few hearts and steps, on a machine without a GPU as well
    (`benchmarks/gpu.py --dry-run`). "coarser" is no limit: so many times fewer voxels along X and Y on the grid of each
    configuration.

    Raises UsageError for what is not of that form.
    """
    text = os.environ.get(LIMITS, "")
    pairs = [part.partition("=") for part in text.split(",") if part]
    must(all(name and number.isdigit() for name, _, number in pairs), LIMITS, repr(text), '"name=number,name=number"')
    return {name: int(number) for name, _, number in pairs}


def limited(value: Any, name: str, profile: str) -> Any:
    """A number of a profile, or the limit that is set on numbers of this name (`limits`). Of seeds the first so many
    are left, of a tuple each number is held down; None, which stands for all there are, becomes the limit."""
    most = limits().get(name) if profile == "full" else None
    if most is None:
        return value
    if value is None:
        return most
    if isinstance(value, tuple):
        return value[:most] if name == "seeds" else tuple(min(number, most) for number in value)
    return min(value, most)
