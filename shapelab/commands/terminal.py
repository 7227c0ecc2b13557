"""What commands share: exit codes, tables on the terminal, the options that several have."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from shapelab.profiles import PROFILES

OK, BAD, USAGE = 0, 1, 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

PATH = click.Path(path_type=Path)
POSITIVE = click.IntRange(min=1)

root_option = click.option(
    "--root", type=PATH, metavar="DIR", help="The data set's folder (default: under SHAPELAB_DATA)."
)
profile_option = click.option("--profile", type=click.Choice(PROFILES), help="Default: what fits this machine.")
seed_option = click.option("--seed", type=int, default=0, help="Of everything random.")
force_option = click.option("--force", is_flag=True, help="Overwrite what is there.")


def output_option(what: str, **more: Any) -> Callable:
    """``-o``/``--output``: `what` is its help, `more` as `click.option` takes it."""
    return click.option("-o", "--output", type=PATH, help=what, **{"metavar": "DIR"} | more)


def data_root() -> Path | None:
    """The folder of data sets, as the environment names it."""
    root = os.environ.get("SHAPELAB_DATA")
    return Path(root).expanduser() if root else None


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output: ruled and folded in a terminal, one whole line a row in a file or a pipe."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(*cells)]
        for row in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in cells[1:]:
        table.add_row(*map(Text, row))  # Text, not str: a file named "[red]" is a name and no mark-up
    Console().print(table)
