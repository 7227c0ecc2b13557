"""Table I of the ACNN paper: its methods, and how ours are laid beside its numbers (``paper.csv``).

Of predictor + decoder the paper's table has nothing; its text (III-C) gives a Dice of .734, of which structure is
not said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shapelab.errors import one_of
from shapelab.experiments import tables
from shapelab.experiments.tables import HIGH, Rule, beside, by_method, long, printed
from shapelab.metrics import compare
from shapelab.models.acnn.baselines import PAPER_PARAMETERS

STRUCTURES = {"LV cavity": "endocardium", "LV myocardium": "myocardium", "RV cavity": "RV"}
MEASURES = ("assd", "hd", "dice")  # mean distance (mm), Hausdorff distance (mm), Dice


@dataclass(frozen=True)
class Method:
    """One row of Table I: which network, and how it is trained."""

    network: str | None  # a name that `baselines.build` knows; None: predictor and decoder of the T-L network
    motion: bool = False  # further in-plane motion of each slice, drawn anew in each step
    prior: bool = False


METHODS: dict[str, Method] = {
    "2D-FCN": Method("2D-FCN"),
    "3D-Seg": Method("3D-Seg"),
    "3D-UNet": Method("3D-UNet"),
    "AE-Seg": Method("AE-Seg"),
    "3D-Seg-MAug": Method("3D-Seg", motion=True),
    "AE-Seg-M": Method("AE-Seg-M"),
    "ACNN-Seg": Method("3D-Seg", prior=True),
    "ACNN-Seg-MAug": Method("3D-Seg", motion=True, prior=True),
    "predictor + decoder": Method(None),
}
#: What is trained first: a run cut short still has the comparison that the paper is about.
ORDER = ("3D-Seg", "ACNN-Seg", "3D-Seg-MAug", "ACNN-Seg-MAug", "2D-FCN", "3D-UNet", "AE-Seg", "AE-Seg-M")

RULE = Rule(pair=None, partly=True)  # p: the two best; a heart that some seeds missed counts by the others
COLUMNS = (
    *("method", "structure", "measure", "mean", "sd", "sd_seeds", "n", "n_missed", "n_seeds"),
    *("paper_mean", "paper_sd", "rank", "p"),
)


def summarise(cases: pd.DataFrame, facts: Sequence[Mapping] = (), phase: str | None = "ED") -> pd.DataFrame:
    """Table I in long form: one row a (method, structure, measure).

    Columns: method, structure (or "heart"), measure (assd, hd, dice; of the heart: plausible, the share of hearts, and
    violations, a heart), mean, sd (over hearts), sd_seeds, n (hearts), n_missed (hearts x seeds), paper_mean, paper_sd,
    rank (1 is best), p (Wilcoxon signed-rank between ranks 1 and 2, on both their rows), parameters,
    paper_parameters, seconds.
    """
    kept = _of_phase(cases, phase)
    hearts = kept.drop_duplicates(["method", "seed", "case"]).assign(structure="heart", missed=False)
    parts = [
        long(by_method(kept, METHODS), "structure", STRUCTURES, MEASURES, RULE),
        long(by_method(hearts, METHODS), "structure", ["heart"], ["plausible", "violations"], RULE),
    ]
    table = beside(pd.concat(parts, ignore_index=True), printed("acnn", "I"))
    table = table.rename(columns={"what": "structure"})[list(COLUMNS)]
    if len(facts):
        found = pd.DataFrame([{k: f.get(k) for k in ("method", "parameters", "seconds")} for f in facts])
        table = table.join(found.groupby("method").agg({"parameters": "first", "seconds": "median"}), on="method")
    networks = {m: how.network or "" for m, how in METHODS.items()}
    return table.assign(paper_parameters=[PAPER_PARAMETERS.get(networks[m], np.nan) for m in table["method"]])


def _of_phase(cases: pd.DataFrame, phase: str | None) -> pd.DataFrame:
    """Cases of one phase (None: all); UsageError if there is none."""
    return cases if phase is None else cases[cases["phase"] == one_of("phase", phase, sorted(set(cases["phase"])))]


#: What the paper claims about pairs of methods: what differs, with it, without it.
CONTRASTS = (
    ("prior", "ACNN-Seg", "3D-Seg"),
    ("prior, both with motion augmentation", "ACNN-Seg-MAug", "3D-Seg-MAug"),
    ("motion augmentation", "3D-Seg-MAug", "3D-Seg"),
    ("autoencoder behind the network, larger", "AE-Seg-M", "3D-Seg"),
    ("sub-pixel network instead of 3D-UNet", "3D-Seg", "3D-UNet"),
    ("three dimensions instead of two", "3D-Seg", "2D-FCN"),
)
CONTRAST_COLUMNS = (
    *("differs", "method", "other", "structure", "measure"),
    *("mean", "mean_other", "difference", "p", "effect", "better", "n"),
)


def contrasts(cases: pd.DataFrame, phase: str | None = "ED") -> pd.DataFrame:
    """Methods that differ in one thing, on the same hearts: one row a (contrast, structure or "heart", measure).

    Columns: differs, method, other, structure, measure, mean, mean_other (over seeds, then hearts; a missed structure's
    distance is left out), difference, p (Wilcoxon signed-rank), effect (rank-biserial correlation, 1: higher in
    every heart), better (whether the difference is in the good direction), n. Contrasts of methods that are not among
    the cases are left out.
    """
    kept = _of_phase(cases, phase)
    parts: list[tuple[str, pd.DataFrame, tuple[str, ...]]] = [
        (name, kept[kept["structure"] == name], MEASURES) for name in STRUCTURES
    ]
    parts.append(("heart", kept.drop_duplicates(["method", "seed", "case"]), ("violations",)))
    rows = []
    for structure, part, measures in parts:
        for measure in measures:
            means = part.astype({measure: float}).pivot_table(index="case", columns="method", values=measure)
            for differs, a, b in (one for one in CONTRASTS if set(one[1:]) <= set(means)):
                found = compare(means[a], means[b])
                difference = found["mean_a"] - found["mean_b"]
                numbers = (found["mean_a"], found["mean_b"], difference, found["p"], found["effect"])
                better = (difference < 0) != (measure in HIGH)
                rows.append((differs, a, b, structure, measure, *numbers, better, found["n"]))
    return pd.DataFrame(rows, columns=list(CONTRAST_COLUMNS))


def layout(table: pd.DataFrame) -> pd.DataFrame:
    """The long table as the paper prints it: a row a method, "mean ± sd (paper's)" in each cell."""
    named = table.assign(what=table["structure"].map(STRUCTURES).fillna(""), p=np.nan)
    wide = tables.layout(named)
    if "parameters" in table:
        first = table.drop_duplicates("method").set_index("method")
        ours, paper = (first[c].map("{:,.0f}".format) for c in ("parameters", "paper_parameters"))
        wide["parameters"] = ours + (" (" + paper + ")").where(first["paper_parameters"].notna(), "")
        wide["s / volume"] = first["seconds"].map("{:.3f}".format)
    best = named.assign(p=table["p"])[table["rank"] == 1]
    p = {
        f"{row['what']} {row['measure']}".strip(): f"p = {tables.p_text(row['p'], row['n'])}"
        for row in best.to_dict("records")
    }
    wide.loc["p, two best"] = {c: p.get(c, "") for c in wide.columns}
    return wide
