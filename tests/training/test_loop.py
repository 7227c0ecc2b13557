"""The loop: what it computes, and that a run killed at any moment ends in the same bits as an unbroken one."""

import json
import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from shapelab import tensor_files
from shapelab.errors import DataError, UsageError
from shapelab.tensor_files import checksum, read_tensors, write_tensors
from shapelab.training import Batches, FitSettings, History, Run, TrainingError, fit, loop
from shapelab.training.loop import CHECKPOINT


def line(seed=0):
    """A linear model and data on y = 2 x + 1."""
    torch.manual_seed(seed)
    model = nn.Linear(1, 1)
    x = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    return model, x, 2 * x + 1


def squares(model):
    return lambda batch: {"loss": (model(batch[0]) - batch[1]).square().mean()}


def run(model, x, y, epochs=3, **options):
    batches = Batches(x, y, batch_size=8, seed=1)
    how = Run(checkpoint=options.pop("checkpoint", None), progress=False, device="cpu")
    return fit(squares(model), model, batches, epochs, run=how, **options)


# ------------------------------------------------------------------------------------------------ settings, history


def test_schedules():
    assert [FitSettings(learning_rate=0.1).learning_rate_at(p) for p in (0, 0.5, 1)] == [0.1] * 3
    cosine = FitSettings(learning_rate=0.1, schedule="cosine").learning_rate_at
    assert [cosine(0), cosine(0.5), cosine(1)] == pytest.approx([0.1, 0.05, 0.0])
    cycle = FitSettings(learning_rate=0.1, schedule="one-cycle", warmup=0.2).learning_rate_at
    assert [cycle(0), cycle(0.1), cycle(0.2), cycle(0.6), cycle(1)] == pytest.approx([0.004, 0.052, 0.1, 0.05, 0])
    stairs = FitSettings(learning_rate=0.1, schedule="stairs").learning_rate_at
    assert [stairs(0), stairs(0.029), stairs(0.03), stairs(0.99)] == pytest.approx([0.1, 0.1, 0.09, 0.1 * 0.9**33])
    assert [stairs(30 * k / 1000) for k in range(33)] == pytest.approx([0.1 * 0.9**k for k in range(33)])


