"""Table 1 of the joint space's paper beside ours, and what else was measured, from what trainings left.

Cases: one row a (method, seed, fold, scan, structure): dice, and ceiling, the Dice of the label map that the space
rebuilds from its own code. Tables are long, as in `shapelab.experiments.tables`; "mean" is that of the structures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shapelab.errors import DataError, one_of
from shapelab.experiments import tables
from shapelab.experiments.joint_space.hearts import SEEDS
from shapelab.experiments.joint_space.laboratory import (
    CEILING,
    EARLY,
    PARTS,
    TRAINED,
    JointExperiment,
    Laboratory,
    laboratory,
)
from shapelab.experiments.joint_space.measures import MEAN
from shapelab.experiments.kept_runs import Study, seeds_of
from shapelab.experiments.tables import Rule, beside, by_method, long, printed
from shapelab.metrics import compare
from shapelab.training import numbers_of

PAIR = ("CE-Reg", "E-D")  # that p of Table 1 compares; all pairs are in the contrasts
COLUMNS = (
    *("modality", "method", "what", "measure", "mean", "sd", "n", "n_missed", "sd_seeds", "n_seeds"),
    *("rank", "p", "paper_mean", "paper_sd"),
)


def run(
    table: int = 1,
    data: str = "phantom-wh",
    root: str | Path | None = None,
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    config: JointExperiment | None = None,
) -> pd.DataFrame:
    """Train and measure every method of Table 1, print the table with the paper's numbers beside ours, and write it.

    Args:
        table: 1
        data: "phantom-wh" ("phantom"), "mmwhs" or "acdc"; of the last, short-axis hearts, few labelled images as well
        root: folder of the data set; None looks under SHAPELAB_DATA
        profile: "quick", "full" or "paper"; None: the current one
        seeds: a training each of every method; None: the profile's
        output: folder, by default ``results/joint-space``, see `gather`; each training is kept in a folder of its own,
            so that a killed run resumes, and other processes may train other ones meanwhile (`run_one`)
        config: instead of the profile's numbers

    Returns the table in long form. UsageError for an unknown table or data.
    """
    one_of("table", table, (1,))
    here = laboratory(output, data, root, profile, config, progress)
    here = replace(here, config=replace(here.config, seeds=seeds_of(seeds, here.config.seeds)))
    for training in here.trainings():
        here.measured(training)
    return gather(here)


def gather(here: Laboratory) -> pd.DataFrame:
    """Write and print the tables of all trainings that are done; none is begun.

    Beside the folder of `here`: joint_space_<data>_<profile>.csv (Table 1), ..._cases.csv, ..._contrasts.csv,
    ..._codes.csv, ..._curves.csv, ..._time.csv, ..._walks.csv, ..._smoothness.csv, ..._robustness.csv,
    ..._statistics.csv, of real hearts ..._few.csv, and ....json.

    Returns Table 1. DataError where nothing is done, or results of another key are among them.
    """
    done = [training for training in here.trainings() if here.done(training)]
    if not done or here.folder is None:
        raise DataError(here.folder, "no training that is done", "one at least", "Run the experiment.")
    kept: dict[str, list[pd.DataFrame]] = {part: [] for part in PARTS}
    for training in done:
        for part, cases in here.measured(training).items():
            kept[part].append(cases)
    measured = {part: pd.concat(parts, ignore_index=True) for part, parts in kept.items() if parts}
    curves = [curve for t in done if (curve := here.curve(t)) is not None]
    found = tables_of(measured, pd.concat(curves, ignore_index=True))
    about = {
        "data": here.data,
        "config": numbers_of(here.config),
        "trainings": [t.name for t in done],
        "phantom seeds": SEEDS,
    }
    name = f"joint_space_{here.folder.name}"
    Study(here.folder.parent).write(name, found, about)
    print(f"\nTable 1, {here.data}: ours (the paper's)\n")
    for modality, rows in found[""].groupby("modality"):
        print(f"{modality}\n{tables.layout(rows).T.to_string()}\n")
    return found[""]


def tables_of(measured: Mapping[str, pd.DataFrame], curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Suffix of the file -> table, from what was measured (part -> cases of all trainings) and their curves."""
    whole = {part: cases[cases["labelled"].isna()] for part, cases in measured.items()}
    trained = whole[""][whole[""]["method"] != EARLY]
    usual = curves[curves["labelled"].isna() & (curves["method"] != EARLY)]
    found = {
        "": table_one(trained),
        "_contrasts": contrasts(trained),
        "_codes": code_table(whole["_codes"]),
        "_curves": curves,
        "_time": at_equal_time(usual),
        "_cases": measured[""],
    }
    if "_walks" in whole:
        found["_walks"] = walk_table(whole["_walks"])
    if "_smoothness" in whole:
        found["_smoothness"] = mean_table(whole["_smoothness"], ("method", "of", "modality"), ("curvature", "dice"))
    if "_robustness" in whole:
        by = ("method", "kind", "strength", "modality")
        contrast = whole["_robustness"].assign(modality=lambda t: t["modality"].str.split().str[0])  # "CT late": CT
        found["_robustness"] = mean_table(contrast, by, ("dice", "violations", "plausible"))
    if "_statistics" in whole:
        ranked = whole["_statistics"].assign(rank1=lambda t: _first(t["rank"]) if "rank" in t else np.nan)
        found["_statistics"] = mean_table(ranked, ("method", "statistics", "modality"), ("dice", "rank1"))
    if len(whole[""]) < len(measured[""]):
        found["_few"] = few_table(measured[""][measured[""]["method"] != EARLY])
    return found


