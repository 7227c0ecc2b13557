"""Table II from cases made by hand: means, function, what was missed, and the paper's numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shapelab.experiments.acnn.ultrasound import (
    layout,
    summarise,
)
from shapelab.experiments.acnn.ultrasound_tables import ejection_fractions
from shapelab.experiments.tables import printed


def cases(shift=0.0):
    """Two patients, two methods, two seeds; FCN's numbers are `shift` worse."""
    rows = []
    for seed in (0, 1):
        for method, worse in (("FCN", shift), ("ACNN-Seg", 0.0)):
            for k, (patient, ed, es) in enumerate((("a", 100.0, 40.0), ("b", 200.0, 150.0), ("c", 160.0, 60.0))):
                for phase, volume in (("ED", ed), ("ES", es)):
                    rows.append(
                        {
                            "case": f"{patient}_{phase}",
                            "patient": patient,
                            "phase": phase,
                            "method": method,
                            "seed": seed,
                            "dice": 0.9 - worse / 100,
                            "hd": 5.0 + k + worse + seed,
                            "assd": 1.0 + worse,
                            "volume": volume + worse,
                            "volume_truth": volume,
                            "plausible": True,
                        }
                    )
    return pd.DataFrame(rows)


def value(table, measure, phase, method, column="mean"):
    row = table[(table.measure == measure) & (table.phase == phase) & (table.method == method)]
    assert len(row) == 1
    return row[column].iloc[0]


def test_the_papers_numbers():
    paper = printed("acnn", "II").set_index(["measure", "what", "method"])
    for (measure, phase, method), known in {
        ("hd", "ED", "ACNN-Seg"): (6.96, 1.75),
        ("dice", "ES", "FCN"): (0.872, 0.050),
        ("EF bias (limits)", "", "BEAS"): (-6.78, 27.71),
        ("assd", "ES", "BEAS"): (2.43, 0.91),
    }.items():
        assert tuple(paper.loc[(measure, phase, method)]) == known


def test_summary_by_hand():
    table = summarise(cases(shift=10.0))
    # hd of a case: mean over seeds of 5 + k + 10 + seed = 15.5 + k
    assert value(table, "hd", "ED", "FCN") == pytest.approx(16.5)
    assert value(table, "hd", "ED", "FCN", "sd") == pytest.approx(1.0)
    assert value(table, "hd", "ED", "FCN", "sd_seeds") == pytest.approx(np.sqrt(0.5))
    assert value(table, "hd", "ED", "ACNN-Seg") == pytest.approx(6.5)
    assert value(table, "hd", "ED", "ACNN-Seg", "p") == pytest.approx(0.25)  # three cases: the least there is
    assert value(table, "dice", "ES", "ACNN-Seg", "paper") == 0.873
    # EF: truth 60, 25, 62.5; FCN's volumes are 10 ml too large: 1 - 50/110, 1 - 160/210, 1 - 70/170
    gap = np.array([100 * (1 - 50 / 110) - 60, 100 * (1 - 160 / 210) - 25, 100 * (1 - 70 / 170) - 62.5])
    assert value(table, "EF bias (limits)", "", "FCN") == pytest.approx(gap.mean())
    assert value(table, "EF bias (limits)", "", "FCN", "sd") == pytest.approx(1.96 * gap.std(ddof=1))
    assert value(table, "EF bias (limits)", "", "ACNN-Seg") == 0
    assert value(table, "EDV bias (limits)", "", "FCN") == pytest.approx(10)
    assert value(table, "EF correlation", "", "ACNN-Seg") == pytest.approx(1)


def test_a_missed_case_is_counted_and_not_averaged():
    found = cases()
    lost = (found.case == "a_ED") & (found.method == "FCN") & (found.seed == 0)
    found.loc[lost, ["hd", "assd", "dice", "volume", "plausible"]] = [np.inf, np.inf, 0.0, 0.0, False]
    table = summarise(found)
    assert value(table, "hd", "ED", "FCN", "n_missed") == 1 and value(table, "hd", "ED", "FCN", "n") == 3
    assert value(table, "hd", "ED", "FCN") == pytest.approx(7.0)  # of b and c
    assert value(table, "dice", "ED", "FCN") == pytest.approx((0.45 + 0.9 + 0.9) / 3)  # a failure is not dropped
    assert value(table, "EF correlation", "", "FCN", "n_missed") == 1
    assert np.isnan(
        ejection_fractions(found[lost | (found.case == "a_ES") & (found.seed == 0) & (found.method == "FCN")]).EF
    ).all()


def test_layout_has_both_our_numbers_and_the_papers():
    text = layout(summarise(cases(1.0)))
    assert list(text.columns) == ["BEAS", "FCN", "ACNN-Seg", "p"]
    assert text.loc["Hausdorff (mm) ED", "ACNN-Seg"] == "6.50 ± 1.00 (6.96 ± 1.75)"
    assert text.loc["Hausdorff (mm) ED", "BEAS"] == "(8.10 ± 2.66)"
    assert text.loc["EF correlation", "FCN"].endswith("(0.885)")
