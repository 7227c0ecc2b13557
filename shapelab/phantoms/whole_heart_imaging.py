"""Whole hearts as a CT and an MR scanner picture them, and scans and cohorts of them.

Both scanners see one body (`whole_heart_body`), drawn on voxels finer than the grid's where that is coarse and
averaged over each (partial volume). Intensities are drawn anew for each patient, so that neighbours are well told
apart in some and hardly in others.

CT: Hounsfield units after contrast agent, which fills the left heart more than the right, or both alike; the right
atrium is where blood with and without it mixes. Noise is correlated, as a reconstruction's is. MR: whole-heart bSSFP,
bright blood and fat, dark grey muscle; coil sensitivity, Rician noise; its voxels are thicker through the plane and
interpolated to the grid where that is finer. "CT late" (the agent evenly spread, and washed into the muscle) and
"MR dark blood" are contrasts to test with what was trained on the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from shapelab.data.cohort import Cohort
from shapelab.data.grid import Grid, z_normalised
from shapelab.data.scheme import WHOLE_HEART
from shapelab.data.subject import Subject
from shapelab.data.volumes import Scans
from shapelab.errors import whole
from shapelab.phantoms.heart import GridLike, as_grid
from shapelab.phantoms.mr_imaging import bias_field
from shapelab.phantoms.patients import Mix, Patient, cached_hearts, some_of
from shapelab.phantoms.whole_heart import Drawn, draw_whole_heart, whole_heart_labels
from shapelab.phantoms.whole_heart_body import MATERIALS, Body, make_body
from shapelab.phantoms.whole_heart_population import WHOLE_GROUPS, whole_heart_factors

QUICK = Grid((28, 24, 28), (6.0, 6.0, 6.0))
FINE_MM = 2.0  # voxels up to this are drawn as they are, larger ones as means of eight
COARSE_MM = 4.0  # voxels, at least, that distances are drawn on
CAVITIES = ("LV cavity", *WHOLE_HEART.names[2:], "descending", "superior vein", "inferior vein")
MIXED = ("right atrium", "superior vein", "inferior vein")  # where blood with and without contrast agent meets
BODY, SCANNER = 21, 22  # streams of random numbers, beside those of the anatomy


def _oversample(grid: Grid) -> int:
    """Voxels drawn along each edge of one of the grid's."""
    return 2 if max(grid.spacing) > FINE_MM else 1


def ct_tissues(rng: np.random.Generator, late: bool = False) -> dict[str, float]:
    """HU of each material in one scan; `late`: some minutes after the contrast agent was given."""
    left = rng.uniform(240, 470)
    right = left * rng.uniform(0.3, 1.1)
    muscle = rng.uniform(70, 130)
    if late:
        left = rng.uniform(165, 210)
        right, muscle = left * rng.uniform(0.95, 1.05), rng.uniform(85, 110)
    between = rng.uniform(0.1, 0.9)
    return {
        "LV cavity": left,
        "LV myocardium": muscle,
        "RV cavity": right,
        "left atrium": left * rng.uniform(0.95, 1.08),
        "right atrium": right * rng.uniform(0.8, 1.1),
        "ascending aorta": left * rng.uniform(0.92, 1.05),
        "pulmonary artery": left + between * (right - left),
        "descending": left * rng.uniform(0.88, 1.02),
        "superior vein": right * (1 if late else rng.uniform(0.8, 1.7)),
        "inferior vein": right * (1 if late else rng.uniform(0.4, 0.9)),
        "vessels": (left + right) / 2,
        "wall": muscle * rng.uniform(0.7, 1.0),
        "muscle": rng.uniform(45, 75),
        "soft": rng.uniform(30, 65),
        "fat": rng.uniform(-110, -70),
        "lung": rng.uniform(-880, -760),
        "air": -990.0,
        "bone": rng.uniform(170, 420),
        "liver": rng.uniform(60, 125),
        "stomach": rng.uniform(10, 60),
    }


