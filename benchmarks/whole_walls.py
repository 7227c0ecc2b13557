"""Label maps on a coarse grid and back: by the largest share, and by nested questions (`shapelab.data.walls`).

    python benchmarks/whole_walls.py [-n 60] [-o FOLDER]

Hearts at ED on the grid of the quick autoencoder: phantoms, the same with an RV wall, and ACDC where SHAPELAB_DATA is
set. Torn: hearts whose cavity touches the background in a slice (LV; RV where its wall is in the scheme). Volumes are
shares of those in the own voxels, Dice is that of the way there and back. With -o the table is written as CSV.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from reporting import report
from scipy import ndimage

from shapelab import BIVENTRICULAR, Cohort, LabelScheme, from_grid, open_cohort, to_grid
from shapelab.metrics import dice_table, plausibility
from shapelab.metrics.clinical import structure_volumes
from shapelab.models.acnn import AEConfig
from shapelab.phantoms import heart_cohort

IN_PLANE = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[..., None]


def torn(label: np.ndarray, scheme: LabelScheme) -> bool:
    """Whether what lies in a wall touches the background, side to side in its slice."""
    inner = np.isin(label, scheme.labels_of(*dict(scheme.inside or ())))
    return bool((ndimage.binary_dilation(inner, IN_PLANE) & (label == 0)).any())


def measured(name: str, cohort: Cohort) -> list[dict[str, object]]:
    """A row for the own voxels and one for each way."""
    grid, scheme, rows = AEConfig.profile("quick").grid, cohort.scheme, []
    subjects = [s.load().with_(image=None) for s in cohort.filter(phase="ED")]
    own = [s.label for s in subjects]
    maps: dict[str, tuple] = {"own voxels": (own, own, [s.spacing for s in subjects], 0.0)}
    for way, whole in (("largest share", False), ("nested questions", True)):
        started = time.perf_counter()
        samples = [to_grid(s, grid, align="rigid", whole_walls=whole) for s in subjects]
        back = [from_grid(s.label, s.transform) for s in samples]
        seconds = time.perf_counter() - started
        maps[way] = [s.label for s in samples], back, [grid.spacing] * len(own), seconds
    truth = np.array([structure_volumes(s.label, s.spacing, scheme) for s in subjects])
    for way, (laid, back, spacings, seconds) in maps.items():
        agreement = pd.concat([dice_table(b[None], o[None], scheme) for b, o in zip(back, own, strict=True)]).mean()
        volumes = np.array([structure_volumes(a, s, scheme) for a, s in zip(laid, spacings, strict=True)]) / truth
        row = {"hearts": name, "n": len(own), "way": way, "torn": sum(torn(a, scheme) for a in laid)}
        row |= {"plausible": sum(bool(plausibility(a, scheme)["plausible"]) for a in laid)}
        row |= {f"dice {s}": round(float(v), 3) for s, v in agreement.items()}
        row |= {f"volume {s}": round(float(v), 3) for s, v in zip(scheme.names, volumes.mean(0), strict=True)}
        rows.append(row | {"seconds there and back": round(seconds, 1)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=60, help="phantom patients")
    parser.add_argument("-o", "--output", type=Path, help="folder for whole_walls.csv")
    arguments = parser.parse_args()
    cohorts = {
        "phantoms": open_cohort("phantom", n=arguments.n),
        "phantoms with an RV wall": heart_cohort(arguments.n, seed=1, resolution="LR", scheme=BIVENTRICULAR),
    }
    if "SHAPELAB_DATA" in os.environ:
        cohorts["ACDC"] = open_cohort("acdc")
    table = pd.DataFrame([row for name, cohort in cohorts.items() for row in measured(name, cohort)])
    report(table, arguments.output / "whole_walls.csv" if arguments.output else None, decimals=3)


if __name__ == "__main__":
    main()
