"""Writing files so that nothing is lost: to a temporary name first, then renamed. Caches of arrays in that way."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from zipfile import BadZipFile

from shapelab.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is flushed to disk and takes the name `path`.

    An interrupted or failing block leaves whatever stood at `path` untouched. Parent folders are made.

    >>> with atomic_write("table.csv") as temporary:          # doctest: +SKIP
    ...     frame.to_csv(temporary)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the suffix stays at the end: writers such as nibabel and matplotlib choose the format by it
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix="".join(path.suffixes[-2:]))
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; a result is as readable as any file its owner makes
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def only_one(what: str, folder: str | Path, wait: bool = False) -> Iterator[None]:
    """Context in which `folder`, which is made, is this process's alone; UsageError, naming `what`, where another is in
    such a context (`wait`: it is waited for). A killed process gives it back. File systems without locks have none.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    made, lock = not folder.exists(), FileLock(folder / ".running", timeout=-1 if wait else 0)
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(RuntimeError):  # what filelock raises where a file system has no locks
        try:
            lock.acquire()
        except Timeout:
            advice = "a folder of its own: wait for that one to end, or give another folder"
            raise UsageError(f"{what}: found a run that is under way in {folder}; expected {advice}") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # it holds something
            if made:
                folder.rmdir()


def read_cache(file: str | Path, key: str) -> tuple[dict[str, np.ndarray], pd.DataFrame] | None:
    """Arrays and table that `write_cache` wrote under this key; None: no file, or one of another key.

    DataError naming the file if it is damaged.
    """
    import numpy as np

    file = Path(file)
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as held:
            if str(held["key"]) != key:
                return None
            table = read_csv(StringIO(str(held["table"])), index_col=0)
            return {name: held[name] for name in held.files if name not in ("key", "table")}, table
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(
            file,
            f"a damaged cache ({type(error).__name__}: {error})",
            "arrays as shapelab writes them",
            "Delete the file.",
        ) from error


def write_cache(file: str | Path, key: str, arrays: dict[str, np.ndarray], table: pd.DataFrame) -> None:
    """Keep arrays and a table (`.npz`), with a key that says what they are; whole or not at all."""
    import numpy as np

    with atomic_write(file) as temporary, open(temporary, "wb") as out:
        np.savez(out, key=key, table=table.to_csv(), **arrays)  # type: ignore[arg-type]  # none is "allow_pickle"


def cached(
    file: str | Path | None, key: str, make: Callable[[], tuple[dict[str, np.ndarray], pd.DataFrame]]
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """What a file holds under a key (`read_cache`), or what `make` gives, kept there now; no file: made each time."""
    if file is not None and (held := read_cache(file, key)) is not None:
        return held
    made = make()
    if file is not None:
        write_cache(file, key, *made)
    return made


def read_csv(source: str | Path | TextIO, **how: Any) -> pd.DataFrame:
    """A table as it was written, its numbers to the last digit.

    Args:
        source: a file, its name, or an open text
        how: as `pandas.read_csv` takes it
    """
    import pandas as pd
    from packaging.version import Version

    # pandas reads so by itself from 3.1 on, and warns if it is told to
    if Version(pd.__version__) < Version("3.1"):
        how["float_precision"] = "round_trip"
    return pd.read_csv(source, **how)


def write_csv(table: pd.DataFrame, file: str | Path, digits: int = 5) -> None:
    """Write a table of results, without its index, numbers to so many digits; whole or not at all."""
    with atomic_write(file) as temporary:
        table.to_csv(temporary, index=False, float_format=f"%.{digits}g")


def write_json(content: Any, file: str | Path) -> None:
    """Write what JSON can hold, a line a number or text; whole or not at all."""
    text = json.dumps(content, indent=1)
    with atomic_write(file) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
