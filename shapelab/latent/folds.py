"""Folds of a cross-validation by patient, and labels shuffled within them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import RepeatedStratifiedKFold


class Fold(NamedTuple):
    """One fold: positions among the rows that take part, the names of all patients on either side, and the number of
    the patient of each row in `test`."""

    train: np.ndarray
    test: np.ndarray
    seen: list
    held_out: list
    patient: np.ndarray


def draw_folds(
    everyone: pd.Series, truth: pd.Series, who: pd.Series, splits: tuple[int, int], seed: int
) -> list[list[Fold]]:
    """The folds of each repeat, drawn on all patients; groups too small to be spread over the folds are one stratum.

    Args:
        everyone: class of each row, index = its name
        truth: class of each row that takes part
        who: patient of each row. One whose rows are of several classes is of the class of all of them
        splits: folds, repeats
        seed: of the draw
    """
    n_splits, n_repeats = splits
    everyone = everyone.astype(str).groupby(who[everyone.index]).agg(lambda values: "+".join(sorted(set(values))))
    taking_part = who[truth.index]
    number = pd.factorize(taking_part)[0]
    small = everyone.map(everyone.value_counts()) < n_splits
    strata = everyone.where(~small, "(small)").to_numpy()
    splitter = RepeatedStratifiedKFold(n_splits=n_splits, n_repeats=n_repeats, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # the small ones, left out or checked
        pairs = list(splitter.split(np.zeros(len(everyone)), strata))
    folds = []
    for train, test in pairs:
        seen, held_out = list(everyone.index[train]), list(everyone.index[test])
        inner, outer = (np.flatnonzero(taking_part.isin(names)) for names in (seen, held_out))
        folds.append(Fold(inner, outer, seen, held_out, number[outer]))
    return [folds[r * n_splits : (r + 1) * n_splits] for r in range(n_repeats)]


def shuffle_within(labels: np.ndarray, folds: Sequence[Fold], generator: np.random.Generator) -> np.ndarray:
    """Labels shuffled among the patients of each test fold; within each patient where one has several labels."""
    shuffled = labels.copy()
    for fold in folds:
        here = labels[fold.test]
        _, first, number = np.unique(fold.patient, return_index=True, return_inverse=True)
        if (here[first][number] == here).all():
            shuffled[fold.test] = generator.permutation(here[first])[number]
        else:
            for patient in range(len(first)):
                rows = fold.test[number == patient]
                shuffled[rows] = generator.permutation(labels[rows])
    return shuffled
