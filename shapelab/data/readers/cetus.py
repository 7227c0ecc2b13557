"""Reader of CETUS, the Challenge on Endocardial Three-dimensional Ultrasound Segmentation (Bernard et al., IEEE TMI
35(4):967-977, 2016): 45 patients in 3D ultrasound from the apical window, LV cavity outlined at ED and ES.

Layouts, also below a folder ``dataset/``, ``CETUS/`` or ``training/`` and ``testing/``; names in any case::

    patient01/patient01_ED.nii.gz  patient01_ED_gt.nii.gz       the publisher's archive of today (NIfTI)
              patient01_ES.nii.gz  patient01_ES_gt.nii.gz
    Patient1/Patient1_ED.mhd       Patient1_ED_truth.mhd        MetaImage, each with its .raw or .zraw; or .mha
             Patient1_ES.mhd       Patient1_ES_truth.mhd
    Patient1/Patient1_frame01.mhd  ...                          the challenge of 2014: the whole sequence, and the two
             Patient1_ED_ES_time.txt                            frames by number ("... frame 1", one line each)
             Patient1_ED_truth.mhd                              read if it is a volume; a mesh (.vtk) is not

What we rely on was found in programs that read the data, since the archive itself asks for a registration: outlines are
0 and 255 (1 is taken as well), and voxel sizes are in metres (about 0.0006). A voxel below 0.05 is
therefore counted in metres and brought to mm; every real one lies far from that border on either side.
Patients of the testing part of 2014 have no outline: they are images alone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shapelab.data.formats.metaimage import SUFFIXES
from shapelab.data.reading import Case, Problem, Scan
from shapelab.data.scheme import LV_CAVITY
from shapelab.errors import DataError

PHASES = ("ED", "ES")
ENDINGS = ("_gt", "_truth")
METRES_BELOW = 0.05
MAPPING = {1: 1, 255: 1}
_PATIENT = re.compile(r"patient_?\d+", re.IGNORECASE)
_FRAME = re.compile(r"frame\D{0,3}(\d+)\s*$", re.IGNORECASE)
_FORMATS = (".nii.gz", ".nii", *SUFFIXES)
_TODO = "Unpack the publisher's archive again."


def recognise(root: Path) -> bool:
    """Whether `root` holds patients in one of CETUS's layouts; looks at names only (ACDC's patients are no match)."""
    return any(_is_cetus(folder) for _, folder in _patients(Path(root)))


def scan(root: str | Path, subset: str | None = None) -> Scan:
    """Find the patients below `root`.

    Parameters
    ----------
    subset : name of a folder of patients ("training", "testing"), or None for all

    Facts of a subject: patient (lower case, two digits), phase, modality ("3D US"), and subset or frame where the
    layout tells.
    """
    root = Path(root)
    cases, problems = [], []
    for part, folder in _patients(root):
        if subset in (None, part) and _is_cetus(folder):
            found, wrong = _scan_patient(folder, part)
            cases += found
            problems += wrong
    return Scan("cetus", root, LV_CAVITY, tuple(cases), tuple(problems), mapping=MAPPING, in_mm=in_mm)


def in_mm(header: Any) -> Any:
    """The header with lengths in mm: metres (voxels below 0.05) are multiplied by 1000."""
    if max(header.spacing) >= METRES_BELOW:
        return header
    affine = np.array(header.affine)
    affine[:3] *= 1000
    return replace(header, spacing=tuple(1000 * s for s in header.spacing), affine=affine)


def _patients(root: Path) -> list[tuple[str | None, Path]]:
    """(subset, folder) of every patient, by number."""
    for base in (root, root / "dataset", root / "CETUS", root / "CETUS" / "dataset"):
        if not base.is_dir():
            continue
        parts: list[tuple[str | None, Path]] = [(None, base)]
        parts += [(p, base / p) for p in ("training", "testing") if (base / p).is_dir()]
        found = [
            (part, p) for part, folder in parts for p in folder.iterdir() if _PATIENT.fullmatch(p.name) and p.is_dir()
        ]
        if found:
            return sorted(found, key=lambda pair: (_number(pair[1].name), str(pair[1])))
    return []


def _number(name: str) -> int:
    return int(re.sub(r"\D", "", name))


def _is_cetus(folder: Path) -> bool:
    """A patient's folder holds <name>_ED or _ES, or frames as MetaImage beside <name>_ED_ES_time.txt."""
    names = _names(folder)
    phases = any(f"{folder.name}_{phase}{end}".lower() in names for phase in PHASES for end in _FORMATS)
    return phases or any(name.endswith("_time.txt") for name in names)


