"""Which patients are learned from and which are tested."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shapelab.data.grid import Grid
from shapelab.errors import UsageError
from shapelab.experiments.joint_space import hearts


def table(n: int, groups: int) -> pd.DataFrame:
    """n patients with two scans each, groups one after the other, as ACDC has them."""
    patients = np.repeat([f"patient{i:03d}" for i in range(n)], 2)
    return pd.DataFrame({"patient": patients, "group": np.repeat(np.arange(n) // (n // groups), 2), "modality": "MR"})


def test_a_stretch_of_patients_has_a_share_of_every_group():
    of = table(80, 5).drop_duplicates("patient").set_index("patient")["group"]
    order = hearts.patients_in_order(table(80, 5))
    assert sorted(order) == sorted(of.index) and order == hearts.patients_in_order(table(80, 5))
    assert set(of[order[:5]]) == set(range(5))
    for part in np.array_split(order, 5):
        assert of[part].value_counts().between(3, 4).all()
    assert order != hearts.patients_in_order(table(80, 5), seed=1)


def test_folds_part_patients_and_cover_all(short_axis):
    tested = []
    for fold in range(5):
        train, test = hearts.fold_of(short_axis, fold)
        assert len(train) == 8 and len(test) == 2 and not set(train.table["patient"]) & set(test.table["patient"])
        tested += test.table["patient"].tolist()
    assert sorted(tested) == sorted(short_axis.table["patient"])


def test_label_maps_of_all_others_are_left_without_images(short_axis):
    few, others = hearts.few_labelled(short_axis, 3, seed=0)
    assert few.table["patient"].nunique() == 3 and len(others) == 7
    known = {label.tobytes() for label in few.labels} | {label.tobytes() for label in others}
    assert known == {label.tobytes() for label in short_axis.labels}


def test_phantoms_for_training_are_others_for_each_modality_seed_and_fold(boxed, monkeypatch):
    asked = []
    made = hearts.whole_heart_scans
    monkeypatch.setattr(hearts, "whole_heart_scans", lambda *a, **k: asked.append((a, k)) or made(*a, **k))
    scans = hearts.phantom_training(2, None, seed=3, fold=1)
    assert scans.table["modality"].tolist() == ["CT", "CT", "MR", "MR"] and scans.table["patient"].nunique() == 4
    assert [a[2] for a, _ in asked] == [61_103] * 2 and [k["first"] for _, k in asked] == [0, 2]
    test = hearts.phantom_test(2, None, 0)
    assert test.table["patient"].tolist() == ["phantom000"] * 2 + ["phantom001"] * 2
    assert asked[-1][0][2] == 62_000


def test_the_cache_of_a_test_names_its_contrasts(boxed, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(hearts, "whole_heart_scans", lambda *a, cache=None, **k: seen.append(cache.name))
    hearts.phantom_test(2, None, 0, folder=tmp_path)
    hearts.phantom_test(2, None, 0, hearts.UNSEEN, tmp_path)
    assert seen == ["scans-test-0-CT-MR.npz", "scans-test-0-CTlate-MRdarkblood.npz"]


def test_short_axis_maps_are_kept(tmp_path, monkeypatch):
    grid = Grid((12, 12, 6), (12.0, 12.0, 20.0))
    made = hearts.short_axis_maps(1, grid, tmp_path)
    assert made.shape == (2, 12, 12, 6) and set(np.unique(made)) == {0, 1, 2, 3}
    monkeypatch.setattr(hearts, "phantom_shapes", lambda *a: pytest.fail("drawn again"))
    assert np.array_equal(hearts.short_axis_maps(1, grid, tmp_path), made)


def test_an_unknown_data_set_is_named():
    with pytest.raises(UsageError, match="data: found 'cetus'"):
        hearts.real_scans("cetus", Grid((8, 8, 8), (12.0, 12.0, 12.0)))


@pytest.mark.realdata
@pytest.mark.slow
def test_real_hearts_on_the_grid(acdc_root, monkeypatch, tmp_path):
    from shapelab.data import open_cohort

    monkeypatch.setattr(hearts, "open_cohort", lambda data, root: open_cohort(data, root=root)[:4])
    scans = hearts.real_scans("acdc", Grid((32, 32, 16), (4.5, 4.5, 7.5)), acdc_root, tmp_path)
    assert len(scans) == 4 and (scans.table["modality"] == "MR").all() and scans.labels.max() == 3
    again = hearts.real_scans("acdc", scans.grid, acdc_root, tmp_path)
    assert np.array_equal(scans.images, again.images) and scans.table["patient"].equals(again.table["patient"])
