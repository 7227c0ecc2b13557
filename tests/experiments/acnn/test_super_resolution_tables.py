"""Table III of the ACNN paper: worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from shapelab.experiments.acnn.super_resolution_tables import METHODS, claims, layout, sweep_table, table_three
from shapelab.training import History


def test_table_and_claims_by_hand():
    rows = []
    for method, base in zip(METHODS, (0.70, 0.72, 0.74, 0.75, 0.80, 0.81), strict=True):
        for seed in (0, 1):
            for i in range(12):
                rows.append(
                    {
                        "method": method,
                        "seed": seed,
                        "condition": "clean",
                        "patient": f"p{i // 2}",
                        "heart": f"h{i}",
                        "ssim": base + 0.01 * seed + 0.001 * (i // 2),
                        "psnr": 20.0,
                        "error": 0.1,
                        "dice": np.nan,
                    }
                )
    seconds = dict(zip(METHODS, (0.01, 0.01, 0.30, 0.07, 0.05, 0.06), strict=True))
    speed = pd.DataFrame({"method": list(seconds), "seconds": list(seconds.values())})
    speed = speed.assign(size="this profile", parameters=100)
    speed["times_srcnn"] = 0.30 / speed["seconds"]
    hearts = pd.DataFrame(rows)
    table = table_three(hearts, speed).set_index("method")
    assert table.loc["SR", "ssim"] == pytest.approx(0.80 + 0.005 + 0.0025)
    assert table.loc["SR", "times_srcnn"] == pytest.approx(6.0)
    # six patients, all six differences of one sign: the exact two-sided p is 2 / 2^6
    assert table["p"].dropna().to_dict() == {"SR": pytest.approx(2 / 64), "ACNN-SR": pytest.approx(2 / 64)}
    found = claims(hearts, speed).set_index("claim")
    assert found.loc["the prior helps", "difference"] == pytest.approx(0.01) and found["holds"].all()
    assert claims(hearts[hearts["ssim"] < 0.9].assign(ssim=0.5), speed)["holds"].tolist() == [False] * 4 + [True]
    five = claims(hearts[hearts["patient"] != "p0"], speed)["holds"]  # p is 1/16 at least
    assert five.isna().tolist() == [True] * 4 + [False]
    shown = layout(table.reset_index())
    assert shown.loc[("clean", "ACNN-SR"), "SSIM"] == "0.818 (0.796)" and shown.loc[("clean", "SR"), "SSIM"] == "0.807"
    assert shown.loc["clean"]["p (two best)"].tolist() == ["", "", "", "", "0.031", "0.031"]


def test_sweep_by_hand():
    hearts = pd.DataFrame({"condition": ["clean", "motion"], "ssim": [0.9, 0.8], "error": 0.1, "dice": 0.7})
    runs = [
        (0.1, hearts, History([{"epoch": 0, "pixel": 0.002, "prior": 0.5}])),
        (0.0, hearts, History([{"epoch": 0, "pixel": 0.004}])),
    ]
    sweep = sweep_table(runs)
    assert sweep["weight"].tolist() == [0.0, 0.0, 0.1, 0.1]
    assert sweep["share"].iloc[2] == pytest.approx(0.1 * 0.5 / 0.002)
    assert sweep["ssim"].tolist() == [0.9, 0.8, 0.9, 0.8]
