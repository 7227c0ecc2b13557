"""Names of what is written, and the checks of them before anything is computed."""

import os
import warnings
from pathlib import Path

import pytest

from shapelab.commands.files.outputs import beside, check_outputs, listened
from shapelab.errors import UsageError


@pytest.mark.parametrize(
    ("name", "ending", "found"),
    [("o.nii.gz", ".json", "o.json"), ("o.nii", "_es.nii", "o_es.nii"), ("a.b.nii.gz", ".png", "a.b.png")],
)
def test_beside(name, ending, found):
    assert beside(Path("x") / name, ending) == Path("x") / found


def test_outputs_that_may_be_written(tmp_path):
    check_outputs([tmp_path / "new" / "o.nii.gz"], [tmp_path / "new" / "o.json"], [tmp_path / "a.nii"], force=False)


def test_outputs_that_may_not(tmp_path):
    there = tmp_path / "there.nii"
    there.touch()
    for outputs, reports, inputs, match in (
        ([tmp_path / "o.png"], [], [], "ends in .nii"),
        ([there], [], [there], "is an input"),
        ([tmp_path / "o.nii"] * 2, [], [], "two names"),
        ([there], [], [], "already there"),
        ([tmp_path / "o.nii"], [there], [], "already there"),
        ([there / "o.nii"], [], [], "nothing can be written"),
    ):
        with pytest.raises(UsageError, match=match):
            check_outputs(outputs, reports, inputs, force=False)
    check_outputs([there], [], [], force=True)
    assert os.listdir(tmp_path) == ["there.nii"]


def test_what_a_network_warns_of_is_listened_to_each_once():
    def read():
        for text in ("a heart is cut off.", "no heart", "a heart is cut off."):
            warnings.warn(text, stacklevel=1)
        return 7

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they are for the report alone
        assert listened(read) == (7, ["a heart is cut off", "no heart"])
        assert listened(lambda: 8) == (8, [])
