"""Reader of one's own NIfTI label maps, with images and a table of facts if there are any.

Three layouts; the first that fits is taken::

    labels/a.nii.gz  images/a.nii.gz            same names; images/ may be missing (or labels/: images alone)
    a_label.nii.gz   a.nii.gz                   or a_gt, a_seg; the image beside it may be missing
    a.nii.gz  b.nii.gz                          label maps alone

and in each, if wanted, ``facts.csv``: a column ``id`` (or ``subject``), one row a subject, any further columns; a
column ``patient`` tells which subjects must stay together in a split, ``side`` or ``visit`` what tells shapes of one
patient and phase apart. A cell that is empty, NA or NaN is a fact that is
not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from shapelab.data.cards import Card, register
from shapelab.data.facts import KNOWN
from shapelab.data.formats.nifti import is_nifti, read_label, stem
from shapelab.data.formats.text import read_table
from shapelab.data.reading import Case, Problem, Scan, scheme_of
from shapelab.data.scheme import LabelScheme, present_values
from shapelab.errors import DataError, few, need

#: What a label map's name may end with when its image lies beside it.
ENDINGS = ("_label", "_gt", "_seg")


def recognise(root: Path) -> bool:
    """Whether `root`, its labels/ or its images/ holds a NIfTI file."""
    return any(_nifti_files(folder) for folder in (Path(root), Path(root) / "labels", Path(root) / "images"))


def scan(root: str | Path, scheme: LabelScheme | None = None, mapping: Mapping[int, int] | None = None) -> Scan:
    """Find label maps, images and facts.

    Args:
        scheme: what the integers mean. None: every label map is read once, and the integers found in any of them become
            structures "label 1", "label 2", ... (those that `mapping` leads to, if it is given)
        mapping: the files' integers -> the scheme's; those to be dropped lead to 0. See `LabelScheme.remap`

    Facts of a subject: patient (its id, unless facts.csv says otherwise) and the columns of facts.csv.

    Raises DataError: facts.csv cannot be read; no integer is found that could make a scheme.
    """
    found = Scan("folder", Path(root), scheme, mapping)
    labels, images = _files(found)
    for name, facts in _facts(found, sorted(labels or images)).items():
        found.add(Case(name, labels.get(name), images.get(name), {"patient": name} | facts))
    if scheme is None:
        found.scheme = _scheme_of_files(found)
    return found


def _nifti_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if is_nifti(p)) if folder.is_dir() else []


def _files(found: Scan) -> tuple[dict[str, Path], dict[str, Path]]:
    """Labels by id, images by id. A label map's id is its name without its ending (`ENDINGS`)."""
    drawn, scanned = _nifti_files(found.root / "labels"), _nifti_files(found.root / "images")
    if not drawn and not scanned:
        files = _nifti_files(found.root)
        drawn = [p for p in files if stem(p).endswith(ENDINGS)] or files
        scanned = [p for p in files if p not in drawn]
    labels, images = _by_id(found, drawn, ENDINGS), _by_id(found, scanned, ())
    if labels and images:
        for name in sorted(images.keys() - labels.keys()):
            found.problem(
                "layout",
                images[name],
                "an image without a label map",
                f"a label map for {name!r} as for the others",
                "Add the label map, or keep this image in another folder.",
            )
        for name in sorted(labels.keys() - images.keys()):
            found.note(
                labels[name],
                "a label map without an image",
                "an image as for the others",
                "Nothing, if this subject has none.",
            )
    return labels, images


def _by_id(found: Scan, files: list[Path], endings: tuple[str, ...]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in files:
        name = next((stem(path).removesuffix(e) for e in endings if stem(path).endswith(e)), stem(path))
        if named.setdefault(name, path) != path:
            found.problem(
                "layout",
                path,
                f"a second file for {name!r} beside {named[name].name}",
                "one file",
                "Rename or remove one of them.",
            )
    return named


def _facts(found: Scan, names: list[str]) -> dict[str, dict[str, Any]]:
    """Id -> facts for those who have a row (for all, if there is no facts.csv); problems where the two do not match."""
    file = found.root / "facts.csv"
    if not file.exists():
        return {name: {} for name in names}
    table = read_table(file, todo="Save it as comma-separated UTF-8 text with a header line.")
    for name, n in table.index.value_counts(sort=False).items():
        if n > 1:
            found.problem(
                "facts", file, f"the id {name!r} in {n} rows", "one row a subject", "Remove the rows that are wrong."
            )
    unmatched, bare = sorted(set(table.index) - set(names)), sorted(set(names) - set(table.index))
    if unmatched:
        found.problem(
            "facts",
            file,
            f"ids without a file: {few([*map(repr, unmatched)], 8)}",
            f"the name of a label map without its ending, such as {few([*map(repr, names[:2])])}",
            "Correct the ids, add the files, or remove the rows.",
        )
    if bare:
        found.problem(
            "facts",
            file,
            f"no row for: {few([*map(repr, bare)], 8)}",
            "a row for every label map",
            "Add rows; a cell may be left empty.",
        )
    for fact in (c for c in KNOWN if c in table):
        spelt = table[fact].dropna().astype(str).drop_duplicates()
        several = spelt[spelt.str.casefold().duplicated(keep=False)]
        if len(several):
            found.problem(
                "facts",
                file,
                f"in the column {fact!r} {few([*map(repr, several)], 8)}",
                "one spelling: they are taken for different ones",
                "Write them alike, or make them differ by more than capitals.",
            )
    rows = dict(zip(table.index, table.to_dict("records"), strict=True))
    once = set(table.index[~table.index.duplicated(keep=False)])
    return {
        name: {str(k): getattr(v, "item", lambda v=v: v)() for k, v in rows[name].items() if not pd.isna(v)}
        for name in names
        if name in once
    }


def _scheme_of_files(found: Scan) -> LabelScheme:
    """A scheme of all integers in all label maps, or of those that the mapping leads to; files that cannot be read
    become problems."""
    values = {int(v) for v in (found.mapping or {}).values()}
    for case in found.cases if found.mapping is None else ():
        try:
            values |= set(present_values(read_label(case.label))) if case.label else set()
        except DataError as error:
            found.problems.append(Problem("label", error))
    values -= {0}
    if not values and found.problems:
        raise found.problems[0].error
    need(
        values,
        found.root,
        "no label map to take a scheme from",
        "label maps, or a scheme given",
        "Give scheme=LabelScheme(...), as open_cohort('folder', root=..., scheme=...).",
    )
    return scheme_of(f"labels in {found.root.name}", {value: f"label {value}" for value in values})


register(
    Card(
        "folder",
        "your own NIfTI label maps",
        licence="yours",
        layout="labels/*.nii.gz (and images/ with the same names), or X_gt.nii.gz beside X.nii.gz (also _label, _seg), "
        "or label maps alone; optional facts.csv with a column id",
        recognise=recognise,
        scan=scan,
        general=True,
    )
)
