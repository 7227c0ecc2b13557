"""`shapelab data`: what is listed, where it is fetched to, what is wrong with a folder."""

from __future__ import annotations

import types
from pathlib import Path

import pandas as pd

from shapelab.commands import main as cli


def card(**facts) -> types.SimpleNamespace:
    known = {"name": "acdc", "title": "Hearts", "licence": "CC", "home": "acdc.example", "folder": "acdc"}
    return types.SimpleNamespace(**known | {"fetchable": False, "make": None} | facts)


def test_data_list(stand_in, tmp_path, monkeypatch, capsys):
    (tmp_path / "acdc").mkdir()
    cards = [
        card(),
        card(name="hippocampus", folder="Task04", fetchable=True),
        card(name="elsewhere", folder="Elsewhere"),
        card(name="phantom", folder="", home="", make=print),
        card(name="folder", folder=""),
    ]
    stand_in("shapelab.data", catalogue=lambda: {c.name: c for c in cards})
    monkeypatch.setenv("SHAPELAB_DATA", str(tmp_path))
    assert cli.main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "what", "licence", "here", "home"]
    here = {line.split()[0]: line for line in lines[1:]}
    assert "yes" in here["acdc"] and "no (can be fetched)" in here["hippocampus"] and " no " in here["elsewhere"]
    assert "built in" in here["phantom"] and "give its folder" in here["folder"]
    assert all(line == line.rstrip() for line in lines)


def test_data_list_says_how_to_name_the_folder(stand_in, monkeypatch, capsys):
    stand_in("shapelab.data", catalogue=lambda: {"acdc": card()})
    monkeypatch.delenv("SHAPELAB_DATA", raising=False)
    assert cli.main(["data", "list"]) == 0
    assert "SHAPELAB_DATA is not set" in capsys.readouterr().out


def test_data_fetch_goes_where_it_is_told(stand_in, monkeypatch, tmp_path, capsys):
    stand_in("shapelab.data", fetch=lambda name, root: Path(root) / name)
    monkeypatch.setenv("SHAPELAB_DATA", str(tmp_path))
    assert cli.main(["data", "fetch", "x"]) == 0
    assert cli.main(["data", "fetch", "x", "--root", "other"]) == 0
    assert capsys.readouterr().out == f"x is at {tmp_path / 'x'}\nx is at other/x\n"


def test_data_fetch_without_a_place(stand_in, monkeypatch, capsys):
    from shapelab.data.download import fetch

    stand_in("shapelab.data", fetch=fetch)
    monkeypatch.delenv("SHAPELAB_DATA", raising=False)
    assert cli.main(["data", "fetch", "hippocampus"]) == 2
    assert "--root DIR" in capsys.readouterr().err


def test_data_check(stand_in, capsys):
    columns = ["file", "problem", "found", "expected", "todo"]
    tables = {
        "good": pd.DataFrame(columns=columns),
        "bad": pd.DataFrame([["[red].nii", "shape", (1, 2), (3, 4), "mend it"]], columns=columns),
    }
    stand_in("shapelab.data", check_folder=lambda folder, name=None: tables[str(folder)])
    assert cli.main(["data", "check", "good"]) == 0
    assert capsys.readouterr().out == "good: nothing wrong\n"
    assert cli.main(["data", "check", "bad", "--name", "acdc"]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split() == ["[red].nii", "shape", "(1,", "2)", "(3,", "4)", "mend", "it"]
    assert captured.err == "bad: 1 problem\n"


def test_data_check_prints_notes_under_the_table(stand_in, capsys):
    table = pd.DataFrame(columns=["file", "problem", "found", "expected", "todo"])
    table.attrs["notes"] = ["acdc: 3 volumes", "voxel orders"]
    stand_in("shapelab.data", check_folder=lambda folder, name=None: table)
    assert cli.main(["data", "check", "good"]) == 0
    assert capsys.readouterr().out == "note: acdc: 3 volumes\nnote: voxel orders\ngood: nothing wrong\n"
    table.loc[0] = "x"
    assert cli.main(["data", "check", "bad"]) == 1
    assert capsys.readouterr().out.splitlines()[2:] == ["note: acdc: 3 volumes", "note: voxel orders"]
