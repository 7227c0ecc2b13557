"""`gpu.py --train`: the recipes that ship, trained in `full`, in turn, until the time is over; called again it goes on.

Under --keep:

weights/NAME_full   what is done, in 16 bits where Dice on held-out phantoms stays within .001; recipes that need
                    another network find it here. Not for data/weights: learned before whole walls were the default
training/NAME       checkpoints of what is under way
curves/NAME/*.csv   the history of each stage
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np

import shapelab  # noqa: F401  (first: it sets OpenMP's variables before torch is loaded)

import torch  # isort: skip
from gpu_speed import FIRST
from torch import nn

from shapelab.data.scheme import CARDIAC
from shapelab.experiments.acnn import reality, segmentation, super_resolution
from shapelab.experiments.kept_runs import opened, save_trained
from shapelab.experiments.recipes import Order, Recipe, recipes
from shapelab.experiments.shipped import phantom_images, phantom_shapes
from shapelab.experiments.sslln.hearts import degrade, phantom_volumes
from shapelab.experiments.sslln.laboratory import TRAINED, SSLLNExperiment
from shapelab.models.acnn import AESpace, lr_stacks, predict_labels
from shapelab.models.acnn.tl import TLSpace
from shapelab.models.native import NativeSegmenter
from shapelab.models.sslln import NETWORKS, predict
from shapelab.phantoms import heart_cohort
from shapelab.phantoms.pairs import heart_pairs
from shapelab.spaces.kept import is_kept
from shapelab.training import History, fit
from shapelab.training.losses import dice_scores
from shapelab.training.watching import TimeUp, Training, probing, time_limit

HELD_OUT_SEED, HELD_OUT = 77_000, 20  # phantom patients: no training and no experiment draws from this seed
WITHIN = 0.001  # of Dice (or SSIM), of the weights in 16 bits
MOST_MB = {"sslln": 7.0, "": 5.0}  # of a folder of weights whose name begins so
Score = Callable[[Any], float]


@dataclass
class Trainings:
    """Trains recipe by recipe into `keep`, a row each into `out`; small: few held-out hearts (a dry run)."""

    out: Any
    keep: Path
    small: bool

    def all(self, only: Sequence[str], seconds: float) -> None:
        """Train what ships (or what is named) until so many seconds are over; making of data is not cut short."""
        known, end = recipes(), time.monotonic() + seconds
        chosen = [n for n, r in known.items() if (n in only if only else r.ships)]
        for name in sorted(chosen, key=lambda n: (n not in FIRST, n)):
            with self.out.attempt(recipe=name):
                left = end - time.monotonic()
                if is_kept(self.weights(name, known[name])):
                    print(f"{name}: trained before", flush=True)
                elif left > 0:
                    self.train(name, known[name], left)
                else:
                    print(f"{name}: not begun, the time is over", flush=True)

    def weights(self, name: str, recipe: Recipe) -> Path:
        return self.keep / "weights" / f"{recipe.ships or name}_full"

    def train(self, name: str, recipe: Recipe, seconds: float) -> None:
        """Train one recipe until it is done or the time is over, and write its row."""
        order = Order(name, output=self.keep / "training" / name, profile="full", progress=False)
        curves, started, data_seconds = self.keep / "curves" / name, time.monotonic(), []

        def probe(training: Training) -> History:
            data_seconds.append(time.monotonic() - started)
            # a network that another one needs names no folder; it shall not be lost
            folder = Path(training.run.checkpoint or order.output / f"needed-{type(training.model).__name__}")
            try:
                return fit(**{**vars(training), "run": replace(training.run, checkpoint=folder)})
            finally:  # also of one that was stopped
                if (folder / "history.csv").is_file():
                    curves.mkdir(parents=True, exist_ok=True)
                    stage = "-".join(folder.relative_to(order.output).parts)
                    shutil.copy(folder / "history.csv", curves / f"{stage}.csv")

        def facts() -> dict[str, Any]:
            """Of its stages so far, all calls together; of this call its seconds, and those before the first step."""
            histories = [History.read(file) for file in sorted(curves.glob("training*.csv"))]
            rows = [row for history in histories for row in history.rows]
            seconds = {"call_seconds": time.monotonic() - started, "data_seconds": min(data_seconds, default=math.nan)}
            loss = rows[-1]["loss"] if rows else math.nan
            return {
                "epochs": len(rows),
                "training_seconds": sum(row["seconds"] for row in rows),
                **seconds,
                "loss": loss,
            }

        try:
            with probing(probe), time_limit(seconds):
                made = recipe.train(order)
        except TimeUp as stopped:
            self.out.add(recipe=name, state=f"under way: {stopped}", **facts())
            return
        self.out.add(recipe=name, state="done", **facts(), **self.kept(name, recipe, made))
        shutil.rmtree(order.output, ignore_errors=True)

    def kept(self, name: str, recipe: Recipe, made: Any) -> dict[str, Any]:
        """Keep what was trained, in 16 bits where it is as good so, and measure it on held-out phantoms."""
        folder, what = self.weights(name, recipe), "none known for its kind"
        if (found := scored(made, 2 if self.small else HELD_OUT)) is not None:
            what, score = found
            in_32 = score(made)
            save_trained(made, folder, half=True)
            in_16 = score(opened(folder))
        else:
            in_32 = in_16 = math.nan
        half = bool(abs(in_32 - in_16) <= WITHIN)
        if not half:
            shutil.rmtree(folder, ignore_errors=True)
            save_trained(made, folder)
        size = sum(file.stat().st_size for file in folder.rglob("*")) / 1e6
        most = next(mb for start, mb in MOST_MB.items() if folder.name.startswith(start))
        numbers = {"score": what, "in 32 bits": in_32, "in 16 bits": in_16, "kept in 16 bits": half}
        return {**numbers, "MB": size, "MB at most": most, "fits": size <= most, "weights": folder.name}


# ----------------------------------------------------------------------------------------------------- held-out hearts


@singledispatch
def scored(made: Any, n: int) -> tuple[str, Score] | None:
    """(what, network or space -> its mean) on n held-out phantom patients of the kind a recipe's result is for; None
    where nothing is known of its kind."""
    if isinstance(made, tuple(NETWORKS.values())):
        return _landmarked(made, n)
    if isinstance(made, nn.Module) and hasattr(made, "task"):
        config = getattr(made, "config", None)
        numbers = config if hasattr(config, "grid") else super_resolution.SuperResolutionConfig.profile("full").network
        pairs = heart_pairs(n, numbers.grid, numbers.factor, HELD_OUT_SEED)
        stacks = lr_stacks(pairs, seed=segmentation.STACK_SEED)
        if made.task == "sr":
            return "SSIM", lambda network: float(super_resolution.evaluate(network, stacks, pairs)["ssim"].mean())
        return "Dice", lambda network: _dice(predict_labels(network, stacks), pairs.labels, pairs.n_classes)
    return None


@scored.register
def _(made: AESpace, n: int) -> tuple[str, Score]:
    labels, _ = phantom_shapes(n, made.grid, HELD_OUT_SEED)
    return "Dice, reconstructed", lambda space: float(space.reconstruction_dice(labels).mean())


@scored.register
def _(made: TLSpace, n: int) -> tuple[str, Score]:
    images, labels, _ = phantom_images(n, made.grid, made.config.factor, HELD_OUT_SEED)
    return "Dice, from images", lambda space: float(space.segmentation_dice(images, labels).mean())


@scored.register
def _(made: NativeSegmenter, n: int) -> tuple[str, Score]:
    cohort = heart_cohort(n, seed=HELD_OUT_SEED, resolution="LR", scheme=CARDIAC, images=True)
    return "Dice", lambda network: float(reality.measure(network, cohort, "", progress=False)["dice"].mean())


def _landmarked(made: nn.Module, n: int) -> tuple[str, Score]:
    volumes = phantom_volumes(n, made.config.grid, HELD_OUT_SEED)
    if TRAINED[made.metadata["method"]][1]:
        volumes, _ = degrade(volumes, SSLLNExperiment.profile("full").degradation, HELD_OUT_SEED)
    classes = made.config.n_classes
    return "Dice", lambda network: _dice(predict(network, volumes.images)[0], volumes.labels, classes)


def _dice(made: np.ndarray, truth: np.ndarray, classes: int) -> float:
    return float(dice_scores(torch.from_numpy(made), torch.from_numpy(truth), classes).mean())
