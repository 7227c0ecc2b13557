"""What an execution of notebooks ended in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Failure:
    """Where and why a notebook stopped: `cell` counts code cells from 1 (as ``In [n]``), 0 is before the first."""

    cell: int
    error: str

    def __str__(self) -> str:
        return f"cell {self.cell}: {self.error}" if self.cell else self.error


@dataclass(frozen=True)
class Result:
    """What became of one notebook."""

    path: Path
    seconds: float
    failure: Failure | None = None

    def __str__(self) -> str:
        return f"{self.path.name}, {self.failure or 'passed'}"


@dataclass(frozen=True)
class Report:
    """A whole run: one `Result` a notebook, and the page that links them (None when run in place)."""

    results: tuple[Result, ...]
    index: Path | None = None

    @property
    def passed(self) -> bool:
        return all(result.failure is None for result in self.results)
