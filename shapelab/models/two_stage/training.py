"""The four steps of the two-stage U-Net's training (Table 1 of the paper).

    1   whole coarse volumes       where the heart is           L1_ROI
    2   sub-volumes                coarse, what is what         L1_ROI + L1
    3   sub-volumes                both nets, end to end        L1 + L2
    4   K whole slices             fine, Net1 frozen            L2

Each is a `fit` of its own, with its own warm-up and checkpoint; a step of no batches is left out (the ablation). A
config with one stage trains Net2 alone, on whole slices, for as many batches as all its steps have.

Deviations:
    Cross-entropy is added to each loss: see `shapelab.models.two_stage.losses`.
    Learning rates: 1e-4 is the paper's, for 12,800 batches. A course has a tenth of them: higher rates, each step with
        a warm-up and a cosine ("one-cycle").
    Step 1, 2: volumes are augmented at half the resolution and then made coarse, for speed.
    Step 3: Net2 sees a slab of the sub-volume, as many slices as `outputs` are labelled.
    Step 4: slices are cut as the region of interest leaves them in use, with borders moved by chance; Net1 reads the
        whole coarse volume, as in use. The paper leaves the dynamic tile out in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shapelab.data.scheme import WHOLE_HEART, LabelScheme
from shapelab.device import without_autocast
from shapelab.errors import must, need
from shapelab.models.two_stage.losses import class_weights, dice_loss, roi_entropy, roi_loss
from shapelab.models.two_stage.networks import STEPS, Net1, TwoStageConfig, TwoStageNet, full_sized
from shapelab.models.two_stage.segmenter import TwoStage
from shapelab.models.two_stage.volumes import Drawn, Source, Volume, repeated
from shapelab.spaces.kept import made_here
from shapelab.tensor_files import checksum
from shapelab.training import Batches, FitSettings, History, Run, fit, numbers_of, seeded
from shapelab.training.losses import cross_entropy, dice_scores
from shapelab.training.turns import Turns

LARGEST_GRADIENT = 5.0


def train_two_stage(
    volumes: Sequence[Volume],
    config: TwoStageConfig | None = None,
    run: Run | None = None,
    *,
    scheme: LabelScheme = WHOLE_HEART,
    start: TwoStage | None = None,
    validation: Sequence[Volume] | None = None,
    data: str = "",
) -> tuple[TwoStage, History]:
    """Train Net1 and Net2 in four steps.

    Args:
        volumes: with labels, channel numbers of `scheme`; whole hearts: of one size
        config: numbers; None takes the current profile's
        run: where it is kept (a folder a step), seed, device: see `shapelab.training.Run`
        scheme: of the label maps
        start: what the weights begin as; None: drawn from the seed
        validation: other volumes; what comes of them goes into the history at every row
        data: what the volumes are, in words; kept in the metadata

    Returns:
        A tuple of

        - the nets: `TwoStage`
        - history: a row for every `config.every` batches: stage (1 to 4), steps (batches until then, of all stages),
          losses, and of `validation` the mean Dice of the structures ("val net1", "val net2")

    Raises UsageError where `start` has other numbers; DataError for volumes without labels or of several sizes.
    """
    config, run = config or TwoStageConfig.profile(), run or Run()
    check_volumes(volumes, config, scheme)
    if validation is not None:
        check_volumes(validation, config, scheme, "validation")
    net = seeded(lambda: TwoStageNet(config), run.seed)
    if start is not None:
        must(_built(start.config) == _built(config), "start", f"nets of {_built(start.config)}", str(_built(config)))
        net.load_state_dict(start.net.state_dict())
    made = TwoStage(net.to(run.target), config, scheme)
    source = Source(volumes, config, run.target)
    weights = class_weights(source.counts()).to(run.target)
    about = begun_with(net, volumes, config, scheme)
    history, done = History(), 0
    for stage, batches in enumerate(_steps(config), 1):
        if not batches:
            continue
        step, learner = _step(stage, made.net, source.halved() if stage <= 2 else source, weights)
        turns = in_turn(len(volumes), config.batch[0 if stage <= 2 else 1], config, batches, run.seed + stage)
        part = fit(
            step,
            learner,
            turns,
            len(turns),
            settings=settings_of(config, config.rates[stage - 1]),
            validate=None if validation is None else partial(_measured, made, validation, stage),
            run=run.within(f"step{stage}").about({**about, "stage": stage}),
        )
        for row in part.rows:
            history.rows.append({"stage": stage, "steps": done + turns.steps_until(int(row["epoch"]) + 1), **row})
        done += batches
    facts = {"data": data, "n": len(volumes), "seed": run.seed, "steps": list(config.steps), "final": history.last}
    made.metadata = made_here(facts)
    made.net.eval()
    return made, history


def check_volumes(
    volumes: Sequence[Volume], config: TwoStageConfig, scheme: LabelScheme, what: str = "volumes"
) -> None:
    """Errors for volumes that cannot be learned from."""
    need(len(volumes), what, "none", "at least one")
    must(
        scheme.n_classes == config.n_classes,
        what,
        f"scheme {scheme.name!r} of {scheme.n_classes} classes",
        f"{config.n_classes}, as the config has",
    )
    for row, volume in enumerate(volumes):
        need(volume.label is not None, f"{what}[{row}]", "no label", "a label map of each volume")
        highest = (
            0 if config.looks is not None else int(np.max(np.asarray(volume.label)))
        )  # of a stack, they become background
        need(
            highest < config.n_classes,
            f"{what}[{row}]",
            f"labels up to {highest}",
            f"channel numbers 0 to {config.n_classes - 1}",
            "Its scheme's `channels` makes them of integers.",
        )


def begun_with(
    net: nn.Module, volumes: Sequence[Volume], config: TwoStageConfig, scheme: LabelScheme
) -> dict[str, Any]:
    """What a training's checkpoint is about."""
    arrays = {f"{kind}{i}": getattr(v, kind) for i, v in enumerate(volumes) for kind in ("image", "label")}
    weights = checksum(net.state_dict())
    return {
        "config": numbers_of(config),
        "scheme": scheme.name,
        "volumes": checksum(arrays),
        "initial weights": weights,
    }