def mr_tissues(rng: np.random.Generator, dark_blood: bool = False) -> dict[str, float]:
    """Intensity of each material in one scan, LV blood about 1; `dark_blood`: as after a double inversion."""
    left, right = rng.uniform(0.75, 1.0), rng.uniform(0.65, 0.98)
    muscle = left * rng.uniform(0.32, 0.6)
    tissue = {
        "LV cavity": left,
        "LV myocardium": muscle,
        "RV cavity": right,
        "left atrium": left * rng.uniform(0.75, 1.05),
        "right atrium": right * rng.uniform(0.85, 1.1),
        "ascending aorta": left * rng.uniform(0.65, 1.05),
        "pulmonary artery": right * rng.uniform(0.65, 1.05),
        "descending": left * rng.uniform(0.6, 1.05),
        "superior vein": right * rng.uniform(0.7, 1.1),
        "inferior vein": right * rng.uniform(0.7, 1.2),
        "vessels": (left + right) / 2 * rng.uniform(0.4, 0.9),
        "wall": muscle * rng.uniform(0.85, 1.1),
        "muscle": muscle * rng.uniform(0.5, 0.9),
        "soft": rng.uniform(0.2, 0.4),
        "fat": rng.uniform(0.2, 0.9),
        "lung": rng.uniform(0.03, 0.09),
        "air": 0.01,
        "bone": rng.uniform(0.15, 0.35),
        "liver": rng.uniform(0.25, 0.5),
        "stomach": rng.uniform(0.15, 0.5),
    }
    if dark_blood:
        tissue |= {name: 0.18 * tissue[name] for name in (*CAVITIES, "vessels")}
    return tissue


def _painted(body: Body, tissue: Mapping[str, float], grain: float, mixed: float) -> np.ndarray:
    """Intensities on the drawing's voxels.

    Args:
        grain: sd of the texture
        mixed: sd of the blood's share in the right atrium and the caval veins
    """
    value, share = (np.zeros(len(MATERIALS), np.float32) for _ in range(2))
    value[1:] = [tissue[name] for name in MATERIALS[1:]]
    share[[MATERIALS.index(name) for name in MIXED]] = mixed
    image = value[body.materials]
    image *= 1 + share[body.materials] * body.mixing
    return image + grain * body.texture


def _averaged(fine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Means of the fine voxels in each of the grid's."""
    x, y, z = shape
    k = len(fine) // x
    over_x = fine.reshape(x, k, -1).sum(1).reshape(x, y, k, -1).sum(2)
    return over_x.reshape(x, y, z, k).sum(3) / np.float32(k**3)


def ct_image(body: Body, grid: Grid, rng: np.random.Generator, late: bool = False) -> np.ndarray:
    """CT of a body, (X, Y, Z) float32 in HU from -1024 on.

    Args:
        body: drawn on the grid's voxels, or on whole fractions of them
        late: a contrast of its own, see the module
    """
    fine = _painted(body, ct_tissues(rng, late), rng.uniform(6, 14), 0.0 if late else rng.uniform(0.05, 0.35))
    image = ndimage.gaussian_filter(_averaged(fine, grid.shape), 0.6 / np.array(grid.spacing))
    noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), 0.6, mode="wrap")
    return (image + noise * (rng.uniform(30, 85) / noise.std())).clip(-1024, None)


def mr_image_3d(body: Body, grid: Grid, rng: np.random.Generator, dark_blood: bool = False) -> np.ndarray:
    """Whole-heart bSSFP of a body, (X, Y, Z) float32 from 0 on, LV blood about 1 (in arbitrary units).

    The scanner's voxels are 1 to 1.6 mm in the plane and 1.6 to 2.5 mm through it, axial or sagittal, and never finer
    than the grid's: noise is that of the scanner's voxels, interpolated.

    Args:
        body: drawn on the grid's voxels, or on whole fractions of them
        dark_blood: a contrast of its own, see the module
    """
    fine = _averaged(_painted(body, mr_tissues(rng, dark_blood), rng.uniform(0.02, 0.04), 0.08), grid.shape)
    through, plane = int(rng.choice([0, 2])), rng.uniform(1.0, 1.6)
    voxels = [rng.uniform(1.6, 2.5) if axis == through else plane for axis in range(3)]
    fine = _by_axes(ndimage.gaussian_filter(fine, 0.7 / np.array(grid.spacing)), grid, voxels, _box_means)
    fine *= bias_field(rng, fine.shape, torch.device("cpu"))[:, ::-1] ** rng.uniform(1, 1.8)  # brighter in front
    sd = np.float32(rng.uniform(0.05, 0.11))
    noise = (sd * rng.standard_normal(fine.shape, dtype=np.float32) for _ in range(2))
    return _by_axes(np.hypot(fine + next(noise), next(noise)), grid, voxels, _interpolation).astype(np.float32)


