"""One training loop for all models, which knows no model.

What is special to a model is its `step`: a function of one batch that returns a dict of losses. What every model needs
is here: mixed precision, learning-rate schedule, gradient clipping, a progress bar, a `History` that is also a CSV,
early stop, and checkpoints.

**A killed run loses nothing but time.** Everything random is a function of (seed, epoch, step): the order of the data
(`Batches`), and whatever `step` draws from torch's default generator (`fit` seeds it anew before each step). So a
checkpoint needs no generator states: weights, optimiser state and the two counters are the whole state. They are one
file, put in place by one rename, so that they cannot disagree. A run killed at any moment and started again ends, on
one CPU with the same number of threads, in the same bits as one that was never killed. That is tested in fp32 and,
where the processor has it, in bf16, whose wrong gradients `shapelab.training.exact` keeps out.
"""

from __future__ import annotations

import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shapelab.device import autocast, best_device, fast_dtype, without_autocast
from shapelab.errors import DataError, ShapelabError, in_range, need, one_of, whole
from shapelab.files import only_one
from shapelab.tensor_files import read_tensors, write_tensors
from shapelab.training.batches import Batch, Batches, derive_seed, made_ahead, to_device
from shapelab.training.config import numbers_of
from shapelab.training.decay import DECAYS, decay_groups
from shapelab.training.exact import exact_gradients
from shapelab.training.history import History
from shapelab.training.identity import DONE, compared, identity_of
from shapelab.training.watching import MakeOptimiser, Step, TimeUp, Training, probed, time_is_up

CHECKPOINT = "checkpoint.safetensors"
SCHEDULES = ("constant", "cosine", "one-cycle", "stairs")
STAIR = (0.03, 0.9)  # share of the run between two stairs, and what each leaves of the rate
READ_EVERY = {"cpu": 1, "cuda": 20}  # steps whose losses are read at once: to read one, a GPU has to be waited for
FORMAT = 1  # raised when a checkpoint of an older shapelab can no longer be read


class TrainingError(ShapelabError):
    """Training cannot continue: the loss is not a finite number, or a step returned nothing to minimise."""


@dataclass(frozen=True)
class FitSettings:
    """How `fit` trains; what is trained is the model's own business."""

    # fmt: off
    learning_rate: float = 1e-3          # Adam's usual; the ACNN paper's as well
    schedule: str = "constant"           # "constant", "cosine" (down to 0), "one-cycle" (warm-up, then cosine) or
                                         # "stairs" (times .9 at every 30th of 1000 epochs, or of as many shares)
    warmup: float = 0.1                  # one-cycle: share of the run spent going up
    weight_decay: float = 0.0            # L2 term of the optimiser (ACNN-Seg: 5e-6)
    decay: str = "all"                   # what it is of: "all", or "convolutions", as both papers say (`decay`)
    clip: float | None = None            # largest norm of the gradient; None leaves it alone
    amp: bool = True                     # bf16 where the processor does it: 2x on a CPU with AVX-512 bf16
    patience: int | None = None          # epochs without a better `monitor` before an early stop; None never stops
    monitor: str = "loss"                # the column of the history that early stop watches (smaller is better)
    validate_every: int = 1              # epochs; the last epoch is always validated
    checkpoint_seconds: float = 20.0     # time between two checkpoints: a kill loses at most this, a write costs ~25 ms
    # fmt: on

    def __post_init__(self) -> None:
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("decay", self.decay, DECAYS)
        in_range("learning_rate", self.learning_rate, 0, above=True)
        if self.patience is not None:
            whole("patience", self.patience)

    def learning_rate_at(self, progress: float) -> float:
        """Learning rate at `progress` (0 start of the run, 1 end): a pure function, so there is nothing to save."""
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "stairs":
            share, factor = STAIR
            return self.learning_rate * factor ** math.floor(progress / share + 1e-9)  # .21 / .03 is a little below 7
        if self.schedule == "one-cycle" and progress < self.warmup:
            return self.learning_rate * (0.04 + 0.96 * progress / self.warmup)  # 1/25 of the peak, as Smith's 1cycle
        start = self.warmup if self.schedule == "one-cycle" else 0.0
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - start) / (1 - start)))


# -------------------------------------------------------------------------------------------------------------- fit


