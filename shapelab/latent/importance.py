"""Which dimensions of a space the trees use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shapelab.errors import must, one_of, whole
from shapelab.latent.codes import dimension_of

if TYPE_CHECKING:
    from shapelab.latent.results import ClassificationResult

DRAWS = 5  # replacement values per held-out patient and column
MEASURES = ("impurity", "held_out")


def held_out_importance(
    model, x_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Permutation importance of each column on held-out patients.

    Mean drop of the probability given to the true class when a column's value is replaced by that of a random
    training patient. (A fold holds some five patients: shuffling among them would change little, and counting right
    answers would be coarse.) All columns are predicted in one call, which makes it cheap.

    Args:
        model: fitted classifier with `predict_proba`
        x_train: (n, F)
        x_test: (m, F)
        y_test: (m,)

    Returns:
        (F,) float64
    """
    m, f = x_test.shape
    place = {c: i for i, c in enumerate(model.classes_)}
    true_class = np.array([place.get(y, -1) for y in y_test])
    known = true_class >= 0  # a class that no training patient had has no probability
    if not known.any():
        return np.zeros(f)
    x_test, true_class, m = x_test[known], true_class[known], int(known.sum())
    changed = np.broadcast_to(x_test, (f, DRAWS, m, f)).copy()
    donors = generator.integers(len(x_train), size=(f, DRAWS, m))
    column = np.arange(f)[:, None, None]
    changed[column, np.arange(DRAWS)[:, None], np.arange(m), column] = x_train[donors, column]
    before = model.predict_proba(x_test)[np.arange(m), true_class]
    after = model.predict_proba(changed.reshape(-1, f)).reshape(f, DRAWS, m, -1)
    return (before - after[:, :, np.arange(m), true_class]).mean(axis=(1, 2))


def dimension_importance(result: ClassificationResult, by: str = "impurity", **keys) -> pd.Series:
    """Importance of each dimension of the space, largest first: the sum over its columns (ED, ES, difference).

    Args:
        result: of `classification_report`
        by: "impurity" or "held_out"
        keys: features, phases, model; those left out take the result's first row

    Returns:
        Series, index = dimension (int)

    Raises:
        UsageError: features that are no codes, or codes of a space fitted in each fold, whose dimension 7 is another
            direction in every fold; classify the codes of one space for this
    """
    one_of("dimension_importance: by", by, MEASURES)
    rows = result.select("importances", **keys)
    must(
        not rows.empty,
        "dimension_importance",
        "a result without importances",
        "importances=True, and not the shuffled control",
    )
    must(
        rows["fixed"].all(),
        "dimension_importance",
        "codes of a space fitted in each fold, whose dimensions differ from fold to fold",
        "a result from the codes of one space",
    )
    dimensions = rows["column"].map(dimension_of).rename("dimension")
    return rows.groupby(dimensions)[by].sum().sort_values(ascending=False, kind="stable")


def important_dimensions(result: ClassificationResult, k: int = 2, by: str = "impurity", **keys) -> list[int]:
    """The k dimensions that the trees use most, most used first; for `shapelab.latent.traverse`."""
    ranked = dimension_importance(result, by, **keys)
    return [int(i) for i in ranked.index[: whole("important_dimensions: k", k, 1, len(ranked))]]
