"""What a classification gave: rows by their keys, confusion matrices by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from shapelab.errors import UsageError
from shapelab.latent import ClassificationResult


@pytest.fixture
def result() -> ClassificationResult:
    """Three patients, two repeats: a is always taken for A; b once for A; c, of class B, always for B."""
    keys = {"features": "codes", "phases": "ED", "model": "forest"}
    rows = [("a", "A", "A"), ("b", "B", "A"), ("c", "B", "B"), ("a", "A", "A"), ("b", "B", "B"), ("c", "B", "B")]
    predictions = pd.DataFrame(
        [{**keys, "repeat": i // 3, "patient": p, "truth": t, "predicted": f} for i, (p, t, f) in enumerate(rows)]
    )
    other = predictions.assign(model="boosting", predicted="B")
    table = pd.DataFrame([keys, {**keys, "model": "boosting"}])
    return ClassificationResult(table, pd.concat([predictions, other]), pd.DataFrame(), ("A", "B"))


def test_rows_that_are_not_asked_for_are_those_of_the_first(result):
    assert set(result.select()["model"]) == {"forest"} and len(result.select()) == 6
    assert set(result.select(model="boosting")["predicted"]) == {"B"}
    assert result.select("table", model="boosting")["model"].tolist() == ["boosting"]


def test_confusion_has_the_truth_in_its_rows_and_is_a_mean_over_repeats(result):
    found = result.confusion()
    assert (found.index.name, found.columns.name) == ("truth", "predicted")
    assert found.to_numpy().tolist() == [[1, 0], [0.5, 1.5]]
    assert result.confusion(normalise=True).to_numpy().tolist() == [[1, 0], [0.25, 0.75]]
    assert result.confusion(model="boosting").to_numpy().tolist() == [[0, 1], [0, 2]]


def test_unknown_row_is_named(result):
    with pytest.raises(UsageError, match="model: found 'extra'; expected one of forest, boosting"):
        result.confusion(model="extra")
    with pytest.raises(UsageError, match="'fold'"):
        result.select(fold=1)
