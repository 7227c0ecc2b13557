"""Reader of ACDC, the Automated Cardiac Diagnosis Challenge (Bernard et al., IEEE TMI 37(11):2514-2525, 2018).

Layout, as its publisher gives it (also below a folder ``database/``, or a folder of patients alone)::

    training/patient001/Info.cfg                        Key: value; ED, ES, Group, Height, NbFrame, Weight
                        patient001_frame01.nii.gz       image at ED (frame number from Info.cfg)
                        patient001_frame01_gt.nii.gz    label map: 1 RV cavity, 2 LV myocardium, 3 LV cavity
                        patient001_frame12.nii.gz       image at ES, and its _gt
                        patient001_4d.nii.gz            the whole cine; not read
    testing/patient101/...

Subjects are ``patient001_ED`` and ``patient001_ES``; both have the fact ``patient`` = ``patient001``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from shapelab.data.formats.nifti import find_nifti, is_nifti
from shapelab.data.reading import Case, Problem, Scan
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
SUBSETS = ("training", "testing")
KEYS = ("ED", "ES", "Group", "Height", "NbFrame", "Weight")
_PATIENT = re.compile(r"patient\d+")
_INFO_TODO = "Restore Info.cfg from the publisher's archive."


def recognise(root: Path) -> bool:
    """Whether `root` holds patients in ACDC's layout; looks at folder names only."""
    return bool(_patients(Path(root), None))


def scan(root: str | Path, subset: str | None = None) -> Scan:
    """Find the patients below `root` and read their Info.cfg.

    Parameters
    ----------
    subset : "training", "testing", or None for whatever is there

    Facts of a subject: patient, phase, group, modality ("MR"), height (cm), weight (kg), frame, n_frames, subset.
    """
    if subset not in (None, *SUBSETS):
        raise UsageError(f"acdc subset: found {subset!r}; expected one of {list(SUBSETS)} or None")
    root = Path(root)
    cases, problems = [], []
    for part, folder in _patients(root, subset):
        found, wrong = _scan_patient(folder, part)
        cases += found
        problems += wrong
    return Scan("acdc", root, CARDIAC, tuple(cases), tuple(problems))


def _patients(root: Path, subset: str | None) -> list[tuple[str | None, Path]]:
    """(subset, folder) of every patient; the subset is None where the folders' parent does not say it."""
    for base in (root, root / "database", root / "ACDC" / "database"):
        parts: dict[str | None, Path] = {part: base / part for part in SUBSETS if (base / part).is_dir()}
        if not parts and base.is_dir():
            parts = {base.name if base.name in SUBSETS else None: base}
        found = [
            (part, patient)
            for part, folder in parts.items()
            if subset in (None, part)
            for patient in sorted(folder.iterdir())
            if _PATIENT.fullmatch(patient.name) and patient.is_dir()
        ]
        if found:
            return found
    return []


@dataclass(frozen=True)
class Info:
    """Content of an Info.cfg; frames count from 1."""

    ed: int
    es: int
    group: str
    height: float
    n_frames: int
    weight: float


def read_info(file: Path) -> tuple[Info | None, list[DataError]]:
    """Info.cfg -> (Info, []), or (None, everything that is wrong with it)."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return None, [DataError(file, "no such file", f"a text file with {', '.join(KEYS)}", _INFO_TODO)]
    except (OSError, UnicodeDecodeError) as error:
        return None, [
            DataError(file, f"a file that cannot be read as text ({error})", "lines of `Key: value`", _INFO_TODO)
        ]
    values: dict[str, str] = {}
    errors = []
    for line in lines:
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not line.strip():
            continue
        if not colon or key in values:
            errors.append(
                DataError(
                    file,
                    f"the line {line.strip()!r}{' after another of that key' if colon else ''}",
                    "each key once, as `Key: value`",
                    _INFO_TODO,
                )
            )
        values.setdefault(key, value)
    errors += [
        DataError(file, f"no key {key!r}", f"the keys {', '.join(KEYS)}", _INFO_TODO)
        for key in KEYS
        if key not in values
    ]
    numbers = {key: _number(file, key, values[key], errors) for key in KEYS if key != "Group" and key in values}
    if values.get("Group", GROUPS[0]) not in GROUPS:
        errors.append(DataError(file, f"Group {values['Group']!r}", f"one of {', '.join(GROUPS)}", _INFO_TODO))
    if not errors:
        errors += _frame_errors(file, numbers)
    if errors:
        return None, errors
    return Info(
        int(numbers["ED"]),
        int(numbers["ES"]),
        values["Group"],
        numbers["Height"],
        int(numbers["NbFrame"]),
        numbers["Weight"],
    ), []


def _number(file: Path, key: str, text: str, errors: list[DataError]) -> float:
    """Height (cm) and weight (kg) above zero; ED, ES and NbFrame integers from 1. Adds to `errors` otherwise."""
    whole = key in ("ED", "ES", "NbFrame")
    try:
        number = float(int(text)) if whole else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number <= 0:
        errors.append(
            DataError(file, f"{key} {text!r}", f"{'an integer' if whole else 'a number'} above zero", _INFO_TODO)
        )
    return number


def _frame_errors(file: Path, numbers: dict[str, float]) -> list[DataError]:
    ed, es, n = (int(numbers[key]) for key in ("ED", "ES", "NbFrame"))
    errors = [
        DataError(file, f"{key} {frame}", f"a frame from 1 to NbFrame, {n}", _INFO_TODO)
        for key, frame in (("ED", ed), ("ES", es))
        if frame > n
    ]
    if ed == es:
        errors.append(DataError(file, f"ED and ES both {ed}", "two different frames", _INFO_TODO))
    return errors


def _scan_patient(folder: Path, subset: str | None) -> tuple[list[Case], list[Problem]]:
    name = folder.name
    info, errors = read_info(folder / "Info.cfg")
    if info is None:
        return [], [Problem("facts", error) for error in errors]
    cases, problems = [], []
    for phase, frame in (("ED", info.ed), ("ES", info.es)):
        paths = {
            what: find_nifti(folder, f"{name}_frame{frame:02d}{ending}")
            for what, ending in (("image", ""), ("label map", "_gt"))
        }
        missing = [_absent(folder, frame, phase, what) for what, path in paths.items() if path is None]
        problems += [Problem("layout", error) for error in missing]
        if missing:
            continue
        facts = {
            "patient": name,
            "phase": phase,
            "group": info.group,
            "modality": "MR",
            "height": info.height,
            "weight": info.weight,
            "frame": frame,
            "n_frames": info.n_frames,
        }
        cases.append(
            Case(f"{name}_{phase}", paths["label map"], paths["image"], facts | ({"subset": subset} if subset else {}))
        )
    return cases, problems


def _absent(folder: Path, frame: int, phase: str, what: str) -> DataError:
    ending = "_gt" if what == "label map" else ""
    file = folder / f"{folder.name}_frame{frame:02d}{ending}.nii.gz"
    frames = re.compile(rf"{folder.name}_frame(\d+){ending}\.nii(\.gz)?")
    here = sorted(m[1] for p in folder.iterdir() if is_nifti(p) and (m := frames.fullmatch(p.name)))
    found = "no such file" + (f" (frames here: {', '.join(here)})" if here else "")
    todo = "Unpack the publisher's archive again, or correct the frame in Info.cfg."
    if what == "label map" and folder.parent.name == "testing":
        todo += " Older copies of the testing part come without label maps: open subset='training'."
    return DataError(file, found, f"the {what} of the {phase} frame, number {frame} in Info.cfg", todo)