def _by_axes(
    image: np.ndarray, grid: Grid, voxels: Sequence[float], weights: Callable[[int, float, float], np.ndarray]
) -> np.ndarray:
    """An image brought to the scanner's voxels or back, axis by axis; an axis where the grid is coarser is left."""
    for axis, (n, spacing, voxel) in enumerate(zip(grid.shape, grid.spacing, voxels, strict=True)):
        if voxel > spacing:
            image = np.moveaxis(np.tensordot(weights(n, spacing, voxel), image, ([1], [axis])), 0, axis)
    return image


def _covering(n: int, spacing: float, voxel: float) -> int:
    """How many of the scanner's voxels cover n of the grid's."""
    return math.ceil(n * spacing / voxel - 1e-6)


def _box_means(n: int, spacing: float, voxel: float) -> np.ndarray:
    """(m, n) share of each of the grid's voxels in each of the scanner's, which cover them about the same middle."""
    m = _covering(n, spacing, voxel)
    low, start = (np.arange(n) - n / 2) * spacing, ((np.arange(m) - m / 2) * voxel)[:, None]
    overlap = np.minimum(low + spacing, start + voxel) - np.maximum(low, start)
    overlap = overlap.clip(0, None).astype(np.float32)
    return overlap / overlap.sum(1, keepdims=True)


def _interpolation(n: int, spacing: float, voxel: float) -> np.ndarray:
    """(n, m) weights of linear interpolation from the scanner's voxels to the grid's."""
    m = _covering(n, spacing, voxel)
    at = (np.arange(n) - (n - 1) / 2) * spacing / voxel + (m - 1) / 2
    return (1 - np.abs(at.clip(0, m - 1)[:, None] - np.arange(m))).clip(0, None).astype(np.float32)


#: What a patient can be imaged by; the last two are to be met by what has learned from the others.
MODALITIES: dict[str, Callable[[Body, Grid, np.random.Generator], np.ndarray]] = {
    "CT": ct_image,
    "MR": mr_image_3d,
    "CT late": partial(ct_image, late=True),
    "MR dark blood": partial(mr_image_3d, dark_blood=True),
}


def _drawn(who: Patient, grid: Grid) -> Drawn:
    """One patient on the voxels that are averaged for the grid's.

    Distances and unlabelled vessels are drawn on voxels of 4 mm and more and interpolated: a distance is all but
    linear over that, and takes far longer than a label.
    """
    k = _oversample(grid)
    fine = Grid(tuple(k * n for n in grid.shape), tuple(s / k for s in grid.spacing))
    size = [max(s, COARSE_MM) for s in fine.spacing]
    shape = [_covering(n, s, c) for n, s, c in zip(fine.shape, fine.spacing, size, strict=True)]
    coarse = draw_whole_heart(who, Grid(shape, size))
    maps = (coarse.distance, *((coarse.others == kind).astype(np.float32) for kind in (1, 2)))
    distance, aorta, veins = (_by_axes(a, fine, size, _interpolation) for a in maps)
    labels = whole_heart_labels(who, fine)
    others = np.where(labels > 0, 0, (aorta > 0.5) + 2 * ((veins > 0.5) & (aorta <= 0.5))).astype(np.uint8)
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(fine.shape, fine.spacing, strict=True)]
    return Drawn(labels, distance, others, np.stack(np.meshgrid(*axes, indexing="ij"), -1).astype(np.float32))


@lru_cache(maxsize=1)
def _body(who: Patient, grid: Grid) -> Body:
    """One patient's body, which every modality sees."""
    return make_body(_drawn(who, grid), np.random.default_rng([*who[:2], BODY]))


