"""Segmentation at a scan's native slices: a 2-D U-Net that also sees the neighbouring slices.

The grids of the ACNN work need to know where the heart is and how it lies. A scan from the clinic says neither, so
this network takes slices as they come, at one in-plane spacing, and finds the heart by itself in two passes: a wide
field about the middle of the image, then a closer one about the heart it found.

Not from the paper. Choices are for a small computer: full resolution is folded into channels at once (2 x 2 pixels, as
the sub-pixel layer of ACNN's Fig. 2 the other way round), so that every convolution works at half resolution or less;
on one core a training step takes 16 ms a slice of 112 x 112, against 30 ms for a plain U-Net of equal size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapelab.data.geometry import bounding_box, components, largest_component
from shapelab.data.grid import Grid, from_grid, to_grid, to_unit_range
from shapelab.data.orientation import Orientation, is_short_axis, orientation_of
from shapelab.data.scheme import CARDIAC, LV, VENTRICLES, LabelScheme
from shapelab.data.subject import Subject
from shapelab.data.volumes import SliceData, neighbours
from shapelab.device import autocast, laid_out, sent, without_autocast
from shapelab.errors import must
from shapelab.models.acnn.baselines import conv2d
from shapelab.phantoms.randomise import Randomisation, randomise
from shapelab.spaces.kept import NETWORK, Kept, scheme_of, scheme_text
from shapelab.tensor_files import checksum
from shapelab.training import Batches, Config, FitSettings, History, Run, fit, numbers_of, seeded
from shapelab.training.losses import cross_entropy, soft_dice_loss
from shapelab.types import Triple

MUCH_RV = 0.6  # of the LV's volume; no stack that lay the wrong way showed so much
LARGER = {"widths": (64, 128, 192, 256), "slices": 600_000, "hearts": 2000}  # than "quick"


@dataclass(frozen=True)
class NativeConfig(Config):
    """Numbers of the network and of its training."""

    # fmt: off
    spacing: float = 1.6             # mm, in plane; ACDC has 1.37 to 1.88, few below
    size: int = 112                  # pixels of a training image: 179 mm, room for the largest heart (150 mm)
    first: int = 160                 # pixels of the first pass: 256 mm about the image's middle
    second: int = 128                # pixels of the second, about the heart
    widths: tuple[int, ...] = (32, 64, 128, 160)   # channels at 1/2, 1/4, 1/8, 1/16
    n_classes: int = 4
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-5
    decay: str = "all"  # what it is of: see `shapelab.training.decay`
    slices: int = 36_000  # training images, each drawn anew
    hearts: int = 500  # phantom patients, ED and ES each
    strength: Randomisation = field(default_factory=Randomisation)
    # fmt: on

    PROFILES = {"full": LARGER, "paper": LARGER}

    def __post_init__(self) -> None:
        super().__post_init__()
        step = 2 ** len(self.widths)
        for name in ("size", "first", "second"):
            must(
                not getattr(self, name) % step and getattr(self, name) >= 1,
                "NativeConfig",
                f"{name}={getattr(self, name)}",
                f"a multiple of {step}",
            )


class NativeNet(nn.Module):
    """(N, 3, X, Y) slice above, slice, slice below in [0, 1] -> logits (N, n_classes, X, Y). X, Y multiples of 16."""

    def __init__(self, config: NativeConfig) -> None:
        super().__init__()
        self.config = config
        w = config.widths
        self.down = nn.ModuleList(_block(i, o) for i, o in zip((3 * 4, *w), w))
        self.up = nn.ModuleList(_block(w[k] + w[k - 1], w[k - 1]) for k in range(len(w) - 1, 0, -1))
        self.out = nn.Conv2d(w[0], 4 * config.n_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)  # (N, 12, X / 2, Y / 2)
        passed = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            passed.append(x)
        passed.pop()
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2), passed.pop()], 1))
        return F.pixel_shuffle(self.out(x), 2)


def _block(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(*conv2d(n_in, n_out), *conv2d(n_out, n_out))


# ------------------------------------------------------------------------------------------------------------ training


def train_native(
    data: SliceData,
    config: NativeConfig | None = None,
    run: Run | None = None,
    *,
    stack_loss: Callable[[Tensor, Tensor, float], Tensor] | None = None,
    whole_stacks: bool = False,
    about: str = "",
) -> tuple[NativeSegmenter, History]:
    """Train the network on slices, each randomised anew (`shapelab.phantoms.randomise`), and return it.

    Args:
        data: slices with their labels
        config: numbers; `config.slices` images are shown in all; None takes the current profile's
        run: where it is kept, seed (of weights, order, looks), device: see `shapelab.training.Run`
        stack_loss: (logits (Z, C, X, Y), labels (Z, X, Y), slice distance in mm) of one stack -> a further term,
            weighted; its mean over the batch's stacks is added. Needs `whole_stacks`
        whole_stacks: batches are stacks, about `config.batch` slices, each stack moved as one; else slices of many
            stacks
        about: where the data are from; kept beside the weights

    The loss is cross-entropy + soft Dice, the latter over the whole batch, since many slices lack a structure.
    """
    config, run = config or NativeConfig.profile(), run or Run()
    network = laid_out(seeded(lambda: NativeNet(config), run.seed), torch.channels_last)
    epochs = max(1, round(config.slices / len(data)))
    must(stack_loss is None or whole_stacks, "train_native", "stack_loss without whole_stacks", "both")
    batches = Batches(
        np.arange(len(data.distances) if whole_stacks else len(data)),
        seed=run.seed,
        batch_size=max(1, round(config.batch * len(data.distances) / len(data))) if whole_stacks else config.batch,
    )
    target, held = run.target, data.on(run.target)

    def step(rows: np.ndarray) -> dict[str, Tensor]:
        if whole_stacks:
            rows = np.concatenate([np.flatnonzero(data.stack == s) for s in rows])
        numbers = torch.from_numpy(data.stack[rows])
        images, tissues = (sent(t, target) for t in held.take(rows))
        drawn = int(torch.randint(2**31, (1,)))
        with torch.no_grad(), without_autocast(target):
            images, labels = randomise(
                images, tissues, config.spacing, config.size, config.strength, drawn, numbers if whole_stacks else None
            )
        labels[labels >= config.n_classes] = 0  # the RV's wall is background
        logits = network(images).float()
        whole = logits.transpose(0, 1).flatten(1)[None, :, :, None]  # the batch as one image
        losses = {"ce": cross_entropy(logits, labels), "dice": soft_dice_loss(whole, labels.view(1, -1, 1))}
        if stack_loss is not None:
            # stack -> its slices in the batch
            of = {int(s): sent((numbers == s).nonzero()[:, 0], target) for s in numbers.unique()}
            terms = [stack_loss(logits[o], labels[o], float(data.distances[s])) for s, o in of.items()]
            losses["prior"] = torch.stack(terms).mean()
        return losses

    history = fit(
        step,
        network,
        batches.rows,
        epochs,
        settings=FitSettings(
            config.learning_rate, "one-cycle", weight_decay=config.weight_decay, decay=config.decay, clip=5.0
        ),
        run=run.about(
            {
                "config": numbers_of(config),
                "data": checksum({"i": data.images, "t": data.tissues}),
                "stacks": whole_stacks,
                "prior": stack_loss is not None,
            }
        ),
    )
    return NativeSegmenter(network, config, metadata={"data": about, "epochs": epochs, "slices": len(data)}), history


# ----------------------------------------------------------------------------------------------------------- inference


class NativeSegmenter(Kept):
    """A trained network and how it is used on a scan: two passes, the largest piece of each structure, own voxels."""

    FILE = NETWORK

    def __init__(
        self,
        network: NativeNet,
        config: NativeConfig,
        scheme: LabelScheme = CARDIAC,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        must(
            scheme.n_classes == config.n_classes,
            "NativeSegmenter",
            f"scheme {scheme.name!r} of {scheme.n_classes} classes",
            f"{config.n_classes}, as the network has",
        )
        self.network, self.config, self.scheme, self.metadata = network, config, scheme, dict(metadata or {})

    @torch.inference_mode()
    def probabilities(self, image: np.ndarray, distance_mm: float, turns: tuple[float, ...] = (0.0,)) -> np.ndarray:
        """Probabilities (C, X, Y, Z) float32 of a stack (X, Y, Z) in [0, 1] at the network's in-plane spacing.

        Args:
            distance_mm: of the slices
            turns: degrees; the mean over the stack turned by each
        """
        rows = neighbours(image.shape[2], distance_mm)
        device = next(self.network.parameters()).device
        slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, 2, 0), dtype=np.float32)).to(device)
        slices = torch.cat([slices, torch.zeros_like(slices[:1])])  # row -1: no neighbour
        stack = slices[torch.from_numpy(rows)]
        self.network.eval()
        total = torch.zeros((), device=device)
        for turn in turns:
            with autocast(device):
                logits = self.network(turned(stack, turn))
            total = total + turned(logits.float().softmax(1), -turn)
        return np.ascontiguousarray((total / len(turns)).permute(1, 2, 3, 0).cpu().numpy())

    def predict(self, image: np.ndarray, spacing: Triple, turns: tuple[float, ...] = (-12.0, 0.0, 12.0)) -> np.ndarray:
        """Label map (X, Y, Z) uint8, integers of the scheme, of a short-axis stack in its own voxels.

        Args:
            image: (X, Y, Z) intensities of any unit, slices along the last axis
            spacing: (3,) mm
            turns: see `probabilities`; the second pass alone

        Returns:
            a label map; empty where no heart was found
        """
        image = np.asarray(image, dtype=np.float32)
        spacing = np.asarray(spacing, dtype=float)
        subject = Subject("scan", self.scheme, image=image, affine=np.diag([*spacing, 1.0]))
        middle = (np.array(image.shape) - 1) / 2 * spacing
        label = self._one_pass(subject, middle, self.config.first, (0.0,))
        place = heart_centre(label, spacing)
        if place is None:
            return label
        return self._one_pass(subject, [*place, middle[2]], self.config.second, turns)

    def _one_pass(self, subject: Subject, middle: Triple, pixels: int, turns: tuple[float, ...]) -> np.ndarray:
        """Label map on the scan's own voxels."""
        dz = float(subject.spacing[2])
        grid = Grid((pixels, pixels, subject.shape[2]), (self.config.spacing, self.config.spacing, dz))
        sample = to_grid(subject, grid, centre=middle)
        assert sample.image is not None  # the subject has one
        soft = self.probabilities(to_unit_range(sample.image), dz, turns)
        return keep_largest(from_grid(soft, sample.transform))

    def description(self) -> dict[str, Any]:
        return {"config": numbers_of(self.config), "scheme": scheme_text(self.scheme), "metadata": self.metadata}

    def tensors(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    @classmethod
    def rebuilt(cls, text: Mapping[str, Any]) -> NativeSegmenter:
        config = NativeConfig(**text["config"])
        return cls(NativeNet(config), config, scheme_of(text["scheme"]), text.get("metadata", {}))

    def restore(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        self.network.load_state_dict(tensors)
        laid_out(self.network.to(device), torch.channels_last).eval()


class Segmenter(Protocol):
    """What makes a label map of a short-axis stack whose slices lie along the last axis."""

    scheme: LabelScheme

    def predict(self, image: np.ndarray, spacing: Triple) -> np.ndarray: ...


def segment(segmenter: Segmenter, subject: Subject) -> tuple[np.ndarray, Orientation]:
    """The label map of a subject's image, whatever its voxel order, and how the file's order becomes the one in which
    the heart was found: RV to the left, base first, as in ACDC.

    An image does not say where the RV is, and affines differ by half a turn between what scanners and what data sets
    write; so a stack is also tried turned by 180 degrees in its plane, and the way that shows more RV beside the LV is
    taken (right for all of 54 ACDC stacks and 24 phantoms; the wrong way showed .53 of the LV at most).

    Args:
        segmenter: as in ACDC, it knows the RV to the left of the picture
        subject: with an image

    Returns:
        the label map in the file's order, and the orientation; its `assumed` says what could not be told
    """
    scheme, scan = segmenter.scheme, subject.image
    must(scan is not None, subject.where, "no image", "one to segment")
    assert scan is not None
    turn = orientation_of(subject.affine, scan.shape, is_short_axis(scheme))
    spacing = turn.per_axis(subject.spacing)
    rv, lv = scheme.labels_of(VENTRICLES[2]), scheme.labels_of(*LV)

    def shown(way: Orientation) -> tuple[float, np.ndarray, list[warnings.WarningMessage]]:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            label = segmenter.predict(np.ascontiguousarray(way.canonical(scan)), spacing)
        return np.isin(label, rv).sum() / max(1, np.isin(label, lv).sum()), way.back(label), said

    share, label, said = shown(turn)
    if share < MUCH_RV:
        other = turn.half_turned()
        share_there, label_there, said_there = shown(other)
        if share_there > share:
            seen = "slices are turned by 180 degrees in their plane: so the network sees more of an RV"
            turn, label, said = replace(other, assumed=(*turn.assumed, seen)), label_there, said_there
    for warning in said:  # of the way that was taken alone
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return np.ascontiguousarray(label), turn.from_base(label, lv)


def turned(stack: Tensor, degrees: float) -> Tensor:
    """Images (N, C, X, Y) rotated about their middle, linear, zeros outside."""
    if degrees == 0:
        return stack
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = torch.tensor([[[c, -s, 0], [s, c, 0]]], dtype=stack.dtype, device=stack.device)
    where = F.affine_grid(matrix.expand(len(stack), -1, -1), list(stack.shape), align_corners=False)
    return F.grid_sample(stack, where, mode="bilinear", padding_mode="zeros", align_corners=False)


def heart_centre(label: np.ndarray, spacing: Triple) -> np.ndarray | None:
    """In-plane centre (x, y) mm of the box of a label map's structures; None where it is empty."""
    box = bounding_box(np.any(label, 2))
    return None if box is None else np.array([s.start + s.stop - 1 for s in box]) / 2 * np.asarray(spacing)[:2]


def keep_largest(label: np.ndarray) -> np.ndarray:
    """Keep the largest piece of the LV (cavity and wall together), and of the RV the largest and what in a slice is at
    least a fifth of it; the rest becomes background. Pieces touch along edges and corners, through the plane too.

    Args:
        label: (X, Y, Z) integers of CARDIAC
    """
    out = label.copy()
    out[(label >= 2) & ~largest_component(label >= 2)] = 0
    pieces, size = components(label == 1)
    out[(label == 1) & (size < 0.2 * size.max())[pieces]] = 0
    return out
