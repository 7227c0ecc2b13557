import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.metrics import bootstrap_mean, compare, compare_methods, evaluate, evaluate_cohort, summary
from shapelab.metrics.evaluation import COLUMNS


@pytest.fixture(scope="module")
def maps():
    """Three truths and predictions; the third prediction misses label 1; label 3 is in the first case alone."""
    truth = np.zeros((3, 10, 9, 4), np.uint8)
    truth[:, 1:4, 1:4, 1:3], truth[:, 5:9, 2:8, :] = 1, 2
    truth[0, 0, 0, 0] = 3
    prediction = np.roll(truth, 1, axis=2)
    prediction[2][prediction[2] == 1] = 0
    return prediction, truth


SPACING = (1.0, 1.5, 8.0)


def test_long_table(maps):
    table = evaluate_cohort(*maps, SPACING, index=["p1", "p2", "p3"], method="net")
    assert list(table) == ["method", "id", "label", *COLUMNS] and len(table) == 9
    for n, name in enumerate(["p1", "p2", "p3"]):
        expected = evaluate(maps[0][n], maps[1][n], SPACING)
        rows = table[table["id"] == name].set_index("label")
        assert rows.loc[expected.index, list(COLUMNS)].equals(expected)
    # label 3 is in neither map of p2: a row all the same, by the policy for empty masks
    empty = table[(table["id"] == "p2") & (table["label"] == 3)].iloc[0]
    assert empty["dice"] == 1 and empty["hd"] == 0 and not empty["missed"] and table["missed"].sum() == 1
    assert table["missed"].dtype == bool and (table["method"] == "net").all()


