"""Text files that people write: notes, JSON, tables. Whatever is wrong with one is a `DataError` that names it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pandas as pd

from shapelab.data.rows import check_fact_names
from shapelab.errors import DataError, need
from shapelab.files import read_csv

#: What a cell that is not known holds.
UNKNOWN = ("", "NA", "NaN", "nan", "n/a")


def read_text(file: str | Path, expected: str, todo: str = "") -> str:
    """Content of a text file (UTF-8, with or without its mark). DataError: it is not there, or no text."""
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(file, "no such file", expected, todo) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(file, f"a file that cannot be read as text ({error})", expected, todo) from None


def read_json(file: str | Path, expected: str, todo: str = "") -> dict:
    """Content of a file that holds one JSON object. DataError: as `read_text`; no JSON, no object."""
    try:
        content = json.loads(read_text(file, expected, todo))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(file, f"no valid JSON ({error})", "JSON", todo) from None
    need(isinstance(content, dict), file, f"a JSON {type(content).__name__}", "a JSON object", todo)
    return content


def read_rows(
    file: str | Path, columns: Sequence[str] = (), todo: str = ""
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows of a CSV file (commas, UTF-8), each row with the number of its line; empty lines are left out.

    Args:
        columns: that must be there. Cells lose the blanks around them; every row has as many as the header

    Raises DataError: as `read_text`; quotes that do not close, no line, a column missing or twice, a row too short or
    too long.
    """
    try:
        lines = csv.reader(
            StringIO(read_text(file, "comma-separated UTF-8 text with a header line", todo)), strict=True
        )
        rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(file, f"text that cannot be read ({error})", "comma-separated UTF-8 text", todo) from None
    need(rows, file, "an empty file", f"a header line{' with ' * bool(columns)}{', '.join(columns)}", todo)
    (first, header), *rows = rows
    wrong = [c for c in dict.fromkeys([*columns, *header]) if header.count(c) != 1]
    need(
        not wrong,
        file,
        f"in line {first} the columns {', '.join(map(repr, header))}; {', '.join(wrong)} missing or twice",
        f"the columns {', '.join(columns or header)}, each once",
        todo,
    )
    for line, row in rows:
        need(
            len(row) == len(header),
            file,
            f"in line {line} {len(row)} cells",
            f"{len(header)}, as in line {first}",
            todo,
        )
    return header, rows


def read_table(file: str | Path, index: Sequence[str] = ("id", "subject"), todo: str = "") -> pd.DataFrame:
    """A CSV file as a table, one subject a row.

    Args:
        index: names that the column of ids may have; the first that is there becomes the index

    Ids and the column `patient` stay text; other columns are numbers where all their cells are. A cell that holds one
    of `UNKNOWN` is not known (NaN).

    Raises DataError: as `read_rows`; no column of ids, a row without an id, a known fact in another spelling.
    """
    header, rows = read_rows(file, todo=todo)
    key = next((name for name in index if name in header), "")
    names = " or ".join(map(repr, index))
    need(key, file, f"the columns {', '.join(map(repr, header))}", f"a column {names}", todo)
    check_fact_names(header, file)
    for line, row in rows:
        need(row[header.index(key)] not in UNKNOWN, file, f"no id in line {line}", "an id in every row", todo)
    clean = StringIO()
    csv.writer(clean).writerows([header, *(row for _, row in rows)])
    clean.seek(0)
    return read_csv(
        clean, dtype=dict.fromkeys((*index, "patient"), str), keep_default_na=False, na_values=list(UNKNOWN)
    ).set_index(key)
