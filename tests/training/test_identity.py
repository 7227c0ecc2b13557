"""A resumed run is the run: what changes the result of a training is noticed in its checkpoint, and nothing else."""

import json
from dataclasses import dataclass, field, fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from shapelab.errors import DataError
from shapelab.tensor_files import read_tensors, write_tensors
from shapelab.training import Batches, FitSettings, Run, fit
from shapelab.training.identity import fingerprint
from shapelab.training.loop import CHECKPOINT

DATA = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
PLAIN = FitSettings(amp=False, checkpoint_seconds=0)


def network(seed, *layers):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 2), *layers)


class Loss:
    """Squares, and a weighted distance of the codes that a prior reads."""

    def __init__(self, prior=None, weight=0.5, scale="none"):
        self.prior, self.weight, self.scale = prior, weight, scale

    def __call__(self, output, rows):
        loss = output.square().mean()
        return loss if self.prior is None else loss + self.weight * self.prior(rows).sub(output).square().mean()


class Other(Loss):
    """Of another class, with the same attributes."""


@dataclass(frozen=True)
class Numbers:
    shift: float = 0.0
    moved: tuple = (1.0, 2.0)
    inner: "Numbers | None" = None


@dataclass
class Call:
    """A training of a linear network; `step` -> what it uses besides model and loss."""

    model: nn.Module = field(default_factory=lambda: network(1))
    loss: object = field(default_factory=lambda: Loss(network(2)))
    used: object = None
    batches: object = field(default_factory=lambda: Batches(DATA, batch_size=4, seed=1))
    epochs: int = 3
    settings: FitSettings = PLAIN
    optimiser: object = None
    validate: object = None
    stop: int | None = None
    run: Run = Run(progress=False, device="cpu", identity={"data": "a"})

    def __call__(self, folder):
        model, loss, used, stop, done = self.model, self.loss, self.used, self.stop, []

        def step(rows):
            done.append(1)
            if len(done) == stop:
                raise KeyboardInterrupt
            output = model(rows)
            return {"loss": loss(output, rows) + (used(output) if callable(used) else 0)}

        how = {"settings": self.settings, "optimiser": self.optimiser, "validate": self.validate}
        return fit(step, model, self.batches, self.epochs, **how, run=replace(self.run, checkpoint=folder))

    def broken(self, folder, stop=5):
        with pytest.raises(KeyboardInterrupt):
            replace(self, stop=stop)(folder)


def adam(**numbers):
    return lambda parameters: torch.optim.Adam(parameters, **{"lr": 0.1, **numbers})


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def square(output):
    return output.square().mean()


def cube(output):
    return output.pow(3).mean()


class Holder:
    """An object whose method is the step's: what it holds is used."""

    def __init__(self, teacher):
        self.teacher, self.calls, self._clock = teacher, 0, object()

    def far(self, output):
        self.calls += 1
        return output.mean()


def toward(teacher, output):
    return output.mean() + teacher.weight.sum()


def seen(model, shift=0.0):
    return lambda rows: {"val": shift}