@dataclass(frozen=True)
class Run:
    """How a training is run and kept: what travels from a command or a notebook down to `fit`.

    Attributes:
        checkpoint: folder for `checkpoint.safetensors` and `history.csv`; None keeps nothing
        resume: continue from the checkpoint in that folder if there is one; False starts anew and overwrites it
        seed: of everything random
        progress: show a bar
        device: best available if not given
        identity: what the run is about (configuration, fingerprint of the data): a checkpoint of another identity is an
            error, never taken silently. JSON-able. Seed, epochs and settings are added to it, and all that `fit` is
            called with and the result depends on: see `shapelab.training.identity`. Trainers fill it in.
        ADVICE: what to do about a checkpoint of another run
    """

    ADVICE: ClassVar[str] = "Use another folder, or pass resume=False to overwrite it."
    checkpoint: str | Path | None = None
    resume: bool = True
    seed: int = 0
    progress: bool = True
    device: torch.device | str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> torch.device:
        """The device that it comes to."""
        return torch.device(self.device or best_device())

    def about(self, identity: Mapping[str, Any]) -> Run:
        """The same run, with what it is about."""
        return replace(self, identity={**self.identity, **identity})

    def within(self, name: str) -> Run:
        """The same run, kept in a folder `name` of its folder: one stage of several."""
        return self if self.checkpoint is None else replace(self, checkpoint=Path(self.checkpoint) / name)


def fit(
    step: Step,
    model: nn.Module,
    batches: Callable[[int], Iterable[Batch]] | Sequence[Batch],
    epochs: int,
    *,
    settings: FitSettings | None = None,
    optimiser: MakeOptimiser | None = None,
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    run: Run | None = None,
) -> History:
    """Train `model` in place and return the history.

    On one machine, with the same number of threads, the same call ends in the same weights. In bf16 on a CPU, layers
    whose bf16 gradient is in doubt are trained in fp32; the first is named in a warning (`shapelab.training.exact`).

    Args:
        step: batch -> dict of losses (scalar tensors). What is minimised is its "loss" if there is one, else the sum of
            all values; everything in the dict is logged as the mean over those steps of the epoch that gave it. What it
            draws from torch's default generator (dropout, augmentation) depends on (seed, epoch, step) alone. A frozen
            network that it uses belongs outside `model`, or it would be put into training mode.
        model: its parameters that require a gradient are trained
        batches: epoch (0, 1, ...) -> the batches of that epoch, such as `Batches`; or a list of batches, the same in
            every epoch
        epochs: how many
        settings: `FitSettings`
        optimiser: parameters -> optimiser, which says itself what decays; Adam with the settings' learning rate and
            weight decay if not given. The schedule scales each parameter group's own learning rate.
        validate: model (in evaluation mode) -> dict of numbers, added to the epoch's row
        run: where it is kept, seed, device: `Run`

    Raises:
        TrainingError: the loss is not finite
        DataError: the checkpoint is damaged, or belongs to another run
        TimeUp: the limit of `shapelab.training.watching.time_limit`, where there is one, has passed
    """
    whole("epochs", epochs)
    settings, run = settings or FitSettings(), run or Run()
    device = run.target
    model.to(device)
    training = Training(step, model, batches, epochs, settings, optimiser, validate, run)
    if (seen := probed(training)) is not None:
        return seen
    with nullcontext() if run.checkpoint is None else only_one("checkpoint", run.checkpoint):
        return _trained(training, device)


def _trained(training: Training, device: torch.device) -> History:
    """The history of a training whose folder is its own."""
    model, batches, epochs, settings, run = (
        getattr(training, name) for name in ("model", "batches", "epochs", "settings", "run")
    )
    state = _State(model, settings, training.optimiser, device)
    if run.checkpoint is not None:
        state.begin(run, training)
    if isinstance(batches, Batches):
        batches = batches.on(device)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        exact_gradients(model),
        tqdm(total=epochs, initial=state.epoch, unit="epoch", disable=not run.progress) as bar,
    ):
        while state.epoch < epochs and not state.stopped:
            started = time.perf_counter()
            items = batches(state.epoch) if callable(batches) else batches
            count = len(items) if isinstance(items, Sized) else None
            model.train()
            for index, batch in _from(items, state.index, device):
                torch.manual_seed(derive_seed(run.seed, state.epoch, index))
                progress = (state.epoch + (index / count if count else 0)) / epochs
                state.learn(training.step, to_device(batch, device), progress)
                state.keep_if_due()
            state.settle()
            last = state.epoch + 1 == epochs
            validated, extra = last or (state.epoch + 1) % settings.validate_every == 0, {}
            if training.validate is not None and validated:
                model.eval()
                with torch.inference_mode():
                    extra = {k: float(v) for k, v in training.validate(model).items()}
            state.end_epoch(extra, validated, time.perf_counter() - started)
            bar.update()
            bar.set_postfix(
                {k: f"{v:.4g}" for k, v in state.history.last.items() if k not in ("epoch", "seconds", "lr")}
            )
            if last:
                state.stopped = DONE
    state.take_best()
    state.history.stopped = state.stopped
    state.save()
    model.eval()
    return state.history


