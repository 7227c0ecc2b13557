"""`heart_cohort`: patients with ED and ES label maps, images and landmarks, made when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from scipy import ndimage

from shapelab.data.cohort import Cohort
from shapelab.data.facts import GROUPS, PHASES
from shapelab.data.geometry import TOUCHING, components
from shapelab.data.scheme import BIVENTRICULAR, LabelScheme
from shapelab.data.subject import Subject
from shapelab.errors import whole
from shapelab.phantoms.acquisition import (
    Stack,
    StackFlaws,
    check_resolution,
    contour_noise,
    field_of_view,
    make_stack,
    outline_points,
)
from shapelab.phantoms.heart import HeartSurfaces, as_grid, check_scheme, label_batch
from shapelab.phantoms.patients import Mix, Patient, anatomy

IN_SLICE = np.zeros((3, 3, 3), bool)  # the 8 neighbours in the slice
IN_SLICE[:, :, 1] = True


def heart_cohort(
    n: int = 100,
    seed: int = 0,
    groups: Sequence[str] = GROUPS,
    resolution="HR",
    images: bool = False,
    scheme: LabelScheme = BIVENTRICULAR,
    phases: Sequence[str] = PHASES,
    flaws: StackFlaws | None = None,
) -> Cohort:
    """Bi-ventricular hearts with known answers.

    Args:
        n: number of patients; the groups take turns
        seed: patient i is a function of (seed, groups, i): the same whatever n, and the same heart at every resolution
        groups: some of NOR, DCM, HCM, MINF, RV
        resolution: "HR" (1.25 x 1.25 x 2 mm, one shape for all), "LR" (ACDC-like stacks, mostly 10 mm slices, spacing
            and matrix drawn), or a spacing (x, y, z) in mm (one shape for all)
        images: make bSSFP-like MR images too, float32 in [0, 1]
        scheme: BIVENTRICULAR, or CARDIAC (RV wall as background, as ACDC has it)
        phases: "ED", "ES" or both
        flaws: of the stacks: displaced slices, the observer's contour noise, slices left out at the apex. Not given:
            none but at LR, where they are ACDC's

    Returns:
        Cohort of n x len(phases) subjects (``phantom000_ED``), label arrays (X, Y, Z) made when asked for. Landmarks
        are those of the surfaces, in mm, without slice displacement and contour noise. Facts: patient, phase, group,
        height (cm), weight (kg), every drawn factor (see `population.draw_factors`), and the stack's spacing and place.

    Raises:
        UsageError: naming the argument and its value
    """
    n, seed, mix, resolution = whole("n", n), whole("seed", seed, 0), Mix(groups, phases), check_resolution(resolution)
    check_scheme(scheme)
    subjects = []
    for who in (mix.patient(seed, i) for i in range(n)):
        f, hearts = anatomy(who)
        stack = make_stack(*who[:2], f, hearts, resolution, *(flaws or StackFlaws()).at(resolution))
        name = f"phantom{who[1]:03d}"
        facts = {"patient": name, "group": who[2], "modality": "phantom MR", **f}
        facts |= dict(zip(("spacing_x", "spacing_y", "spacing_z"), stack.spacing))
        facts |= dict(zip(("origin_x", "origin_y", "origin_z"), stack.origin))
        subjects += [
            Subject(
                f"{name}_{phase}",
                scheme,
                label=partial(make_label, who, phase, stack, scheme),
                image=partial(make_image, who, phase, stack) if images else None,
                affine=stack.affine,
                landmarks=landmarks_in_stack(who, phase, stack),
                facts={**facts, "phase": phase},
            )
            for phase in phases
        ]
    return Cohort(subjects, "phantom", scheme)


def patient_on_grid(
    seed: int, index: int, groups: Sequence[str], grid, phases: Sequence[str] = PHASES
) -> tuple[Patient, dict[str, float], Stack]:
    """Patient `index` of `heart_cohort` with the same seed and groups, lying somewhere in a field of one's own.

    Args:
        grid: `Grid`, or (shape, spacing in mm)

    Returns the key that `make_label`, `make_image` and `landmarks_in_stack` take, the factors, and the stack.
    """
    grid, who = as_grid(grid), Mix(groups, phases).patient(whole("seed", seed, 0), index)
    f, hearts = anatomy(who)
    return who, f, field_of_view(seed, index, {p: hearts[p] for p in phases}, f["angle"], grid.shape, grid.spacing)


def landmarks_in_stack(who: Patient, phase: str, stack: Stack) -> dict[str, np.ndarray]:
    """Landmarks of one patient at one phase, mm in its stack (voxel index * spacing)."""
    f, hearts = anatomy(who)
    c, s = np.cos(np.deg2rad(f["angle"])), np.sin(np.deg2rad(f["angle"]))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return {name: turn @ p + np.array(stack.origin) for name, p in hearts[phase].landmarks.items()}


def surfaces_in_stack(who: Patient, phase: str, stack: Stack) -> HeartSurfaces:
    """Surfaces of one patient at one phase, placed in its stack (a batch of one)."""
    f, hearts = anatomy(who)
    return hearts[phase].surfaces.moved(origin=np.array([stack.origin]), angle=np.array([np.deg2rad(f["angle"])]))


def make_label(
    who: Patient, phase: str, stack: Stack, scheme: LabelScheme, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Label map (X, Y, Z) uint8 of one subject, drawn on a device and tidied on the CPU (see `tidy`)."""
    hearts, noise = surfaces_in_stack(who, phase, stack), contour_noise(*who[:2], phase, stack)
    label = label_batch(hearts, stack, device, scheme=scheme, shift=stack.shift[None], noise=noise)
    return tidy(label[0].cpu().numpy(), by_slice=noise is not None)


def tidy(label: np.ndarray, by_slice: bool) -> np.ndarray:
    """Drop the crumbs of each structure: where two surfaces meet at an edge thinner than a voxel, a voxel's centre can
    lie inside alone. A crumb becomes what surrounds it: LV cavity becomes wall, the rest background.

    Args:
        by_slice: False keeps the largest piece (26 neighbours); True, as an observer does, in each slice the pieces of
            at least a tenth of the largest one (two pieces of an RV stay)
    """
    label = label.copy()
    boxes = ndimage.find_objects(label, max_label=4)
    for value, becomes in ((1, 0), (2, 0), (3, 2), (4, 0)):
        if boxes[value - 1] is None:
            continue
        part = label[boxes[value - 1]]
        pieces, size = components(part == value, IN_SLICE if by_slice else TOUCHING)
        if len(size) < 3:
            continue
        if by_slice:
            home = np.zeros(len(size), int)
            home[pieces] = np.arange(part.shape[2])
            largest = np.zeros(part.shape[2], int)
            np.maximum.at(largest, home[1:], size[1:])
            keep = size >= 0.1 * largest[home]
        else:
            keep = size == size.max()
        part[(part == value) & ~keep[pieces]] = becomes
    return label


def make_image(who: Patient, phase: str, stack: Stack, device: torch.device | str = "cpu") -> np.ndarray:
    """Image (X, Y, Z) float32 of one subject, drawn on a device."""
    from shapelab.phantoms.mr_imaging import mr_image

    f, hearts = anatomy(who)
    outline = outline_points(hearts["ED"].surfaces, np.deg2rad(f["angle"]))
    return mr_image(surfaces_in_stack(who, phase, stack).to(device), stack, f, outline, *who[:2], phase)
