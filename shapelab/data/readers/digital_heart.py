"""Reader of pairs as the UK Digital Heart Project has them: a stack of thick slices and a 3D scan of the same heart.

The data set (1200 volunteers; de Marvao et al., JCMR 16:16, 2014; Bai et al., Medical Image Analysis 26:133-145, 2015)
is not public. Whoever has it, or has pairs like it, lays them out with one folder a subject::

    subject01/lvsa_ED.nii.gz            3D scan (HR), thin slices: 1.25 x 1.25 x 2 mm
              seg_lvsa_ED.nii.gz        its label map
              sa_ED.nii.gz              short-axis stack (LR), thick slices: 1.25 x 1.25 x 10 mm
              lvsa_ES.nii.gz ...        the same at ES, if there

Programs of that project name their files in several ways (lvsa_ED beside lvsa_ED_enlarged, segmentation_ED beside
seg_lvsa_ED, folders of their own for HR and LR), so the three names are arguments, patterns in which {phase} stands for
ED or ES; a pattern may name a folder: ``"high/lvsa_{phase}"``. The ending .nii.gz or .nii is added. Files of 4 axes,
the last of one, have to be squeezed first.

`scan` gives the HR side as a `Scan` (image, label, facts with the place of the LR stack), so that the cohort and
the doctor work as for every data set; `read_stack` reads a subject's LR stack;
`shapelab.experiments.acnn.digital_heart_pairs` lays pairs on a model's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shapelab.data.formats.nifti import find_nifti, read_header, read_image
from shapelab.data.reading import Case, Problem, Scan
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError

PHASES = ("ED", "ES")
HIGH, LABEL, LOW = "lvsa_{phase}", "seg_lvsa_{phase}", "sa_{phase}"
#: The project's integers -> CARDIAC's (1 RV cavity, 2 LV myocardium, 3 LV cavity).
MAPPING = {1: 3, 2: 2, 4: 1, 3: 1}
#: Slice distances that can be what a file is taken for, mm; and the least ratio of the two.
HIGH_MM, LOW_MM, LEAST_FACTOR = (0.5, 4.0), (4.0, 15.0), 2.0


def recognise(root: Path, high: str = HIGH) -> bool:
    """Whether `root` holds a folder with an HR scan and its LR stack under the usual names."""
    root = Path(root)
    return root.is_dir() and any(
        find_nifti(p, high.format(phase=phase)) and find_nifti(p, LOW.format(phase=phase))
        for p in root.iterdir()
        if p.is_dir()
        for phase in PHASES
    )


def scan(
    root: str | Path, high: str = HIGH, label: str = LABEL, low: str = LOW, mapping: Mapping[int, int] | None = None
) -> Scan:
    """Find the pairs below `root`; headers are read, to see that each is a pair.

    Parameters
    ----------
    high, label, low : names of HR scan, its label map, and LR stack in a subject's folder, with {phase}, without ending
    mapping : the files' integers -> CARDIAC's; None: 1 LV cavity, 2 LV myocardium, 4 (or 3) RV cavity

    Facts of a subject: patient, phase, modality ("MR"), low (path of the LR stack), low_spacing_z, high_spacing_z (mm).

    Problems: a file that is missing where the folder has another of that phase; an HR scan with thick slices or an LR
    stack with thin ones; slices less than twice as thick; boxes that do not overlap.
    """
    for name, pattern in (("high", high), ("label", label), ("low", low)):
        if "{phase}" not in pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise UsageError(
                f"digital_heart {name}: found {pattern!r}; expected a name with {{phase}} inside a subject's folder"
            )
    root = Path(root)
    cases, problems = [], []
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    for folder in folders:
        for phase in PHASES:
            paths = {
                what: find_nifti(folder, pattern.format(phase=phase))
                for what, pattern in (("HR scan", high), ("label map", label), ("LR stack", low))
            }
            if not any(paths.values()):
                continue
            missing = [
                _absent(folder, what, pattern.format(phase=phase))
                for (what, path), pattern in zip(paths.items(), (high, label, low))
                if path is None
            ]
            if missing:
                problems += [Problem("layout", error) for error in missing]
                continue
            try:
                spacing = check_pair(paths["HR scan"], paths["LR stack"])
            except DataError as error:
                problems.append(Problem("pair", error))
                continue
            facts = {
                "patient": folder.name,
                "phase": phase,
                "modality": "MR",
                "low": str(paths["LR stack"]),
                "high_spacing_z": spacing[0],
                "low_spacing_z": spacing[1],
            }
            cases.append(Case(f"{folder.name}_{phase}", paths["label map"], paths["HR scan"], facts))
    return Scan(
        "digital_heart", root, CARDIAC, tuple(cases), tuple(problems), mapping=MAPPING if mapping is None else mapping
    )


def _absent(folder: Path, what: str, name: str) -> DataError:
    return DataError(
        folder / f"{name}.nii.gz",
        "no such file",
        f"the {what} of the pair",
        "Leave the folder out, or say how the files are called: high=, label=, low=.",
    )


def check_pair(high: Path, low: Path) -> tuple[float, float]:
    """(HR, LR) slice distance in mm; DataError if the two cannot be one heart seen thinly and thickly."""
    fine, thick = read_header(high), read_header(low)
    for header, (least, most), what in ((fine, HIGH_MM, "3D scan"), (thick, LOW_MM, "short-axis stack")):
        if not least <= header.spacing[2] <= most:
            raise DataError(
                header.file,
                f"slices {header.spacing[2]:.3g} mm apart",
                f"{least:g} to {most:g} mm, as a {what} has",
                "Were HR and LR taken for one another?",
            )
    if thick.spacing[2] < LEAST_FACTOR * fine.spacing[2]:
        raise DataError(
            low,
            f"slices {thick.spacing[2]:.3g} mm apart, the 3D scan's {fine.spacing[2]:.3g}",
            f"at least {LEAST_FACTOR:g} times the distance",
            "Were HR and LR taken for one another?",
        )
    boxes = [_box(h) for h in (fine, thick)]
    overlap = np.minimum(boxes[0][1], boxes[1][1]) - np.maximum(boxes[0][0], boxes[1][0])
    smaller = np.minimum(*(b[1] - b[0] for b in boxes))
    if (overlap < 0.25 * smaller).any():
        raise DataError(
            low,
            f"a stack whose box shares {np.round(np.clip(overlap, 0, None), 1).tolist()} mm with that of {high.name}",
            "two scans of one place",
            "Register the two, or find the pair that belongs together.",
        )
    return float(fine.spacing[2]), float(thick.spacing[2])


def _box(header) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of a scan in RAS, mm."""
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in header.shape], indexing="ij"), -1).reshape(-1, 3)
    places = corners @ header.affine[:3, :3].T + header.affine[:3, 3]
    return places.min(0), places.max(0)


@dataclass(frozen=True, eq=False)
class LowStack:
    """A subject's LR stack: image (X, Y, Z) float32, affine (4, 4) voxel -> mm, the same frame as its HR scan's."""

    image: np.ndarray
    affine: np.ndarray


def read_stack(subject: Subject) -> LowStack:
    """The LR stack of a subject that this reader found. DataError: it cannot be read; UsageError: it has none."""
    if "low" not in subject.facts:
        raise UsageError(
            f"read_stack: found {subject.id}, a subject without an LR stack; expected one of "
            'open_cohort("digital_heart")'
        )
    file = Path(subject.facts["low"])
    return LowStack(read_image(file), read_header(file).affine)
