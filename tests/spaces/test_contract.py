"""What every shape space can do, and the checks of what it is given."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from shapelab.data.grid import Grid
from shapelab.data.placement import LaidLabels, Placement
from shapelab.data.scheme import LabelScheme, Structure
from shapelab.errors import DataError, UsageError
from shapelab.spaces.contract import (
    ShapeSpace,
    batches,
    check_codes,
    check_labels,
    check_placement,
    code_names,
    code_size,
    encode_batches,
)

GRID = Grid((2, 3, 4), (1.0, 1.0, 2.0))
FAR = LabelScheme("far", (Structure(500, "cavity", "#000000"), Structure(205, "wall", "#ffffff")))


def test_a_space_is_known_by_what_it_can_do():
    whole = SimpleNamespace(grid=GRID, scheme=FAR, mean=0, sigma=1, encode=len, decode=len)
    assert isinstance(whole, ShapeSpace)
    del whole.decode
    assert not isinstance(whole, ShapeSpace)


def test_names_of_codes_sort_as_the_codes_do():
    assert code_names(3) == ["z00", "z01", "z02"]
    assert code_names(101)[-1] == "z100" and code_names(100)[-1] == "z99"
    assert code_names(101) == sorted(code_names(101))


def test_codes_are_rows_of_finite_numbers():
    assert check_codes([1, 2], 2).tolist() == [[1, 2]] and check_codes(np.zeros((3, 2)), 2).dtype == np.float32
    with pytest.raises(UsageError, match=r"codes: found shape \(3,\); expected \(N, 2\) or \(2,\)"):
        check_codes(np.zeros(3), 2)
    with pytest.raises(UsageError, match="NaN or infinity in row 1"):
        check_codes([[0, 0], [np.inf, 0], [np.nan, 0]], 2)


def test_codes_of_a_table_go_by_their_names():
    table = pd.DataFrame({"z1": [1.0, 4], "group": ["A", "B"], "z0": [0.0, 3], "z2": [2.0, 5]}, index=["a", "b"])
    assert check_codes(table, 3).tolist() == [[0, 1, 2], [3, 4, 5]] and check_codes(table.loc["b"], 3).tolist() == [
        [3, 4, 5]
    ]
    assert check_codes(pd.Series([7.0, 8.0]), 2).tolist() == [[7, 8]]  # no names: as it stands
    for wrong in (table.drop(columns="z1"), table.rename(columns={"z1": "z00"}), table.assign(z3=1.0)):
        with pytest.raises(UsageError, match="expected z00 to z02, each once"):
            check_codes(wrong, 3)


def test_label_maps_become_channel_numbers():
    labels = np.zeros((1, *GRID.shape), np.int16)
    labels[0, 0], labels[0, 1, 0] = 500, 205
    made = check_labels(labels, GRID, FAR)
    assert made.dtype == np.uint8 and (made[0, 0] == 1).all() and (made[0, 1, 0] == 2).all() and made.sum() == 12 + 8
    for wrong, words in ((labels[0], r"shape \(2, 3, 4\)"), (labels[:0], "no label map"), (labels + 1, "label value")):
        with pytest.raises(DataError, match=words):
            check_labels(wrong, GRID, FAR)


def test_batches_cover_everything_once_and_in_order():
    assert list(batches(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)] and list(batches(0, 2)) == []
    seen = []

    def encode(labels):
        seen.append(len(labels))
        return labels.reshape(len(labels), -1)[:, :2]

    labels = np.arange(5 * 4).reshape(5, 2, 2, 1)
    codes = encode_batches(SimpleNamespace(encode=encode), labels, 2)
    assert seen == [2, 2, 1] and codes.dtype == np.float32 and codes[:, 0].tolist() == [0, 4, 8, 12, 16]
    assert code_size(SimpleNamespace(mean=np.zeros(7))) == 7


def test_label_maps_laid_another_way_than_the_spaces_own_are_said():
    class Space:
        placement = Placement(align="rigid")

    labels = np.zeros((1, 2, 2, 2), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for known in (labels, LaidLabels.of(labels, Space.placement)):
            check_placement(Space(), known)
        check_placement(object(), LaidLabels.of(labels, Placement()))
    with pytest.warns(UserWarning, match="found them laid with .*align='none'.*expected .*align='rigid'"):
        check_placement(Space(), LaidLabels.of(labels, Placement()))
