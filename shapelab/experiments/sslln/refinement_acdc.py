"""Atlas refinement of real hearts: ACDC's outlines at ED, made smooth by phantom atlases (SSLLN, II-C and III-G).

Nothing is trained. Atlases are phantoms without an RV wall, since ACDC outlines none; landmarks are those that the
label maps give, on both sides. There is no high-resolution truth, so what is asked is

- do the outlines stay? Dice and greatest distance (HD, mm) between the result at the stack's own slices and the labels
  that were given, beside the same for mere resampling there and back;
- is the result smooth? Mean absolute curvature of its surfaces, 1/mm (`shapelab.metrics.surface_curvature`), beside
  that of the stack with each slice as thick as it is ("nearest") and of shape-based interpolation ("interpolated",
  `shapelab.atlas.interpolate_slices`);
- what does it do to volumes?

An outline that moved is not always a fault: the hearts of least Dice (patient014, patient088) have slices far out of
line, which a deformation with 10 mm between control points cannot follow and smooths. Small shifts it follows.

The majority fuses (`shapelab.atlas.fusion` has the numbers), and here an image would help even less: a phantom's
intensities are not those of an ACDC scanner. The paper had a clinician look at 200 results ("satisfactory in all
cases"); `pictures` shows them side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shapelab.atlas import (
    Atlas,
    Frame,
    RefinementSettings,
    interpolate_slices,
    phantom_atlases,
    read_refinement,
    refine_cohort,
)
from shapelab.data.cohort import Cohort
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import must, whole
from shapelab.experiments.kept_runs import Study
from shapelab.experiments.shipped import cardiac_cohort
from shapelab.metrics import dice, evaluate, surface_curvature
from shapelab.metrics.clinical import structure_volumes
from shapelab.show.style import Picture

ATLAS_SEED = 40_000  # hearts that no other experiment draws
ATLASES = 20
SPACING = (1.25, 1.25, 2.0)  # mm, the paper's
HEARTS = {"quick": 20, "full": None, "paper": None}  # patients; None: all
WAYS = ("nearest", "interpolated", "refined")
#: Name -> the structures within a surface. The wall is measured by its two sides: it is too thin for a scale of 3 mm.
SURFACES = {"RV cavity": ("RV cavity",), "LV cavity": ("LV cavity",), "LV": ("LV cavity", "LV myocardium")}


def run(
    root: str | Path | None = None,
    profile: str | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    hearts: int | Sequence[str] | None = None,
    atlases: Sequence[Atlas] | None = None,
    cohort: Cohort | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Refine real hearts, measure them, write the tables; returns a row a heart (see `measure`).

    Args:
        root: folder of ACDC; None looks under SHAPELAB_DATA
        profile: "quick" (20 patients, the five groups in turn), "full" or "paper" (all)
        output: folder for refinement_acdc.csv, refinement_acdc_summary.csv, refinement_acdc.json, and labels/ with the
            refined label maps (under the data set's licence; not to be passed on with the tables). A run that was
            stopped resumes from those. None is ``results/refinement``
        hearts: how many patients, or ids of patients, instead of the profile's
        atlases: high-resolution hearts of the scheme; None: 20 phantoms
        cohort: hearts of the scheme `CARDIAC` at ED, in place of ACDC's
        settings: of `shapelab.atlas.RefinementSettings`; other ones need another folder

    A heart that cannot be refined has a row that says why (`error`). UsageError for unknown patients.
    """
    study = Study.of("refinement", output, profile, root, progress)
    cohort = cardiac_cohort("acdc", root).filter(phase="ED") if cohort is None else cohort
    chosen = chosen_hearts(cohort, HEARTS[study.profile] if hearts is None else hearts)
    atlases = phantom_atlases(ATLASES, ATLAS_SEED, scheme=CARDIAC, images=False) if atlases is None else atlases
    settings = {"out_spacing": SPACING} | settings
    table = refined_table(chosen, atlases, study.results / "labels", progress, **settings)
    about = {
        "cohort": repr(chosen),
        "profile": study.profile,
        "atlases": [a.id for a in atlases],
        "atlas seed": ATLAS_SEED,
        "settings": {k: v if isinstance(v, int | float | str | tuple) else repr(v) for k, v in settings.items()},
    }
    study.write("refinement_acdc", {"": table, "_summary": summary(table)}, about)
    return table


def chosen_hearts(cohort: Cohort, which: int | Sequence[str] | None) -> Cohort:
    """All (None), the patients of these ids, or so many with the groups in turn, as they come. One heart a patient."""
    patients = [s.patient for s in cohort]
    once = len(set(patients)) == len(patients)
    must(once, "hearts", "patients with more than one heart", "one phase, filter(phase='ED')")
    if which is None:
        return cohort
    if isinstance(which, (int, np.integer)):
        whole("hearts", which)
        turn = pd.Series([str(s.facts.get("group")) for s in cohort])
        order = turn.groupby(turn).cumcount().sort_values(kind="stable").index[:which]
        return cohort[[cohort.ids[i] for i in sorted(order)]]
    wanted = {which} if isinstance(which, str) else set(map(str, which))
    unknown = sorted(wanted - set(patients))
    must(not unknown, "hearts", unknown, f"patients of {cohort.name!r}")
    return cohort.filter(lambda s: s.patient in wanted)


