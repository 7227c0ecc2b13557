"""The course laid out in a folder of the student's own: copies of the notebooks, to run and to change."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from shapelab.course.runner import find_notebooks
from shapelab.errors import ShapelabError, must
from shapelab.files import atomic_write, write_json
from shapelab.places import shipped_folder

#: In the student's folder: notebook -> hash of it as it was laid out.
RECORD = ".shapelab-course.json"
NEW, SAME, UPDATED = "new", "as in the course", "brought up to date"
KEPT, MOVED = "kept as you changed them", "laid out anew"


def lay_out(folder: str | Path, force: bool = False) -> dict[str, tuple[str, Path]]:
    """Copy the notebooks of the course into a folder. What the student changed is never lost.

    A notebook that is still as it was laid out is brought up to date. One that was changed (to run it and to save it
    changes it, too) is kept as it is; with `force` it gets another name, and the course's own is laid out again.

    Returns:
        Notebook -> what became of it (NEW, SAME, UPDATED, KEPT or MOVED), and the file that holds what was there
        before: another than the notebook where it was MOVED.

    Raises:
        UsageError: The folder is that of the course itself.
        ShapelabError: A folder that cannot be written to.
    """
    source, folder = shipped_folder("notebooks"), Path(folder)
    must(folder.resolve() != source.resolve(), "folder", f"{folder}, the course's own", "another one, for copies")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = _read_record(folder)
        done = {}
        for notebook in find_notebooks(source):
            content = notebook.read_bytes()
            done[notebook.name] = _lay_out_one(content, folder / notebook.name, known, force)
            if done[notebook.name][0] != KEPT:
                known[notebook.name] = _hash(content)
        write_json(known, folder / RECORD)
    except OSError as error:
        raise ShapelabError(
            f"{folder}: found that it cannot be written to ({error.strerror or error}); expected a folder for copies. "
            "Give another one."
        ) from None
    return done


def _lay_out_one(content: bytes, target: Path, known: dict[str, str], force: bool) -> tuple[str, Path]:
    """What becomes of one notebook, of which `content` is the course's, and where lies what was there before."""
    state, before = NEW, target
    if target.exists():
        there = _hash(target.read_bytes())
        if there == _hash(content):
            return SAME, target
        state = UPDATED
        if there != known.get(target.name):
            if not force:
                return KEPT, target
            state, before = MOVED, _free_name(target)
            target.rename(before)
    with atomic_write(target) as temporary:
        temporary.write_bytes(content)
    return state, before


def _free_name(path: Path) -> Path:
    """A name beside `path` that nothing has yet: 03_name.mine-1.ipynb, 03_name.mine-2.ipynb, ..."""
    n = 1
    while (free := path.with_name(f"{path.stem}.mine-{n}{path.suffix}")).exists():
        n += 1
    return free


def _read_record(folder: Path) -> dict[str, str]:
    """What was laid out here; of a damaged record nothing, so that every notebook counts as the student's own."""
    try:
        known = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()
