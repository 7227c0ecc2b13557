"""Who the phantom patients are: which groups take turns, at which phases; their hearts, and arrays of many of them.

A patient is a key (seed, number, group, number within the group), from which everything else is made. What a phantom
scanner makes of the heart (`cohort`, `pairs`, `ultrasound`) starts here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from shapelab.data.facts import GROUPS, PHASES
from shapelab.errors import must
from shapelab.files import cached
from shapelab.phantoms.anatomy import Heart, build_heart
from shapelab.phantoms.population import draw_factors

Patient = tuple[int, int, str, int]  # seed, number, group, number within the group
Draw = Callable[[Patient, str], tuple[dict[str, np.ndarray], Mapping[str, object]]]


def some_of(what: str, values: Sequence[str], known: Sequence[str], once: bool = False) -> None:
    """UsageError unless `values` are one or more of the known names; `once`: none of them twice."""
    some = not isinstance(values, str) and len(values) and set(values) <= set(known)
    must(some, what, repr(values), f"some of {list(known)}")
    must(not once or len(set(values)) == len(values), what, repr(values), "each once")


@dataclass(frozen=True)
class Mix:
    """Groups, of which the patients take turns, and the phases that each is seen at; UsageError for unknown ones.

    Attributes:
        known: the groups that there are: of short-axis hearts, or others such as `WHOLE_GROUPS`
    """

    groups: Sequence[str] = GROUPS
    phases: Sequence[str] = PHASES
    known: Sequence[str] = field(default=GROUPS, repr=False)

    def __post_init__(self) -> None:
        some_of("groups", self.groups, self.known)
        some_of("phases", self.phases, PHASES, once=True)

    def patient(self, seed: int, index: int) -> Patient:
        """Patient number `index`: the same whatever is made of it, and however many there are."""
        return int(seed), int(index), self.groups[index % len(self.groups)], int(index) // len(self.groups)


@lru_cache(maxsize=64)
def anatomy(who: Patient) -> tuple[dict[str, float], dict[str, Heart]]:
    """Factors and heart (by phase) of one patient: solved again when asked for, so that a large cohort holds none."""
    f = draw_factors(*who)
    return f, build_heart(f)


def cached_hearts(
    who: Sequence[Patient],
    phases: Sequence[str],
    draw: Draw,
    cache: str | Path | None = None,
    key: str = "",
    progress: bool = False,
    seen: str = "phase",
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Arrays of many hearts, and their table: patient by patient, a row a phase, or what `cache` holds of them.

    Args:
        draw: (patient, phase) -> arrays of one heart by name, and its facts
        cache: `.npz` file that is read if it holds what `key` names, else written
        seen: the table's name for a phase, which may be a modality

    Returns name -> (N, ...), N = patients x phases, and the table (index ``phantom000_ED``): patient, group, phase
    (or what `seen` calls it), facts.
    """

    def make() -> tuple[dict[str, np.ndarray], pd.DataFrame]:
        from tqdm.auto import tqdm

        made, rows = [], {}
        for one in tqdm(who, desc="phantoms", unit="heart", disable=not progress, leave=False):
            name = f"phantom{one[1]:03d}"
            for phase in phases:
                arrays, facts = draw(one, phase)
                made.append(arrays)
                rows[f"{name}_{phase}"] = {"patient": name, "group": one[2], seen: phase, **facts}
        stacked = {name: np.stack([one[name] for one in made]) for name in made[0]}
        return stacked, pd.DataFrame(list(rows.values()), index=list(rows))

    return cached(cache, key, make)
