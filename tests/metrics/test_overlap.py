import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score

from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError
from shapelab.metrics import dice, dice_table

maps = hnp.arrays(np.uint8, (4, 4, 3), elements=st.integers(0, 3))


def test_by_hand():
    a = np.array([3, 3, 3, 0, 2, 0])
    b = np.array([3, 3, 0, 0, 0, 0])
    values = dice(a, b, CARDIAC)
    assert values["LV cavity"] == pytest.approx(0.8) and values["LV myocardium"] == 0 and values["RV cavity"] == 1


@given(maps, maps)
def test_agrees_with_f1_of_scikit_learn_and_is_symmetric(a, b):
    values = dice(a, b, CARDIAC)
    expected = f1_score(a.ravel(), b.ravel(), labels=[1, 2, 3], average=None, zero_division=1.0)
    assert np.allclose(values, expected)
    assert np.allclose(values, dice(b, a, CARDIAC))
    assert (dice(a, a, CARDIAC) == 1).all()


def test_table_and_bad_shapes():
    a = np.zeros((2, 3, 3, 3), np.uint8)
    assert dice_table(a, a, CARDIAC, index=["x", "y"]).shape == (2, 3)
    b = np.ones((2, 3, 3, 3), np.uint8)
    named = dice_table({"y": b[0], "x": a[0]}, pd.Series({"x": a[1], "y": a[1]}), CARDIAC)
    assert named["RV cavity"].to_dict() == {"x": 1, "y": 0} and list(named.index) == ["x", "y"]
    with pytest.raises(DataError, match="dice_table: found values for 'y', 'x'"):
        dice_table({"y": b[0], "x": a[0]}, a, CARDIAC, index=["x", "z"])
    with pytest.raises(DataError, match="the same shape"):
        dice(a[0], a, CARDIAC)
    with pytest.raises(DataError, match="2 predictions and 1"):
        dice_table(a, a[:1], CARDIAC)
