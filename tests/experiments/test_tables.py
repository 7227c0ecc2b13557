"""How cases become a table: worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from shapelab.data.scheme import WHOLE_HEART
from shapelab.errors import DataError
from shapelab.experiments.tables import Rule, beside, by_method, layout, long, p_text, printed, spread


def cases(**distances: list[list[float]]) -> dict[str, pd.DataFrame]:
    """Methods a, b, ...: a row of distances (hearts h0, h1, ...) each seed."""
    rows = [
        {"method": m, "seed": seed, "case": f"h{i}", "part": "LV", "hd": v, "dice": 1 / v, "missed": np.isinf(v)}
        for m, seeds in distances.items()
        for seed, row in enumerate(seeds)
        for i, v in enumerate(row)
    ]
    return by_method(pd.DataFrame(rows), distances)


def test_spread_by_hand():
    # a missed structure: its dice of 0 is in the mean, its distance is not
    dice, hd = pd.Series([0.9, 0.8, 0.7, 0.0]), pd.Series([2.0, 4.0, 9.0, np.inf])
    assert spread(dice) == pytest.approx({"mean": 0.6, "sd": np.std(dice, ddof=1), "n": 4, "n_missed": 0})
    found = spread(hd, interval=True)
    assert (found["mean"], found["n"], found["n_missed"]) == (5, 4, 1)
    assert found["sd"] == pytest.approx(np.std([2, 4, 9], ddof=1)) and 2 <= found["low"] <= 5 <= found["high"] <= 9


def test_spread_where_all_or_nearly_all_is_missed():
    found = spread(pd.Series([np.inf, np.inf]), interval=True)
    assert (found["n"], found["n_missed"]) == (2, 2)
    assert np.isnan([found[k] for k in ("mean", "sd", "low", "high")]).all()
    found = spread(pd.Series([3.0]), interval=True)
    assert [found[k] for k in ("mean", "low", "high")] == [3, 3, 3] and np.isnan(found["sd"])


def test_seeds_then_hearts():
    found = long(cases(a=[[1, 4, 4], [3, 4, np.inf]]), "part", ["LV"], ["hd", "dice"], Rule())
    hd, dice = found.to_dict("records")
    assert (hd["mean"], hd["n"], hd["n_missed"], hd["n_seeds"]) == (3, 3, 1, 2)  # of 2 and 4; the third was missed once
    assert hd["sd"] == pytest.approx(np.sqrt(2)) and hd["sd_seeds"] == pytest.approx(np.std([3, 3.5], ddof=1))
    assert dice["mean"] == pytest.approx((2 / 3 + 1 / 4 + 1 / 8) / 3) and dice["n_missed"] == 0 and np.isnan(dice["p"])
    partly = long(cases(a=[[1, 4, 4], [3, 4, np.inf]]), "part", ["LV"], ["hd"], Rule(partly=True, interval=True)).iloc[
        0
    ]
    assert partly["mean"] == pytest.approx(10 / 3) and (partly["n"], partly["n_missed"]) == (3, 1)  # 2, 4 and 4
    assert 2 <= partly["low"] <= partly["mean"] <= partly["high"] <= 4


def test_p_is_of_a_pair_or_of_the_two_best():
    a, b, c = [1.0, 2.0, 3.0, 4.0], [2.0, 3.5, 5.0, 7.0], [9.0, 9.0, 9.0, np.inf]
    three = cases(c=[c], b=[b], a=[a])
    best = long(three, "part", ["LV"], ["hd"], Rule(pair=None)).set_index("method")
    assert best.index.tolist() == ["c", "b", "a"] and best["rank"].to_dict() == {"a": 1, "b": 2, "c": 3}
    expected = stats.wilcoxon(a, b).pvalue
    assert best.loc["a", "p"] == best.loc["b", "p"] == expected and np.isnan(best.loc["c", "p"])
    pair = long(three, "part", ["LV"], ["hd"], Rule(pair=("b", "c"))).set_index("method")
    assert pair["p"].notna().to_dict() == {"c": True, "b": True, "a": False}
    assert np.isnan(long(three, "part", ["LV"], ["hd"], Rule(pair=("b", "d")))["p"]).all()


def test_methods_of_other_hearts_are_compared_only_where_that_is_asked():
    some = cases(a=[[1.0, 2.0, 4.0]], b=[[3.0, 3.0]])
    with pytest.raises(DataError, match="Lacking: .h2"):
        long(some, "part", ["LV"], ["hd"], Rule(pair=("a", "b")))
    found = long(some, "part", ["LV"], ["hd"], Rule(pair=("a", "b"), shared=True))
    assert found["p"].tolist() == [stats.wilcoxon([1, 2], [3, 3]).pvalue] * 2 and found["n"].tolist() == [3, 2]


def test_the_papers_numbers_beside_ours_for_the_eye():
    ours = long(cases(**{"ACNN-Seg": [[1.0, 2.0]], "mine": [[4.0, np.inf]]}), "part", ["LV"], ["hd"], Rule())
    paper = pd.DataFrame({"method": ["ACNN-Seg"], "what": "LV", "measure": "hd", "mean": 7.89, "sd": 3.83})
    table = beside(ours, paper)
    assert table["paper_mean"].tolist() == pytest.approx([7.89, np.nan], nan_ok=True)
    shown = layout(table.assign(p=[0.034, np.nan], n=6))["LV hd"]
    assert shown.to_dict() == {"ACNN-Seg": "1.50±0.71 (7.89±3.83) p=0.03", "mine": "4.00±nan [1 missed]"}


def test_of_too_few_pairs_the_least_p_is_said():
    assert p_text(0.03125, 6) == "0.031" and p_text(1, 5) == "1 (n=5: 0.062 at least)"
    three = long(cases(a=[[1.0, 2.0, 3.0]], b=[[2.0, 4.0, 6.0]]), "part", ["LV"], ["hd"], Rule(pair=("a", "b")))
    assert layout(three.assign(paper_mean=np.nan))["LV hd"]["a"] == "2.00±1.00 p=0.25 (n=3: 0.25 at least)"


@pytest.mark.parametrize(
    ("paper", "numerals"),
    [
        ("acnn", {"I": 42, "II": 24, "III": 8, "III-F": 6}),
        ("sslln", {"I": 24, "II": 12, "III": 16, "IV": 20, "V": 24, "VI": 12}),
        ("two_stage", {"2": 42, "3": 42, "4 CT": 24, "4 MR": 24, "ACDC": 2}),
    ],
)
def test_printed_tables_have_each_number_once(paper, numerals):
    for numeral, n in numerals.items():
        rows = printed(paper, numeral)
        assert (
            len(rows) == n and not rows.duplicated(["method", "what", "measure"]).any() and rows["mean"].notna().all()
        )


@pytest.mark.parametrize(("numeral", "lost"), [("2", []), ("3", ["RV cavity", "ascending aorta"])])
def test_net2_wins_where_the_two_stage_paper_says_so(numeral, lost):
    """ "Net2 produced highest Dice and Jaccard scores for all segmented structures in CT"; in MR "better segmentation
    accuracy except for RV and AA" """
    rows = printed("two_stage", numeral).pivot(index=["measure", "what"], columns="method", values="mean")
    assert list(rows.columns) == ["3D U-Net", "Net1", "Net2"] and len(rows) == 2 * 7
    behind = rows.index[rows["Net2"] < rows[["3D U-Net", "Net1"]].max(axis=1)]
    assert list(behind) == [(measure, what) for measure in ("dice", "jaccard") for what in lost]


@pytest.mark.parametrize("numeral", ["2", "3", "4 CT", "4 MR"])
def test_jaccard_and_dice_of_the_two_stage_paper_agree(numeral):
    """J = D / (2 - D) of each heart is convex in D, and below it: the mean J lies between those of the mean D."""
    rows = printed("two_stage", numeral)
    one = rows.pivot(index=["method", "what"], columns="measure", values="mean")
    assert one["jaccard"].between(one["dice"] / (2 - one["dice"]) - 5e-4, one["dice"]).all()
    seven = one.drop("whole heart", level="what", errors="ignore").index.get_level_values("what")
    assert set(seven) == set(WHOLE_HEART.names)


def test_whole_hearts_and_short_axis_stacks_of_others():
    ct, mr, acdc = (printed("two_stage", t).set_index("what")["mean"] for t in ("4 CT", "4 MR", "ACDC"))
    assert ct["whole heart"].tolist() == [0.806, 0.697, 4.1971]
    assert mr["whole heart"].tolist() == [
        0.8323,
        0.7201,
        2.4718,
    ]
    assert acdc["mean"].tolist() == [0.915, 0.9265]
