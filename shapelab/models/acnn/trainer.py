"""Training of segmentation and super-resolution networks on pairs of hearts (ACNN, section III-B).

What is stored is high resolution. In each step, on the device the batch is on: image and labels are moved together by a
random affine map; the acquisition model makes the LR stack (Gaussian through plane, decimation); each slice is
displaced by its breath-hold; noise is added. The target is not displaced, so the network learns to undo it.

Deviations:
    Stacks: the paper's segmentation networks read clinical stacks, acquired for themselves; here every stack is
        simulated from the HR image, for segmentation as for super-resolution (where the paper simulates, too).
    Optimiser: Adam (the supplement says "gradient descent"); schedule and epochs are the network's configuration.
    Noise and motion: the paper does not say how strong they are; ours are in `InputSettings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shapelab.augment import AffineRanges, MotionRanges, acquire, random_affine_pair, random_motion, shift_slices
from shapelab.data.volumes import HeartPairs
from shapelab.device import autocast, generator_of
from shapelab.errors import one_of
from shapelab.models.acnn.baselines import CascadeLoss
from shapelab.models.acnn.prior import ACNNLoss
from shapelab.spaces.contract import batches
from shapelab.tensor_files import checksum
from shapelab.training import Batches, FitSettings, History, Run, fit, numbers_of
from shapelab.training.losses import dice_scores
from shapelab.types import Network


@dataclass(frozen=True)
class InputSettings:
    """What is done to a pair before the network sees it."""

    affine: AffineRanges | None = field(default_factory=AffineRanges)
    # fmt: off
    motion: MotionRanges | None = None      # beyond each slice's own breath-hold: 3D-Seg-MAug, and SR
    natural: bool = True                    # displace slices by the pair's own breath-holds
    noise: float = 0.02                     # sd of Gaussian noise at most; each stack draws its own from 0 to this
    sigma_mm: float = 4.0                   # supplement: the Gaussian through plane
    # fmt: on


@dataclass(frozen=True)
class Training:
    """Numbers of a training on pairs; from the paper's supplement where it gives them."""

    epochs: int = 30
    batch: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 5e-6  # lambda_2
    decay: str = "all"  # what it is of: see `shapelab.training.decay`
    schedule: str = "one-cycle"

    @classmethod
    def of(cls, config: Any) -> Training:
        """Those that a network's configuration holds, such as `SubPixelConfig`; the defaults for what it lacks."""
        return cls(**{f.name: getattr(config, f.name) for f in fields(cls) if hasattr(config, f.name)})


def lr_stacks(
    pairs: HeartPairs,
    settings: InputSettings | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 32,
) -> Tensor:
    """The LR stacks (N, X, Y, Z/K) float32 of pairs as a test set sees them: no affine map, else as in training.

    A function of (pairs, settings, seed): every method gets the same stacks.
    """
    settings = settings or InputSettings()
    generator = generator_of(seed)
    parts = []
    for rows in batches(len(pairs), batch):
        images, motion = torch.as_tensor(pairs.images[rows]).to(device), torch.as_tensor(pairs.motion[rows])
        parts.append(_acquired(images, motion, pairs, settings, generator).cpu())
    return torch.cat(parts)


def _acquired(
    images: Tensor, motion: Tensor, pairs: HeartPairs, settings: InputSettings, generator: torch.Generator | None = None
) -> Tensor:
    """HR images (N, X, Y, Z) -> LR stacks (N, X, Y, Z/K): acquisition, breath-holds, noise."""
    stacks = acquire(images.float(), pairs.spacing, pairs.factor, settings.sigma_mm)
    moves = [motion] if settings.natural else []
    if settings.motion is not None:
        extra = random_motion(len(stacks), stacks.shape[3], settings.motion, generator=generator)
        moves.append(extra.to(motion.device, motion.dtype))
    if moves:
        stacks = shift_slices(stacks, sum(moves, torch.zeros(())).to(stacks.device), pairs.spacing)
    if settings.noise > 0:
        draw = torch.rand(len(stacks), generator=generator)[:, None, None, None].to(stacks.device)
        device = stacks.device if generator is None else "cpu"
        noise = torch.randn(stacks.shape, generator=generator, device=device).to(stacks.device)
        stacks = stacks + settings.noise * draw * noise
    return stacks


