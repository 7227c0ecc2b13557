"""Training on pairs: inputs as the acquisition model makes them, both tasks learn, kill and resume, files."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from shapelab.augment import AffineRanges, MotionRanges, acquire, shift_slices
from shapelab.data.grid import Grid
from shapelab.errors import DataError, UsageError
from shapelab.models.acnn import (
    ACNNLoss,
    AEConfig,
    Autoencoder,
    InputSettings,
    SubPixelConfig,
    SubPixelNet,
    Training,
    lr_stacks,
    predict_images,
    predict_labels,
    train_network,
    trainer,
)
from shapelab.models.acnn.baselines import CascadeLoss
from shapelab.models.acnn.sr_baselines import Patches, PatchLoss
from shapelab.phantoms.pairs import heart_pairs
from shapelab.spaces import load_network, save_network
from shapelab.training import Run, seeded

GRID = Grid((24, 24, 12), (6.0, 6.0, 10.0))
TINY = SubPixelConfig(shape=GRID.shape, spacing=GRID.spacing, factor=2, widths=(8, 8, 8, 8))
CLEAN = InputSettings(affine=None, natural=False, noise=0)


@pytest.fixture(scope="module")
def pairs():
    return heart_pairs(6, GRID, 2, seed=1)


def network(n_out=4, seed=0):
    return seeded(lambda: SubPixelNet(SubPixelConfig(**{**TINY.__dict__, "n_out": n_out})), seed)


# ------------------------------------------------------------------------------------------------------------ inputs


def test_stacks_are_what_the_acquisition_model_makes(pairs):
    images = torch.from_numpy(pairs.images).float()
    clean = acquire(images, GRID.spacing, 2)
    assert torch.allclose(lr_stacks(pairs, CLEAN), clean)
    moved = shift_slices(clean, torch.from_numpy(pairs.motion), GRID.spacing)
    assert torch.allclose(lr_stacks(pairs, InputSettings(noise=0)), moved, atol=1e-6)
    assert not torch.allclose(moved, clean, atol=1e-2)


def test_stacks_are_a_function_of_the_seed(pairs):
    settings = InputSettings(motion=MotionRanges(), noise=0.05)
    one, same, other = (lr_stacks(pairs, settings, seed=s, batch=b) for s, b in ((0, 32), (0, 32), (1, 32)))
    assert torch.equal(one, same) and not torch.allclose(one, other)


def test_extra_motion_and_noise_have_their_size(pairs):
    noisy = lr_stacks(pairs, InputSettings(natural=False, noise=0.1)) - lr_stacks(pairs, CLEAN)
    assert 0 < float(noisy.std()) < 0.1
    far = lr_stacks(pairs, InputSettings(natural=False, noise=0, motion=MotionRanges(8, 0)))
    near = lr_stacks(pairs, InputSettings(natural=False, noise=0, motion=MotionRanges(1, 0)))
    clean = lr_stacks(pairs, CLEAN)
    assert float((far - clean).abs().mean()) > 2 * float((near - clean).abs().mean()) > 0


# ---------------------------------------------------------------------------------------------------------- training


@pytest.mark.slow
def test_segmentation_learns_and_validates(pairs):
    model, few = network(), pairs[:4]
    _, history = train_network(
        model,
        few,
        run=Run(progress=False),
        training=Training(epochs=15, batch=2, learning_rate=3e-3),
        validation=few,
        inputs=InputSettings(affine=None, noise=0),
    )
    assert history["loss"][-1] < 0.4 * history["loss"][0]
    assert history.table["val dice"].notna().sum() == 5 and 0 <= history.last["val dice"] <= 1
    assert "prior" not in history.table


@pytest.mark.slow
def test_super_resolution_learns(pairs):
    model, few = network(n_out=1), pairs[:4]
    _, history = train_network(
        model,
        few,
        run=Run(progress=False),
        training=Training(epochs=15, batch=2, learning_rate=3e-3),
        task="sr",
        validation=few,
        inputs=InputSettings(affine=None, noise=0),
    )
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert 0 < history.last["val error"] < 0.5
    images = predict_images(model, lr_stacks(few))
    assert images.shape == few.images.shape and images.dtype == np.float32


def test_the_prior_is_logged(pairs):
    prior = seeded(lambda: Autoencoder(AEConfig(shape=GRID.shape, spacing=GRID.spacing, widths=(8, 8, 16))), 0)
    _, history = train_network(
        network(), pairs, ACNNLoss(prior, 0.5), run=Run(progress=False), training=Training(epochs=1)
    )
    row = history.last
    assert row["loss"] == pytest.approx(row["pixel"] + 0.5 * row["prior"], rel=1e-5) and row["prior"] > 0


def test_a_seed_decides(pairs):
    runs = []
    for seed in (0, 0, 1):
        model = network()
        train_network(
            model,
            pairs,
            run=Run(seed=seed, progress=False),
            training=Training(epochs=1),
            inputs=InputSettings(motion=MotionRanges()),
        )
        runs.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(runs[0], runs[1], atol=1e-6) and not torch.allclose(runs[0], runs[2], atol=1e-6)


KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import test_trainer as t
from functools import partial
import shapelab.models.acnn.trainer as trainer
trainer.FitSettings = partial(trainer.FitSettings, checkpoint_seconds=0)
pairs = t.heart_pairs(3, t.GRID, 2, seed=1)
count = [0]
def loss(output, target):
    count[0] += 1
    if {die} and count[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return t.ACNNLoss()(output, target)
loss.weight, loss.scale = 0.0, "none"
model = t.network()
run = t.Run({folder!r}, progress=False, device="cpu")
t.train_network(model, pairs, loss, run, training=t.Training(epochs=3, batch=3))
from shapelab.tensor_files import checksum
print(checksum(model.state_dict()))
"""


