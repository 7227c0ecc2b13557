"""Notebooks as files, and their committed form."""

from __future__ import annotations

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupytext.cli import jupytext
from nbformat.v4 import new_code_cell, new_notebook, new_output

from shapelab.course import notebooks as tools
from shapelab.errors import ShapelabError


def stream(text: str, name: str = "stdout"):
    return new_output("stream", text=text, name=name)


def shown(**data):
    return new_output("display_data", data={key.replace("__", "/"): value for key, value in data.items()})


def cleaned(*outputs) -> list:
    notebook = new_notebook(cells=[new_code_cell("1", outputs=list(outputs))])
    return tools.normalise(notebook).cells[0].outputs


# ------------------------------------------------------------------------------------------------ normalise


def test_normalise_keeps_only_what_does_not_change():
    cell = new_code_cell("print(1)", outputs=[stream("1\n")], execution_count=3)
    cell.metadata.update(tags=["nbval-check-output"], execution={"iopub.status.busy": "2026-01-01"}, trusted=True)
    metadata = {"widgets": {"state": {}}, "kernelspec": {"name": "mine", "display_name": "Mine"}}
    notebook = tools.normalise(new_notebook(cells=[cell], metadata=metadata))
    assert notebook.metadata == {"kernelspec": tools.KERNEL, "language_info": {"name": "python"}}
    assert notebook.cells[0].metadata == {"tags": ["nbval-check-output"]}
    assert notebook.cells[0].outputs[0].text == "1\n"
    nbformat.validate(notebook)


@given(st.lists(st.sampled_from(["a", "b", "a\nb"]), max_size=6))
def test_ids_are_unique_and_depend_on_the_sources_alone(sources):
    def ids():
        return [c.id for c in tools.normalise(new_notebook(cells=[new_code_cell(s) for s in sources])).cells]

    assert ids() == ids()
    assert len(set(ids())) == len(sources)


def test_pieces_of_one_stream_are_joined():
    joined = cleaned(stream("a"), stream("b\n"), stream("!", "stderr"), stream("c"))
    assert [(o.name, o.text) for o in joined] == [("stdout", "ab\n"), ("stderr", "!"), ("stdout", "c")]


def test_what_a_carriage_return_wiped_is_gone():
    (output,) = cleaned(stream("\r 10%|#\r100%|##########\nend\r\nlast"))
    assert output.text == "100%|##########\nend\nlast"


def test_progress_bars_go_and_widgets_leave_a_line():
    bar = shown(**{tools.WIDGET_VIEW: {"model_id": "1"}, "text__plain": "Training:   0%|          | 0/5 [00:00<?]"})
    slider = shown(**{tools.WIDGET_VIEW: {"model_id": "2"}, "text__plain": "IntSlider(value=0)"})
    (left,) = cleaned(bar, slider)
    assert left.data == {"text/plain": tools.WIDGET_NOTE}


def test_plotly_keeps_its_figure_without_the_script():
    script = "<script>" + "x" * tools.PLOTLY_LOADER_CHARS + "Plotly</script>"
    (figure,) = cleaned(shown(**{tools.PLOTLY: {"data": []}, "text__html": script}), shown(text__html=script))
    assert set(figure.data) == {tools.PLOTLY}


def test_a_table_stays():
    (table,) = cleaned(shown(text__html="<table></table>", text__plain="table"))
    assert set(table.data) == {"text/html", "text/plain"}


# ------------------------------------------------------------------------------------------------ text pairs

TEXT = """# %% [markdown]
# # A title

# %% tags=["nbval-check-output"]
print(1)

# %%
# a comment
print(2)
"""


def sync(folder):
    """As `make notebooks-sync` does it."""
    command = ["--quiet", "--update", "--set-kernel", "python3", "--to", "ipynb"]
    jupytext([*command, "--output", str(folder / "01_a.ipynb"), str(folder / "01_a.py")])
    tools.settle(folder / "01_a.ipynb")
    return tools.read_notebook(folder / "01_a.ipynb")


def test_a_notebook_made_from_its_text_is_as_it_is_committed(tmp_path):
    (tmp_path / "01_a.py").write_text(TEXT)
    notebook = sync(tmp_path)
    assert [c.cell_type for c in notebook.cells] == ["markdown", "code", "code"]
    assert notebook.cells[1].metadata == {"tags": ["nbval-check-output"]}
    assert notebook.metadata == {"kernelspec": tools.KERNEL, "language_info": {"name": "python"}}
    before = (tmp_path / "01_a.ipynb").read_bytes()
    sync(tmp_path)
    assert (tmp_path / "01_a.ipynb").read_bytes() == before


def test_outputs_stay_with_the_cells_that_did_not_change(tmp_path):
    (tmp_path / "01_a.py").write_text(TEXT)
    notebook = sync(tmp_path)
    for number, cell in enumerate(notebook.cells[1:], 1):
        cell.outputs, cell.execution_count = [stream("out\n")], number
    tools.write_notebook(notebook, tmp_path / "01_a.ipynb")
    (tmp_path / "01_a.py").write_text(TEXT.replace("print(2)", "print(3)"))
    _, kept, changed = sync(tmp_path).cells
    assert (kept.outputs[0].text, kept.execution_count) == ("out\n", 1)
    assert (changed.outputs, changed.execution_count) == ([], None)


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}'])
def test_what_is_no_notebook_is_said_to_be_none(content, tmp_path):
    path = tmp_path / "00_a.ipynb"
    path.write_text(content)
    with pytest.raises(ShapelabError, match="00_a.ipynb: found no valid notebook"):
        tools.read_notebook(path)


def test_a_notebook_that_is_not_there(tmp_path):
    with pytest.raises(ShapelabError, match="there is no such notebook"):
        tools.read_notebook(tmp_path / "00_a.ipynb")


def test_numbers(tmp_path):
    assert tools.number_of(tmp_path / "03_shape.ipynb") == "03"
    assert tools.number_of(tmp_path / "3_shape.ipynb") is None
