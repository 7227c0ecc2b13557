import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance

from shapelab.errors import UsageError
from shapelab.latent import classification_report, important_dimensions
from shapelab.latent.importance import dimension_importance, held_out_importance
from tests.latent.test_classification import QUICK, SMALL, codes_of


@pytest.fixture(scope="module")
def result():
    return classification_report(
        codes_of(d=6), model=SMALL, phases=("ED", "ES"), controls=("shuffled",), settings=QUICK
    )


@pytest.mark.parametrize("by", ["impurity", "held_out"])
def test_the_dimension_that_tells_the_groups_comes_first(result, by):
    assert important_dimensions(result, 1, by) == [1]
    ranked = dimension_importance(result, by)
    assert sorted(ranked.index) == list(range(6)) and ranked.is_monotonic_decreasing
    rows = result.select("importances")
    assert ranked[1] == pytest.approx(rows.set_index("column").loc[["ED_z01", "ES_z01", "d_z01"], by].sum())
    assert len(rows) == 18 and rows["impurity"].sum() == pytest.approx(1)


def test_held_out_importance_ranks_as_scikit_learns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    y = (x[:, 3] + 0.5 * x[:, 1] > 0).astype(int)
    model = RandomForestClassifier(50, random_state=0).fit(x[:100], y[:100])
    ours = held_out_importance(model, x[:100], x[100:], y[100:], rng)
    theirs = permutation_importance(model, x[100:], y[100:], n_repeats=10, random_state=0).importances_mean
    assert ours.argsort()[::-1][:2].tolist() == theirs.argsort()[::-1][:2].tolist() == [3, 1]
    assert np.abs(ours[[0, 2, 4]]).max() < 0.05 < ours[1]


def test_a_class_without_training_patients_counts_for_nothing():
    x = np.arange(6.0).reshape(-1, 1)
    model = RandomForestClassifier(5, random_state=0).fit(x, list("AAABBB"))
    assert held_out_importance(model, x, x[:1], np.array(["C"]), np.random.default_rng(0)).tolist() == [0]


def test_bad_arguments(result):
    with pytest.raises(UsageError, match="k: found 7; expected a whole number from 1 to 6"):
        important_dimensions(result, 7)
    with pytest.raises(UsageError, match="by: found 'gain'"):
        important_dimensions(result, 1, "gain")
    with pytest.raises(UsageError, match="without importances"):
        important_dimensions(result, 1, features="shuffled labels")
