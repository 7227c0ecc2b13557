"""Measures of a whole cohort: a long table, and the interval of a mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from shapelab.data.scheme import LabelScheme
from shapelab.errors import DataError, UsageError
from shapelab.metrics.evaluation import absent, check_labels, evaluate

MEASURES = ("dice", "jaccard", "hd", "hd95", "assd")
N_BOOTSTRAP = 2000


def evaluate_cohort(
    predictions: Iterable,
    truths: Iterable,
    spacings,
    index: Iterable | None = None,
    labels: Sequence[int] | LabelScheme | None = None,
    surface: str = "voxel",
    method: str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """`evaluate` for N pairs of label maps, as a long table: one row a case and label.

    Parameters
    ----------
    predictions, truths : N label maps each (D0, D1, D2), arrays (N, D0, D1, D2) or any iterables; shapes may differ
        from case to case
    spacings : mm, (3,) for all or (N, 3)
    index : names of the cases; default 0, 1, ...
    labels : which ones, or a scheme (its structures' names then stand in the table); None: all that any case has
    surface : as in `evaluate`
    method : a name that goes into the column "method", so that tables of several methods can be put under one another
    progress : a bar

    Returns
    -------
    DataFrame: (method,) id, label, then the columns of `evaluate`. Every case has a row for every label; where both
    maps lack it, that of empty masks (dice 1, distances 0).

    Raises
    ------
    UsageError : as many names or spacings as cases there are not; as `evaluate`
    DataError : not as many predictions as truths, or none; as `evaluate`
    """
    from tqdm.auto import tqdm

    predictions, truths = (x if hasattr(x, "__len__") else list(x) for x in (predictions, truths))
    n = len(truths)
    if len(predictions) != n or n == 0:
        found = f"{len(predictions)} predictions and {n} truths"
        raise DataError("evaluate_cohort", found, "as many of both, at least one")
    names = list(index) if index is not None else list(range(n))
    spacings = np.asarray(spacings, dtype=float)
    if spacings.shape not in ((3,), (n, 3)):
        raise UsageError(f"spacings: found shape {spacings.shape}; expected (3,) or ({n}, 3)")
    spacings = np.broadcast_to(spacings, (n, 3))
    if len(names) != n or len(set(names)) != n:
        raise UsageError(f"index: found {len(names)} names, {len(set(names))} of them different; expected {n}")
    scheme = labels if isinstance(labels, LabelScheme) else None
    wanted = list(scheme.values) if scheme else check_labels(labels) if labels is not None else None
    cases = [
        evaluate(p, t, s, wanted, surface)
        for p, t, s in tqdm(zip(predictions, truths, spacings), total=n, disable=not progress, leave=False)
    ]
    if wanted is None:
        wanted = sorted(set().union(*(case.index for case in cases)))
    rows = []
    for name, case in zip(names, cases):
        for label in wanted:
            shown = scheme.names[scheme.values.index(label)] if scheme else label
            values = case.loc[label].to_dict() if label in case.index else absent()
            rows.append({**({} if method is None else {"method": method}), "id": name, "label": shown, **values})
    return pd.DataFrame(rows).astype({"missed": bool, **dict.fromkeys(MEASURES, float)})


def bootstrap_mean(values, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean: percentiles 2.5 and 97.5 of the means of `n_bootstrap` resamples with replacement."""
    values = np.sort(np.asarray(values, dtype=float))  # sorted: the order of the cases does not matter
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise DataError("bootstrap_mean", f"values of shape {values.shape}", "at least one finite number")
    draws = np.random.default_rng(seed).integers(0, len(values), (n_bootstrap, len(values)))
    low, high = np.percentile(values[draws].mean(1), (2.5, 97.5))
    return float(low), float(high)
