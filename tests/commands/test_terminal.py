"""What commands print."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shapelab.commands.terminal import data_root, print_table


def test_a_table_in_a_file_is_a_whole_line_a_row(capsys):
    print_table(["file", "n"], [["a" * 300, 1], ["b", 22]])
    first, second, third = capsys.readouterr().out.splitlines()
    assert (first, second, third) == ("file" + " " * 298 + "n", "a" * 300 + "  1", "b" + " " * 301 + "22")


def test_the_folder_of_data_sets(monkeypatch):
    monkeypatch.setenv("SHAPELAB_DATA", "~/data")
    assert data_root().is_absolute() and data_root().name == "data"
    monkeypatch.setenv("SHAPELAB_DATA", "")
    assert data_root() is None


def test_a_table_in_a_terminal_is_ruled_and_takes_no_markup():
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    code = "from shapelab.commands.terminal import print_table\nprint_table(['file', 'n'], [['[red]x', 1]])"
    environment = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=environment, check=True)
    os.close(theirs)
    text = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "[red]x" in text and "──" in text
