"""Which hearts are learned from and which are tested."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.data.grid import Grid
from shapelab.errors import DataError, UsageError
from shapelab.experiments.joint_space import hearts as joint_hearts
from shapelab.experiments.two_stage import hearts


def test_the_field_is_192_by_168_by_192_mm():
    assert hearts.field((1.5, 1.5, 1.5)) == Grid((128, 112, 128), (1.5, 1.5, 1.5))
    assert hearts.field((2.0, 3.0, 6.0)).shape == (96, 56, 32)


def test_training_hearts_of_modalities_and_seeds_are_others(boxed, tmp_path):
    grid = hearts.field((12.0, 12.0, 12.0))
    ct, mr = (hearts.phantom_training(3, kind, grid, 2, tmp_path) for kind in hearts.MODALITIES)
    assert not set(ct.table["patient"]) & set(mr.table["patient"])
    assert (ct.table["modality"] == "CT").all() and (mr.table["modality"] == "MR").all()
    assert [(a["seed"], a["first"]) for a in boxed] == [(71_002, 0), (71_002, 500)]
    assert [a["cache"].name for a in boxed] == ["scans-training-CT-3-2.npz", "scans-training-MR-3-2.npz"]
    many = hearts.phantom_training(5, "CT", grid, 2)
    assert np.array_equal(many.labels[:3], ct.labels) and boxed[-1]["cache"] is None


def test_tests_are_unseen_hearts_and_those_of_table_4_others_again(boxed, tmp_path):
    grid = hearts.field((12.0, 12.0, 12.0))
    tests = [hearts.phantom_test(2, "CT", grid, table, tmp_path) for table in (2, 3, 4)]
    assert [a["seed"] for a in boxed] == [72_000, 72_000, 73_000]
    assert [a["cache"].name for a in boxed] == [f"scans-{n}-CT.npz" for n in ("test", "test", "second-test")]
    assert np.array_equal(tests[0].labels, tests[1].labels) and not np.array_equal(tests[0].labels, tests[2].labels)
    mr = hearts.phantom_test(2, "MR", grid, 3)
    assert np.array_equal(mr.labels, tests[0].labels)  # one anatomy in both modalities
    with pytest.raises(UsageError, match="modality: found 'PET'"):
        hearts.phantom_test(2, "PET", grid, 2)


def test_no_experiment_of_whole_hearts_draws_from_these_seeds():
    ours, theirs = hearts.SEEDS.values(), joint_hearts.SEEDS.values()
    assert len(set(ours)) == 3 and min(ours) > max(theirs) + 100 * joint_hearts.FOLDS


def test_folds_leave_each_patient_out_once(scans):
    left_out = []
    for fold in range(hearts.FOLDS):
        learned, out = hearts.fold_of(scans, fold)
        assert len(learned) == 6 and len(out) == 2 and set(out.table["group"]) == {"g0", "g1"}
        assert not set(learned.table["patient"]) & set(out.table["patient"])
        left_out += out.table["patient"].tolist()
    assert sorted(left_out) == sorted(scans.table["patient"])


def test_twenty_hearts_are_parted_into_15_and_5(boxed):
    scans = hearts.phantom_training(20, "CT", Grid((16, 14, 16), (12.0, 12.0, 12.0)), 0)
    assert [len(part) for part in hearts.fold_of(scans, 2)] == [15, 5]


def test_mmwhs_on_the_grid(mmwhs, tmp_path):
    grid = hearts.field((12.0, 12.0, 12.0))
    mr = hearts.real_scans("MR", grid, mmwhs, tmp_path)
    assert mr.table["patient"].tolist() == [
        f"mr_train_{n}" for n in (1001, 1002, 1003, 1004)
    ]  # the test's: no label map
    assert set(np.unique(mr.labels)) == set(range(8)) and mr.grid == grid
    again = hearts.real_scans("MR", grid, mmwhs, tmp_path)
    assert (tmp_path / "scans-mmwhs-MR.npz").is_file() and np.array_equal(mr.images, again.images)
    with pytest.raises(DataError):
        hearts.real_scans("MR", grid, mmwhs / "ct_train")
