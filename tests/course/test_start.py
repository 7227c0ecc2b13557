"""What the notebooks share: their first line and their hearts."""

from __future__ import annotations

import random
import warnings

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


@pytest.mark.parametrize("device, profile, told", [("cuda", "quick", 1), ("cuda", "full", 0), ("cpu", "quick", 0)])
def test_on_a_gpu_it_says_how_to_train_there(quick, capsys, monkeypatch, device, profile, told):
    monkeypatch.setenv("SHAPELAB_PROFILE", profile)
    monkeypatch.setattr("shapelab.device.best_device", lambda: torch.device(device))
    course.start("02")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"profile {profile} | device {device} | data phantom | seed 0"
    assert len(lines) == 1 + told and all("%env SHAPELAB_PROFILE=full" in line for line in lines[1:])


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
    with pytest.raises(UsageError, match="found 'mnist'; expected one of phantom, acdc"):
        course.start("02", data="mnist")


def test_start_on_acdc_that_is_not_there_says_how_to_get_it(quick, monkeypatch):
    monkeypatch.delenv("SHAPELAB_DATA", raising=False)
    with pytest.raises(DataError, match="creatis"):
        course.start("02", data="acdc")


@pytest.mark.parametrize(("profile", "n"), [("quick", 1), ("full", 2), ("paper", 3)])
def test_pick_follows_the_profile(monkeypatch, profile, n):
    monkeypatch.setenv("SHAPELAB_PROFILE", profile)
    assert course.start("02").pick(quick=1, full=2, paper=3) == n
    monkeypatch.setenv("SHAPELAB_LIMITS", "pick=1")  # of full alone
    assert course.start("02").pick(quick=5, full=6, paper=7) == {1: 5, 2: 1, 3: 7}[n]


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
    with pytest.raises(UsageError, match="n: found 0"):
        course.groups_in_turn(course.real_hearts(), 0)


def test_warnings_in_a_notebook_name_no_file_of_the_kernels(quick, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    course.start("00")
    assert warnings.formatwarning("a: found b", UserWarning, "/tmp/kernel/1.py", 3) == "UserWarning: a: found b\n"
