"""What the notebooks share: first line, hearts, checks of exercises."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from shapelab import course
from shapelab.errors import DataError, UsageError


@pytest.fixture
def quick(monkeypatch):
    """The quick profile; what `start` sets for a whole process is undone."""
    import matplotlib
    import pandas as pd

    monkeypatch.setenv("SHAPELAB_PROFILE", "quick")
    with matplotlib.rc_context(), pd.option_context("display.float_format", None):
        yield


def _rename(folder, name):
    for file in folder.iterdir():
        file.rename(file.with_name(file.name.replace(folder.name, name)))
    folder.rename(folder.with_name(name))


@pytest.fixture
def acdc(make_acdc, tmp_path, monkeypatch):
    """A tiny ACDC under SHAPELAB_DATA, its groups one after another as in the real one, and two test patients."""
    root = make_acdc(tmp_path / "acdc", n=10)
    for i in range(1, 11):
        info = root / "training" / f"patient{i:03d}" / "Info.cfg"
        lines = [line for line in info.read_text().splitlines() if not line.startswith("Group")]
        group = ("NOR", "DCM", "HCM", "MINF", "RV")[(i - 1) // 2]
        info.write_text("\n".join([*lines, f"Group: {group}"]) + "\n")
    make_acdc(root, n=2, subset="testing")
    for i in (1, 2):
        _rename(root / "testing" / f"patient{i:03d}", f"patient{i + 100}")
    monkeypatch.setenv("SHAPELAB_DATA", str(tmp_path))
    return root


# ---------------------------------------------------------------------------------------------- start


def test_start_prints_one_line_with_all_four(quick, capsys):
    run = course.start("02", seed=3)
    assert capsys.readouterr().out == f"profile quick | device {run.device} | data phantom | seed 3\n"
    assert (run.chapter, run.profile, run.data, run.seed) == ("02", "quick", "phantom", 3)


def test_start_seeds_everything(quick):
    def draws():
        course.start("02", seed=7)
        return random.random(), np.random.rand(), float(torch.rand(1))  # noqa: NPY002 - the state that is seeded

    assert draws() == draws()


def test_start_sets_the_look_of_figures_and_tables(quick):
    import matplotlib
    import pandas as pd

    course.start("02")
    assert matplotlib.rcParams["axes.spines.top"] is False
    assert str(pd.Series([147.6321, 2500.7])).split()[:4] == ["0", "148", "1", "2,501"]


def test_start_with_unknown_data(quick):
    with pytest.raises(UsageError, match="found 'mnist'; expected one of 'phantom', 'acdc'"):
        course.start("02", data="mnist")


def test_start_on_acdc_that_is_not_there_says_how_to_get_it(quick, monkeypatch):
    monkeypatch.delenv("SHAPELAB_DATA", raising=False)
    with pytest.raises(DataError, match="creatis"):
        course.start("02", data="acdc")


@pytest.mark.parametrize(("profile", "n"), [("quick", 1), ("full", 2), ("paper", 3)])
def test_pick_follows_the_profile(monkeypatch, profile, n):
    monkeypatch.setenv("SHAPELAB_PROFILE", profile)
    assert course.start("02").pick(quick=1, full=2, paper=3) == n


# ---------------------------------------------------------------------------------------------- hearts


def test_hearts_are_phantoms_of_the_seed(quick):
    run = course.start("02", seed=5)
    hearts = run.hearts(10)
    assert (hearts.name, len(hearts.patients), len(hearts)) == ("phantom", 10, 20)
    assert list(hearts.table["group"][::2])[:5] == ["NOR", "DCM", "HCM", "MINF", "RV"]
    assert (run.hearts(3, phases=("ED",))[0].label == hearts[0].label).all()


def test_hearts_of_acdc_take_turns(quick, acdc):
    hearts = course.start("02", data="acdc").hearts(5)
    assert list(hearts.table["group"]) == [g for g in ("NOR", "DCM", "HCM", "MINF", "RV") for _ in "ab"]
    assert list(hearts.table["phase"]) == ["ED", "ES"] * 5
    assert len(course.start("02", data="acdc").hearts(99).patients) == 10


@pytest.mark.parametrize("value", [None, "", "no such folder"])
def test_real_hearts_where_there_are_none(value, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("SHAPELAB_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("SHAPELAB_DATA", str(tmp_path / value))
    assert course.real_hearts() is None
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "computes nothing" in said and "creatis" in said
    assert str(tmp_path) not in said


def test_real_hearts_name_their_source(acdc, capsys):
    hearts = course.real_hearts()
    assert len(hearts.patients) == 10
    said = capsys.readouterr().out
    assert said.startswith("ACDC: 10 patients, 20 label maps. Bernard et al.") and "CC BY-NC-SA 4.0" in said
    assert len(course.real_hearts(3)) == 6


def test_real_hearts_that_are_broken_are_an_error(acdc):
    next((acdc / "training" / "patient003").glob("*_gt.nii.gz")).write_bytes(b"no image")
    with pytest.raises(DataError, match="patient003"):
        course.real_hearts()


def test_groups_in_turn_wants_a_patient(acdc):
    with pytest.raises(UsageError, match="n=0"):
        course.groups_in_turn(course.real_hearts(), 0)


# ---------------------------------------------------------------------------------------------- exercises


@pytest.mark.parametrize(
    ("answer", "expected", "tolerance", "right"),
    [
        (60.02, 60.0, 0.05, True),
        (60.2, 60.0, 0.05, False),
        (np.float32(2), 2, 0, True),
        (" Septum ", "septum", 0, True),
        ("apex", "septum", 0, False),
        (True, True, 0, True),
        (1, True, 0, False),
        (True, 1, 0, False),
        (np.array([1.0, 2.0]), np.array([1.0, 2.001]), 0.01, True),
        ([1, 2], np.array([1, 2, 3]), 0, False),
        (["a", "b"], ["a", "b"], 0, True),
        ({"a": 1.0}, {"a": 1.0}, 0, True),
        ({"a": 1.0}, {"a": 1.0, "b": 2}, 0, False),
        (float("nan"), 1.0, 0, False),
        ([[1], [2, 3]], [1, 2], 0, False),
    ],
)
def test_same(answer, expected, tolerance, right):
    assert course.same(answer, expected, tolerance) is right


@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer_is_not_wrong(answer, capsys):
    course.check("1", answer, 3)
    assert capsys.readouterr().out == "Exercise 1: no answer yet.\n"


def test_right_and_wrong(capsys):
    course.check("2", 147.6, 147.6)
    course.check("2", 147_600, 147.6, wrong={"That is mm3; ml are a thousand of them.": 147_600})
    course.check("2", 12, 147.6, hint="Count voxels first.")
    assert capsys.readouterr().out.splitlines() == [
        "Exercise 2: right.",
        "Exercise 2: not yet. That is mm3; ml are a thousand of them.",
        "Exercise 2: not yet. Count voxels first.",
    ]


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        ("3", 3, "no text"),
        (3, "septum", "Expected a text"),
        ([1, 2], 3, "Expected one number, found 2"),
        (float("inf"), 3.0, "no finite number"),
        (np.zeros(2), np.zeros(3), "Expected shape (3,), found (2,)"),
    ],
)
def test_the_kind_of_an_answer_is_told_first(answer, expected, said, capsys):
    course.check("1", answer, expected, hint="elsewhere")
    assert said in capsys.readouterr().out


def test_a_predicate_decides(capsys):
    course.check("3", 8, lambda n: n % 2 == 0)
    course.check("3", 7, lambda n: n % 2 == 0, hint="Even.")
    course.check("3", "x", lambda n: n % 2 == 1)
    right, wrong, strange = capsys.readouterr().out.splitlines()
    assert (right, wrong) == ("Exercise 3: right.", "Exercise 3: not yet. Even.")
    assert "could not be looked at (TypeError" in strange


def test_functions(capsys):
    cases = [((1, 2), 3), ((5, 5), 10)]
    course.check_function("4", lambda a, b: a + b, cases)
    course.check_function("4", lambda a, b: None, cases)
    course.check_function("4", lambda a, b: 3, cases, hint="Look at both.")
    course.check_function("4", lambda a, b: a / 0, cases)
    assert capsys.readouterr().out.splitlines() == [
        "Exercise 4: right.",
        "Exercise 4: no answer yet.",
        "Exercise 4: not yet. Case 2 of 2 comes out wrong. Look at both.",
        "Exercise 4: not yet. Your function raised ZeroDivisionError: division by zero in case 1 of 2.",
    ]