def _first(rank: pd.Series) -> pd.Series:
    """1.0 where a rank is 1, 0.0 where not, NaN where there is none."""
    return (rank == 1).astype(float).where(rank.notna())


# ------------------------------------------------------------------------------------------------------------ Table 1


def with_ceilings(cases: pd.DataFrame) -> pd.DataFrame:
    """Cases, and below them the ceilings as cases of a method of their own, named after it."""
    known = cases[cases["ceiling"].notna()]
    return pd.concat([cases, known.assign(method=known["method"] + CEILING, dice=known["ceiling"])], ignore_index=True)


def table_one(cases: pd.DataFrame) -> pd.DataFrame:
    """Dice of each structure and of their mean, by modality and method, each method's ceiling below it.

    Columns: `COLUMNS`; mean and sd are over scans, after the mean over seeds; p is Wilcoxon's of CE-Reg and E-D; the
    paper's numbers stand beside those of whole hearts alone.
    """
    order = [name for m in TRAINED for name in (m, m + CEILING)]
    names, parts = [s for s in cases["structure"].unique() if s != MEAN], []
    for modality, part in with_ceilings(cases).groupby("modality"):
        methods = by_method(part, order)
        found = long(methods, "structure", [*names, MEAN], ("dice",), Rule("scan", PAIR, shared=True))
        paper = printed("joint_space", f"1 {modality}")
        paper = paper if {*paper["what"]} == {*names, MEAN} else paper[:0]  # of whole hearts
        parts.append(beside(found, paper).assign(modality=modality))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def contrasts(cases: pd.DataFrame, method: str = "CE-Reg") -> pd.DataFrame:
    """One method against each other one on the same scans, by their mean Dice.

    Columns: modality ("all": both), method, other, mean, mean_other, difference, p (Wilcoxon's, over scans, after the
    mean over seeds), effect (rank-biserial), n, seeds_better, seeds.
    """
    means, rows = cases[cases["structure"] == MEAN], []
    kinds = sorted(means["modality"].unique())
    for modality in ["all", *kinds] if len(kinds) > 1 else kinds:
        part = means if modality == "all" else means[means["modality"] == modality]
        ours = part[part["method"] == method]
        for other, theirs in by_method(part, TRAINED).items():
            if other == method or ours.empty:
                continue
            a, b = (t.groupby("scan")["dice"].mean() for t in (ours, theirs))
            both = a.index.intersection(b.index)
            found = compare(a[both], b[both])
            by_seed = (ours.groupby("seed")["dice"].mean() - theirs.groupby("seed")["dice"].mean()).dropna()
            row: dict[str, Any] = {"modality": modality, "method": method, "other": other}
            row |= {"mean": found["mean_a"], "mean_other": found["mean_b"]}
            row |= {"difference": found["mean_a"] - found["mean_b"], "p": found["p"], "effect": found["effect"]}
            rows.append({**row, "n": found["n"], "seeds_better": int((by_seed > 0).sum()), "seeds": len(by_seed)})
    return pd.DataFrame(rows)


