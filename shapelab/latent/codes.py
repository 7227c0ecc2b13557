"""Codes: a DataFrame, one row a subject, columns z00, z01, ... and the subject's facts.

What embeds, tests or classifies takes this table and nothing else, so a CSV of somebody else's codes works too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shapelab.data.facts import APART, PHASES
from shapelab.data.formats.text import read_table
from shapelab.data.rows import filled, in_order, row_names
from shapelab.errors import DataError, must, need
from shapelab.files import atomic_write
from shapelab.spaces.contract import ShapeSpace, code_names, code_values, encode_batches

if TYPE_CHECKING:  # loading it is for whoever has a cohort
    from shapelab.data.cohort import Cohort

INDEX = "subject"
CODE = re.compile(r"(?:(?P<part>[A-Za-z]+)_)?z(?P<dimension>\d+)")


def encode_cohort(
    space: ShapeSpace,
    cohort: Cohort,
    align: str | None = None,
    centre: str | Iterable[float] | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Codes of a cohort: each label map laid on the space's grid as the space's own shapes were, then encoded.

    Args:
        space: fitted
        cohort: of the space's label scheme
        align: as in `shapelab.data.grid.to_grid`, for a space that does not remember how its shapes were laid; None:
            as it remembers, or else "rigid", with a warning
        centre: see `align`; None: "auto"
        progress: show a bar

    Returns:
        DataFrame, index = subject id, columns z00, z01, ... (float32) and the facts, `outside` among them (share of
        the labelled volume that the grid cuts off)

    Raises:
        UsageError: a cohort of another scheme than the space's; another align or centre than it remembers
    """
    from shapelab.data.grid import stack_labels
    from shapelab.data.placement import HEARTS, placement_for, remembered

    must(
        cohort.scheme == space.scheme,
        "encode_cohort",
        f"cohort {cohort.name!r} of scheme {cohort.scheme.name!r}",
        f"the space's, {space.scheme.name!r}",
    )
    given: dict[str, Any] = {k: v for k, v in {"align": align, "centre": centre}.items() if v is not None}
    known = remembered(space) or (replace(HEARTS, **given) if given else placement_for(space))
    must(
        replace(known, **given) == known,
        "encode_cohort",
        f"{given} for a space whose shapes were laid with {known}",
        "the same, or nothing: it remembers",
    )
    labels, table = stack_labels(cohort, space.grid, **vars(known), progress=progress)
    return codes_table(encode_batches(space, labels), table)


