"""``shapelab data``: the data sets, which are here, and what is wrong with their files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shapelab.commands.terminal import BAD, OK, PATH, data_root, print_table

if TYPE_CHECKING:
    from shapelab.data.cards import Card


@click.group("data")
def command() -> None:
    """List, fetch or check data sets."""


@command.command("list")
def list_() -> int:
    """The data sets shapelab reads, and which are here."""
    from shapelab import data

    root = data_root()
    print_table(
        ["name", "what", "licence", "here", "home"],
        [[c.name, c.title, c.licence, _where(c, root), c.home] for c in data.catalogue().values()],
    )
    if root is None:
        print("SHAPELAB_DATA is not set: set it to the folder of your data sets. The phantom needs none.")
    return OK


def _where(card: Card, root: Path | None) -> str:
    """Whether a data set is on this machine, in a few words."""
    if not card.folder:
        return "built in" if card.make else "give its folder"
    if root is not None and (root / card.folder).is_dir():
        return "yes"
    return "no (can be fetched)" if card.fetchable else "no"


@command.command()
@click.argument("name")
@click.option("--root", type=PATH, metavar="DIR", help="Folder of data sets (default: SHAPELAB_DATA).")
def fetch(name: str, root: Path | None) -> int:
    """Download a data set whose publisher allows it: NAME as `shapelab data list` has it."""
    from shapelab import data

    print(f"{name} is at {data.fetch(name, root or data_root())}")
    return OK


@command.command()
@click.argument("folder", type=PATH)
@click.option("--name", help="Which data set it is (default: inferred from the layout).")
def check(folder: Path, name: str | None) -> int:
    """Read every file of a folder and say what is wrong."""
    from shapelab import data

    problems = data.check_folder(folder, name=name)
    notes = [f"note: {text}" for text in problems.attrs.get("notes", ())]
    if problems.empty:
        print(*notes, f"{folder}: nothing wrong", sep="\n")
        return OK
    print_table(list(problems.columns), problems.astype(str).values.tolist())
    print(*notes, sep="\n", end="\n" * bool(notes))
    print(f"{folder}: {len(problems)} problem{'s' * (len(problems) != 1)}", file=sys.stderr)
    return BAD
