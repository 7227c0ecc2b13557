"""Pairs of hearts for segmentation and super-resolution: high-resolution image and label map on a model's grid.

As the UK Digital Heart pairs of the ACNN paper: each heart has an HR image and HR labels, free of breath-hold steps,
and the displacement of each slice that its low-resolution (LR) stack shows. Image and labels come from the same
surfaces, drawn straight on the grid; nothing is resampled. Hearts lie as `shapelab.data.grid.to_grid(align="rigid")`
lays them: RV towards -x, the LV's centroid 18 mm to +x of the middle (the paper crops "based on the automatically
detected six anatomical landmark locations").
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from shapelab.augment import MotionRanges
from shapelab.data.facts import RV_SIDE_MM
from shapelab.data.grid import Grid
from shapelab.data.scheme import CARDIAC
from shapelab.data.volumes import HeartPairs
from shapelab.device import best_device
from shapelab.errors import must, whole
from shapelab.phantoms.acquisition import Stack, outline_points
from shapelab.phantoms.cohort import tidy
from shapelab.phantoms.heart import HeartSurfaces, as_grid, label_batch
from shapelab.phantoms.mr_imaging import mr_image
from shapelab.phantoms.patients import Mix, Patient, anatomy, cached_hearts

SHIFT_MM, TURN_DEG = 2.0, 1.5  # sd of a slice's breath-hold: ACDC's slice centres leave a smooth line by 1 to 2 mm


def heart_pairs(
    n: int,
    grid,
    factor: int,
    seed: int = 0,
    mix: Mix | None = None,
    motion: MotionRanges | None = None,
    cache: str | Path | None = None,
    progress: bool = False,
) -> HeartPairs:
    """Pairs of n phantom patients on one grid.

    Args:
        n: patients; patient i is that of `heart_cohort` with the same seed and groups, whatever n
        grid: `Grid`, or (shape, spacing in mm): the HR grid
        factor: K, HR slices per LR slice
        seed: of hearts, scanner, breath-holds
        mix: groups and phases; all of them where not given
        motion: sd of a slice's displacement and rotation in a patient of mean restlessness; default 2 mm, 1.5 degrees
        cache: `.npz` file that is read if it holds these very pairs, else written

    They are drawn on the best device (`shapelab.device.computing_on` chooses another); a GPU's hearts are the CPU's to
    rounding. What stays on the CPU: random numbers, and the label map's crumbs (`tidy`).

    Raises UsageError for a wrong argument.
    """
    n, grid, mix, motion = whole("n", n), as_grid(grid), mix or Mix(), motion or MotionRanges(SHIFT_MM, TURN_DEG)
    whole("seed", seed, 0)
    must(
        factor >= 1 and grid.shape[2] % factor == 0,
        "factor",
        f"{factor} for {grid.shape[2]} slices",
        "a divisor of them",
    )
    groups, phases, sds = tuple(mix.groups), tuple(mix.phases), (motion.shift_mm, motion.rotation_deg)
    key = repr((n, grid.shape, grid.spacing, factor, seed, groups, phases, *sds))

    def draw(who: Patient, phase: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        image, label, facts = _draw(who, phase, grid, device)
        steps = breath_holds(seed, who[1], grid.shape[2] // factor, *sds)
        return {"images": image.astype(np.float16), "labels": label, "motion": steps}, facts

    who, device = [mix.patient(seed, i) for i in range(n)], best_device()
    arrays, table = cached_hearts(who, phases, draw, cache, key, progress)
    return HeartPairs(**arrays, table=table, spacing=grid.spacing, factor=factor)


def breath_holds(seed: int, index: int, slices: int, shift_mm: float, turn_deg: float) -> np.ndarray:
    """(slices, 3) dx mm, dy mm, degrees; some patients hold their breath the same way each time, others do not."""
    rng = np.random.default_rng([int(seed), int(index), 11])
    restless = float(np.exp(0.6 * np.clip(rng.standard_normal(), -2, 1.6) - 0.15))
    steps = np.clip(rng.standard_normal((slices, 3)), -2.5, 2.5) * restless
    return (steps * (shift_mm, shift_mm, turn_deg)).astype(np.float32)


def _draw(
    who: Patient, phase: str, grid: Grid, device: torch.device
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Image (X, Y, Z), channel numbers (X, Y, Z) and facts of one heart on the grid."""
    facts, both = anatomy(who)
    placed = _aligned(both[phase].surfaces.to(device), grid)
    label = tidy(label_batch(placed, grid, scheme=CARDIAC)[0].cpu().numpy(), by_slice=False)
    stack = Stack(grid.shape, grid.spacing, tuple(placed.origin[0].tolist()), np.zeros((grid.shape[2], 2)), 0.0)
    outline = outline_points(both["ED"].surfaces, float(placed.angle[0]))
    return mr_image(placed, stack, facts, outline, *who[:2], phase), CARDIAC.channels(label), facts


def _aligned(surfaces: HeartSurfaces, grid: Grid) -> HeartSurfaces:
    """One heart, turned and moved as `to_grid(align="rigid")` would: by the centroids of its label map on the grid."""
    target = (np.array(grid.shape) - 1) / 2 * grid.spacing + (RV_SIDE_MM, 0.0, 0.0)
    placed = surfaces.moved(origin=target[None], angle=np.array([np.pi]))
    for _ in range(2):  # a second time: the first box may have cut some of the heart
        label = label_batch(placed, grid, scheme=CARDIAC)[0]
        voxels = ((label >= 2).nonzero(), (label == 1).nonzero())
        lv, rv = (where.double().mean(0).cpu().numpy() * grid.spacing for where in voxels)
        turn = np.pi - np.arctan2(rv[1] - lv[1], rv[0] - lv[0])
        c, s = np.cos(turn), np.sin(turn)
        origin = placed.origin[0].cpu().numpy().astype(np.float64)
        arm = origin - lv
        moved = np.array([c * arm[0] - s * arm[1], s * arm[0] + c * arm[1], arm[2]])
        angle = placed.angle + torch.tensor([turn], device=label.device).float()
        placed = placed.moved(origin=(target + moved)[None], angle=angle)
    return placed
