"""Table II of the ACNN paper from the measures of single cases, and a layout for reading."""

from __future__ import annotations

import numpy as np
import pandas as pd

from shapelab.data.facts import PHASES
from shapelab.experiments.tables import Rule, beside, by_method, digits, long, p_text, printed
from shapelab.metrics import bland_altman, correlation

METHODS = ("FCN", "ACNN-Seg")
MEASURES = {"assd": "mean distance (mm)", "hd": "Hausdorff (mm)", "dice": "Dice"}
COLUMNS = ("measure", "phase", "method", "n", "n_missed", "mean", "sd", "sd_seeds", "p", "paper", "paper_sd")


def ejection_fractions(cases: pd.DataFrame) -> pd.DataFrame:
    """One row a patient: EF (%) of prediction and truth, EDV and ESV (ml); NaN where the ED volume is 0."""
    wide = cases.pivot(index="patient", columns="phase", values=["volume", "volume_truth"])
    out = pd.DataFrame(index=wide.index)
    for name, short in (("volume", ""), ("volume_truth", "_truth")):
        ed, es = wide[name, "ED"].astype(float), wide[name, "ES"].astype(float)
        out[f"EF{short}"] = 100 * (1 - es / ed.where(ed > 0))
        out[f"EDV{short}"], out[f"ESV{short}"] = ed, es
    return out


def summarise(cases: pd.DataFrame) -> pd.DataFrame:
    """Cases of all methods and seeds (`measure`) -> the table that `run` returns."""
    parts = by_method(cases, sorted(set(cases["method"])))
    rule = Rule(pair=METHODS, average=lambda v: v.to_numpy().mean())
    table = long(parts, "phase", PHASES, (*MEASURES, "plausible"), rule)
    table["mean"] = table["mean"].fillna(np.inf)  # missed in every case
    table = pd.concat([table, pd.DataFrame(_function_rows(cases))], ignore_index=True)
    table = beside(table, printed("acnn", "II"))
    return table.rename(columns={"what": "phase", "paper_mean": "paper"})[list(COLUMNS)]


def _function_rows(cases: pd.DataFrame) -> list[dict]:
    """EF and volumes: correlation, bias and limits of agreement; the mean over seeds of each."""
    rows = []
    for method, part in by_method(cases, METHODS).items():
        of_seed = [ejection_fractions(one) for _, one in part.groupby("seed")]
        for value in ("EF", "EDV", "ESV"):
            pairs = [t[[value, f"{value}_truth"]].dropna() for t in of_seed]
            n = {"n": min(map(len, pairs)), "n_missed": max(len(t) - len(p) for t, p in zip(of_seed, pairs))}
            r = [correlation(*p.to_numpy().T)["r"] if len(p) > 2 else np.nan for p in pairs]
            limits = [bland_altman(*p.to_numpy().T) if len(p) > 1 else {"bias": np.nan, "sd": np.nan} for p in pairs]
            bias, sd = ([one[k] for one in limits] for k in ("bias", "sd"))
            for name, of, spread in (("correlation", r, np.nan), ("bias (limits)", bias, 1.96 * np.mean(sd))):
                row = {"measure": f"{value} {name}", "what": "", "method": method, **n, "mean": np.mean(of)}
                sd_seeds = np.std(of, ddof=1) if len(of) > 1 else np.nan
                rows.append({**row, "sd": spread, "sd_seeds": sd_seeds, "p": np.nan})
    return rows


def layout(table: pd.DataFrame) -> pd.DataFrame:
    """The table to be read: a row a measure and phase, a column a method, "ours (paper's)"; BEAS: the paper's."""

    def text(mean: float, sd: float, measure: str) -> str:
        d = digits(measure)
        both = f"{mean:.{d}f}" + (f" ± {sd:.{d}f}" if np.isfinite(sd) else "")
        return both if np.isfinite(mean) else "-"

    ours = table.rename(columns={"phase": "what", "paper": "paper_mean"})
    beas = printed("acnn", "II").query("method == 'BEAS'").drop(columns="method")
    rows: dict[str, dict[str, str]] = {}
    for row in ours.merge(beas, how="left", on=["what", "measure"], suffixes=("", "_beas")).to_dict("records"):
        measure = row["measure"]
        cell = rows.setdefault(f"{MEASURES.get(measure, measure)} {row['what']}".strip(), {})
        cell["BEAS"] = f"({text(row['mean_beas'], row['sd_beas'], measure)})"
        paper = text(row["paper_mean"], row["paper_sd"], measure)
        cell[row["method"]] = f"{text(row['mean'], row['sd'], measure)} ({paper})"
        cell["p"] = p_text(row["p"], row["n"]) if np.isfinite(row["p"]) else "-"
    columns = ["BEAS", *(m for m in METHODS if m in set(table["method"])), "p"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
