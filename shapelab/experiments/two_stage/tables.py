"""Tables 2 to 4 of the two-stage network's paper beside ours, and what else was measured, from what trainings left.

Cases: one row a (training, seed, fold, scan, method, structure): dice, jaccard, assd, hd95, missed. In tables a method
is a network ("Net1", "Net2", "3D U-Net"), named after its training where that is not the paper's. Tables are long, as
in `shapelab.experiments.tables`; "mean" is that of the structures, "whole heart" see `measures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shapelab.errors import DataError, must, one_of
from shapelab.experiments import tables
from shapelab.experiments.joint_space.hearts import PHANTOM
from shapelab.experiments.joint_space.tables import mean_table
from shapelab.experiments.kept_runs import Study, seeds_of
from shapelab.experiments.tables import Rule, beside, by_method, long, printed
from shapelab.experiments.two_stage import short_axis_tables
from shapelab.experiments.two_stage.hearts import SEEDS
from shapelab.experiments.two_stage.laboratory import (
    ABLATION,
    ALONE,
    GIVEN,
    JOINTLY,
    MAIN,
    MORE,
    PARTS,
    RETRAINED,
    UNET,
    Laboratory,
    TwoStageExperiment,
    laboratory,
)
from shapelab.experiments.two_stage.measures import MEAN, WHOLE
from shapelab.metrics import compare
from shapelab.training import numbers_of

TABLES = {2: ("CT",), 3: ("MR",), 4: ("CT", "MR")}  # of the paper -> modalities
NETS = ("3D U-Net", "Net1", "Net2")
PAIR = ("Net2", UNET)  # that p of the tables compares; other pairs are in the contrasts
#: Training -> what its networks' names end in; those of the tables themselves: nothing.
AFTER = {**{name: f", {name}" for name in ABLATION}, JOINTLY: ", step 3 alone", MORE: ", more hearts"}
ORDER = (*NETS, ALONE, *(net + after for after in AFTER.values() for net in NETS[1:]), GIVEN)
#: Which is held against which: the paper's order of methods, then what each change is worth.
PAIRS = (
    *(("Net2", "Net1"), ("Net1", UNET), ("Net2", UNET), ("Net2", ALONE)),
    *((net, net + after) for after in AFTER.values() for net in NETS[:0:-1]),
)
COLUMNS = (
    *("table", "modality", "method", "what", "measure", "mean", "sd", "n", "n_missed", "sd_seeds", "n_seeds"),
    *("rank", "p", "paper_mean", "paper_sd"),
)


def run(
    table: int = 2,
    data: str = "phantom-wh",
    root: str | Path | None = None,
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    config: TwoStageExperiment | None = None,
) -> pd.DataFrame:
    """Train and measure all that a table compares, print it with the paper's numbers beside ours, and write it.

    Args:
        table: 2 (CT), 3 (MR) or 4 (both, trained on all training hearts, other tests)
        data: "phantom-wh" ("phantom"), "mmwhs", or "acdc": then `short_axis_tables.run`, whatever the table
        root: folder of the data set; None looks under SHAPELAB_DATA
        profile: "quick", "full" or "paper"; None: the current one
        seeds: a training each of the table's methods; None: the profile's
        output: folder, by default ``results/two-stage``, see `gather`; each training is kept in a folder of its own, so
            that a killed run resumes, and other processes may train other ones meanwhile (`laboratory.run_one`)
        config: instead of the profile's numbers

    Returns the table in long form. UsageError for an unknown table or data, or Table 4 of real hearts.
    """
    one_of("table", table, TABLES)
    one_of("data", data, (*PHANTOM, "mmwhs", "acdc"))
    if data == "acdc":
        return short_axis_tables.run(root=root, profile=profile, seeds=seeds, output=output, progress=progress)
    here = laboratory(output, data, root, profile, config, progress)
    must(here.data != "mmwhs" or table != 4, "table", table, "2 or 3: label maps of MM-WHS's test are held back")
    here = replace(here, config=replace(here.config, seeds=seeds_of(seeds, here.config.seeds)))
    for training in here.trainings(table):
        here.measured(training)
    found = gather(here)
    return found[found["table"] == table].reset_index(drop=True)


def gather(here: Laboratory) -> pd.DataFrame:
    """Write and print the tables of all trainings that are done; none is begun.

    Beside the folder of `here`: two_stage_<data>_<profile>.csv (Tables 2 to 4), ..._cases.csv, ..._contrasts.csv,
    ..._ablation.csv (the steps left out, Net2 alone, more hearts, beside the usual training of the same seed and fold),
    ..._thin.csv (thin parts), ..._hearts.csv (impossible shapes, seconds), ..._curves.csv, ..._flat.csv, and ....json.

    Returns Tables 2 to 4. DataError where nothing is done, or results of another key are among them.
    """
    done = [training for training in here.trainings() if here.done(training)]
    if not done or here.folder is None:
        raise DataError(here.folder, "no training that is done", "one at least", "Run the experiment.")
    measured = [here.measured(training) for training in done]
    cases = {part: pd.concat([found[part] for found in measured], ignore_index=True) for part in PARTS}
    curves = pd.concat([c for training in done if (c := here.curve(training)) is not None], ignore_index=True)
    found = {**tables_of(cases), "_curves": curves, "_flat": flatness(curves)}
    about = {
        "data": here.data,
        "config": numbers_of(here.config),
        "trainings": [training.name for training in done],
        "phantom seeds": SEEDS,
    }
    name = f"two_stage_{here.folder.name}"
    Study(here.folder.parent).write(name, found, about)
    for (table, modality), rows in found[""].groupby(["table", "modality"]):
        print(f"\nTable {table}, {modality} ({here.data}): ours (the paper's)\n\n{tables.layout(rows).T.to_string()}\n")
    return found[""]


def named(cases: pd.DataFrame) -> pd.DataFrame:
    """Cases with the table that each is of, and methods named after their training."""
    table = cases["modality"].map({"CT": 2, "MR": 3}).mask(cases["training"].isin(RETRAINED), 4)
    after = cases["training"].map(AFTER).fillna("").mask(cases["method"].isin([ALONE, GIVEN]), "")
    return cases.assign(table=table, method=cases["method"] + after)


def tables_of(measured: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Suffix of the file -> table, from what was measured (part -> cases of all trainings)."""
    cases, thin, hearts = (named(measured[part]) for part in PARTS)
    found = {
        "": paper_tables(cases),
        "_contrasts": contrasts(cases),
        "_ablation": ablation(cases),
        "_thin": long_tables(thin[thin["dice"].notna()], ("dice",)),
        "_hearts": mean_table(hearts, ("table", "modality", "method"), ("violations", "plausible", "seconds")),
        "_cases": cases,
    }
    return {suffix: table for suffix, table in found.items() if len(table)}