def test_schemes_iterables_and_spacing_by_case(maps):
    spacings = np.array([SPACING, (2, 2, 2), (1, 1, 1)])
    table = evaluate_cohort(iter(maps[0]), (m for m in maps[1]), spacings, labels=CARDIAC, surface="element")
    assert table["label"].tolist() == 3 * list(CARDIAC.names) and table["id"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    row = evaluate(maps[0][1], maps[1][1], (2, 2, 2), surface="element").loc[2]
    assert table.iloc[4]["assd"] == row["assd"] and table.iloc[4]["volume"] == row["volume"]


def test_what_has_names_is_matched_by_them(maps):
    ids, spacings = ["p1", "p2", "p3"], np.array([SPACING, (2, 2, 2), (1, 1, 1)])
    wanted = evaluate_cohort(*maps, spacings, index=ids)
    named = [dict(zip(ids, arrays)) for arrays in maps]
    other = [dict(reversed(one.items())) for one in named]
    sizes = pd.DataFrame(spacings, index=ids, columns=list("xyz"))
    for ours, true, size, index in (
        (other[0], named[1], sizes, None),
        (pd.Series(other[0]), other[1], sizes[::-1], ids),
        (maps[0], pd.Series(named[1]), dict(zip(ids, spacings)), None),
        (other[0], maps[1], spacings, ids),
    ):
        pd.testing.assert_frame_equal(evaluate_cohort(ours, true, size, index=index), wanted)
    assert evaluate_cohort(named[0], other[1], spacings[::-1])["id"].unique().tolist() == ids[::-1]  # the truths' order
    with pytest.raises(
        DataError, match="evaluate_cohort: found values for 'p1', 'p2', 'p3'; expected one for each of 'p1'"
    ):
        evaluate_cohort(named[0], named[1], SPACING, index=["p1", "p2", "p4"])
    with pytest.raises(DataError, match="spacings: found values for 0, 1, 2"):
        evaluate_cohort(*maps, pd.DataFrame(spacings), index=ids)


def test_cases_without_a_group_are_a_group_of_their_own(maps):
    table = evaluate_cohort(*maps, SPACING).assign(group=lambda t: t["id"].map({0: "NOR", 1: None, 2: "NOR"}))
    assert summary(table, by=["group"], measures=["dice"])["n"].tolist() == [6, 3]
    both = pd.concat([table.assign(method=m, dice=table["dice"] * w) for m, w in (("a", 1), ("b", 0.5))])
    assert compare_methods(both[both["label"] == 2], "a", "b", by="group")["n"].tolist() == [2, 1]


def test_cohort_names_what_is_wrong(maps):
    with pytest.raises(DataError, match="3 predictions and 2 truths"):
        evaluate_cohort(maps[0], maps[1][:2], SPACING)
    with pytest.raises(DataError, match="0 predictions"):
        evaluate_cohort([], [], SPACING)
    with pytest.raises(UsageError, match="spacings: found shape"):
        evaluate_cohort(*maps, [SPACING, SPACING])
    with pytest.raises(UsageError, match="index: found 2 names"):
        evaluate_cohort(*maps, SPACING, index=["a", "b"])
    with pytest.raises(UsageError, match="index: found 3 names, 2 of them different"):
        evaluate_cohort(*maps, SPACING, index=["a", "b", "b"])
    with pytest.raises(UsageError, match="labels: found"):
        evaluate_cohort(*maps, SPACING, labels=[0])


def test_truths_of_which_not_every_slice_was_annotated_are_named():
    full = np.ones((4, 5, 6), np.uint8)
    sparse = full.copy()
    sparse[:, :, 1::2] = 0
    with pytest.warns(UserWarning, match=r"in the truths of b \(1 of 2\)") as caught:
        table = evaluate_cohort([full, full], [full, sparse], SPACING, index=["a", "b"])
    assert len(caught) == 1 and table.dice.tolist() == [1, pytest.approx(2 / 3)]


# ------------------------------------------------------------------------------------------------ summary


def test_summary_by_hand():
    table = pd.DataFrame(
        {
            "method": "net",
            "label": "LV",
            "dice": [0.9, 0.8, 0.7, 0.0],
            "hd": [2.0, 4.0, 9.0, np.inf],
            "missed": [False, False, False, True],
        }
    )
    found = summary(table, measures=["dice", "hd"])
    dice, hd = found.loc[("net", "LV", "dice")], found.loc[("net", "LV", "hd")]
    # a missed structure: its dice of 0 is in the mean, its distance is not, and both rows say that it was missed
    assert (dice["n"], dice["n_missed"], dice["n_mean"]) == (4, 1, 4) and dice["mean"] == pytest.approx(0.6)
    assert (hd["n"], hd["n_missed"], hd["n_mean"]) == (4, 1, 3) and hd["mean"] == 5 and hd["median"] == 6.5
    assert hd["sd"] == pytest.approx(np.std([2, 4, 9], ddof=1)) and 2 <= hd["low"] <= 5 <= hd["high"] <= 9
    assert found.index.names == ["method", "label", "measure"]


def test_summary_where_all_or_nearly_all_is_missed():
    table = pd.DataFrame({"label": [1, 1, 2], "hd": [np.inf, np.inf, 3.0]})
    found = summary(table, measures=["hd"])
    assert found.loc[(1, "hd"), ["n", "n_missed", "n_mean"]].tolist() == [2, 2, 0]
    assert found.loc[(1, "hd"), ["mean", "sd", "low", "high"]].isna().all() and found.loc[(1, "hd"), "median"] == np.inf
    assert found.loc[(2, "hd"), ["mean", "low", "high"]].tolist() == [3, 3, 3] and np.isnan(found.loc[(2, "hd"), "sd"])


def test_summary_of_a_cohort_and_its_groups(maps):
    same = evaluate_cohort(maps[1], maps[1], SPACING, method="b")
    table = pd.concat([evaluate_cohort(*maps, SPACING, method="a"), same])
    found = summary(table)
    assert len(found) == 2 * 3 * 5 and found.loc[("a", 1, "dice"), "n_missed"] == 1
    assert (found.loc["b", "n_missed"] == 0).all() and found.loc[("b", 2, "dice"), "mean"] == 1
    assert summary(table, by=[]).loc["dice", "n"] == 18 and summary(table, by=["method"]).index.names[0] == "method"
    shuffled = summary(table.sample(frac=1, random_state=0), seed=3)
    assert summary(table, seed=3).equals(shuffled.loc[found.index])  # the order of the cases does not matter


def test_summary_names_what_is_wrong():
    table = pd.DataFrame({"dice": [0.5, np.nan]})
    with pytest.raises(DataError, match="NaN in a measure"):
        summary(table, measures=["dice"])
    with pytest.raises(UsageError, match=r"no column \['hd'\]"):
        summary(table, measures=["hd"])
    with pytest.raises(UsageError, match=r"no column \['group'\]"):
        summary(table, by=["group"], measures=["dice"])
    with pytest.raises(UsageError, match="n_bootstrap: found 0"):
        summary(table, measures=["dice"], n_bootstrap=0)
    with pytest.raises(DataError, match="no row"):
        summary(table[:0], measures=["dice"])


def test_bootstrap_of_ones_and_zeros_is_binomial_and_repeats():
    low, high = bootstrap_mean([1] * 15 + [0] * 45, 9999)
    assert [60 * low, 60 * high] == pytest.approx(stats.binom.ppf([0.025, 0.975], 60, 15 / 60))  # 9 and 22
    values = np.random.default_rng(0).gamma(2, 1, 60)
    assert bootstrap_mean(values) == bootstrap_mean(values[::-1]) != bootstrap_mean(values, seed=1)
    for bad in ([], [1, np.inf], [[1, 2]]):
        with pytest.raises(DataError, match="bootstrap_mean"):
            bootstrap_mean(bad)


@given(hnp.arrays(float, st.integers(1, 20), elements=st.floats(-10, 10)))
@settings(max_examples=30)
def test_interval_holds_the_mean_of_the_resamples(values):
    low, high = bootstrap_mean(values, 200)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9


def test_compare_methods(maps):
    a, b = evaluate_cohort(*maps, SPACING, method="a"), evaluate_cohort(maps[1], maps[1], SPACING, method="b")
    table = pd.concat([a, b.iloc[::-1]])  # cases are matched by id, not by their order
    found = compare_methods(table, "a", "b", "hd")
    expected = compare(a[a["label"] == 1]["hd"].to_numpy(), b[b["label"] == 1]["hd"].to_numpy())
    assert found.index.name == "label" and found.loc[1, "n_missed_a"] == 1 and found.loc[1, "effect"] == 1
    assert found.loc[1].to_dict() == pytest.approx(expected)
    with pytest.raises(UsageError, match="found method 'c'"):
        compare_methods(table, "a", "c")
    with pytest.raises(UsageError, match="no column"):
        compare_methods(table.drop(columns="id"), "a", "b")
    with pytest.raises(DataError, match="compare: found values for 2, 1, 0; .* Others: 0."):
        compare_methods(table[1:], "a", "b")