@pytest.mark.parametrize(
    "wrong", [{"schedule": "step"}, {"learning_rate": 0}, {"patience": 0}, {"learning_rate": float("nan")}]
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(UsageError, match=f"{next(iter(wrong))}: found"):
        FitSettings(**wrong)


# --------------------------------------------------------------------------------------------------------------- fit


def test_a_loss_that_some_steps_give_is_averaged_over_those(tmp_path):
    """Steps 0 and 2 are of one kind, step 1 of another; also where the run is broken off between them."""
    model, left = nn.Linear(1, 1), [1, 1]  # a step each until it is broken off

    def step(batch):
        if not left:
            raise InterruptedError
        left.pop()
        name = "even" if batch.item() % 2 == 0 else "odd"
        return {name: model(batch).sum() * 0 + batch.sum()}

    def train():
        batches = [torch.tensor([[k]]) for k in (2.0, 7.0, 4.0)]
        settings = FitSettings(checkpoint_seconds=0)
        return fit(step, model, batches, 1, settings=settings, run=Run(tmp_path, progress=False, device="cpu"))

    with pytest.raises(InterruptedError):
        train()
    left += [1, 1]
    history = train()
    row = {name: history.last[name] for name in ("even", "odd", "loss")}
    assert row == pytest.approx({"even": 3.0, "odd": 7.0, "loss": 13 / 3})


def test_fit_finds_the_line():
    model, x, y = line()
    history = run(model, x, y, 60, settings=FitSettings(learning_rate=0.1, schedule="cosine", amp=False))
    assert model.weight.item() == pytest.approx(2, abs=0.01) and model.bias.item() == pytest.approx(1, abs=0.01)
    assert history.stopped == "all epochs done" and len(history) == 60 and not model.training
    assert history["loss"][-1] < 1e-3 < history["loss"][0]
    assert history["lr"][-1] < history["lr"][0] <= 0.1


def test_one_update_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    x, y = torch.tensor([[2.0]]), torch.tensor([[0.0]])  # loss (2w)^2 = 36, gradient 8 w = 24
    step = lambda _: {"a": (model(x) - y).square().mean() / 2, "b": (model(x) - y).square().mean() / 2}  # noqa: E731
    sgd = lambda p: torch.optim.SGD(p, lr=0.01)  # noqa: E731
    history = fit(
        step, model, [None], 1, run=Run(progress=False, device="cpu"), optimiser=sgd, settings=FitSettings(amp=False)
    )
    assert model.weight.item() == pytest.approx(3 - 0.01 * 24)  # without "loss" the sum is minimised
    assert history.last["loss"] == pytest.approx(36) and history.last["a"] == pytest.approx(18)
    nn.init.constant_(model.weight, 3.0)
    fit(
        step,
        model,
        [None],
        1,
        run=Run(progress=False, device="cpu"),
        optimiser=sgd,
        settings=FitSettings(amp=False, clip=1.0),
    )
    assert model.weight.item() == pytest.approx(3 - 0.01)  # the gradient's norm is cut to 1


def test_only_loss_is_minimised_when_named_and_the_rest_logged():
    model, x, y = line()
    step = lambda b: {"loss": (model(b[0]) - b[1]).square().mean(), "far": torch.tensor(7.0)}  # noqa: E731
    history = fit(step, model, Batches(x, y, batch_size=8), 2, run=Run(progress=False, device="cpu"))
    assert (history["far"] == 7).all() and history["loss"][1] < history["loss"][0]


def test_each_group_keeps_its_own_rate_under_the_schedule():
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    seen = []

    def optimiser(_):
        made = torch.optim.SGD(
            [{"params": model["a"].parameters(), "lr": 0.1}, {"params": model["b"].parameters()}], lr=0.2
        )
        seen.append(made)
        return made

    step = lambda _: {"loss": model["b"](model["a"](torch.ones(1, 1))).square().mean()}  # noqa: E731
    fit(
        step,
        model,
        [None] * 4,
        1,
        run=Run(progress=False, device="cpu"),
        optimiser=optimiser,
        settings=FitSettings(schedule="cosine"),
    )
    rates = [group["lr"] for group in seen[0].param_groups]
    assert rates[1] == pytest.approx(2 * rates[0]) and rates[0] == pytest.approx(
        0.1 * (1 + math.cos(math.pi * 0.75)) / 2
    )


def test_frozen_parameters_stay():
    model, x, y = line()
    model.bias.requires_grad_(False)
    before = model.bias.clone()
    run(model, x, y)
    assert torch.equal(model.bias, before)


def test_what_a_step_draws_depends_on_seed_epoch_and_step_alone_and_the_callers_draws_on_neither():
    def draws(seed, disturb):
        model, x, y = line()
        got = []

        def step(batch):
            got.append(torch.rand(1).item())
            if disturb:
                torch.rand(5)
            return squares(model)(batch)

        torch.manual_seed(5)
        fit(step, model, Batches(x, y, batch_size=8), 2, run=Run(seed=seed, progress=False, device="cpu"))
        return got, torch.rand(1).item()

    first, after = draws(0, False)
    assert draws(0, True) == (first, after) and len(set(first)) == 8
    assert draws(1, False)[0] != first
    torch.manual_seed(5)
    assert torch.rand(1).item() == after


def test_generators_of_unknown_length_do_as_well():
    model, x, y = line()
    pairs = lambda epoch: ((torch.from_numpy(x), torch.from_numpy(y)) for _ in range(3))  # noqa: E731
    history = fit(
        squares(model), model, pairs, 4, run=Run(progress=False, device="cpu"), settings=FitSettings(schedule="cosine")
    )
    assert len(history) == 4 and history["lr"].tolist() == pytest.approx(
        [1e-3, 0.853553e-3, 0.5e-3, 0.146447e-3], rel=1e-4
    )


def test_validation_sees_an_evaluating_model_and_lands_in_the_history():
    model, x, y = line()
    modes = []

    def validate(m):
        modes.append((m.training, torch.is_inference_mode_enabled()))
        return {"val": len(modes)}

    history = run(model, x, y, 5, validate=validate, settings=FitSettings(validate_every=2))
    assert modes == [(False, True)] * 3
    assert history.table["val"].dropna().to_dict() == {1: 1, 3: 2, 4: 3}


def test_early_stop_gives_back_the_best_weights():
    model, x, y = line()
    weights, values = [], iter([3.0, 1.0, 2.0, 2.5, 0.0])

    def validate(m):
        weights.append(m.weight.clone())
        return {"val": next(values)}

    history = run(model, x, y, 50, validate=validate, settings=FitSettings(patience=2, monitor="val"))
    assert len(history) == 4 and history.stopped == "no better val in 2 epochs"
    assert torch.equal(model.weight, weights[1])


# --------------------------------------------------------------------------------------------------------- bad input


def test_a_loss_that_is_no_number_stops_at_once():
    model, x, y = line()
    x[3] = np.nan
    with pytest.raises(TrainingError, match=r"epoch 0, step \d+: found losses \{'loss': nan\}"):
        run(model, x, y)


def test_wrong_calls_are_named():
    model, x, y = line()
    with pytest.raises(UsageError, match="epochs: found 0"):
        run(model, x, y, 0)
    with pytest.raises(TrainingError, match="empty dict"):
        fit(lambda b: {}, model, [1], 1, run=Run(progress=False, device="cpu"))
    with pytest.raises(TrainingError, match=r"found \{'loss': 1.5\}; expected losses by name, tensors"):
        fit(lambda b: {"loss": 1.5}, model, [1], 1, run=Run(progress=False, device="cpu"))
    with pytest.raises(TrainingError, match="no batch"):
        fit(squares(model), model, [], 1, run=Run(progress=False, device="cpu"))
    with pytest.raises(UsageError, match="monitor: found 'vla'"):
        run(model, x, y, settings=FitSettings(patience=1, monitor="vla"))


# ------------------------------------------------------------------------------------------------ losses read in bulk


@pytest.mark.parametrize("every", [2, 3, 20])
def test_losses_read_later_are_the_same_numbers(every, monkeypatch, tmp_path):
    """As on a GPU: 4 steps an epoch, read every 2, every 3 (with a rest at the epoch's end), at its end alone."""
    model, x, y = line()
    noise = lambda b: {**squares(model)(b), "draw": torch.rand(())}  # noqa: E731
    fast = FitSettings(amp=False, checkpoint_seconds=0, patience=2, monitor="draw")  # a checkpoint after each step
    how = {"settings": fast, "run": Run(tmp_path / "each", progress=False, device="cpu")}
    expected = fit(noise, model, Batches(x, y, batch_size=8), 6, **how)
    weights, kept = model.weight.item(), read_tensors(tmp_path / "each" / CHECKPOINT)
    monkeypatch.setitem(loop.READ_EVERY, "cpu", every)
    model, x, y = line()
    how["run"] = Run(tmp_path / "later", progress=False, device="cpu")
    history = fit(noise, model, Batches(x, y, batch_size=8), 6, **how)
    same = [{k: v for k, v in row.items() if k != "seconds"} for h in (history, expected) for row in h.rows]
    assert same[: len(history)] == same[len(history) :] and history.stopped == expected.stopped
    assert model.weight.item() == weights
    again = read_tensors(tmp_path / "later" / CHECKPOINT)
    assert all(torch.equal(again[0][k], v) for k, v in kept[0].items())


@pytest.mark.parametrize("every", [1, 3, 20])
def test_nan_that_is_read_later_names_its_own_step_and_is_never_kept(every, monkeypatch, tmp_path):
    monkeypatch.setitem(loop.READ_EVERY, "cpu", every)
    model, x, y = line()
    seen, validated = [], []

    def step(batch):
        seen.append(len(seen))
        loss = squares(model)(batch)["loss"]
        return {"loss": loss * (float("nan") if len(seen) == 7 else 1), "number": torch.tensor(float(len(seen)))}

    with pytest.raises(TrainingError, match=r"epoch 1, step 2: found losses \{'loss': nan, 'number': 7.0\}"):
        fit(
            step,
            model,
            Batches(x, y, batch_size=8),
            3,
            settings=FitSettings(amp=False, checkpoint_seconds=1e-9 if every == 3 else 1e9),
            validate=lambda _: validated.append(len(seen)) or {},
            run=Run(tmp_path, progress=False, device="cpu"),
        )
    assert validated == [4] and len(seen) == (7 if every != 20 else 8)  # epoch 1 is not measured
    if every == 3:
        kept, _ = read_tensors(tmp_path / CHECKPOINT)
        assert all(bool(torch.isfinite(t).all()) for t in kept.values())
    else:
        assert not (tmp_path / CHECKPOINT).exists()


# ------------------------------------------------------------------------------------------------------- checkpoints


def demanding():
    """A model with all that could differ after a resume: dropout, running statistics, a layout, an odd last batch."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv3d(4, 1, 3)
    )
    model.to(memory_format=torch.channels_last_3d)
    data = np.random.default_rng(0).normal(size=(10, 1, 6, 6, 6)).astype(np.float32)
    return model, Batches(data, batch_size=3, seed=4)


class Stop(Exception):
    pass


def demanding_run(folder, stop_at=None, epochs=3, **options):
    model, batches = demanding()
    steps = []

    def step(batch):
        if stop_at is not None and len(steps) == stop_at:
            raise Stop
        steps.append(1)
        noisy = batch + 0.1 * torch.randn_like(batch)
        return {"loss": (model(noisy) - batch[:, :, 1:-1, 1:-1, 1:-1]).square().mean()}

    settings = FitSettings(schedule="one-cycle", checkpoint_seconds=options.pop("seconds", 0), patience=50, clip=1.0)
    run = Run(folder, seed=7, progress=False, device="cpu", **options)
    validate = lambda m: {"val": float(m[0].weight.sum())}  # noqa: E731
    history = fit(step, model, batches, epochs, settings=settings, validate=validate, run=run)
    return (
        checksum(model.state_dict()),
        [{k: v for k, v in r.items() if k != "seconds"} for r in history.rows],
        len(steps),
    )


@pytest.mark.parametrize("seconds", [0, 1e9], ids=["every step", "never while running"])
@pytest.mark.parametrize("stop_at", [0, 1, 4, 6, 11])
def test_a_broken_run_goes_on_to_the_same_bits(tmp_path, stop_at, seconds):
    weights, rows, steps = demanding_run(None)
    assert steps == 12
    with pytest.raises(Stop):
        demanding_run(tmp_path, stop_at, seconds=seconds)
    resumed = demanding_run(tmp_path, seconds=seconds)
    assert resumed[:2] == (weights, rows)
    assert resumed[2] == (12 - stop_at if seconds == 0 else 12)


def test_a_finished_run_is_not_run_again_and_resume_false_is(tmp_path):
    first = demanding_run(tmp_path)
    assert demanding_run(tmp_path) == (*first[:2], 0)
    assert demanding_run(tmp_path, resume=False) == first
    assert History.read(tmp_path / "history.csv")["loss"].tolist() == [r["loss"] for r in first[1]]


def test_a_checkpoint_is_one_safetensors_file_with_its_state_in_json(tmp_path):
    demanding_run(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {CHECKPOINT, "history.csv"}
    tensors, texts = read_tensors(tmp_path / CHECKPOINT)
    assert tensors["model/0.weight"].shape == (4, 1, 3, 3, 3) and tensors["optimiser/0/exp_avg"].shape == (
        4,
        1,
        3,
        3,
        3,
    )
    state = json.loads(texts["state"])
    assert state["epoch"] == 3 and state["identity"]["seed"] == 7


def test_another_runs_checkpoint_is_an_error_that_names_the_difference(tmp_path):
    demanding_run(tmp_path, identity={"data": "a", "n": (1, 2)})
    words = r"checkpoint.safetensors: found a checkpoint with data a; expected .* data b"
    with pytest.raises(DataError, match=words) as caught:
        demanding_run(tmp_path, identity={"data": "b", "n": (1, 2)})
    assert "resume=False" in str(caught.value)
    with pytest.raises(DataError, match="with epochs 3; expected one of this run, with epochs 4"):
        demanding_run(tmp_path, epochs=4, identity={"data": "a", "n": [1, 2]})


def test_a_checkpoint_of_another_architecture_is_an_error(tmp_path):
    model, x, y = line()
    run(model, x, y, checkpoint=tmp_path)
    wide = nn.Linear(1, 2)
    with pytest.raises(DataError, match="weights that do not fit the model"):
        run(wide, x, y, checkpoint=tmp_path)


@pytest.mark.parametrize("damage", ["empty", "half", "one byte short", "one bit", "text", "no state"])
def test_a_damaged_checkpoint_is_an_error_that_names_the_file(tmp_path, damage):
    demanding_run(tmp_path)
    file = tmp_path / CHECKPOINT
    whole = bytearray(file.read_bytes())
    if damage == "no state":
        write_tensors(file, {"a": torch.zeros(2)})
    else:
        whole[-5] ^= 4 * (damage == "one bit")
        ends = {"empty": 0, "half": len(whole) // 2, "one byte short": -1}
        file.write_bytes(b"not a checkpoint" if damage == "text" else whole[: ends.get(damage)])
    with pytest.raises(DataError, match=r"checkpoint\.safetensors: found"):
        demanding_run(tmp_path)
    assert demanding_run(tmp_path, resume=False)[2] == 12


def test_what_a_killed_write_left_behind_is_removed_and_the_checkpoint_before_it_holds(tmp_path, monkeypatch):
    expected = demanding_run(None)

    real, calls = tensor_files.save_file, []

    def die_in_the_middle(tensors, path, metadata):
        calls.append(path)
        if len(calls) == 5:
            path.write_bytes(b"half a fi")
            (path.parent / ".checkpoint-left.safetensors").write_bytes(b"as SIGKILL leaves it")
            raise Stop
        real(tensors, path, metadata=metadata)

    monkeypatch.setattr(tensor_files, "save_file", die_in_the_middle)
    with pytest.raises(Stop):
        demanding_run(tmp_path)
    assert demanding_run(tmp_path) == (*expected[:2], 8)
    assert {p.name for p in tmp_path.iterdir()} == {CHECKPOINT, "history.csv"}


def test_a_resume_with_other_threads_warns(tmp_path):
    with pytest.raises(Stop):
        demanding_run(tmp_path, 5)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(UserWarning, match="not in every bit"):
            demanding_run(tmp_path)
    finally:
        torch.set_num_threads(threads)


# A supervisor that loads torch and the compiled augmentation once, then forks a run, kills it with SIGKILL a random
# moment after one of its checkpoints, forks the next, which resumes, and so on until one ends by itself. One thread:
# torch's do not survive a fork.
SUPERVISOR = textwrap.dedent("""
    import os, random, signal, sys, time
    import numpy as np, torch
    torch.set_num_threads(1)
    os.fsync = lambda file: None    # what is written outlives a killed process anyway; only a power cut needs it
    from shapelab.augment import AffineRanges, random_affine
    from shapelab.models.acnn import AEConfig, train_autoencoder
    from shapelab.training import FitSettings, Run
    import shapelab.models.acnn.autoencoder as acnn
    from functools import partial
    # a checkpoint after every step, so that many kills hit the writing of one
    acnn.FitSettings = partial(FitSettings, checkpoint_seconds=0)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (24, 24, 12)], indexing="ij")
    maps = np.stack([(x**2 + y**2 + z**2 < 0.3 + 0.05 * i).astype(np.uint8) for i in range(8)])
    config = AEConfig(shape=(24, 24, 12), spacing=(6, 6, 10), n_classes=4, widths=(4, 4, 4), bottleneck=4, code=8,
                      batch=2, epochs=4)
    random_affine(torch.from_numpy(maps), config.spacing)

    def start(name):
        child = os.fork()
        if child == 0:
            folder = sys.argv[1] + "/" + name
            space, _ = train_autoencoder(maps, config, Run(folder, seed=3, progress=False))
            space.save(folder + "/space")
            os._exit(0)
        return child

    def written():
        try:
            return os.stat(sys.argv[1] + "/broken/checkpoint.safetensors").st_mtime_ns
        except FileNotFoundError:
            return 0

    os.waitpid(start("whole"), 0)
    chance, kills = random.Random(0), 0
    while True:
        child, seen, left, done = start("broken"), written(), chance.randint(1, 3), 0
        while not done and left:    # for one to three more checkpoints, so that it comes to an end
            time.sleep(0.0005)
            now = written()
            seen, left = now, left - (now != seen)
            done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(chance.uniform(0, 0.01))
        if done:
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
    print(kills, status)
""")


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_in_the_same_bits(tmp_path):
    """SIGKILL, again and again, also in the middle of writing a checkpoint."""
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    kills, status = map(int, done.stdout.split())
    assert kills >= 2 and status == 0
    whole, broken = ([*(tmp_path / name / "space").glob("weights-*")] for name in ("whole", "broken"))
    assert len(whole) == len(broken) == 1
    assert whole[0].name == broken[0].name and whole[0].read_bytes() == broken[0].read_bytes()
    losses = [History.read(tmp_path / name / "history.csv")["loss"].tolist() for name in ("whole", "broken")]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_one_folder_holds_one_training_at_a_time(tmp_path):
    model, x, y = line()

    def step(batch):
        with pytest.raises(
            UsageError, match="checkpoint: found a run that is under way in .*; expected a folder of its"
        ):
            run(*line(), checkpoint=tmp_path)
        return squares(model)(batch)

    how = Run(tmp_path, progress=False, device="cpu")
    assert len(fit(step, model, Batches(x, y, batch_size=8), 1, run=how)) == 1
    assert {p.name for p in tmp_path.iterdir()} == {CHECKPOINT, "history.csv"}
    fit(step, model, Batches(x, y, batch_size=8), 1, run=how)  # free again
