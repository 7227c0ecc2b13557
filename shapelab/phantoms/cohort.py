"""`heart_cohort`: patients with ED and ES label maps, images and landmarks, made when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
import pandas as pd
from scipy import ndimage

from shapelab.data.cohort import Cohort
from shapelab.data.facts import PHASES
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, LabelScheme
from shapelab.data.subject import Subject
from shapelab.errors import UsageError
from shapelab.phantoms.acquisition import (
    Stack,
    check_resolution,
    contour_noise,
    extent,
    field_of_view,
    make_stack,
    outline_points,
)
from shapelab.phantoms.anatomy import Heart, build_heart
from shapelab.phantoms.heart import HeartSurfaces, check_grid, label_batch
from shapelab.phantoms.population import GROUPS, draw_factors

Patient = tuple[int, int, str, int]  # seed, number, group, number within the group
LR_SHIFT_MM = 1.5  # sd of a slice's breath-hold displacement; ACDC's slice centres leave a smooth line by 1 to 2 mm


def heart_cohort(
    n: int = 100,
    seed: int = 0,
    groups: Sequence[str] = GROUPS,
    resolution="HR",
    images: bool = False,
    scheme: LabelScheme = BIVENTRICULAR,
    phases: Sequence[str] = PHASES,
    slice_shift_mm: float | None = None,
    contour_noise: float | None = None,
    missing_slices: int = 0,
) -> Cohort:
    """Bi-ventricular hearts with known answers.

    Parameters
    ----------
    n : number of patients; the groups take turns
    seed : patient i is a function of (seed, groups, i): the same whatever n, and the same heart at every resolution
    groups : some of NOR, DCM, HCM, MINF, RV
    resolution : "HR" (1.25 x 1.25 x 2 mm, one shape for all), "LR" (ACDC-like stacks, mostly 10 mm slices, spacing and
        matrix drawn), or a spacing (x, y, z) in mm (one shape for all)
    images : make bSSFP-like MR images too, float32 in [0, 1]
    scheme : BIVENTRICULAR, or CARDIAC (RV wall as background, as ACDC has it)
    phases : "ED", "ES" or both
    slice_shift_mm : sd of the in-plane displacement of each slice; default 1.5 at LR, else 0
    contour_noise : strength of the observer's contour noise; default 1 at LR (as between ACDC's slices), else 0
    missing_slices : slices left out at the apex

    Returns
    -------
    Cohort of n x len(phases) subjects (``phantom000_ED``), label arrays (X, Y, Z) made when asked for. Landmarks are
    those of the surfaces, in mm, without slice displacement and contour noise. Facts: patient, phase, group, height
    (cm), weight (kg), every drawn factor (see `population.draw_factors`), and the stack's spacing and place.

    Raises
    ------
    UsageError : naming the argument and its value
    """
    _check(n, seed, groups, scheme, phases, slice_shift_mm, contour_noise, missing_slices)
    resolution = check_resolution(resolution)
    shift = (LR_SHIFT_MM if resolution == "LR" else 0.0) if slice_shift_mm is None else float(slice_shift_mm)
    hand = (1.0 if resolution == "LR" else 0.0) if contour_noise is None else float(contour_noise)
    subjects = []
    for i in range(n):
        key = (int(seed), i, groups[i % len(groups)], i // len(groups))
        subjects += _patient(key, resolution, images, scheme, phases, shift, hand, missing_slices)
    return Cohort(subjects, "phantom", scheme)


def _check(n, seed, groups, scheme, phases, shift, hand, missing) -> None:
    def wrong(name: str, value, expected: str):
        return UsageError(f"heart_cohort: found {name}={value!r}; expected {expected}")

    def whole(value) -> bool:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)

    if not whole(n) or n < 1:
        raise wrong("n", n, "a positive integer")
    if not whole(seed) or seed < 0:
        raise wrong("seed", seed, "an integer from 0")
    if isinstance(groups, str) or not len(groups) or set(groups) - set(GROUPS):
        raise wrong("groups", groups, f"some of {list(GROUPS)}")
    if isinstance(phases, str) or not len(phases) or set(phases) - set(PHASES) or len(set(phases)) != len(phases):
        raise wrong("phases", phases, f"some of {list(PHASES)}, each once")
    if scheme not in (BIVENTRICULAR, CARDIAC):
        raise wrong("scheme", getattr(scheme, "name", scheme), "BIVENTRICULAR or CARDIAC")
    for name, value, high in (("slice_shift_mm", shift, 10), ("contour_noise", hand, 5)):
        if value is not None and not (np.isfinite(value) and 0 <= value <= high):
            raise wrong(name, value, f"a number from 0 to {high}")
    if not whole(missing) or not 0 <= missing <= 20:
        raise wrong("missing_slices", missing, "an integer from 0 to 20")


def _patient(who: Patient, resolution, images, scheme, phases, shift, hand, missing) -> list[Subject]:
    """The subjects of one patient, one a phase."""
    f, hearts = _patient_surfaces(who)
    stack = make_stack(*who[:2], f, hearts, resolution, shift, hand, missing)
    name = f"phantom{who[1]:03d}"
    facts = {"patient": name, "group": who[2], "modality": "phantom MR", **f}
    facts |= dict(zip(("spacing_x", "spacing_y", "spacing_z"), stack.spacing))
    facts |= dict(zip(("origin_x", "origin_y", "origin_z"), stack.origin))
    out = []
    for phase in phases:
        key = (who, phase, stack)
        out.append(
            Subject(
                f"{name}_{phase}",
                scheme,
                label=partial(make_label, *key, scheme),
                image=partial(make_image, *key) if images else None,
                affine=stack.affine,
                landmarks=_place(hearts[phase].landmarks, f["angle"], stack),
                facts={**facts, "phase": phase},
            )
        )
    return out


def training_hearts(
    n: int,
    grid,
    seed: int = 0,
    groups: Sequence[str] = GROUPS,
    phases: Sequence[str] = PHASES,
    align: bool = True,
    first: int = 0,
) -> tuple[HeartSurfaces, pd.DataFrame]:
    """Surfaces of many hearts, placed on one grid: what `label_batch` turns into label maps in one call.

    Parameters
    ----------
    n : number of patients; patient i is that of `heart_cohort` with the same seed and groups
    grid : `Grid`, or (shape, spacing in mm); each heart's bounding box is put in its middle
    align : turn every heart so that LV -> RV points to -x; else each keeps its own direction
    first : number of the first patient

    Returns
    -------
    surfaces of n x len(phases) hearts (patient by patient), and their facts, one row a heart
    """
    _check(n, seed, groups, BIVENTRICULAR, phases, None, None, 0)
    shape, spacing = check_grid(grid, "training_hearts")
    middle = (np.array(shape) - 1) / 2 * spacing
    hearts, rows = [], []
    for i in range(first, first + n):
        who = (int(seed), i, groups[i % len(groups)], i // len(groups))
        f, both = _patient_surfaces(who)
        angle = np.pi if align else np.deg2rad(f["angle"])
        box = extent([both[p].surfaces for p in phases], angle)
        for phase in phases:
            hearts.append(both[phase].surfaces.moved(origin=(middle - box.mean(0))[None], angle=np.array([angle])))
            rows.append({"patient": f"phantom{i:03d}", "group": who[2], "phase": phase, **f})
    return HeartSurfaces.stack(hearts), pd.DataFrame(rows, index=[f"{r['patient']}_{r['phase']}" for r in rows])


@lru_cache(maxsize=64)
def _patient_surfaces(who: Patient) -> tuple[dict[str, float], dict[str, Heart]]:
    """Factors and surfaces of one patient: solved again when asked for, so that a large cohort holds no tables."""
    f = draw_factors(*who)
    return f, build_heart(f)


def _place(landmarks: dict[str, np.ndarray], angle_deg: float, stack: Stack) -> dict[str, np.ndarray]:
    """Landmarks from the heart's frame to the stack's, mm."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return {name: turn @ p + np.array(stack.origin) for name, p in landmarks.items()}


