"""What the test for two humps in `code_statistics` finds: planted humps, and none where there are none.

    python benchmarks/code_humps.py [-n 40] [-o FOLDER]

Made-up tables of 64 code columns, each tested as codes are: Silverman's test without outliers, corrected over the
columns (Benjamini and Hochberg, alpha .05). With -o the table is written as CSV.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from reporting import report

from shapelab.latent import code_statistics

COLUMNS = 64
Draw = Callable[[np.random.Generator, int], np.ndarray]  # generator, hearts -> (hearts, 64)


def planted(k: int, apart: float, share: float = 0.5) -> Draw:
    """Normal columns; in k of them a share of the hearts lies further up, so many sd of either part."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        z = rng.normal(size=(n, COLUMNS))
        z[: round(share * n), :k] += apart
        return z

    return draw


def far(k: int) -> Draw:
    """Normal columns; in each k hearts are 10 sd away."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        z = rng.normal(size=(n, COLUMNS))
        z[:k] = 10 + 0.1 * z[:k]
        return z

    return draw


#: What is drawn -> (columns with two humps, hearts far out in each column, how it is drawn).
CONTROLS: dict[str, tuple[int, int, Draw]] = {
    "1 of 64: two halves 4 sd apart": (1, 0, planted(1, 4)),
    "3 of 64": (3, 0, planted(3, 4)),
    "6 of 64": (6, 0, planted(6, 4)),
    "6 of 64: two halves 3 sd apart": (6, 0, planted(6, 3)),
    "6 of 64: a tenth 6 sd apart": (6, 0, planted(6, 6, 0.1)),
    "normal": (0, 0, planted(0, 0)),
    "normal, one heart 10 sd away": (0, 1, far(1)),
    "normal, two hearts 10 sd away": (0, 2, far(2)),
    "heavy tails (t, 3 degrees of freedom)": (0, 0, lambda rng, n: rng.standard_t(3, (n, COLUMNS))),
    "heavy tails (t, 2)": (0, 0, lambda rng, n: rng.standard_t(2, (n, COLUMNS))),
    "skewed (exponential)": (0, 0, lambda rng, n: rng.exponential(size=(n, COLUMNS))),
    "skewed (lognormal)": (0, 0, lambda rng, n: rng.lognormal(size=(n, COLUMNS))),
    "flat (uniform)": (0, 0, lambda rng, n: rng.random((n, COLUMNS))),
}


def row(name: str, hearts: int, tables: int) -> dict[str, object]:
    """What is found in so many tables of one kind.

    Returns:
        found: share of the planted columns; false_columns: share of the others that are found; false_tables: of the
        tables with such a column; false_share: mean share of these among what is found (false discovery rate);
        uncorrected: share of columns without two humps whose p is below .05; named: share of the far hearts that are
        named as outliers, others_named: outliers a column besides
    """
    two, far_hearts, draw = CONTROLS[name]
    found, wrong, uncorrected, named, others = [], [], [], [], []
    for seed in range(tables):
        z = draw(np.random.default_rng([seed, list(CONTROLS).index(name), hearts]), hearts)
        one = code_statistics(pd.DataFrame(z, columns=[f"z{i:02d}" for i in range(COLUMNS)]))
        humps = ~one["unimodal"].to_numpy(bool)
        found.append(humps[:two].sum())
        wrong.append(humps[two:].sum())
        uncorrected.append((one["p_unimodal"].iloc[two:] < 0.05).mean())
        right = sum(len(set(range(far_hearts)) & set(names)) for names in one["outliers"])
        named.append(right)
        others.append((one["outliers"].map(len).sum() - right) / COLUMNS)
    wrong_of, found_of = np.array(wrong), np.array(found)
    return {
        "columns": name,
        "hearts": hearts,
        "tables": tables,
        "found": found_of.mean() / two if two else np.nan,
        "false_columns": wrong_of.mean() / (COLUMNS - two),
        "false_tables": (wrong_of > 0).mean(),
        "false_share": (wrong_of / np.maximum(found_of + wrong_of, 1)).mean(),
        "uncorrected": np.mean(uncorrected),
        "named": np.mean(named) / (COLUMNS * far_hearts) if far_hearts else np.nan,
        "others_named": np.mean(others),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=40, help="tables of each kind (40)")
    parser.add_argument("-o", "--output", type=Path, help="folder for the CSV file")
    arguments = parser.parse_args()
    rows = [row(name, hearts, arguments.n) for hearts in (160, 80) for name in CONTROLS]
    output = arguments.output and arguments.output / "code_humps.csv"
    report(pd.DataFrame(rows), output, decimals=4)


if __name__ == "__main__":
    main()
