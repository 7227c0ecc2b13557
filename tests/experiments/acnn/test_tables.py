"""The door to the paper's tables."""

from __future__ import annotations

import types

import pandas as pd
import pytest

from shapelab.errors import UsageError
from shapelab.experiments.acnn import segmentation as acnn_segmentation
from shapelab.experiments.acnn import tables as acnn


def test_runs_the_tables_experiment_and_prints_it(monkeypatch, capsys, tmp_path):
    asked = {}

    def run(**options):
        asked.update(options)
        return pd.DataFrame({"method": ["ACNN-Seg"], "dice": [0.5]})

    fake = types.SimpleNamespace(run=run, layout=lambda table: table.assign(paper=0.939))
    monkeypatch.setattr(acnn, "experiment_of", lambda table: fake)
    found = acnn.run(2, data="phantom", profile="quick", seeds=(3,), output=tmp_path, progress=False)
    assert found.columns.tolist() == ["method", "dice"]
    assert asked == {
        "data": "phantom",
        "root": None,
        "profile": "quick",
        "seeds": (3,),
        "output": tmp_path,
        "progress": False,
    }
    said = capsys.readouterr().out
    assert "Table II" in said and "ACNN-Seg" in said and "0.939" in said


def test_a_table_without_a_layout_is_printed_as_it_is():
    table = pd.DataFrame({"a": [1]})
    assert acnn.printed(types.SimpleNamespace(), table) is table


def test_bad_input_is_named():
    assert acnn.experiment_of(1) is acnn_segmentation
    with pytest.raises(UsageError, match="table: found 4; expected one of 1, 2, 3"):
        acnn.run(4)


def test_acdc_is_segmented_at_native_resolution(monkeypatch, capsys, tmp_path):
    asked = {}

    def run(**options):
        asked.update(options)
        return pd.DataFrame({"dice": [0.9]})

    fake = types.SimpleNamespace(run=run, summary=lambda table: table.assign(method="ACDC + prior"))
    monkeypatch.setattr("shapelab.experiments.acnn.reality.run", fake.run)
    monkeypatch.setattr("shapelab.experiments.acnn.reality.summary", fake.summary)
    found = acnn.run(1, data="acdc", root=tmp_path, profile="quick", seeds=(4,), output=tmp_path, progress=False)
    assert found["dice"].tolist() == [0.9]
    assert asked == {
        "root": tmp_path,
        "profile": "quick",
        "output": tmp_path,
        "progress": False,
        "data": "acdc",
        "seed": 4,
    }
    assert "ACDC + prior" in capsys.readouterr().out
