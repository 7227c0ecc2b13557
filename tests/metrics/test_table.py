import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.metrics import bootstrap_mean, evaluate, evaluate_cohort
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


def test_bootstrap_is_near_scipys_and_repeats():
    values = np.random.default_rng(0).gamma(2, 1, 60)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=9999, rng=1).confidence_interval
    low, high = bootstrap_mean(values, 9999)
    assert low == pytest.approx(expected.low, abs=0.02) and high == pytest.approx(expected.high, abs=0.02)
    assert bootstrap_mean(values) == bootstrap_mean(values[::-1]) != bootstrap_mean(values, seed=1)
    for bad in ([], [1, np.inf], [[1, 2]]):
        with pytest.raises(DataError, match="bootstrap_mean"):
            bootstrap_mean(bad)


@given(hnp.arrays(float, st.integers(1, 20), elements=st.floats(-10, 10)))
@settings(max_examples=30)
def test_interval_holds_the_mean_of_the_resamples(values):
    low, high = bootstrap_mean(values, 200)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
