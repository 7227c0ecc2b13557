"""Reads every file of a data set and lists all that is wrong. Used by ``shapelab data check FOLDER``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from shapelab.data.cards import catalogue, get_card, locate, recognise, scan
from shapelab.data.facts import PHASES
from shapelab.data.gaps import forgotten, gaps, listed, slice_axis
from shapelab.data.orientation import canonical, is_whole_heart
from shapelab.data.reading import Problem, Scan, check_case
from shapelab.data.scheme import LV, VENTRICLES
from shapelab.data.subject import Subject
from shapelab.errors import DataError, few, need

COLUMNS = ("file", "problem", "found", "expected", "todo")
#: Endings of files of volumes, those that no reader here knows too; of a pair .hdr/.img the header stands for both.
VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".mgh", ".mgz", ".gipl", ".gipl.gz", ".dcm")
# Of 160 maps of ACDC the LV's smaller end is at most 58 % of its greatest cross-section, but for two of 90 and 99 %,
# which lack one slice at most; of 80 patients the phase of fewer slices has 73 % of the other's at least.
WIDE_END, MISSING_SLICES = 0.6, 2
FEWER_SLICES = 0.6


def detect(path: str | Path) -> list[tuple[str, Path]]:
    """(name, root) of the data set in `path`, or of every known one in its subfolders if `path` holds several.

    Raises DataError: no such folder, or nothing in it that a reader knows.
    """
    path = Path(path).expanduser()
    need(
        path.is_dir(),
        path,
        "a file" if path.exists() else "no such folder",
        "the folder of a data set",
        "Check the path.",
    )
    if name := recognise(path):
        return [(name, path)]
    inside = (sub for sub in sorted(path.iterdir()) if sub.is_dir() and not sub.name.startswith("."))
    found = [(name, sub) for sub in inside if (name := recognise(sub))]
    layouts = "; ".join(f"{card.name}: {card.layout}" for card in catalogue().values() if card.scan)
    need(
        found,
        path,
        "nothing that a reader knows",
        f"one of these layouts: {layouts}",
        "Give the folder that holds the data set itself.",
    )
    return found


def check_folder(path: str | Path, name: str | None = None, progress: bool = False) -> pd.DataFrame:
    """Read every file of a data set and return all that is wrong, one row a problem; no row if nothing is.

    Args:
        path: folder of a data set, or a folder of several
        name: which data set it is ("acdc", "hippocampus", "cetus", ...; see `catalogue`); None: seen from its files
        progress: show a bar on standard error

    Returns:
        DataFrame with the columns file, problem (the step that failed; layout, facts, header, label, image, pair,
        slices), found, expected, todo. ``attrs["checked"]`` is a list of (name, folder, number of subjects whose files
        are in place), ``attrs["notes"]`` a list of texts: what is worth knowing and no fault.

    Raises:
        UsageError: unknown name
        DataError: there is no data set at `path`
    """
    rows: list[tuple[str, ...]] = []
    checked, notes = [], []
    for target, root in detect(path) if name is None else [(get_card(name).name, locate(name, path))]:
        problems, found_notes, n = _check(target, root, progress)
        rows += [(p.error.file, p.kind, p.error.found, p.error.expected, p.error.todo) for p in problems]
        notes += [f"{target}: {text}" for text in found_notes]
        checked.append((target, str(root), n))
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    table.attrs |= {"checked": checked, "notes": notes}
    return table


def _check(name: str, root: Path, progress: bool) -> tuple[list[Problem], list[str], int]:
    """Problems, notes, and how many subjects there are."""
    try:
        found = scan(name, root)
    except DataError as error:  # so broken that no subject can be named
        return [Problem("layout", error)], [], 0
    from tqdm.auto import tqdm

    problems, slices = [*found.problems, *found.notes], _Slices()
    codes: Counter[str] = Counter()
    slips: dict[int, list[str]] = defaultdict(list)
    for case in tqdm(found.cases, desc=f"checking {name}", unit="subject", disable=not progress):
        checked = check_case(found, case)
        problems += checked.problems
        for value in checked.slips:
            slips[value].append(case.id)
        if checked.affine is not None:
            codes["".join(nibabel.aff2axcodes(checked.affine))] += 1
        if checked.subject is not None:
            slices.look_at(checked.subject)
    problems = [*{str(p.error): p for p in problems}.values(), *slices.problems, *slices.of_few()]
    unread, notes = _passed_over(found, problems), []
    if get_card(name).general:
        problems += [Problem("layout", error) for error in unread]
    else:  # a publisher's folder holds more than is used here, the whole cine for one
        notes = [f"{error.found} below {error.file}; not part of what its reader uses" for error in unread]
    if len(codes) > 1:
        stored = ", ".join(f"{n} {code}" for code, n in codes.most_common())
        notes.append(f"voxels are stored in several orders ({stored}); each is brought to one by its affine")
    notes += [
        f"label value {value} in {few(names, 8)}; taken for {found.slips[value]}, as a slip that is known"
        for value, names in slips.items()
    ]
    return problems, notes, len(found.cases)


def _passed_over(found: Scan, problems: list[Problem]) -> list[DataError]:
    """Volumes below the folder that are neither read nor named by a problem, by folder and ending."""
    known = {str(file) for case in found.cases for file in (case.label, case.image)} | {p.error.file for p in problems}
    unread: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for file in sorted(found.root.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(found.root).parts)
        ending = "".join(file.suffixes[-2:]) if file.suffix.lower() == ".gz" else file.suffix
        if ending.lower() in VOLUMES and str(file) not in known and not hidden and file.is_file():
            unread[file.parent, ending].append(file.name)
    return [
        DataError(
            folder,
            f"{len(names)} volume{'s' * (len(names) != 1)} ({ending}) that the reader passes over: "
            f"{', '.join(names[:5])}{', ...' * (len(names) > 5)}",
            "files where the layout has them, ending in .nii or .nii.gz in small letters",
            "Rename, move or convert them (SimpleITK and ITK-SNAP write NIfTI), or keep them in another folder.",
        )
        for (folder, ending), names in unread.items()
    ]


@dataclass
class _Slices:
    """Slices that nobody annotated, as far as label maps show it.

    Attributes:
        problems: of the label maps looked at so far
        phases: patient -> phase -> number of slices from the first drawn one to the last, file
    """

    problems: list[Problem] = field(default_factory=list)
    phases: dict[str, dict[str, tuple[int, str]]] = field(default_factory=lambda: defaultdict(dict))

    def look_at(self, subject: Subject) -> None:
        """Take in one label map."""
        upright, turn = canonical(subject)
        axis = slice_axis(upright.spacing)
        label = np.moveaxis(np.asarray(upright.label), axis, 2)
        self.problems += _slices_of(upright, label, partial(turn.slices_in_file, axis=axis))
        if subject.facts.get("phase") in PHASES:
            n = int(label.any((0, 1)).sum()) + len(gaps(label))
            self.phases[subject.patient][subject.facts["phase"]] = n, subject.where

    def of_few(self) -> list[Problem]:
        """A problem for each phase that has far fewer slices than the patient's other one."""
        problems = []
        for patient, drawn in self.phases.items():
            (least, file), (most, other) = min(drawn.values()), max(drawn.values())
            if least < FEWER_SLICES * most:
                problems.append(
                    _problem(
                        file,
                        f"{least} annotated slices, of {patient}'s other phase {most} ({Path(other).name})",
                        "about as many at ED as at ES",
                        "Draw the rest, or leave this patient out: volumes of the two phases do not compare.",
                    )
                )
        return problems


