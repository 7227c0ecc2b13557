"""Which row is whose: what is taken is taken by name or by position, never by chance. The rule, once.

Named are the values of a Series, a DataFrame or a mapping (by its index or keys), and what a pandas Index holds. All
else goes by position: arrays, lists, generators, tensors. Names that do not fit the rows are an error, and never a
reason to count positions instead.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from shapelab.data.facts import APART, KNOWN
from shapelab.errors import few, must, need

Rows: TypeAlias = np.ndarray | pd.Series | pd.Index | Mapping[Any, bool]  # a mask, positions or names, see `positions`
BY_POSITION = "Where it is in the order of the rows, take its values alone, such as .to_numpy()."


def in_order(what: str, values: Any, names: Iterable[Hashable]) -> Any:
    """Values in the order of the rows called `names`: named ones by their names, others as they stand.

    Args:
        what: is asked for, for the message
        values: one a row: a Series, a DataFrame, a mapping, or whatever has a length or can be gone through

    Raises:
        DataError: names that are not those of the rows, each once; not as many values as rows
    """
    rows = list(names)
    if not has_names(values):
        values = values if hasattr(values, "__len__") else list(values)
        need(len(values) == len(rows), what, f"{len(values)} values for {len(rows)} rows", "one a row")
        return values
    own = list(_names(values))
    if own == rows:
        return list(values.values()) if isinstance(values, Mapping) else values
    place = {name: i for i, name in enumerate(own)}
    fits = len(place) == len(own) == len(rows) and set(place) == set(rows)
    lacking, others = [n for n in rows if n not in place], [n for n in place if n not in set(rows)]
    todo = "".join(f"{t}: {_few(names)}. " for t, names in (("Lacking", lacking), ("Others", others)) if names)
    need(fits, what, f"values for {_few(own)}", f"one for each of {_few(rows)}", todo + BY_POSITION)
    if isinstance(values, Mapping):
        return [values[name] for name in rows]
    return values.iloc[[place[name] for name in rows]]


def in_one_order(what: str, *things: Any) -> tuple[Any, ...]:
    """Things of the same cases, in the order of the first that has names; those without names as they stand.

    DataError where two have different names.
    """
    names = names_among(*things)
    return tuple(in_order(what, t, names) if names is not None and has_names(t) else t for t in things)


def has_names(values: Any) -> bool:
    """Whether these go by name."""
    return isinstance(values, (pd.Series, pd.DataFrame, Mapping))


def names_among(*things: Any) -> list[Hashable] | None:
    """The names of the first thing that has any; None: none has."""
    return next((list(_names(t)) for t in things if has_names(t)), None)


def positions(what: str, key: Any, names: Iterable[Hashable]) -> np.ndarray:
    """Positions of the rows that are asked for.

    Args:
        what: is asked, for the message
        key: a mask (true or false for each row; a Series or a mapping by its names), positions (whole numbers, from the
            end where negative), or names (text, or a pandas Index of anything). A set is taken in the rows' order
        names: of the rows

    Raises:
        UsageError: a mask of another length, a position or a name that is not there, numbers that are not whole, gaps
        DataError: a mask whose names are not the rows'
    """
    rows = list(names)
    must(isinstance(key, Iterable) and not isinstance(key, str), what, repr(key), "a mask, positions, or names")
    if isinstance(key, Mapping):
        key = pd.Series(key)
    array = np.asarray(key if hasattr(key, "__array__") else list(key), dtype=object)
    must(array.ndim == 1, what, f"{array.ndim} axes", "one: a mask, positions, or names")
    kind = infer_dtype(array, skipna=False)
    if kind == "boolean" or str(getattr(key, "dtype", "")) == "bool":  # an empty one too
        mask = np.asarray(in_order(what, key, rows) if isinstance(key, pd.Series) else array, dtype=bool)
        must(len(mask) == len(rows), what, f"a mask of {len(mask)} for {len(rows)} rows", "one value a row")
        return np.flatnonzero(mask)
    if kind == "integer" and not isinstance(key, pd.Index):
        wrong = [int(i) for i in array if not -len(rows) <= i < len(rows)]
        must(not wrong, what, f"the positions {wrong[:5]} of {len(rows)} rows", f"{-len(rows)} to {len(rows) - 1}")
        found = np.arange(len(rows))[array.astype(int)]
    else:
        named = kind in ("string", "empty") or isinstance(key, pd.Index)
        must(named, what, f"{kind} values: {_few(list(array))}", "a mask, positions, or names, without gaps")
        place = {name: i for i, name in enumerate(rows)}
        unknown = [name for name in array if name not in place]
        must(not unknown, what, f"the names {_few(unknown)}", f"some of {_few(rows)}")
        found = np.array([place[name] for name in array], dtype=int)
    return np.sort(found) if isinstance(key, (set, frozenset)) else found


def row_names(table: pd.DataFrame) -> pd.Series:
    """What each row of a table of subjects shows: its patient; where a fact such as side or visit (`APART`) tells a
    patient's shapes apart, also that, as text: "p7, side L".

    Args:
        table: with a column `patient`

    Raises:
        UsageError: no column `patient`
        DataError: a row without a patient, or without the fact that tells its patient's shapes apart
    """
    must("patient" in table, "codes", "no column 'patient'", "one, to keep a patient's phases together")
    filled(table, "patient")
    patient = table["patient"]
    if isinstance(patient.dtype, pd.CategoricalDtype):  # whose categories may be of patients that are not there
        patient = patient.astype(object)
    apart = [c for c in APART if c in table and (table[c].groupby(patient).nunique() > 1).any()]
    if not apart:
        return patient
    for fact in apart:
        filled(table, fact)
    parts = zip(patient, *(table[fact] for fact in apart))
    text = [", ".join([str(p), *(f"{f} {v}" for f, v in zip(apart, rest))]) for p, *rest in parts]
    return pd.Series(text, index=table.index, name="row", dtype=object)


def check_fact_names(names: Iterable[Hashable], where: str | Path | None) -> None:
    """DataError for a column such as "Patient" or "group ": a `KNOWN` fact in another spelling would be passed over.

    A patient's rows would be taken for those of several.
    """
    own = list(names)
    near = {c: k for c in own for k in KNOWN if c != k and str(c).strip().casefold() == k and k not in own}
    found, expected = (", ".join(map(repr, some)) for some in (near, near.values()))
    need(not near, where, f"a column {found}", f"{expected}", "Rename it, or remove it.")


def patients_of(rows: pd.DataFrame) -> pd.Series:
    """The patient of each row of a table whose rows are called as `row_names` says: a fact, or the name itself."""
    return rows["patient"] if "patient" in rows else rows.index.to_series(name="patient")


def of_patients(rows: pd.DataFrame, patients: Iterable[Hashable]) -> pd.DataFrame:
    """The rows of these patients, in their order. DataError for one who has none."""
    of, asked = patients_of(rows), list(patients)
    missing = [str(p) for p in asked if p not in set(of)]
    need(not missing, "codes", f"nothing for patient(s) {missing[:5]}", "a row for each")
    place = {patient: i for i, patient in enumerate(asked)}
    chosen = [(place[p], i) for i, p in enumerate(of) if p in place]
    return rows.iloc[[i for _, i in sorted(chosen)]]


def filled(table: pd.DataFrame, fact: str) -> None:
    """DataError for a row in which a fact is not known."""
    gaps = table.index[table[fact].isna()]
    need(not len(gaps), "codes", f"no {fact!r} for subject {next(iter(gaps), None)!r}", "one in every row")


def _names(values: Any) -> Iterable[Hashable]:
    return values.keys() if isinstance(values, Mapping) else values.index


def _few(names: Iterable[Hashable]) -> str:
    return few([*map(repr, names)])