@pytest.mark.slow
def test_killed_and_resumed_it_ends_in_the_same_weights(tmp_path):
    def run(folder, die):
        here = os.path.dirname(__file__)
        code = KILLED.format(tests=here, die=die, folder=str(tmp_path / folder))
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    whole = run("whole", False)
    assert run("killed", True).returncode == -signal.SIGKILL
    resumed = run("killed", False)
    assert whole.returncode == resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == whole.stdout != ""


def shape_prior(seed):
    config = AEConfig(shape=GRID.shape, spacing=GRID.spacing, widths=(4, 4, 4), bottleneck=2, code=8)
    return seeded(lambda: Autoencoder(config), seed)


class Heavier(ACNNLoss):
    """Of another class, with the same numbers."""


PRIORS = {
    "none, then a prior": (lambda: None, lambda: ACNNLoss(shape_prior(0), 0.5), "step.loss.encoder none"),
    "a prior, then none": (lambda: ACNNLoss(shape_prior(0), 0.5), lambda: None, "step.loss.encoder Autoencoder"),
    "another prior": (
        lambda: ACNNLoss(shape_prior(0), 0.5),
        lambda: ACNNLoss(shape_prior(1), 0.5),
        "step.loss.encoder.weights",
    ),
    "another weight": (lambda: ACNNLoss(None, 0.01), lambda: ACNNLoss(None, 0.5), "prior"),
    "another class": (lambda: ACNNLoss(None, 0.5), lambda: Heavier(None, 0.5), "step.loss ACNNLoss; .*loss Heavier"),
    "another cascade": (lambda: CascadeLoss(1.0), lambda: CascadeLoss(0.5), "prior"),
}


@pytest.mark.parametrize("name", PRIORS)
def test_another_prior_is_another_run(tmp_path, pairs, name):
    first, second, words = PRIORS[name]
    run, training = Run(checkpoint=tmp_path, progress=False), Training(epochs=1, batch=12)
    train_network(network(), pairs, first(), run, training=training)
    train_network(network(), pairs, first(), run, training=training)
    with pytest.raises(DataError, match=f"found a checkpoint with .*{words}"):
        train_network(network(), pairs, second(), run, training=training)


def test_patches_of_another_size_are_another_run(tmp_path, pairs):
    run, training = Run(checkpoint=tmp_path, progress=False), Training(epochs=1, batch=12)

    def train(size):
        patches = Patches(network(n_out=1), size)
        train_network(patches, pairs, PatchLoss(patches), run, training=training, task="sr", inputs=CLEAN)

    train(16)
    train(16)
    with pytest.raises(DataError, match="found a checkpoint with model.size 16; expected .* model.size 8"):
        train(8)


@pytest.mark.parametrize("part", ["images", "labels", "motion"])
def test_other_data_is_another_run(tmp_path, pairs, part):
    run, training = Run(checkpoint=tmp_path, progress=False), Training(epochs=1)
    train_network(network(), pairs, run=run, training=training)
    other = replace(pairs, **{part: np.flip(getattr(pairs, part), 0).copy()})
    with pytest.raises(DataError, match="found a checkpoint with pairs"):
        train_network(network(), other, run=run, training=training)


