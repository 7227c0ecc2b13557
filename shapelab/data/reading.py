"""From what a reader found in a folder to a cohort, or to a list of what is wrong. Shared by all readers.

A reader (`shapelab.data.readers`) looks at names and small text files and fills a `Scan`; it opens no image file (one
exception, said there). `to_cohort` turns the scan into a `Cohort`; `check_case` reads all files of one case.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np

from shapelab.data.cohort import Cohort
from shapelab.data.formats import metaimage, nifti
from shapelab.data.formats.nifti import Header, check_same_grid, in_scheme
from shapelab.data.geometry import check_voxels
from shapelab.data.scheme import LabelScheme, Structure
from shapelab.data.subject import Subject
from shapelab.errors import DataError, need, one_of

#: Okabe and Ito's colours without black: told apart with every common colour vision deficiency.
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
#: Folders into which challenges sort their patients.
SUBSETS = ("training", "testing")

OnError = Literal["raise", "skip"]
ON_ERROR = ("raise", "skip")


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


@dataclass
class Scan:
    """What a reader finds; it fills this in.

    Attributes:
        mapping: the files' integers -> the scheme's, where they differ
        in_mm: header -> header with lengths in mm, where a publisher counts otherwise
        slips: integers that stand in published files by mistake -> those meant; `mapping` takes both, `data check`
            names the files
        cases: subjects whose files are in place
        problems: what stands in the way of others
        notes: what is odd but hinders no reading; only `data check` shows it
    """

    name: str
    root: Path
    scheme: LabelScheme | None
    mapping: Mapping[int, int] | None = None
    in_mm: Callable[[Header], Header] | None = None
    slips: Mapping[int, int] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    @property
    def known_scheme(self) -> LabelScheme:
        """What its label maps hold; DataError where no reader has said it."""
        if self.scheme is None:
            raise DataError(self.root, "no label scheme", "one that the reader or the caller gives", "Give scheme=.")
        return self.scheme

    def problem(self, kind: str, file: Path, found: str, expected: str, todo: str = "") -> None:
        """Add what stands in the way of a subject, see `Problem` and `DataError`."""
        self.problems.append(Problem(kind, DataError(file, found, expected, todo)))

    def note(self, file: Path, found: str, expected: str, todo: str = "") -> None:
        """Add what is odd about the layout but hinders nothing."""
        self.notes.append(Problem("layout", DataError(file, found, expected, todo)))

    def add(self, case: Case, expected: str = "", todo: str = "Unpack the publisher's archive again.") -> None:
        """Add a case, or a problem for each of its files that is not there: "the image" and `expected`, `todo`."""
        missing = [
            (what, path)
            for what, path in (("image", case.image), ("label map", case.label))
            if path is not None and not path.is_file()
        ]
        for what, path in missing:
            near = get_close_matches(path.name, [p.name for p in volumes(path.parent).values()])
            here = f" (here: {', '.join(sorted(near))})" if near else ""
            self.problem("layout", path, f"no such file{here}", f"the {what} {expected or f'of {case.id!r}'}", todo)
        if not missing:
            self.cases.append(case)

    def find(
        self, id: str, folder: Path, image: Sequence[str], label: Sequence[str], facts: Mapping[str, Any], **wrong: str
    ) -> None:
        """Add the case of one subject, or one phase, from the names of its files in a folder, or what `add` misses.

        Args:
            image: names without ending, the best first, in any case; none: the subject has no such file
            label: see `image`
            wrong: `expected` and `todo` of `add`
        """
        here = volumes(folder)
        label_file, image_file = (
            next((here[n.casefold()] for n in names if n.casefold() in here), folder / f"{names[0]}.nii.gz")
            if names
            else None
            for names in (label, image)
        )
        self.add(Case(id, label_file, image_file, facts), **wrong)

    def header(self, path: Path) -> Header:
        """Header of one file, checked, lengths in mm."""
        header = _format(path).read_header(path)
        header = header if self.in_mm is None else self.in_mm(header)
        check_voxels(path, header.spacing)
        return header


def volumes(folder: Path) -> dict[str, Path]:
    """Name in lower case, without ending -> file, of all that a format reads; of several endings NIfTI's."""
    if not folder.is_dir():
        return {}
    return {
        (nifti.stem(p) if nifti.is_nifti(p) else p.stem).casefold(): p
        for p in sorted(folder.iterdir(), key=lambda p: (nifti.is_nifti(p), p.name))
        if nifti.is_nifti(p) or metaimage.is_metaimage(p)
    }


