"""Trainings of the two-stage network's tables: which there are, how they are kept, and that they are not mixed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from shapelab.errors import DataError, UsageError
from shapelab.experiments.recipes import Order, recipes
from shapelab.experiments.two_stage import hearts, laboratory
from shapelab.experiments.two_stage.laboratory import (
    ABLATION,
    ALONE,
    END,
    JOINTLY,
    MAIN,
    MORE,
    Laboratory,
    Training,
    TwoStageExperiment,
    run_one,
    run_share,
)


def test_profiles():
    quick, full, paper = (TwoStageExperiment.profile(name) for name in ("quick", "full", "paper"))
    assert (quick.training, quick.test, quick.folds, quick.seeds) == (20, 40, 1, (0, 1, 2)) and paper.folds == 3
    assert quick.grid.shape == full.grid.shape == (128, 112, 128) and quick.grid.spacing == (1.5, 1.5, 1.5)
    assert sum(paper.network.steps) == 12_800 and full.methods == (*MAIN, END)
    with pytest.raises(UsageError, match="TwoStageExperiment.methods: found 'V-Net'"):
        TwoStageExperiment(methods=("V-Net",))
    with pytest.raises(UsageError, match="at most 4"):
        TwoStageExperiment(folds=5)


def test_trainings_in_the_order_of_their_value():
    all_of = Laboratory(TwoStageExperiment()).trainings()
    assert len({t.name for t in all_of}) == len(all_of) == 12 + 4 + 6
    assert [(t.method, t.modality, t.seed) for t in all_of[:12]] == [
        (method, modality, seed) for modality in ("CT", "MR") for seed in (0, 1, 2) for method in MAIN
    ]
    assert [t.method for t in all_of[12:16]] == [*ABLATION, ALONE] and {t.modality for t in all_of[12:16]} == {"CT"}
    assert [t.method for t in all_of[16:]] == [END, END, JOINTLY, JOINTLY, MORE, MORE]
    assert {t.table for t in all_of[16:20]} == {4} and [t.table for t in all_of[20:]] == [2, 3]
    assert all_of[0].name == "two-stage-ct-fold0-seed0"


def test_trainings_of_a_table_and_of_real_hearts():
    here = Laboratory(TwoStageExperiment(folds=2, seeds=(3,)))
    assert {t.modality for t in here.trainings(3)} == {"MR"} and len(here.trainings(3)) == 5
    assert sorted(here.trainings(2, 3, 4), key=str) == sorted(here.trainings(), key=str)
    assert {t.fold for t in here.trainings(2) if t.method in MAIN} == {0, 1} and here.trainings(4)[0].seed == 3
    real = Laboratory(TwoStageExperiment(), data="mmwhs").trainings()
    assert len(real) == 16 and not real[-1].table == 4
    for wrong in (
        {"method": "V-Net"},
        {"method": END, "fold": 4},
        {"method": END, "seed": -1},
        {"method": END, "modality": "PET"},
    ):
        with pytest.raises(UsageError):
            Training(**wrong)


def test_batches_of_each_method(config):
    here = Laboratory(replace(config, network=replace(config.network, steps=(1, 20, 300, 4000))))
    steps = {m: here.config_of(Training(m)).steps for m in laboratory.METHODS}
    assert steps["two-stage"] == steps["3D U-Net"] == steps[END] == steps[MORE] == steps[ALONE] == (1, 20, 300, 4000)
    assert steps["without step 1"] == (0, 20, 300, 4000)
    assert steps["without step 2"] == (1, 0, 300, 4000)
    assert steps["without step 3"] == (1, 20, 0, 4000)
    assert steps[JOINTLY] == (0, 0, 4321, 0)
    stages = {m: here.config_of(Training(m)).stages for m in laboratory.METHODS}
    assert stages.pop(ALONE) == 1 and set(stages.values()) == {2}


def test_what_is_learned_from(config, boxed):
    here = Laboratory(config)
    learned, watched = here.learned_from(Training("two-stage", seed=2, fold=3))
    assert (len(learned), len(watched)) == (3, 1) and boxed[-1]["seed"] == 71_002
    other, _ = here.learned_from(Training("3D U-Net", seed=2))
    assert set(other.table["patient"]) != set(learned.table["patient"])
    for method, n in ((END, 4), (MORE, 5)):
        learned, watched = here.learned_from(Training(method, "MR"))
        assert len(learned) == n and watched is None and (learned.table["modality"] == "MR").all()
    assert len(here.tested_on(Training(END))) == 2 and boxed[-1]["seed"] == 73_000
    assert len(here.tested_on(Training(MORE))) == 2 and boxed[-1]["seed"] == 72_000


def test_real_hearts_are_tested_on_those_left_out(config, mmwhs):
    here = Laboratory(config, data="mmwhs", root=mmwhs)
    tested = []
    for fold in range(hearts.FOLDS):
        training = Training("two-stage", "MR", fold=fold)
        learned, test = here.learned_from(training)[0], here.tested_on(training)
        assert (len(learned), len(test)) == (3, 1)
        assert not set(learned.table["patient"]) & set(test.table["patient"])
        tested += test.table["patient"].tolist()
    assert sorted(tested) == [f"mr_train_{n}" for n in (1001, 1002, 1003, 1004)]


def test_a_training_is_kept_measured_and_read_again(config, boxed, tmp_path, monkeypatch):
    here, training = Laboratory(config, tmp_path), Training("two-stage")
    assert not here.done(training)
    found = here.measured(training)
    assert set(found) == set(laboratory.PARTS) and here.done(training)
    assert found[""].groupby("method").size().to_dict() == {"Net1": 2 * 9, "Net2": 2 * 9}
    assert (found[""]["training"] == "two-stage").all() and found[""]["dice"].between(0, 1).all()
    judged = found["_hearts"]
    assert judged["method"].value_counts().to_dict() == {"given label maps": 2, "Net1": 2, "Net2": 2}
    assert (judged["seconds"].dropna() > 0).sum() == 4
    curve = here.curve(training)
    assert curve["stage"].tolist() == [1, 2, 3, 4] and (curve["modality"] == "CT").all()
    assert {"val net1", "val net2"} <= set(curve) and not (tmp_path / training.name / "training").exists()
    monkeypatch.setattr(laboratory, "train_two_stage", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(Laboratory, "_measure", lambda *a: pytest.fail("measured again"))
    again = here.measured(training)
    for part in laboratory.PARTS:
        pd.testing.assert_frame_equal(found[part], again[part], check_dtype=False, rtol=1e-4)


def test_what_is_half_measured_is_measured_from_the_network_that_is_kept(config, boxed, tmp_path, monkeypatch):
    here, training = Laboratory(config, tmp_path), Training("3D U-Net")
    first = here.measured(training)
    assert set(first[""]["method"]) == {"3D U-Net"}
    (tmp_path / training.name / "about_thin.json").unlink()
    assert not here.done(training)
    monkeypatch.setattr(laboratory, "train_unet", lambda *a, **k: pytest.fail("trained again"))
    assert len(here.measured(training)["_thin"]) == len(first["_thin"]) and here.done(training)


def test_what_each_network_segments_has_its_name(config):
    network = SimpleNamespace(segment=lambda volume: np.ones((2, 2, 2), np.uint8))
    assert [name for name, *_ in laboratory._segmented(network, None)] == ["3D U-Net"]


def test_net2_alone_is_measured_under_its_own_name(config, boxed):
    found = Laboratory(config).measured(Training(ALONE))
    assert set(found[""]["method"]) == {"Net2 alone"} and len(found[""]) == 2 * 9


def test_agreement_is_of_the_right_scan(config, boxed, monkeypatch):
    """A network that knows the first test heart alone."""
    here = Laboratory(config)
    test = here.tested_on(Training("3D U-Net"))
    maps = iter([test.labels[0], np.zeros_like(test.labels[1])])
    known = SimpleNamespace(segment=lambda volume: next(maps))
    found = here._measure(known, test)[""].set_index(["scan", "structure"])["dice"]
    assert (found[test.table.index[0]] == 1).all() and (found[test.table.index[1]] == 0).all()


def test_results_of_another_run_are_not_taken(config, boxed, tmp_path):
    training = Training("two-stage")
    Laboratory(config, tmp_path).measured(training)
    for other in (
        replace(config, network=replace(config.network, weight_decay=0.1)),
        replace(config, training=8),
        replace(config, test=3),
    ):
        with pytest.raises(DataError, match="of another run"):
            Laboratory(other, tmp_path).measured(training)


def test_processes_share_a_study(config, boxed, tmp_path):
    where = {"folder": tmp_path, "profile": "quick", "config": replace(config, methods=("3D U-Net", ALONE))}
    run_share(1, 2, **where)
    folder = tmp_path / "phantom-wh_quick"
    assert [p.name for p in folder.iterdir() if p.is_dir()] == ["3d-u-net-mr-fold0-seed0"]
    assert len(run_one(ALONE, data="phantom", **where)) == 2 * 9 and (folder / "net2-alone-ct-fold0-seed0").is_dir()
    with pytest.raises(UsageError, match="part: found 2"):
        run_share(2, 2, **where)


def test_the_recipe_learns_from_both_modalities(boxed, mmwhs, monkeypatch, config):
    asked, made = [], SimpleNamespace(metadata={})
    monkeypatch.setattr(laboratory, "train_two_stage", lambda *a, **k: asked.append((a, k)) or (made, None))
    monkeypatch.setattr(TwoStageExperiment, "profile", classmethod(lambda cls, name: config))
    known = recipes()["two-stage"]
    assert known.learns_from == ("phantom", "phantom-wh", "mmwhs") and known.ships == "two_stage_wh"
    assert known.train(Order("two-stage", data="phantom", profile="quick")) is made
    assert made.metadata == {"modalities": ["CT", "MR"]}  # what `shapelab predict` asks for
    assert [(a["modalities"], a["n"]) for a in boxed] == [(("CT",), 2), (("MR",), 2)]
    volumes, numbers, run = asked[0][0]
    assert len(volumes) == 4 and numbers == config.network and run.seed == 0
    known.train(Order("two-stage", data="mmwhs", root=mmwhs, profile="quick", hearts=3))
    known.train(Order("two-stage", data="mmwhs", root=mmwhs, profile="quick"))
    assert [len(a[0]) for a, _ in asked[1:]] == [6, 8] and "mmwhs" in asked[1][1]["data"]


def test_epochs_of_the_recipe_are_rows_of_each_steps_history(boxed, monkeypatch, config):
    asked = []
    monkeypatch.setattr(
        laboratory, "train_two_stage", lambda *a, **k: asked.append(a[1]) or (SimpleNamespace(metadata={}), None)
    )
    long = replace(config, network=replace(config.network, steps=(0, 3, 40, 50), every=5))
    monkeypatch.setattr(TwoStageExperiment, "profile", classmethod(lambda cls, name: long))
    recipes()["two-stage"].train(Order("two-stage", data="phantom-wh", profile="quick", epochs=2))
    assert asked[0].steps == (0, 3, 10, 10)


def test_what_ships_is_asked_for_by_its_recipe(monkeypatch):
    monkeypatch.setattr(laboratory, "shipped", lambda *asked: asked)
    assert laboratory.phantom_two_stage("quick", False) == ("two-stage", "quick", False)
