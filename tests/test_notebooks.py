"""The rules for committed notebooks (CONTRIBUTING.md, "A notebook"). That they run is nbval's business."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import pytest
from jupytext.compare import NotebookDifference, compare_notebooks

from shapelab.course import notebooks as tools

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(p for p in FOLDER.glob("*.ipynb") if not p.name.startswith("."))
TEXTS = sorted((FOLDER / "src").glob("*.py"))

MAX_BYTES = 2_000_000
MIN_CHECKED_CELLS = 4
# not preceded by a word, a dot or a slash: those are relative paths and addresses
MACHINE_PATH = re.compile(r"(?<![\w./:<-])/(?:home|root|work|tmp|Users|mnt|opt)/")

pytestmark = pytest.mark.notebooks


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    """Each committed notebook in turn, with its path as `.path`."""
    nb = tools.read_notebook(request.param)
    object.__setattr__(nb, "path", request.param)
    return nb


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def texts_of(output) -> list[str]:
    """What an output says in words; pictures are left out, where base64 may spell anything."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return output.traceback
    return [str(value) for kind, value in output.data.items() if kind.startswith("text/")]


def said(cell) -> str:
    return "\n".join(text for output in cell.outputs for text in texts_of(output))


def test_is_named_and_numbered(notebook):
    assert tools.number_of(notebook.path), f"{notebook.path.name}: expected NN_name.ipynb"


def test_is_executed_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "execute it whole: make execute NN=.."
    assert any(cell.outputs for cell in code_cells(notebook))


def test_holds_no_error(notebook):
    errors = [o.ename for c in code_cells(notebook) for o in c.outputs if o.output_type == "error"]
    assert errors == []


def test_is_small(notebook):
    assert notebook.path.stat().st_size <= MAX_BYTES


def test_shows_pictures(notebook):
    kinds = {kind for c in code_cells(notebook) for o in c.outputs for kind in o.get("data", {})}
    assert kinds & {"image/png", "image/svg+xml", "image/jpeg"}


def test_is_normalised(notebook):
    assert "widgets" not in notebook.metadata, "it carries widget state"
    views = [o for c in code_cells(notebook) for o in c.outputs if tools.WIDGET_VIEW in o.get("data", {})]
    assert views == [], "it carries widget views: make execute NN=.."
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(set(cell.metadata) <= set(tools.KEPT_CELL_METADATA) for cell in notebook.cells)


def test_has_cells_whose_output_is_compared(notebook):
    checked = [c for c in code_cells(notebook) if "nbval-check-output" in c.metadata.get("tags", [])]
    assert len(checked) >= MIN_CHECKED_CELLS
    assert all(said(cell).strip() for cell in checked), "a compared cell prints nothing"


def test_skips_nothing(notebook):
    tags = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    assert not tags & {"nbval-skip", "nbval-raises-exception", "nbval-ignore-output"}


def differences(text, notebook) -> str:
    """Where the cells of a text and of a notebook differ (kind, source, tags), in words; empty if nowhere."""
    text.metadata = notebook.metadata
    try:
        compare_notebooks(text, notebook, fmt="py:percent")
    except NotebookDifference as difference:
        return str(difference)
    return ""


def test_is_the_same_as_its_text(notebook):
    text = jupytext.read(FOLDER / "src" / f"{notebook.path.stem}.py")
    assert differences(text, notebook) == "", "they differ: make notebooks-sync execute NN=.."


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("", ""), True),
        (("print(1)", "print(2)"), False),
        (("# # A title", "# # Another"), False),
        (("nbval-check-output", "hide-input"), False),
        (("# %%\nprint(3)\n", ""), False),
    ],
)
def test_a_text_that_differs_from_its_notebook_is_seen(change, same):
    text = '# %% [markdown]\n# # A title\n\n# %% tags=["nbval-check-output"]\nprint(1)\n\n# %%\nprint(3)\n'
    notebook = tools.normalise(jupytext.reads(text, "py:percent"))
    assert (differences(jupytext.reads(text.replace(*change), "py:percent"), notebook) == "") is same


def test_says_first_how_it_runs(notebook):
    first = next(cell for cell in code_cells(notebook) if said(cell).strip())
    words = said(first).lower()
    assert [w for w in ("profile", "device", "data", "seed") if w not in words] == [], words


def test_names_no_place_on_a_machine(notebook):
    for cell in notebook.cells:
        words = cell.source + "\n" + (said(cell) if cell.cell_type == "code" else "")
        found = MACHINE_PATH.search(words)
        assert not found, words[max(0, found.start() - 60) : found.end() + 60]


def test_has_exercises_with_a_hidden_solution(notebook):
    words = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert len(re.findall(r"^#+ .*\bexercise\b", words, re.IGNORECASE | re.MULTILINE)) >= 1
    assert "<details>" in words and "</details>" in words
    assert words.count("<details>") == words.count("</details>")


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_every_text_has_its_notebook(text):
    assert (FOLDER / f"{text.stem}.ipynb").exists(), "make notebooks-sync execute NN=.."


@pytest.mark.parametrize(
    ("words", "is_place"),
    [
        ("read from /home/me/data", True),
        ('open("/tmp/x")', True),
        ("../shared/home/x", False),
        ("https://doi.org/work/1", False),
        ("results/tmp/x", False),
        ("</work/>", False),
    ],
)
def test_what_counts_as_a_place_on_a_machine(words, is_place):
    assert bool(MACHINE_PATH.search(words)) is is_place