# --------------------------------------------------------------------------------------------------------- all others


def mean_table(cases: pd.DataFrame, by: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Means of measures over scans and seeds, a row a group in the order of appearance, and the sd of each measure
    over the seeds' means (<measure>_sd_seeds)."""
    numbers = cases.astype(dict.fromkeys(measures, float))
    groups = numbers.groupby(list(by), sort=False)[list(measures)].mean()
    seeds = numbers.groupby([*by, "seed"], sort=False)[list(measures)].mean()
    spread = seeds.groupby(list(by), sort=False).std(ddof=1).add_suffix("_sd_seeds")
    return groups.join(spread).reset_index()


def code_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Shares of scans whose own label map lies nearest (rank1, by chance: chance), whose twin in the other modality
    does (twin1), and distances to the own label map and the others'; by method and modality, over seeds."""
    known = [c for c in ("own", "others", "chance") if c in cases]
    ranks = {"rank1": "rank", "twin1": "twin"}
    shares = {name: _first(cases[column]) for name, column in ranks.items() if column in cases}
    return mean_table(cases.assign(**shares), ("method", "modality"), [*shares, *known])


def walk_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Of walks from scan to scan, at each t: violations, share of plausible shapes, change since the step before."""
    return mean_table(cases, ("method", "t"), ("violations", "plausible", "change"))


def at_equal_time(curves: pd.DataFrame) -> pd.DataFrame:
    """Dice of each training's curve when as much time was spent as the quickest of its seed took in all, read between
    the rows of the history, beside that at its end.

    Columns: method, seed, fold, steps, seconds (of the whole training), seconds_per_step, time (that is compared), and
    of each modality: <modality> (at that time), <modality> end, and <modality> rise (of the last third of the steps:
    about 0 where a curve is flat).
    """
    kinds = [c for c in map(str, curves) if c.startswith("val ") and c[4:] not in ("labels", "rank-1", "seconds")]
    rows = []
    for (seed, fold), part in curves.groupby(["seed", "fold"]):
        time = part.groupby("method")["spent"].max().min()
        for method, curve in part.groupby("method", sort=False):
            steps, spent = curve["steps"].iloc[-1], curve["spent"].iloc[-1]
            row = {"method": method, "seed": seed, "fold": fold, "steps": steps, "seconds": spent}
            row |= {"seconds_per_step": spent / steps, "time": time}
            for kind in kinds:
                name, dice = kind.removeprefix("val "), curve[kind].to_numpy()
                before = np.interp(steps * 2 / 3, curve["steps"], dice)
                row |= {name: np.interp(time, curve["spent"], dice), f"{name} end": dice[-1]}
                row[f"{name} rise"] = dice[-1] - before
            rows.append(row)
    return pd.DataFrame(rows)


def few_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice with few labelled images, by method and number of labelled patients (NaN: all): mean and sd over
    scans, sd_seeds, and p of Wilcoxon's test against E-D (`p_E-D`) and U-Net (`p_U-Net`) at the same number."""
    means, rows = cases[cases["structure"] == MEAN], []
    for n, part in means.groupby("labelled", dropna=False):
        hearts = {m: t.groupby("scan")["dice"].mean() for m, t in by_method(part, TRAINED).items()}
        for method, dice in hearts.items():
            by_seed = part[part["method"] == method].groupby("seed")["dice"].mean()
            row = {"labelled": n, "method": method, "mean": dice.mean(), "sd": dice.std(ddof=1), "n": len(dice)}
            row |= {"sd_seeds": by_seed.std(ddof=1), "n_seeds": len(by_seed)}
            others = {o: hearts[o] for o in ("E-D", "U-Net") if o in hearts and o != method}
            rows.append(row | {f"p_{o}": compare(dice, theirs)["p"] for o, theirs in others.items()})
    return pd.DataFrame(rows)
