"""What a classification of shape codes found: predictions, scores, importances."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from sklearn.metrics import confusion_matrix

from shapelab.errors import must, one_of

KEYS = ["features", "phases", "model"]


@dataclass(frozen=True, eq=False)
class ClassificationResult:
    """What a classification gave.

    Attributes:
        table: one row per (features, phases, model), see `classify`
        predictions: one row per held-out prediction: features, phases, model, repeat, fold, patient, truth, predicted,
            and the probability of each class, columns p_<class>
        importances: one row per (features, phases, model, column): `impurity` (mean decrease, mean over all folds'
            models; a row sums to 1), `held_out` (mean drop of the true class's probability for held-out patients when
            the column is replaced by other patients' values), `fixed` (whether the column means the same in every fold)
        classes: sorted
        folds: (patients seen, patients held out) of every fold of every repeat, those of groups left out among them
    """

    table: pd.DataFrame
    predictions: pd.DataFrame
    importances: pd.DataFrame
    classes: tuple
    folds: tuple[tuple[list, list], ...] = ()

    def select(self, frame: str = "predictions", **keys) -> pd.DataFrame:
        """Rows of `predictions`, `importances` or `table` of one (features, phases, model); phases as "ED+ES".

        Keys that are not given take their first value in `table`, as classify's first row.
        """
        rows = getattr(self, frame)
        for key in KEYS:
            value = keys.pop(key, self.table[key].iloc[0])
            rows = rows[rows[key] == one_of(f"ClassificationResult: {key}", value, self.table[key].unique())]
        must(not keys, "ClassificationResult", sorted(keys), f"keys among {KEYS}")
        return rows

    def confusion(self, normalise: bool = False, **keys) -> pd.DataFrame:
        """Confusion matrix (rows truth, columns predicted): patients, mean over repeats, or shares of a row."""
        rows = self.select("predictions", **keys)
        counts = confusion_matrix(rows["truth"], rows["predicted"], labels=list(self.classes))
        counts = counts / rows["repeat"].nunique()
        if normalise:
            counts = counts / counts.sum(axis=1, keepdims=True)
        return pd.DataFrame(
            counts, index=pd.Index(self.classes, name="truth"), columns=pd.Index(self.classes, name="predicted")
        )
