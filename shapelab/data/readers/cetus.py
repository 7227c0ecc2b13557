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

from shapelab.data.cards import Card, register
from shapelab.data.facts import PHASES
from shapelab.data.formats.nifti import Header
from shapelab.data.formats.text import read_text
from shapelab.data.reading import Problem, Scan, number_in, patient_folders, volumes
from shapelab.data.scheme import LV_CAVITY
from shapelab.errors import DataError, need

ENDINGS = ("_gt", "_truth")
METRES_BELOW = 0.05
MAPPING = {1: 1, 255: 1}
_FRAME = re.compile(r"frame\D{0,3}(\d+)\s*$", re.IGNORECASE)
_TODO = "Unpack the publisher's archive again."


def recognise(root: Path) -> bool:
    """Whether `root` holds patients in one of CETUS's layouts; looks at names only (ACDC's patients are no match)."""
    return any(_is_cetus(folder) for _, folder in _patients(Path(root)))


def scan(root: str | Path, subset: str | None = None) -> Scan:
    """Find the patients below `root`.

    Args:
        subset: name of a folder of patients ("training", "testing"), or None for all

    Facts of a subject: patient (lower case, two digits), phase, modality ("3D US"), and subset or frame where the
    layout says so.
    """
    found = Scan("cetus", Path(root), LV_CAVITY, mapping=MAPPING, in_mm=in_mm)
    for part, folder in _patients(found.root):
        if subset in (None, part) and _is_cetus(folder):
            _scan_patient(found, folder, part)
    return found


def in_mm(header: Header) -> Header:
    """The header with lengths in mm: metres (voxels below 0.05) are multiplied by 1000. Its axes are those of the
    probe, which knows nothing of the patient's sides: they are kept in the file's order."""
    unit = 1 if max(header.spacing) >= METRES_BELOW else 1000
    x, y, z = (unit * s for s in header.spacing)
    affine = np.diag([x, y, z, 1.0])
    affine[:3, 3] = unit * header.affine[:3, 3]
    return replace(header, spacing=(x, y, z), affine=affine)


def _patients(root: Path) -> list[tuple[str | None, Path]]:
    return patient_folders(root, ("dataset", "CETUS", "CETUS/dataset"), r"patient_?\d+")


def _times(folder: Path) -> Path | None:
    """<name>_ED_ES_time.txt, which names the frames, if it is there."""
    return next(iter(sorted(folder.glob("[!.]*_time.txt"))), None)


def _is_cetus(folder: Path) -> bool:
    """A patient's folder holds <name>_ED or _ES, or frames beside <name>_ED_ES_time.txt."""
    here = volumes(folder)
    return any(f"{folder.name}_{phase}".casefold() in here for phase in PHASES) or _times(folder) is not None


def _scan_patient(found: Scan, folder: Path, subset: str | None) -> None:
    stem, patient = folder.name, f"patient{number_in(folder.name):02d}"
    here, part = volumes(folder), {"subset": subset} if subset else {}
    outlined = re.compile(rf"{stem}_({'|'.join(PHASES)})({'|'.join(ENDINGS)})", re.IGNORECASE)
    # without any outline a patient is of the challenge's testing part, and not incomplete
    blind = not any(outlined.match(file.name) for file in folder.iterdir())
    try:
        frames = _frames(folder)
    except DataError as error:
        found.problems.append(Problem("facts", error))
        frames = {}
    for phase in PHASES:
        facts: dict[str, Any] = {"patient": patient, "phase": phase, "modality": "3D US", **part}
        image, label = [f"{stem}_{phase}"], [f"{stem}_{phase}{ending}" for ending in ENDINGS]
        if image[0].casefold() not in here and phase in frames:
            facts["frame"] = frames[phase]
            image = [f"{stem}_frame{frames[phase]:02d}"]
        meshes = [f for f in folder.glob("*.vtk") if f.stem.casefold() in map(str.casefold, label)]
        if meshes and not any(name.casefold() in here for name in label):
            found.problem(
                "layout",
                meshes[0],
                "an outline as a mesh (.vtk)",
                f"a label map, {stem}_{phase}_truth.mhd",
                "Take the archive of today, whose outlines are volumes (_gt.nii.gz), or rasterise the mesh on the "
                "image's grid.",
            )
            continue
        found.find(f"{patient}_{phase}", folder, image, () if blind else label, facts, expected=f"at {phase}")


def _frames(folder: Path) -> dict[str, int]:
    """Phase -> frame number from <name>_ED_ES_time.txt; nothing where there is no such file."""
    if (file := _times(folder)) is None:
        return {}
    lines = [line for line in read_text(file, "two lines with a frame", _TODO).splitlines() if line.strip()][:2]
    numbers = [found for line in lines if (found := _FRAME.search(line))]
    need(
        len(numbers) == 2,
        file,
        f"the lines {[line[:40] for line in lines]}",
        "two lines that end in `frame N`, first ED, then ES",
        _TODO,
    )
    return {phase: int(number[1]) for phase, number in zip(PHASES, numbers, strict=True)}


register(
    Card(
        "cetus",
        "CETUS: 3D ultrasound of the left ventricle, 45 patients",
        home="https://www.creatis.insa-lyon.fr/Challenge/CETUS/",
        licence="CC BY-NC-SA 4.0",
        citation="Bernard et al., Standardized Evaluation System for Left Ventricular Segmentation Algorithms in 3D "
        "Echocardiography, IEEE TMI 35(4):967-977, 2016, doi:10.1109/TMI.2015.2503890",
        layout="patientNN/patientNN_ED.nii.gz and patientNN_ED_gt.nii.gz, and so for ES (or .mhd with _truth)",
        folder="CETUS",
        scheme=LV_CAVITY,
        phantom='open_cohort("phantom-us")',
        recognise=recognise,
        scan=scan,
    )
)
