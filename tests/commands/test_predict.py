"""`shapelab predict`: arguments are handed on, indices printed."""

from __future__ import annotations

import json
from pathlib import Path

from shapelab.commands import main as cli


def test_predict_prints_the_indices(stand_in, capsys):
    calls = []

    def predict_file(*names, **arguments):
        calls.append((names, arguments))
        return {"volumes_ml": {"LV cavity": 120.5}}

    stand_in("shapelab.commands.files.predict", predict_file=predict_file)
    assert cli.main(["predict", "net", "ed.nii.gz", "-o", "out.nii.gz", "--es", "es.nii.gz", "--force"]) == 0
    names = ("net", Path("ed.nii.gz"), Path("out.nii.gz"))
    assert calls == [(names, {"es": Path("es.nii.gz"), "es_output": None, "force": True})]
    assert json.loads(capsys.readouterr().out) == {"volumes_ml": {"LV cavity": 120.5}}
