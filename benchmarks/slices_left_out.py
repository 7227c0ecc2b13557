"""Slices that nobody annotated: how well the empty slices between drawn ones are filled, and what becomes of the heart.

    python benchmarks/slices_left_out.py [--data phantom|acdc] [--refined N] [-o benchmarks/results]

Every stack that is drawn whole is thinned: of its annotated slices every second one is kept (from the first, and from
the second), or every third. The slices taken out are the truth.

1. slices_filled_DATA.csv: a row a stack, pattern and way. "background": as they are; "copied": the nearest drawn slice;
   "each alone": signed distances of each structure interpolated on its own; "filled": `shapelab.data.gaps.fill_gaps`.
   Dice of the slices filled, volume of all slices between the ends as a share of the truth's, and whether the LV cavity
   touches the background in a filled slice ("torn").
2. slices_refined_DATA.csv: every nth stack, N in all, refined by 40 phantom atlases from all its slices ("all"), every
   second and every third: Dice with the whole stack and on the slices given, volume as a share of the whole stack's and
   of the filled one's, and how often a drift is said (`Refinement.drift`).

20 phantom patients at ED and ES with ACDC's slices and flaws (seed 81000; refined: 15, seed 90000), or all of ACDC.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import shapelab  # before torch: it sets the OpenMP variables that torch reads when it is loaded

import numpy as np  # isort: skip
import pandas as pd
from scipy import ndimage

from shapelab.atlas import Frame, refine
from shapelab.commands.files.refine import phantoms
from shapelab.data import Subject, open_cohort
from shapelab.data.gaps import fill_gaps
from shapelab.data.scheme import CARDIAC
from shapelab.files import atomic_write
from shapelab.metrics import dice
from shapelab.metrics.clinical import structure_volumes
from shapelab.phantoms import heart_cohort

SEEDS = {"filled": 81_000, "refined": 90_000}
PATTERNS = {"1 of 2": ((2, 0), (2, 1)), "1 of 3": ((3, 0),)}  # (every nth, from which)
NAMES = CARDIAC.names


def thinned(label: np.ndarray, n: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Every nth annotated slice alone, and the numbers of these slices."""
    kept = np.flatnonzero(label.any((0, 1)))[first::n]
    sparse = np.zeros_like(label)
    sparse[:, :, kept] = label[:, :, kept]
    return sparse, kept


def copied(label: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Each slice between the ends as the nearest one kept, the upper of two alike."""
    between = np.arange(kept[0], kept[-1] + 1)
    nearest = kept[np.abs(between[:, None] - kept).argmin(1)]
    out = label.copy()
    out[:, :, between] = label[:, :, nearest]
    return out


def each_alone(label: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Each structure filled on its own; where several would be, the later of the scheme."""
    out = label.copy()
    for value in CARDIAC.values:
        filled, _ = fill_gaps((label == value).astype(np.uint8), spacing)
        out[(filled > 0) & (out == 0) | (label == value)] = value
    return out


def torn(label: np.ndarray) -> bool:
    """Whether the LV cavity has a side to the background within a slice."""
    rv, wall, cavity = (label == CARDIAC.structure(n).value for n in NAMES)
    around = ndimage.binary_dilation(cavity, ndimage.generate_binary_structure(2, 1)[:, :, None])
    return bool((around & ~(rv | wall | cavity)).any())


def filled_rows(subjects: list[Subject]) -> Iterator[dict]:
    for s in subjects:
        label, spacing = s.label, s.spacing
        for pattern, ways_to_thin in PATTERNS.items():
            for n, first in ways_to_thin:
                sparse, kept = thinned(label, n, first)
                missing = np.setdiff1d(np.arange(kept[0], kept[-1]), kept)
                truth = label[:, :, kept[0] : kept[-1] + 1]
                ways = {
                    "background": sparse,
                    "copied": copied(sparse, kept),
                    "each alone": each_alone(sparse, spacing),
                    "filled": fill_gaps(sparse, spacing, CARDIAC)[0],
                }
                for way, found in ways.items():
                    row = {"subject": s.id, "pattern": pattern, "way": way, "torn": torn(found[:, :, missing])}
                    overlap = dice(found[:, :, missing], label[:, :, missing], CARDIAC)
                    share = structure_volumes(found, spacing, CARDIAC) / structure_volumes(truth, spacing, CARDIAC)
                    yield row | {f"dice {k}": overlap[k] for k in NAMES} | {f"volume {k}": share[k] for k in NAMES}


def refined_rows(subjects: list[Subject]) -> Iterator[dict]:
    atlases = phantoms(CARDIAC)
    for s in subjects:
        label, spacing = s.label, s.spacing
        own, used = Frame(label.shape, spacing), np.flatnonzero(label.any((0, 1)))
        whole = structure_volumes(label, spacing, CARDIAC)
        for pattern, n in (("all", 1), ("1 of 2", 2), ("1 of 3", 3)):
            sparse, _ = thinned(label, n)
            try:
                result = refine(sparse, None, None, atlases, own, threads=1)
            except shapelab.errors.DataError as error:  # fewer than three slices are left
                print(s.id, pattern, error)
                continue
            after = structure_volumes(result.label, result.frame.spacing, CARDIAC)
            filled = structure_volumes(result.filled, spacing, CARDIAC)
            overlap, given = dice(result.on_target()[:, :, used], label[:, :, used], CARDIAC), result.agreement()
            row = {"subject": s.id, "pattern": pattern, "drift": len(result.drift())}
            for k in NAMES:
                row |= {f"dice {k}": overlap[k], f"dice given {k}": given[k]}
                row |= {f"volume {k}": after[k] / whole[k], f"of filled {k}": after[k] / filled[k]}
            yield row


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", choices=("phantom", "acdc"), default="phantom")
    parser.add_argument("--refined", type=int, default=30, help="how many stacks are refined")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # that slices are empty is known here
    options.output.mkdir(parents=True, exist_ok=True)
    for name, rows, patients in (("filled", filled_rows, 20), ("refined", refined_rows, 15)):
        if options.data == "acdc":
            subjects = list(open_cohort("acdc"))
        else:
            subjects = list(heart_cohort(patients, SEEDS[name], resolution="LR", scheme=CARDIAC))
        if name == "refined":
            subjects = subjects[:: max(1, len(subjects) // max(1, options.refined))][: options.refined]
        table = pd.DataFrame(rows(subjects))
        with atomic_write(options.output / f"slices_{name}_{options.data}.csv") as temporary:
            table.round(4).to_csv(temporary, index=False)
        keys = [k for k in ("pattern", "way") if k in table]
        print(table.groupby(keys, sort=False).mean(numeric_only=True).round(3).to_string() if len(table) else "none")


if __name__ == "__main__":
    main()
