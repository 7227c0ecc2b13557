"""`shapelab notebooks`: which ones are executed and how, and wrong usage."""

from __future__ import annotations

from pathlib import Path

import pytest

from shapelab.commands.main import main
from shapelab.course import runner
from shapelab.course.results import Failure, Report, Result


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two files that pass for notebooks as long as none is opened."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("00_a", "01_b"):
        (folder / f"{name}.ipynb").touch()
    return folder


def test_arguments_are_handed_on_and_a_failure_is_the_exit_code(folder, tmp_path, monkeypatch):
    calls = []

    def run(paths, output, **options):
        calls.append(([p.stem for p in paths], output, options))
        return Report(tuple(Result(p, 1.0, Failure(2, "no") if p.stem == "01_b" else None) for p in paths))

    monkeypatch.setattr(runner, "run", run)
    options = ["--jobs", "2", "--timeout", "9", "--profile", "quick", "-o", str(tmp_path)]
    assert main(["notebooks", "0", "--folder", str(folder), *options]) == 0
    assert main(["notebooks", "--folder", str(folder), "--in-place"]) == 1
    assert calls[0] == (["00_a"], tmp_path, {"jobs": 2, "timeout": 9, "profile": "quick"})
    assert calls[1] == (["00_a", "01_b"], None, {"jobs": 1, "timeout": 600, "profile": None})


def test_unknown_number_is_wrong_usage(folder, capsys):
    assert main(["notebooks", "--folder", str(folder), "17"]) == 2
    assert "no notebook 17; expected some of 00_a" in capsys.readouterr().err


def test_unknown_profile_is_wrong_usage(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "fast")
    assert main(["notebooks", "--folder", str(folder), "-o", str(tmp_path)]) == 2
    assert "expected one of quick, full, paper" in capsys.readouterr().err


def test_list_executes_nothing(folder, capsys):
    assert main(["notebooks", "--folder", str(folder), "--list"]) == 0
    assert capsys.readouterr().out == f"{folder / '00_a.ipynb'}\n{folder / '01_b.ipynb'}\n"