class Rows(Batches):
    """Batches of row numbers, which stay on the CPU: volumes are drawn by them there."""

    def __call__(self, epoch: int) -> list[np.ndarray]:
        return self.rows(epoch)

    def on(self, device: torch.device | str) -> Rows:
        return self


def in_turn(n: int, batch: int, config: TwoStageConfig, steps: int, seed: int) -> Turns:
    """`steps` batches of row numbers of n volumes."""
    rows = Rows(np.arange(n), batch_size=min(n, batch), seed=seed)
    return Turns(rows, steps=steps, every=min(config.every, steps))


def settings_of(config: TwoStageConfig, rate: float) -> FitSettings:
    """How `fit` trains at a learning rate."""
    return FitSettings(rate, "one-cycle", weight_decay=config.weight_decay, clip=LARGEST_GRADIENT)


def _built(config: TwoStageConfig) -> dict[str, Any]:
    """The numbers that weights depend on."""
    names = (
        *("n_classes", "stages", "units1", "units2", "width1", "dilation", "kernel1", "width2", "levels2", "kernel2"),
        *("kernel2_up", "fold", "deep", "slices"),
    )
    return {name: getattr(config, name) for name in names}


def _steps(config: TwoStageConfig) -> tuple[int, ...]:
    """Batches of each step."""
    return config.steps if config.stages == 2 else (0, 0, 0, sum(config.steps))


def _step(
    stage: int, net: TwoStageNet, source: Source, weights: Tensor
) -> tuple[Callable[[np.ndarray], dict[str, Tensor]], nn.Module]:
    """What `fit` calls in a step of the training, and the module that learns in it."""
    config = source.config

    def entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return config.cross_entropy * cross_entropy(logits, labels)

    def coarse(rows: np.ndarray) -> dict[str, Tensor]:
        with torch.no_grad(), without_autocast(source.device):
            images, labels = source.coarse(rows.tolist(), sub=stage == 2)
        logits = _net1(net)(images)
        losses = {"roi": roi_loss(logits, labels)}
        if stage == 1:
            return {**losses, "roi entropy": config.cross_entropy * roi_entropy(logits, labels)}
        return {**losses, "dice1": dice_loss(logits, labels, weights), "entropy1": entropy(logits, labels)}

    def fine(rows: np.ndarray) -> dict[str, Tensor]:
        with torch.no_grad(), without_autocast(source.device):
            drawn = source.both(rows.tolist(), whole=stage == STEPS)
        seen, losses = drawn.fine, {}
        if net.net1 is not None:
            if stage == STEPS:
                net.net1.eval()  # frozen: as in use
            with torch.set_grad_enabled(stage < STEPS):
                logits = net.net1(drawn.coarse)
            if drawn.coarse_labels is not None:
                losses["dice1"] = dice_loss(logits, drawn.coarse_labels, weights)
                losses["entropy1"] = entropy(logits, drawn.coarse_labels)
            shown = (torch.rand(len(logits)) >= config.hidden).to(logits.device)
            seen = beside(logits.float().softmax(1) * shown[:, None, None, None, None], drawn, config)
        found = net.net2(seen)
        for depth, scale in enumerate(found if isinstance(found, tuple) else (found,)):
            name, share = f"2 {depth}".removesuffix(" 0"), 0.5**depth
            losses[f"dice{name}"] = share * dice_loss(scale, drawn.labels, weights)
            losses[f"entropy{name}"] = share * entropy(scale, drawn.labels)
        return losses

    if stage <= 2:
        return coarse, _net1(net)
    return fine, net if stage < STEPS else net.net2


def _net1(net: TwoStageNet) -> Net1:
    assert net.net1 is not None  # a config with one stage has no such step
    return net.net1


def beside(probabilities: Tensor, drawn: Drawn, config: TwoStageConfig) -> Tensor:
    """Net2's input (N, C + 1, X, Y, K + n - 1): Net1's probabilities at full resolution, and the image."""
    x, y, slab = drawn.box
    deep = drawn.coarse.shape[4] * config.factor[2]
    inside = slice(max(0, slab.start), min(deep, slab.stop))
    grown = full_sized(probabilities, config.factor, (x, y, inside))
    return torch.cat([repeated(grown, slice(slab.start - inside.start, slab.stop - inside.start)), drawn.fine], 1)


def _measured(made: TwoStage, volumes: Sequence[Volume], stage: int, _: nn.Module) -> dict[str, float]:
    """Mean Dice of the structures over volumes, by each net that is trained by then."""
    made.net.eval()
    nets = ([1] if made.net.net1 is not None else []) + ([2] if stage >= 3 else [])
    return {f"val net{net}": mean_dice(partial(made.segment, net=net), volumes, made.config) for net in nets}


def mean_dice(segment: Callable[[Volume], np.ndarray], volumes: Sequence[Volume], config: TwoStageConfig) -> float:
    """Mean Dice of the structures over volumes."""
    found = [
        dice_scores(
            torch.from_numpy(segment(volume))[None],
            torch.from_numpy(np.asarray(volume.label))[None],
            config.n_classes,
        ).mean()
        for volume in volumes
    ]
    return float(torch.stack(found).mean())
