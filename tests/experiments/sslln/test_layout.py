"""SSLLN's tables from cases made by hand, and how they are laid out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shapelab.errors import UsageError
from shapelab.experiments.sslln import layout as tables
from shapelab.phantoms import LANDMARKS


def hand_made(dice: dict[str, list[float]], label: str = "LV cavity") -> dict[str, pd.DataFrame]:
    return {
        m: pd.DataFrame(
            {
                "id": list("abcdef")[: len(v)],
                "label": label,
                "dice": v,
                "hd": [1 / d for d in v],
                "volume": [100 * d for d in v],
                "volume_truth": 100.0,
                "seed": 0,
            }
        )
        for m, v in dice.items()
    }


def test_overlap_table_by_hand():
    values = {"SSLLN-HR": [0.9, 0.95, 0.8, 0.9, 0.85], "2D FCN": [0.8, 0.9, 0.7, 0.85, 0.9]}
    table = tables.overlap_table(hand_made(values), "I", ("LV cavity",))
    assert list(table["measure"]) == ["dice", "dice", "hd", "hd"]
    ours = table.iloc[0]
    assert (ours["method"], ours["n"], ours["n_missed"]) == ("SSLLN-HR", 5, 0)
    assert ours["mean"] == pytest.approx(0.88) and ours["sd"] == pytest.approx(np.std(values["SSLLN-HR"], ddof=1))
    assert (ours["paper_mean"], ours["paper_sd"]) == (0.962, 0.015)
    # differences .1 .05 .1 .05 -.05, ranks 4.5 2 4.5 2 2: of 32 choices of signs W- <= 2 in 4, none or one of the three
    assert ours["p"] == table.iloc[1]["p"] == 2 * 4 / 32


def test_seeds_are_averaged_in_each_heart_and_missed_hearts_counted():
    cases = hand_made({"SSLLN-HR": [0.8, 0.9]})["SSLLN-HR"]
    both = pd.concat([cases, cases.assign(seed=1, dice=[0.6, 0.9], hd=[np.inf, 2.0])])
    table = tables.overlap_table({"SSLLN-HR": both}, "V", ("LV cavity",))  # the paper's has no such row
    assert table.iloc[0]["mean"] == pytest.approx(0.8) and table.iloc[0]["n"] == 2
    assert table.iloc[1]["n_missed"] == 1 and table.iloc[1]["mean"] == pytest.approx((1 / 0.9 + 2) / 2)
    assert np.isnan(table["p"]).all() and np.isnan(table["paper_mean"]).all()


def test_clinical_table_by_hand():
    parts = [hand_made({"SSLLN-HR": [0.9, 1.1, 1.2]}, label)["SSLLN-HR"] for label in tables.STRUCTURES]
    table = tables.clinical_table({"SSLLN-HR": pd.concat(parts)}, "IV")
    row = table.set_index(["method", "what", "measure"])
    assert row.loc[("SSLLN-HR", "LVV (ml)", "value"), "mean"] == pytest.approx(320 / 3)
    assert row.loc[("SSLLN-HR", "LVM (g)", "value"), "mean"] == pytest.approx(1.05 * 320 / 3)
    assert row.loc[("SSLLN-HR", "RVM (g)", "|difference|"), "mean"] == pytest.approx(1.05 * 40 / 3)
    assert row.loc[("truth", "RVV (ml)", "value"), "mean"] == pytest.approx(100)
    assert row.loc[("SSLLN-HR", "LVV (ml)", "|difference|"), "paper_mean"] == 4.623
    assert row.loc[("truth", "RVM (g)", "value"), "paper_mean"] == 33.704


def test_landmark_table_and_cumulative_curve():
    rows = [{"id": i, "landmark": name, "error": e} for name in LANDMARKS for i, e in (("a", 3.0), ("b", 25.0))]
    table = tables.landmark_table({"SSLLN-HR": pd.DataFrame(rows)})
    assert set(table["what"]) == set(LANDMARKS)
    apex = table[table["what"] == "apex"].set_index("measure")
    assert apex.loc["error", "mean"] == 14 and apex.loc["within 20 mm", "mean"] == 0.5
    assert apex.loc["error", "paper_mean"] == 3.86
    assert np.allclose(tables.cumulative(pd.Series([3.0, 25.0, 4.0]), np.array([0, 3, 10, 30])), [0, 1 / 3, 2 / 3, 1])


def test_layout_prints_the_papers_numbers_beside_ours():
    values = {"SSLLN-HR": [0.9, 0.95, 0.8, 0.9, 0.85], "2D FCN": [0.8, 0.9, 0.7, 0.85, 0.9]}
    text = tables.layout(tables.overlap_table(hand_made(values), "I", ("LV cavity",)))
    assert "0.880±0.057 (0.962±0.015)" in text.to_string()
    with pytest.raises(UsageError, match="empty"):
        tables.layout(pd.DataFrame())
