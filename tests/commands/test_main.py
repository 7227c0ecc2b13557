"""The command line: arguments, exit codes, messages. What a command calls is replaced by a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import shapelab
from shapelab.commands import main as cli
from shapelab.errors import DataError, ShapelabError, UsageError

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


# ------------------------------------------------------------------------------------------------ experiments


# ----------------------------------------------------------------------------------------- train, predict, refine


def test_warnings_are_lines_without_the_place_in_the_library(stand_in, capsys):
    import warnings

    def check_folder(folder, name=None):
        warnings.warn("a.nii.gz: found a gap", stacklevel=2)
        raise DataError("b.nii.gz", "nothing", "something")

    stand_in("shapelab.data", check_folder=check_folder)
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning
        assert cli.main(["data", "check", "x"]) == 1
        assert warnings.showwarning is shown
    assert warnings.showwarning is before
    assert capsys.readouterr().err.splitlines() == [
        "shapelab: warning: a.nii.gz: found a gap",
        "shapelab: b.nii.gz: found nothing; expected something.",
    ]