def long_tables(cases: pd.DataFrame, measures: Sequence[str], rule: Rule | None = None) -> pd.DataFrame:
    """`shapelab.experiments.tables.long` of each table and modality; p is of `PAIR`."""
    rule, parts = rule or Rule("scan", PAIR, shared=True), []
    for _, part in cases.groupby(["table", "modality"]):
        found = long(by_method(part, ORDER), "structure", part["structure"].unique(), measures, rule)
        parts.append(found.assign(**part[["table", "modality"]].iloc[0]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


# ------------------------------------------------------------------------------------------------------- Tables 2 to 4


def paper_tables(cases: pd.DataFrame) -> pd.DataFrame:
    """Dice, Jaccard and average surface distance (mm) of each structure, of their mean and of the whole heart.

    Columns: `COLUMNS`; mean and sd are over scans, after the mean over seeds and folds; p is Wilcoxon's of `PAIR`.
    """
    usual = cases[cases["training"].isin((*MAIN, *RETRAINED))]
    parts = []
    for (table, modality), rows in long_tables(usual, ("dice", "jaccard", "assd")).groupby(["table", "modality"]):
        numeral = f"4 {modality}" if table == 4 else str(table)
        parts.append(beside(rows, printed("two_stage", numeral)))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def contrasts(cases: pd.DataFrame) -> pd.DataFrame:
    """Each of `PAIRS` by Dice, on the same hearts, from the seeds and folds that both have.

    Columns: table, modality, method, other, what (`MEAN`, `WHOLE`), mean, mean_other, difference, p (Wilcoxon's, over
    scans, after the mean over seeds and folds), effect (rank-biserial), n, seeds_better, seeds.
    """
    rows = []
    for (table, modality, what), part in cases.groupby(["table", "modality", "structure"]):
        for method, other in PAIRS if what in (MEAN, WHOLE) else ():
            ours, theirs = (
                part[part["method"] == name].set_index(["seed", "fold", "scan"])["dice"] for name in (method, other)
            )
            both = ours.index.intersection(theirs.index)
            if both.empty:
                continue
            found = compare(*(dice[both].groupby("scan").mean() for dice in (ours, theirs)))
            by_seed = (ours[both] - theirs[both]).groupby("seed").mean()
            row: dict[str, Any] = {"table": table, "modality": modality, "method": method, "other": other, "what": what}
            row |= {"mean": found["mean_a"], "mean_other": found["mean_b"]}
            row |= {"difference": found["mean_a"] - found["mean_b"], "p": found["p"], "effect": found["effect"]}
            rows.append({**row, "n": found["n"], "seeds_better": int((by_seed > 0).sum()), "seeds": len(by_seed)})
    return pd.DataFrame(rows)


def ablation(cases: pd.DataFrame) -> pd.DataFrame:
    """Tables of the trainings that the paper's table does not have, beside the usual ones of the same seed and fold."""
    run = ["table", "modality", "seed", "fold"]
    further = cases.loc[~cases["training"].isin((*MAIN, *RETRAINED)), run].drop_duplicates()
    return long_tables(cases.merge(further, on=run), ("dice", "jaccard", "assd"), Rule("scan"))


def flatness(curves: pd.DataFrame) -> pd.DataFrame:
    """How far each network still rose at the end of its training, by the Dice of the hearts that its curve is of.

    Columns: training, modality, seed, fold, network ("net1", "net2", "unet"), steps and seconds (of the whole training,
    those of measuring the curve among them), end, and rise (of the last third of the batches in which the network is
    measured: about 0 where a curve is flat).
    """
    run, rows = ["training", "modality", "seed", "fold"], []
    for _, curve in curves.groupby(run, sort=False):
        for column in (c for c in map(str, curve) if c.startswith("val ")):
            if (known := curve[curve[column].notna()]).empty:
                continue
            steps, dice = known["steps"].to_numpy(), known[column].to_numpy()
            row = {**curve.iloc[0][run], "network": column.removeprefix("val "), "steps": curve["steps"].iloc[-1]}
            before = np.interp(steps[-1] - (steps[-1] - steps[0]) / 3, steps, dice)
            rows.append({**row, "seconds": curve["seconds"].sum(), "end": dice[-1], "rise": dice[-1] - before})
    return pd.DataFrame(rows)
