"""SSLLN's tables as its door makes them, on tiny hearts; what it refuses."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from shapelab.errors import UsageError
from shapelab.experiments.sslln import laboratory as sslln_methods
from shapelab.experiments.sslln import layout as tables
from shapelab.experiments.sslln import tables as sslln
from shapelab.experiments.sslln.laboratory import Laboratory


@pytest.mark.parametrize("table", [1, 2, 6])
def test_run_writes_the_table_with_trained_networks(config, folder, tmp_path, table, monkeypatch, capsys):
    torch.manual_seed(0)
    monkeypatch.setattr(Laboratory, "refinements", lambda self, cohort, align: [None] * len(self.cohort(cohort)))
    found = sslln.run(table, profile="quick", output=folder / "door", progress=False, config=config)
    assert set(found["method"]) - {"truth"} == set(sslln.METHODS_OF[table][0])
    written = pd.read_csv(folder / "door" / f"sslln_table{table}.csv")
    assert len(written) == len(found) and list(written.columns) == list(tables.COLUMNS)
    about = json.loads((folder / "door" / f"sslln_table{table}.json").read_text())
    assert about["seeds"] == [0] and about["config"]["training"] == 4
    assert "ours (the paper's)" in capsys.readouterr().out
    if table == 1:
        gaps = pd.read_csv(folder / "door" / "sslln_gaps.csv")
        assert len(gaps) == 4 * 3 * 2 * 4 and set(gaps["slices"]) == {2, 6, 10}  # 10, 26 and 40 mm in slices of 4 mm


def test_table_five_trains_the_networks_of_the_other_paper(config, folder, oracle, capsys):
    found = sslln.run(5, profile="quick", output=folder / "five", progress=False, config=config)
    assert set(found["method"]) == set(sslln.METHODS_OF[5][0]) and set(found["what"]) == {"LV cavity", "LV myocardium"}
    assert (found["n"] == 1).all()
    starts = pd.read_csv(folder / "five" / "sslln_initialisation.csv")
    assert set(starts["start"]) == set(sslln_methods.STARTS) and len(starts) == 3 * 4


def test_real_hearts_are_refined_whatever_the_table(monkeypatch, tmp_path, capsys):
    from shapelab.experiments.sslln import refinement_acdc as refinement

    asked = []
    monkeypatch.setattr(refinement, "run", lambda **k: asked.append(k) or "a table")
    monkeypatch.setattr(refinement, "summary", lambda table: pd.DataFrame({"from": [table]}))
    assert sslln.run(4, data="acdc", root="r", profile="quick", output=tmp_path) == "a table"
    assert asked == [{"root": "r", "profile": "quick", "output": tmp_path, "progress": True}]
    assert "a table" in capsys.readouterr().out


def test_run_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(UsageError, match="table: found 7"):
        sslln.run(7)
    with pytest.raises(UsageError, match="data: found 'cetus'"):
        sslln.run(1, data="cetus")
