"""Scans that the joint space learns from and is tested on: phantoms, MM-WHS, ACDC.

Phantoms: as many hearts as the paper has, 20 in CT and 20 in MR, of 40 patients; a fold and a seed have hearts of their
own. Tests are 20 unseen hearts, each in CT AND in MR, so that two codes of one anatomy can be compared; they are the
same for all seeds.

MM-WHS and ACDC: five folds by patient, a fifth of the patients of each modality for tests. ACDC: ED and ES.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from shapelab.data import open_cohort
from shapelab.data.facts import PHASES
from shapelab.data.grid import Grid
from shapelab.data.placement import HEARTS
from shapelab.data.volumes import WHOLE_HEARTS, Scans, scans_on_grid
from shapelab.errors import one_of
from shapelab.experiments.shipped import phantom_shapes
from shapelab.files import cached
from shapelab.phantoms.whole_heart_imaging import whole_heart_scans

FOLDS = 5
DATA = ("phantom-wh", "mmwhs", "acdc")
PHANTOM = ("phantom", "phantom-wh")  # whole hearts, by either name
MODALITIES = ("CT", "MR")
UNSEEN = ("CT late", "MR dark blood")  # contrasts that nothing is trained on
#: Seeds of the phantom hearts; no other experiment draws from them. A fold and a seed are added to those of training.
SEEDS = {"training": 61_000, "test": 62_000, "maps": 63_000}


def phantom_training(n: int, grid: Grid, seed: int, fold: int, folder: Path | None = None) -> Scans:
    """n hearts in CT and n others in MR.

    Args:
        folder: they are kept there
    """
    hearts = SEEDS["training"] + 100 * fold + seed
    parts = [
        whole_heart_scans(n, grid, hearts, (kind,), first=i * n, cache=_cache(folder, f"training-{fold}-{seed}-{kind}"))
        for i, kind in enumerate(MODALITIES)
    ]
    return Scans.of(*parts)


def phantom_test(
    n: int, grid: Grid, fold: int, modalities: Sequence[str] = MODALITIES, folder: Path | None = None
) -> Scans:
    """n unseen hearts, each in every modality."""
    name = "-".join(["test", str(fold), *modalities]).replace(" ", "")
    return whole_heart_scans(n, grid, SEEDS["test"] + fold, modalities, cache=_cache(folder, name))


def _cache(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / f"scans-{name}.npz"


def real_scans(data: str, grid: Grid, root: str | Path | None = None, folder: Path | None = None) -> Scans:
    """All labelled scans of a data set on a grid.

    Args:
        data: "mmwhs" or "acdc"
        root: folder of the data set; None looks under SHAPELAB_DATA
        folder: they are kept there
    """
    one_of("data", data, DATA[1:])
    cohort = open_cohort(data, root=root)

    def laid() -> tuple[dict[str, np.ndarray], pd.DataFrame]:
        some, how = cohort.filter(lambda s: s.label_source is not None), WHOLE_HEARTS
        if data == "acdc":
            some, how = some.filter(phase=list(PHASES)), HEARTS
        scans = scans_on_grid(some, grid, how)
        table = scans.table if "modality" in scans.table else scans.table.assign(modality="MR")
        return {"images": scans.images, "labels": scans.labels}, table

    arrays, table = cached(_cache(folder, data), repr((data, grid.shape, grid.spacing)), laid)
    return Scans(arrays["images"], arrays["labels"], table, grid, cohort.scheme)


def patients_in_order(table: pd.DataFrame, seed: int = 0) -> list[str]:
    """Patients shuffled, so that each stretch of them has about the same share of every group (where there are any)."""
    groups = table["group"] if "group" in table else pd.Series("", table.index)
    of = pd.Series(groups.to_numpy(), table["patient"].to_numpy()).groupby(level=0).first()
    shuffled = of.iloc[np.random.default_rng(seed).permutation(len(of))]
    place = (shuffled.groupby(shuffled).cumcount() + 0.5) / shuffled.map(shuffled.value_counts())
    order = pd.DataFrame({"place": place, "group": shuffled}).sort_values(["place", "group"], kind="stable")
    return [str(patient) for patient in order.index]


def fold_of(scans: Scans, fold: int) -> tuple[Scans, Scans]:
    """Training and test scans of a fold: a fifth of the patients of each modality is tested."""
    tested: list[str] = []
    for _, part in scans.table.groupby("modality"):
        tested += np.array_split(patients_in_order(part), FOLDS)[fold].tolist()
    mask = scans.table["patient"].astype(str).isin(tested).to_numpy()
    return scans[~mask], scans[mask]


def few_labelled(scans: Scans, n: int, seed: int) -> tuple[Scans, np.ndarray]:
    """Scans of n patients; and the label maps (M, X, Y, Z) of all others, integers of the scheme, without images."""
    chosen = patients_in_order(scans.table, seed)[:n]
    mask = scans.table["patient"].astype(str).isin(chosen).to_numpy()
    return scans[mask], scans.scheme.integers(scans.labels[~mask])


def short_axis_maps(n: int, grid: Grid, folder: Path | None = None) -> np.ndarray:
    """Label maps (2 n, X, Y, Z) of n phantom patients at ED and ES, stacks as ACDC's, laid as those."""

    def made() -> tuple[dict[str, np.ndarray], pd.DataFrame]:
        labels, table = phantom_shapes(n, grid, SEEDS["maps"])
        return {"labels": np.asarray(labels)}, table

    return cached(_cache(folder, "maps"), repr((n, grid.shape, grid.spacing)), made)[0]["labels"]
