"""Executed notebooks as pages, and the page that links them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from shapelab.course import pages
from shapelab.course.results import Failure, Result


def picture(width: int, height: int, colour: str) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def notebook(*data: dict):
    """A heading, and a cell for each output."""
    cells = [new_code_cell("draw()", outputs=[new_output("display_data", one)]) for one in data]
    return new_notebook(cells=[new_markdown_cell("words\n\n## Hearts  \n# Later"), *cells])


def record(folder: Path, name: str, **changes) -> None:
    facts = {"title": "A <b>", "passed": True, "failure": "", "seconds": 2.5, "profile": "quick", "when": "today"}
    text = json.dumps({"name": name, "thumbnail": "", **facts, **changes})
    (folder / "notebooks").mkdir(exist_ok=True)
    (folder / "notebooks" / f"{name}.json").write_text(text)


def test_title_is_the_first_heading_and_the_thumbnail_the_first_picture_made_small():
    one = notebook({"text/plain": "1"}, {"image/png": picture(720, 120, "red")}, {"image/png": picture(9, 9, "blue")})
    assert pages.title_of(one) == "Hearts" and pages.title_of(new_notebook()) is None
    small = Image.open(io.BytesIO(base64.b64decode(pages.thumbnail_of(one))))
    assert small.size == (360, 60) and small.getpixel((5, 5)) == (255, 0, 0)
    assert pages.thumbnail_of(notebook({"text/plain": "1"})) == ""


def test_plotlys_figures_are_drawn_by_the_script_beside_the_page():
    figure = {"data": [{"type": "scatter", "x": [1], "y": [2]}], "layout": {}, "config": {"plotlyServerURL": "x"}}
    shown = notebook({"application/vnd.plotly.v1+json": figure})
    page, needs_script = pages.page_of(shown, "00_a")
    assert needs_script and "Plotly.newPlot" in page and '<script src="plotly.min.js">' in page
    assert "application/vnd.plotly.v1+json" in shown.cells[1].outputs[0].data  # the notebook is left as it was
    page, needs_script = pages.page_of(notebook({"text/plain": "1"}), "00_a")
    assert not needs_script and "plotly" not in page


def test_a_record_says_what_became_of_a_notebook_even_of_one_that_could_not_be_read(tmp_path):
    pages.write_record(notebook(), Result(Path("00_a.ipynb"), 1.26), tmp_path, "quick")
    pages.write_record(None, Result(Path("01_b.ipynb"), 0.0, Failure(0, "no notebook")), tmp_path, "full")
    one, other = (json.loads((tmp_path / "notebooks" / f"{n}.json").read_text()) for n in ("00_a", "01_b"))
    assert (one["title"], one["passed"], one["failure"], one["seconds"], one["profile"]) == (
        *("Hearts", True, "", 1.3, "quick"),
    )
    assert (other["title"], other["passed"], other["failure"]) == ("01_b", False, "no notebook")


def test_the_index_counts_links_and_escapes_and_passes_over_what_is_not_ours(tmp_path):
    record(tmp_path, "02_third")
    record(tmp_path, "05_other", passed=False, failure="cell 2: <wrong>", seconds=0.5)
    (tmp_path / "notebooks" / "05_other.html").touch()
    (tmp_path / "notebooks" / "noise.json").write_text("[]")
    index = pages.write_index(tmp_path).read_text()
    assert "1 of 2 notebooks passed" in index and "A &lt;b&gt;" in index and "cell 2: &lt;wrong&gt;" in index
    assert 'href="notebooks/05_other.html"' in index and "02_third.html" not in index  # which has no page
    table = pd.read_csv(tmp_path / "seconds.csv")
    assert table.to_numpy().tolist() == [["02_third", 2.5, "passed"], ["05_other", 0.5, "failed"]]
