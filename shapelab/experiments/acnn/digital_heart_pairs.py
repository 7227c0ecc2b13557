"""Real pairs of a thick stack and a 3D scan (`shapelab.data.readers.digital_heart`) in the form of the phantom's
pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from shapelab.data import open_cohort
from shapelab.data.grid import Grid, to_grid, to_unit_range
from shapelab.data.readers.digital_heart import read_stack
from shapelab.data.volumes import HeartPairs
from shapelab.errors import UsageError


def digital_heart_pairs(
    root: str | Path, grid: Grid, factor: int, progress: bool = False, **options
) -> tuple[HeartPairs, np.ndarray]:
    """Pairs on a model's grid, and the real LR stacks that belong to them.

    Parameters
    ----------
    root : folder with one folder a subject
    grid : the HR grid; each heart is turned and centred by its HR labels (`to_grid(align="rigid")`), as the phantom's
    factor : K, HR slices per LR slice
    options : names of the files and mapping of the integers, see `shapelab.data.readers.digital_heart.scan`

    Returns
    -------
    pairs : `HeartPairs`; motion is 0: LR stacks made of these HR images are free of breath-holds but for those one adds
    stacks : (N, X, Y, Z/K) float16 in [0, 1], the acquired LR stacks: their slices are where they were scanned, so
        breath-holds are in them. LR slice k is read at the middle of HR slices kK .. kK + K - 1.

    Raises DataError: a file that cannot be read, no pair, a label without LV or RV. UsageError: K does not divide Z.
    """
    if factor < 1 or grid.shape[2] % factor:
        raise UsageError(f"factor: found {factor} for {grid.shape[2]} slices; expected a divisor of them")
    from tqdm.auto import tqdm

    cohort = open_cohort("digital_heart", root, **options)
    images, labels, stacks = [], [], []
    for subject in tqdm(cohort, desc="digital heart", disable=not progress, leave=False):
        sample = to_grid(subject, grid, align="rigid")
        low = read_stack(subject)
        # grid index -> HR voxel -> mm -> LR voxel, at the LR slices' centres
        to_low = np.linalg.inv(low.affine) @ subject.affine @ sample.transform.matrix
        images.append(to_unit_range(sample.image).astype(np.float16))
        labels.append(subject.scheme.channels(sample.label))
        stacks.append(to_unit_range(_at_slices(low.image, to_low, grid, factor)).astype(np.float16))
    n = len(images)
    motion = np.zeros((n, grid.shape[2] // factor, 3), np.float32)
    spacing = tuple(map(float, grid.spacing))
    pairs = HeartPairs(np.stack(images), np.stack(labels), motion, cohort.table, spacing, factor)
    return pairs, np.stack(stacks)


def _at_slices(image: np.ndarray, matrix: np.ndarray, grid: Grid, factor: int) -> np.ndarray:
    """Linear samples (X, Y, Z/K) of an image at the centres of the grid's LR slices; 0 outside."""
    x, y = (np.arange(n) for n in grid.shape[:2])
    z = np.arange(grid.shape[2] // factor) * factor + (factor - 1) / 2
    places = np.stack(np.meshgrid(x, y, z, indexing="ij"), -1) @ matrix[:3, :3].T + matrix[:3, 3]
    size = np.array(image.shape)
    where = torch.from_numpy(((2 * places + 1) / size - 1).astype(np.float32)).flip(-1)[None]
    values = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    return torch.nn.functional.grid_sample(values, where, align_corners=False, padding_mode="zeros")[0, 0].numpy()
