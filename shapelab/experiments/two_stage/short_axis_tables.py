"""Tables of real ACDC in its own voxels, from what trainings left: see `shapelab.experiments.two_stage.short_axis`.

Cases: one row a (method, seed, fold, patients, subject, structure), `MEAN` among the structures. Tables are long, as in
`shapelab.experiments.tables`. What the aim is counted by is the mean over patients, each the mean of ED and ES; the
published numbers beside it are of five folds over 100 patients, or of the challenge's test patients.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shapelab.data.facts import PHASES
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError
from shapelab.experiments.acnn.reality import TRAINING_SEED
from shapelab.experiments.kept_runs import Study, measured, seeds_of
from shapelab.experiments.tables import Rule, by_method, layout, long, printed, spread
from shapelab.experiments.two_stage.short_axis import (
    ENDS,
    MEAN,
    MEASURES,
    METHODS,
    ONE_STAGE,
    PHANTOMS,
    SCRATCH,
    TWO_STAGE,
    Laboratory,
    ShortAxisExperiment,
    laboratory,
)
from shapelab.metrics import bland_altman, compare, correlation
from shapelab.metrics.clinical import indices_of
from shapelab.training import numbers_of

NEAR_MM, NEAR = 8.0, "within 8 mm"  # stacks whose mean HD95 is below
PAIR = (TWO_STAGE, ONE_STAGE)  # that p of the main table compares
PARTS = ("patients", "stacks", *PHASES)
STANDING = "native, "  # before the methods of the trained native network, which stands beside (reality_acdc_trained)
COLUMNS = (
    *("part", "method", "what", "measure", "mean", "sd", "low", "high", "n", "n_missed", "sd_seeds", "n_seeds"),
    *("rank", "p"),
)
BY_PATIENT = ["method", "patient"]


def run(
    root: str | Path | None = None,
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    config: ShortAxisExperiment | None = None,
) -> pd.DataFrame:
    """Train and measure every method on ACDC, print the table of patients, and write all.

    Args:
        root: folder of ACDC; None looks under SHAPELAB_DATA
        profile: "quick", "full" or "paper"; None: the current one
        seeds: of few patients; the folds take the first. None: the profile's
        output: folder, by default ``results/two-stage``, see `gather`; each training is kept in a folder of its own, so
            that a killed run resumes, and other processes may train other ones meanwhile (`short_axis.run_share`)
        config: instead of the profile's numbers

    Returns the main table in long form.
    """
    here = laboratory(output, root, profile, config, progress)
    here = replace(here, config=replace(here.config, seeds=seeds_of(seeds, here.config.seeds)))
    for training in here.trainings():
        here.measured(training)
    return gather(here)


def gather(here: Laboratory) -> pd.DataFrame:
    """Write and print the tables of all trainings that are done; none is begun.

    Beside the folder of `here`: two_stage_acdc_<profile>.csv (the main table), ..._beside.csv, ..._contrasts.csv,
    ..._indices.csv, ..._few.csv, ..._time.csv, ..._curves.csv, ..._cases.csv, and ....json.

    Returns the main table. DataError where nothing is done, or results of another key are among them.
    """
    done = [training for training in here.trainings() if here.done(training)]
    if not done or here.folder is None:
        raise DataError(here.folder, "no training that is done", "one at least", "Run the experiment.")
    cases = pd.concat([here.measured(training) for training in done], ignore_index=True)
    curves = pd.concat([curve for t in done if (curve := here.curve(t)) is not None], ignore_index=True)
    found = tables_of(cases, curves)
    about = {
        "data": repr(here.cohort),
        "config": numbers_of(here.config),
        "trainings": [t.name for t in done],
        "phantom seed": TRAINING_SEED,
    }
    Study(here.folder.parent).write(f"two_stage_{here.folder.name}", found, about)
    rows = found[""].query("part == 'patients' and what == @MEAN").assign(paper_mean=np.nan, paper_sd=np.nan)
    print(f"\nACDC in its own voxels, over patients\n{layout(rows).T.to_string()}\n\n{found['_beside'].to_string()}\n")
    return found[""]


def tables_of(cases: pd.DataFrame, curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Suffix of the file -> table, from the cases of all trainings and their curves."""
    whole, stands = cases[cases["patients"].isna()], standing()
    found = {
        "": main_table(whole),
        "_beside": beside_table(pd.concat([whole, stands], ignore_index=True)),
        "_contrasts": contrasts(pd.concat([whole, stands], ignore_index=True)),
        "_indices": index_table(whole),
        "_time": time_table(cases, curves),
        "_curves": curves,
        "_cases": cases,
    }
    return found | ({"_few": few_table(cases)} if len(whole) < len(cases) else {})


