"""Trainings of the joint space's table: which there are, how they are kept, and that they are not mixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shapelab.errors import DataError, UsageError
from shapelab.experiments.joint_space import hearts, laboratory
from shapelab.experiments.joint_space.laboratory import (
    AHEAD,
    EARLY,
    MAPS,
    JointExperiment,
    Laboratory,
    Training,
    run_one,
    run_share,
)
from shapelab.experiments.recipes import Order, recipes


def test_profiles():
    quick, full, paper = (JointExperiment.profile(name) for name in ("quick", "full", "paper"))
    assert quick.training == paper.training == 20 and (quick.folds, paper.folds) == (1, 5)
    assert full.network.shape == (72, 61, 84) and paper.network.shape == (144, 122, 168)
    assert set(quick.methods) >= {"CE-Reg", "l1-Reg", "2E-D", "E-D", "U-Net", "free decoder"}
    fine = laboratory.three_mm(50)
    assert fine.methods == full.methods and fine.network.grid.spacing == (3, 3, 3) and fine.network.code == 588
    with pytest.raises(UsageError, match="JointExperiment.methods: found 'V-Net'"):
        JointExperiment(methods=("V-Net",))
    with pytest.raises(UsageError, match="at most 5"):
        JointExperiment(folds=6)


def test_trainings_of_each_data_set(config):
    table = Laboratory(replace(config, seeds=(0, 4), folds=2)).trainings()
    assert len(table) == len(set(table)) == 2 * 2 * 3 + 1 and table[-1] == Training(EARLY)
    few = Laboratory(config, data="acdc").trainings()[len(config.methods) + 1 :]
    assert [t.labelled for t in few] == [2] * 4 + [None] and few[-1].method == MAPS
    assert len({t.name for t in few}) == 5 and few[0].name == "ce-reg-2-labelled-fold0-seed0"
    for wrong in ({"method": "V-Net"}, {"method": "E-D", "fold": 5}, {"method": "E-D", "seed": -1}):
        with pytest.raises(UsageError):
            Training(**wrong)


def test_steps_of_variants(config):
    here = Laboratory(config)
    usual = here.config_of(Training("E-D"))
    assert (usual.method, usual.steps, usual.label_lead) == ("E-D", 4, 0)
    longer = here.config_of(Training("E-D, equal time"))
    assert (longer.method, longer.steps, longer.every) == ("E-D", 8, 4)
    assert here.config_of(Training(EARLY)).steps == 2
    ahead = Laboratory(replace(config, network=replace(config.network, steps=9))).config_of(Training(AHEAD))
    assert (ahead.method, ahead.steps, ahead.label_lead) == ("CE-Reg", 9, 3)


def test_what_is_learned_from_few_labelled_patients(config, boxed, short_axis):
    here = Laboratory(config, data="acdc")
    whole, none = here.learned_from(Training("CE-Reg"))
    assert len(whole) == 8 and none is None
    few, none = here.learned_from(Training("E-D", labelled=2))
    assert len(few) == 2 and none is None
    same, maps = here.learned_from(Training(MAPS, labelled=2))
    assert np.array_equal(few.images, same.images) and len(maps) == 6 + 2  # the other patients', two phantoms'
    tested = {label.tobytes() for label in here.tested_on(0).labels}
    assert not tested & {label.tobytes() for label in short_axis.scheme.channels(maps[:6])}
    assert len(here.learned_from(Training(MAPS))[1]) == 2


def test_a_training_is_kept_measured_and_read_again(config, boxed, tmp_path, monkeypatch):
    here = Laboratory(config, tmp_path)
    training = Training("CE-Reg")
    assert not here.done(training)
    found = here.measured(training)
    assert set(found) == set(laboratory.PARTS) and here.done(training)
    dice = found[""]
    assert len(dice) == 4 * 8 and dice["ceiling"].notna().all() and (dice["seed"] == 0).all()
    curve = here.curve(training)
    assert curve["steps"].tolist() == [2, 4] and (np.diff(curve["spent"]) > 0).all()
    assert (curve["spent"].iloc[-1] < curve["seconds"].sum()) and "val CT" in curve
    monkeypatch.setattr(laboratory, "train_joint_space", lambda *a, **k: pytest.fail("trained again"))
    again = here.measured(training)
    pd.testing.assert_frame_equal(dice, again[""], check_exact=False, rtol=1e-4)


def test_the_ceiling_is_the_dice_of_label_maps_that_are_rebuilt(config, boxed, tmp_path):
    here = Laboratory(config, tmp_path)
    found = here.measured(Training("CE-Reg"))[""]
    test, space = here.tested_on(0), here.space(Training("CE-Reg"))
    expected = space.reconstruction_dice(test.scheme.integers(test.labels)).mean(1)
    ceiling = found[found["structure"] == "mean"].set_index("scan")["ceiling"]
    assert ceiling[test.table.index].to_numpy() == pytest.approx(expected, abs=1e-4)
    blind = here.measured(Training("U-Net"))
    assert blind[""]["ceiling"].isna().all() and "_walks" not in blind and "rank" not in blind["_codes"]


def test_results_of_another_run_are_not_taken(config, boxed, tmp_path):
    training = Training("E-D")
    Laboratory(config, tmp_path).measured(training)
    for other in (
        replace(config, network=replace(config.network, image_rate=0.1)),
        replace(config, training=3),
        replace(config, test=3),
    ):
        with pytest.raises(DataError, match="of another run"):
            Laboratory(other, tmp_path).measured(training)


def test_processes_share_a_study(config, boxed, tmp_path):
    where = {"folder": tmp_path, "profile": "quick", "config": config}
    run_share(1, 2, **where)
    folder = tmp_path / "phantom-wh_quick"
    assert sorted(p.name for p in folder.iterdir()) == ["ce-reg-early-fold0-seed0", "e-d-fold0-seed0"]
    assert len(run_one("U-Net", data="phantom", **where)) == 4 * 8 and (folder / "u-net-fold0-seed0").is_dir()
    with pytest.raises(UsageError, match="part: found 2"):
        run_share(2, 2, **where)


def test_the_recipe_learns_from_as_many_hearts_as_are_asked_for(boxed, monkeypatch, config):
    asked = []
    monkeypatch.setattr(laboratory, "train_joint_space", lambda *a, **k: asked.append((a, k)) or ("space", None))
    known = recipes()["joint-space"]
    assert known.learns_from == ("phantom", "phantom-wh", "mmwhs") and known.ships == "joint_space"
    assert known.train(Order("joint-space", data="phantom-wh", profile="quick", hearts=3, epochs=2)) == "space"
    scans, numbers, run = asked[0][0]
    assert len(scans) == 6 and numbers.steps == 2 * numbers.every and run.seed == 0
    known.train(Order("joint-space", data="mmwhs", profile="quick"))
    known.train(Order("joint-space", data="mmwhs", profile="quick", hearts=4))
    assert [len(a[0]) for a, _ in asked[1:]] == [10, 4] and "mmwhs" in asked[1][1]["data"]
    assert hearts.DATA == ("phantom-wh", "mmwhs", "acdc")


def test_what_ships_is_asked_for_by_its_recipe(monkeypatch):
    monkeypatch.setattr(laboratory, "shipped", lambda *asked: asked)
    assert laboratory.phantom_joint_space("quick", False) == ("joint-space", "quick", False)
