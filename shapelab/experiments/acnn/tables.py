"""The ACNN paper's tables: one door to three experiments, and how their numbers are printed beside the paper's.

Table I     `segmentation`            short-axis MR: baselines, 3D-Seg, ACNN-Seg
Table II    `ultrasound`              3-D ultrasound
Table III   `super_resolution`        super-resolution
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from shapelab.errors import one_of
from shapelab.experiments.acnn import reality
from shapelab.experiments.kept_runs import Study

TABLES = {1: "segmentation", 2: "ultrasound", 3: "super_resolution"}


def run(
    table: int = 1,
    data: str = "phantom",
    root: str | Path | None = None,
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Make one of the paper's tables, print it with the paper's numbers beside ours, and write it.

    Args:
        table: 1, 2 or 3
        data: "phantom", or a data set that the table's experiment names. Table 1 with "acdc": segmentation at native
            resolution (`shapelab.experiments.acnn.reality`), with and without the prior
        root: folder of the data set; None looks under SHAPELAB_DATA
        profile: "quick", "full" or "paper"; None: the current one
        seeds: a training each; None: the profile's
        output: folder, by default ``results/acnn``; a killed run goes on from what is there
        progress: show bars

    Returns the experiment's table. UsageError for an unknown table or data set.
    """
    experiment = experiment_of(table)
    output = Study.of("acnn", output, profile).folder
    if table == 1 and data == "acdc":  # no finer truth than its slices: segmentation at native resolution
        found = reality.run(
            root=root, profile=profile, output=output, progress=progress, data="acdc", seed=next(iter(seeds or (0,)))
        )
        print("\nTable I, data acdc: native resolution, so the paper's numbers stand in no row of it\n")
        print(reality.summary(found).to_string())
        return found
    found = experiment.run(data=data, root=root, profile=profile, seeds=seeds, output=output, progress=progress)
    print(f"\nTable {'I' * table}, data {data}: ours (the paper's)\n")
    print(printed(experiment, found).to_string())
    return found


def experiment_of(table: int):
    """The module that makes a table."""
    return importlib.import_module(f"shapelab.experiments.acnn.{TABLES[one_of('table', table, TABLES)]}")


def printed(experiment, table: pd.DataFrame) -> pd.DataFrame:
    """A table as its experiment lays it out for the eye, or as it is."""
    return experiment.layout(table) if hasattr(experiment, "layout") else table
