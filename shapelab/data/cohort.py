"""`Cohort`: an immutable sequence of subjects with a table of what is known about them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pandas as pd

from shapelab.data.rows import Rows, positions
from shapelab.data.scheme import LabelScheme
from shapelab.data.subject import Subject, is_known
from shapelab.errors import DataError, few, must, need, one_of


class Cohort(Sequence[Subject]):
    """Subjects, in order; arrays stay on disk until a subject is asked for them.

    Args:
        subjects: of distinct ids, all of one scheme
        name: of the data set
        scheme: meaning of the label integers, the same for all
        skipped: the errors of subjects that were left out on request (``on_error="skip"``)
    """

    def __init__(self, subjects: Iterable[Subject], name: str, scheme: LabelScheme, skipped: Iterable[DataError] = ()):
        self._subjects = tuple(subjects)
        self.name, self.scheme, self.skipped = name, scheme, tuple(skipped)
        self._position = {s.id: i for i, s in enumerate(self._subjects)}
        twice = sorted({s.id for i, s in enumerate(self._subjects) if self._position[s.id] != i})
        need(not twice, name, f"the ids {twice[:5]} more than once", "a distinct id for each subject")
        for s in self._subjects:
            need(
                s.scheme == scheme,
                s.where,
                f"label scheme {s.scheme.name!r}",
                f"{scheme.name!r}, as the cohort {name!r}",
            )

    def __len__(self) -> int:
        return len(self._subjects)

    def __iter__(self) -> Iterator[Subject]:
        return iter(self._subjects)

    @overload
    def __getitem__(self, key: int | str) -> Subject: ...

    @overload
    def __getitem__(self, key: slice | Iterable[int] | list[str] | tuple[str, ...] | set[str] | Rows) -> Cohort: ...

    def __getitem__(self, key: Any) -> Subject | Cohort:
        """By position or id -> Subject; by slice, mask, positions or ids (`shapelab.data.rows.positions`) -> Cohort.

        A Series that is a mask, such as ``cohort.table["group"] == "NOR"``, goes by its index, in any order.
        """
        if isinstance(key, str):
            must(key in self._position, f"cohort {self.name!r}", f"no subject {key!r}", f"one of {few(self.ids)}")
            return self._subjects[self._position[key]]
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            return self._subjects[key]
        if isinstance(key, slice):
            return self._with(self._subjects[key])
        return self._with(self._subjects[i] for i in positions(f"cohort {self.name!r}", key, self.ids))

    def __contains__(self, key: object) -> bool:
        must(isinstance(key, (str, Subject)), f"cohort {self.name!r}: in", repr(key), "an id (text) or a Subject")
        return key in self._position if isinstance(key, str) else key in self._subjects

    def __add__(self, other: Cohort) -> Cohort:
        return Cohort((*self, *other), f"{self.name}+{other.name}", self.scheme, (*self.skipped, *other.skipped))

    def _with(self, subjects: Iterable[Subject]) -> Cohort:
        return Cohort(subjects, self.name, self.scheme, self.skipped)

    def __repr__(self) -> str:
        return (
            f"Cohort({self.name!r}: {len(self)} subjects of {len(self.patients)} patients, scheme {self.scheme.name!r})"
        )

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._position)

    @property
    def patients(self) -> tuple[str, ...]:
        """Distinct patients, in order of appearance; a patient's ED and ES share one."""
        return tuple(dict.fromkeys(s.patient for s in self))

    @property
    def table(self) -> pd.DataFrame:
        """One row a subject, index = id, columns = facts; `patient` is always there. Reads no array."""
        return pd.DataFrame(
            [{"patient": s.patient, **{k: v for k, v in s.facts.items() if k != "patient"}} for s in self],
            index=pd.Index(self.ids, name="subject", dtype=object),
        )

    def filter(self, condition: Callable[[Subject], bool] | Any = None, **facts: Any) -> Cohort:
        """Subjects for which `condition` holds and each named fact equals (or is among several of) the value given.

        Args:
            condition: function of a subject, or what ``cohort[...]`` takes
            facts: a value, or several: list, array, Series, keys, generator. None: those of whom it is not known

        Where nobody has any of the values asked for, a warning says so.

        >>> cohort.filter(phase="ED", group=["NOR", "DCM"])       # doctest: +SKIP
        """
        if condition is not None and not callable(condition):
            chosen = self[condition]
            return chosen.filter(**facts) if isinstance(chosen, Cohort) else self._with([chosen]).filter(**facts)
        known = sorted(set().union(*(s.facts for s in self), {"patient"})) if len(self) else list(facts)
        kept = [s for s in self if condition is None or bool(condition(s))]
        for fact, asked in facts.items():
            one_of(f"cohort {self.name!r}: fact", fact, known)
            several = isinstance(asked, Iterable) and not isinstance(asked, str)
            wanted = [v if is_known(v) else None for v in (asked if several else [asked])]
            if fact == "patient":  # always text, also 7
                wanted = [str(v) for v in wanted]
            if len(self) and not any(s.fact(fact) in wanted for s in self):
                found = ", ".join(sorted({repr(s.fact(fact)) for s in self})[:8])
                warnings.warn(
                    f"cohort {self.name!r}: found nobody with {fact} in {wanted[:5]}; expected some of {found}",
                    stacklevel=2,
                )
            kept = [s for s in kept if s.fact(fact) in wanted]
        return self._with(kept)

    def split(
        self, by: str = "patient", stratify: str | None = "group", test: float = 0.25, seed: int = 0
    ) -> tuple[Cohort, Cohort]:
        """Split into (train, test) so that no `by` is in both, and each `stratify` keeps its share.

        Args:
            by: fact that must not be torn apart
            stratify: fact whose proportions are kept, or None. Those of whom it is not known are a part of their own
            test: share of the units (patients) in the second part, between 0 and 1
            seed: the split is a function of (cohort, arguments, seed)
        """
        must(0 < test < 1, "Cohort.split", f"test={test}", "a share between 0 and 1")
        table = self.table
        one_of("Cohort.split: by", by, table.columns)
        one_of("Cohort.split: stratify", stratify, [None, *table.columns])
        gaps = table.index[table[by].isna()]
        need(not len(gaps), self.name, f"no {by!r} for {len(gaps)} subject(s), {list(gaps[:3])}", "one for each")
        strata = pd.Series("all", index=pd.Index(table[by].unique()))
        if stratify is not None:
            strata = table.groupby(by, sort=False)[stratify].first()  # the first that is known
            strata = strata.astype(object).where(strata.notna(), None)
            several = table.groupby(by)[stratify].nunique().loc[lambda n: n > 1].index
            need(
                several.empty,
                self.name,
                f"{by} {next(iter(several), None)!r} with several values of {stratify!r}",
                f"one {stratify} for each {by}",
            )
        generator = np.random.default_rng(seed)
        chosen: set = set()
        for value in sorted(strata.unique(), key=str):
            members = strata.index[strata.isna() if value is None else strata == value].to_numpy()
            n = int(round(test * len(members)))
            need(
                value is None or 0 < n < len(members),
                self.name,
                f"{len(members)} {by}(s) with {stratify}={value!r}",
                f"enough for both parts at test={test}",
            )
            chosen.update(generator.permutation(members)[:n])
        train, test_part = (
            self._with(s for s, unit in zip(self, table[by], strict=True) if (unit in chosen) == part)
            for part in (False, True)
        )
        return train, test_part