# two trainings, and where the second is another one
OTHERS = {
    "seed": ({"run": Run(progress=False, seed=1, device="cpu", identity={"data": "a"})}, "seed 0"),
    "about": ({"run": Run(progress=False, device="cpu", identity={"data": "b"})}, "data a"),
    "prior": ({"loss": Loss(network(3))}, "step.loss.prior.weights"),
    "no prior any more": ({"loss": Loss(None)}, "step.loss.prior Sequential .*step.loss.prior none"),
    "prior's layers": ({"loss": Loss(network(2, nn.Dropout(0.5)))}, "step.loss.prior.layers"),
    "weight": ({"loss": Loss(network(2), weight=0.25)}, "step.loss.weight 0.5; .*step.loss.weight 0.25"),
    "scale": ({"loss": Loss(network(2), scale="axes")}, "step.loss.scale none"),
    "class of the loss": ({"loss": Other(network(2))}, "step.loss Loss; .*step.loss Other"),
    "loss without a class": ({"loss": lambda output, rows: output.mean()}, "step.loss"),
    "data": ({"batches": Batches(DATA[::-1].copy(), batch_size=4, seed=1)}, "batches.array 0"),
    "batch size": ({"batches": Batches(DATA, batch_size=3, seed=1)}, "batches.batch_size 4; .*batches.batch_size 3"),
    "order": ({"batches": Batches(DATA, batch_size=4, seed=2)}, "batches.seed 1"),
    "shuffle": ({"batches": Batches(DATA, batch_size=4, seed=1, shuffle=False)}, "batches.shuffle True"),
    "a list of batches": ({"batches": [torch.from_numpy(DATA)]}, "batches"),
    "optimiser": ({"optimiser": sgd}, "optimiser"),
    "dropout of the model": ({"model": network(1, nn.Dropout(0.5))}, "model.layers"),
    "validation": ({"validate": seen(None)}, "validate none"),
    "another function": ({"used": square}, "step.used none"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused_by_what_differs(tmp_path, name):
    changes, words = OTHERS[name]
    Call()(tmp_path)
    with pytest.raises(DataError, match=f"{CHECKPOINT}: found a checkpoint with {words}.* or pass resume=False"):
        Call(**changes)(tmp_path)
    Call()(tmp_path)  # it is still there, and its own run finds it


PAIRS = {
    "none, then a prior": ({"loss": Loss(None)}, {}, "step.loss.prior none; .*step.loss.prior Sequential [0-9a-f]{8}"),
    "rate": ({"optimiser": adam()}, {"optimiser": adam(lr=1e-5)}, "optimiser.groups.0.lr 0.1; .*lr 1e-05"),
    "betas": ({"optimiser": adam()}, {"optimiser": adam(betas=(0.5, 0.9))}, "optimiser.groups.0.betas"),
    "decay": ({"optimiser": adam()}, {"optimiser": adam(weight_decay=0.1)}, "weight_decay none; .*decay 0.1"),
    "class": ({"optimiser": sgd}, {"optimiser": adam()}, "optimiser SGD; .*optimiser Adam"),
    "function": ({"used": square}, {"used": cube}, "step.used.function square; .*cube"),
    "part of a function": (
        {"used": partial(toward, nn.Linear(1, 1))},
        {"used": partial(toward, nn.Linear(2, 1))},
        "arg",
    ),
    "held by an object": (
        {"used": Holder(network(2)).far},
        {"used": Holder(network(3)).far},
        "step.used.of.teacher.weig",
    ),
    "configuration": ({"used": Numbers()}, {"used": Numbers(0.5)}, "step.used.shift 0.0; .*shift 0.5"),
    "nested configuration": (
        {"used": Numbers(inner=Numbers())},
        {"used": Numbers(inner=Numbers(0.5))},
        "step.used.inner.shift",
    ),
    "array": ({"used": np.array([1, 2])}, {"used": np.array([1, 3])}, "step.used"),
    "tensor": ({"used": torch.ones(2)}, {"used": torch.zeros(2)}, "step.used ~"),
    "what a validation uses": ({"validate": seen(network(2))}, {"validate": seen(network(3))}, "validate"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_runs_are_told_apart(tmp_path, name):
    first, second, words = PAIRS[name]
    if name == "what a validation uses":
        teachers = [network(2), network(3)]
        first, second = ({"validate": lambda m, t=t: {"val": float(t[0].weight.sum())}} for t in teachers)
    Call(**first)(tmp_path)
    Call(**first)(tmp_path)
    with pytest.raises(DataError, match=f"found a checkpoint with .*{words}"):
        Call(**second)(tmp_path)


CHANGED = {
    "learning_rate": 0.2,
    "schedule": "cosine",
    "warmup": 0.2,
    "weight_decay": 0.1,
    "decay": "convolutions",
    "clip": 1.0,
    "amp": True,
    "patience": 3,
    "monitor": "val",
    "validate_every": 2,
}


@pytest.mark.parametrize("name", [f.name for f in fields(FitSettings)])
def test_each_setting_but_how_often_is_kept_belongs_to_the_run(tmp_path, name):
    Call()(tmp_path)
    if name == "checkpoint_seconds":
        Call(settings=replace(PLAIN, checkpoint_seconds=5))(tmp_path)
        return
    with pytest.raises(DataError, match=f"settings.{name}"):
        Call(settings=replace(PLAIN, **{name: CHANGED[name]}))(tmp_path)


def test_what_changes_nothing_is_no_part_of_it(tmp_path, capsys):
    """Bars, counters, clocks and names of a closure; the folder; weights that the run begins with by itself."""
    holder = Holder(network(2))
    Call(used=holder.far, settings=replace(PLAIN, learning_rate=0.01)).broken(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    again = Holder(network(2))
    again.calls, again.where = 7, str(tmp_path)
    call = Call(used=again.far, settings=replace(PLAIN, learning_rate=0.01), model=network(9))
    call.run = replace(call.run, progress=True, device=torch.device("cpu"))
    history = call(tmp_path / "b")
    assert len(history) == 3 and "3/3" in capsys.readouterr().err


def test_a_broken_run_with_a_prior_ends_in_the_bits_of_an_unbroken_one(tmp_path):
    whole = Call(optimiser=adam())
    history = whole(tmp_path / "whole")
    Call(optimiser=adam()).broken(tmp_path / "broken", stop=6)
    resumed = Call(optimiser=adam(), model=network(7))  # its weights are the checkpoint's
    assert resumed(tmp_path / "broken")["loss"].tolist() == history["loss"].tolist()
    for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


# ---------------------------------------------------------------------------------------------------- more epochs


@pytest.mark.parametrize("stop", [None, 5], ids=["ended", "broken"])
def test_more_epochs_go_on_to_the_bits_of_a_run_that_had_them_from_the_first(tmp_path, stop):
    whole = Call(epochs=5)
    history = whole(None)
    Call()(tmp_path) if stop is None else Call().broken(tmp_path, stop)
    longer = Call(epochs=5, model=network(7))
    found = longer(tmp_path)
    assert found["loss"].tolist() == history["loss"].tolist() and found.stopped == "all epochs done"
    assert all(torch.equal(a, b) for a, b in zip(longer.model.parameters(), whole.model.parameters(), strict=True))
    with pytest.raises(DataError, match="epochs 5; .*epochs 4. It has done 5 epochs already"):
        Call(epochs=4)(tmp_path)


@pytest.mark.parametrize(
    "changes, why",
    [
        (
            {"schedule": "cosine"},
            "With the schedule 'cosine' each step's learning rate depends on the number of epochs",
        ),
        ({"patience": 2}, "It has ended, and holds the weights of its best epoch"),
    ],
)
def test_more_epochs_that_cannot_be_are_refused_with_the_reason(tmp_path, changes, why):
    settings = replace(PLAIN, **changes)
    Call(settings=settings)(tmp_path)
    with pytest.raises(DataError, match=f"with epochs 3; expected one of this run, with epochs 5. {why}"):
        Call(settings=settings, epochs=5)(tmp_path)


def test_more_epochs_and_something_else_is_another_run(tmp_path):
    Call()(tmp_path)
    with pytest.raises(DataError, match="found a checkpoint with step.loss.weight 0.5; expected .*weight 0.25"):
        Call(epochs=5, loss=Loss(network(2), 0.25))(tmp_path)


# ------------------------------------------------------------------------------------ of other versions and machines


def rewritten(folder, change):
    """The checkpoint with its state changed."""
    tensors, texts = read_tensors(folder / CHECKPOINT)
    state = json.loads(texts["state"])
    change(state)
    write_tensors(folder / CHECKPOINT, tensors, {"state": json.dumps(state)})


def test_a_checkpoint_of_an_older_shapelab_is_taken_up_where_nothing_contradicts(tmp_path):
    Call().broken(tmp_path)
    rewritten(tmp_path, lambda state: state["identity"].pop("fit"))
    with pytest.raises(DataError, match="found a checkpoint with data a; expected one of this run, with data b"):
        Call(**OTHERS["about"][0])(tmp_path)
    with pytest.warns(UserWarning, match="an older shapelab made it.*not compared"):
        assert len(Call()(tmp_path)) == 3


def test_on_another_machine_computed_floats_may_differ_and_weights_and_labels_may_not(tmp_path):
    Call(used=torch.ones(2)).broken(tmp_path)
    rewritten(tmp_path, lambda state: state["machine"].update(threads=99))
    with pytest.raises(DataError, match="step.loss.prior.weights"):
        Call(used=torch.ones(2), loss=Loss(network(3)))(tmp_path)
    with pytest.raises(DataError, match="step.used"):
        Call(used=torch.ones(2).long())(tmp_path)
    with pytest.warns(UserWarning, match="not in every bit.*by rounding or because they are others: fit.step.used"):
        Call(used=torch.ones(2) + 1e-7)(tmp_path)


# -------------------------------------------------------------------------------------------------------- described


def test_what_a_description_holds():
    """Of a loss all attributes, of a network its weights once, of a circle what it holds besides itself."""
    loss = Loss(network(2), weight=float("nan"))
    loss.itself, loss.kind, loss.names, loss.where = loss, torch.float32, {"b", "a"}, torch.device("cpu")
    told = fingerprint(loss)
    assert told["class"] == "Loss" and told["weight"] == "nan" and told["names"] == ["a", "b"]
    assert told["kind"] == "torch.float32" and "itself" not in told
    assert told["where"] == {"class": "device"}  # whichever it is
    assert told == fingerprint(loss) and json.loads(json.dumps(told)) == told
    assert set(told["prior"]) == {"class", "layers", "weights"}
    assert fingerprint(np.float64(0.5)) == 0.5 and fingerprint(np.array(["a"])) != fingerprint(np.array(["b"]))
    assert fingerprint(Batches(DATA, batch_size=2))["batch_size"] == 2 and fingerprint(square) == {"function": "square"}
