"""Measures of a whole cohort: a long table, and what is said of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import pandas as pd

from shapelab.data.gaps import gaps
from shapelab.data.orientation import is_whole_heart
from shapelab.data.rows import has_names, in_order, names_among
from shapelab.data.scheme import LabelScheme
from shapelab.errors import must, need
from shapelab.metrics.agreement import as_array, compare, finite_mean, median
from shapelab.metrics.evaluation import absent, check_labels, evaluate
from shapelab.types import Array, Triple

MEASURES = ("dice", "jaccard", "hd", "hd95", "assd")
N_BOOTSTRAP = 2000


def evaluate_cohort(
    predictions: Iterable[Array] | Mapping[Any, Array],
    truths: Iterable[Array] | Mapping[Any, Array],
    spacings: Sequence[float] | Sequence[Triple] | np.ndarray | pd.DataFrame | Mapping[Any, Triple],
    index: Iterable | None = None,
    labels: Sequence[int] | LabelScheme | None = None,
    surface: str = "voxel",
    method: str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """`evaluate` for N pairs of label maps, as a long table: one row a case and label.

    Args:
        predictions: N label maps each (D0, D1, D2), arrays (N, D0, D1, D2) or any iterables, by position; or a mapping
            or Series by the names of the cases. Shapes may differ from case to case
        truths: see `predictions`
        spacings: mm, (3,) for all or (N, 3); or a mapping name -> (3,), or a table (index = names) with three columns
        index: names of the cases; default those of the truths or predictions, else 0, 1, ...
        labels: which ones, or a scheme (its structures' names then stand in the table); None: all that any case has
        surface: as in `evaluate`
        method: a name that goes into the column "method", so that tables of several methods can be put under one
            another
        progress: a bar

    Returns:
        DataFrame: (method,) id, label, then the columns of `evaluate`. Every case has a row for every label; where both
        maps lack it, that of empty masks (dice 1, distances 0). A truth with slices that nobody annotated along its
        last axis is measured as it is, with a warning.

    Raises:
        UsageError: as many names or spacings as cases there are not; as `evaluate`
        DataError: not as many predictions as truths, or none; names that are not those of the cases; as `evaluate`
    """
    from tqdm.auto import tqdm

    known = names_among(truths, predictions) if index is None else list(index)
    ours, true = (
        in_order("evaluate_cohort", x, known or ()) if has_names(x) else x if isinstance(x, Sized) else list(x)
        for x in (predictions, truths)
    )
    n = len(true)
    need(
        len(ours) == n > 0,
        "evaluate_cohort",
        f"{len(ours)} predictions and {n} truths",
        "as many of both, at least one",
    )
    names = list(range(n)) if known is None else known
    by_name = isinstance(spacings, (pd.DataFrame, Mapping))
    sizes = np.asarray(in_order("spacings", spacings, names) if by_name else spacings, dtype=float)
    must(sizes.shape in ((3,), (n, 3)), "spacings", f"shape {sizes.shape}", f"(3,) or ({n}, 3)")
    sizes = np.broadcast_to(sizes, (n, 3))
    different = len(set(names))
    must(different == len(names) == n, "index", f"{len(names)} names, {different} of them different", str(n))
    scheme = labels if isinstance(labels, LabelScheme) else None
    wanted = None
    if labels is not None:
        wanted = list(labels.values) if isinstance(labels, LabelScheme) else check_labels(labels)
    cases = [
        evaluate(p, t, s, wanted, surface)
        for p, t, s in tqdm(zip(ours, true, sizes), total=n, disable=not progress, leave=False)
    ]
    stacks = scheme is None or not is_whole_heart(scheme)
    sparse = [str(name) for name, truth in zip(names, true) if stacks and gaps(as_array(truth))]
    if sparse:
        warnings.warn(
            f"evaluate_cohort: found empty slices between drawn ones in the truths of {', '.join(sparse[:5])} "
            f"({len(sparse)} of {n}); expected every slice annotated. What is predicted there counts as wrong: compare "
            "on the other slices (`shapelab.data.gaps.gaps` gives the numbers of the empty ones).",
            stacklevel=2,
        )
    wanted = sorted(set().union(*(case.index for case in cases))) if wanted is None else wanted
    rows = []
    for name, case in zip(names, cases):
        for label in wanted:
            shown = scheme.names[scheme.values.index(label)] if scheme else label
            values: dict[Any, Any] = case.loc[label].to_dict() if label in case.index else absent()
            rows.append({**({} if method is None else {"method": method}), "id": name, "label": shown} | values)
    return pd.DataFrame(rows).astype({"missed": bool, **dict.fromkeys(MEASURES, float)})


def summary(
    table: pd.DataFrame,
    by: Sequence[str] | None = None,
    measures: Sequence[str] = MEASURES,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean and spread of each measure in each group of a long table, with the failures beside them.

    Args:
        table: of `evaluate_cohort`, or any with a column a measure
        by: columns that make the groups; None: "method" and "label", if they are there. Cases of whom one is not known
            are a group of their own (NaN)
        measures: columns to summarise
        n_bootstrap: resamples of the cases for the interval of the mean (percentiles 2.5 and 97.5)
        seed: see `n_bootstrap`

    Returns:
        DataFrame, index `by` + "measure".

        - n: cases
        - n_missed: cases in which the structure was missed (column "missed"; without it, those that are inf)
        - n_mean: cases in mean, sd, low and high: the finite ones. A missed structure's dice is 0 and is one of them;
          its distances are inf and are not: then n_mean < n, and the mean flatters by n_missed cases
        - mean, sd: of those (n - 1); NaN if there are too few
        - low, high: bootstrap 95 % interval of the mean
        - median: of all n, inf taken as the worst

    Raises:
        UsageError: a column that is not there; n_bootstrap below 1
        DataError: no row, NaN
    """
    by = list(by) if by is not None else [c for c in ("method", "label") if c in table]
    _check_columns("summary", table, (*by, *measures))
    must(n_bootstrap >= 1, "n_bootstrap", n_bootstrap, "at least 1")
    need(len(table), "summary", "no row", "at least one")
    whole = not table[list(measures)].isna().to_numpy().any()
    need(whole, "summary", "NaN in a measure", "numbers, inf for the distances of a missed structure")
    groups = table.groupby(by, sort=False, observed=True, dropna=False) if by else [((), table)]
    rows = []
    for key, group in groups:
        for measure in measures:
            values = group[measure].to_numpy(float)
            rows.append(
                {
                    **dict(zip(by, key if isinstance(key, tuple) else (key,))),
                    "measure": measure,
                    "n": len(values),
                    "n_missed": int(group["missed"].sum() if "missed" in group else np.isinf(values).sum()),
                    **_describe(values, n_bootstrap, seed),
                }
            )
    return pd.DataFrame(rows).set_index([*by, "measure"])


def _describe(values: np.ndarray, n_bootstrap: int, seed: int) -> dict[str, float]:
    """n_mean, mean, sd, low, high and median of one measure in one group."""
    finite = values[np.isfinite(values)]
    low, high = bootstrap_mean(finite, n_bootstrap, seed) if len(finite) else (math.nan, math.nan)
    return {
        "n_mean": len(finite),
        "mean": finite_mean(finite),
        "sd": float(finite.std(ddof=1)) if len(finite) > 1 else math.nan,
        "low": low,
        "high": high,
        "median": median(values),
    }


def bootstrap_mean(
    values: Sequence[float] | np.ndarray | pd.Series, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean: percentiles 2.5 and 97.5 of the means of `n_bootstrap` resamples with replacement."""
    numbers = np.sort(np.asarray(values, dtype=float))  # sorted: the order of the cases does not matter
    finite = numbers.ndim == 1 and len(numbers) and np.isfinite(numbers).all()
    need(finite, "bootstrap_mean", f"values of shape {numbers.shape}", "at least one finite number")
    draws = np.random.default_rng(seed).integers(0, len(numbers), (n_bootstrap, len(numbers)))
    low, high = np.percentile(numbers[draws].mean(1), (2.5, 97.5))
    return float(low), float(high)


def compare_methods(table: pd.DataFrame, a: str, b: str, measure: str = "dice", by: str = "label") -> pd.DataFrame:
    """`compare` two methods of a long table, case by case (column "id"): one row each value of `by`.

    UsageError: a column or a method that is not there. DataError: the two methods did not see the same cases.
    """
    _check_columns("compare_methods", table, ("method", "id", by, measure))
    methods = list(table["method"].unique())
    for name in (a, b):
        must(name in methods, "compare_methods", f"method {name!r}", f"one of {methods}")
    rows = {
        key: compare(*(group[group["method"] == m].set_index("id")[measure] for m in (a, b)))
        for key, group in table.groupby(by, sort=False, observed=True, dropna=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)


def _check_columns(where: str, table: pd.DataFrame, names: Iterable[str]) -> None:
    missing = [c for c in names if c not in table]
    must(not missing, where, f"no column {missing}", f"some of {list(table.columns)}")
