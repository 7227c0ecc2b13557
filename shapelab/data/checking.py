"""Reads every file of a data set and lists all that is wrong. Used by ``shapelab data check FOLDER``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from shapelab.data.cards import catalogue, get_card, locate, recognise, scan
from shapelab.data.reading import Problem, all_problems
from shapelab.errors import DataError, need

COLUMNS = ("file", "problem", "found", "expected", "todo")


def detect(path: str | Path) -> list[tuple[str, Path]]:
    """(name, root) of the data set in `path`, or of every known one in its subfolders if `path` holds several.

    Raises DataError: no such folder, or nothing in it that a reader knows.
    """
    path = Path(path).expanduser()
    need(
        path.is_dir(),
        path,
        "a file" if path.exists() else "no such folder",
        "the folder of a data set",
        "Check the path.",
    )
    if name := recognise(path):
        return [(name, path)]
    inside = [sub for sub in sorted(path.iterdir()) if sub.is_dir() and not sub.name.startswith(".")]
    found = [(name, sub) for sub in inside if (name := recognise(sub))]
    layouts = "; ".join(f"{card.name}: {card.layout}" for card in catalogue().values() if card.scan)
    need(
        found,
        path,
        "nothing that a reader knows",
        f"one of these layouts: {layouts}",
        "Give the folder that holds the data set itself.",
    )
    return found


def check_folder(path: str | Path, name: str | None = None, progress: bool = False) -> pd.DataFrame:
    """Read every file of a data set and return all that is wrong, one row a problem; no row if nothing is.

    Args:
        path: folder of a data set, or a folder of several
        name: which data set it is ("acdc", "hippocampus", "cetus", ...; see `catalogue`); None: seen from its files
        progress: show a bar on standard error

    Returns:
        DataFrame with the columns file, problem (the step that failed; layout, facts, header, label, image, pair),
        found, expected, todo. ``attrs["checked"]`` is a list of (name, folder, number of subjects whose files are in
        place).

    Raises:
        UsageError: unknown name
        DataError: there is no data set at `path`
    """
    rows, checked = [], []
    for target, root in detect(path) if name is None else [(get_card(name).name, locate(name, path))]:
        problems, n = _check(target, root, progress)
        rows += [(p.error.file, p.kind, p.error.found, p.error.expected, p.error.todo) for p in problems]
        checked.append((target, str(root), n))
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    table.attrs["checked"] = checked
    return table


def _check(name: str, root: Path, progress: bool) -> tuple[list[Problem], int]:
    try:
        found = scan(name, root)
    except DataError as error:  # so broken that no subject can be named
        return [Problem("layout", error)], 0
    from tqdm.auto import tqdm

    return all_problems(found, tqdm(found.cases, desc=f"checking {name}", unit="subject", disable=not progress)), len(
        found.cases
    )
