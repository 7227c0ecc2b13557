"""The six tables of the SSLLN paper: its numbers, ours from cases, and how they are laid side by side.

All tables are long: one row a (method, what, measure), with mean, sd (over hearts, n - 1), n, n_missed (a structure
that the method missed has an infinite distance: left out of mean and sd, worst in Wilcoxon's test), p (Wilcoxon
signed-rank between the two methods that the paper's table compares, on both their rows), paper_mean, paper_sd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from shapelab.errors import UsageError
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

#: Table I: method -> structure -> Dice (mean, sd), Hausdorff distance in mm (mean, sd).
PAPER_I: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "2D FCN": {
        "LV cavity": ((0.950, 0.022), (2.584, 1.108)),
        "LV myocardium": ((0.836, 0.060), (3.927, 1.712)),
        "RV cavity": ((0.887, 0.061), (6.614, 4.032)),
        "RV wall": ((0.633, 0.132), (8.252, 3.644)),
    },
    "3D FCN": {
        "LV cavity": ((0.963, 0.010), (2.037, 0.413)),
        "LV myocardium": ((0.888, 0.024), (3.028, 1.062)),
        "RV cavity": ((0.917, 0.025), (4.748, 1.253)),
        "RV wall": ((0.732, 0.073), (6.184, 1.403)),
    },
    "SSLLN-HR": {
        "LV cavity": ((0.962, 0.015), (2.203, 0.922)),
        "LV myocardium": ((0.873, 0.034), (3.242, 0.992)),
        "RV cavity": ((0.929, 0.026), (4.171, 1.527)),
        "RV wall": ((0.755, 0.068), (5.996, 1.424)),
    },
}
#: Table II: landmark -> SSLLN-HR against the first observer, the second observer against the first, mm (mean, sd). The
#: caption of Fig. 3 gives colours; which of I and III is the anterior insertion point is not told.
PAPER_II: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "RV insertion anterior": ((3.67, 3.20), (9.16, 4.37)),
    "RV lateral wall turning point": ((8.18, 6.91), (17.4, 9.27)),
    "RV insertion inferior": ((3.99, 3.54), (9.69, 5.39)),
    "LV lateral wall mid-point": ((5.77, 4.15), (11.7, 5.87)),
    "apex": ((3.86, 2.74), (5.61, 2.62)),
    "mitral valve centre": ((5.15, 2.82), (14.6, 5.44)),
}
NEAR_MM = 20.0  # Fig. 10: "for all landmarks, about 92% of test volumes had point-to-point distance error of <20 mm"
#: Table III, as Table I; the paper's SSLLN-HR has other Hausdorff distances here than in its Table I.
PAPER_III: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "SSLLN-HR": {
        "LV cavity": ((0.960, 0.015), (3.396, 0.505)),
        "LV myocardium": ((0.879, 0.030), (3.868, 1.306)),
        "RV cavity": ((0.929, 0.025), (4.560, 1.040)),
        "RV wall": ((0.662, 0.103), (5.664, 2.701)),
    },
    "SSLLN-LR+SR": {
        "LV cavity": ((0.940, 0.024), (4.045, 0.675)),
        "LV myocardium": ((0.863, 0.049), (4.394, 0.841)),
        "RV cavity": ((0.914, 0.033), (5.039, 1.218)),
        "RV wall": ((0.557, 0.121), (6.119, 2.956)),
    },
}
#: Tables IV and VI: cohort -> method -> measure -> (mean, sd), and of the absolute difference to the truth.
PAPER_CLINICAL: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {
    "healthy": {
        "SSLLN-HR": {
            "LVV": (148.392, 34.352, 4.623, 4.014),
            "LVM": (123.028, 24.123, 5.551, 4.308),
            "RVV": (168.638, 37.144, 8.547, 7.540),
            "RVM": (35.466, 8.121, 3.571, 2.803),
        },
        "SSLLN-LR+SR": {
            "LVV": (151.048, 35.016, 6.066, 5.782),
            "LVM": (124.240, 24.383, 6.737, 5.244),
            "RVV": (174.383, 39.480, 9.299, 8.551),
            "RVM": (32.290, 7.381, 2.956, 2.899),
        },
        "truth": {"LVV": (147.638, 34.711), "LVM": (119.278, 25.685), "RVV": (171.553, 38.622), "RVM": (33.704, 7.261)},
    },
    "PH": {
        "SSLLN-LR+SR": {
            "LVV": (120.098, 20.822, 10.42, 9.378),
            "LVM": (125.989, 34.639, 8.032, 9.614),
            "RVV": (221.514, 64.534, 18.69, 13.55),
            "RVM": (51.621, 14.938, 3.857, 2.558),
        },
        "truth": {
            "LVV": (114.815, 25.099),
            "LVM": (124.237, 25.271),
            "RVV": (204.293, 58.534),
            "RVM": (49.877, 14.166),
        },
    },
}
#: Table V, LV endocardium and myocardium, as Table I.
PAPER_V: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "3D-Seg": {"LV cavity": ((0.923, 0.019), (10.28, 8.25)), "LV myocardium": ((0.773, 0.038), (10.15, 10.58))},
    "3D-UNet": {"LV cavity": ((0.923, 0.019), (9.94, 9.92)), "LV myocardium": ((0.764, 0.045), (9.81, 11.77))},
    "AE-Seg": {"LV cavity": ((0.926, 0.019), (8.42, 3.64)), "LV myocardium": ((0.779, 0.033), (8.52, 2.72))},
    "ACNN-Seg": {"LV cavity": ((0.939, 0.017), (7.89, 3.83)), "LV myocardium": ((0.811, 0.027), (7.31, 3.59))},
    "multi-atlas": {"LV cavity": ((0.87, 0.029), (6.65, 1.74)), "LV myocardium": ((0.711, 0.064), (8.89, 2.07))},
    "SSLLN-LR+SR": {"LV cavity": ((0.943, 0.020), (4.09, 0.69)), "LV myocardium": ((0.854, 0.042), (4.37, 1.04))},
}

Cases = Mapping[str, pd.DataFrame]  # method -> cases, of all seeds


def overlap_table(cases: Cases, paper: Mapping, pair: tuple[str, str], labels=tuple(STRUCTURES)) -> pd.DataFrame:
    """Dice and Hausdorff distance (mm) of each structure and method: Tables I, III and V.

    pair : the two methods whose difference p is of
    """
    rows = []
    for label in labels:
        for i, measure in enumerate(("dice", "hd")):
            hearts = {m: _hearts(c[c["label"] == label], "id", measure) for m, c in cases.items()}
            p = _p(hearts, pair)
            for method, values in hearts.items():
                known = paper.get(method, {}).get(label, ((np.nan, np.nan),) * 2)[i]
                rows.append(_row(method, label, measure, values, p if method in pair else np.nan, known))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def landmark_table(places: Cases) -> pd.DataFrame:
    """Point-to-point error (mm) of each landmark: Table II; and, from Fig. 10, the share of hearts within 20 mm. The
    paper's numbers are those of SSLLN-HR on both networks' rows; its second observer has no peer here."""
    rows = []
    for landmark, (paper, _) in PAPER_II.items():
        for method, table in places.items():
            part = table[table["landmark"] == landmark]
            values = _hearts(part, "id", "error")
            rows.append(_row(method, landmark, "error", values, np.nan, paper if method == "SSLLN-HR" else None))
            near = _row(method, landmark, f"within {NEAR_MM:.0f} mm", (values < NEAR_MM).astype(float), np.nan, None)
            rows.append(near)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def cumulative(errors: pd.Series, at: np.ndarray) -> np.ndarray:
    """Share of errors (mm) not above each of `at` (mm): one curve of Fig. 10."""
    return np.searchsorted(np.sort(errors.to_numpy()), at, side="right") / len(errors)


def clinical_table(cases: Cases, cohort: str) -> pd.DataFrame:
    """Volumes (ml) and masses (g), automated against truth: Tables IV and VI. Rows "truth" are the phantoms' label
    maps; "|difference|" is that of a method to it, and p Wilcoxon's of method against truth."""
    paper, rows = PAPER_CLINICAL[cohort], []
    for name, (label, unit) in CLINICAL.items():
        weigh: Callable = mass if unit == "g" else (lambda v: v)
        truth = None
        for method, table in cases.items():
            part = table[table["label"] == label]
            values, truth = (weigh(_hearts(part, "id", c)) for c in ("volume", "volume_truth"))
            known = paper.get(method, {}).get(name, (np.nan,) * 4)
            p = compare(values, truth)["p"]
            rows.append(_row(method, f"{name} ({unit})", "value", values, p, known[:2]))
            rows.append(_row(method, f"{name} ({unit})", "|difference|", (values - truth).abs(), p, known[2:]))
        rows.append(_row("truth", f"{name} ({unit})", "value", truth, np.nan, paper["truth"][name]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def layout(table: pd.DataFrame) -> pd.DataFrame:
    """A long table for the eye: a row a method, "mean ± sd (paper's mean ± sd)" in each cell, and p."""
    if table.empty:
        raise UsageError("layout: found an empty table; expected rows")
    cells: dict[str, dict[str, str]] = {}
    for _, row in table.iterrows():
        digits = 3 if row["measure"] in ("dice", "plausible") else 2
        text = f"{row['mean']:.{digits}f}±{row['sd']:.{digits}f}"
        if str(row["measure"]).startswith("within"):
            text = f"{100 * row['mean']:.0f} %"
        if np.isfinite(row["paper_mean"]):
            text += f" ({row['paper_mean']:.{digits}f}±{row['paper_sd']:.{digits}f})"
        if row["n_missed"]:
            text += f" [{int(row['n_missed'])} missed]"
        if np.isfinite(row["p"]):
            text += f" p={row['p']:.1g}"
        cells.setdefault(f"{row['what']} {row['measure']}", {})[row["method"]] = text
    methods = list(dict.fromkeys(table["method"]))
    wide = pd.DataFrame(cells, index=pd.Index(methods, name="method")).fillna("")
    return wide.T.rename_axis("what") if len(wide.columns) > len(wide) else wide


def _hearts(part: pd.DataFrame, by: str, measure: str) -> pd.Series:
    """One number a heart: the mean over seeds."""
    return part.astype({measure: float}).groupby(by, sort=True)[measure].mean()


def _p(hearts: Mapping[str, pd.Series], pair: tuple[str, str]) -> float:
    if not set(pair) <= set(hearts):
        return np.nan
    a, b = (hearts[m] for m in pair)
    both = a.index.intersection(b.index)
    return compare(a[both], b[both])["p"]


def _row(method: str, what: str, measure: str, values: pd.Series, p: float, paper) -> dict:
    known = tuple(paper) if paper is not None and len(paper) == 2 else (np.nan, np.nan)
    finite = values[np.isfinite(values)]
    return dict(
        zip(
            COLUMNS,
            (
                method,
                what,
                measure,
                finite.mean(),
                finite.std(ddof=1),
                len(values),
                int(np.isinf(values).sum()),
                p,
                *known,
            ),
            strict=True,
        )
    )
