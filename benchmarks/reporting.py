"""What benchmarks have in common: ways that take turns, and what was measured on what, printed and written as CSV."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pandas as pd

import shapelab
from shapelab.device import describe
from shapelab.files import write_csv


def timed(
    ways: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one that is not counted; the ways take turns."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = clock()
            way()
            seconds[name].append(clock() - started)
    return seconds


def facts_of(packages: tuple[str, ...] = (), **facts) -> dict[str, object]:
    """Machine, versions (of `packages`, too) and date, and whatever else is to be told."""
    return {
        **describe(),
        **facts,
        **{p: version(p) for p in packages},
        "shapelab": shapelab.__version__,
        "date": date.today().isoformat(),
    }


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
        packages: those whose versions are reported, beside those of `shapelab.device.describe`
        merge: what is written, made of the rows and facts (to keep rows of an older file)
        facts: of this measurement (threads, profile)
    """
    facts = facts_of(packages, **facts)
    print(", ".join(f"{k} {v}" for k, v in facts.items()))
    print(table.round(decimals).to_string(index=False))
    if output:
        rows = table.assign(**facts)
        write_csv(merge(rows) if merge else rows, output)
        print(f"written: {output}")
