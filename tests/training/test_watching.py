"""A probe gets what a trainer trains; a limit of time loses none of it."""

import numpy as np
import pytest
import torch
from torch import nn

from shapelab.errors import UsageError
from shapelab.training import Batches, FitSettings, History, Run, TimeUp, fit, probing, seeded, time_limit
from shapelab.training.loop import CHECKPOINT

X = np.linspace(-1, 1, 24, dtype=np.float32)[:, None]


def trainer(run, epochs=3):
    """A made-up trainer in two stages, each a `fit`: the model and the two histories."""
    model = seeded(lambda: nn.Linear(1, 1), run.seed)

    def step(batch):
        x, y = batch
        return {"loss": (model(x) + 0.1 * torch.randn(()) - y).square().mean()}

    batches = Batches(X, 2 * X + 1, batch_size=8, seed=run.seed)
    stages = (FitSettings(learning_rate=0.1), FitSettings(learning_rate=0.01))
    return model, [
        fit(step, model, batches, epochs, settings=settings, run=run.within(str(stage)))
        for stage, settings in enumerate(stages)
    ]


def quiet(folder=None):
    return Run(checkpoint=folder, progress=False, device="cpu")


def test_a_probe_gets_each_stage_and_nothing_is_trained(tmp_path):
    seen = []

    def probe(training):
        seen.append(training)
        return History([{"epoch": 0, "loss": 7.0}], "seen")

    with probing(probe):
        model, histories = trainer(quiet(tmp_path))
    untouched = seeded(lambda: nn.Linear(1, 1), 0)
    assert torch.equal(model.weight, untouched.weight) and list(tmp_path.rglob("*")) == []
    assert [t.settings.learning_rate for t in seen] == [0.1, 0.01] and [t.epochs for t in seen] == [3, 3]
    assert all(t.model is model for t in seen) and [t.run.checkpoint.name for t in seen] == ["0", "1"]
    assert [h.last["loss"] for h in histories] == [7.0, 7.0]
    assert len(trainer(quiet())[1][0]) == 3  # after it, trained as before


def test_what_a_probe_gets_trains_as_the_trainer_does():
    expected, histories = trainer(quiet())
    with probing(lambda training: fit(**vars(training))):
        model, again = trainer(quiet())
    assert torch.equal(model.weight, expected.weight) and torch.equal(model.bias, expected.bias)
    assert [h["loss"].tolist() for h in again] == [h["loss"].tolist() for h in histories]


def test_an_error_in_a_probe_ends_the_probing():
    def probe(training):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"), probing(probe):
        trainer(quiet())
    assert trainer(quiet())[1][0].stopped == "all epochs done"


def test_training_in_pieces_of_a_step_ends_in_the_same_weights(tmp_path):
    expected, whole = trainer(quiet())
    pieces = 0
    while True:
        try:
            with time_limit(0):
                model, histories = trainer(quiet(tmp_path))
            break
        except TimeUp as up:
            assert str(tmp_path) in str(up) and CHECKPOINT in str(up)
            pieces += 1
    assert pieces == 2 * 3 * 3  # two stages, three epochs, three batches
    assert torch.equal(model.weight, expected.weight) and torch.equal(model.bias, expected.bias)
    assert [h["loss"].tolist() for h in histories] == [h["loss"].tolist() for h in whole]


def test_the_nearer_limit_counts_and_ends_with_its_context():
    with time_limit(0), time_limit(3600), pytest.raises(TimeUp, match="epoch 0, step 1; nothing is kept"):
        trainer(quiet())
    with time_limit(3600):
        with time_limit(0), pytest.raises(TimeUp):
            trainer(quiet())
        assert trainer(quiet())[1][1].stopped == "all epochs done"
    with pytest.raises(UsageError, match="seconds: found -1"), time_limit(-1):
        pass
