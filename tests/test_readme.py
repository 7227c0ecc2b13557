"""README and RESULTS: short, whole, with links that lead somewhere, and commands and code that run as printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest
from PIL import Image

from shapelab.commands import main as cli

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "RESULTS.md"
PAGES = [README, RESULTS, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "data").rglob("*.md"))]
MAX_LINES, MAX_WIDTH = 150, 140  # the width of what is not a row of a table
SYSTEMS = (
    "ACNN",
    "T-L network",
    "SSLLN",
    "SSLLN + refinement",
    "CE-Reg",
    "Affine-invariant shape signature",
    "Two-stage U-Net",
)


pytestmark = pytest.mark.skipif(not README.is_file(), reason="README is in the source tree only")


def blocks(page: Path, info: str) -> list[str]:
    """The fenced blocks of a page whose first line is ```info."""
    return re.findall(rf"^```{re.escape(info)}\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Arguments of every ``shapelab ...`` in fenced blocks and in inline code; a comment is left out."""
    fenced = [line for block in re.findall(r"^```.*?\n(.*?)^```$", text, re.M | re.S) for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    lines = [re.sub(r"^(\.venv/bin/|python -m )", "", line) for line in fenced + inline]
    split = [shlex.split(line, comments=True) for line in lines if line.startswith("shapelab ")]
    return [words[1:] for words in split if words[1:] and words[1] not in {"...", "COMMAND"}]


def check_command(words: list[str]) -> None:
    """UsageError of click for a command, an option or a choice that does not exist; missing arguments are fine."""
    command, context = cli.shapelab, click.Context(cli.shapelab, info_name="shapelab")
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name!r}")
        command, context = found, click.Context(found, info_name=name, parent=context)
        if not words:  # `shapelab refine` names a command
            return
    known = {flag for parameter in command.params for flag in parameter.opts + parameter.secondary_opts} | {"--help"}
    unknown = [word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word) and word not in known]
    if unknown:
        raise click.UsageError(f"no options {unknown}")
    if not any(word.isupper() or word == "..." for word in words):  # DIR and such stand for something
        with suppress(click.exceptions.Exit):  # `--list` ends where its arguments are read
            command.make_context(context.info_name, list(words), parent=context.parent)


def links(page: Path) -> list[str]:
    """What a page links to or shows that is a file of this project."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [link.partition("#")[0] for link in found if not re.match(r"(https?:|mailto:|#)", link)]


def test_the_front_page_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= MAX_LINES
    assert [line for line in lines if len(line) > MAX_WIDTH and not line.startswith("|")] == []
    assert not re.search(r"^#+ Results$", README.read_text(), flags=re.MULTILINE), "tables belong in RESULTS.md"


def test_the_first_screen():
    first = "\n".join(README.read_text().splitlines()[:20])
    picture = re.search(r"!\[[^\]]{10,}\]\((\S+\.gif)\)", first)
    assert picture and (ROOT / picture[1]).stat().st_size <= 2_000_000
    with Image.open(ROOT / picture[1]) as shown:
        assert shown.n_frames > 20 and shown.info["loop"] == 0 and 480 <= shown.width <= 640
    assert "No data set" in first
    for typed in ("git clone", "make lab", "make run", "make test"):
        assert typed in first


def test_one_row_a_system():
    rows = [line.split("|")[1:-1] for line in README.read_text().splitlines() if line.startswith("| **")]
    named = [re.search(r"\*\*(.+?)\*\*", row[0])[1] for row in rows]
    assert set(named) == set(SYSTEMS)
    for row in rows:
        assert len(row) == 4 and row[1].strip() and row[3].strip()
        assert bool(row[2].strip()) != (row[3].strip() == "not in yet")  # a number of ours, or none


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert [link for link in links(page) if not (page.parent / link).exists()] == []


def test_results_name_files_that_are_there():
    named = set(re.findall(r"`(\w+\.(?:csv|json))`", RESULTS.read_text()))
    assert len(named) > 10
    assert {name for name in named if not (ROOT / "benchmarks" / "results" / name).is_file()} == set()


def test_every_table_of_the_results_stands_under_a_command():
    sections = re.split(r"^##+ ", RESULTS.read_text(), flags=re.MULTILINE)
    bare = [s.splitlines()[0] for s in sections if "\n|---" in s and not re.search(r"shapelab |python |make ", s)]
    assert bare == []


def test_results_name_scripts_that_are_there():
    named = set(re.findall(r"python (benchmarks/\w+\.py)", RESULTS.read_text() + README.read_text()))
    assert named and {name for name in named if not (ROOT / name).is_file()} == set()


def test_results_have_every_network_on_a_gpu():
    from shapelab.experiments.recipes import recipes

    table = RESULTS.read_text().partition("## On a GPU")[2]
    assert {name for name in recipes() if f"| `{name}` |" not in table} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_can_be_typed(page):
    for words in commands(page.read_text()):
        try:
            check_command(words)
        except click.UsageError as error:
            pytest.fail(f"{page.name}: shapelab {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize(
    "wrong",
    [
        "refien a.nii.gz",
        "refine a.nii.gz -o b.nii.gz --fuse majority",
        "refine a.nii.gz",
        "experiment acnn --table one",
        "train native --profile slow",
    ],
)
def test_a_wrong_command_is_noticed(wrong):
    found = commands(f"`shapelab {wrong}`")
    assert found == [wrong.split()]
    with pytest.raises(click.UsageError):
        check_command(found[0])


@pytest.mark.slow
@pytest.mark.parametrize("code, printed", list(zip(blocks(README, "python run"), blocks(README, "text"), strict=True)))
def test_python_runs_as_printed(code, printed, tmp_path):
    """Words as printed; numbers within 2 %, because bf16 rounds otherwise on other processors."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    ours, theirs = done.stdout.split(), printed.split()
    number = re.compile(r"[\d.]+")
    assert [number.sub("#", word) for word in ours] == [number.sub("#", word) for word in theirs]
    numbers = [(float(a), float(b)) for a, b in zip(ours, theirs) if number.fullmatch(a)]
    assert numbers and all(a == pytest.approx(b, rel=0.02) for a, b in numbers)


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(README, "bash run"))
def test_commands_run_as_printed(block, tmp_path):
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "shapelab", line
        arguments = [sys.executable, "-m", "shapelab", *words[1:]]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0 and done.stdout.strip(), f"{line}: {done.stderr}"


def test_there_is_something_to_run():
    assert blocks(README, "python run") and blocks(README, "bash run")
