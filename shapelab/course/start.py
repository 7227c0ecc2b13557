"""What every notebook of the course begins with: its first line, and the hearts it runs on.

>>> from shapelab import course                                        # doctest: +SKIP
>>> run = course.start("02", data="phantom", seed=0)                   # doctest: +SKIP
profile quick | device cpu | data phantom | seed 0
>>> hearts = run.hearts(40)                                            # doctest: +SKIP
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from shapelab.errors import DataError, one_of, whole
from shapelab.profiles import current_profile, limited

if TYPE_CHECKING:
    from shapelab.data.cohort import Cohort

DATA_SETS = ("phantom", "acdc")
HOW_TO_TRAIN = (
    "This machine has a GPU. To train larger networks on it, put %env SHAPELAB_PROFILE=full above this line and run "
    "the notebook anew."
)
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
        return limited({"quick": quick, "full": full, "paper": paper}[self.profile], "pick", self.profile)

    def hearts(self, n: int, **options: Any) -> Cohort:
        """The chapter's hearts, ED and ES of n patients (all there are, if fewer), groups in turn.

        Args:
            options: for the phantoms only, as `shapelab.phantoms.heart_cohort` takes them (resolution, images, ...);
                real hearts are what they are.
        """
        from shapelab.data import open_cohort

        if self.data == "phantom":
            return open_cohort("phantom", **{"n": n, "seed": self.seed} | options)
        return groups_in_turn(_acdc(), n)


def start(chapter: str, data: str = "phantom", seed: int = 0) -> Context:
    """First call of a notebook: seeds everything and prints the one line that says how it runs.

    On a machine with a GPU, in the profile "quick", a second line says how to train the larger networks there.

    Args:
        chapter: number of the notebook, "00" to "99"
        data: "phantom" or "acdc"
        seed: of Python, NumPy and torch

    Raises:
        UsageError: unknown data
        DataError: `data` is "acdc" and it is not there: where to get it
    """
    if one_of("DATA", data, DATA_SETS) != "phantom":
        from shapelab.data.cards import locate

        locate(data)
    from shapelab.device import best_device, seed_everything

    seed_everything(seed)
    warnings.formatwarning = _in_words
    _set_look()
    context = Context(str(chapter), current_profile(), best_device().type, data, int(seed))
    print(context)
    if context.device == "cuda" and context.profile == "quick":
        print(HOW_TO_TRAIN)
    return context


def _in_words(message: Warning | str, category: type, filename: str, lineno: int, line: str | None = None) -> str:
    """A warning as a student reads it: without the place in a temporary file of the kernel's."""
    return f"{category.__name__}: {message}\n"


def _set_look() -> None:
    """Figures drawn in a notebook look like the library's; tables have three digits, which is what cohorts can tell."""
    import matplotlib
    import pandas as pd

    from shapelab.show import style

    matplotlib.rcParams.update(style.RC)
    pd.set_option("display.float_format", lambda value: f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}")


def real_hearts(n: int | None = None) -> Cohort | None:
    """ACDC, for a section "On real hearts": its training part, or None and one message where it is absent.

    Args:
        n: at most so many patients, groups in turn; None: all

    A data set that is there but broken is an error, as ever.
    """
    from shapelab.data.cards import get_card, locate

    card = get_card("acdc")
    try:
        locate("acdc")
    except DataError:
        print(f"No real hearts here, so this section computes nothing. {card.how_to_get}")
        return None
    hearts = _acdc() if n is None else groups_in_turn(_acdc(), n)
    print(f"ACDC: {len(hearts.patients)} patients, {len(hearts)} label maps. {card.citation}. {card.licence}.")
    return hearts


def _acdc() -> Cohort:
    """ACDC's training part (or what there is, where no subset is given), ED and ES."""
    from shapelab.data import open_cohort

    return open_cohort("acdc").filter(lambda s: s.facts.get("subset", "training") == "training")


def groups_in_turn(cohort: Cohort, n: int) -> Cohort:
    """The first n patients when the groups take turns, each with all its subjects.

    ACDC lists its groups one after another; the first ten of it would be ten of one disease.
    """
    whole("groups_in_turn, n", n)
    subjects: dict[str, list[str]] = {}
    by_group: dict[Any, list[str]] = {}
    for subject in cohort:
        if subject.patient not in subjects:
            by_group.setdefault(subject.facts.get("group"), []).append(subject.patient)
        subjects.setdefault(subject.patient, []).append(subject.id)
    taken = [p for turn in zip_longest(*by_group.values()) for p in turn if p is not None][:n]
    return cohort[[identity for patient in taken for identity in subjects[patient]]]
