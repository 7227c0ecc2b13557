"""How cases become a table: once for all papers.

Cases are long tables: one row a (seed, heart, structure), a column a measure; a structure that was missed has infinite
distances. `long` takes the mean over seeds, then over hearts, and says how many hearts there were, how many were missed
and whether two methods differ; `beside` puts the paper's numbers beside ours; `layout` lays it out for reading. What
the papers print stands in ``<paper>/paper.csv``, one row a (table, method, what, measure), read by `printed`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shapelab.files import read_csv
from shapelab.metrics import bootstrap_mean, compare
from shapelab.metrics.agreement import least_p

#: Measures that are better the higher they are; all others, the lower.
HIGH = ("dice", "dice_base", "dice_apex", "jaccard", "ssim", "plausible", "within 8 mm")
Cases = Mapping[str, pd.DataFrame]  # method -> cases, of all seeds


def spread(values: pd.Series, interval: bool = False) -> dict[str, float]:
    """mean and sd (n - 1) of the finite ones, n (of all), n_missed (inf); interval: also low and high, the bootstrap
    95 % interval of the mean. NaN where there are too few."""
    finite = values[np.isfinite(values)]
    found = {"mean": finite.mean(), "sd": finite.std(ddof=1), "n": len(values), "n_missed": int(np.isinf(values).sum())}
    if interval:
        found["low"], found["high"] = bootstrap_mean(finite) if len(finite) else (np.nan, np.nan)
    return found


@dataclass(frozen=True)
class Rule:
    """How a table is made of cases.

    Attributes:
        heart: the column that names what the means are over
        pair: the two methods that p compares; None: the two best; (): none
        average: of the seeds of a heart, as `groupby(...).agg` takes it; "mean" and numpy's mean differ in the last bit
        partly: a heart that some seeds missed counts by the other seeds, and n_missed counts seeds (column "missed");
            else such a heart is missed, and left out of mean and sd
        shared: p is of the hearts that both methods have; else they must have the same ones
        interval: with low and high, see `spread`
    """

    heart: str = "case"
    pair: tuple[str, ...] | None = ()
    average: str | Callable = "mean"
    partly: bool = False
    shared: bool = False
    interval: bool = False

    def mean(self, cases: pd.DataFrame, measure: str, over: str) -> pd.Series:
        """The mean of a measure for each value of the column `over`."""
        return cases.groupby(over)[measure].agg(self.average)


def by_method(cases: pd.DataFrame, order: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Method -> its cases, those that are there, in that order."""
    return {m: cases[cases["method"] == m] for m in order if (cases["method"] == m).any()}


def long(cases: Cases, what: str, values: Iterable[str], measures: Sequence[str], rule: Rule) -> pd.DataFrame:
    """One row a (value, measure, method): the mean over seeds, then over hearts.

    Args:
        what: a column of the cases (structure, phase, landmark, ...)
        values: of it, each with rows of its own
        measures: columns of numbers, inf where a structure was missed

    Returns:
        DataFrame: method, what, measure; mean, sd (over hearts), n, n_missed, see `Rule`; sd_seeds (of the means over
        hearts), n_seeds; rank (1 is best: of low measures those come first that missed nothing); p (Wilcoxon
        signed-rank over hearts, missed ones worst, on the rows of the two methods that are compared)
    """
    rows = []
    for value, measure in itertools.product(values, measures):
        parts = {m: t[t[what] == value].astype({measure: float}) for m, t in cases.items()}
        hearts = {m: rule.mean(part, measure, rule.heart) for m, part in parts.items()}
        made: list[dict[str, Any]] = [
            {"method": m, "what": value, "measure": measure, **_row(part, measure, hearts[m], rule)}
            for m, part in parts.items()
        ]
        high = measure in HIGH
        best = sorted(made, key=lambda r: (0, -r["mean"]) if high else (r["n_missed"], r["mean"]))
        pair = tuple(row["method"] for row in best[:2]) if rule.pair is None else rule.pair
        p = _difference(hearts, pair, rule.shared)
        for rank, row in enumerate(best, 1):
            row |= {"rank": rank, "p": p if row["method"] in pair else np.nan}
        rows += made
    return pd.DataFrame(rows)


def _row(part: pd.DataFrame, measure: str, hearts: pd.Series, rule: Rule) -> dict[str, float]:
    """Numbers of one method: its cases, and its hearts' means over seeds."""
    found = part[np.isfinite(part[measure])]
    row = spread(rule.mean(found, measure, rule.heart) if rule.partly else hearts, rule.interval)
    if rule.partly:
        row |= {"n": len(hearts), "n_missed": int(part["missed"].sum())}
    return {**row, "sd_seeds": rule.mean(found, measure, "seed").std(ddof=1), "n_seeds": part["seed"].nunique()}


def _difference(hearts: Mapping[str, pd.Series], pair: Collection[str], shared: bool) -> float:
    if len(pair) != 2 or not set(pair) <= set(hearts):
        return np.nan
    a, b = (hearts[m] for m in pair)
    both = a.index.intersection(b.index) if shared else slice(None)
    return compare(a[both], b[both])["p"]


# ---------------------------------------------------------------------------------------------------- the paper's own


def printed(paper: str, table: str) -> pd.DataFrame:
    """Numbers as a paper prints them: method, what, measure, mean, sd (NaN: none given).

    Args:
        paper: a folder here ("acnn", "sslln")
        table: its numeral
    """
    file = Path(__file__).parent / paper / "paper.csv"
    rows = read_csv(file, keep_default_na=False, na_values={"mean": "", "sd": ""})
    return rows[rows["table"] == table].drop(columns="table").reset_index(drop=True)


def beside(table: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Our rows (method, what, measure, ...) with paper_mean and paper_sd of `printed`; NaN where the paper has none."""
    known = paper.rename(columns={"mean": "paper_mean", "sd": "paper_sd"})
    return table.merge(known, how="left", on=["method", "what", "measure"])


# ---------------------------------------------------------------------------------------------------------- for reading


def digits(measure: str) -> int:
    """Decimals of a measure: three of those from 0 to 1."""
    return 3 if measure in HIGH or "correlation" in measure else 2


def p_text(p: float, n: int, form: str = ".2g") -> str:
    """p of Wilcoxon's test on n pairs; where these are too few to reach .05, with the least p that they can give."""
    return f"{p:{form}}" if least_p(n) < 0.05 else f"{p:.2g} (n={n}: {least_p(n):.2g} at least)"


def layout(table: pd.DataFrame) -> pd.DataFrame:
    """A long table laid out for reading: a row a method, a column a (what, measure), each cell "mean±sd (the paper's)
    [n missed] p=...", of what there is. Shares of hearts are in %."""
    cells: dict[str, dict[str, str]] = {}
    for row in table.to_dict("records"):
        d = digits(row["measure"])
        text = f"{row['mean']:.{d}f}±{row['sd']:.{d}f}"
        if row["measure"].startswith(("plausible", "within")):
            text = f"{100 * row['mean']:.0f} %"
        if np.isfinite(row["paper_mean"]):
            spread_of = f"±{row['paper_sd']:.{d}f}" if np.isfinite(row["paper_sd"]) else ""
            text += f" ({row['paper_mean']:.{d}f}{spread_of})"
        if row["n_missed"]:
            text += f" [{int(row['n_missed'])} missed]"
        if np.isfinite(row["p"]):
            text += f" p={p_text(row['p'], row['n'], '.1g')}"
        cells.setdefault(f"{row['what']} {row['measure']}".strip(), {})[row["method"]] = text
    return pd.DataFrame(cells, index=pd.Index(table["method"].unique(), name="method")).fillna("")