def patient_folders(root: Path, inside: Sequence[str], pattern: str) -> list[tuple[str | None, Path]]:
    """(subset, folder) of every patient, by number; the subset is None where the folders' parent does not say it.

    Args:
        inside: folders of `root` that are looked into where it holds no patient itself, such as "database"
        pattern: of the patients' folders, in any case
    """
    for base in (root, *(root / name for name in inside)):
        found = [
            (part.name if part.name in SUBSETS else None, folder)
            for part in (base, *(base / name for name in SUBSETS))
            if part.is_dir()
            for folder in part.iterdir()
            if re.fullmatch(pattern, folder.name, re.IGNORECASE) and folder.is_dir()
        ]
        if found:
            return sorted(found, key=lambda pair: (number_in(pair[1].name), str(pair[1])))
    return []


def number_in(name: str) -> int:
    """The digits of a name, as a number."""
    return int(re.sub(r"\D", "", name))


def scheme_of(name: str, structures: Mapping[int, str]) -> LabelScheme:
    """A scheme from integer -> name, in Okabe and Ito's colours."""
    return LabelScheme(
        name,
        tuple(
            Structure(value, structures[value], OKABE_ITO[i % len(OKABE_ITO)])
            for i, value in enumerate(sorted(structures))
        ),
    )


def _format(path: Path) -> ModuleType:
    """The module that reads this file, by its name: `nifti` or `metaimage`."""
    return metaimage if metaimage.is_metaimage(path) else nifti


def open_case(scan: Scan, case: Case) -> Subject:
    """A lazy subject. Each file's header is read once and checked; DataError if it is wrong or the pair disagrees."""
    return _subject(scan, case, [scan.header(path) for path in (case.label, case.image) if path])


def _subject(scan: Scan, case: Case, headers: Sequence[Header]) -> Subject:
    """A lazy subject of the headers of its files; DataError if they disagree."""
    if len(headers) == 2:
        check_same_grid(*headers)
    label, image = None, None
    # partial, not lambda: a subject can then be sent to another process
    if case.label:
        label = partial(_format(case.label).read_label, case.label, scan.scheme, scan.mapping)
    if case.image:
        image = partial(_format(case.image).read_image, case.image)
    return Subject(
        case.id,
        scan.known_scheme,
        label=label,
        image=image,
        affine=headers[0].affine,
        facts=case.facts,
        file=case.label or case.image,
    )


@dataclass(frozen=True)
class Checked:
    """What came of reading the files of one case completely.

    Attributes:
        problems: everything that is wrong with them
        affine: (4, 4) of the files; None where a header is wrong or the pair disagrees
        subject: the label map in memory, without the image; None where there is no affine, or no label map in order
        slips: those of `Scan.slips` that the label map's file holds
    """

    problems: list[Problem]
    affine: np.ndarray | None
    subject: Subject | None
    slips: list[int]


def check_case(scan: Scan, case: Case) -> Checked:
    """Read the files of one case completely, each once, and find everything that is wrong with them."""
    problems: list[Problem] = []
    headers: list[Header] = []
    label, affine, subject, slips = None, None, None, []
    files = [(kind, path) for kind, path in (("label", case.label), ("image", case.image)) if path]
    for kind, path in files:
        step = "header"
        try:
            headers.append(scan.header(path))
            step = kind
            voxels = getattr(_format(path), f"read_{kind}")(path)
            if kind == "label":
                label = in_scheme(path, voxels, scan.known_scheme, scan.mapping)
                slips = [value for value in scan.slips if (voxels == value).any()]
        except DataError as error:
            problems.append(Problem(step, error))
    if len(headers) == len(files):
        try:
            opened = _subject(scan, case, headers)
            affine = opened.affine
            subject = None if label is None else opened.with_(label=label, image=None)
        except DataError as error:
            problems.append(Problem("pair", error))
    return Checked(problems, affine, subject, slips)


def to_cohort(scan: Scan, on_error: OnError = "raise") -> Cohort:
    """The cohort of a scan.

    Args:
        on_error: "raise": the first problem met is raised; headers are checked now, voxels when an array is asked for.
            "skip": every file is read now; a subject with a problem is left out, warned about (`SkippedSubject`) and
            its errors kept in ``Cohort.skipped``.

    Raises DataError: see above; also if nothing is left.
    """
    if one_of("on_error", on_error, ON_ERROR) == "raise" and scan.problems:
        raise scan.problems[0].error
    subjects, skipped = [], {str(p.error): p.error for p in scan.problems}
    for case in scan.cases:
        problems = check_case(scan, case).problems if on_error == "skip" else []
        skipped |= {str(p.error): p.error for p in problems}
        if not problems:
            subjects.append(open_case(scan, case))
    for message in skipped:
        warnings.warn(f"{scan.name}: left out. {message}", SkippedSubject, stacklevel=3)
    first = f"; the first error: {next(iter(skipped))}" if skipped else ""
    need(
        subjects,
        scan.root,
        f"no subject that can be read ({len(skipped)} errors)",
        "at least one",
        f"See them all with `shapelab data check {scan.root}`{first}",
    )
    return Cohort(subjects, scan.name, scan.known_scheme, skipped=skipped.values())