def patient_on_grid(
    seed: int, index: int, groups: Sequence[str], grid, phases: Sequence[str] = PHASES
) -> tuple[Patient, dict[str, float], Stack]:
    """Patient `index` of `heart_cohort` with the same seed and groups, lying somewhere in a field of one's own.

    grid : `Grid`, or (shape, spacing in mm)

    Returns the key that `make_label`, `make_image` and `landmarks_in_stack` take, the factors, and the stack.
    """
    _check(1, seed, groups, BIVENTRICULAR, phases, None, None, 0)
    shape, spacing = check_grid(grid, "patient_on_grid")
    who = (int(seed), int(index), groups[index % len(groups)], index // len(groups))
    f, hearts = _patient_surfaces(who)
    return who, f, field_of_view(seed, index, {p: hearts[p] for p in phases}, f["angle"], shape, spacing)


def landmarks_in_stack(who: Patient, phase: str, stack: Stack) -> dict[str, np.ndarray]:
    """Landmarks of one patient at one phase, mm in its stack (voxel index * spacing)."""
    f, hearts = _patient_surfaces(who)
    return _place(hearts[phase].landmarks, f["angle"], stack)


def surfaces_in_stack(who: Patient, phase: str, stack: Stack) -> HeartSurfaces:
    """Surfaces of one patient at one phase, placed in its stack (a batch of one)."""
    f, hearts = _patient_surfaces(who)
    return hearts[phase].surfaces.moved(origin=np.array([stack.origin]), angle=np.array([np.deg2rad(f["angle"])]))


def make_label(who: Patient, phase: str, stack: Stack, scheme: LabelScheme) -> np.ndarray:
    """Label map (X, Y, Z) uint8 of one subject, tidied (see `tidy`)."""
    hearts, grid = surfaces_in_stack(who, phase, stack), (stack.shape, stack.spacing)
    noise = contour_noise(*who[:2], phase, stack)
    label = label_batch(hearts, grid, scheme=scheme, shift=stack.shift[None], noise=noise)[0].numpy()
    return tidy(label, by_slice=noise is not None)


def tidy(label: np.ndarray, by_slice: bool) -> np.ndarray:
    """Drop the crumbs of each structure: where two surfaces meet at an edge thinner than a voxel, a voxel's centre can
    lie inside alone. A crumb becomes what surrounds it: LV cavity becomes wall, the rest background.

    by_slice : False keeps the largest piece (26 neighbours); True, as an observer does, in each slice the pieces of at
        least a tenth of the largest one (two pieces of an RV stay)
    """
    label = label.copy()
    boxes = ndimage.find_objects(label, max_label=4)
    for value, becomes in ((1, 0), (2, 0), (3, 2), (4, 0)):
        if boxes[value - 1] is None:
            continue
        part = label[boxes[value - 1]]
        links = np.ones((3, 3, 3), bool)
        if by_slice:
            links[:, :, [0, 2]] = False
        pieces, n = ndimage.label(part == value, links)
        if n < 2:
            continue
        size = np.bincount(pieces.ravel())
        size[0] = 0
        if by_slice:
            home = np.zeros(n + 1, int)
            home[pieces] = np.arange(part.shape[2])
            largest = np.zeros(part.shape[2], int)
            np.maximum.at(largest, home[1:], size[1:])
            keep = size >= 0.1 * largest[home]
        else:
            keep = size == size.max()
        part[(part == value) & ~keep[pieces]] = becomes
    return label


def make_image(who: Patient, phase: str, stack: Stack) -> np.ndarray:
    """Image (X, Y, Z) float32 of one subject."""
    from shapelab.phantoms.mr_imaging import mr_image

    f, hearts = _patient_surfaces(who)
    outline = outline_points(hearts["ED"].surfaces, np.deg2rad(f["angle"]))
    return mr_image(surfaces_in_stack(who, phase, stack), stack, f, outline, *who[:2], phase)