def _names(folder: Path) -> dict[str, Path]:
    """Lower-case name -> file, hidden ones left out."""
    return {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")}


def _first(names: dict[str, Path], stem: str, endings: tuple[str, ...]) -> Path | None:
    wanted = (f"{stem}{end}".lower() for end in endings)
    return next((names[name] for name in wanted if name in names), None)


def _scan_patient(folder: Path, subset: str | None) -> tuple[list[Case], list[Problem]]:
    names, stem = _names(folder), folder.name
    patient = f"patient{_number(stem):02d}"
    frames, errors = _frames(folder, names)
    problems = [Problem("facts", error) for error in errors]
    cases = []
    for phase in PHASES:
        facts: dict[str, Any] = {"patient": patient, "phase": phase, "modality": "3D US"}
        facts |= {"subset": subset} if subset else {}
        image = _first(names, f"{stem}_{phase}", _FORMATS)
        if image is None and phase in frames:
            facts["frame"] = frames[phase]
            image = _first(names, f"{stem}_frame{frames[phase]:02d}", _FORMATS)
        label = _first(names, f"{stem}_{phase}", tuple(e + f for e in ENDINGS for f in _FORMATS))
        if image is None:
            number = f"_frame{frames[phase]:02d}.mhd" if phase in frames else f"_{phase}.nii.gz"
            problems.append(
                Problem(
                    "layout",
                    DataError(
                        folder / f"{stem}{number}", "no such file", f"the image at {phase} (NIfTI or MetaImage)", _TODO
                    ),
                )
            )
            continue
        mesh = _first(names, f"{stem}_{phase}", tuple(e + ".vtk" for e in ENDINGS))
        if label is None and (mesh is not None or not _blind(names, stem)):
            problems.append(Problem("layout", _no_label(folder, phase, mesh)))
            continue
        cases.append(Case(f"{patient}_{phase}", label, image, facts))
    return cases, problems


def _blind(names: dict[str, Path], stem: str) -> bool:
    """Whether a patient has no outline at all: of the challenge's testing part, and not incomplete."""
    return not any(f"{stem}_{phase}{end}".lower() in name for name in names for phase in PHASES for end in ENDINGS)


def _no_label(folder: Path, phase: str, mesh: Path | None) -> DataError:
    if mesh is not None:
        return DataError(
            mesh,
            "an outline as a mesh (.vtk)",
            f"a label map, {folder.name}_{phase}_truth.mhd",
            "Take the archive of today, whose outlines are volumes (_gt.nii.gz), or rasterise the mesh on "
            "the image's grid.",
        )
    return DataError(
        folder / f"{folder.name}_{phase}_gt.nii.gz",
        "no such file",
        f"the label map at {phase} (_gt or _truth), as the other phase has one",
        _TODO,
    )


def _frames(folder: Path, names: dict[str, Path]) -> tuple[dict[str, int], list[DataError]]:
    """Phase -> frame number from <name>_ED_ES_time.txt; nothing where there is no such file."""
    file = next((path for name, path in names.items() if name.endswith("_time.txt")), None)
    if file is None:
        return {}, []
    try:
        lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        return {}, [DataError(file, f"a file that cannot be read as text ({error})", "two lines with a frame", _TODO)]
    numbers = [_FRAME.search(line) for line in lines[:2]]
    if len(numbers) < 2 or not all(numbers):
        return {}, [
            DataError(
                file,
                f"the lines {[line[:40] for line in lines[:2]]}",
                "two lines that end in `frame N`, first ED, then ES",
                _TODO,
            )
        ]
    return {phase: int(found[1]) for phase, found in zip(PHASES, numbers)}, []