def refined_table(
    cohort: Cohort, atlases: Sequence[Atlas], folder: Path, progress: bool = True, **settings: Any
) -> pd.DataFrame:
    """Refine each heart of a cohort into a folder (or take what is there) and measure it; a row a heart."""
    from tqdm.auto import tqdm

    rows, how = [], RefinementSettings(**settings)
    for subject in tqdm(cohort, desc=f"refining {cohort.name}", disable=not progress, leave=False):
        subject = subject.load()
        made = refine_cohort(
            [subject], atlases, folder, 1, "skip", images=how.fusion == "non-local", settings=how
        ).iloc[0]
        row = {
            "subject": subject.id,
            "patient": subject.patient,
            "group": subject.facts.get("group"),
            "error": made["error"],
        }
        if not made["error"]:
            label, frame = read_refinement(folder / made["file"], subject.affine)
            row |= measure(subject, label, frame)
            row |= {k: made[k] for k in ("min_jacobian", "folded", "nmi", "seconds", "atlases")}
        rows.append(row)
    return pd.DataFrame(rows)


def measure(subject: Subject, label: np.ndarray, frame: Frame) -> dict[str, Any]:
    """One heart's numbers.

    Args:
        subject: the stack that was given
        label: its refined label map
        frame: its refined label map

    - slices, slice_mm, pixel_mm: how many slices are labelled, their distance, the size of a pixel
    - "dice WAY X", "hd WAY X": of structure X at the stack's own voxels, between a WAY and the labels given; hd in mm
    - "curvature WAY S": of surface S (see SURFACES), 1/mm; "nearest" and "interpolated" end where the stack ends
    - "volume given X", "volume refined X": ml
    """
    given, own = _stack(subject)
    spacing, scheme = own.spacing, subject.scheme
    row: dict[str, Any] = {"slices": int(given.any((0, 1)).sum()), "slice_mm": spacing[2], "pixel_mm": spacing[0]}
    for way, fine in ways(given, own, label, frame).items():
        back = frame.nearest(fine, own)
        scores = evaluate(back, given, spacing, labels=list(scheme.values))
        for s, overlap in zip(scheme.structures, dice(back, given, scheme), strict=True):
            row[f"dice {way} {s.name}"] = float(overlap)
            row[f"hd {way} {s.name}"] = float(scores["hd"][s.value])
        for surface, parts in SURFACES.items():
            mask = np.isin(fine, [scheme.structure(p).value for p in parts])
            row[f"curvature {way} {surface}"] = surface_curvature(mask, frame.spacing)
    for word, array, size in (("given", given, spacing), ("refined", label, frame.spacing)):
        row |= {f"volume {word} {name}": float(v) for name, v in structure_volumes(array, size, scheme).items()}
    return row


def _stack(subject: Subject) -> tuple[np.ndarray, Frame]:
    """The label map that was given, and where its voxels lie."""
    label = subject.label
    assert label is not None
    return label, Frame(label.shape, tuple(subject.spacing))


def ways(given: np.ndarray, own: Frame, label: np.ndarray, frame: Frame) -> dict[str, np.ndarray]:
    """The three label maps that are compared, in `frame`: nearest slice, shape-based interpolation, refined."""
    return dict(zip(WAYS, (own.nearest(given, frame), interpolate_slices(given, own, frame), label), strict=True))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, sd and worst of each number: measure, way, structure, n, mean, sd, worst, worst_subject.

    Worst is the least Dice or determinant, else the greatest; "volume change" is refined minus given, in % of the
    given, worst by its size. `n` leaves out hearts with an error and surfaces that are not there.
    """
    # (measure, way, structure) -> values
    parted = {c: c.split(" ", 2) for c in map(str, table)}
    shown = {tuple(parts): table[c] for c, parts in parted.items() if parts[0] in ("dice", "hd", "curvature")}
    for name in (n for n in CARDIAC.names if f"volume given {n}" in table):
        change = 100 * (table[f"volume refined {name}"] / table[f"volume given {name}"] - 1)
        shown["volume change, %", "refined", name] = change.replace([np.inf, -np.inf], np.nan)
    shown |= {(c, "refined", ""): table[c] for c in ("min_jacobian", "folded", "seconds") if c in table}
    rows = []
    for (measure, way, structure), values in shown.items():
        values = values.dropna()
        if len(values):
            bad = {"dice": -values, "min_jacobian": -values, "volume change, %": values.abs()}.get(measure, values)
            worst: Any = bad.idxmax()
            names = {"measure": measure, "way": way, "structure": structure}
            numbers = {"n": len(values), "mean": values.mean(), "sd": values.std(), "worst": values[worst]}
            rows.append({**names, **numbers, "worst_subject": table.at[worst, "subject"]})
    return pd.DataFrame(rows)


def pictures(subjects: Sequence[Subject], folder: str | Path, title: str | None = None) -> Picture:
    """Hearts before and after, a row each: the stack as it is, shape-based interpolation, refined (from `folder`)."""
    from shapelab.show import render  # with it trimesh, which no recipe needs
    from shapelab.show.meshes import heart_meshes

    rows = []
    for subject in subjects:
        label, frame = read_refinement(Path(folder) / f"{subject.id}.nii.gz", subject.affine)
        three = ways(*_stack(subject), label, frame)
        rows.append([heart_meshes(fine, frame.spacing, subject.scheme) for fine in three.values()])
    return render.mesh_grid(
        rows,
        CARDIAC,
        row_names=[s.id for s in subjects],
        column_names=["the stack", "interpolated", "refined"],
        title=title,
    )
