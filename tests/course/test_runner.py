"""The runner of the notebook series, on small notebooks made here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from shapelab.commands.main import main
from shapelab.course import pages as notebooks_pages
from shapelab.course import runner as notebooks_runner
from shapelab.errors import ShapelabError, UsageError

PICTURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3]);"
PLOTLY = "import plotly.graph_objects as go\ngo.Figure(go.Scatter(x=[1, 2], y=[3, 4]))"


def make_notebook(folder: Path, name: str, *sources: str, title: str = "") -> Path:
    cells = [new_markdown_cell(f"# {title}")] if title else []
    cells += [new_code_cell(source) for source in sources]
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "quick")


# ------------------------------------------------------------------------------------------------ which notebooks


def test_find_takes_numbered_notebooks_in_order(folder):
    for name in ("02_b", "00_a", "scratch", "10_c"):
        make_notebook(folder, name, "1")
    assert [p.stem for p in notebooks_runner.find_notebooks(folder)] == ["00_a", "02_b", "10_c"]


def test_find_says_so_when_there_are_none(folder):
    with pytest.raises(ShapelabError, match="found no notebooks; expected files named NN_name.ipynb"):
        notebooks_runner.find_notebooks(folder)


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(ShapelabError, match="nowhere: no such folder"):
        notebooks_runner.notebook_folder(tmp_path / "nowhere")


def test_folder_of_the_working_folder_comes_first(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert notebooks_runner.notebook_folder() == Path("notebooks")


def test_without_one_there_those_that_ship_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert notebooks_runner.notebook_folder() == Path(__file__).resolve().parents[2] / "notebooks"


def test_a_notebook_runs_beside_itself_but_never_inside_an_installed_package(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert notebooks_runner.working_folder(Path("notebooks/00_a.ipynb")) == folder.resolve()
    monkeypatch.setattr(notebooks_runner, "PACKAGE", tmp_path / "site" / "shapelab")
    inside = tmp_path / "site" / "shapelab" / "shipped_files" / "notebooks"
    assert notebooks_runner.working_folder(inside / "00_a.ipynb") == tmp_path


@pytest.mark.parametrize(
    ("numbers", "chosen"),
    [
        ([], ["00_a", "02_b", "03_c"]),
        (["2"], ["02_b"]),
        (["03", "00"], ["00_a", "03_c"]),
        (["02_b"], ["02_b"]),
        (["notebooks/03_c.ipynb"], ["03_c"]),
    ],
)
def test_select(numbers, chosen):
    paths = [Path(f"notebooks/{name}.ipynb") for name in ("00_a", "02_b", "03_c")]
    assert [p.stem for p in notebooks_runner.select(paths, numbers)] == chosen


def test_select_names_what_there_is():
    with pytest.raises(UsageError, match="no notebook 42, 7; expected some of 00_a"):
        notebooks_runner.select([Path("00_a.ipynb")], ["42", "0", "7"])


# ------------------------------------------------------------------------------------------------ a run


def test_notebooks_run_in_this_python_whatever_kernel_is_found_first(folder, tmp_path, monkeypatch):
    spec = tmp_path / "hub" / "kernels" / "python3"
    spec.mkdir(parents=True)
    text = json.dumps({"argv": ["/hub/bin/python", "{connection_file}"], "display_name": "a", "language": "python"})
    (spec / "kernel.json").write_text(text)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "hub"))
    made = make_notebook(folder, "00_a", "import sys", "sys.executable")
    report = notebooks_runner.run([made], output=tmp_path / "out")
    assert [result.failure for result in report.results] == [None]
    executed = nbformat.read(tmp_path / "out" / "notebooks" / "00_a.ipynb", 4)
    assert executed.cells[-1].outputs[0].data["text/plain"] == repr(sys.executable)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Three notebooks, the second of which fails, run by the command line two at a time."""
    root = tmp_path_factory.mktemp("series")
    folder = root / "notebooks"
    folder.mkdir()
    look = "import os\nprint(os.getcwd(), os.environ['SHAPELAB_PROFILE'])"
    make_notebook(folder, "00_first", look, "", PICTURE, PLOTLY, title="The <first> one")
    make_notebook(folder, "01_second", "a = 1", "raise ValueError('that is\\nwrong')", "print('never')", title="Second")
    make_notebook(folder, "02_third", "print('still runs')")
    command = [sys.executable, "-m", "shapelab", "notebooks", "--folder", folder, "-o", root / "out"]
    command += ["--jobs", "2", "--profile", "full"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    return folder, root / "out", done


def outputs(path: Path) -> list:
    return [cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_a_failure_names_notebook_cell_and_error(series):
    _, _, done = series
    assert done.returncode == 1
    assert done.stderr.strip() == "shapelab: failed: 01_second.ipynb, cell 2: ValueError: that is"


def test_what_was_made_is_said_at_the_end(series):
    _, out, done = series
    assert "2 of 3 notebooks passed" in done.stdout
    assert re.search(r"\d+ s in all, \d+ s in the mean \(budget: 40 s in the quick profile\)", done.stdout)
    assert f"Start reading at:          {out / 'index.html'}" in done.stdout
    assert re.search(r"\[3/3\] 0\d_\w+.ipynb: (ok|FAILED), [\d.]+ s", done.stdout)


def test_a_table_says_how_long_each_took(series):
    _, out, done = series
    table = pd.read_csv(out / "seconds.csv")
    assert list(table) == ["notebook", "seconds", "status"]
    assert table["notebook"].tolist() == ["00_first", "01_second", "02_third"]
    assert table["status"].tolist() == ["passed", "failed", "passed"]
    said = [float(re.search(rf"{name}.ipynb: \w+, ([\d.]+) s", done.stdout)[1]) for name in table["notebook"]]
    assert table["seconds"].tolist() == said and table["seconds"].min() > 0


def test_the_others_still_run(series):
    _, out, _ = series
    (cell,) = outputs(out / "notebooks" / "02_third.ipynb")
    assert cell[0].text == "still runs\n"


def test_each_runs_in_its_own_folder_under_the_profile(series):
    folder, out, _ = series
    assert outputs(out / "notebooks" / "00_first.ipynb")[0][0].text == f"{folder} full\n"


def test_the_source_notebooks_are_left_alone(series):
    folder, _, _ = series
    assert outputs(folder / "00_first.ipynb") == [[], [], [], []]


def test_the_failed_one_is_written_up_to_its_error(series):
    _, out, _ = series
    ran, failed, never = outputs(out / "notebooks" / "01_second.ipynb")
    assert ran == [] and never == []
    assert failed[0].ename == "ValueError"
    assert "that is" in (out / "notebooks" / "01_second.html").read_text()


def test_one_index_links_every_page(series):
    _, out, _ = series
    index = (out / "index.html").read_text()
    assert re.findall(r'<a href="(notebooks/\w+\.html)">', index) == [
        "notebooks/00_first.html",
        "notebooks/01_second.html",
        "notebooks/02_third.html",
    ]
    assert "The &lt;first&gt; one" in index
    assert "cell 2: ValueError: that is" in index
    assert index.count("data:image/png;base64,") == 1  # the first notebook's picture
    assert not re.search(r'(src|href)="https?:', index)


def test_pages_fetch_nothing_but_mathjax(series):
    _, out, _ = series
    page = (out / "notebooks" / "00_first.html").read_text()
    assert "Plotly.newPlot" in page
    assert all("mathjax" in url.lower() for url in re.findall(r'<script[^>]*src="(https?:[^"]*)"', page))
    assert '<script src="plotly.min.js">' in page and (out / "notebooks" / "plotly.min.js").stat().st_size > 1e6
    assert "plotly.min.js" not in (out / "notebooks" / "02_third.html").read_text()


def test_no_half_written_files_are_left(series):
    _, out, _ = series
    names = {p.name for p in (out / "notebooks").iterdir()}
    stems = ("00_first", "01_second", "02_third")
    assert names == {f"{s}.{e}" for s in stems for e in ("html", "ipynb", "json")} | {"plotly.min.js"}


# ------------------------------------------------------------------------------------------------ ways to fail


def test_a_cell_that_takes_too_long(folder, tmp_path, capsys):
    path = make_notebook(folder, "00_slow", "a = 1", "import time; time.sleep(60)")
    report = notebooks_runner.run([path], tmp_path / "out", timeout=1)
    assert not report.passed
    assert str(report.results[0]) == "00_slow.ipynb, cell 2: took more than 1 s (--timeout)"


def test_a_kernel_that_dies(folder, tmp_path, capsys):
    path = make_notebook(folder, "00_dies", "import os; os._exit(1)")
    report = notebooks_runner.run([path], tmp_path / "out")
    assert str(report.results[0]) == "00_dies.ipynb, cell 1: the kernel died (out of memory?)"


def test_a_file_that_is_no_notebook_does_not_stop_the_others(folder, tmp_path, capsys):
    broken = folder / "00_broken.ipynb"
    broken.write_text('{"cells": [')
    fine = make_notebook(folder, "01_fine", "1")
    report = notebooks_runner.run([broken, fine], tmp_path / "out")
    assert "found no valid notebook" in str(report.results[0])
    assert report.results[1].failure is None
    assert "found no valid notebook" in (tmp_path / "out" / "index.html").read_text()


def test_a_mistake_of_ours_stops_no_other_notebook_and_is_not_hidden(folder, tmp_path, capsys, monkeypatch):
    def record(notebook, result, output, profile):
        if result.path.stem == "00_a":
            raise ZeroDivisionError

    monkeypatch.setattr(notebooks_pages, "write_record", record)
    paths = [make_notebook(folder, name, "1") for name in ("00_a", "01_b")]
    with pytest.raises(ZeroDivisionError):
        notebooks_runner.run(paths, tmp_path / "out")
    assert (tmp_path / "out" / "notebooks" / "01_b.html").exists()


@pytest.mark.slow
def test_ctrl_c_ends_the_kernel_and_says_so(folder, tmp_path):
    started = tmp_path / "started"
    code = f"import os, time, pathlib\npathlib.Path({str(started)!r}).write_text(str(os.getpid()))\ntime.sleep(120)"
    for name in ("00_a", "01_b"):
        make_notebook(folder, name, code)
    # a shell that starts the tests in the background has them ignore Ctrl-C; the command must hear it all the same
    start = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from shapelab.commands.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", start, "notebooks", "--folder", folder, "-o", tmp_path / "out"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 90
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "shapelab: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


# ------------------------------------------------------------------------------------------------ in place


def test_in_place_rewrites_what_passed_and_leaves_what_failed(folder, capsys):
    passes = make_notebook(folder, "00_passes", "print('hello')", "import ipywidgets\nipywidgets.IntSlider()")
    fails = make_notebook(folder, "01_fails", "1 / 0")
    before = fails.read_bytes()
    assert main(["notebooks", "--folder", str(folder), "--in-place"]) == 1
    assert fails.read_bytes() == before
    hello, slider = outputs(passes)
    assert hello[0].text == "hello\n"
    assert slider[0].data == {"text/plain": "(a widget: run the notebook to use it)"}
    metadata = nbformat.read(passes, as_version=4).metadata
    assert set(metadata) == {"kernelspec", "language_info"}
    first = passes.read_bytes()
    assert main(["notebooks", "--folder", str(folder), "--in-place", "0"]) == 0
    assert passes.read_bytes() == first  # the same notebook executed again is the same file


def test_kernels_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "OMP_NUM_THREADS" not in notebooks_runner.kernel_environment("quick", jobs=1)
    assert int(notebooks_runner.kernel_environment("quick", jobs=64)["OMP_NUM_THREADS"]) >= 1
