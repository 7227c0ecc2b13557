"""Tables of real short-axis stacks: worked out by hand, and the door that makes them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.experiments.two_stage import short_axis_tables as tables
from shapelab.experiments.two_stage.short_axis import (
    MEAN,
    METHODS,
    ONE_STAGE,
    PHANTOMS,
    SCRATCH,
    TWO_STAGE,
    Laboratory,
    Training,
)


def cases(method: str, dice: dict, seed=0, fold=0, patients=np.nan, hd95=4.0, volume=1.0, plausible=True):
    """Cases of patients: name -> Dice at ED and at ES, the same of every structure; volumes by hand are 100 ml at ED
    and 40 ml at ES, the automatic ones `volume` times those at ED and equal at ES."""
    rows = []
    for patient, both in dice.items():
        for phase, d, by_hand in zip(("ED", "ES"), both, (100.0, 40.0), strict=True):
            for structure in (*CARDIAC.names, MEAN):
                known = structure != MEAN
                automatic = by_hand * (volume if phase == "ED" else 1)
                row = {"method": method, "seed": seed, "fold": fold, "patients": patients, "patient": patient}
                row |= {"subject": f"{patient}_{phase}", "phase": phase, "structure": structure, "dice": d}
                row |= {"hd": 2 * hd95, "hd95": hd95, "assd": 1.0, "missed": np.isinf(hd95), "seconds": 2.0}
                row |= {"volume": automatic if known else np.nan, "volume_truth": by_hand if known else np.nan}
                row |= {"dice_base": d / 2, "dice_apex": d / 4, "plausible": plausible}
                rows.append({**row, "violations": 0 if plausible else 3})
    return pd.DataFrame(rows)


TWO = {"a": (0.9, 0.8), "b": (0.7, 0.6)}
ONE = {"a": (0.8, 0.7), "b": (0.7, 0.4)}


@pytest.fixture
def both():
    return pd.concat([cases(TWO_STAGE, TWO), cases(ONE_STAGE, ONE, hd95=9.0, plausible=False)], ignore_index=True)


def test_means_over_patients_and_over_stacks(both):
    found = tables.main_table(both)
    assert list(found.columns) == list(tables.COLUMNS)
    row = found.set_index(["part", "what", "measure", "method"])
    people = row.loc[("patients", MEAN, "dice", TWO_STAGE)]
    assert people["mean"] == pytest.approx(0.75) and people["n"] == 2  # .85 and .65
    assert people["sd"] == pytest.approx(0.2 / np.sqrt(2)) and (people["low"], people["high"]) == pytest.approx(
        (0.65, 0.85)
    )
    stacks = row.loc[("stacks", MEAN, "dice", TWO_STAGE)]
    assert stacks["n"] == 4 and stacks["sd"] == pytest.approx(np.std([0.9, 0.8, 0.7, 0.6], ddof=1))
    assert row.loc[("ED", "LV cavity", "dice", TWO_STAGE), "mean"] == pytest.approx(0.8)
    assert row.loc[("ES", "RV cavity", "dice", ONE_STAGE), "mean"] == pytest.approx(0.55)
    assert row.loc[("stacks", MEAN, "dice_base", TWO_STAGE), "mean"] == pytest.approx(0.375)
    assert row.loc[("stacks", MEAN, "dice_apex", TWO_STAGE), "mean"] == pytest.approx(0.1875)


def test_near_and_possible_stacks_are_good_and_ranked_so(both):
    row = tables.main_table(both).set_index(["part", "what", "measure", "method"])
    for measure, good, bad in (
        (tables.NEAR, 1, 0),
        ("plausible", 1, 0),
        ("hd95", 4, 9),
        ("violations", 0, 3),
        ("dice", 0.75, 0.65),
    ):
        two, one = (row.loc[("stacks", MEAN, measure, m)] for m in (TWO_STAGE, ONE_STAGE))
        assert (two["mean"], one["mean"]) == pytest.approx((good, bad)) and (two["rank"], one["rank"]) == (1, 2)
    assert ("stacks", "LV cavity", tables.NEAR, TWO_STAGE) not in row.index


def test_a_missed_structure_counts_as_far_and_not_as_a_distance():
    missed = cases(TWO_STAGE, {"b": (0.5, 0.5)}, hd95=np.inf)
    row = tables.main_table(pd.concat([cases(TWO_STAGE, {"a": (0.9, 0.9)}), missed])).set_index(
        ["part", "what", "measure"]
    )
    assert row.loc[("stacks", MEAN, "hd95"), ["mean", "n", "n_missed"]].tolist() == [4, 4, 2]
    assert row.loc[("stacks", MEAN, tables.NEAR), "mean"] == 0.5


def test_what_nobody_drew_at_an_end_is_left_out():
    table = cases(TWO_STAGE, TWO)
    table.loc[(table["subject"] == "a_ED") & (table["structure"] == "RV cavity"), "dice_apex"] = np.nan
    row = tables.main_table(table).set_index(["part", "what", "measure"]).loc[("stacks", "RV cavity", "dice_apex")]
    assert row["n"] == 3 and row["mean"] == pytest.approx(np.mean([0.8, 0.7, 0.6]) / 4)


# ------------------------------------------------------------------------------------------------------- beside others


def test_a_contrast_is_of_the_patients_that_both_have():
    more = pd.concat([cases(TWO_STAGE, {**TWO, "c": (0.1, 0.1)}), cases(ONE_STAGE, ONE)])
    found = tables.contrasts(more).set_index("measure")
    assert found.loc["dice", ["mean", "mean_other", "n"]].tolist() == pytest.approx([0.75, 0.65, 2])
    assert found.loc["dice", "difference"] == pytest.approx(0.1) and found.loc["dice", "effect"] == 1
    assert found.loc["dice", "p"] == 0.5  # two patients: not less than that
    other_way = tables.contrasts(more, ONE_STAGE).set_index("measure").loc["dice"]
    assert other_way["difference"] == pytest.approx(-0.1) and other_way["effect"] == -1


def test_beside_what_stands_and_what_is_published(monkeypatch):
    stands = cases(f"{tables.STANDING}ACDC", {"b": (0.9, 0.7)})
    found = tables.beside_table(pd.concat([cases(TWO_STAGE, TWO), stands])).set_index(["tested", "method"])
    assert found.loc[("all", TWO_STAGE), MEAN] == pytest.approx(0.75) and found.loc[("all", TWO_STAGE), "n"] == 2
    same = found.loc["the native network's"]
    assert same.loc[TWO_STAGE, MEAN] == pytest.approx(0.65) and (same["n"] == 1).all()
    assert same.loc[f"{tables.STANDING}ACDC", "LV cavity"] == pytest.approx(0.8)
    published = found.loc["published"]
    assert published.loc["nnU-Net", MEAN] == 0.915 and published.loc["MedNeXt-L", MEAN] == 0.9265
    assert published["n"].isna().all()


def test_a_method_that_lacks_patients_is_not_set_beside_those():
    stands = cases(f"{tables.STANDING}ACDC", {"z": (0.9, 0.7)})
    found = tables.beside_table(pd.concat([cases(TWO_STAGE, TWO), stands]))
    assert found[found["tested"] == "the native network's"]["method"].tolist() == [f"{tables.STANDING}ACDC"]


def test_what_stands_is_what_was_measured():
    found = tables.standing()
    means = found[found["method"] == "native, ACDC"].groupby("structure")["dice"].mean()
    assert means[["RV cavity", "LV myocardium", "LV cavity"]].round(3).tolist() == [0.852, 0.861, 0.934]
    assert means[MEAN] == pytest.approx(means[list(CARDIAC.names)].mean()) and found["patient"].nunique() == 20


# ---------------------------------------------------------------------------------------------------- volumes and EF


def test_an_ejection_fraction_that_is_too_high_has_a_positive_bias():
    found = tables.patient_indices(cases(TWO_STAGE, TWO, volume=1.25)).set_index(["patient", "index"])
    assert found.loc[("a", "LVEF")].tolist()[1:] == pytest.approx([100 * 85 / 125, 60])
    assert found.loc[("b", "RVV_ED")].tolist()[1:] == [125, 100] and found.loc[("b", "LVM"), "by_hand"] == 105
    three = {**TWO, "c": (0.5, 0.5)}
    more = pd.concat([cases(TWO_STAGE, three, volume=1.25), cases(ONE_STAGE, three, volume=0.8)])
    table = tables.index_table(more).set_index(["method", "index"])
    assert table.loc[(TWO_STAGE, "LVEF"), ["bias", "sd", "error", "n"]].tolist() == pytest.approx([8, 0, 8, 3])
    assert table.loc[(ONE_STAGE, "LVEF"), ["bias", "error"]].tolist() == pytest.approx([-10, 10])
    assert table.loc[(TWO_STAGE, "LVV_ED"), "bias"] == 25 and table.loc[(TWO_STAGE, "LVV_ES"), "bias"] == 0


def test_limits_of_agreement_and_patients_without_a_cavity():
    parts = [cases(TWO_STAGE, {n: (0.9, 0.9)}, volume=v) for n, v in zip("abcd", (1.0, 1.1, 1.3, 0.0), strict=True)]
    row = tables.index_table(pd.concat(parts)).set_index("index").loc["LVEF"]
    errors = 100 * (1 - 40 / np.array([100, 110, 130])) - 60
    assert row["n"] == 3 and row["n_missed"] == 1 and row["bias"] == pytest.approx(errors.mean())
    assert row["low"] == pytest.approx(errors.mean() - 1.96 * errors.std(ddof=1)) and np.isnan(row["r"])


# ------------------------------------------------------------------------------------------------------- few patients


def test_few_patients_with_and_without_phantoms():
    six = [f"p{i}" for i in range(6)]
    parts = [
        cases(PHANTOMS, dict.fromkeys([*six, "of another fold"], (0.6, 0.6))),
        cases(TWO_STAGE, dict.fromkeys(six, (0.9, 0.9))),
        cases(TWO_STAGE, {"of another fold": (0.1, 0.1)}, fold=1),
        cases(ONE_STAGE, dict.fromkeys(six, (0.1, 0.1))),
        *(cases(TWO_STAGE, dict.fromkeys(six, (0.8, d)), seed=s, patients=5) for s, d in ((0, 0.8), (1, 0.6))),
        cases(SCRATCH, {p: (0.5, 0.5 - 0.01 * i) for i, p in enumerate(six)}, patients=5, hd95=20.0),
    ]
    found = tables.few_table(pd.concat(parts, ignore_index=True))
    assert found["patients"].tolist()[:3] == [0, 5, 5] and np.isnan(found["patients"].iloc[3]) and len(found) == 4
    by = found.set_index("method")
    assert by.loc[PHANTOMS, ["mean", "n"]].tolist() == pytest.approx([0.6, 6])
    five = found[found["patients"] == 5].set_index("method")
    assert five.loc[TWO_STAGE, ["mean", "n", "n_seeds"]].tolist() == pytest.approx([0.75, 6, 2])
    assert five.loc[TWO_STAGE, "sd_seeds"] == pytest.approx(0.1 / np.sqrt(2))  # of .8 and .7
    assert five.loc[TWO_STAGE, "p"] == 2 / 2**6 and np.isnan(five.loc[SCRATCH, "p"])
    assert five.loc[SCRATCH, "hd95"] == 20 and five.loc[SCRATCH, "missed"] == 0


def test_time():
    curves = pd.DataFrame(
        {"method": TWO_STAGE, "seed": 0, "fold": [0, 0, 1], "patients": np.nan, "spent": [60, 120, 240]}
    )
    found = tables.time_table(pd.concat([cases(TWO_STAGE, TWO), cases(TWO_STAGE, ONE, fold=1)]), curves).iloc[0]
    assert found["trainings"] == 2 and found["minutes"] == 3 and found["seconds"] == 2


# ------------------------------------------------------------------------------------------------------------ the door


def test_run_trains_gathers_and_prints(stacks, acdc, tmp_path, capsys, monkeypatch):
    made = []

    def measured(here, training):
        """What a trained network might be measured to, without one."""
        folder = here.folder_of(training)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "about.json").write_text("{}")
        made.append(training)
        people = dict.fromkeys(here.tested_on(training).patients, (0.8, 0.9))
        patients = np.nan if training.patients is None else training.patients
        return cases(training.method, people, training.seed, training.fold, patients)

    monkeypatch.setattr(Laboratory, "measured", measured)
    curve = pd.DataFrame({"stage": [4], "spent": [6.0]})
    monkeypatch.setattr(Laboratory, "curve", lambda here, t: curve.assign(**vars(t)))
    found = tables.run(acdc, "quick", None, tmp_path / "out", False, stacks)
    assert len(made) == 2 * len({*made}) and {t.method for t in made} == set(METHODS)
    assert found["part"].unique().tolist() == list(tables.PARTS)
    name = "two_stage_acdc_quick"
    about = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert len(about["trainings"]) == len(set(made)) and about["config"]["hearts"] == 1
    for suffix in ("", "beside", "contrasts", "indices", "few", "time", "curves", "cases"):
        assert len(pd.read_csv(tmp_path / "out" / f"{'_'.join(filter(None, [name, suffix]))}.csv"))
    said = capsys.readouterr().out
    assert "over patients" in said and "MedNeXt-L" in said and "0.850±0.000" in said
    assert set(pd.read_csv(tmp_path / "out" / f"{name}_few.csv")["patients"].dropna()) == {0, 2}
    with pytest.raises(UsageError, match="seeds: found"):
        tables.run(acdc, "quick", [1, 1], tmp_path / "out", False, stacks)


def test_only_what_is_done_is_gathered(stacks, acdc, tmp_path):
    here = Laboratory(stacks, tmp_path / "acdc_quick", acdc)
    with pytest.raises(DataError, match="no training that is done"):
        tables.gather(here)
    assert not here.done(Training(TWO_STAGE))