def _slices_of(subject: Subject, label: np.ndarray, in_file: Callable[[list[int]], list[int]]) -> list[Problem]:
    """What is odd about the slices of one label map, slices along the last axis; `in_file` counts them as the file."""
    if is_whole_heart(subject.scheme):
        return []
    problems: list[Problem] = []
    file = subject.where
    if numbers := gaps(label):
        problems.append(
            _problem(
                file,
                f"empty {listed(in_file(numbers))} between drawn ones",
                "every slice annotated",
                "Draw them. Until then they are taken as not seen, and filled by the shapes of the slices beside them.",
            )
        )
    if not set(VENTRICLES) <= set(subject.scheme.names):
        return problems
    for name, numbers in forgotten(label, subject.scheme).items():
        problems.append(
            _problem(
                file,
                f"no {name} in {listed(in_file(numbers))}, but above and below",
                "a structure in every slice between its ends",
                "Draw it: in these slices it counts as absent.",
            )
        )
    area = np.isin(label, subject.scheme.labels_of(*LV)).sum((0, 1))
    used = np.flatnonzero(area)
    beyond = max(used[0], label.shape[2] - 1 - used[-1]) if len(used) else 0
    if beyond >= MISSING_SLICES and (end := area[used[[0, -1]]].min() / area.max()) > WIDE_END:
        problems.append(
            _problem(
                file,
                f"an LV that ends at {end:.0%} of its greatest cross-section, and {beyond} slices without annotation "
                "beyond",
                "slices drawn down to the apex",
                "Draw the rest: volumes and shapes are of a part of the heart.",
            )
        )
    return problems


def _problem(file: str, found: str, expected: str, todo: str) -> Problem:
    return Problem("slices", DataError(file, found, expected, todo))
