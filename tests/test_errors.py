"""Checks of arguments: what passes, what is refused, and in which words."""

import math
import pickle

import numpy as np
import pytest

from shapelab.errors import DataError, UsageError, in_range, one_of, spacing3, whole


def refused(check, *arguments, **options):
    with pytest.raises(UsageError) as error:
        check(*arguments, **options)
    return str(error.value)


def test_must():
    from shapelab.errors import must

    must([0], "seed", 0, "a seed")
    with pytest.raises(UsageError, match=r"^seed: found 2 numbers; expected one$"):
        must(0, "seed", "2 numbers", "one")


def test_one_of_hands_on_what_is_known_and_names_the_nearest():
    assert one_of("table", 2, (1, 2)) == 2 and one_of("group", None, (None, "NOR")) is None
    assert refused(one_of, "surface", "voxels", ("voxel", "element")) == (
        "surface: found 'voxels'; expected one of voxel, element. Did you mean 'voxel'?"
    )
    assert refused(one_of, "table", "x", (1, 2)) == "table: found 'x'; expected one of 1, 2"
    assert "found True" in refused(one_of, "table", True, ("1", "2"))


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_whole_numbers(value):
    assert whole("n", value) == value and type(whole("n", value)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, math.nan])
def test_what_is_no_whole_number(value):
    assert refused(whole, "n", value) == f"n: found {value!r}; expected a whole number from 1"


def test_limits_are_said():
    assert refused(whole, "n", 9, 2, 8) == "n: found 9; expected a whole number from 2 to 8"
    assert refused(in_range, "share", 1.5, 0, 1) == "share: found 1.5; expected a number from 0 to 1"
    assert refused(in_range, "rate", 0, above=True) == "rate: found 0; expected a number above 0"
    assert in_range("share", 1, 0, 1) == 1.0 and in_range("share", np.float32(0.5)) == 0.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, "1", True, None])
def test_what_is_no_number_in_range(value):
    assert "expected a number from 0" in refused(in_range, "x", value)


def test_spacing_is_three_lengths():
    assert spacing3("spacing", np.array([1, 2, 2.5])) == (1.0, 2.0, 2.5)
    for wrong in ((1, 2), (1, 2, 0), (1, 2, math.nan), (1, 2, math.inf), "abc", None, 3, (1, 2, -3)):
        assert "expected three voxel sizes in mm, above 0" in refused(spacing3, "spacing", wrong)


def test_an_error_about_a_file_survives_another_process():
    error = DataError("a.nii", "text", "voxels", "Copy it again.")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.nii: found text; expected voxels. Copy it again."
