"""`shapelab experiment`: arguments are handed on, and what the library refuses is named."""

from __future__ import annotations

import types
from pathlib import Path

import pandas as pd
import pytest

from shapelab.commands import main as cli


def test_experiment_pathology_hands_its_arguments_on(stand_in, capsys, tmp_path):
    calls = []

    def run(**arguments):
        calls.append(arguments)
        return pd.DataFrame({"accuracy": [0.5]}, index=["codes"])

    stand_in("shapelab.experiments.acnn", pathology=types.SimpleNamespace(run=run))
    stand_in("shapelab.experiments.acnn.pathology", run=run)
    assert cli.main(["experiment", "pathology"]) == 0
    assert calls[0] == {
        "data": "phantom",
        "root": None,
        "groups": None,
        "profile": None,
        "seed": 0,
        "output": None,
        "progress": True,
    }
    assert "codes" in capsys.readouterr().out
    options = ["--data", "acdc", "--root", "r", "--groups", "nor, DCM,HCM", "--profile", "quick", "--seed", "3"]
    assert cli.main(["experiment", "pathology", *options, "-o", str(tmp_path)]) == 0
    assert calls[1] == {
        "data": "acdc",
        "root": Path("r"),
        "groups": ["NOR", "DCM", "HCM"],
        "profile": "quick",
        "seed": 3,
        "output": tmp_path,
        "progress": True,
    }


def test_experiment_acnn_hands_its_arguments_on(stand_in, capsys, tmp_path):
    calls = []
    module = types.SimpleNamespace(run=lambda **arguments: calls.append(arguments))
    stand_in("shapelab.experiments", acnn=module)
    stand_in("shapelab.experiments.acnn", run=module.run)
    assert cli.main(["experiment", "acnn", "--table", "2"]) == 0
    nothing = {"data": "phantom", "root": None, "profile": None, "seeds": None}
    assert calls[0] == {"table": 2, **nothing, "output": Path("results/acnn")}
    options = ["--data", "cetus", "--root", "r", "--profile", "quick", "--seeds", "0,3", "-o", str(tmp_path)]
    assert cli.main(["experiment", "acnn", "--table", "2", *options]) == 0
    asked = {"data": "cetus", "root": Path("r"), "profile": "quick", "seeds": [0, 3], "output": tmp_path}
    assert calls[1] == {"table": 2, **asked}
    assert f"Tables: {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["acnn", "--table", "4"], "table: found 4; expected one of 1, 2, 3"),
        (["sslln", "--table", "7"], "table: found 7; expected one of 1, 2, 3, 4, 5, 6"),
        (["two-stage", "--table", "1"], "table: found 1; expected one of 2, 3, 4"),
        (
            ["two-stage", "--table", "4", "--data", "cetus"],
            "data: found 'cetus'; expected one of phantom, phantom-wh, mmwhs, acdc",
        ),
        (["pathology", "--data", "mnist"], "data: found 'mnist'; expected one of acdc, folder, phantom"),
    ],
)
def test_experiments_name_what_the_library_refuses(arguments, message, capsys):
    assert cli.main(["experiment", *arguments]) == 2
    assert capsys.readouterr().err == f"shapelab: {message}\n"


def test_every_paper_with_a_folder_is_an_experiment(capsys):
    assert cli.main(["experiment", "--help"]) == 0
    said = capsys.readouterr().out
    from shapelab import experiments

    folder = Path(experiments.__file__).parent
    papers = [p.parent.name.replace("_", "-") for p in folder.glob("*/__init__.py")]
    assert papers and all(f"The {name.upper()} paper's tables." in said for name in papers)
    assert cli.main(["experiment", "sslln", "--help"]) == 0
    assert "6: volumes and masses in pulmonary hypertension" in " ".join(capsys.readouterr().out.split())


def test_experiment_reality_prints_the_summary(stand_in, capsys, tmp_path):
    calls = []
    module = types.SimpleNamespace(
        run=lambda **arguments: calls.append(arguments) or pd.DataFrame(),
        summary=lambda table: pd.DataFrame({"dice": [0.9]}, index=["LV cavity"]),
    )
    stand_in("shapelab.experiments.acnn", reality=module)
    stand_in("shapelab.experiments.acnn.reality", **vars(module))
    assert cli.main(["experiment", "reality", "--root", "r", "-o", str(tmp_path)]) == 0
    assert calls == [{"root": Path("r"), "profile": None, "output": tmp_path}]
    assert "LV cavity" in capsys.readouterr().out