def _from(items: Iterable[Batch], start: int, device: torch.device) -> Iterator[tuple[int, Batch]]:
    """(index, batch) from `start` on; earlier batches of a sequence are not even made."""
    if not isinstance(items, Sequence):
        return itertools.islice(enumerate(items), start, None)
    if device.type == "cuda":
        return made_ahead(items, start)
    return ((index, items[index]) for index in range(start, len(items)))


class _State:
    """All that changes while training: weights, optimiser, counters, history. What a checkpoint holds."""

    def __init__(
        self, model: nn.Module, settings: FitSettings, optimiser: MakeOptimiser | None, device: torch.device
    ) -> None:
        self.model, self.settings, self.device = model, settings, device
        if optimiser is None:
            groups = decay_groups(model, settings.decay, settings.weight_decay)
            self.optimiser: torch.optim.Optimizer = torch.optim.Adam(groups, lr=settings.learning_rate)
        else:
            self.optimiser = optimiser([p for p in model.parameters() if p.requires_grad])
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]
        # fmt: off
        self.rate = self.base_rates[0]                # learning rate of the last step, of the first group
        self.epoch = self.index = 0                   # index: steps done in this epoch
        self.stale = 0                                # epochs without a better one
        self.sums: dict[str, float] = {}              # of the losses of this epoch's steps
        self.counts: dict[str, int] = {}              # how many of them had each loss
        self.pending: list[tuple[int, list[str], Tensor]] = []   # (step, names, losses) that are still on the device
        # fmt: on
        self.best_value = float("inf")
        self.best: dict[str, Tensor] | None = None  # weights at the best epoch, kept when early stop is on
        self.history = History()
        self.stopped = ""
        self.file: Path | None = None
        self.saved_at = time.monotonic()

    def learn(self, step: Step, batch: Batch, progress: float) -> None:
        """One update."""
        factor = self.settings.learning_rate_at(progress) / self.settings.learning_rate
        for group, rate in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.rate = self.optimiser.param_groups[0]["lr"]
        with autocast(self.device) if self.settings.amp else without_autocast(self.device):
            losses = dict(step(batch))
        loss = losses["loss"] if "loss" in losses else sum(losses.values())
        if not isinstance(loss, Tensor):  # the sum of none is 0
            raise TrainingError(f"step: found {losses or 'an empty dict'}; expected losses by name, tensors")
        losses.setdefault("loss", loss)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        numbers = [torch.as_tensor(v, device=self.device).detach().float() for v in losses.values()]
        self.pending.append((self.index, list(losses), torch.stack(numbers)))
        if len(self.pending) >= READ_EVERY.get(self.device.type, 1):
            self.settle()
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_([p for g in self.optimiser.param_groups for p in g["params"]], self.settings.clip)
        self.optimiser.step()
        self.index += 1

    def settle(self) -> None:
        """Read the losses that are still on the device, in one wait; TrainingError at the first that is not finite.

        It comes before whatever is kept or measured, so that nothing is made of a step that went wrong.
        """
        if not self.pending:
            return
        numbers = iter(torch.cat([values for _, _, values in self.pending]).tolist())
        for index, names, _ in self.pending:
            values = {name: next(numbers) for name in names}
            if not np.isfinite(values["loss"]):
                raise TrainingError(
                    f"epoch {self.epoch}, step {index}: found losses {values}; expected finite "
                    "numbers. Lower the learning rate, set settings.clip, or look for NaN in the data."
                )
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1
        self.pending = []

    def end_epoch(self, extra: Mapping[str, float], validated: bool, seconds: float) -> None:
        """Write the epoch's row and see whether it is time to stop early."""
        if self.index == 0:
            raise TrainingError(f"epoch {self.epoch}: found no batch; expected at least one")
        row = {
            "epoch": self.epoch,
            "lr": self.rate,
            "seconds": round(seconds, 3),
            **{name: total / self.counts[name] for name, total in self.sums.items()},
            **extra,
        }
        self.history.rows.append(row)
        self.epoch, self.index, self.sums = self.epoch + 1, 0, {}
        self.counts = {}
        if self.settings.patience is None:
            return
        if self.settings.monitor not in row:
            if not validated:  # a column of `validate`, which was not asked this epoch
                return
            one_of("settings.monitor", self.settings.monitor, sorted(row))
        if row[self.settings.monitor] < self.best_value:
            self.best_value, self.stale = row[self.settings.monitor], 0
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        else:
            self.stale += 1
            if self.stale >= self.settings.patience:
                self.stopped = f"no better {self.settings.monitor} in {self.stale} epochs"

    def take_best(self) -> None:
        """With early stop on, the weights of the best epoch are the result."""
        if self.best is not None:
            self.model.load_state_dict(self.best)

    # ------------------------------------------------------------------------------------------------- checkpoints

    def begin(self, run: Run, training: Training) -> None:
        """Say where the checkpoint is and of which run; resume from one that is there, if the run is to."""
        # how often a checkpoint is written does not change the result
        numbers = {k: v for k, v in numbers_of(self.settings).items() if k != "checkpoint_seconds"}
        loop = {"seed": run.seed, "epochs": training.epochs, "settings": numbers}
        about = {**run.identity, **loop, "fit": identity_of(training, self.optimiser)}
        self.identity = json.loads(json.dumps(about))  # as a file gives it back: tuples are lists, keys are strings
        self.file, self.advice = Path(str(run.checkpoint)) / CHECKPOINT, run.ADVICE
        folder = self.file.parent
        for leftover in (*folder.glob(f".{self.file.stem}-*"), *folder.glob(".history-*")):
            leftover.unlink(missing_ok=True)  # what a killed run left while it was writing
        if run.resume and self.file.exists():
            self.restore(self.file)

    def save(self) -> None:
        """Put everything into one file, in place by one rename; nothing where there shall be no checkpoint."""
        if self.file is None:
            return
        self.settle()
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best/{k}": v for k, v in (self.best or {}).items()}
        numbers: dict[str, dict[str, float]] = {}
        for slot, entries in self.optimiser.state_dict()["state"].items():
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser/{slot}/{name}"] = value
                else:
                    numbers.setdefault(str(slot), {})[name] = value
        state = {
            "format": FORMAT,
            "identity": self.identity,
            "epoch": self.epoch,
            "index": self.index,
            "sums": self.sums,
            "counts": self.counts,
            "lr": self.rate,
            "stale": self.stale,
            "best_value": self.best_value,
            "stopped": self.stopped,
            "numbers": numbers,
            "history": self.history.rows,
            "machine": _machine(self.device),
        }
        write_tensors(self.file, tensors, {"state": json.dumps(state)})
        self.history.write(self.file.with_name("history.csv"))

    def keep_if_due(self) -> None:
        """Save where the last checkpoint is old enough, and end in TimeUp where the time of the training is over."""
        over = time_is_up()
        if over or time.monotonic() - self.saved_at > self.settings.checkpoint_seconds:
            self.save()
            self.saved_at = time.monotonic()
        if over:
            kept = "nothing is kept: its run names no checkpoint" if self.file is None else f"kept in {self.file}"
            raise TimeUp(f"the time of this training is over at epoch {self.epoch}, step {self.index}; {kept}")

    def restore(self, file: Path) -> None:
        """Take the state of the checkpoint; DataError if it is damaged or another run's."""
        tensors, texts = read_tensors(file)
        state = json.loads(texts.get("state", "{}"))
        need(
            state.get("format") == FORMAT,
            file,
            f"checkpoint format {state.get('format')}",
            f"format {FORMAT}",
            f"It was made by another version. {self.advice}",
        )
        told = compared(state, self.identity, _machine(self.device))
        told.check(file, self.advice, but="fit.model")
        try:
            self.model.load_state_dict(_part(tensors, "model/"))
        except RuntimeError as error:
            raise DataError(
                file,
                f"weights that do not fit the model ({' '.join(str(error).split())})",
                "weights of this model",
                self.advice,
            ) from error
        told.check(file, self.advice)  # weights that do not fit say more of a model than its layers
        if told.notes:
            warnings.warn(f"{file}: {'; '.join(told.notes)}", stacklevel=5)
        self.best = {k: v.to(self.device) for k, v in _part(tensors, "best/").items()} or None
        self._restore_optimiser(tensors, state["numbers"])
        self.epoch, self.index, self.sums, self.rate = state["epoch"], state["index"], state["sums"], state["lr"]
        self.counts = state.get("counts", dict.fromkeys(self.sums, self.index))  # once each step had all losses
        self.stale, self.best_value, self.stopped = state["stale"], state["best_value"], state["stopped"]
        if self.stopped == DONE and self.epoch < self.identity["epochs"]:
            self.stopped = ""
        self.history = History(state["history"], self.stopped)

    def _restore_optimiser(self, tensors: dict[str, Tensor], numbers: dict[str, dict[str, float]]) -> None:
        slots: dict[int, dict[str, Any]] = {int(slot): dict(entries) for slot, entries in numbers.items()}
        for key, value in _part(tensors, "optimiser/").items():
            slot, name = key.split("/", 1)
            slots.setdefault(int(slot), {})[name] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": slots})
        for parameter, entries in self.optimiser.state.items():
            for name, value in entries.items():
                # the file holds plain layouts; the running optimiser had the parameter's (channels last), and a loop
                # over another layout may round differently
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _machine(device: torch.device) -> dict[str, Any]:
    """What the last bits depend on."""
    return {
        "torch": torch.__version__,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "precision": str(fast_dtype(device)).removeprefix("torch."),
    }
