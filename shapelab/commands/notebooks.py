"""``shapelab notebooks``: execute the notebook series and write it as web pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shapelab.commands.terminal import BAD, OK, PATH, POSITIVE, output_option, profile_option


@click.command("notebooks", short_help="Execute the notebook series and write it as web pages.")
@click.argument("numbers", nargs=-1, metavar="[NN]...")
@click.option("--list", "only_list", is_flag=True, help="Only say which notebooks there are.")
@output_option("Where copies and pages go.", default="results")
@click.option("--jobs", type=POSITIVE, default=1, metavar="N", help="Notebooks at a time.")
@click.option("--timeout", type=POSITIVE, default=600, metavar="S", help="Seconds a cell may take.")
@profile_option
@click.option(
    "--folder", type=PATH, metavar="DIR", help="Folder of the notebooks (default: notebooks, else those that ship)."
)
@click.option("--in-place", is_flag=True, hidden=True)  # for those who write notebooks (see CONTRIBUTING.md)
def command(numbers: tuple[str, ...], only_list: bool, in_place: bool, output: Path, **options: Any) -> int:
    """Execute notebooks, each in a kernel of its own, and write executed copies, web pages and one index page.

    NN says which notebooks (default: all). A notebook that fails does not stop the others; the exit code is then 1.

    \b
    shapelab notebooks
    shapelab notebooks 00 03 --jobs 2
    """
    from shapelab.course import runner

    paths = runner.select(runner.find_notebooks(runner.notebook_folder(options.pop("folder"))), numbers)
    if only_list:
        print(*paths, sep="\n")
        return OK
    return OK if runner.run(paths, None if in_place else output, **options).passed else BAD
