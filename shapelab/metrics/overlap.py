"""How well a label map agrees with the truth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from shapelab.data.rows import has_names, in_order, names_among
from shapelab.data.scheme import LabelScheme
from shapelab.errors import need


def dice(prediction: np.ndarray, truth: np.ndarray, scheme: LabelScheme) -> pd.Series:
    """Dice of each structure: 2 |A n B| / (|A| + |B|).

    Args:
        prediction: integers of the scheme, same shape (any number of axes)
        truth: integers of the scheme, same shape (any number of axes)
        scheme: names the structures

    Returns:
        Series, index = structure names. Both empty -> 1; one empty -> 0.

    Raises:
        DataError: shapes differ, or values outside the scheme
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    need(
        prediction.shape == truth.shape,
        "dice",
        f"prediction {prediction.shape} and truth {truth.shape}",
        "the same shape",
    )
    n = scheme.n_classes
    # one pass: the joint histogram holds every overlap and both sizes
    joint = np.bincount(
        scheme.channels(prediction).ravel().astype(np.int64) * n + scheme.channels(truth).ravel(),
        minlength=n * n,
    ).reshape(n, n)
    overlap, total = np.diag(joint)[1:], (joint.sum(0) + joint.sum(1))[1:]
    values = np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)
    return pd.Series(values, index=list(scheme.names), name="dice")


def dice_table(
    predictions: np.ndarray, truths: np.ndarray, scheme: LabelScheme, index: Iterable[Any] | None = None
) -> pd.DataFrame:
    """Dice of each structure for N pairs of label maps (N, X, Y, Z): one row a pair, one column a structure.

    Arrays are paired by position; what has names (Series, mappings) is matched by them, those of `index` if given.
    """
    names = names_among(truths, predictions) if index is None else list(index)
    predictions, truths = (in_order("dice_table", x, names or ()) if has_names(x) else x for x in (predictions, truths))
    need(
        len(predictions) == len(truths),
        "dice_table",
        f"{len(predictions)} predictions and {len(truths)} truths",
        "as many of both",
    )
    rows = [dice(p, t, scheme) for p, t in zip(predictions, truths, strict=True)]
    return pd.DataFrame(rows, index=range(len(rows)) if names is None else names)
