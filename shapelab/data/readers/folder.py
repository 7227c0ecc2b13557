"""Reader of one's own NIfTI label maps, with images and a table of facts if there are any.

Three layouts; the first that fits is taken::

    labels/a.nii.gz  images/a.nii.gz            same names; images/ may be missing (or labels/: images alone)
    a_label.nii.gz   a.nii.gz                   or a_gt, a_seg; the image beside it may be missing
    a.nii.gz  b.nii.gz                          label maps alone

and in each, if wanted, ``facts.csv``: a column ``id`` (or ``subject``), one row a subject, any further columns; a
column ``patient`` tells which subjects must stay together in a split. A cell that is empty, NA or NaN is a fact that is
not known.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from shapelab.data.formats.nifti import is_nifti, read_label, stem
from shapelab.data.reading import OKABE_ITO, Case, Problem, Scan
from shapelab.data.scheme import LabelScheme, Structure, present_values
from shapelab.errors import DataError

#: What a label map's name may end with when its image lies beside it.
ENDINGS = ("_label", "_gt", "_seg")


def recognise(root: Path) -> bool:
    """Whether `root`, its labels/ or its images/ holds a NIfTI file."""
    return any(_nifti_files(folder) for folder in (Path(root), Path(root) / "labels", Path(root) / "images"))


def scan(root: str | Path, scheme: LabelScheme | None = None, mapping: Mapping[int, int] | None = None) -> Scan:
    """Find label maps, images and facts.

    Parameters
    ----------
    scheme : what the integers mean. None: every label map is read once, and the integers found in any of them become
        structures "label 1", "label 2", ... (those that `mapping` leads to, if it is given)
    mapping : the files' integers -> the scheme's; those to be dropped lead to 0. See `LabelScheme.remap`

    Facts of a subject: patient (its id, unless facts.csv says otherwise) and the columns of facts.csv.

    Raises DataError: facts.csv cannot be read; no integer is found that could make a scheme.
    """
    root = Path(root)
    labels, images, problems, notes = _files(root)
    names = sorted(labels or images)
    facts, wrong = _facts(root, names)
    problems += wrong
    cases = tuple(
        Case(name, labels.get(name), images.get(name), {"patient": name} | facts[name])
        for name in names
        if name in facts
    )
    scheme = scheme or _scheme_of_files(root, cases, mapping, problems)
    return Scan("folder", root, scheme, cases, tuple(problems), tuple(notes), mapping)


def _nifti_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if is_nifti(p)) if folder.is_dir() else []


def _files(root: Path) -> tuple[dict[str, Path], dict[str, Path], list[Problem], list[Problem]]:
    """(labels by id, images by id, problems, notes). A label map's id is its name without its ending (`ENDINGS`)."""
    labels, images = _nifti_files(root / "labels"), _nifti_files(root / "images")
    if not labels and not images:
        files = _nifti_files(root)
        labels = [p for p in files if stem(p).endswith(ENDINGS)] or files
        images = [p for p in files if p not in labels]
    problems: list[Problem] = []
    by_id = _by_id(labels, ENDINGS, problems), _by_id(images, (), problems)
    notes = []
    if labels and images:
        for name in sorted(by_id[1].keys() - by_id[0].keys()):
            problems.append(
                Problem(
                    "layout",
                    DataError(
                        by_id[1][name],
                        "an image without a label map",
                        f"a label map for {name!r} as for the others",
                        "Add the label map, or keep this image in another folder.",
                    ),
                )
            )
        notes = [
            Problem(
                "layout",
                DataError(
                    by_id[0][name],
                    "a label map without an image",
                    "an image as for the others",
                    "Nothing, if this subject has none.",
                ),
            )
            for name in sorted(by_id[0].keys() - by_id[1].keys())
        ]
    return *by_id, problems, notes