def whole_heart_image(who: Patient, modality: str, grid: Grid) -> np.ndarray:
    """Image (X, Y, Z) float32 of one patient: HU, or an MR scanner's arbitrary units.

    A function of the patient, the modality and the grid; the same body at each of them.
    """
    rng = np.random.default_rng([*who[:2], SCANNER, modality.startswith("MR")])
    return MODALITIES[modality](_body(who, grid), grid, rng)


def whole_heart_scans(
    n: int,
    grid: GridLike = QUICK,
    seed: int = 0,
    modalities: Sequence[str] = ("CT", "MR"),
    groups: Sequence[str] = WHOLE_GROUPS,
    first: int = 0,
    cache: str | Path | None = None,
    progress: bool = False,
) -> Scans:
    """Patients `first` to `first` + n - 1, each imaged by every modality: what networks learn from.

    Args:
        n: number of patients; the groups take turns
        grid: `Grid`, or (shape, spacing in mm)
        seed: patient i is a function of (seed, groups, i): the same whatever n, first, grid and modalities
        modalities: some of "CT", "MR", "CT late", "MR dark blood"
        groups: some of `WHOLE_GROUPS`
        cache: `.npz` file that is read if it holds just these scans, else written

    Returns:
        Scans: the images z-normalised float16; rows ``phantom000_CT``, ``phantom000_MR``, ... have one anatomy and one
        label map. In the table: patient, group, modality, and every drawn factor.

    Raises:
        UsageError: naming the argument and its value
    """
    n, seed, first, grid = whole("n", n), whole("seed", seed, 0), whole("first", first, 0), as_grid(grid)
    mix = Mix(groups, known=WHOLE_GROUPS)
    some_of("modalities", modalities, tuple(MODALITIES), once=True)
    key = repr((n, grid.shape, grid.spacing, seed, tuple(modalities), tuple(groups), first))

    label = lru_cache(maxsize=1)(whole_heart_labels)  # of all modalities of a patient

    def draw(who: Patient, modality: str) -> tuple[dict[str, np.ndarray], Mapping[str, object]]:
        image = z_normalised(whole_heart_image(who, modality, grid)).astype(np.float16)
        return {"images": image, "labels": label(who, grid)}, whole_heart_factors(who)

    who = [mix.patient(seed, i) for i in range(first, first + n)]
    arrays, table = cached_hearts(who, modalities, draw, cache, key, progress, seen="modality")
    return Scans(arrays["images"], arrays["labels"], table, grid)


def whole_heart_cohort(
    n: int = 40,
    seed: int = 0,
    grid: GridLike = QUICK,
    modalities: Sequence[str] = ("CT", "MR"),
    groups: Sequence[str] = WHOLE_GROUPS,
    images: bool = False,
    first: int = 0,
) -> Cohort:
    """Whole hearts with known answers, whose arrays are made when asked for; arguments as of `whole_heart_scans`.

    Args:
        images: make the images too, float32: CT in HU, MR in arbitrary units (LV blood about 1)

    Returns:
        Cohort of n x len(modalities) subjects (``phantom000_CT``), scheme WHOLE_HEART, arrays (X, Y, Z) to the
        patient's right, front and top as the affine says, its origin in the middle of the grid. Facts: patient, group,
        modality, every drawn factor.

    Raises:
        UsageError: naming the argument and its value
    """
    n, seed, first, grid = whole("n", n), whole("seed", seed, 0), whole("first", first, 0), as_grid(grid)
    mix, affine = Mix(groups, known=WHOLE_GROUPS), np.diag([*grid.spacing, 1.0])
    some_of("modalities", modalities, tuple(MODALITIES), once=True)
    affine[:3, 3] = -(np.array(grid.shape) - 1) / 2 * grid.spacing
    subjects = [
        Subject(
            f"phantom{who[1]:03d}_{modality}",
            WHOLE_HEART,
            label=partial(whole_heart_labels, who, grid),
            image=partial(whole_heart_image, who, modality, grid) if images else None,
            affine=affine,
            facts={
                "patient": f"phantom{who[1]:03d}",
                "group": who[2],
                "modality": modality,
                **whole_heart_factors(who),
            },
        )
        for who in (mix.patient(seed, i) for i in range(first, first + n))
        for modality in modalities
    ]
    return Cohort(subjects, "phantom-wh", WHOLE_HEART)
