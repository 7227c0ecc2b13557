"""Tables of the joint space: the paper's numbers, ours worked out by hand, and its door."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from shapelab.data.scheme import WHOLE_HEART
from shapelab.errors import DataError, UsageError
from shapelab.experiments.joint_space import tables
from shapelab.experiments.joint_space.laboratory import CEILING, EARLY, MAPS, Laboratory, Training, run_one
from shapelab.experiments.tables import printed


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_papers_means_are_those_of_its_seven_structures(modality):
    paper = printed("joint_space", f"1 {modality}").set_index(["method", "what"])["mean"]
    assert len(paper) == 5 * 8
    for method in ("CE-Reg", "l1-Reg", "2E-D", "U-Net", "E-D"):
        rows = paper[method]
        assert rows["mean"] == pytest.approx(rows.drop("mean").mean(), abs=1e-3)
    assert (paper["CE-Reg", "mean"] > paper["E-D", "mean"]) and (paper["U-Net", "mean"] > paper["CE-Reg", "mean"])


def test_some_of_the_papers_numbers():
    ct, mr = (printed("joint_space", f"1 {m}").set_index(["method", "what"])["mean"] for m in ("CT", "MR"))
    assert ct["CE-Reg", "ascending aorta"] == 0.724 and ct["U-Net", "pulmonary artery"] == 0.944
    assert mr["CE-Reg", "LV myocardium"] == 0.746 and mr["l1-Reg", "left atrium"] == 0.793
    assert (ct["CE-Reg", "mean"], mr["CE-Reg", "mean"]) == (0.840, 0.793)


def cases(**dice: list[list[float]]) -> pd.DataFrame:
    """Methods: a row of dice (hearts a, b, ... in CT) each seed."""
    rows = [
        {"method": m.replace("_", "-"), "seed": seed, "scan": f"h{i}", "modality": "CT", "structure": s, "dice": d}
        for m, seeds in dice.items()
        for seed, row in enumerate(seeds)
        for i, d in enumerate(row)
        for s in (*WHOLE_HEART.names, "mean")
    ]
    table = pd.DataFrame(rows).assign(labelled=np.nan, fold=0, ceiling=np.nan)
    table.loc[table["method"] == "CE-Reg", "ceiling"] = 0.9
    return table


def test_table_one_has_the_ceiling_below_its_method():
    found = tables.table_one(cases(CE_Reg=[[0.8, 0.6], [0.6, 0.4]], E_D=[[0.5, 0.5], [0.5, 0.5]]))
    mean = found[found["what"] == "mean"].set_index("method")
    assert mean.index.tolist() == ["CE-Reg", "CE-Reg" + CEILING, "E-D"]
    assert mean.loc["CE-Reg", "mean"] == pytest.approx(0.6) and mean.loc["CE-Reg", "paper_mean"] == 0.84
    assert mean.loc["CE-Reg", "sd"] == pytest.approx(0.2 / np.sqrt(2))  # of .7 and .5
    assert mean.loc["CE-Reg", "sd_seeds"] == pytest.approx(0.2 / np.sqrt(2))  # likewise
    assert mean.loc["CE-Reg" + CEILING, "mean"] == pytest.approx(0.9) and np.isnan(mean["paper_mean"].iloc[1])


def test_a_contrast_counts_the_seeds_in_which_the_method_is_better():
    found = tables.contrasts(cases(CE_Reg=[[0.8, 0.6], [0.3, 0.3]], l1_Reg=[[0.5, 0.5], [0.4, 0.4]]))
    row = found[found["modality"] == "CT"].iloc[0]
    assert (row["method"], row["other"], row["seeds_better"], row["seeds"]) == ("CE-Reg", "l1-Reg", 1, 2)
    assert row["difference"] == pytest.approx(0.05) and row["n"] == 2
    other_way = tables.contrasts(cases(CE_Reg=[[0.8, 0.6], [0.3, 0.3]], l1_Reg=[[0.5, 0.5], [0.4, 0.4]]), "l1-Reg")
    assert other_way.iloc[0]["difference"] == pytest.approx(-0.05) and other_way.iloc[0]["seeds_better"] == 1


def test_shares_of_rank_one():
    rows = {"method": "CE-Reg", "modality": "CT", "seed": [0, 0, 1, 1], "rank": [1, 3, 1, 1], "twin": [1, 2, 2, 2]}
    found = tables.code_table(pd.DataFrame(rows).assign(own=1.0, others=2.0, chance=0.25)).iloc[0]
    assert found["rank1"] == 0.75 and found["twin1"] == 0.25 and found["chance"] == 0.25
    assert found["rank1_sd_seeds"] == pytest.approx(np.std([0.5, 1], ddof=1))
    blind = tables.code_table(pd.DataFrame({**rows, "rank": np.nan}).assign(own=np.nan))
    assert np.isnan(blind["rank1"].iloc[0]) and blind["twin1"].iloc[0] == 0.25


def test_equal_time_is_that_of_the_quickest():
    def curve(method: str, spent: list[float], dice: list[float]) -> pd.DataFrame:
        table = pd.DataFrame({"steps": [10, 20, 30], "spent": spent, "val CT": dice, "val seconds": 1.0})
        return table.assign(method=method, seed=0, fold=0, labelled=np.nan)

    found = tables.at_equal_time(
        pd.concat([curve("CE-Reg", [2, 4, 6], [0.1, 0.4, 0.8]), curve("E-D", [1, 2, 3], [0.2, 0.3, 0.3])])
    )
    ours, theirs = found.set_index("method").loc[["CE-Reg", "E-D"]].to_dict("records")
    assert (ours["time"], theirs["time"]) == (3, 3) and ours["seconds_per_step"] == pytest.approx(0.2)
    assert ours["CT"] == pytest.approx(0.25) and ours["CT end"] == 0.8 and ours["CT rise"] == pytest.approx(0.4)
    assert theirs["CT"] == theirs["CT end"] == 0.3 and theirs["CT rise"] == pytest.approx(0)  # flat


def test_few_labelled_images_are_compared_at_the_same_number():
    table = cases(CE_Reg=[[0.8, 0.7, 0.6]], E_D=[[0.5, 0.5, 0.5]])
    few = table.assign(labelled=5.0, dice=table["dice"] / 2).replace({"method": {"CE-Reg": MAPS}})
    found = tables.few_table(pd.concat([table, few])).set_index(["labelled", "method"])
    assert found.loc[(5.0, MAPS), "mean"] == pytest.approx(0.35) and found.loc[(5.0, MAPS), "p_E-D"] == 0.25
    assert set(found.index.get_level_values("method")) == {"CE-Reg", "E-D", MAPS} and len(found) == 4


def test_run_trains_gathers_and_prints(config, boxed, tmp_path, capsys):
    found = tables.run(1, profile="quick", output=tmp_path, progress=False, config=config)
    assert list(found.columns) == list(tables.COLUMNS) and set(found["modality"]) == {"CT", "MR"}
    assert EARLY not in set(found["method"])
    name = "joint_space_phantom-wh_quick"
    about = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(about["trainings"]) == 4 and about["config"]["training"] == 2
    suffixes = ("", "contrasts", "codes", "curves", "time", "cases", "walks", "smoothness", "robustness", "statistics")
    for suffix in suffixes:
        assert len(pd.read_csv(tmp_path / f"{'_'.join(filter(None, [name, suffix]))}.csv"))
    early = pd.read_csv(tmp_path / f"{name}_statistics.csv")
    assert EARLY in set(early["method"]) and set(early["statistics"]) == {"instance", "running"}
    assert "ours (the paper's)" in capsys.readouterr().out


def test_real_hearts_have_a_table_of_few_labelled_images(config, boxed, tmp_path):
    found = tables.run(1, data="acdc", profile="quick", output=tmp_path, progress=False, config=config)
    assert set(found["modality"]) == {"MR"} and found["paper_mean"].isna().all()  # the paper's are of whole hearts
    few = pd.read_csv(tmp_path / "joint_space_acdc_quick_few.csv")
    assert set(few["labelled"].dropna()) == {2} and set(few[few["labelled"] == 2]["method"]) == {
        "CE-Reg",
        MAPS,
        "E-D",
        "U-Net",
    }


def test_only_what_is_done_is_gathered_and_nothing_mixed(config, boxed, tmp_path):
    here = Laboratory(config, tmp_path / "hearts")
    with pytest.raises(DataError, match="no training that is done"):
        tables.gather(here)
    here.measured(Training("E-D"))
    assert set(tables.gather(here)["method"]) == {"E-D"}
    about = tmp_path / "hearts" / Training("E-D").name / "about.json"
    about.write_text(about.read_text().replace('"image_rate": 0.004', '"image_rate": 0.4'))
    with pytest.raises(DataError, match="results of another run"):
        tables.gather(here)


def test_run_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(UsageError, match="table: found 2"):
        tables.run(2, output=tmp_path)
    with pytest.raises(UsageError, match="data: found 'cetus'"):
        run_one("CE-Reg", data="cetus", folder=tmp_path)
