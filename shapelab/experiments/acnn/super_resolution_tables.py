"""Table III of the ACNN paper from the scores of single hearts: means, tests, claims, and a layout for reading."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from shapelab.experiments.tables import Rule, by_method, long, printed
from shapelab.metrics import compare
from shapelab.training import History

METHODS = ("Linear", "B-spline", "SR-CNN", "3D-UNet", "SR", "ACNN-SR")
MEASURES = ["ssim", "psnr", "error", "dice"]


def per_patient(hearts: pd.DataFrame, value: str = "ssim") -> pd.DataFrame:
    """(patients, methods): mean over each patient's hearts and over seeds."""
    return hearts.pivot_table(index="patient", columns="method", values=value, aggfunc="mean")


def table_three(hearts: pd.DataFrame, speed: pd.DataFrame) -> pd.DataFrame:
    """Table III in both conditions, the paper's numbers beside ours; p compares the two best of a condition by SSIM."""
    cases, conditions = by_method(hearts, METHODS), hearts["condition"].unique()
    ssim = long(cases, "condition", conditions, ["ssim"], Rule("heart"))
    table = ssim[["what", "method", "mean", "sd"]].set_axis(["condition", "method", "ssim", "sd"], axis=1)
    parts = (cases[m][cases[m]["condition"] == c] for c, m in zip(table["condition"], table["method"]))
    # of one frame: means of single columns may differ from it in the last bit
    more = [part.groupby("heart")[MEASURES].mean()[MEASURES[1:]].mean() for part in parts]
    table = table.join(pd.DataFrame(more))
    here = speed[speed["size"] == "this profile"].set_index("method")
    table = table.join(here[["parameters", "seconds", "times_srcnn"]], on="method")
    paper = printed("acnn", "III").set_index(["measure", "method"])
    return table.assign(
        p=long(cases, "condition", conditions, ["ssim"], Rule("patient", pair=None))["p"],
        paper_ssim=table["method"].map(paper["mean"]["ssim"]),
        paper_sd=table["method"].map(paper["sd"]["ssim"]),
        paper_seconds=table["method"].map(paper["mean"]["seconds"]),
        n_hearts=ssim["n"],
        n_seeds=ssim["n_seeds"],
    )


def claims(hearts: pd.DataFrame, speed: pd.DataFrame) -> pd.DataFrame:
    """What the paper claims, on our data: claim, condition, difference (mean over patients), p, holds.

    A difference of SSIM holds where it is above 0 with p < .05; <NA> where there are too few patients for such a p.
    """
    pairs = [
        ("SR beats B-spline", "SR", "B-spline"),
        ("SR beats SR-CNN", "SR", "SR-CNN"),
        ("ACNN-SR beats SR-CNN", "ACNN-SR", "SR-CNN"),
        ("the prior helps", "ACNN-SR", "SR"),
    ]
    rows = []
    for condition, part in hearts.groupby("condition", sort=False):
        scores = per_patient(part)
        for claim, a, b in pairs:
            found, difference = compare(scores[a], scores[b]), float((scores[a] - scores[b]).mean())
            holds = pd.NA if found["p_least"] >= 0.05 else difference > 0 and found["p"] < 0.05
            rows.append((claim, condition, difference, found["p"], holds))
    for size, part in speed.groupby("size", sort=False):
        ratio = float(part.set_index("method")["times_srcnn"]["SR"])
        rows.append(("SR at least 5 times as fast as SR-CNN", size, ratio, np.nan, ratio >= 5))
    return pd.DataFrame(rows, columns=["claim", "condition", "difference", "p", "holds"]).astype({"holds": "boolean"})


def sweep_table(runs: Sequence[tuple[float, pd.DataFrame, History]]) -> pd.DataFrame:
    """A row a lambda and condition: ssim, error, dice, and the last epoch's terms of equation 2, pixel and prior, with
    share = lambda * prior / pixel."""
    rows = []
    for weight, hearts, history in sorted(runs, key=lambda one: one[0]):
        pixel, prior = (history.last.get(term, np.nan) for term in ("pixel", "prior"))
        for condition, part in hearts.groupby("condition", sort=False):
            rows.append(
                {
                    "weight": weight,
                    "condition": condition,
                    **part[["ssim", "error", "dice"]].mean().to_dict(),
                    "pixel": pixel,
                    "prior": prior,
                    "share": weight * prior / pixel,
                }
            )
    return pd.DataFrame(rows)


def layout(table: pd.DataFrame) -> pd.DataFrame:
    """Table III laid out for reading, the paper's numbers in brackets beside ours."""

    def beside(ours: pd.Series, paper: pd.Series, form: str) -> list[str]:
        return [f"{a:{form}} ({b:{form}})" if b == b else f"{a:{form}}" for a, b in zip(ours, paper, strict=True)]

    shown = table[["condition", "method"]].copy()
    shown["SSIM"] = beside(table["ssim"], table["paper_ssim"], ".3f")
    shown["sd"] = beside(table["sd"], table["paper_sd"], ".3f")
    more = {
        "psnr": ("PSNR dB", ".2f"),
        "error": ("error in heart", ".4f"),
        "dice": ("Dice", ".3f"),
        "parameters": ("parameters", ",d"),
        "times_srcnn": ("x SR-CNN's speed", ".1f"),
    }
    for column, (name, form) in more.items():
        shown[name] = [format(v, form) for v in table[column]]
    shown["seconds"] = beside(table["seconds"], table["paper_seconds"], ".3f")
    shown["p (two best)"] = [f"{p:.2g}" if p == p else "" for p in table["p"]]
    return shown.set_index(["condition", "method"])
