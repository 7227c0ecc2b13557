"""Table I of the ACNN paper: its methods, its numbers, and how ours are laid beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shapelab.errors import UsageError
from shapelab.metrics import compare
from shapelab.models.acnn.baselines import PAPER_PARAMETERS

STRUCTURES = {"LV cavity": "endocardium", "LV myocardium": "myocardium", "RV cavity": "RV"}
MEASURES = ("assd", "hd", "dice")  # mean distance (mm), Hausdorff distance (mm), Dice
BETTER = {"assd": "low", "hd": "low", "dice": "high"}


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

#: Table I: method -> structure -> (mean, sd) of mean distance (mm), Hausdorff distance (mm), Dice.
PAPER: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "2D-FCN": {
        "LV cavity": ((2.07, 0.61), (11.37, 7.15), (0.908, 0.021)),
        "LV myocardium": ((1.58, 0.44), (9.19, 7.22), (0.727, 0.046)),
    },
    "3D-Seg": {
        "LV cavity": ((1.77, 0.84), (10.28, 8.25), (0.923, 0.019)),
        "LV myocardium": ((1.48, 0.51), (10.15, 10.58), (0.773, 0.038)),
    },
    "3D-UNet": {
        "LV cavity": ((1.66, 0.74), (9.94, 9.22), (0.923, 0.019)),
        "LV myocardium": ((1.45, 0.47), (9.81, 11.77), (0.764, 0.045)),
    },
    "AE-Seg": {
        "LV cavity": ((1.75, 0.58), (8.42, 3.64), (0.926, 0.019)),
        "LV myocardium": ((1.51, 0.29), (8.52, 2.72), (0.779, 0.033)),
    },
    "3D-Seg-MAug": {
        "LV cavity": ((1.59, 0.74), (8.52, 8.13), (0.928, 0.019)),
        "LV myocardium": ((1.37, 0.41), (9.41, 9.17), (0.785, 0.041)),
    },
    "AE-Seg-M": {
        "LV cavity": ((1.59, 0.48), (7.52, 3.78), (0.927, 0.017)),
        "LV myocardium": ((1.32, 0.26), (7.12, 2.79), (0.791, 0.036)),
    },
    "ACNN-Seg": {
        "LV cavity": ((1.37, 0.42), (7.89, 3.83), (0.939, 0.017)),
        "LV myocardium": ((1.14, 0.22), (7.31, 3.59), (0.811, 0.027)),
    },
}
PAPER_TL_DICE = 0.734  # predictor + decoder, text of section III-C; of which structure is not told


def summarise(cases: pd.DataFrame, facts: Sequence[Mapping] = (), phase: str | None = "ED") -> pd.DataFrame:
    """Table I in long form: one row a (method, structure, measure).

    Columns: method, structure (or "heart"), measure (assd, hd, dice; of the heart: plausible, the share of hearts, and
    violations, a heart), mean, sd (over hearts), sd_seeds, n (hearts), n_missed (hearts x seeds), paper_mean, paper_sd,
    rank (1 is best), p (Wilcoxon signed-rank between ranks 1 and 2, on both their rows), parameters,
    paper_parameters, seconds.
    """
    kept = cases if phase is None else cases[cases["phase"] == phase]
    if kept.empty:
        raise UsageError(f"phase: found {phase!r}, no case; expected one of {sorted(set(cases['phase']))}")
    rows, order = [], [m for m in METHODS if m in set(kept["method"])]
    for structure in STRUCTURES:
        one = kept[kept["structure"] == structure]
        for measure in MEASURES:
            rows += _rows(one, structure, measure, order)
    hearts = kept.drop_duplicates(["method", "seed", "case"])
    for measure in ("plausible", "violations"):
        rows += _rows(hearts, "heart", measure, order)
    table = pd.DataFrame(rows)
    found = pd.DataFrame([{k: f.get(k) for k in ("method", "parameters", "seconds")} for f in facts])
    if len(found):
        found = found.groupby("method").agg({"parameters": "first", "seconds": "median"})
        table = table.join(found, on="method")
    networks = {m: how.network for m, how in METHODS.items()}
    return table.assign(paper_parameters=[PAPER_PARAMETERS.get(networks[m], np.nan) for m in table["method"]])


#: What the paper claims about pairs of methods: what differs, with it, without it.
CONTRASTS = (
    ("prior", "ACNN-Seg", "3D-Seg"),
    ("prior, both with motion augmentation", "ACNN-Seg-MAug", "3D-Seg-MAug"),
    ("motion augmentation", "3D-Seg-MAug", "3D-Seg"),
    ("autoencoder behind the network, larger", "AE-Seg-M", "3D-Seg"),
    ("sub-pixel network instead of 3D-UNet", "3D-Seg", "3D-UNet"),
    ("three dimensions instead of two", "3D-Seg", "2D-FCN"),
)


def contrasts(cases: pd.DataFrame, phase: str | None = "ED") -> pd.DataFrame:
    """Methods that differ in one thing, on the same hearts: one row a (contrast, structure or "heart", measure).

    Columns: differs, method, other, structure, measure, mean, mean_other (over seeds, then hearts; a missed structure's
    distance is left out), difference, p (Wilcoxon signed-rank), effect (rank-biserial correlation, 1: higher in
    every heart), better (whether the difference is in the good direction), n. Contrasts of methods that are not among
    the cases are left out.
    """
    kept = cases if phase is None else cases[cases["phase"] == phase]
    parts = [(name, kept[kept["structure"] == name], MEASURES) for name in STRUCTURES]
    parts.append(("heart", kept.drop_duplicates(["method", "seed", "case"]), ("violations",)))
    rows = []
    for structure, part, measures in parts:
        for measure in measures:
            means = part.astype({measure: float}).pivot_table(index="case", columns="method", values=measure)
            for differs, a, b in CONTRASTS:
                if not {a, b} <= set(means):
                    continue
                found = compare(means[a], means[b])
                difference = found["mean_a"] - found["mean_b"]
                low = BETTER.get(measure, "low") == "low"
                rows.append(
                    {
                        "differs": differs,
                        "method": a,
                        "other": b,
                        "structure": structure,
                        "measure": measure,
                        "mean": found["mean_a"],
                        "mean_other": found["mean_b"],
                        "difference": difference,
                        "p": found["p"],
                        "effect": found["effect"],
                        "better": (difference < 0) == low,
                        "n": found["n"],
                    }
                )
    columns = [
        "differs",
        "method",
        "other",
        "structure",
        "measure",
        "mean",
        "mean_other",
        "difference",
        "p",
        "effect",
        "better",
        "n",
    ]
    return pd.DataFrame(rows, columns=columns)


def _rows(cases: pd.DataFrame, structure: str, measure: str, order: Sequence[str]) -> list[dict]:
    """One row a method, ranked; the two best carry the p-value of their difference."""
    values = {m: cases[cases["method"] == m].astype({measure: float}) for m in order}
    hearts = {m: v.groupby("case")[measure].mean() for m, v in values.items()}
    rows = []
    for method, heart in hearts.items():
        finite = values[method][np.isfinite(values[method][measure])]
        per_heart, per_seed = (finite.groupby(by)[measure].mean() for by in ("case", "seed"))
        paper = PAPER.get(method, {}).get(structure)
        known = paper[MEASURES.index(measure)] if paper and measure in MEASURES else (np.nan, np.nan)
        missed = int(values[method]["missed"].sum()) if measure in MEASURES else 0
        rows.append(
            {
                "method": method,
                "structure": structure,
                "measure": measure,
                "mean": per_heart.mean(),
                "sd": per_heart.std(ddof=1),
                "sd_seeds": per_seed.std(ddof=1),
                "n": len(heart),
                "n_missed": missed,
                "n_seeds": values[method]["seed"].nunique(),
                "paper_mean": known[0],
                "paper_sd": known[1],
            }
        )
    low = BETTER.get(measure, "high" if measure == "plausible" else "low") == "low"
    best = sorted(rows, key=lambda r: (r["n_missed"] if low else 0, r["mean"] if low else -r["mean"]))
    for rank, row in enumerate(best, 1):
        row["rank"], row["p"] = rank, np.nan
    if len(best) > 1:
        p = compare(hearts[best[0]["method"]], hearts[best[1]["method"]])["p"]
        best[0]["p"] = best[1]["p"] = p
    return rows


def layout(table: pd.DataFrame) -> pd.DataFrame:
    """The long table as the paper prints it: a row a method, "mean ± sd (paper's)" in each cell."""
    rows = {}
    for method, part in table.groupby("method", sort=False):
        cells = {}
        for _, row in part.iterrows():
            name = STRUCTURES.get(row["structure"], "")
            digits = 3 if row["measure"] == "dice" else 2
            text = (
                f"{row['mean']:.{digits}f}±{row['sd']:.{digits}f}"
                if row["measure"] != "plausible"
                else (f"{100 * row['mean']:.0f} %")
            )
            if np.isfinite(row["paper_mean"]):
                text += f" ({row['paper_mean']:.{digits}f}±{row['paper_sd']:.{digits}f})"
            if row["n_missed"]:
                text += f" [{int(row['n_missed'])} missed]"
            cells[f"{name} {row['measure']}".strip()] = text
        first = part.iloc[0]
        if "parameters" in part:
            paper = first["paper_parameters"]
            cells["parameters"] = f"{first['parameters']:,.0f}" + (f" ({paper:,.0f})" if np.isfinite(paper) else "")
            cells["s / volume"] = f"{first['seconds']:.3f}"
        rows[method] = cells
    wide = pd.DataFrame.from_dict(rows, orient="index")
    best = table[table["rank"] == 1]
    names = (best["structure"].map(STRUCTURES).fillna("") + " " + best["measure"]).str.strip()
    p = {name: f"p = {value:.2g}" for name, value in zip(names, best["p"], strict=True)}
    wide.loc["p, two best"] = {c: p.get(c, "") for c in wide.columns}
    return wide.rename_axis("method")