# --------------------------------------------------------------------------------------------------------- main table


def main_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Means over patients and over stacks, of all stacks, ED and ES: of each structure and of their mean.

    Columns: `COLUMNS`. Measures: those of `MEASURES`; dice_base and dice_apex, Dice in the most basal and the most
    apical slice that the observer drew in; of the mean also `NEAR` (share of stacks whose HD95 is below 8 mm),
    plausible (share of stacks that a heart could have) and violations. low and high are the bootstrap interval of the
    mean; p is Wilcoxon's of the two-stage network and its twin.
    """
    order = [MEAN, *CARDIAC.names]
    flags = {NEAR: cases["hd95"].astype(float) < NEAR_MM, "plausible": cases["plausible"]}
    cases, tables = cases.assign(**{name: flag.astype(float) for name, flag in flags.items()}), []
    measures = dict.fromkeys((*MEASURES, *(f"dice_{end}" for end in ENDS)), order)
    measures |= dict.fromkeys((NEAR, "plausible", "violations"), [MEAN])
    for part, (measure, values) in itertools.product(PARTS, measures.items()):
        some = cases[cases["phase"] == part] if part in PHASES else cases
        known = by_method(some[some[measure].notna()], METHODS)
        rule = Rule("patient" if part == "patients" else "subject", PAIR, shared=True, interval=True)
        tables.append(long(known, "structure", values, (measure,), rule).assign(part=part))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


# ------------------------------------------------------------------------------------------------------ beside others


def standing() -> pd.DataFrame:
    """Cases of the native network on 20 patients, as far as they were measured: dice and hd."""
    table = measured("reality_acdc_trained")
    means = table.groupby(["method", "subject", "patient", "phase"], sort=False)[["dice", "hd"]].mean().reset_index()
    both = pd.concat([table, means.assign(structure=MEAN)], ignore_index=True)
    return both.assign(method=STANDING + both["method"], seed=0)


def beside_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice over patients, of each structure and of their mean, a row a method: of all the patients that it was
    tested on, and of those alone that the native network was tested on; then what is published.

    Columns: method, tested ("all", "the native network's", "published"), n (patients), the structures, mean.
    """
    shared = set(cases[cases["method"].str.startswith(STANDING)]["patient"])
    rows = []
    for tested, part in (("all", cases), ("the native network's", cases[cases["patient"].isin(shared)])):
        for method, of in part.groupby("method", sort=False):
            if tested == "all" or set(of["patient"]) == shared:
                means = of.groupby(["structure", "patient"])["dice"].mean().groupby("structure").mean()
                row = {name: means[name] for name in (*CARDIAC.names, MEAN)}
                rows.append({"method": method, "tested": tested, "n": of["patient"].nunique(), **row})
    known = printed("two_stage", "ACDC").query("measure == 'dice'")
    for method, of in known.groupby("method", sort=False):
        rows.append({"method": method, "tested": "published", **of.set_index("what")["mean"]})
    return pd.DataFrame(rows)


def contrasts(cases: pd.DataFrame, method: str = TWO_STAGE) -> pd.DataFrame:
    """One method against each other one, by the mean of the structures, on the patients that both were tested on.

    Columns: other, measure, mean, mean_other, difference (of both means), p (Wilcoxon's, over patients, after the mean
    over ED and ES and over seeds; a patient with a missed structure is worst), effect (rank-biserial), n.
    """
    means, rows = cases[cases["structure"] == MEAN], []
    ours = means[means["method"] == method]
    others = [m for m in means["method"].unique() if m != method]
    for other, measure in itertools.product(others, ("dice", "hd", "hd95", *(f"dice_{end}" for end in ENDS))):
        a, b = (_by_patient(t, measure) for t in (ours, means[means["method"] == other]))
        both = a.index.intersection(b.index)
        if len(both):
            rows.append({"method": method, "other": other, "measure": measure, **_contrast(a[both], b[both])})
    return pd.DataFrame(rows)


def _by_patient(cases: pd.DataFrame, measure: str) -> pd.Series:
    """Mean of a measure for each patient, over ED, ES and seeds, where it is known."""
    return cases.groupby("patient")[measure].mean().dropna()