@pytest.mark.parametrize("task", ["seg", "sr"])
def test_a_step_compares_with_what_was_stored_and_trains_by_the_numbers_given(pairs, monkeypatch, task):
    seen = {}

    class Loss(ACNNLoss):
        def __call__(self, output, target):
            seen.update(output=output, target=target)

    monkeypatch.setattr(trainer, "fit", lambda step, *args, settings, **rest: seen.update(step=step, settings=settings))
    numbers = Training(learning_rate=0.1, weight_decay=0.2, decay="convolutions", schedule="cosine")
    train_network(network(n_out=4 if task == "seg" else 1), pairs, Loss(), training=numbers, task=task, inputs=CLEAN)
    rows = tuple(torch.from_numpy(a) for a in (pairs.images, pairs.labels, pairs.motion))
    seen["step"](rows)
    wanted = rows[1] if task == "seg" else rows[0].float()[:, None]
    assert torch.equal(seen["target"], wanted) and seen["output"].shape[2:] == wanted.shape[-3:]
    told = seen["settings"]
    assert (told.learning_rate, told.weight_decay, told.decay, told.schedule) == (0.1, 0.2, "convolutions", "cosine")


def test_the_blur_through_the_plane_is_the_one_asked_for(pairs):
    images = torch.from_numpy(pairs.images).float()
    wide = lr_stacks(pairs, replace(CLEAN, sigma_mm=12.0))
    assert torch.allclose(wide, acquire(images, GRID.spacing, 2, 12.0)) and not torch.allclose(
        wide, lr_stacks(pairs, CLEAN)
    )


def test_an_unknown_task_is_named(pairs):
    with pytest.raises(UsageError, match="task: found 'both'"):
        train_network(network(), pairs, task="both")


# -------------------------------------------------------------------------------------------------------- prediction


def test_predictions(pairs):
    stacks = lr_stacks(pairs)
    model = network()
    made = predict_labels(model, stacks, batch=5)
    assert made.shape == (12, 24, 24, 12) and made.dtype == np.uint8 and made.max() <= 3
    assert np.array_equal(predict_labels(model, stacks), predict_labels(model, stacks.numpy(), batch=3))
    assert not model.training


# ------------------------------------------------------------------------------------------------------------- files


@torch.inference_mode()
def probabilities(model, stacks):
    return model.eval()(stacks[:, None]).softmax(1).numpy()


def test_save_and_load(tmp_path, pairs):
    model = network()
    train_network(model, pairs, run=Run(progress=False), training=Training(epochs=1))
    save_network(tmp_path / "net", model, metadata={"data": "phantoms"})
    read = load_network(tmp_path / "net")
    stacks = lr_stacks(pairs)
    assert np.array_equal(probabilities(read, stacks), probabilities(model, stacks))
    assert (read.task, read.scheme.name, read.metadata["data"]) == ("seg", "cardiac short axis", "phantoms")
    save_network(tmp_path / "net", model, half=True)
    assert len(list((tmp_path / "net").glob("*.safetensors"))) == 1
    halved = probabilities(load_network(tmp_path / "net"), stacks)
    assert np.abs(halved - probabilities(model, stacks)).max() < 0.02


def test_damaged_files_are_named(tmp_path, pairs):
    with pytest.raises(DataError, match="model.json: found no such file"):
        load_network(tmp_path)
    save_network(tmp_path, network())
    file = tmp_path / "model.json"
    text = json.loads(file.read_text())
    for changes, word in (
        ({"kind": "other"}, "damaged description"),
        ({"config": {"shape": [7, 7, 7]}}, "damaged"),
        ({"config": {**text["config"], "widths": [4, 4, 4, 4]}}, "do not fit"),
    ):
        file.write_text(json.dumps({**text, **changes}))
        with pytest.raises(DataError, match=word):
            load_network(tmp_path)
    file.write_text("{")
    with pytest.raises(DataError, match="damaged description"):
        load_network(tmp_path)
    file.write_text(json.dumps(text))
    weights = tmp_path / text["weights"]
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(DataError, match="damaged file"):
        load_network(tmp_path)


def test_a_network_of_another_kind_is_named(tmp_path):
    with pytest.raises(UsageError, match="found Linear"):
        save_network(tmp_path, torch.nn.Linear(2, 2))


def test_affine_can_be_left_out(pairs):
    _, history = train_network(network(), pairs, run=Run(progress=False), training=Training(epochs=1), inputs=CLEAN)
    assert np.isfinite(history["loss"]).all()
    assert InputSettings().affine == AffineRanges()
