"""Pairs of hearts for segmentation and super-resolution: high-resolution image and label map on a model's grid.

As the UK Digital Heart pairs of the ACNN paper: each heart has an HR image and HR labels, free of breath-hold steps,
and the displacement of each slice that its low-resolution (LR) stack shows. Image and labels come from the same
surfaces, drawn straight on the grid; nothing is resampled. Hearts lie as `shapelab.data.grid.to_grid(align="rigid")`
lays them: RV towards -x, the LV's centroid 18 mm to +x of the middle (the paper crops "based on the automatically
detected six anatomical landmark locations").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from shapelab.data.facts import RV_SIDE_MM
from shapelab.data.scheme import CARDIAC
from shapelab.data.volumes import HeartPairs
from shapelab.errors import UsageError
from shapelab.files import read_cache, write_cache
from shapelab.phantoms.acquisition import Stack, outline_points
from shapelab.phantoms.cohort import PHASES, _check, _patient_surfaces, tidy
from shapelab.phantoms.heart import HeartSurfaces, check_grid, label_batch
from shapelab.phantoms.mr_imaging import mr_image
from shapelab.phantoms.population import GROUPS

SHIFT_MM, TURN_DEG = 2.0, 1.5  # sd of a slice's breath-hold: ACDC's slice centres leave a smooth line by 1 to 2 mm


def heart_pairs(
    n: int,
    grid,
    factor: int,
    seed: int = 0,
    groups: Sequence[str] = GROUPS,
    phases: Sequence[str] = PHASES,
    shift_mm: float = SHIFT_MM,
    turn_deg: float = TURN_DEG,
    cache: str | Path | None = None,
    progress: bool = False,
) -> HeartPairs:
    """Pairs of n phantom patients on one grid.

    Parameters
    ----------
    n : patients; patient i is that of `heart_cohort` with the same seed and groups, whatever n
    grid : `Grid`, or (shape, spacing in mm): the HR grid
    factor : K, HR slices per LR slice
    seed : of hearts, scanner, breath-holds
    shift_mm, turn_deg : sd of a slice's displacement and rotation in a patient of mean restlessness
    cache : `.npz` file that is read if it holds these very pairs, else written

    Raises UsageError for a wrong argument.
    """
    _check(n, seed, groups, CARDIAC, phases, None, None, 0)
    shape, spacing = check_grid(grid, "heart_pairs")
    if factor < 1 or shape[2] % factor:
        raise UsageError(f"factor: found {factor} for {shape[2]} slices; expected a divisor of them")
    key = repr((n, tuple(shape), tuple(spacing), factor, seed, tuple(groups), tuple(phases), shift_mm, turn_deg))
    if cache is not None and (held := read_cache(cache, key)) is not None:
        return HeartPairs(**held[0], table=held[1], spacing=tuple(map(float, spacing)), factor=factor)
    from tqdm.auto import tqdm

    images, labels, motion, rows = [], [], [], []
    for i in tqdm(range(n), desc="phantom pairs", unit="heart", disable=not progress, leave=False):
        who = (int(seed), i, groups[i % len(groups)], i // len(groups))
        steps = breath_holds(seed, i, shape[2] // factor, shift_mm, turn_deg)
        for phase in phases:
            image, label, facts = _draw(who, phase, shape, spacing)
            images.append(image.astype(np.float16))
            labels.append(label)
            motion.append(steps)
            rows.append(facts)
    table = pd.DataFrame(rows, index=[f"{r['patient']}_{r['phase']}" for r in rows])
    arrays = {"images": np.stack(images), "labels": np.stack(labels), "motion": np.stack(motion)}
    if cache is not None:
        write_cache(cache, key, arrays, table)
    return HeartPairs(**arrays, table=table, spacing=tuple(map(float, spacing)), factor=factor)


def breath_holds(seed: int, index: int, slices: int, shift_mm: float, turn_deg: float) -> np.ndarray:
    """(slices, 3) dx mm, dy mm, degrees; some patients hold their breath the same way each time, others do not."""
    rng = np.random.default_rng([int(seed), int(index), 11])
    restless = float(np.exp(0.6 * np.clip(rng.standard_normal(), -2, 1.6) - 0.15))
    steps = np.clip(rng.standard_normal((slices, 3)), -2.5, 2.5) * restless
    return (steps * (shift_mm, shift_mm, turn_deg)).astype(np.float32)


def _draw(who, phase: str, shape, spacing) -> tuple[np.ndarray, np.ndarray, dict]:
    """Image (X, Y, Z), channel numbers (X, Y, Z) and facts of one heart on the grid."""
    facts, both = _patient_surfaces(who)
    placed = _aligned(both[phase].surfaces, shape, spacing)
    label = tidy(label_batch(placed, (shape, spacing), scheme=CARDIAC)[0].numpy(), by_slice=False)
    origin = tuple(float(v) for v in placed.origin[0])
    stack = Stack(tuple(shape), tuple(map(float, spacing)), origin, np.zeros((shape[2], 2)), 0.0)
    outline = outline_points(both["ED"].surfaces, float(placed.angle[0]))
    image = mr_image(placed, stack, facts, outline, *who[:2], phase)
    name = f"phantom{who[1]:03d}"
    return image, CARDIAC.channels(label), {"patient": name, "group": who[2], "phase": phase, **facts}


def _aligned(surfaces: HeartSurfaces, shape, spacing) -> HeartSurfaces:
    """One heart, turned and moved as `to_grid(align="rigid")` would: by the centroids of its label map on the grid."""
    middle = (np.array(shape) - 1) / 2 * spacing
    target = middle + (RV_SIDE_MM, 0.0, 0.0)
    placed = surfaces.moved(origin=target[None], angle=np.array([np.pi]))
    for _ in range(2):  # a second time: the first box may have cut some of the heart
        label = label_batch(placed, (shape, spacing), scheme=CARDIAC)[0].numpy()
        lv, rv = (np.argwhere(np.isin(label, values)).mean(0) * spacing for values in ((2, 3), (1,)))
        turn = np.pi - np.arctan2(rv[1] - lv[1], rv[0] - lv[0])
        c, s = np.cos(turn), np.sin(turn)
        origin = placed.origin[0].numpy().astype(np.float64)
        arm = origin - lv
        moved = np.array([c * arm[0] - s * arm[1], s * arm[0] + c * arm[1], arm[2]])
        placed = placed.moved(origin=(target + moved)[None], angle=placed.angle + torch.tensor([turn]).float())
    return placed