def _contrast(a: pd.Series, b: pd.Series) -> dict[str, Any]:
    found = compare(a, b)
    means = {"mean": found["mean_a"], "mean_other": found["mean_b"], "difference": found["mean_a"] - found["mean_b"]}
    return {**means, **{name: found[name] for name in ("p", "effect", "n")}}


# ------------------------------------------------------------------------------------------------- volumes and EF


def patient_indices(cases: pd.DataFrame) -> pd.DataFrame:
    """Volumes (ml), mass (g) and ejection fractions (%) of each patient, automatic and by hand: columns method,
    patient, index, automatic, by_hand; means over seeds. NaN: an ejection fraction without a cavity at ED."""
    rows, drawn = [], cases[cases["structure"] != MEAN]
    for (method, patient, seed), part in drawn.groupby([*BY_PATIENT, "seed"], sort=False):
        phases = [part[part["phase"] == phase].set_index("structure") for phase in PHASES]
        automatic, by_hand = (indices_of(*(p[column] for p in phases)) for column in ("volume", "volume_truth"))
        about = {"method": method, "patient": patient, "seed": seed}
        rows += [{**about, "index": k, "automatic": automatic[k], "by_hand": by_hand[k]} for k in by_hand]
    means = pd.DataFrame(rows).groupby([*BY_PATIENT, "index"], sort=False)[["automatic", "by_hand"]].mean()
    return means.reset_index()


def index_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Agreement of volumes, mass and ejection fractions with those by hand, over patients.

    Columns: method, index, bias (automatic - by hand), sd, low and high (limits of agreement), error (mean absolute
    difference), r, n, n_missed (no cavity found at ED).
    """
    rows = []
    for (method, index), of in patient_indices(cases).groupby(["method", "index"], sort=False):
        known = of.dropna()
        if len(known) < 3:  # what agreement cannot be told of
            continue
        row = bland_altman(known["automatic"], known["by_hand"])
        row |= {"error": (known["automatic"] - known["by_hand"]).abs().mean()}
        row |= {"r": correlation(known["automatic"], known["by_hand"])["r"], "n_missed": len(of) - len(known)}
        rows.append({"method": method, "index": index, **row})
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------------------------- few patients, and time


def few_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice over fold 0's test patients by how many patients were learned from (0: phantoms alone; NaN: all of the
    fold), with and without what phantoms taught.

    Columns: patients, method, mean, sd, low, high (over patients, each the mean of ED, ES and seeds), n, sd_seeds,
    n_seeds, missed (stacks without a structure that the observer drew), hd95 (mean of what was found), and p of
    Wilcoxon's test against "two-stage, scratch" at the same number.
    """
    means = cases[(cases["structure"] == MEAN) & cases["method"].isin((TWO_STAGE, SCRATCH, PHANTOMS))]
    tested = set(means[(means["fold"] == 0) & (means["method"] != PHANTOMS)]["patient"])
    means = means[(means["fold"] == 0) & means["patient"].isin(tested)]
    means = means.assign(patients=means["patients"].where(means["method"] != PHANTOMS, 0))
    rows = []
    for n, part in means.groupby("patients", dropna=False):
        of = by_method(part, METHODS)
        dice = {method: _by_patient(t, "dice") for method, t in of.items()}
        for method, t in of.items():
            row: dict[str, Any] = {"patients": n, "method": method, **spread(dice[method], interval=True)}
            row |= {"sd_seeds": t.groupby("seed")["dice"].mean().std(ddof=1), "n_seeds": t["seed"].nunique()}
            row |= {"missed": int(t["missed"].sum()), "hd95": spread(t["hd95"].astype(float))["mean"]}
            if method != SCRATCH and SCRATCH in dice:
                row["p"] = compare(dice[method], dice[SCRATCH])["p"]
            rows.append(row)
    return pd.DataFrame(rows).drop(columns="n_missed")


def time_table(cases: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Columns: method, trainings, minutes (of one, without validation), seconds (that a stack takes), over all
    trainings."""
    key = ["method", "seed", "fold", "patients"]
    ends = curves.groupby(key, dropna=False, sort=False)["spent"].last().reset_index()
    stacks = cases.drop_duplicates([*key, "subject"]).groupby("method", sort=False)["seconds"].mean()
    of = ends.groupby("method", sort=False)["spent"].agg(["size", "mean"])
    return pd.DataFrame(
        {"trainings": of["size"], "minutes": of["mean"] / 60, "seconds": stacks.reindex(of.index)}
    ).reset_index()
