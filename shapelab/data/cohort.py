"""`Cohort`: an immutable sequence of subjects with a table of what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from shapelab.data.scheme import LabelScheme
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError, must, need, one_of


class Cohort(Sequence):
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

    def __getitem__(self, key):
        """By position or id -> Subject; by slice or list of positions or ids -> Cohort."""
        if isinstance(key, str):
            if key not in self._position:
                raise UsageError(f"cohort {self.name!r}: found no subject {key!r}; expected one of {self._some_ids()}")
            return self._subjects[self._position[key]]
        if isinstance(key, (int, np.integer)):
            return self._subjects[key]
        if isinstance(key, slice):
            return self._with(self._subjects[key])
        return self._with(self[k] for k in key)

    def __contains__(self, key) -> bool:
        return key in self._position if isinstance(key, str) else key in self._subjects

    def __add__(self, other: Cohort) -> Cohort:
        return Cohort((*self, *other), f"{self.name}+{other.name}", self.scheme, (*self.skipped, *other.skipped))

    def _with(self, subjects: Iterable[Subject]) -> Cohort:
        return Cohort(subjects, self.name, self.scheme, self.skipped)

    def _some_ids(self) -> str:
        ids = list(self._position)
        return ", ".join(ids[:5]) + (f", ... ({len(ids)} in all)" if len(ids) > 5 else "")

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
            [{"patient": s.patient, **s.facts} for s in self],
            index=pd.Index(self.ids, name="subject", dtype=object),
        )

    def filter(self, condition: Callable[[Subject], bool] | None = None, **facts) -> Cohort:
        """Subjects for which `condition` holds and each named fact equals (or is among a list of) the value given.

        >>> cohort.filter(phase="ED", group=["NOR", "DCM"])       # doctest: +SKIP
        """
        known = sorted(set().union(*(s.facts for s in self), {"patient"})) if len(self) else []
        for fact in facts:
            one_of(f"cohort {self.name!r}: fact", fact, known)

        def keep(s: Subject) -> bool:
            here = {**s.facts, "patient": s.patient}
            return all(
                here.get(fact) in wanted
                if isinstance(wanted, (list, tuple, set, frozenset))
                else here.get(fact) == wanted
                for fact, wanted in facts.items()
            ) and (condition is None or bool(condition(s)))

        return self._with(s for s in self if keep(s))

    def split(
        self, by: str = "patient", stratify: str | None = "group", test: float = 0.25, seed: int = 0
    ) -> tuple[Cohort, Cohort]:
        """Split into (train, test) so that no `by` is in both, and each `stratify` keeps its share.

        Args:
            by: fact that must not be torn apart
            stratify: fact whose proportions are kept, or None
            test: share of the units (patients) in the second part, between 0 and 1
            seed: the split is a function of (cohort, arguments, seed)
        """
        must(0 < test < 1, "Cohort.split", f"test={test}", "a share between 0 and 1")
        table = self.table
        one_of("Cohort.split: by", by, table.columns)
        one_of("Cohort.split: stratify", stratify, [None, *table.columns])
        units = table.drop_duplicates(by).set_index(by)
        strata = pd.Series("all", index=units.index)
        if stratify is not None:
            strata = units[stratify]
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
            members = strata.index[strata == value].to_numpy()
            n = int(round(test * len(members)))
            need(
                0 < n < len(members),
                self.name,
                f"{len(members)} {by}(s) with {stratify}={value!r}",
                f"enough for both parts at test={test}",
            )
            chosen.update(generator.permutation(members)[:n])
        return tuple(
            self._with(s for s, unit in zip(self, table[by], strict=True) if (unit in chosen) == part)
            for part in (False, True)
        )