def _by_id(files: list[Path], endings: tuple[str, ...], problems: list[Problem]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in files:
        name = next((stem(path).removesuffix(e) for e in endings if stem(path).endswith(e)), stem(path))
        if name in named:
            problems.append(
                Problem(
                    "layout",
                    DataError(
                        path,
                        f"a second file for {name!r} beside {named[name].name}",
                        "one file",
                        "Rename or remove one of them.",
                    ),
                )
            )
        named.setdefault(name, path)
    return named


def _facts(root: Path, names: list[str]) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """id -> facts for those who have a row (for all, if there is no facts.csv), and what does not match."""
    file = root / "facts.csv"
    if not file.exists():
        return {name: {} for name in names}, []
    table = _read_table(file)
    ids = table.index.tolist()
    errors = [
        DataError(file, f"the id {name!r} in {n} rows", "one row a subject", "Remove the rows that are wrong.")
        for name, n in Counter(ids).items()
        if n > 1
    ]
    unmatched, bare = sorted(set(ids) - set(names)), sorted(set(names) - set(ids))
    if unmatched:
        errors.append(
            DataError(
                file,
                f"ids without a file: {_list(unmatched)}",
                f"the name of a label map without its ending, such as {_list(names[:2])}",
                "Correct the ids, add the files, or remove the rows.",
            )
        )
    if bare:
        errors.append(
            DataError(
                file, f"no row for: {_list(bare)}", "a row for every label map", "Add rows; a cell may be left empty."
            )
        )
    facts = {}
    for name, row in zip(ids, table.to_dict("records"), strict=True):
        if name in names and ids.count(name) == 1:
            facts[name] = {str(k): getattr(v, "item", lambda v=v: v)() for k, v in row.items() if not pd.isna(v)}
    return facts, [Problem("facts", error) for error in errors]


def _list(names: list[str], n: int = 8) -> str:
    return ", ".join(map(repr, names[:n])) + (f", ... ({len(names)} in all)" if len(names) > n else "")


def _read_table(file: Path) -> pd.DataFrame:
    """facts.csv with its ids (text) as index; DataError if it is not a table with one id a row."""
    todo = "Save it as comma-separated UTF-8 text with a header line."
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            rows = [(n, row) for n, row in enumerate(csv.reader(lines, strict=True), 1) if row]
        header = [c.strip() for c in rows[0][1]] if rows else []
        uneven = [n for n, row in rows if len(row) != len(header)]  # pandas would shift or fill such rows
        if uneven or len(set(header)) < len(header):
            raise ValueError(f"row {uneven[0]} has another number of cells" if uneven else "a column name twice")
        table = pd.read_csv(
            file,
            names=header,
            header=0,
            dtype=dict.fromkeys(("id", "subject", "patient"), str),
            encoding="utf-8-sig",
            skipinitialspace=True,
            keep_default_na=False,
            na_values=["", "NA", "NaN", "nan", "n/a"],
        )
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(file, f"a table that cannot be read ({str(error).strip()})", "a CSV file", todo) from None
    key = next((c for c in ("id", "subject") if c in table), None)
    if key is None:
        raise DataError(file, f"the columns {_list(header)}", "a column 'id' (or 'subject')", todo)
    if table[key].isna().any():
        raise DataError(file, f"no id in {int(table[key].isna().sum())} row(s)", "an id in every row", todo)
    return table.assign(**{key: table[key].astype(str).str.strip()}).set_index(key)


def _scheme_of_files(
    root: Path, cases: tuple[Case, ...], mapping: Mapping[int, int] | None, problems: list[Problem]
) -> LabelScheme:
    """A scheme of all integers in all label maps; adds to `problems` the files that cannot be read."""
    values = {int(v) for v in (mapping or {}).values()}
    for case in cases if mapping is None else ():
        try:
            values |= set(present_values(read_label(case.label))) if case.label else set()
        except DataError as error:
            problems.append(Problem("label", error))
    values -= {0}
    if not values:
        if problems:
            raise problems[0].error
        raise DataError(
            root,
            "no label map to take a scheme from",
            "label maps, or a scheme given",
            "Give scheme=LabelScheme(...), as open_cohort('folder', root=..., scheme=...).",
        )
    return LabelScheme(
        f"labels in {root.name}",
        tuple(Structure(v, f"label {v}", OKABE_ITO[i % len(OKABE_ITO)]) for i, v in enumerate(sorted(values))),
    )
