"""Tables of the two-stage network: the paper's numbers, ours worked out by hand, and its door."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shapelab.data.scheme import WHOLE_HEART
from shapelab.errors import DataError, UsageError
from shapelab.experiments.tables import printed
from shapelab.experiments.two_stage import short_axis_tables, tables
from shapelab.experiments.two_stage.laboratory import ALONE, END, JOINTLY, MAIN, Laboratory, Training, run_one
from shapelab.experiments.two_stage.measures import MEAN, WHOLE


def cases(*trainings: tuple[str, str, list[list[float]]], modality: str = "CT", first: int = 0) -> pd.DataFrame:
    """(training, method, a row of dice of hearts a, b, ... each seed); Jaccard is half the Dice, ASSD 1 - Dice."""
    rows = [
        {"training": t, "method": m, "seed": seed, "scan": f"h{i}", "structure": s, "dice": d}
        for t, m, seeds in trainings
        for seed, row in enumerate(seeds, first)
        for i, d in enumerate(row)
        for s in (*WHOLE_HEART.names, MEAN, WHOLE)
    ]
    table = pd.DataFrame(rows).assign(modality=modality, fold=0)
    return tables.named(table.assign(jaccard=table["dice"] / 2, assd=1 - table["dice"]))


BOTH = (
    ("two-stage", "Net2", [[0.8, 0.6], [0.6, 0.4]]),
    ("two-stage", "Net1", [[0.7, 0.5], [0.5, 0.5]]),
    ("3D U-Net", "3D U-Net", [[0.5, 0.5], [0.5, 0.5]]),
)


def test_some_of_the_papers_numbers():
    ct, mr, test = (
        printed("two_stage", t).set_index(["method", "what", "measure"])["mean"] for t in ("2", "3", "4 CT")
    )
    assert ct["Net2", "LV cavity", "jaccard"] == 0.7823 and mr["3D U-Net", "RV cavity", "dice"] == 0.9173
    assert test["Net2", WHOLE, "assd"] == 4.1971


def test_a_table_has_the_papers_methods_and_its_numbers_beside():
    found = tables.paper_tables(cases(*BOTH))
    assert list(found.columns) == list(tables.COLUMNS) and (found["table"] == 2).all()
    dice = found[(found["what"] == "LV cavity") & (found["measure"] == "dice")].set_index("method")
    assert dice.index.tolist() == ["3D U-Net", "Net1", "Net2"]
    assert dice["paper_mean"].tolist() == [0.6451, 0.6774, 0.8374] and dice["rank"].tolist() == [3, 2, 1]
    assert dice.loc["Net2", "mean"] == pytest.approx(0.6) and dice.loc["Net2", "n"] == 2
    assert dice.loc["Net2", "sd"] == pytest.approx(0.2 / np.sqrt(2))  # of .7 and .5
    assert dice.loc["Net2", "sd_seeds"] == pytest.approx(0.2 / np.sqrt(2))  # likewise
    assert np.isfinite(dice.loc[["Net2", "3D U-Net"], "p"]).all() and np.isnan(dice.loc["Net1", "p"])
    ranks = found[found["what"] == WHOLE].set_index(["measure", "method"])["rank"]
    assert ranks["jaccard", "Net2"] == 1 and ranks["assd", "Net2"] == 1  # overlaps: high; distances: low
    assert found[found["what"] == MEAN]["paper_mean"].isna().all()  # the paper prints none


def test_mr_is_table_3_and_retraining_table_4():
    mr = tables.paper_tables(cases(*BOTH, modality="MR"))
    assert (mr["table"] == 3).all() and mr["paper_mean"].max() == 0.9377
    net2, unet = [[0.7, 0.6]], [[0.2, 0.2]]
    again = cases((END, "Net2", net2), (END, "Net1", unet), (JOINTLY, "Net2", unet))
    found = tables.paper_tables(again).set_index(["what", "measure", "method"])
    assert (found["table"] == 4).all() and found.loc[(WHOLE, "dice", "Net2"), "paper_mean"] == 0.8060
    assert found.loc[(WHOLE, "assd", "Net2"), "paper_mean"] == 4.1971
    assert np.isnan(found.loc[(WHOLE, "dice", "Net2, step 3 alone"), "paper_mean"])


def test_contrasts_have_the_sign_of_the_difference_and_count_seeds():
    found = tables.contrasts(cases(*BOTH)).set_index(["what", "method", "other"])
    assert set(found.index.get_level_values("what")) == {MEAN, WHOLE}
    row = found.loc[(MEAN, "Net2", "Net1")]  # .7, .5 against .6, .5
    assert row["difference"] == pytest.approx(0.05) and row["effect"] == 1
    assert (row["n"], row["seeds_better"], row["seeds"]) == (2, 1, 2)  # seed 0: .7 and .6; seed 1: both .5
    assert found.loc[(MEAN, "Net1", "3D U-Net"), "difference"] == pytest.approx(0.05)
    worse = tables.contrasts(cases(("two-stage", "Net2", [[0.1, 0.2]]), ("two-stage", "Net1", [[0.3, 0.5]]))).iloc[0]
    assert worse["difference"] == pytest.approx(-0.25) and worse["effect"] == -1 and worse["seeds_better"] == 0


def test_p_over_eight_hearts_that_all_differ_in_one_direction_is_the_least():
    a, b = [[0.5 + 0.01 * i for i in range(8)]], [[0.4 + 0.001 * i for i in range(8)]]
    row = tables.contrasts(cases(("two-stage", "Net2", a), ("two-stage", "Net1", b))).iloc[0]
    assert row["p"] == pytest.approx(2 / 2**8) and row["n"] == 8


def test_an_ablation_of_one_seed_is_compared_with_that_seed_alone():
    usual = cases(*BOTH)
    without = cases(("without step 2", "Net2", [[0.5, 0.3]]), ("without step 2", "Net1", [[0.1, 0.1]]), first=1)
    alone = cases((ALONE, ALONE, [[0.9, 0.9]]), first=1)
    both = pd.concat([usual, without, alone])
    row = tables.contrasts(both).set_index(["what", "method", "other"]).loc[(MEAN, "Net2", "Net2, without step 2")]
    assert row["mean"] == pytest.approx(0.5) and row["difference"] == pytest.approx(0.1) and row["seeds"] == 1
    found = tables.ablation(both)
    mean = found[(found["what"] == MEAN) & (found["measure"] == "dice")].set_index("method")["mean"]
    assert mean.index.tolist() == [
        *("3D U-Net", "Net1", "Net2", ALONE, "Net1, without step 2", "Net2, without step 2"),
    ]
    assert mean["Net2"] == pytest.approx(0.5) and mean[ALONE] == pytest.approx(0.9)
    assert ALONE not in set(tables.paper_tables(both)["method"]) and tables.ablation(usual).empty


def test_folds_and_seeds_are_averaged_before_hearts():
    one = cases(("two-stage", "Net2", [[0.9, 0.5]]))
    found = tables.paper_tables(pd.concat([one, one.assign(fold=1, dice=one["dice"] - 0.2)]))
    row = found[(found["what"] == MEAN) & (found["measure"] == "dice")].iloc[0]
    assert row["mean"] == pytest.approx(0.6) and row["n"] == 2 and row["sd"] == pytest.approx(0.4 / np.sqrt(2))


def test_a_missed_structure_is_counted():
    table = cases(*BOTH)
    table.loc[(table["method"] == "Net1") & (table["scan"] == "h0") & (table["seed"] == 0), "assd"] = np.inf
    found = tables.paper_tables(table).set_index(["what", "measure", "method"])
    row = found.loc[("LV cavity", "assd", "Net1")]
    assert row["n_missed"] == 1 and row["mean"] == pytest.approx(0.5) and row["rank"] == 3


def test_flat_curves_have_not_risen_in_the_last_third_of_what_was_measured():
    rows = {"steps": [10, 20, 30, 40, 50, 60], "seconds": 2.0, "val net1": [0.1, 0.5, 0.6, 0.6, 0.6, 0.6]}
    curve = pd.DataFrame({**rows, "val net2": [np.nan, np.nan, 0.2, 0.4, 0.6, 0.5]})
    found = tables.flatness(curve.assign(training="two-stage", modality="CT", seed=1, fold=0)).set_index("network")
    assert found["steps"].tolist() == [60, 60] and found["seconds"].tolist() == [12, 12]
    assert found.loc["net1", "end"] == 0.6 and found.loc["net1", "rise"] == pytest.approx(0)
    assert found.loc["net2", "rise"] == pytest.approx(-0.1)  # since batch 50: two thirds of 30 to 60
    assert (found["seed"] == 1).all() and (found["training"] == "two-stage").all()
    other = curve.drop(columns="val net2").rename(columns={"val net1": "val unet"})
    two = [curve.assign(training="two-stage"), other.assign(training="3D U-Net")]
    both = tables.flatness(pd.concat(two).assign(modality="MR", seed=0, fold=0))
    assert both["network"].tolist() == ["net1", "net2", "unet"]


def test_run_trains_gathers_and_prints(config, boxed, tmp_path, capsys):
    small = replace(config, methods=(*MAIN, ALONE))
    where = {"profile": "quick", "output": tmp_path, "progress": False, "config": small}
    found = tables.run(2, **where)
    assert list(found.columns) == list(tables.COLUMNS) and set(found["modality"]) == {"CT"}
    assert "Table 2, CT (phantom-wh): ours (the paper's)" in capsys.readouterr().out
    name = "two_stage_phantom-wh_quick"
    about = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(about["trainings"]) == 3 and about["config"]["training"] == 4
    assert about["phantom seeds"]["test"] == 72_000
    written = {
        s: pd.read_csv(tmp_path / f"{name}{s}.csv") for s in ("_contrasts", "_ablation", "_thin", "_curves", "_flat")
    }
    assert set(written["_ablation"]["method"]) == {"3D U-Net", "Net1", "Net2", ALONE}
    assert set(written["_curves"]["training"]) == {*MAIN, ALONE}
    assert set(written["_flat"]["network"]) == {"net1", "net2", "unet"}
    judged = pd.read_csv(tmp_path / f"{name}_hearts.csv")
    assert "given label maps" in set(judged["method"]) and judged["plausible"].between(0, 1).all()
    assert len(pd.read_csv(tmp_path / f"{name}_cases.csv")) == 4 * 2 * 9
    assert set(tables.run(3, **where, seeds=[0])["table"]) == {3}  # Table 2 is kept beside it
    assert set(pd.read_csv(tmp_path / f"{name}.csv")["table"]) == {2, 3}


def test_real_hearts(config, mmwhs, tmp_path):
    small = replace(config, methods=("3D U-Net",), folds=2)
    where = {"data": "mmwhs", "root": mmwhs, "profile": "quick", "output": tmp_path, "progress": False}
    found = tables.run(3, **where, config=small)
    assert set(found["method"]) == {"3D U-Net"} and (found["n"] == 2).all()
    with pytest.raises(UsageError, match="table: found 4; expected 2 or 3"):
        tables.run(4, **where)


def test_acdc_is_handed_on(monkeypatch, tmp_path):
    monkeypatch.setattr(short_axis_tables, "run", lambda **asked: asked)
    asked = tables.run(2, data="acdc", root=tmp_path, seeds=[4], output=tmp_path)
    assert asked == {"root": tmp_path, "profile": None, "seeds": [4], "output": tmp_path, "progress": True}


def test_only_what_is_done_is_gathered_and_nothing_mixed(config, boxed, tmp_path):
    here = Laboratory(config, tmp_path / "hearts")
    with pytest.raises(DataError, match="no training that is done"):
        tables.gather(here)
    here.measured(Training("3D U-Net"))
    assert set(tables.gather(here)["method"]) == {"3D U-Net"}
    about = tmp_path / "hearts" / Training("3D U-Net").name / "about.json"
    about.write_text(about.read_text().replace('"weight_decay": 1e-05', '"weight_decay": 0.4'))
    with pytest.raises(DataError, match="results of another run"):
        tables.gather(here)


def test_run_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(UsageError, match="table: found 1"):
        tables.run(1, output=tmp_path)
    with pytest.raises(UsageError, match="data: found 'cetus'"):
        run_one("two-stage", data="cetus", folder=tmp_path)
