"""From what a reader found in a folder to a cohort, or to a list of what is wrong. Shared by all readers.

A reader (acdc, decathlon, folder) looks at names and small text files and returns a `Scan`; it opens no image file
(one exception, said there). `to_cohort` turns the scan into a `Cohort`, `all_problems` into the doctor's table.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from shapelab.data.cohort import Cohort
from shapelab.data.formats import metaimage, nifti
from shapelab.data.formats.nifti import check_same_grid
from shapelab.data.scheme import LabelScheme
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError

#: Okabe and Ito's colours without black: told apart with every common colour vision deficiency.
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")

OnError = Literal["raise", "skip"]


class SkippedSubject(UserWarning):
    """One subject was left out, as ``on_error="skip"`` asked; the message says why."""


class Problem(NamedTuple):
    """What is wrong, and at which step it showed: layout, facts, header, label, image or pair."""

    kind: str
    error: DataError


@dataclass(frozen=True)
class Case:
    """Where one subject's files are and what is known about it. Nothing has been opened yet."""

    id: str
    label: Path | None
    image: Path | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Scan:
    """What a reader found.

    cases : subjects whose files are in place
    problems : what stands in the way of others
    notes : what is odd but hinders no reading; only the doctor shows it
    mapping : the files' integers -> the scheme's, where they differ
    in_mm : header -> header with lengths in mm, where a publisher counts otherwise
    """

    name: str
    root: Path
    scheme: LabelScheme
    cases: tuple[Case, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = field(default=())
    mapping: Mapping[int, int] | None = None
    in_mm: Callable[[Any], Any] | None = None

    def header(self, path: Path) -> Any:
        """Header of one file, checked, lengths in mm."""
        header = _format(path).read_header(path)
        return header if self.in_mm is None else self.in_mm(header)


def _format(path: Path):
    """The module that reads this file, by its name: `nifti` or `metaimage`."""
    return metaimage if metaimage.is_metaimage(path) else nifti


def open_case(scan: Scan, case: Case) -> Subject:
    """A lazy subject. Each file's header is read once and checked; DataError if it is wrong or the pair disagrees."""
    label = scan.header(case.label) if case.label else None
    image = scan.header(case.image) if case.image else None
    if label and image:
        check_same_grid(label, image)
    # partial, not lambda: a subject can then be sent to another process
    return Subject(
        case.id,
        scan.scheme,
        label=partial(_format(case.label).read_label, case.label, scan.scheme, scan.mapping) if label else None,
        image=partial(_format(case.image).read_image, case.image) if image else None,
        affine=(label or image).affine,
        facts=case.facts,
        file=case.label or case.image,
    )


def check_case(scan: Scan, case: Case) -> list[Problem]:
    """Everything that is wrong with one subject's files; reads them completely."""
    problems, headers = [], []
    for kind, path in (("label", case.label), ("image", case.image)):
        if path is None:
            continue
        step = "header"
        try:
            headers.append(scan.header(path))
            step = kind
            if kind == "label":
                _format(path).read_label(path, scan.scheme, scan.mapping)
            else:
                _format(path).read_image(path)
        except DataError as error:
            problems.append(Problem(step, error))
    if len(headers) == 2:
        try:
            check_same_grid(*headers)
        except DataError as error:
            problems.append(Problem("pair", error))
    return problems


def all_problems(scan: Scan, cases: Iterable[Case] | None = None) -> list[Problem]:
    """Everything that is wrong anywhere in the scan, each thing once; reads every file completely."""
    found = [*scan.problems, *scan.notes]
    for case in scan.cases if cases is None else cases:
        found += check_case(scan, case)
    return list({(str(p.error)): p for p in found}.values())


def to_cohort(scan: Scan, on_error: OnError = "raise") -> Cohort:
    """The cohort of a scan.

    Parameters
    ----------
    on_error : "raise": the first problem met is raised; headers are checked now, voxels when an array is asked for.
        "skip": every file is read now; a subject with a problem is left out, warned about (`SkippedSubject`) and its
        errors kept in ``Cohort.skipped``.

    Raises DataError: see above; also if nothing is left.
    """
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error: found {on_error!r}; expected 'raise' or 'skip'")
    if on_error == "raise" and scan.problems:
        raise scan.problems[0].error
    subjects, skipped = [], {str(p.error): p.error for p in scan.problems}
    for case in scan.cases:
        if on_error == "skip":
            problems = check_case(scan, case)
            if problems:
                skipped |= {str(p.error): p.error for p in problems}
                continue
        subjects.append(open_case(scan, case))
    for message in skipped:
        warnings.warn(f"{scan.name}: left out. {message}", SkippedSubject, stacklevel=3)
    if not subjects:
        first = f"; the first error: {next(iter(skipped))}" if skipped else ""
        raise DataError(
            scan.root,
            f"no subject that can be read ({len(skipped)} errors)",
            "at least one",
            f"See them all with `shapelab data check {scan.root}`{first}",
        )
    return Cohort(subjects, scan.name, scan.scheme, skipped=skipped.values())
