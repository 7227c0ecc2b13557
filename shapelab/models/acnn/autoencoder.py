"""The shape autoencoder of "Anatomically constrained neural networks (ACNNs): application to cardiac image enhancement
and segmentation" (Oktay et al., IEEE TMI 2018), sections II-B and III-B and Table V.

A label map y is squeezed through 64 numbers and rebuilt: codes h = f(y), reconstruction g(h), trained by cross-entropy

    L_x = - mean over voxels of log softmax(g(f(y~)))[y]                (y~: y with labels swapped, then one-hot)

so that h holds what is common to hearts and leaves out what is not. The encoder f later judges segmentations
(ACNN-Seg); the codes describe the shape of a heart (`shapelab.latent`).

Deviations:
    Order within a layer: convolution, batch normalisation, ReLU. Convolutions that are normalised have no bias (the
        normalisation would cancel it). "Each convolution layer, except the last one, is followed by
        batch-normalisation" is read as: all of encoder and decoder, transposed ones too, but the one that makes the
        logits.
    Label swap: "tissue class labels are randomly swapped with the probability of 0.1" is read as: each voxel of the
        input, on its own, gets the label of one of the other classes (background included, all equally likely) with p =
        0.1. The target keeps the true labels.
    Affine augmentation: the paper gives no ranges; ours are in `AEConfig.affine`. Epochs are not given either.
    Optimiser: the supplement says "gradient descent" with a learning rate "fixed" at 0.001. Adam is our choice, in
        every profile; `quick` and `full` besides raise and lower the rate once (one cycle), `paper` keeps it. No weight
        decay: the supplement names it for the segmentation and super-resolution networks alone.
    Classes: Table V ends in three maps (background, LV cavity, LV myocardium). Ours has a fourth, the RV cavity, in
        every profile, the paper's too; a scheme without it makes the paper's three (`n_classes`).
    Training maps: the paper's are high-resolution annotations without breath-hold shifts. Those that the shipped space
        learned from (`shapelab.experiments.shipped.phantom_shapes`) are stacks of about 10 mm slices, each displaced by
        its breath-hold, laid on the grid, because ACDC's label maps, which it is for, are such. `train_autoencoder`
        itself takes whatever maps it is given.
    Grids of `quick` and `full` are coarser, so their scale S4 has fewer cells than the paper's 5 x 5 x 5: 8 and 48. One
        channel of those could not feed 64 codes, so S4 gets more channels there (`bottleneck`): 128 and 384 numbers
        against the paper's 125.
    After training: (1) the normalisation's statistics are measured anew on clean label maps. Those gathered while
        training belong to maps with swapped labels, which the encoder never sees in use: held-out Dice of phantoms
        after 800 steps .75, .74, .86 with those, .77, .78, .88 with clean ones. (2) `principal_axes`: cross-entropy
        does not care in which basis a code is written; a decision tree, or a slider that moves one number at a time,
        does. So the training codes are made uncorrelated by a rotation folded into the two linear layers round the
        code, and the space then gives them in a rotated basis, along the axes that carry most of the variance of the
        label maps (`shape_axes`): code 0 changes the shape most. Decoder(encoder(y)) is the same function before and
        after. On 80 phantoms (seed 3), five groups, ED + ES, a random forest rose from .63 to .74 (the choice was made
        there). The paper profile leaves (2) out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from shapelab.augment import AffineRanges, random_affine, swap_labels
from shapelab.data.placement import remembered
from shapelab.data.scheme import CARDIAC, LabelScheme
from shapelab.device import autocast, laid_out
from shapelab.errors import must
from shapelab.spaces.axes import principal_axes, shape_axes
from shapelab.spaces.kept import made_here, scheme_of
from shapelab.spaces.network_space import NetworkSpace
from shapelab.tensor_files import checksum
from shapelab.training import Batches, Config, FitSettings, History, Run, fit, seeded
from shapelab.training.losses import cross_entropy, dice_scores, onehot
from shapelab.types import Shape3

STRIDE = (24, 24, 12)  # product of the encoder's strides: S1 (2,2,1), S2 and S3 (2,2,2), S4 (3,3,3)


@dataclass(frozen=True)
class AEConfig(Config):
    """Numbers of the autoencoder and of its training; the defaults are the quick profile's."""

    # fmt: off
    shape: tuple[int, int, int] = (48, 48, 24)      # 1/16 of the paper's voxels: 13 ms a sample on two cores
    spacing: tuple[float, float, float] = (3.0, 3.0, 5.0)   # mm: a box of 144 x 144 x 120 (paper: 150 x 150 x 120)
    n_classes: int = 4                              # background, RV cavity, LV myocardium, LV cavity
    widths: tuple[int, int, int] = (16, 32, 64)     # kernels at S1, S2, S3: Table V
    bottleneck: int = 16                            # kernels at S4: 2x2x2 cells x 16 = 128 numbers (paper: 125)
    code: int = 64                                  # Table V; "chosen experimentally"
    swap: float = 0.1                               # section III-B
    affine: AffineRanges = field(default_factory=AffineRanges)   # hearts vary more than a hundred patients show
    batch: int = 8                                  # supplement
    learning_rate: float = 1e-3                     # supplement; Adam is our choice, see above
    schedule: str = "one-cycle"                     # warm-up and cosine; the supplement: fixed
    epochs: int = 60
    principal_axes: bool = True  # codes uncorrelated and sorted by variance: see above
    # fmt: on

    PROFILES = {
        # 1.5 mm in plane, as fine as the scans; 4x4x3 cells x 8 = 384 numbers at S4
        "full": {"shape": (96, 96, 36), "spacing": (1.5, 1.5, 10 / 3), "bottleneck": 8, "epochs": 200},
        # Table V and the supplement; codes as they come
        "paper": {
            "shape": (120, 120, 60),
            "spacing": (1.25, 1.25, 2.0),
            "bottleneck": 1,
            "epochs": 200,
            "schedule": "constant",
            "principal_axes": False,
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        must(
            len(self.shape) == 3 and all(n >= s and not n % s for n, s in zip(self.shape, STRIDE)),
            "AEConfig.shape",
            self.shape,
            f"multiples of the strides {STRIDE}",
        )
        must(
            min(self.n_classes - 1, self.bottleneck, self.code, self.batch, self.epochs, *self.widths) >= 1,
            "AEConfig",
            self,
            "at least two classes and one of everything else",
        )

    @property
    def cells(self) -> tuple[int, int, int]:
        """Grid of the coarsest scale S4; 5 x 5 x 5 in the paper."""
        x, y, z = (n // s for n, s in zip(self.shape, STRIDE))
        return x, y, z


# ---------------------------------------------------------------------------------------------------------- the model


def conv(n_in: int, n_out: int, stride: int | tuple[int, int, int] = 1) -> nn.Sequential:
    """A row "Conv" of Table V."""
    return nn.Sequential(
        nn.Conv3d(n_in, n_out, 3, stride, padding=1, bias=False), nn.BatchNorm3d(n_out), nn.ReLU(inplace=True)
    )


def deconv(n_in: int, n_out: int, kernel: int | Shape3, stride: int | Shape3, padding: int | Shape3) -> nn.Sequential:
    """A row "Deconv" of Table V; the padding makes the output exactly `stride` times the input."""
    return nn.Sequential(
        nn.ConvTranspose3d(n_in, n_out, kernel, stride, padding, bias=False),
        nn.BatchNorm3d(n_out),
        nn.ReLU(inplace=True),
    )


class Autoencoder(nn.Module):
    """Table V. Shapes in the comments are the paper profile's: (channels, x, y, z).

    Attributes:
        encode: one-hot maps or probabilities (N, C, X, Y, Z) -> codes (N, 64)
        decode: codes (N, 64) -> logits (N, C, X, Y, Z)
    """

    def __init__(self, config: AEConfig) -> None:
        super().__init__()
        self.config = config
        classes, (a, b, c), d = config.n_classes, config.widths, config.bottleneck
        self.encoder = nn.Sequential(
            conv(classes, a, stride=(2, 2, 1)),              # S1  (C, 120, 120, 60) -> (16, 60, 60, 60)
            conv(a, a),
            conv(a, b, stride=2),                            # S2  -> (32, 30, 30, 30)
            conv(b, b),
            conv(b, c, stride=2),                            # S3  -> (64, 15, 15, 15)
            conv(c, c),
            conv(c, d, stride=3),                            # S4  -> (1, 5, 5, 5)
        )  # fmt: skip
        self.to_code = nn.Linear(d * prod(config.cells), config.code)  # HC  125 -> 64, no non-linearity
        self.from_code = nn.Linear(config.code, d * prod(config.cells))  #     64 -> 125, ReLU
        self.decoder = nn.Sequential(
            deconv(d, c, kernel=7, stride=3, padding=2),     # S4  (1, 5, 5, 5) -> (64, 15, 15, 15)
            conv(c, c),
            deconv(c, b, kernel=4, stride=2, padding=1),     # S3  -> (32, 30, 30, 30)
            conv(b, b),
            deconv(b, a, kernel=4, stride=2, padding=1),     # S2  -> (16, 60, 60, 60)
            conv(a, a),
            deconv(a, a, kernel=(4, 4, 1), stride=(2, 2, 1), padding=(1, 1, 0)),   # S1  -> (16, 120, 120, 60)
            nn.Conv3d(a, classes, 3, padding=1),             #     -> (C, 120, 120, 60), logits
        )  # fmt: skip
        # channels last: a step takes .76 of the time on a CPU (benchmarks/bench_training.py), and GPUs like it in bf16
        laid_out(self, torch.channels_last_3d)

    def encode(self, maps: Tensor) -> Tensor:
        features = self.encoder(maps)  # (N, 1, 5, 5, 5)
        return self.to_code(features.flatten(1))  # (N, 64)

    def decode(self, codes: Tensor) -> Tensor:
        features = torch.relu(self.from_code(codes))  # (N, 125)
        features = features.unflatten(1, (self.config.bottleneck, *self.config.cells))
        return self.decoder(features.contiguous(memory_format=torch.channels_last_3d))

    def forward(self, maps: Tensor) -> Tensor:
        return self.decode(self.encode(maps))


# ---------------------------------------------------------------------------------------------------------- training


def train_autoencoder(
    labels: np.ndarray,
    config: AEConfig | None = None,
    run: Run | None = None,
    *,
    scheme: LabelScheme = CARDIAC,
    init: AESpace | str | Path | None = None,
    validation: np.ndarray | None = None,
    data: str = "",
) -> tuple[AESpace, History]:
    """Train the autoencoder on label maps; returns the space of their shapes and the history.

    Args:
        labels: (N, X, Y, Z) integers of `scheme` on the config's grid (`shapelab.data.grid.stack_labels` makes them)
        config: numbers; None takes the current profile's
        run: where it is kept, seed (of weights, order, augmentation), device: see `shapelab.training.Run`
        init: a space (or its folder) to start from instead of random weights: fine-tuning
        validation: (M, X, Y, Z) label maps; their Dice after a tenth, two tenths, ... of the run goes into the history
        data: what the labels are, in words; kept in the space's metadata

    Returns:
        A tuple of

        - space: `AESpace`
        - history: a row an epoch: loss, dice (mean over structures, augmented training maps, labels swapped), and `val
          dice`
    """
    config, run = config or AEConfig.profile(n_classes=scheme.n_classes), run or Run()
    model = seeded(lambda: Autoencoder(config), run.seed)
    if init is not None:
        _start_from(model, init if isinstance(init, AESpace) else AESpace.load(init))
    space = AESpace(config, scheme, model=model.to(run.target))
    space.placement = remembered(labels)
    maps = torch.from_numpy(space.check(labels))
    held_out = None if validation is None else space.check(validation)

    def step(batch: Tensor) -> dict[str, Tensor]:
        # fmt: off
        moved = random_affine(batch, config.spacing, config.affine)                        # y
        swapped = swap_labels(moved, config.swap, config.n_classes)                        # y~
        logits = model(onehot(swapped, config.n_classes))                                  # g(f(y~))
        # fmt: on
        with torch.no_grad():
            dice = dice_scores(logits.argmax(1), moved, config.n_classes).mean()
        return {"loss": cross_entropy(logits, moved), "dice": dice}

    def validate(_: nn.Module) -> dict[str, float]:
        assert held_out is not None  # or it is not called
        with unchanged(model):
            measure_statistics(model, maps)
            return {"val dice": float(space.reconstruction_dice(held_out).mean())}

    identity = {
        "config": asdict(config),
        "scheme": scheme.name,
        "labels": checksum({"labels": maps}),
        "initial weights": checksum(model.state_dict()),
    }
    history = fit(
        step,
        model,
        Batches(maps, batch_size=config.batch, seed=run.seed),
        config.epochs,
        settings=FitSettings(
            learning_rate=config.learning_rate, schedule=config.schedule, validate_every=max(1, config.epochs // 10)
        ),
        validate=validate if held_out is not None else None,
        run=run.about(identity),
    )
    _finish(space, labels, maps)
    facts = {"data": data, "n": len(maps), "labels": identity["labels"], "seed": run.seed, "final": history.last}
    space.metadata = made_here(facts)
    return space, history


def _finish(space: AESpace, labels: np.ndarray, channels: Tensor) -> None:
    """What use needs: statistics of clean maps, codes in the basis of the axes that carry the shape, and their spread.

    Args:
        labels: the training maps, integers of the scheme
        channels: the same as channel numbers
    """
    measure_statistics(space.model, channels)
    space.set_training_codes(space.encode(labels))
    if space.config.principal_axes:
        rotate_to_principal_axes(space.model, space.fitted("training_codes"))
        space.axes = shape_axes(space.encode(labels), channels.numpy(), space.config.n_classes)
        space.set_training_codes(space.encode(labels))


def _start_from(model: Autoencoder, space: AESpace) -> None:
    """Copy the weights of a trained space into a model of the same shape."""
    wanted, found = ({k: v.shape for k, v in m.state_dict().items()} for m in (model, space.model))
    must(wanted == found, "init", f"a space with {space.config}", f"one whose layers fit {model.config}")
    model.load_state_dict(space.model.state_dict())


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Context after which the weights and statistics of a model are what they were before."""
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    yield
    model.load_state_dict(kept)


def measure_statistics(
    model: nn.Module,
    maps: Tensor,
    batch: int = 16,
    at_most: int = 512,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Set the batch normalisation's means and variances to those of clean label maps (N, X, Y, Z), in place.

    The average over batches, as they come, of up to `at_most` maps spread evenly over all.

    Args:
        maps: channel numbers
        prepare: what of them (or of something else) the model reads; None: their one-hot maps
    """
    prepare = prepare or (lambda part: onehot(part, model.config.n_classes))  # type: ignore[union-attr, arg-type]  # an Autoencoder's
    device = next(model.parameters()).device
    chosen = maps[torch.linspace(0, len(maps) - 1, min(len(maps), at_most)).round().long()]
    parts = torch.tensor_split(chosen, -(-len(chosen) // batch))
    with autocast(device):
        update_bn((prepare(part.to(device)) for part in parts), model)
    model.eval()


@torch.no_grad()
def rotate_to_principal_axes(model: Autoencoder, codes: np.ndarray) -> None:
    """Turn the code space so that `codes` (N, d) become uncorrelated, sorted by variance, in place.

    With z' = U^T z: the encoder's linear layer becomes U^T W, U^T b and the decoder's W' U, which cancels. Signs: the
    entry of largest size in each axis is positive.
    """
    centred = np.asarray(codes, np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    turn = torch.from_numpy(np.ascontiguousarray(principal_axes(centred.T @ centred))).to(model.to_code.weight.device)
    for layer, weight in (
        (model.to_code, turn.T @ model.to_code.weight.double()),
        (model.from_code, model.from_code.weight.double() @ turn),
    ):
        layer.weight.copy_(weight)
    model.to_code.bias.copy_(turn.T @ model.to_code.bias.double())


# ---------------------------------------------------------------------------------------------------------- the space


class AESpace(NetworkSpace):
    """The shape space of an autoencoder: label maps <-> 64 codes (a `shapelab.spaces.ShapeSpace`).

    >>> space = AESpace(AEConfig.profile("quick")).fit(labels)       # doctest: +SKIP
    >>> codes = space.encode(labels)                                  # (N, 64)      doctest: +SKIP
    >>> probabilities = space.decode(codes[0])                        # (1, C, X, Y, Z)      doctest: +SKIP

    Attributes: `config`, `grid`, `scheme`, `n_codes`, `model`, `mean` and `sigma` (of the training codes), `metadata`
    (data, seed, versions), `history` (after `fit`).
    """

    config: AEConfig
    model: Autoencoder

    def __init__(
        self,
        config: AEConfig | None = None,
        scheme: LabelScheme = CARDIAC,
        *,
        seed: int = 0,
        model: Autoencoder | None = None,
    ) -> None:
        super().__init__(config or AEConfig.profile(n_classes=scheme.n_classes), scheme, model)
        self.seed, self.history = seed, History()

    def fit(
        self,
        labels: np.ndarray,
        run: Run | None = None,
        *,
        init: AESpace | str | Path | None = None,
        validation: np.ndarray | None = None,
        data: str = "",
    ) -> AESpace:
        """Train on label maps (N, X, Y, Z); run (None: with the space's seed) and the rest as `train_autoencoder`'s."""
        run = run or Run(seed=self.seed)
        space, history = train_autoencoder(
            labels, self.config, run, scheme=self.scheme, init=init, validation=validation, data=data
        )
        self.__dict__.update(space.__dict__, seed=self.seed, history=history)
        return self

    @classmethod
    def rebuilt(cls, text: Mapping[str, Any]) -> AESpace:
        config = AEConfig(**text["config"])
        space = cls(config, scheme_of(text["scheme"]), model=Autoencoder(config))
        space.metadata = text.get("metadata", {})
        return space
