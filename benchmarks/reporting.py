"""How benchmarks end: what was measured on what, printed and, if asked for, written as CSV."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pandas as pd

import shapelab
from shapelab.device import describe
from shapelab.files import write_csv


def report(
    table: pd.DataFrame,
    output: Path | None,
    packages: tuple[str, ...] = (),
    decimals: int = 2,
    merge: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    **facts,
) -> None:
    """Print a table with machine, versions and date, and write it with them as columns.

    Args:
        packages: whose versions matter, beside those of `shapelab.device.describe`
        merge: what is written, made of the rows and facts (to keep rows of an older file)
        facts: of this measurement (threads, profile)
    """
    facts = {
        **describe(),
        **facts,
        **{p: version(p) for p in packages},
        "shapelab": shapelab.__version__,
        "date": date.today().isoformat(),
    }
    print(", ".join(f"{k} {v}" for k, v in facts.items()))
    print(table.round(decimals).to_string(index=False))
    if output:
        rows = table.assign(**facts)
        write_csv(merge(rows) if merge else rows, output)
        print(f"written: {output}")
