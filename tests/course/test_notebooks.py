"""Text pairs and the committed form of notebooks."""

from __future__ import annotations

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from shapelab.commands.main import main
from shapelab.course import notebooks as tools
from shapelab.errors import ShapelabError, UsageError

TEXT = """# %% [markdown]
# # A title

# %% tags=["nbval-check-output"]
print(1)

# %%
# a comment
print(2)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "01_a.py").write_text(TEXT)
    return tmp_path


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


# ------------------------------------------------------------------------------------------------ pairs


def test_sync_makes_the_notebook_once(folder):
    assert tools.sync_folder(folder) == [folder / "01_a.ipynb"]
    assert tools.sync_folder(folder) == []
    notebook = tools.read_notebook(folder / "01_a.ipynb")
    assert [c.cell_type for c in notebook.cells] == ["markdown", "code", "code"]
    assert notebook.cells[1].metadata.tags == ["nbval-check-output"]
    assert tools.compare(notebook, tools.read_text(folder / "src" / "01_a.py")) == []


def test_sync_keeps_the_outputs_of_cells_that_did_not_change(folder):
    tools.sync_folder(folder)
    notebook = tools.read_notebook(folder / "01_a.ipynb")
    for cell in notebook.cells[1:]:
        cell.outputs = [stream("out\n")]
    tools.write_notebook(notebook, folder / "01_a.ipynb")
    text = folder / "src" / "01_a.py"
    text.write_text(TEXT.replace("print(2)", "print(3)"))
    assert tools.sync_folder(folder, ["01"]) == [folder / "01_a.ipynb"]
    _, kept, changed = tools.read_notebook(folder / "01_a.ipynb").cells
    assert kept.outputs[0].text == "out\n" and changed.outputs == []


def test_sync_names_what_there_is(folder):
    with pytest.raises(UsageError, match="no text numbered 09 in .*src; there are: 01"):
        tools.sync_folder(folder, ["09"])


def test_sync_from_the_command_line(folder, capsys):
    assert main(["notebooks", "--folder", str(folder), "--sync"]) == 0
    assert capsys.readouterr().out == f"wrote {folder / '01_a.ipynb'}\n"


def test_compare_says_which_cell_differs(folder):
    text = tools.read_text(folder / "src" / "01_a.py")
    notebook = new_notebook(cells=[new_markdown_cell("# A title"), new_code_cell("print(1)"), new_code_cell("other")])
    differences = tools.compare(notebook, text)
    assert differences == ["cell 1 differs: 'print(1)'", "cell 2 differs: '# a comment'"]  # the first by its tag
    notebook.cells.pop()
    assert tools.compare(notebook, text)[0] == "2 cells in the notebook, 3 in the text"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}'])
def test_what_is_no_notebook_is_said_to_be_none(content, tmp_path):
    path = tmp_path / "00_a.ipynb"
    path.write_text(content)
    with pytest.raises(ShapelabError, match="00_a.ipynb: found no valid notebook"):
        tools.read_notebook(path)


def test_a_notebook_or_a_text_that_is_not_there(tmp_path):
    with pytest.raises(ShapelabError, match="there is no such notebook"):
        tools.read_notebook(tmp_path / "00_a.ipynb")
    with pytest.raises(ShapelabError, match="there is no such text"):
        tools.read_text(tmp_path / "00_a.py")


def test_numbers_and_pairs(tmp_path):
    assert tools.number_of(tmp_path / "03_shape.ipynb") == "03"
    assert tools.number_of(tmp_path / "3_shape.ipynb") is None
    assert tools.pair_of(tmp_path / "03_shape.ipynb") == tmp_path / "src" / "03_shape.py"
