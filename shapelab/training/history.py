"""What happened in each epoch of a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from shapelab.files import atomic_write, read_csv


class History:
    """What happened in each epoch: one row an epoch, one column a loss, and it is also a CSV.

    `history["loss"]` is a column as an array, `history.last` the last row as a dict, `history.table` all of it as a
    DataFrame with the epoch as index, `history.csv` the text of a CSV. `stopped` says why training ended.
    """

    def __init__(self, rows: Iterable[Mapping[str, float]] = (), stopped: str = "") -> None:
        self.rows: list[dict[str, float]] = [dict(row) for row in rows]
        self.stopped = stopped

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.table[column].to_numpy()

    def __repr__(self) -> str:
        shown = ", ".join(f"{k} {v:.4g}" for k, v in self.last.items() if k != "epoch")
        return f"History({len(self)} epochs; {shown})"

    @property
    def last(self) -> dict[str, float]:
        return self.rows[-1] if self.rows else {}

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=None if self.rows else ["epoch"]).set_index("epoch")

    @property
    def csv(self) -> str:
        return self.table.to_csv()

    def write(self, path: str | Path) -> Path:
        """Write the CSV, in one piece or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.csv)
        return Path(path)

    @classmethod
    def read(cls, path: str | Path) -> History:
        """Read what `write` wrote."""
        table = read_csv(path)
        return cls([{str(k): v for k, v in row.items() if pd.notna(v)} for row in table.to_dict("records")])
