"""Table I from cases made by hand: means, who is compared, and the paper's numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from shapelab.errors import UsageError
from shapelab.experiments.acnn import segmentation as table1
from shapelab.experiments.acnn import segmentation_tables as tables
from shapelab.experiments.tables import printed


def hand_made_cases() -> pd.DataFrame:
    """Two methods, two seeds, three hearts; Dice of the LV cavity is chosen, all else constant."""
    dice = {
        ("3D-Seg", 0): (0.8, 0.9, 0.7),
        ("3D-Seg", 1): (0.9, 0.9, 0.9),
        ("ACNN-Seg", 0): (0.9, 0.95, 0.9),
        ("ACNN-Seg", 1): (0.9, 0.95, 1.0),
    }
    rows = []
    for (method, seed), values in dice.items():
        for case, value in zip("abc", values, strict=True):
            for structure in tables.STRUCTURES:
                rows.append(
                    {
                        "case": case,
                        "patient": case,
                        "group": "NOR",
                        "phase": "ED",
                        "structure": structure,
                        "assd": 1.0,
                        "hd": 5.0,
                        "dice": value if structure == "LV cavity" else 0.5,
                        "missed": False,
                        "plausible": not (method == "3D-Seg" and case == "c"),
                        "violations": 2 * (method == "3D-Seg" and case == "c"),
                        "method": method,
                        "seed": seed,
                    }
                )
    return pd.DataFrame(rows)


def test_means_are_over_hearts_after_seeds_and_the_best_two_are_compared():
    cases = hand_made_cases()
    facts = [{"method": m, "parameters": 7, "seconds": s} for m, s in (("3D-Seg", 0.1), ("3D-Seg", 0.3))]
    table = table1.summarise(cases, facts).set_index(["structure", "measure", "method"])
    table = table.sort_index()
    ours = table.loc[("LV cavity", "dice")]
    assert ours.loc["3D-Seg", "mean"] == pytest.approx(np.mean([0.85, 0.9, 0.8]))
    assert ours.loc["3D-Seg", "sd"] == pytest.approx(np.std([0.85, 0.9, 0.8], ddof=1))
    assert ours.loc["3D-Seg", "sd_seeds"] == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert ours.loc["ACNN-Seg", "mean"] == pytest.approx(np.mean([0.9, 0.95, 0.95]))
    assert ours["rank"].to_dict() == {"3D-Seg": 2, "ACNN-Seg": 1}
    expected = stats.wilcoxon([0.9, 0.95, 0.95], [0.85, 0.9, 0.8]).pvalue
    assert ours["p"].tolist() == pytest.approx([expected, expected])
    assert ours.loc["3D-Seg", "paper_mean"] == 0.923 and ours.loc["ACNN-Seg", "paper_sd"] == 0.017
    assert ours.loc["3D-Seg", "n"] == 3 and ours.loc["3D-Seg", "n_seeds"] == 2
    assert ours.loc["3D-Seg", "seconds"] == pytest.approx(0.2) and ours.loc["3D-Seg", "parameters"] == 7
    assert ours.loc["3D-Seg", "paper_parameters"] == 1.60e6
    hearts = table.loc["heart"]["mean"]
    assert hearts["plausible"].to_dict() == pytest.approx({"3D-Seg": 2 / 3, "ACNN-Seg": 1})
    assert hearts["violations"].to_dict() == pytest.approx({"3D-Seg": 2 / 3, "ACNN-Seg": 0})
    assert table.loc["heart"].loc["violations"]["rank"].to_dict() == {"3D-Seg": 2, "ACNN-Seg": 1}


def test_a_missed_structure_is_counted_and_never_wins():
    cases = hand_made_cases()
    gone = (cases.method == "ACNN-Seg") & (cases.seed == 0) & (cases.case == "a") & (cases.structure == "LV cavity")
    cases.loc[gone, ["assd", "hd", "dice", "missed"]] = [np.inf, np.inf, 0.0, True]
    table = table1.summarise(cases).set_index(["structure", "measure", "method"])
    row = table.loc[("LV cavity", "hd", "ACNN-Seg")]
    assert row["n_missed"] == 1 and row["mean"] == 5.0 and row["rank"] == 2
    assert table.loc[("LV cavity", "dice", "ACNN-Seg"), "mean"] == pytest.approx(np.mean([0.45, 0.95, 0.95]))
    assert "[1 missed]" in table1.layout(table1.summarise(cases)).loc["ACNN-Seg", "endocardium hd"]


def test_methods_that_differ_in_one_thing_are_compared_heart_by_heart():
    found = tables.contrasts(hand_made_cases()).set_index(["differs", "structure", "measure"])
    row = found.loc[("prior", "LV cavity", "dice")]
    with_prior, without = [0.9, 0.95, 0.95], [0.85, 0.9, 0.8]
    assert row["mean"] == pytest.approx(np.mean(with_prior)) and row["mean_other"] == pytest.approx(np.mean(without))
    assert row["difference"] == pytest.approx(np.mean(with_prior) - np.mean(without)) and row["better"]
    assert row["p"] == pytest.approx(stats.wilcoxon(with_prior, without).pvalue) and row["effect"] == 1
    assert set(found.index.get_level_values("differs")) == {"prior"} and row["n"] == 3  # the others are not there
    assert set(found.index.get_level_values("measure")) == {"assd", "hd", "dice", "violations"}
    assert tables.contrasts(hand_made_cases().query("method == '3D-Seg'")).empty


def test_only_the_phase_asked_for_counts():
    cases = hand_made_cases()
    other = cases.assign(phase="ES", dice=0.0)
    both = pd.concat([cases, other])
    pd.testing.assert_frame_equal(table1.summarise(both), table1.summarise(cases))
    assert (table1.summarise(both, phase="ES").query("measure == 'dice'")["mean"] == 0).all()
    with pytest.raises(UsageError, match="phase: found 'XX'"):
        table1.summarise(cases, phase="XX")


def test_the_printed_table_has_the_papers_numbers_beside_ours():
    facts = [{"method": m, "parameters": 413_332, "seconds": 0.0213} for m in ("3D-Seg", "ACNN-Seg")]
    wide = table1.layout(table1.summarise(hand_made_cases(), facts))
    assert wide.loc["ACNN-Seg", "endocardium dice"] == "0.933±0.029 (0.939±0.017)"
    assert wide.loc["3D-Seg", "myocardium hd"] == "5.00±0.00 (10.15±10.58)"
    assert wide.loc["3D-Seg", "RV dice"] == "0.500±0.000"
    assert wide.loc["3D-Seg", "plausible"] == "67 %" and wide.loc["3D-Seg", "s / volume"] == "0.021"
    assert wide.loc["3D-Seg", "parameters"] == "413,332 (1,600,000)"
    assert wide.loc["p, two best", "endocardium dice"].startswith("p = ")
    assert wide.loc["p, two best", "parameters"] == ""


def test_the_papers_table_is_as_printed():
    paper = printed("acnn", "I").pivot(index="method", columns=["what", "measure"], values="mean")
    assert set(paper.index) == {"2D-FCN", "3D-Seg", "3D-UNet", "AE-Seg", "3D-Seg-MAug", "AE-Seg-M", "ACNN-Seg"}
    best = {
        ("LV cavity", 0): "ACNN-Seg",
        ("LV cavity", 1): "AE-Seg-M",
        ("LV cavity", 2): "ACNN-Seg",
        ("LV myocardium", 0): "ACNN-Seg",
        ("LV myocardium", 1): "AE-Seg-M",
        ("LV myocardium", 2): "ACNN-Seg",
    }
    for (structure, column), method in best.items():
        values = paper[structure, tables.MEASURES[column]]
        assert (values.idxmax() if column == 2 else values.idxmin()) == method
    assert paper["LV cavity"].sum().tolist() == pytest.approx([11.80, 63.94, 6.474])  # columns added up by hand
    assert paper["LV myocardium"].sum().tolist() == pytest.approx([9.85, 61.51, 5.430])
