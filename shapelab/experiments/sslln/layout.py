"""The six tables of the SSLLN paper from cases, the paper's numbers beside ours (``paper.csv``).

All tables are long: one row a (method, what, measure), with mean, sd (over hearts, n - 1), n, n_missed (a structure
that the method missed has an infinite distance: left out of mean and sd, worst in Wilcoxon's test), p (Wilcoxon
signed-rank between the two methods that the paper's table compares, on both their rows; of Table I's three pairs only
one: 2D FCN and SSLLN-HR), paper_mean, paper_sd.

The paper's SSLLN-HR has other Hausdorff distances in its Table III than in its Table I. The caption of its Fig. 3 gives
colours; which of landmarks I and III is the anterior insertion point is not said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from shapelab.errors import UsageError
from shapelab.experiments import tables
from shapelab.experiments.tables import Cases, Rule, beside, long, printed, spread
from shapelab.metrics import compare
from shapelab.metrics.clinical import mass

STRUCTURES = {"LV cavity": "LVC", "LV myocardium": "LVW", "RV cavity": "RVC", "RV wall": "RVW"}
#: Clinical measures: short name -> (structure, unit).
CLINICAL = {
    "LVV": ("LV cavity", "ml"),
    "LVM": ("LV myocardium", "g"),
    "RVV": ("RV cavity", "ml"),
    "RVM": ("RV wall", "g"),
}
COLUMNS = ("method", "what", "measure", "mean", "sd", "n", "n_missed", "p", "paper_mean", "paper_sd")
#: Tables of overlap -> the two methods that p compares, the structures.
OVERLAP = {
    "I": (("SSLLN-HR", "2D FCN"), tuple(STRUCTURES)),
    "III": (("SSLLN-HR", "SSLLN-LR+SR"), tuple(STRUCTURES)),
    "V": (("SSLLN-LR+SR", "ACNN-Seg"), ("LV cavity", "LV myocardium")),
}
NEAR_MM = 20.0  # Fig. 10: "for all landmarks, about 92% of test volumes had point-to-point distance error of <20 mm"


def overlap_table(cases: Cases, table: str, labels: Sequence[str] | None = None) -> pd.DataFrame:
    """Dice and Hausdorff distance (mm) of each structure and method: Tables "I", "III" and "V", see `OVERLAP`.

    Args:
        labels: the structures; None: the paper's
    """
    pair, known = OVERLAP[table]
    found = long(cases, "label", known if labels is None else labels, ("dice", "hd"), Rule("id", pair, shared=True))
    return beside(found, printed("sslln", table))[list(COLUMNS)]


def landmark_table(places: Cases) -> pd.DataFrame:
    """Point-to-point error (mm) of each landmark: Table II; and, from Fig. 10, the share of hearts within 20 mm. The
    paper's numbers are those of SSLLN-HR; its second observer has no peer here."""
    paper, near, rows = printed("sslln", "II"), f"within {NEAR_MM:.0f} mm", []
    for landmark in paper["what"].unique():
        for method, table in places.items():
            error = table[table["landmark"] == landmark].groupby("id")["error"].mean()  # over seeds
            for measure, values in (("error", error), (near, (error < NEAR_MM).astype(float))):
                rows.append({"method": method, "what": landmark, "measure": measure, "p": np.nan, **spread(values)})
    return beside(pd.DataFrame(rows), paper)[list(COLUMNS)]


def cumulative(errors: pd.Series, at: np.ndarray) -> np.ndarray:
    """Share of errors (mm) not above each of `at` (mm): one curve of Fig. 10."""
    return np.searchsorted(np.sort(errors.to_numpy()), at, side="right") / len(errors)


def clinical_table(cases: Cases, table: str) -> pd.DataFrame:
    """Volumes (ml) and masses (g), automated against truth: Tables "IV" and "VI". Rows "truth" are the phantoms' label
    maps; "|difference|" is that of a method to it, and p Wilcoxon's of method against truth."""
    rows = []
    for name, (label, unit) in CLINICAL.items():
        for method, part in cases.items():
            hearts = part[part["label"] == label].groupby("id")[["volume", "volume_truth"]].mean()  # over seeds
            values, truth = (mass(hearts[c]) if unit == "g" else hearts[c] for c in hearts)
            row = {"method": method, "what": f"{name} ({unit})", "p": compare(values, truth)["p"]}
            rows.append({**row, "measure": "value", **spread(values)})
            rows.append({**row, "measure": "|difference|", **spread((values - truth).abs())})
        rows.append({**row, "method": "truth", "measure": "value", "p": np.nan, **spread(truth)})
    return beside(pd.DataFrame(rows), printed("sslln", table))[list(COLUMNS)]


def layout(table: pd.DataFrame) -> pd.DataFrame:
    """A long table laid out for reading, as `shapelab.experiments.tables.layout`; its rows and columns change places
    where it is wider than high."""
    if table.empty:
        raise UsageError("layout: found an empty table; expected rows")
    wide = tables.layout(table)
    return wide.T.rename_axis("what") if len(wide.columns) > len(wide) else wide