def train_network(
    network: Network,
    pairs: HeartPairs,
    loss: ACNNLoss | CascadeLoss | None = None,
    run: Run | None = None,
    *,
    training: Training | None = None,
    task: str = "seg",
    inputs: InputSettings | None = None,
    validation: HeartPairs | None = None,
) -> tuple[Network, History]:
    """Train any network that maps LR stacks (N, 1, X, Y, Z/K) to the HR grid (N, C, X, Y, Z); in place.

    Args:
        network: `SubPixelNet`, a baseline, or another's
        pairs: `HeartPairs`
        loss: `ACNNLoss`, or `CascadeLoss` for the networks that give two outputs; None: the pixel term alone
        run: where it is kept, seed (of order, augmentation, noise: the weights are the network's), device: see
            `shapelab.training.Run`
        training: `Training`; None: the numbers of the network's config
        task: "seg" (target: label maps, eq. 1) or "sr" (target: the HR image, eq. 2)
        inputs: `InputSettings`
        validation: pairs whose Dice (seg) or mean absolute error (sr) goes into the history five times in the run

    Returns:
        The network given, and the history (loss, pixel, prior where used, and val columns).
    """
    one_of("task", task, ("seg", "sr"))
    loss, inputs, run = loss or ACNNLoss(), inputs or InputSettings(), run or Run()
    config: Any = getattr(network, "config", None)
    training = training or Training.of(config)
    network.to(run.target)
    held_out = None if validation is None else lr_stacks(validation, inputs, seed=run.seed)

    def step(rows: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels, motion = rows
        if inputs.affine is not None:
            images, labels = random_affine_pair(images.float(), labels, pairs.spacing, inputs.affine)
        output = network(_acquired(images, motion, pairs, inputs)[:, None])
        return loss(output, labels if task == "seg" else images.float()[:, None])

    def validate(_: nn.Module) -> dict[str, float]:
        assert validation is not None and held_out is not None  # or it is not called
        if task == "sr":
            images = predict_images(network, held_out)
            return {"val error": float(np.abs(images - validation.images.astype(np.float32)).mean())}
        made = torch.from_numpy(predict_labels(network, held_out))
        return {"val dice": float(dice_scores(made, torch.as_tensor(validation.labels), int(pairs.n_classes)).mean())}

    history = fit(
        step,
        network,
        Batches(pairs.images, pairs.labels, pairs.motion, batch_size=training.batch, seed=run.seed),
        training.epochs,
        settings=FitSettings(
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            decay=training.decay,
            schedule=training.schedule,
            validate_every=max(1, training.epochs // 5),
        ),
        validate=validate if held_out is not None else None,
        run=run.about(
            {
                "network": f"{type(network).__name__} {numbers_of(config) if is_dataclass(config) else None}",
                "task": task,
                "inputs": asdict(inputs),
                "prior": [loss.weight, loss.scale],
                "pairs": checksum({"images": pairs.images, "labels": pairs.labels, "motion": pairs.motion}),
                "initial weights": checksum(network.state_dict()),
            }
        ),
    )
    return network, history


@torch.inference_mode()
def predict_labels(network: nn.Module, stacks: Tensor | np.ndarray, batch: int = 8) -> np.ndarray:
    """LR stacks (N, X, Y, Z/K) -> channel numbers (N, X, Y, Z) uint8."""
    return np.concatenate([o.argmax(1).to(torch.uint8).cpu().numpy() for o in _outputs(network, stacks, batch)])


@torch.inference_mode()
def predict_images(network: nn.Module, stacks: Tensor | np.ndarray, batch: int = 8) -> np.ndarray:
    """LR stacks (N, X, Y, Z/K) -> HR images (N, X, Y, Z) float32."""
    return np.concatenate([o[:, 0].float().cpu().numpy() for o in _outputs(network, stacks, batch)])


def _outputs(network: nn.Module, stacks: Tensor | np.ndarray, batch: int) -> Iterator[Tensor]:
    network.eval()
    parameter = next(network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    stacks = torch.as_tensor(stacks)
    for part in stacks.split(batch):
        with autocast(device):
            yield network(part.to(device).float()[:, None])
