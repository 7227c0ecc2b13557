"""Folds by patient, and shuffles that keep what a fold holds."""

import numpy as np
import pandas as pd

from shapelab.latent.folds import draw_folds, shuffle_within


def test_shuffles_keep_the_classes_of_each_fold():
    truth = pd.Series(list("AAABBBCCC") * 4)
    parts = draw_folds(truth, truth, truth.index.to_series(), (4, 1), 0)[0]
    shuffled = shuffle_within(truth.to_numpy(), parts, np.random.default_rng(0))
    assert (shuffled != truth).any()
    for fold in parts:
        assert sorted(shuffled[fold.test]) == sorted(truth[fold.test])


def test_a_patient_is_in_one_fold_whatever_its_rows_are():
    names = [f"p{i}, visit {v}" for i in range(12) for v in (1, 2, 3)]
    who = pd.Series(names, index=names).str.split(",").str[0]
    truth = pd.Series(["A", "B", "A"] * 6 + ["B", "B", "B"] * 6, index=names)
    some = truth.iloc[:-3]
    for parts in draw_folds(truth, some, who, (3, 2), 1):
        assert sorted(np.concatenate([fold.test for fold in parts])) == list(range(33))
        for fold in parts:
            assert not set(who.iloc[fold.train]) & set(who.iloc[fold.test])
            assert sorted(fold.seen + fold.held_out) == sorted(set(who))
            mixed = [p for p in fold.held_out if int(p[1:]) < 6]
            assert len(mixed) == 2  # of six patients with both classes: a stratum of their own


def test_labels_are_shuffled_as_they_depend():
    names = [f"p{i:02d}, side {side}" for i in range(20) for side in "LR"]
    who = pd.Series(names, index=names).str[:3]
    table = pd.DataFrame({"group": np.repeat(["A", "B"] * 10, 2), "side": ["L", "R"] * 20}, index=names)
    for target, within in (("group", False), ("side", True)):
        truth = table[target]
        (parts,) = draw_folds(truth, truth, who, (4, 1), 0)
        shuffled = pd.Series(shuffle_within(truth.to_numpy(), parts, np.random.default_rng(0)), index=who.index)
        several = shuffled.groupby(who).nunique()
        assert (several == (2 if within else 1)).all() and (shuffled != truth).any()
        assert shuffled.value_counts().to_dict() == truth.value_counts().to_dict()
