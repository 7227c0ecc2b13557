"""`shapelab predict`: arguments are handed on, indices printed."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

from shapelab.commands import main as cli
from shapelab.commands.files.networks import default_model


def test_predict_prints_the_indices(stand_in, capsys):
    calls = []

    def predict_file(*names, **arguments):
        calls.append((names, arguments))
        return {"volumes_ml": {"LV cavity": 120.5}}

    stand_in("shapelab.commands.files.predict", predict_file=predict_file)
    assert cli.main(["predict", "net", "ed.nii.gz", "-o", "out.nii.gz", "--es", "es.nii.gz", "--force"]) == 0
    names = ("net", Path("ed.nii.gz"), Path("out.nii.gz"))
    es = {"es": Path("es.nii.gz"), "es_output": None, "force": True}
    assert calls.pop() == (names, {**es, "modality": None, "centre": None})
    assert json.loads(capsys.readouterr().out) == {"volumes_ml": {"LV cavity": 120.5}}
    whole = ["--modality", "CT", "--centre", "80", "90", "41.5"]
    assert cli.main(["predict", "net", "ed.nii.gz", "-o", "out.nii.gz", *whole]) == 0
    assert {name: calls[0][1][name] for name in ("modality", "centre")} == {"modality": "CT", "centre": (80, 90, 41.5)}


def test_the_model_may_be_left_out(stand_in, capsys):
    calls = []
    stand_in("shapelab.commands.files.predict", predict_file=lambda *names, **arguments: calls.append(names) or {})
    for words in (["scan.nii.gz", "-o", "out.nii.gz"], ["-o", "out.nii.gz", "scan.nii.gz"]):
        assert cli.main(["predict", *words]) == 0
        assert calls.pop() == (None, Path("scan.nii.gz"), Path("out.nii.gz"))
    assert cli.main(["predict", "net", "-o", "out.nii.gz", "scan.nii.gz"]) == 0
    assert calls.pop() == ("net", Path("scan.nii.gz"), Path("out.nii.gz"))
    capsys.readouterr()
    for words, why in ((["a", "b", "c"], "found 3 names; expected SCAN, or MODEL and SCAN"), ([], "'SCAN'")):
        assert cli.main(["predict", *words, "-o", "out.nii.gz"]) == 2
        assert why in capsys.readouterr().err
    assert calls == []
    assert cli.main(["predict", "--help"]) == 0
    assert "[MODEL] SCAN" in capsys.readouterr().out


def test_the_list_says_what_suits_what_and_what_does_not(capsys):
    assert cli.main(["predict", "--list"]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.splitlines()}
    assert "short-axis stack" in rows["acnn_seg_native_quick"] and "phantom hearts" in rows["acnn_seg_native_quick"]
    assert "Not for predict: acnn_sr_quick is for 'sr' (super-resolution)" in said
    assert "Not for predict: acnn_seg" not in said
    assert f"Without MODEL: {default_model()}, for a short-axis stack.\n" in said


def test_a_warning_is_plain_words_on_standard_error_and_the_exit_code_stays_0(stand_in, capsys):
    def predict_file(*names, **arguments):
        warnings.warn("a.nii.gz: found LVEF -8 %; expected a heart that can be.", stacklevel=2)
        return {"warnings": ["LVEF -8 %"]}

    stand_in("shapelab.commands.files.predict", predict_file=predict_file)
    usual = warnings.formatwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *where: print(
            warnings.formatwarning(message, category, *where[:2]), end="", file=sys.stderr
        )
        assert cli.main(["predict", "net", "ed.nii.gz", "-o", "out.nii.gz"]) == 0
    said = capsys.readouterr()
    assert said.err == "shapelab: warning: a.nii.gz: found LVEF -8 %; expected a heart that can be.\n"
    assert json.loads(said.out)["warnings"] == ["LVEF -8 %"] and warnings.formatwarning is usual
