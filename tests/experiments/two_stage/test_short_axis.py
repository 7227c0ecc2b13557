"""Real short-axis stacks: who is learned from and tested, what a training takes, how it is kept and measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shapelab.data.cohort import Cohort
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError
from shapelab.experiments.acnn.reality import TWINS
from shapelab.experiments.recipes import Order, recipes
from shapelab.experiments.two_stage import short_axis
from shapelab.experiments.two_stage.short_axis import (
    MEAN,
    ONE_STAGE,
    PHANTOMS,
    PHANTOMS_ONE,
    REAL_STEPS,
    SCRATCH,
    TWO_STAGE,
    Laboratory,
    ShortAxisExperiment,
    Training,
    few_patients,
    fold_of,
    measured_on,
    phantom_volumes,
    run_one,
    run_share,
    scored,
    short_axis_volumes,
)
from shapelab.models.two_stage import TwoStage, TwoStageNet, short_axis_config


def subject(label: np.ndarray, spacing=(1.0, 2.0, 10.0), patient="patient001", phase="ED", image=None) -> Subject:
    facts = {"patient": patient, "phase": phase, "group": "NOR"}
    return Subject(
        f"{patient}_{phase}", CARDIAC, label=label, image=image, affine=np.diag([*spacing, 1.0]), facts=facts
    )


def stack(slices=5) -> np.ndarray:
    """A heart in each slice: RV beside a wall round a cavity; smaller towards the end, the apex."""
    label = np.zeros((24, 20, slices), np.uint8)
    for z in range(slices):
        cut = z // 2
        label[2:6, 6 + cut : 14 - cut, z] = 1
        label[8 + cut : 20 - cut, 4 + cut : 16 - cut, z] = 2
        label[11 + cut : 17 - cut, 7 + cut : 13 - cut, z] = 3
    return label


def patients(numbers, groups=5) -> Cohort:
    """A patient a number, ED and ES, groups one after the other."""
    of = ("NOR", "DCM", "HCM", "MINF", "RV")
    made = []
    for i, n in enumerate(numbers):
        for phase in ("ED", "ES"):
            facts = {"patient": f"patient{n:03d}", "phase": phase, "group": of[i * groups // len(numbers)]}
            made.append(Subject(f"patient{n:03d}_{phase}", CARDIAC, label=stack(), facts=facts))
    return Cohort(made, "hearts", CARDIAC)


# -------------------------------------------------------------------------------------------------- who is learned from


def test_folds_are_disjoint_complete_and_stratified():
    cohort, tested = patients(range(1, 31)), []
    for fold in range(5):
        train, test = fold_of(cohort, fold)
        assert not set(train.patients) & set(test.patients) and len(train) + len(test) == len(cohort)
        assert len(test.patients) == 6 and set(test.table["group"]) == set(cohort.table["group"])
        tested += test.patients
    assert sorted(tested) == sorted(cohort.patients)
    with pytest.raises(UsageError, match="fold: found 5"):
        fold_of(cohort, 5)


def test_twins_are_never_torn_apart():
    cohort, with_one = patients(range(60, 90)), []
    for fold in range(5):
        train, test = fold_of(cohort, fold)
        if set(TWINS) & set(test.patients):
            assert not set(TWINS) & set(train.patients)
            with_one += [p for p in TWINS if p in test.patients]
        else:
            assert set(TWINS) <= set(train.patients)
    assert sorted(with_one) == sorted(TWINS)  # each is tested once


def test_few_patients_are_nested_and_of_every_group():
    cohort, before = patients(range(1, 31)), set()
    for n in (5, 10, 20):
        few = few_patients(cohort, n, seed=1)
        assert len(few.patients) == n and len(few) == 2 * n and before <= set(few.patients)
        assert few.table["group"].value_counts().tolist() == [2 * n // 5] * 5
        before = set(few.patients)
    assert set(few_patients(cohort, 5, 0).patients) != set(few_patients(cohort, 5, 1).patients)
    with pytest.raises(UsageError, match="patients: found 31; expected at most 30"):
        few_patients(cohort, 31, 0)


# ---------------------------------------------------------------------------------------------------------------- data


def test_whole_images_at_the_networks_spacing(stacks):
    image = np.zeros((24, 20, 5), np.float32)
    image[12:, :, :] = 100
    volume = short_axis_volumes(Cohort([subject(stack(), image=image)], "one", CARDIAC), stacks.network)[0]
    assert volume.image.shape == (16, 27, 5) and volume.spacing == (1.5, 1.5, 10)  # 24 and 40 mm
    assert volume.image.min() == -1 and volume.image.max() == 1
    assert (volume.image[1:7, 1:-1] == -1).all() and (volume.image[9:-1, 1:-1] == 1).all()
    area = (volume.label == 3).sum() * 1.5**2
    assert area == pytest.approx((stack() == 3).sum() * 2, rel=0.25)


def test_a_training_field_has_the_heart_in_its_middle(stacks):
    image = np.random.default_rng(0).random((60, 50, 5)).astype(np.float32)
    label = np.zeros((60, 50, 5), np.uint8)
    label[34:58, 3:23] = stack()
    one = Cohort([subject(label, (1.5, 1.5, 8.0), image=image)], "one", CARDIAC)
    volume, whole = (short_axis_volumes(one, stacks.network, about)[0] for about in (True, False))
    assert volume.image.shape == (38, 38, 5) and volume.spacing == (1.5, 1.5, 8)  # 32 and a tenth on each side
    found = np.argwhere(volume.label.any(2))
    assert np.allclose((found.min(0) + found.max(0)) / 2, 18.5, atol=1)
    assert (volume.label > 0).sum() == (label > 0).sum() == (whole.label > 0).sum()
    assert (volume.image[volume.label == 3] == whole.image[whole.label == 3]).all()  # one scale, that of the image
    outside = volume.image[-1]  # the heart is near the image's edge
    assert (outside == -1).all() and not volume.label[-1].any()


def test_stacks_without_an_image_or_a_heart_are_named(stacks):
    with pytest.raises(DataError, match="patient001_ED: found no image"):
        short_axis_volumes(Cohort([subject(stack())], "one", CARDIAC), stacks.network)
    empty = subject(np.zeros((24, 20, 5), np.uint8), image=np.ones((24, 20, 5), np.float32))
    with pytest.raises(DataError, match="patient001_ED: found nothing labelled"):
        short_axis_volumes(Cohort([empty], "one", CARDIAC), stacks.network, about_heart=True)


def test_phantom_stacks_are_those_of_the_native_network(stacks, acdc):
    from shapelab.experiments.acnn.reality import TRAINING_SEED, phantom_stacks

    made = phantom_volumes(1, stacks.network)
    expected = [*phantom_stacks(1, 1.5, TRAINING_SEED, pixels=short_axis.FIELD_PX)]
    assert len(made) == 2 and [v.spacing for v in made] == [(1.5, 1.5, d) for _, _, d in expected]
    for volume, (image, label, _) in zip(made, expected, strict=True):
        assert np.array_equal(volume.label, label) and label.shape[:2] == (176, 176)
        assert label.max() == 4  # the RV's wall, for the looks
        inside = np.abs(volume.image) < 0.99
        assert np.corrcoef(volume.image[inside], image[inside])[0, 1] > 0.999


# ------------------------------------------------------------------------------------------------------------ measures


def test_a_perfect_map_and_one_with_mistakes_by_hand():
    truth = stack()
    perfect = scored(truth, subject(truth)).set_index("structure")
    assert (perfect[["dice", "dice_base", "dice_apex"]] == 1).all(axis=None)
    assert (perfect[["hd", "hd95", "assd"]] == 0).all(axis=None)
    cavity = (truth == 3).sum() * 20 / 1000  # voxels of 1 x 2 x 10 mm
    assert perfect.loc["LV cavity", ["volume", "volume_truth"]].tolist() == pytest.approx([cavity, cavity])

    wrong = truth.copy()
    wrong[:, :, -1] = 0  # nothing at the apex
    wrong[2:6, :10, 0][wrong[2:6, :10, 0] == 1] = 0  # half of the RV at the base
    found = scored(wrong, subject(truth)).set_index("structure")
    assert found["dice_apex"].tolist() == [0, 0, 0, 0]
    assert found.loc["RV cavity", "dice_base"] == pytest.approx(2 * 16 / (16 + 32))
    assert found.loc["LV cavity", "dice_base"] == 1 and found.loc["LV cavity", "hd"] == 10  # one slice
    assert found.loc[MEAN, "dice_base"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert found.loc[MEAN, "dice"] == pytest.approx(found["dice"].iloc[:3].mean()) and not found.loc[MEAN, "missed"]


def test_base_and_apex_are_told_from_the_heart_and_not_from_the_files_order():
    truth, wrong = stack(), stack()
    wrong[:, :, 0] = 0
    kept = scored(wrong, subject(truth)).set_index("structure")
    turned = scored(wrong[:, :, ::-1].copy(), subject(truth[:, :, ::-1].copy())).set_index("structure")
    for found in (kept, turned):
        assert found.loc[MEAN, "dice_base"] == 0 and found.loc[MEAN, "dice_apex"] == 1


def test_what_was_missed_is_infinitely_far_and_what_nobody_drew_is_not_counted():
    truth = stack()
    truth[:, :, -1][truth[:, :, -1] == 1] = 0  # no RV at the apex
    wrong = truth.copy()
    wrong[wrong == 1] = 0
    found = scored(wrong, subject(truth)).set_index("structure")
    assert found.loc["RV cavity", ["dice", "hd95", "missed"]].tolist() == [0, np.inf, True]
    assert found.loc["RV cavity", "volume"] == 0 and np.isnan(found.loc["RV cavity", "dice_apex"])
    assert np.isinf(found.loc[MEAN, "hd95"]) and found.loc[MEAN, "missed"]
    assert found.loc[MEAN, "dice"] == pytest.approx(2 / 3) and found.loc[MEAN, "dice_apex"] == 1
    assert np.isnan(found.loc[MEAN, "volume"])


class Told:
    """Finds the structures that an image shows by their brightness."""

    scheme = CARDIAC

    def predict(self, image, spacing):
        return np.rint(image).astype(np.uint8)


def test_a_cohort_is_measured_in_its_own_voxels():
    bad = stack()
    bad[12, 8:10, 2] = 0  # a hole in a cavity
    images = [stack().astype(np.float32), bad.astype(np.float32)]
    cohort = Cohort(
        [subject(stack(), phase=p, image=i) for p, i in zip(("ED", "ES"), images, strict=True)], "two", CARDIAC
    )
    found = measured_on(Told(), cohort)
    assert len(found) == 2 * 4 and (found["seconds"] > 0).all()
    by = found.groupby("phase")[["violations", "plausible"]].first()
    assert by["violations"].tolist() == [0, 2] and by["plausible"].tolist() == [True, False]  # a hole, and a leak to it
    dice = found.set_index(["phase", "structure"])["dice"]
    n = (stack() == 3).sum()
    assert dice["ED", MEAN] == 1 and dice["ES", "LV cavity"] == pytest.approx(2 * (n - 2) / (2 * n - 2))


def test_in_use_the_nets_see_a_field_with_the_heart_in_its_middle(stacks):
    """As they saw in training, also where the heart lies beside the middle of the image."""
    seen = []

    class Oracle(TwoStage):
        def segment(self, volume, net=2):
            seen.append((volume, net))
            return np.digitize(volume.image, [-0.5, 0, 0.5]).astype(np.uint8)

        def averaged(self, volume):
            label = self.segment(volume)
            return np.stack([label == c for c in range(4)]).astype(np.float32)

    label = np.zeros((60, 50, 5), np.uint8)
    label[22:46, 8:28] = stack()
    label[28:30, 16:20] = 1  # RV and LV touch: one piece
    two, one = (replace(stacks.network, stages=n) for n in (2, 1))
    for config in (two, one):
        made = Oracle(TwoStageNet(config), config, CARDIAC).predict(label.astype(np.float32), (1.5, 1.5, 8.0))
        assert (made == label).mean() > 0.995 and (made == 1).sum() > 0.9 * (label == 1).sum()
    assert [net for _, net in seen] == [1, 2, 2, 2]  # Net1 finds it, where there is one
    for (first, _), (second, _) in zip(seen[::2], seen[1::2], strict=True):
        for volume in (first, second):
            assert volume.image.shape == (32, 32, 5) and volume.spacing == (1.5, 1.5, 8)
        found = np.argwhere((second.image > -0.9).any(2))
        assert np.allclose((found.min(0) + found.max(0)) / 2, 15.5, atol=2)
        assert not np.allclose(first.image, second.image)


# ---------------------------------------------------------------------------------------------------------- laboratory


def test_profiles_and_what_is_refused():
    quick, full = (ShortAxisExperiment.profile(name) for name in ("quick", "full"))
    assert quick.network == short_axis_config("quick", **REAL_STEPS["quick"])  # shorter than what phantoms teach
    assert full.network == short_axis_config("full")
    assert quick.folds == 5 and quick.patients == (5, 10, 20, 60)
    for wrong, said in (({"folds": 6}, "at most 5"), ({"hearts": 0}, "hearts"), ({"seeds": ()}, "seeds")):
        with pytest.raises(UsageError, match=said):
            ShortAxisExperiment(**wrong)
    for wrong in ({"method": "V-Net"}, {"method": TWO_STAGE, "fold": 5}, {"method": PHANTOMS, "fold": 1}):
        with pytest.raises(UsageError):
            Training(**wrong)
    with pytest.raises(UsageError, match="patients: found 0"):
        Training(TWO_STAGE, patients=0)


def test_trainings_in_order_of_value():
    found = Laboratory(ShortAxisExperiment()).trainings()
    names = [t.name for t in found]
    assert len(names) == len(set(names)) == 2 + 5 + 5 + 5 + 3 * 4 * 2
    assert [t.method for t in found[:12]] == [PHANTOMS, PHANTOMS_ONE] + [TWO_STAGE] * 5 + [ONE_STAGE] * 5
    assert [t.fold for t in found[2:12]] == [*range(5)] * 2
    few = found[12:20]
    assert {t.method for t in few} == {TWO_STAGE, SCRATCH} and {t.seed for t in few} == {0}
    assert [t.patients for t in few] == [5, 5, 10, 10, 20, 20, 60, 60]
    assert found[20] == Training(SCRATCH) and {t.seed for t in found[21:37]} == {1, 2}
    assert names[0] == "phantoms-seed0" and names[13] == "two-stage-scratch-5-patients-fold0-seed0"


def test_numbers_of_each_method(stacks):
    here = Laboratory(stacks)
    two, one, taught = (here.config_of(Training(m)) for m in (TWO_STAGE, ONE_STAGE, PHANTOMS))
    assert (two.stages, one.stages, taught.stages) == (2, 1, 2)
    assert two.steps == one.steps == stacks.network.steps and taught.steps == (1, 0, 0, 1)
    assert two.looks.surroundings == 0.1 and taught.looks == stacks.network.looks  # real scans have their own
    assert two.looks.missing == 0 and here.config_of(Training(SCRATCH)) == two
    few = here.config_of(Training(TWO_STAGE, patients=2))
    assert few == replace(two, steps=stacks.few) != two


def test_a_training_is_kept_measured_and_read_again(stacks, acdc, tmp_path, monkeypatch):
    here, training = Laboratory(stacks, tmp_path / "kept", acdc), Training(TWO_STAGE)
    assert not here.done(training)
    found = here.measured(training)
    assert here.done(training) and len(found) == 4 * 4 and set(found["method"]) == {TWO_STAGE}
    assert set(found["patient"]) == set(fold_of(here.cohort, 0)[1].patients)
    assert found["patients"].isna().all() and (found["fold"] == 0).all()
    assert (tmp_path / "kept" / "phantoms-seed0" / "network").is_dir() and not here.done(Training(PHANTOMS))
    curve = here.curve(training)
    assert curve["stage"].tolist() == [1, 2, 3, 4] and (np.diff(curve["spent"]) > 0).all()
    assert "val net2" in curve and not (tmp_path / "kept" / training.name / "training").exists()
    monkeypatch.setattr(short_axis, "train_two_stage", lambda *a, **k: pytest.fail("trained again"))
    again = here.measured(training)
    pd.testing.assert_frame_equal(found, again, check_exact=False, rtol=1e-4, check_dtype=False)


def test_what_each_training_begins_from_and_learns_from(stacks, acdc, tmp_path, monkeypatch):
    asked, made = [], short_axis.train_two_stage
    monkeypatch.setattr(short_axis, "train_two_stage", lambda *a, **k: asked.append((a, k)) or made(*a, **k))
    here = Laboratory(stacks, tmp_path / "kept", acdc)
    for training in (Training(SCRATCH, patients=2), Training(ONE_STAGE)):
        here.network(training)
    (scratch, of_scratch), (phantoms, of_phantoms), (one, of_one) = asked
    assert of_scratch["start"] is None and len(scratch[0]) == 4 and scratch[1].stages == 2
    assert of_phantoms.get("start") is None and len(phantoms[0]) == 2 and phantoms[1].stages == 1
    assert of_one["start"].config == phantoms[1] and len(one[0]) == 16 and one[1].stages == 1
    watched = of_one["validation"]
    assert len(watched) == 1 and watched[0].image.shape == (38, 38, 5)  # the field of a training


def test_results_of_another_run_are_not_taken(stacks, acdc, tmp_path):
    training, folder = Training(SCRATCH, patients=2), tmp_path / "kept"
    Laboratory(stacks, folder, acdc).measured(training)
    other = replace(stacks, network=replace(stacks.network, margin_mm=5.0))
    with pytest.raises(DataError, match="of another run"):
        Laboratory(other, folder, acdc).measured(training)


def test_weights_that_ship_are_begun_from(stacks, acdc, tmp_path, monkeypatch):
    here = Laboratory(stacks, tmp_path / "kept", acdc)
    here.network(Training(PHANTOMS)).save(tmp_path / "weights" / "two_stage_sa_quick")
    monkeypatch.setattr(short_axis, "train_two_stage", lambda *a, **k: pytest.fail("trained again"))
    fresh = Laboratory(stacks, tmp_path / "others", acdc)
    assert fresh.network(Training(PHANTOMS)).config == here.config_of(Training(PHANTOMS))
    with pytest.raises(pytest.fail.Exception, match="trained again"):  # other numbers are not those that ship
        Laboratory(replace(stacks, taught=(1, 0, 0, 2)), tmp_path / "more", acdc).network(Training(PHANTOMS))


def test_processes_share_a_study(stacks, acdc, tmp_path):
    where = {"folder": tmp_path / "out", "root": acdc, "profile": "quick", "config": replace(stacks, folds=1)}
    run_share(1, 4, **where)
    folder = tmp_path / "out" / "acdc_quick"
    done = {p.parent.name for p in folder.glob("*/about.json")}
    assert done == {"phantoms-one-stage-seed0", "two-stage-scratch-2-patients-fold0-seed0"}
    assert len(run_one(ONE_STAGE, **where)) == 16
    with pytest.raises(UsageError, match="part: found 2"):
        run_share(2, 2, **where)
    with pytest.raises(UsageError, match="method: found 'V-Net'"):
        run_one("V-Net", **where)


# -------------------------------------------------------------------------------------------------------------- recipe


def test_the_recipe_learns_from_phantoms_and_from_real_hearts(acdc, monkeypatch):
    asked = []
    monkeypatch.setattr(short_axis, "train_two_stage", lambda *a, **k: asked.append((a, k)) or ("nets", None))
    monkeypatch.setattr(short_axis, "phantom_short_axis", lambda *a: "taught by phantoms")
    known = recipes()["two-stage-sa"]
    assert known.ships == "two_stage_sa" and {"phantom", "acdc", "folder"} <= set(known.learns_from)
    assert known.train(Order("two-stage-sa", profile="quick", hearts=1, progress=False)) == "nets"
    known.train(Order("two-stage-sa", data="acdc", root=acdc, profile="quick", hearts=3, progress=False))
    (phantoms, of_phantoms), (real, of_real) = asked
    assert len(phantoms[0]) == 2 and of_phantoms["data"] == "1 phantom hearts, ED and ES, seed 30000"
    assert phantoms[1] == short_axis_config("quick") and of_phantoms["scheme"] == CARDIAC
    assert len(real[0]) == 6 and of_real["start"] == "taught by phantoms" and real[1].looks.surroundings == 0.1
    with pytest.raises(UsageError, match="counts batches"):
        known.train(Order("two-stage-sa", profile="quick", epochs=3))


def test_what_ships_is_asked_for_by_its_recipe(monkeypatch):
    monkeypatch.setattr(short_axis, "shipped", lambda *asked: asked)
    assert short_axis.phantom_short_axis("quick", False) == ("two-stage-sa", "quick", False)


@pytest.mark.realdata
@pytest.mark.slow
def test_real_patients_in_five_folds(acdc_root):
    here = Laboratory(ShortAxisExperiment(), None, acdc_root)
    tested = []
    for fold in range(5):
        train, test = fold_of(here.cohort, fold)
        assert not set(train.patients) & set(test.patients)
        assert not (set(TWINS) & set(test.patients) and set(TWINS) & set(train.patients))
        assert set(test.table["phase"]) == {"ED", "ES"} and len(test) == 2 * len(test.patients)
        tested += test.patients
    assert sorted(tested) == sorted(here.cohort.patients) and len(tested) >= 80
    few = here.learned_from(Training(TWO_STAGE, patients=60))
    assert len(few.patients) == 60 and not set(few.patients) & set(fold_of(here.cohort, 0)[1].patients)


@pytest.mark.realdata
@pytest.mark.slow
def test_real_stacks_lie_in_the_field_of_a_training(acdc_root):
    from shapelab.experiments.shipped import cardiac_cohort

    cohort, config = cardiac_cohort("acdc", acdc_root)[:6], short_axis_config("quick")
    whole, about = (short_axis_volumes(cohort, config, heart) for heart in (False, True))
    for one, other in zip(whole, about, strict=True):
        assert other.image.shape[:2] == (192, 192) and (one.label > 0).sum() == (other.label > 0).sum()
        inside = other.label[16:-16, 16:-16]  # Net1's field
        assert (inside > 0).sum() == (other.label > 0).sum()
        dark, bright = (float(other.image[other.label == v].mean()) for v in (2, 3))
        assert bright > dark + 0.3  # blood against wall
