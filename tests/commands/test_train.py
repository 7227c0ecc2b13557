"""`shapelab train`: arguments are handed on."""

from __future__ import annotations

import types

from shapelab.commands import main as cli


def test_train_hands_its_arguments_on(stand_in, capsys, tmp_path):
    calls = []

    def train(*names, **arguments):
        calls.append((names, arguments))
        return names[1]

    module = types.SimpleNamespace(train=train, listing=lambda: [("3d-seg", "a network", "phantom")])
    stand_in("shapelab.experiments", recipes=module)
    stand_in("shapelab.experiments.recipes", **vars(module))
    assert cli.main(["train", "list"]) == 0
    assert "3d-seg" in capsys.readouterr().out and not calls
    options = ["--data", "acdc", "--profile", "quick", "--hearts", "5", "--epochs", "2", "--seed", "4", "--resume"]
    assert cli.main(["train", "native", *options, "-o", str(tmp_path)]) == 0
    asked = {"data": "acdc", "root": None, "profile": "quick", "hearts": 5, "epochs": 2, "seed": 4, "resume": True}
    assert calls == [(("native", tmp_path), asked)]
    assert cli.main(["train", "native"]) == 2
    assert "-o DIR" in capsys.readouterr().err
