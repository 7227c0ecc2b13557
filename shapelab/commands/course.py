"""``shapelab course``: the chapters, and copies of them to work on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from shlex import quote

import click

from shapelab.commands.terminal import OK, PATH


@click.command("course", short_help="List the chapters, or lay them out as copies to work on.")
@click.option("--copy", "folder", type=PATH, metavar="DIR", help="Lay copies of all notebooks out in DIR.")
@click.option("--force", is_flag=True, help="Lay changed notebooks out anew; yours are kept under another name.")
def command(folder: Path | None, force: bool) -> int:
    """List the chapters of the course, or lay its notebooks out in a folder of your own.

    A notebook that you changed is never overwritten; one that you did not is brought up to date.

    \b
    shapelab course --copy my_course
    jupyter lab my_course/00_start_here.ipynb
    """
    from shapelab.course import copies, pages
    from shapelab.course.notebooks import read_notebook
    from shapelab.course.runner import find_notebooks
    from shapelab.places import shipped_folder

    if folder is None:
        print(*[pages.title_of(read_notebook(path)) for path in find_notebooks(shipped_folder("notebooks"))], sep="\n")
        print("Copies to work on: shapelab course --copy DIR")
        return OK
    done = copies.lay_out(folder, force)
    counts = Counter(state for state, _ in done.values())
    print(f"{folder}: {', '.join(f'{n} {state}' for state, n in counts.items())}")
    if kept := [name for name, (state, _) in done.items() if state == copies.KEPT]:
        print(f"Yours stay: {', '.join(kept)} (--force lays the course's out again and renames yours)")
    for name, (state, yours) in done.items():
        if state == copies.MOVED:
            print(f"{name} is the course's again; yours is {yours.name}")
    print(f"Now: jupyter lab {quote(str(folder / min(done)))}")
    return OK