def codes_table(codes: np.ndarray | pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Codes (N, d) and the facts of the same N subjects (index = id) as one Codes table.

    An array's rows are in the order of the facts; a table's are matched by their ids, its columns by their names.
    """
    if isinstance(codes, pd.DataFrame):
        codes = code_values(in_order("codes_table", codes, table.index), codes.shape[1])
    codes = np.asarray(codes)
    must(
        codes.ndim == 2 and len(codes) == len(table),
        "codes_table",
        f"codes of shape {codes.shape} for {len(table)} subjects",
        f"({len(table)}, d)",
    )
    numbers = pd.DataFrame(codes, index=table.index, columns=code_names(codes.shape[1]))
    clash = [c for c in numbers.columns if c in table.columns]
    must(not clash, "codes_table", f"facts named {clash[:3]}", "other names than the codes'")
    return pd.concat([numbers, table], axis=1).rename_axis(INDEX)


def code_columns(codes: pd.DataFrame) -> list[str]:
    """Names of the code columns: z00, z01, ..., or ED_z00, ES_z00, d_z00, ... of a paired one.

    In the order of the dimensions, however the table's columns lie. UsageError if there is none, or one twice.
    """
    found = [m for c in codes.columns if isinstance(c, str) and (m := CODE.fullmatch(c))]
    must(found, "codes", f"columns {[str(c) for c in codes.columns[:6]]}", "code columns z00, z01, ...")
    parts = list(dict.fromkeys(m["part"] for m in found))
    key = {m: (parts.index(m["part"]), int(m["dimension"])) for m in found}
    twice = [m.string for m in found if list(key.values()).count(key[m]) > 1]
    must(not twice, "codes", f"columns {twice[:4]} of one dimension", "a column a dimension")
    return [m.string for m in sorted(found, key=key.__getitem__)]


def code_array(codes: pd.DataFrame) -> np.ndarray:
    """The code columns as (N, d) float64. UsageError naming rows and columns that are not finite numbers."""
    check_table(codes, where="codes")
    return codes[code_columns(codes)].to_numpy(dtype=np.float64)


def dimension_of(column: str) -> int:
    """Dimension of the space that a code column holds: "z07", "ED_z07" and "d_z07" -> 7."""
    match = CODE.fullmatch(column)
    must(match is not None, "dimension_of", f"column {column!r}", "a code column such as z07 or ED_z07")
    assert match is not None
    return int(match["dimension"])


def check_table(codes: pd.DataFrame, where: str | Path) -> None:
    """DataError naming `where` if a code is missing, infinite or no number, or an id stands twice."""
    columns = code_columns(codes)
    need(len(codes), where, "no row", "one row a subject")
    twice = codes.index[codes.index.duplicated()].unique()
    need(not len(twice), where, f"the ids {[str(i) for i in twice[:5]]} more than once", "a distinct id for each row")
    wrong = ~np.isfinite(codes[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64))
    if wrong.any():
        column, row = np.argwhere(wrong.T)[0]
        value = codes[columns].iloc[row, column]
        found = "NaN or infinity" if pd.isna(value) or not isinstance(value, str) else repr(value)
        raise DataError(
            where,
            f"{found} in column {columns[column]!r}, subject {codes.index[row]!r} "
            f"({wrong[:, column].sum()} in this column)",
            "a finite number in every code column",
            "Leave these rows out or compute their codes again.",
        )


def read_codes(path: str | Path, required: Sequence[str] = ()) -> pd.DataFrame:
    """Read a Codes table from a CSV: a column `subject` (or `id`), code columns z00, z01, ..., and any facts.

    Args:
        path: of the CSV
        required: facts that must be there and filled in every row, e.g. ("group", "phase", "patient")

    Raises:
        DataError: naming the file: not readable as CSV, no id column, no code column, a required column missing or with
            gaps, NaN or words among the codes, an id twice
    """
    path = Path(path)
    todo = "See shapelab.latent.write_codes for the layout."
    table = read_table(path, (INDEX, "id"), todo).rename_axis(INDEX)
    need(
        any(CODE.fullmatch(column) for column in table.columns),
        path,
        f"columns {list(table.columns[:6])}",
        "code columns z00, z01, ...",
        todo,
    )
    for column in required:
        need(column in table, path, f"no column {column!r}", f"the columns {list(required)}", todo)
        gaps = table[column].isna()
        need(
            not gaps.any(),
            path,
            f"no {column!r} for subject {next(iter(gaps.index[gaps]), None)!r}",
            "a value in every row",
        )
    check_table(table, path)
    return table


def write_codes(codes: pd.DataFrame, path: str | Path) -> Path:
    """Write a Codes table as CSV with nine digits, from which float32 codes come back exactly."""
    check_table(codes, where=path)
    with atomic_write(path) as temporary:
        codes.rename_axis(INDEX).to_csv(temporary, float_format="%.9g")
    return Path(path)


def pair_phases(codes: pd.DataFrame, difference: bool = True) -> pd.DataFrame:
    """One row a patient: ED codes, ES codes and (``difference``) ES - ED, how the heart moved.

    Args:
        codes: with columns `patient` and `phase`; and `side` or `visit` where a patient has several of them, each of
            which is a row of its own then

    Returns:
        DataFrame, index = patient (or as "p7, side L", see `shapelab.data.rows.row_names`; `patient` is a column then),
        columns ED_z00.., ES_z00.., d_z00.., and the facts that do not differ between phases; one that is known of one
        phase alone does not

    Raises:
        UsageError: no column `patient` or `phase`
        DataError: a patient without ED or ES, or with two of one and nothing that tells them apart, named
    """
    return patient_rows(codes, PHASES, difference)


def patient_rows(
    codes: pd.DataFrame, phases: Sequence[str] = ("ED",), difference: bool = True, names: pd.Series | None = None
) -> pd.DataFrame:
    """One row a patient from the codes of the given phases; `pair_phases` for any choice of phases.

    ``difference`` adds second - first phase where two are given. ``names``: what each row of `codes` shows, where these
    are some of the rows of a larger table; None: `row_names` of these.
    """
    columns = code_columns(codes)
    must("phase" in codes, "codes", "no column 'phase'", "one, to bring a patient's phases together")
    filled(codes, "phase")
    names = row_names(codes) if names is None else names
    counts = pd.crosstab(names.to_numpy(), codes["phase"].to_numpy()).reindex(columns=list(phases), fill_value=0)
    for phase in phases:
        lacking = [str(p) for p in counts.index[counts[phase] == 0]]
        need(
            not lacking,
            "codes",
            f"no {phase} row for patient(s) {lacking[:5]} (phases: {', '.join(map(str, codes['phase'].unique()))})",
            f"one row each for {' and '.join(phases)}",
            "Leave these patients out, or ask for the phases that every patient has.",
        )
        one_each(names[codes["phase"] == phase], f"{phase} row")
    chosen = codes["phase"].isin(phases)
    of_phase = {p: codes["phase"] == p for p in phases}
    by_phase = {p: codes.loc[here, columns].set_axis(names[here]).sort_index() for p, here in of_phase.items()}
    blocks = [table.add_prefix(f"{phase}_") for phase, table in by_phase.items()]
    if difference and len(phases) == 2:
        first, second = by_phase.values()
        blocks.append((second - first).add_prefix("d_"))
    facts = agreed(codes[chosen].drop(columns=[*columns, "phase"]), names[chosen])
    return pd.concat([*blocks, facts], axis=1).rename_axis(str(names.name))


def one_each(names: pd.Series, what: str = "row") -> None:
    """DataError unless each name (index = subject) stands once: whose rows are double, and which."""
    twice = names[names.duplicated(keep=False)]
    whose, which = ([str(v) for v in dict.fromkeys(values)][:5] for values in (twice, twice.index))
    need(
        twice.empty,
        "codes",
        f"more than one {what} for patient(s) {whose} (subjects {', '.join(which)})",
        f"one, or a fact {' or '.join(APART)} that tells them apart",
        "Add the fact to the table, or leave rows out.",
    )


def agreed(facts: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """One row a name (of `row_names`): the facts that all its rows agree on; gaps agree with anything."""
    if names.name == "patient":
        facts = facts.drop(columns="patient")
    grouped = facts.groupby(pd.Index(names), sort=True)
    hashable = [c for c in facts.columns if facts[c].map(pd.api.types.is_hashable).all()]
    return grouped[[c for c in hashable if (grouped[c].nunique() <= 1).all()]].first()
