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
from dataclasses import dataclass
from pathlib import Path

from shapelab.data.cards import Card, register
from shapelab.data.facts import GROUPS
from shapelab.data.formats.text import read_text
from shapelab.data.reading import SUBSETS, Problem, Scan, patient_folders
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, one_of

#: Keys of Info.cfg and what they hold.
KEYS = {"ED": int, "ES": int, "Group": str, "Height": float, "NbFrame": int, "Weight": float}
_INFO_TODO = "Restore Info.cfg from the publisher's archive."


def recognise(root: Path) -> bool:
    """Whether `root` holds patients in ACDC's layout; looks at names only (CETUS's patients are no match)."""
    return any(
        (folder / "Info.cfg").is_file() or any(folder.glob(f"{folder.name}_frame*.nii*"))
        for _, folder in _patients(Path(root))
    )


def scan(root: str | Path, subset: str | None = None) -> Scan:
    """Find the patients below `root` and read their Info.cfg.

    Args:
        subset: "training", "testing", or None for whatever is there

    Facts of a subject: patient, phase, group, modality ("MR"), height (cm), weight (kg), frame, n_frames, subset.
    """
    if subset is not None:
        one_of("acdc subset", subset, SUBSETS)
    found = Scan("acdc", Path(root), CARDIAC)
    for part, folder in _patients(found.root):
        if subset in (None, part):
            _scan_patient(found, folder, part)
    return found


def _patients(root: Path) -> list[tuple[str | None, Path]]:
    return patient_folders(root, ("database", "ACDC/database"), r"patient\d+")


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
        lines = read_text(file, f"a text file with {', '.join(KEYS)}", _INFO_TODO).splitlines()
    except DataError as error:
        return None, [error]
    texts: dict[str, str] = {}
    errors = []

    def wrong(found: str, expected: str) -> None:
        errors.append(DataError(file, found, expected, _INFO_TODO))

    for line in filter(str.strip, lines):
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or key in texts:
            wrong(
                f"the line {line.strip()!r}{' after another of that key' if colon else ''}",
                "each key once, as `Key: value`",
            )
        texts.setdefault(key, value)
    for key in (key for key in KEYS if key not in texts):
        wrong(f"no key {key!r}", f"the keys {', '.join(KEYS)}")
    values = {key: _value(key, texts[key]) for key in KEYS if key in texts}
    kinds = {int: "an integer above zero", float: "a number above zero", str: f"one of {', '.join(GROUPS)}"}
    for key in (key for key, value in values.items() if value is None):
        wrong(f"{key} {texts[key]!r}", kinds[KEYS[key]])
    if not errors:
        for key in ("ED", "ES"):
            if values[key] > values["NbFrame"]:
                wrong(f"{key} {values[key]}", f"a frame from 1 to NbFrame, {values['NbFrame']}")
        if values["ED"] == values["ES"]:
            wrong(f"ED and ES both {values['ED']}", "two different frames")
    return (None, errors) if errors else (Info(*(values[key] for key in KEYS)), [])


def _value(key: str, text: str) -> int | float | str | None:
    """Height (cm) and weight (kg) above zero, frames from 1, a group; None if the text is none of that."""
    try:
        value = KEYS[key](text)
    except ValueError:
        return None
    return value if (value in GROUPS if key == "Group" else 0 < value < math.inf) else None


def _scan_patient(found: Scan, folder: Path, subset: str | None) -> None:
    name, part = folder.name, {"subset": subset} if subset else {}
    info, errors = read_info(folder / "Info.cfg")
    found.problems += [Problem("facts", error) for error in errors]
    if info is None:
        return
    shared = {"group": info.group, "modality": "MR", "height": info.height, "weight": info.weight}
    older = " Older copies of the testing part come without label maps: open subset='training'."
    todo = "Unpack the publisher's archive again, or correct the frame in Info.cfg." + older * (subset == "testing")
    for phase, frame in (("ED", info.ed), ("ES", info.es)):
        facts = {"patient": name, "phase": phase, **shared, "frame": frame, "n_frames": info.n_frames, **part}
        stem = f"{name}_frame{frame:02d}"
        found.find(
            f"{name}_{phase}",
            folder,
            [stem],
            [f"{stem}_gt"],
            facts,
            expected=f"of the {phase} frame, number {frame} in Info.cfg",
            todo=todo,
        )


register(
    Card(
        "acdc",
        "ACDC: short-axis cardiac MR, 150 patients in five groups",
        home="https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html",
        licence="CC BY-NC-SA 4.0",
        citation="Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and "
        "Diagnosis: Is the Problem Solved?, IEEE TMI 37(11):2514-2525, 2018, doi:10.1109/TMI.2018.2837502",
        layout="training/patientNNN/ (and testing/) with Info.cfg, patientNNN_frameMM.nii.gz and "
        "patientNNN_frameMM_gt.nii.gz",
        folder="acdc",
        scheme=CARDIAC,
        recognise=recognise,
        scan=scan,
    )
)
