"""Whole hearts that the two-stage network learns from and is tested on: phantoms, MM-WHS. One modality a network.

Phantoms fill a field of 192 x 168 x 192 mm. A modality and a seed have 20 training hearts of their own, as many as the
paper's data set; tests are 40 unseen hearts, the same for all seeds and in both modalities, and another 40 for Table 4.

Deviations:
    Folds: "we use 15 volumes for 3-fold cross-validation training, and 5 volumes for validation", of 20, is read as
        three folds in each of which other five hearts are left out and 15 are learned from. A fourth fold takes the
        five that are left, so that each heart may be left out once. Of phantoms the curves are of those left out, and
        tests are other hearts; of MM-WHS those left out are the tests.
    Table 4: the challenge's test label maps are held back, so it is made of phantoms alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from shapelab.data import open_cohort
from shapelab.data.grid import Grid
from shapelab.data.volumes import Scans, scans_on_grid
from shapelab.errors import one_of
from shapelab.experiments.joint_space.hearts import patients_in_order
from shapelab.files import cached
from shapelab.phantoms.whole_heart_imaging import whole_heart_scans

FOLDS = 4
DATA = ("phantom-wh", "mmwhs")
MODALITIES = ("CT", "MR")
FIELD_MM = (192.0, 168.0, 192.0)
#: Seeds of the phantom hearts; no other experiment draws whole hearts from them. A seed is added to that of training.
SEEDS = {"training": 71_000, "test": 72_000, "second test": 73_000}
FIRST = {"CT": 0, "MR": 500}  # number of the first training heart: nobody is in both modalities


def field(spacing: tuple[float, float, float]) -> Grid:
    """The grid of voxels of so many mm over the phantoms' field."""
    x, y, z = (round(mm / voxel) for mm, voxel in zip(FIELD_MM, spacing, strict=True))
    return Grid((x, y, z), spacing)


def phantom_training(n: int, modality: str, grid: Grid, seed: int, folder: Path | None = None) -> Scans:
    """n training hearts in one modality; those of a smaller n come first.

    Args:
        folder: they are kept there
    """
    first, cache = FIRST[one_of("modality", modality, MODALITIES)], _cache(folder, f"training-{modality}-{n}-{seed}")
    return whole_heart_scans(n, grid, SEEDS["training"] + seed, (modality,), first=first, cache=cache)


def phantom_test(n: int, modality: str, grid: Grid, table: int, folder: Path | None = None) -> Scans:
    """n unseen hearts in one modality, of Tables 2 and 3 or of Table 4; arguments as of `phantom_training`."""
    name = "second test" if table == 4 else "test"
    cache = _cache(folder, f"{name.replace(' ', '-')}-{modality}")
    return whole_heart_scans(n, grid, SEEDS[name], (one_of("modality", modality, MODALITIES),), cache=cache)


def _cache(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / f"scans-{name}.npz"


def real_scans(modality: str, grid: Grid, root: str | Path | None = None, folder: Path | None = None) -> Scans:
    """All labelled scans of MM-WHS in one modality.

    Args:
        root: folder of the data set; None looks under SHAPELAB_DATA
        folder: they are kept there
    """
    cohort = open_cohort("mmwhs", root=root)

    def laid() -> tuple[dict[str, np.ndarray], pd.DataFrame]:
        some = cohort.filter(lambda s: s.label_source is not None, modality=modality)
        scans = scans_on_grid(some, grid)
        return {"images": scans.images, "labels": scans.labels}, scans.table

    key = repr(("mmwhs", one_of("modality", modality, MODALITIES), grid.shape, grid.spacing))
    arrays, table = cached(_cache(folder, f"mmwhs-{modality}"), key, laid)
    return Scans(arrays["images"], arrays["labels"], table, grid, cohort.scheme)


def fold_of(scans: Scans, fold: int) -> tuple[Scans, Scans]:
    """Scans to learn from, and those of the patients that a fold leaves out: a fourth, of each group its share."""
    left_out = np.array_split(patients_in_order(scans.table), FOLDS)[fold].tolist()
    mask = scans.table["patient"].astype(str).isin(left_out).to_numpy()
    return scans[~mask], scans[mask]
