"""Where a classifier's columns come from, fold by fold.

A shape space is learned from shapes. If the shapes of a test patient were among them, the classifier's score is not
that of an unseen patient. So features either are fitted inside each fold, on the training patients alone
(`SpaceFeatures`), or they say that they saw the test shapes (`FixedFeatures`); the result carries it on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from shapelab.data.facts import APART, PHASES
from shapelab.data.rows import check_fact_names, in_order, of_patients, patients_of, row_names
from shapelab.errors import must, need
from shapelab.latent.codes import (
    INDEX,
    agreed,
    check_table,
    code_columns,
    codes_table,
    one_each,
    patient_rows,
    read_codes,
    write_codes,
)
from shapelab.spaces.contract import ShapeSpace, encode_batches

#: Columns of `shapelab.metrics.clinical.cardiac_indices` that are known from ED alone, and those that need ES.
ED_INDICES = ("LVV_ED", "RVV_ED", "LVM", "RVM")
ES_INDICES = ("LVV_ES", "RVV_ES", "LVEF", "RVEF")


@runtime_checkable
class FoldFeatures(Protocol):
    """Features of patients, made anew for each fold.

    Attributes:
        saw_test_shapes: whether a test patient's shape had a part in how features are made
        fixed: whether a column means the same in every fold (False where a space is fitted in each)
        facts: DataFrame, one row a patient, index = patient; or one each side or visit of a patient, called as
            `shapelab.data.rows.row_names` says, with a column `patient`
    """

    saw_test_shapes: bool
    fixed: bool

    @property
    def facts(self) -> pd.DataFrame: ...

    def table(self, train: Sequence[str], test: Sequence[str], phases: Sequence[str]) -> pd.DataFrame:
        """Features (index as of `facts`) of the train and test patients; what is fitted is fitted without `test`."""
        ...


class FixedFeatures:
    """Codes as they are, of a space that was fitted before.

    Args:
        codes: Codes table. With a column `phase`: one row a subject, a column `patient` is needed. Without: one row a
            patient (index, or column `patient`), taken as it stands whatever phases are asked for. Several rows a
            patient (and phase) are told apart by a fact `side` or `visit`.
        saw_test_shapes: whether the space was fitted on shapes of these patients. True unless you know better.
    """

    fixed = True

    def __init__(self, codes: pd.DataFrame, saw_test_shapes: bool = True):
        check_table(codes, where="codes")
        self.codes, self.saw_test_shapes = codes, saw_test_shapes
        check_fact_names(codes.columns, "codes")
        self._names = row_names(codes) if "patient" in codes else None
        if "phase" not in codes and self._names is not None:
            one_each(self._names)
            plain = self._names.name == "patient"
            self.codes = (codes.drop(columns="patient") if plain else codes).set_axis(pd.Index(self._names))

    @property
    def facts(self) -> pd.DataFrame:
        facts = self.codes.drop(columns=code_columns(self.codes))
        return patient_facts(facts) if "phase" in facts else facts

    def table(self, train: Sequence[str], test: Sequence[str], phases: Sequence[str]) -> pd.DataFrame:
        rows = self.codes
        if "phase" in rows:
            must(self._names is not None, "codes", "no column 'patient'", "one, to bring a patient's phases together")
            assert self._names is not None
            here = rows["patient"].isin([*train, *test])
            rows = patient_rows(rows[here], phases, names=self._names[here])
        return of_patients(rows, [*train, *test])[code_columns(rows)]


class IndexFeatures:
    """Clinical indices, a control: volumes and mass at ED, with ES volumes and ejection fractions where ES is used.

    Args:
        indices: as `shapelab.metrics.clinical.cardiac_indices` returns them, index = patient
    """

    saw_test_shapes, fixed = False, True

    def __init__(self, indices: pd.DataFrame):
        self.indices = indices
        self._columns = {p: [c for c in names if c in indices] for p, names in (("ED", ED_INDICES), ("ES", ES_INDICES))}
        must(
            self._columns["ED"],
            "IndexFeatures",
            f"columns {list(indices.columns[:6])}",
            "those of shapelab.metrics.clinical.cardiac_indices",
        )
        for column in [*self._columns["ED"], *self._columns["ES"]]:
            holes = indices.index[~np.isfinite(indices[column].to_numpy(dtype=float))]
            need(
                not len(holes),
                "indices",
                f"NaN or infinity in {column!r} of patient {next(iter(holes), None)!r}",
                "a finite number",
            )
        one_each(indices.index.to_series())

    @property
    def facts(self) -> pd.DataFrame:
        return self.indices.drop(columns=[*self._columns["ED"], *self._columns["ES"]])

    def table(self, train: Sequence[str], test: Sequence[str], phases: Sequence[str]) -> pd.DataFrame:
        columns = [c for phase in PHASES if phase in phases for c in self._columns[phase]]
        if "ED" not in phases:  # an ejection fraction needs both
            columns = [c for c in columns if not c.endswith("EF")]
        return of_patients(self.indices, [*train, *test])[columns]


class SpaceFeatures:
    """Codes of a shape space that is fitted anew in each fold, on the shapes of that fold's training patients.

    All phases in `table` serve to fit, whatever phases are classified, so several models and choices of phases share
    one fit. Only the codes are kept (N x d numbers), not the spaces.

    Args:
        labels: (N, X, Y, Z) integers, on one grid, as `shapelab.data.grid.stack_labels` gives them
        table: facts of the N label maps, columns `patient` and `phase`, index = subject id
        make_space: function (labels (n, X, Y, Z), seed) -> fitted `ShapeSpace`. The seed is a function of the training
            patients and of `seed`, so it may also name a folder for checkpoints.
        seed: integer from 0
        with_others: fit also on patients of `table` that are not classified (other groups); never on test patients
        cache: folder to keep the codes of each fold in (CSV), so that a killed run resumes where it was
        cache_key: says what `make_space` does; a cache is only used again for the same key, labels and training
            patients
        measure: function (space, labels) -> DataFrame with one row a label map (index 0, 1, ... as they lie in labels),
            done after each fit and kept beside the codes (see `measured`), such as the Dice of a code's reconstruction
    """

    saw_test_shapes, fixed = False, False

    def __init__(
        self,
        labels: np.ndarray,
        table: pd.DataFrame,
        make_space: Callable[[np.ndarray, int], ShapeSpace],
        seed: int = 0,
        with_others: bool = False,
        cache: str | Path | None = None,
        cache_key: str | None = None,
        measure: Callable[[ShapeSpace, np.ndarray], pd.DataFrame] | None = None,
    ):
        must(
            len(labels) == len(table),
            "SpaceFeatures",
            f"{len(labels)} label maps and {len(table)} rows of facts",
            "as many of both",
        )
        for needed in ("patient", "phase"):
            must(needed in table, "SpaceFeatures", f"no column {needed!r}", "one, as stack_labels returns it")
        must(
            cache is None or cache_key,
            "SpaceFeatures",
            "cache without cache_key",
            "a text that says what make_space does, or codes of another space might be taken for this one's",
        )
        self.labels, self.subjects, self.make_space = labels, table, make_space
        self.seed, self.with_others, self.measure = seed, with_others, measure
        self.cache = None if cache is None else Path(cache)
        self._content = hashlib.sha256(
            f"{cache_key}|{getattr(measure, '__name__', measure)}|{labels.shape}|{list(table.index)}".encode()
        )
        if cache is not None:
            self._content.update(np.ascontiguousarray(labels).data)
        self._codes: dict[str, pd.DataFrame] = {}

    @property
    def facts(self) -> pd.DataFrame:
        return patient_facts(self.subjects)

    @property
    def _facts(self) -> pd.DataFrame:
        return self.subjects[["patient", "phase", *(c for c in APART if c in self.subjects)]]

    def table(self, train: Sequence[str], test: Sequence[str], phases: Sequence[str]) -> pd.DataFrame:
        return FixedFeatures(self._codes_of_fold(train, test), False).table(train, test, phases)

    def measured(self, train: Sequence[str], test: Sequence[str]) -> pd.DataFrame:
        """What `measure` found for the test patients' subjects, in the space fitted without them (index = subject)."""
        codes = self._codes_of_fold(train, test)
        return codes.loc[codes["patient"].isin(test)].drop(columns=code_columns(codes))

    def _codes_of_fold(self, train: Sequence[str], test: Sequence[str]) -> pd.DataFrame:
        patients = self.subjects["patient"]
        return self.codes(sorted(patients[~patients.isin(test) if self.with_others else patients.isin(train)].unique()))

    def codes(self, patients: Sequence[str]) -> pd.DataFrame:
        """Codes table of all subjects, from a space fitted on these patients; kept for the next call."""
        identity = self._content.copy()
        identity.update(f"{self.seed}|{list(patients)}".encode())
        key = identity.hexdigest()
        if key not in self._codes:
            file = None if self.cache is None else self.cache / f"codes-{key[:20]}.csv"
            if file is not None and file.exists():
                kept = read_codes(file, required=("patient", "phase")).set_axis(self.subjects.index).rename_axis(INDEX)
                self._codes[key] = kept.assign(**self._facts)  # text in the file, whatever they are here
            else:
                self._codes[key] = self._fit(patients)
                if file is not None:
                    write_codes(self._codes[key], file)
        return self._codes[key]

    def _fit(self, patients: Sequence[str]) -> pd.DataFrame:
        chosen = self.subjects["patient"].isin(patients).to_numpy()
        seed = int(hashlib.sha256(f"{self.seed}|{list(patients)}".encode()).hexdigest()[:7], 16)
        space = self.make_space(self.labels[chosen], seed)
        facts = self._facts
        if self.measure is not None:
            found = in_order("SpaceFeatures: measure", self.measure(space, self.labels), range(len(facts)))
            facts = pd.concat([facts, found.set_axis(facts.index)], axis=1)
        return codes_table(encode_batches(space, self.labels), facts)


def random_features(like: FoldFeatures, d: int, seed: int) -> FixedFeatures:
    """A control without information: d normal numbers for each patient and phase, for the patients of `like`."""
    facts = like.facts
    generator = np.random.default_rng(seed)
    parts = [
        codes_table(
            generator.normal(size=(len(facts), d)),
            facts.assign(patient=patients_of(facts), phase=phase).set_axis(facts.index.astype(str) + f"_{phase}"),
        )
        for phase in PHASES
    ]
    return FixedFeatures(pd.concat(parts), saw_test_shapes=False)


def patient_facts(table: pd.DataFrame) -> pd.DataFrame:
    """One row a patient, or each side or visit of one (`row_names`), and the facts that its rows agree on."""
    return agreed(table, row_names(table))
