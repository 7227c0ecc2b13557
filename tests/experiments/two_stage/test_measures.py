"""What is measured of a label map: worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.data.scheme import WHOLE_HEART
from shapelab.experiments.tables import printed
from shapelab.experiments.two_stage import measures
from shapelab.metrics import dice

SPACING = (2.0, 2.0, 2.0)


@pytest.fixture
def truth() -> np.ndarray:
    """Structure k is a row of k + 1 voxels; structures lie apart."""
    label = np.zeros((16, 9, 5), np.uint8)
    for value in range(1, 8):
        label[2 * value - 1, 1 : value + 2, 2] = value
    return label


def test_the_whole_heart_counts_structures_by_their_size(truth):
    made = truth.copy()
    made[13, 1:5, 2] = 0  # of structure 7's eight voxels four are missed
    found = measures.scored(made, truth, WHOLE_HEART, SPACING).set_index("structure")
    assert found.index.tolist() == [*WHOLE_HEART.names, "mean", "whole heart"] and not found["missed"].any()
    last = WHOLE_HEART.names[6]
    assert found.loc[last, "dice"] == pytest.approx(8 / 12) and found.loc[last, "jaccard"] == 0.5
    assert found.loc["mean", "dice"] == pytest.approx((6 + 8 / 12) / 7)
    assert found.loc["mean", "jaccard"] == pytest.approx(6.5 / 7)
    # 2 + 3 + ... + 8 = 35 voxels in truth, 31 of them found
    assert found.loc["whole heart", "dice"] == pytest.approx(62 / 66)
    assert found.loc["whole heart", "jaccard"] == pytest.approx(31 / 35)
    # of 12 surface voxels of both four lie 1, 2, 3 and 4 voxels of 2 mm away
    assert found.loc[last, "assd"] == pytest.approx(20 / 12)
    assert found.loc["mean", "assd"] == pytest.approx(20 / 12 / 7)
    assert found.loc["whole heart", "assd"] == pytest.approx(20 / 12 * 12 / 66)


def test_dice_is_that_of_the_library(truth):
    made = np.roll(truth, 1, axis=1)
    found = measures.scored(made, truth, WHOLE_HEART, SPACING).set_index("structure")["dice"]
    assert found[list(WHOLE_HEART.names)].to_numpy() == pytest.approx(dice(made, truth, WHOLE_HEART).to_numpy())


def test_a_missed_structure_is_infinitely_far_away(truth):
    found = measures.scored(np.where(truth == 1, 0, truth), truth, WHOLE_HEART, SPACING).set_index("structure")
    assert found["missed"].tolist() == [True, *[False] * 6, True, True]
    assert np.isinf(found.loc[["LV cavity", "mean", "whole heart"], "assd"]).all()
    assert found.loc["whole heart", "dice"] == pytest.approx(2 * 33 / (33 + 35))


@pytest.mark.parametrize("table", ["4 CT", "4 MR"])
def test_the_papers_whole_heart_is_not_the_mean_of_its_structures(table):
    paper = printed("two_stage", table).set_index(["measure", "what"])["mean"]
    for measure in ("dice", "jaccard", "assd"):
        rows = paper[measure]
        of, whole = rows[list(WHOLE_HEART.names)], rows["whole heart"]
        assert of.min() < whole < of.max()  # as a weighted mean is
        better = -1 if measure == "assd" else 1
        assert better * (whole - of.mean()) > 0.005  # large structures are segmented better


def test_judged_tells_what_cannot_be_a_heart(truth):
    row = measures.judged(truth, WHOLE_HEART).iloc[0]
    assert row["violations"] > 0 and not row["plausible"]


def test_thin_parts_have_a_row_each(monkeypatch, truth):
    monkeypatch.setattr(measures, "thin_dice", lambda made, truth, scheme, spacing: {"veins": 0.5, "branches": 0.25})
    found = measures.thin(truth, truth, WHOLE_HEART, SPACING)
    assert found["structure"].tolist() == ["veins", "branches"] and found["dice"].tolist() == [0.5, 0.25]
