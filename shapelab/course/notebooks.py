"""Notebooks as files: read, written, and in a form of the executed notebook that is fit to commit.

The text under ``notebooks/src/NN_name.py`` (jupytext ``py:percent``) is what is written and reviewed; the notebook
``notebooks/NN_name.ipynb`` is made from it (``make notebooks-sync``) and committed executed. `normalise` takes out what
differs from run to run and machine to machine (timing, widget state, cell ids, kernel details), so that a diff shows
what changed.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shapelab.errors import ShapelabError
from shapelab.files import atomic_write

if TYPE_CHECKING:
    from nbformat import NotebookNode

NAME = re.compile(r"(\d\d)_\w+")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "(a widget: run the notebook to use it)"
PROGRESS_BAR = re.compile(r"\d+%\||it/s\]|\d+it \[")
PLOTLY = "application/vnd.plotly.v1+json"
PLOTLY_LOADER_CHARS = 100_000
KEPT_CELL_METADATA = ("tags", "collapsed", "jupyter", "slideshow")


def read_notebook(path: Path) -> NotebookNode:
    """The notebook at `path`, as nbformat 4; raises ShapelabError if it is none."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ShapelabError(f"{path}: there is no such notebook") from None
    except Exception as error:  # nbformat raises its own, json's and jsonschema's errors
        raise ShapelabError(f"{path}: found no valid notebook ({error}); expected nbformat 4 JSON") from None


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write `notebook` to `path`, whole or not at all."""
    import nbformat

    with atomic_write(path) as temporary:
        nbformat.write(notebook, temporary)


def number_of(path: Path) -> str | None:
    """The two digits at the front of a notebook's name: ``03_shape_autoencoder.ipynb`` -> "03"."""
    match = NAME.fullmatch(Path(path).stem)
    return match[1] if match else None


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Take out of an executed notebook, in place, what should not be committed; returns it.

    Goes: widget state, timings, ids that change, kernel and editor metadata, progress bars, and plotly's 4 MB loader
    script (the figure's own JSON stays). In the place of a widget stays a line that says so.
    """
    notebook.metadata = type(notebook.metadata)(kernelspec=dict(KERNEL), language_info={"name": "python"})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = _digest(cell)
        cell["id"] = f"{digest}-{seen[digest]}"
        seen[digest] += 1
        for key in set(cell.metadata) - set(KEPT_CELL_METADATA):
            del cell.metadata[key]
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_clean_output, merge_streams(cell.outputs)) if output]
    return notebook


def _digest(cell: NotebookNode) -> str:
    """Eight digits that stand for a cell's kind and source, and begin its id."""
    return hashlib.sha1(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]


def settle(path: Path) -> None:
    """What `jupytext --update` leaves in a notebook, put right: it hands the outputs and the id of a cell on to the one
    that took its place. Outputs of a source that is no more go; the rest is normalised."""
    notebook = read_notebook(path)
    for cell in notebook.cells:
        if cell.cell_type == "code" and not cell.id.startswith(_digest(cell)):
            cell.outputs, cell.execution_count = [], None
    write_notebook(normalise(notebook), path)


def merge_streams(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Outputs with neighbouring pieces of one stream joined, and the text that a carriage return wiped taken out."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":
            output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.text.split("\n"))
    return merged


def _clean_output(output: NotebookNode) -> NotebookNode | None:
    """One output without what cannot be shown from a file; None if nothing is left."""
    if output.output_type not in ("display_data", "execute_result"):
        return output
    if output.data.pop(WIDGET_VIEW, None) is not None:
        if PROGRESS_BAR.search(output.data.get("text/plain", "")):
            return None
        # a widget's own text is a constructor call, a FigureWidget's a megabyte of it
        output.data["text/plain"] = WIDGET_NOTE
    html = output.data.get("text/html", "")
    if len(html) > PLOTLY_LOADER_CHARS and "plotly" in html.lower():
        output.data.pop("text/html")
    output.metadata = type(output.metadata)()
    return output if output.data else None


if __name__ == "__main__":  # after jupytext in `make notebooks-sync`
    for name in sys.argv[1:]:
        settle(Path(name))
