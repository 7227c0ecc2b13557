"""`us_cohort`: hearts as a transthoracic 3D ultrasound probe sees them from the apical window, with known answers.

The heart is that of `shapelab.phantoms.heart` (the same surfaces, volumes and groups as the MR phantom). Here it is put
in front of a probe and cut by oblique planes, so the surfaces are asked at any point in space and not slice by slice:
each becomes a table of squared radii q(height, angle) about its pole, and

    level = (d^2 - q) / (2 sqrt(d^2 + (dq/dz / 2)^2))         d: distance from the pole's line

which is 0 on the surface, negative inside, and to first order the distance in mm. q of an ellipsoid is a polynomial of
the height, so it goes on smoothly below the apex, where radii cannot. Label (LV cavity, closed by a plane at the mitral
valve, as CETUS closes it) and image (`shapelab.phantoms.ultrasound_imaging`) are both read from these levels.

The probe's frame, in mm, is that of the arrays and of the affine: origin at the tip of the pyramidal sector, z along
its middle, away from the probe; the first slice lies at the probe and the heart's apex in the first third, the base
further down. x goes from the RV (low) to the lateral wall, y from the anterior (low) to the inferior wall. So
``a[:, n // 2, :].T`` with the origin at the top is the apical four-chamber view as an echocardiographer knows it, apex
up and RV on the left; ``a[n // 2].T`` is the two-chamber view, anterior wall on the left. Patient coordinates are
unknown to a probe held by hand, and the affine says nothing of them.

The LV's axis is laid along the beam but for the sonographer's error: tilt, shift, and turn about the axis. ED and ES of
one patient share the probe's place, the sector, gain and shadows; the tissue moves, so its speckle differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch

from shapelab.data.cohort import Cohort
from shapelab.data.facts import PHASES
from shapelab.data.scheme import LV_CAVITY
from shapelab.data.subject import Subject
from shapelab.errors import whole
from shapelab.phantoms.heart import as_grid
from shapelab.phantoms.patients import Mix, Patient, anatomy
from shapelab.phantoms.population import draw_factors
from shapelab.phantoms.ultrasound_geometry import Artefacts, Box, Levels, closed, make_box, make_probe

US_GROUPS = ("NOR", "DCM", "MINF")  # whom CETUS has: healthy, dilated, after an infarction
GRID = (48, 48, 48), (3.0, 3.0, 3.0)  # a box of 144 mm: the depth an apical view of a dilated heart needs


@lru_cache(maxsize=8)
def _levels(who: Patient, phase: str) -> Levels:
    """Surfaces of one patient at one phase, to be asked at points in space."""
    return Levels(anatomy(who)[1][phase].surfaces)


def us_label(who: Patient, phase: str, box: Box) -> np.ndarray:
    """LV cavity (X, Y, Z) uint8 of one subject: a voxel has the label of its centre."""
    probe, levels = make_probe(*who[:2], anatomy(who)[0], box.shape[2] * box.spacing[2]), _levels(who, phase)
    h = torch.from_numpy(probe.to_heart(box.points.flatten(1).T.numpy()).astype(np.float32)).T
    near = (h[2] > levels.base) & (h[2] < levels.apex + 2)
    level, _, _ = levels.lv(*h[:, near])
    out = torch.zeros(h.shape[1], dtype=torch.uint8)
    out[near] = (closed(level[0], h[2, near], levels.base) < 0).to(torch.uint8)
    return out.reshape(box.shape).numpy()


def us_image(who: Patient, phase: str, box: Box, artefacts: Artefacts = Artefacts()) -> np.ndarray:
    """Image (X, Y, Z) float32 in [0, 1] of one subject, 0 outside the sector."""
    from shapelab.phantoms.ultrasound_imaging import echo_image

    probe = make_probe(*who[:2], anatomy(who)[0], box.shape[2] * box.spacing[2])
    return echo_image(_levels(who, phase), probe, box, artefacts, *who[:2], phase)


def us_cohort(
    n: int = 30,
    seed: int = 0,
    groups: Sequence[str] = US_GROUPS,
    grid=GRID,
    phases: Sequence[str] = PHASES,
    images: bool = True,
    artefacts: Artefacts = Artefacts(),
    first: int = 0,
) -> Cohort:
    """Patients in 3D ultrasound from the apical window, ED and ES, with the LV cavity as label.

    Args:
        n: number of patients; the groups take turns
        seed: patient i is a function of (seed, groups, i): the same heart before the same probe whatever n and the grid
        groups: some of NOR, DCM, HCM, MINF, RV; the default are CETUS's
        grid: `Grid`, or (shape, spacing in mm); the probe is in the middle of the first slice (x, y)
        phases: "ED", "ES" or both
        images: make the images too, float32 in [0, 1] (log-compressed), 0 outside the sector
        artefacts: their strength; the same seed gives the same image but for them
        first: number of the first patient

    Returns:
        Cohort of n x len(phases) subjects (``us000_ED``), scheme LV_CAVITY, arrays (X, Y, Z) made when asked for,
        affine to the probe's frame. Facts: patient, phase, group, modality ("phantom 3D US"), LVV_ED, LVV_ES (ml), LVEF
        (%), of the surfaces; apex_depth, sector_azimuth, sector_elevation (degrees), sector_depth (mm); the artefacts'
        strengths and every drawn factor.

    Raises:
        UsageError: naming the argument and its value
    """
    n, seed, first, mix = whole("n", n), whole("seed", seed, 0), whole("first", first, 0), Mix(groups, phases)
    grid = as_grid(grid)
    box, subjects = make_box(grid.shape, grid.spacing), []
    for i in range(first, first + n):
        subjects += _patient(mix.patient(seed, i), box, phases, images, artefacts)
    return Cohort(subjects, "phantom-us", LV_CAVITY)


def _patient(who: Patient, box: Box, phases, images: bool, artefacts: Artefacts) -> list[Subject]:
    """The subjects of one patient, one a phase."""
    f = draw_factors(*who)
    probe = make_probe(*who[:2], f, box.shape[2] * box.spacing[2])
    name = f"us{who[1]:03d}"
    facts = {
        "patient": name,
        "group": who[2],
        "modality": "phantom 3D US",
        **f,
        "LVV_ES": f["LVV_ED"] * (1 - f["LVEF"] / 100),
        "apex_depth": float(probe.shift[2]),
        "sector_azimuth": float(np.rad2deg(probe.azimuth)),
        "sector_elevation": float(np.rad2deg(probe.elevation)),
        "sector_depth": probe.depth,
        **asdict(artefacts),
    }
    return [
        Subject(
            f"{name}_{phase}",
            LV_CAVITY,
            label=partial(us_label, who, phase, box),
            image=partial(us_image, who, phase, box, artefacts) if images else None,
            affine=box.affine,
            facts={**facts, "phase": phase},
        )
        for phase in phases
    ]


def us_arrays(cohort: Cohort, progress: bool = False) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """All of a cohort in memory: images (N, X, Y, Z) float16, labels (N, X, Y, Z) uint8, and its table."""
    from tqdm.auto import tqdm

    subjects = tqdm(cohort, desc=cohort.name, unit="image", disable=not progress, leave=False)
    images, labels = zip(*[(s.image.astype(np.float16), s.label) for s in subjects], strict=True)
    return np.stack(images), np.stack(labels), cohort.table
