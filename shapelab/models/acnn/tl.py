"""The T-L network of the ACNN paper (Oktay et al., IEEE TMI 2018), sections II-D and III-B, Table IV and Fig. 3.

The autoencoder (f, g) knows shapes from label maps alone. A second network, the predictor p, reads the same code from
an image x. With h = f(y) the code of the image's label map y, two losses

    L_x = - mean over voxels of log softmax(g(f(y~)))[y]                (the autoencoder's, see `autoencoder.py`)
    L_h = mean over samples of || p(x) - f(y) ||^2                      (Euclidean distance of the codes)

train it in three stages: (1) the autoencoder alone, by L_x; (2) the predictor alone, by L_h, the encoder frozen;
(3) both in ONE update by L_x + w L_h, so that the encoder gets two gradients: the one asks for codes that can be
predicted from an image, the other keeps them able to rebuild the label map. Drawn with the label maps above and the
image below, the nets look like a T while training and like an L (image, predictor, decoder) in use: hence the name
(Girdhar et al., 2016).

What it is for: g(p(x)) is a rough segmentation (the paper: Dice .734), p compares the images of super-resolution
(equation 2), and p(x) says what is wrong with a heart from its image alone.

Deviations:
    Layers: as in `autoencoder.py`: convolution, batch normalisation, ReLU. "Each convolution layer, except the last
        one, is followed by batch-normalisation": the one to a single kernel at S4 has a bias instead, and a ReLU, as
        Table IV says.
    Stages: the paper counts two, ours 1 and 2 being its first, and goes on to the next "once the loss functions [...]
        converge"; here each has a fixed number of epochs.
    Optimiser: Adam is our choice, the supplement says "gradient descent" at a fixed 0.001. `quick` and `full` raise and
        lower the rate once a stage (one cycle) and start stage 3 at 0.0003; `paper` keeps 0.001 throughout.
    Intensities: the paper's images are "linearly intensity normalised"; ours are divided by the 99th percentile of what
        was scanned and clipped to [0, 1], with nothing clipped below (`shapelab.data.grid.unit_image`).
    Distance: that of the networks' own codes, as in the paper. The axes along which an autoencoder of the profiles
        "quick" and "full" gives its codes (`AESpace.axes`) are scaled by what moves the label maps of aligned hearts;
        hearts moved by augmentation differ in other directions, which those axes magnify. Four epochs of stage 2 gave a
        Dice of new hearts of .80, .80, .88 with the networks' codes, .76, .76, .86 with those of the rotated basis. So
        codes of a `TLSpace` are the networks', turned to the principal axes of the training codes in the end (which
        leaves distances alone).
    L_h in stage 3: "scaled to match their range" is read as w = L_x / L_h, both measured once over training pairs
        before the stage begins. A constant: a ratio followed from step to step would turn the sum into a product of the
        two. Nothing keeps L_h from falling by smaller codes, which the decoder scales up again: in the shipped run the
        codes shrank to a third and L_h to a tenth, while the share of the variance that is read from new images went
        from .86 to .88 and the Dice of g(p(x)) from .872 to .867. So look at shares; and mind the scale where codes are
        a loss (equation 2).
    Which code the predictor aims at: f(y) of the clean label map, also in stage 3, where L_x has swapped labels; the
        encoder runs twice there. In use it sees clean maps.
    Images: affine maps move image and label together. The paper adds "small Gaussian noise"; `noise` is its largest
        standard deviation. Gains, gammas and a bias field (`ContrastRanges`) are ours, for scanners that no phantom has
        met; so is `thick`: that share of the images goes through the acquisition of thick slices and linear
        interpolation back, as stacks of 10 mm come.
    Size in `quick`: the first convolution strides by (2, 2, 1) and kernels are halved (16, 32, 64, 128); 3 x 3 x 3
        cells at S4 get 8 channels, 216 numbers, to feed 64 codes. 10 ms a sample and training step on one thread, where
        Table IV as it stands takes 170.
    Start of the predictor: its last bias is the mean code. After training, the normalisation's statistics of both
        networks are measured anew on clean maps and images.
    Numbers: the predictor's last convolution and linear layer are computed in fp32, L_h as well.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shapelab.augment import swap_labels
from shapelab.data.placement import remembered
from shapelab.data.scheme import CARDIAC, LabelScheme
from shapelab.device import autocast, without_autocast
from shapelab.errors import must, need
from shapelab.models.acnn.autoencoder import (
    AEConfig,
    AESpace,
    Autoencoder,
    measure_statistics,
    train_autoencoder,
    unchanged,
)
from shapelab.models.acnn.predictor import (
    Predictor,
    PredictorConfig,
    augment_pairs,
    measure_image_statistics,
)
from shapelab.spaces.axes import principal_axes
from shapelab.spaces.contract import check_images
from shapelab.spaces.kept import TL, made_here, scheme_of
from shapelab.spaces.network_space import BATCH, NetworkSpace
from shapelab.tensor_files import checksum
from shapelab.training import Batches, FitSettings, History, Run, fit, seeded
from shapelab.training.loop import Step
from shapelab.training.losses import code_distance, cross_entropy, onehot

# ---------------------------------------------------------------------------------------------------------- the model


class TLNetwork(nn.Module):
    """Autoencoder and predictor with one code between them.

    Attributes:
        encode: one-hot maps or probabilities (N, C, X, Y, Z) -> codes (N, 64), f
        predict: images (N, X, Y, Z) -> codes (N, 64), p
        decode: codes -> logits (N, C, X, Y, Z), g
        forward: images -> logits, g(p(x))
    """

    def __init__(self, autoencoder: Autoencoder, predictor: Predictor) -> None:
        super().__init__()
        ours, theirs = predictor.config, autoencoder.config
        must(
            (ours.shape, ours.spacing, ours.code) == (theirs.shape, theirs.spacing, theirs.code),
            "TLNetwork",
            f"a predictor for {ours.grid} and {ours.code} codes, an autoencoder for {theirs.grid} and {theirs.code}",
            "the same",
        )
        self.autoencoder, self.predictor = autoencoder, predictor

    def encode(self, maps: Tensor) -> Tensor:
        return self.autoencoder.encode(maps)

    def predict(self, images: Tensor) -> Tensor:
        return self.predictor(images)

    def decode(self, codes: Tensor) -> Tensor:
        return self.autoencoder.decode(codes)

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.predict(images))


# ---------------------------------------------------------------------------------------------------------- training


@torch.no_grad()
def change_basis(network: TLNetwork, axes: np.ndarray) -> None:
    """Turn the code space to codes @ axes (d, d), in place: f and p give such codes, g takes them."""
    turn = torch.from_numpy(np.ascontiguousarray(axes, np.float64)).to(network.predictor.to_code.weight.device)
    for layer in (network.autoencoder.to_code, network.predictor.to_code):
        layer.weight.copy_(turn.T @ layer.weight.double())
        layer.bias.copy_(turn.T @ layer.bias.double())
    decoder = network.autoencoder.from_code
    decoder.weight.copy_(decoder.weight.double() @ torch.linalg.inv(turn).T)


def joint_losses(network: TLNetwork, images: Tensor, labels: Tensor, swapped: Tensor) -> tuple[Tensor, Tensor]:
    """L_x and L_h of one batch, both with gradients to the encoder: the step of stage 3.

    images (N, X, Y, Z), labels and labels with some swapped (N, X, Y, Z) channel numbers
    """
    n = network.autoencoder.config.n_classes
    logits = network.decode(network.encode(onehot(swapped, n)))  # g(f(y~))
    codes, predicted = network.encode(onehot(labels, n)), network.predict(images)  # f(y), p(x)
    return cross_entropy(logits, labels), distance(predicted, codes)


def distance(predicted: Tensor, codes: Tensor) -> Tensor:
    """L_h: mean over samples of the squared Euclidean distance of codes (N, d), in fp32."""
    with without_autocast(predicted.device):
        return code_distance(predicted, codes)


def train_tl_network(
    images: np.ndarray,
    labels: np.ndarray,
    config: PredictorConfig | None = None,
    run: Run | None = None,
    *,
    autoencoder: AESpace | AEConfig | None = None,
    scheme: LabelScheme = CARDIAC,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    data: str = "",
) -> tuple[TLSpace, History]:
    """Train autoencoder and predictor in the paper's three stages.

    Args:
        images: (N, X, Y, Z) floats in [0, 1] on the config's grid
        labels: (N, X, Y, Z) integers of `scheme`, the label maps of the images
        config: numbers of predictor and stages; None takes the current profile's
        run: where it is kept (each stage has a folder of its own in there), seed (of weights, order, augmentation),
            device: see `shapelab.training.Run`
        autoencoder: a trained space, which stands for stage 1 (it is copied, not changed); or the numbers of one, or
            None for the profile's, to train it here on the same label maps
        validation: (images, labels) of others; how well their codes and label maps are read goes into the history
        data: what the pairs are, in words; kept in the space's metadata

    Returns:
        A tuple of

        - space: `TLSpace`
        - history: a row an epoch of all stages: stage (1, 2, 3), loss, L_x and L_h where the stage has them, explained
          (share of the codes' variance that the predictor explains), and val explained, val dice
    """
    config, run = config or PredictorConfig.profile(), run or Run()
    rows: list[dict[str, float]] = []
    if isinstance(autoencoder, AESpace):
        shapes = copy.deepcopy(autoencoder)
    else:
        numbers = autoencoder or AEConfig.profile(
            n_classes=scheme.n_classes, shape=config.shape, spacing=config.spacing, code=config.code
        )
        shapes, first = train_autoencoder(labels, numbers, run.within("1-autoencoder"), scheme=scheme, data=data)
        rows += [{"stage": 1, **row, "L_x": row["loss"]} for row in first.rows]
    space = TLSpace(shapes, seeded(lambda: Predictor(config), run.seed))
    space.placement = remembered(labels) or shapes.placement
    space.model.to(run.target)
    stages = _Stages(space, images, labels, validation, run)
    for number, stage in ((2, stages.predictor), (3, stages.joint)):
        history = stage(run.within(f"{number}-{stage.__name__}"))
        rows += [{"stage": number, **row} for row in history.rows]
    stages.finish()
    history = History([{**row, "epoch": i} for i, row in enumerate(rows)], history.stopped)
    space.metadata = made_here(
        {
            "data": data,
            "n": len(labels),
            "labels": stages.identity["labels"],
            "seed": run.seed,
            "weight of L_h": stages.weight,
            "final": history.last,
            "autoencoder": shapes.metadata,
        }
    )
    return space, history


class _Stages:
    """Stages 2 and 3: what they share."""

    def __init__(
        self,
        space: TLSpace,
        images: np.ndarray,
        labels: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None,
        run: Run,
    ) -> None:
        self.space, self.network, self.config, self.seed = space, space.model, space.predictor.config, run.seed
        self.images, self.labels = space.check_images(images), space.check(labels)  # channel numbers from here on
        must(
            len(self.images) == len(self.labels),
            "train_tl_network",
            f"{len(self.images)} images and {len(self.labels)} label maps",
            "as many of both",
        )
        self.validation, self.device = validation, run.target
        space.axes = None
        codes = space.encode(labels)
        self.variance = float(codes.var(0).sum())
        with torch.no_grad():
            space.predictor.to_code.bias.copy_(torch.from_numpy(codes.mean(0)))
        self.identity = {
            "config": asdict(self.config),
            "autoencoder": asdict(self.network.autoencoder.config),
            "scheme": space.scheme.name,
            "images": checksum({"images": self.images}),
            "labels": checksum({"labels": self.labels}),
        }
        self.weight = float("nan")

    def _fit(self, step: Step, model: nn.Module, epochs: int, rate: float, run: Run) -> History:
        settings = FitSettings(learning_rate=rate, schedule=self.config.schedule, validate_every=max(1, epochs // 5))
        return fit(
            step,
            model,
            Batches(self.images, self.labels, batch_size=self.config.batch, seed=self.seed),
            epochs,
            settings=settings,
            validate=self._validate if self.validation is not None else None,
            run=run.about({**self.identity, "initial weights": checksum(self.network.state_dict())}),
        )

    def predictor(self, run: Run) -> History:
        """Stage 2: p learns to predict the codes of a frozen encoder."""
        encoder = self.network.autoencoder.eval().requires_grad_(False)

        def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            x, y = augment_pairs(*batch, self.config)
            with torch.no_grad():
                codes = encoder.encode(onehot(y, encoder.config.n_classes))  # h = f(y)
            loss = distance(self.network.predict(x), codes)  # L_h
            return {"loss": loss, "L_h": loss.detach(), "explained": 1 - loss.detach() / self.variance}

        history = self._fit(step, self.network.predictor, self.config.epochs, self.config.learning_rate, run)
        encoder.requires_grad_(True)
        return history

    def joint(self, run: Run) -> History:
        """Stage 3: L_x + w L_h in one update of all."""
        swap, n = self.network.autoencoder.config.swap, self.space.scheme.n_classes
        self.weight = self._weight()

        def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            x, y = augment_pairs(*batch, self.config)
            lx, lh = joint_losses(self.network, x, y, swap_labels(y, swap, n))
            return {
                "loss": lx + self.weight * lh,
                "L_x": lx.detach(),
                "L_h": lh.detach(),
                "explained": 1 - lh.detach() / self.variance,
            }

        return self._fit(step, self.network, self.config.joint_epochs, self.config.joint_learning_rate, run)

    @torch.no_grad()
    def _weight(self, at_most: int = 128) -> float:
        """w = L_x / L_h, both over training pairs as stage 3 will meet them."""
        rows = np.linspace(0, len(self.labels) - 1, min(len(self.labels), at_most)).round().astype(int)
        swap, n = self.network.autoencoder.config.swap, self.space.scheme.n_classes
        sums = torch.zeros(2)
        with unchanged(self.network), torch.random.fork_rng(devices=[]), autocast(self.device):
            torch.manual_seed(self.seed)
            self.network.train()  # swapped maps need the statistics of their own batch
            for part in np.array_split(rows, -(-len(rows) // self.config.batch)):
                x, y = (torch.from_numpy(a[part]).to(self.device) for a in (self.images, self.labels))
                x, y = augment_pairs(x, y, self.config)
                sums += torch.stack(joint_losses(self.network, x, y, swap_labels(y, swap, n))).cpu()
        return float(sums[0] / sums[1])

    def measure(self) -> None:
        """Statistics of the normalisation on clean maps and images."""
        measure_statistics(self.network.autoencoder, torch.from_numpy(self.labels))
        measure_image_statistics(self.network.predictor, torch.from_numpy(self.images))

    def _validate(self, _: nn.Module) -> dict[str, float]:
        assert self.validation is not None  # or it is not called
        images, labels = self.validation
        with unchanged(self.network):
            self.measure()
            aim, found = self.space.encode(labels), self.space.encode_images(images)
            dice = float(self.space.segmentation_dice(images, labels).mean())
        error = float(np.square(found - aim).sum(1).mean())
        return {"val explained": 1 - error / float(aim.var(0).sum()), "val dice": dice}

    def finish(self) -> None:
        """What use needs: statistics of clean data, principal axes and spread of the codes as they are now."""
        self.measure()
        labels = self.space.scheme.integers(self.labels)
        if self.network.autoencoder.config.principal_axes:
            change_basis(self.network, principal_axes(np.cov(np.asarray(self.space.encode(labels), np.float64).T)))
        self.space.set_training_codes(self.space.encode(labels))


# ---------------------------------------------------------------------------------------------------------- the space


class TLSpace(NetworkSpace):
    """The shape space of a T-L network: label maps <-> 64 codes, and images -> the same codes (a `ShapeSpace`).

    >>> space.encode_images(images)           # (N, 64), from (N, X, Y, Z) in [0, 1]          doctest: +SKIP
    >>> space.segment(images)                 # (N, X, Y, Z) label maps: predictor + decoder   doctest: +SKIP

    Attributes: `predictor`, `model` (predictor and autoencoder as one `TLNetwork`), `shapes` (the `AESpace` of its
    autoencoder), `grid`, `scheme`, `n_codes`, `mean`, `sigma` (of the training label maps' codes), `metadata`.
    """

    FILE = TL
    config: PredictorConfig
    model: TLNetwork

    def __init__(self, shapes: AESpace, predictor: Predictor) -> None:
        super().__init__(predictor.config, shapes.scheme, TLNetwork(shapes.fitted("model"), predictor))
        self.predictor = predictor
        self.share_basis(shapes)

    @property
    def shapes(self) -> AESpace:
        """The space of its autoencoder, with the same codes."""
        space = AESpace(self.model.autoencoder.config, self.scheme, model=self.model.autoencoder)
        space.share_basis(self)
        return space

    def check_images(self, images: np.ndarray) -> np.ndarray:
        """Images as finite floats (N, X, Y, Z) on the grid, in about [0, 1]; DataError on anything else."""
        images = check_images(images, self.grid)
        low, high = images.min(), images.max()
        need(
            -1 <= float(low) <= float(high) <= 4,
            "images",
            f"intensities from {low:g} to {high:g}",
            "about 0 to 1",
            "Divide each image by its 99th percentile.",
        )
        return images

    @torch.inference_mode()
    def encode_images(self, images: np.ndarray, batch: int = BATCH) -> np.ndarray:
        """Images (N, X, Y, Z), intensities in [0, 1] -> codes (N, d) float32: p, in fp32 on every machine."""
        x, model = torch.from_numpy(self.check_images(images)), self.predictor.eval()
        device = next(model.parameters()).device
        return torch.cat([model(part.to(device).float()) for part in x.split(batch)]).cpu().numpy()

    def segment(self, images: np.ndarray) -> np.ndarray:
        """Images (N, X, Y, Z) -> label maps (N, X, Y, Z), integers of the scheme: predictor and decoder, g(p(x))."""
        return self.label_maps(self.encode_images(images))

    def segmentation_dice(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Dice of `segment` with label maps (N, X, Y, Z), (N, C - 1): one column a structure."""
        return self.dice(self.segment(images), labels)

    def description(self) -> dict[str, Any]:
        return {**super().description(), "autoencoder": asdict(self.model.autoencoder.config)}

    @classmethod
    def rebuilt(cls, text: Mapping[str, Any]) -> TLSpace:
        config, numbers = PredictorConfig(**text["config"]), AEConfig(**text["autoencoder"])
        space = cls(AESpace(numbers, scheme_of(text["scheme"]), model=Autoencoder(numbers)), Predictor(config))
        space.metadata = text.get("metadata", {})
        return space
