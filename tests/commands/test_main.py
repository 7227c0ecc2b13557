"""The command line: arguments, exit codes, messages. What a command calls is replaced by a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest

import shapelab
from shapelab.commands import main as cli
from shapelab.errors import DataError, ShapelabError, UsageError


@pytest.fixture
def stand_in(monkeypatch):
    """``stand_in("shapelab.data", fetch=...)``: replace a module by one that has just these names."""

    def replace(name: str, **names) -> None:
        module = types.ModuleType(name)
        vars(module).update(names)
        parent, _, child = name.rpartition(".")
        monkeypatch.setitem(sys.modules, name, module)
        if parent in sys.modules:
            monkeypatch.setattr(sys.modules[parent], child, module, raising=False)

    return replace


def card(**facts) -> types.SimpleNamespace:
    known = {"name": "acdc", "title": "Hearts", "licence": "CC", "home": "acdc.example", "folder": "acdc"}
    return types.SimpleNamespace(**known | {"fetchable": False, "make": None} | facts)


# ------------------------------------------------------------------------------------------------ as a whole


def test_help_loads_nothing_heavy():
    code = "import sys\nfrom shapelab.commands import main\nmain.main(['--help'])\n"
    code += "print(sorted({'torch', 'numpy', 'rich', 'nbclient'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n"), done.stdout
    assert "notebooks" in done.stdout and "doctor" in done.stdout


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"shapelab {shapelab.__version__}\n"


def test_python_m_shapelab_is_the_same():
    done = subprocess.run([sys.executable, "-m", "shapelab", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"shapelab {shapelab.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["data"],
        ["data", "fetch"],
        ["data", "check"],
        ["experiment"],
        ["experiment", "pathology", "--profile", "fast"],
        ["experiment", "pathology", "--groups", "NOR"],
        ["experiment", "pathology", "--groups", "NOR,NOR"],
        ["experiment", "pathology", "--groups", "NOR,COLD"],
        ["experiment", "acnn"],
        ["experiment", "acnn", "--table", "four"],
        ["experiment", "acnn", "--table", "1", "--seeds", "1,1"],
        ["experiment", "acnn", "--table", "1", "--seeds", "one"],
        ["train"],
        ["train", "3d-seg", "--epochs", "0", "-o", "x"],
        ["predict", "model"],
        ["predict", "model", "scan.nii.gz"],
        ["refine"],
        ["refine", "label.nii.gz"],
        ["refine", "label.nii.gz", "-o", "x.nii", "--n-atlases", "0"],
        ["refine", "label.nii.gz", "-o", "x.nii", "--dance"],
        ["refine", "label.nii.gz", "-o", "x.nii", "--spacing", "1", "1"],
        ["refine", "label.nii.gz", "-o", "x.nii", "--mapping", "1-3"],
        ["refine", "label.nii.gz", "-o", "x.nii", "--mapping", "1=3,1=2"],
        ["refine", "label.nii.gz", "-o", "x.nii", "--mapping", "=3"],
        ["notebooks", "--jobs", "0"],
        ["notebooks", "--timeout", "soon"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert "Usage: shapelab" in said or said == "Error: Option '--spacing' requires 3 arguments.\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ShapelabError("no luck"), 1, "shapelab: no luck\n"),
        (
            DataError("a.nii.gz", "NaN", "finite numbers", "Repair it."),
            1,
            "shapelab: a.nii.gz: found NaN; expected finite numbers. Repair it.\n",
        ),
        (UsageError("not so"), 2, "shapelab: not so\n"),
        (KeyboardInterrupt(), 130, "shapelab: interrupted\n"),
    ],
)
def test_an_error_is_one_message_and_a_code(error, code, message, stand_in, capsys):
    def fetch(name, root):
        raise error

    stand_in("shapelab.data", fetch=fetch)
    assert cli.main(["data", "fetch", "acdc", "--root", "here"]) == code
    assert capsys.readouterr().err == message


def test_a_mistake_of_ours_is_not_hidden(stand_in):
    def fetch(name, root):
        raise ZeroDivisionError

    stand_in("shapelab.data", fetch=fetch)
    with pytest.raises(ZeroDivisionError):
        cli.main(["data", "fetch", "acdc", "--root", "here"])


def test_a_reader_that_stops_reading_is_no_error():
    code = "from shapelab.commands import doctor, main\nimport sys\nwell = doctor.Check('ok', 'x' * 99, 'x' * 99)\n"
    code += "doctor.examine = lambda: [well] * 9999\nsys.exit(main.main(['doctor']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(), errors) == (0, "")


@pytest.mark.parametrize("arguments", [["data", "list"], ["--help"], ["--version"]], ids=" ".join)
def test_a_reader_that_is_gone_before_the_first_line_is_no_error(arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "shapelab", *arguments]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_module_beside_main_is_a_command(capsys):
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out.split("Commands:")[1]
    folder = Path(cli.__file__).parent
    names = {p.stem for p in folder.glob("*.py")} - {"__init__", *cli.NO_COMMANDS}
    assert {line.split()[0] for line in listed.splitlines() if line[:2] == "  " and line[2] != " "} >= names
    for name in names:
        assert cli.main([name, "--help"]) == 0
        assert f"Usage: shapelab {name}" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ shapelab data


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


# ------------------------------------------------------------------------------------------------ experiments


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
    papers = [p.parent.name for p in folder.glob("*/__init__.py")]
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


# ----------------------------------------------------------------------------------------- train, predict, refine


def test_train_hands_its_arguments_on(stand_in, capsys, tmp_path):
    calls = []

    def train(*names, **arguments):
        calls.append((names, arguments))
        return names[1]

    module = types.SimpleNamespace(train=train, listing=lambda: [("3d-seg", "a network", "phantom")])
    stand_in("shapelab.experiments", recipes=module)
    stand_in("shapelab.experiments.recipes", **vars(module))
    assert cli.main(["train", "list"]) == 0
    assert "3d-seg" in capsys.readouterr().out and not calls
    options = ["--data", "acdc", "--profile", "quick", "--hearts", "5", "--epochs", "2", "--seed", "4", "--resume"]
    assert cli.main(["train", "native", *options, "-o", str(tmp_path)]) == 0
    asked = {"data": "acdc", "root": None, "profile": "quick", "hearts": 5, "epochs": 2, "seed": 4, "resume": True}
    assert calls == [(("native", tmp_path), asked)]
    assert cli.main(["train", "native"]) == 2
    assert "-o DIR" in capsys.readouterr().err


def test_predict_prints_the_indices(stand_in, capsys):
    calls = []

    def predict_file(*names, **arguments):
        calls.append((names, arguments))
        return {"volumes_ml": {"LV cavity": 120.5}}

    stand_in("shapelab.commands.files.predict", predict_file=predict_file)
    assert cli.main(["predict", "net", "ed.nii.gz", "-o", "out.nii.gz", "--es", "es.nii.gz", "--force"]) == 0
    names = ("net", Path("ed.nii.gz"), Path("out.nii.gz"))
    assert calls == [(names, {"es": Path("es.nii.gz"), "es_output": None, "force": True})]
    assert json.loads(capsys.readouterr().out) == {"volumes_ml": {"LV cavity": 120.5}}


def test_refine_prints_the_indices_and_says_what_it_does(monkeypatch, capsys):
    from shapelab.commands.files.refine import Refining

    calls = []

    def refine_file(*names, progress, **arguments):
        calls.append((names, arguments))
        progress("drawing")
        return {"after": {"volumes_ml": {"LV cavity": 120.5}}}

    monkeypatch.setattr("shapelab.commands.files.refine.refine_file", refine_file)
    nothing = {"image": None, "landmarks": None, "atlases": None, "how": Refining(), "force": False}
    assert cli.main(["refine", "a.nii.gz", "-o", "out.nii.gz"]) == 0
    assert calls.pop() == ((Path("a.nii.gz"), Path("out.nii.gz")), nothing)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"after": {"volumes_ml": {"LV cavity": 120.5}}} and err == "shapelab refine: drawing\n"
    options = ["--image", "i.nii", "--landmarks", "l.csv", "--atlases", "hearts", "--scheme", "cardiac", "--force"]
    options += ["--mapping", "500=3,205=2,600=1,420=0", "--n-atlases", "3", "--spacing", "1", "1", "1.5", "--seed", "4"]
    options += ["--align"]
    assert cli.main(["refine", "a.nii.gz", "-o", "out.nii.gz", *options]) == 0
    assert calls[0][1] == {
        "image": Path("i.nii"),
        "landmarks": Path("l.csv"),
        "atlases": Path("hearts"),
        "how": Refining(
            scheme="cardiac",
            mapping={500: 3, 205: 2, 600: 1, 420: 0},
            n_atlases=3,
            fusion="majority",
            align=True,
            out_spacing=(1.0, 1.0, 1.5),
            seed=4,
        ),
        "force": True,
    }


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--scheme", "brain"], "scheme: found 'brain'; expected one of cardiac, biventricular"),
        (["--fusion", "minority"], "fusion: found 'minority'; expected one of majority, non-local. Did you mean"),
        (["--seed", "-1"], "seed: found -1; expected a whole number from 0"),
        (["--spacing", "1", "1", "30"], "out_spacing: found 30.0; expected a number from 0.5 to 20"),
    ],
)
def test_refine_names_what_the_library_refuses(option, message, capsys):
    assert cli.main(["refine", "label.nii.gz", "-o", "x.nii", *option]) == 2
    assert capsys.readouterr().err.startswith(f"shapelab: {message}")


def test_schemes_fusions_and_landmarks_that_the_help_names_are_those_of_the_library():
    from shapelab.atlas.pipeline import FUSIONS
    from shapelab.commands.files.refine import SCHEMES
    from shapelab.data.landmarks import HEART_LANDMARKS

    done = subprocess.run(
        [sys.executable, "-m", "shapelab", "refine", "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "1000"},
        check=True,
    )
    words = " ".join(done.stdout.split())
    assert [name for name in (*HEART_LANDMARKS, *SCHEMES, *FUSIONS) if name not in words] == []
