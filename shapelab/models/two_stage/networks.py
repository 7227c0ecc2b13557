"""Net1 and Net2 of "A two-stage 3D Unet framework for multi-class segmentation on full resolution image" (Wang,
MacGillivray, Macnaught, Yang, Newby; arXiv 1804.04341, 2018), read beside its section 2.1 and Fig. 1.

    Net1    the whole scan on coarse voxels -> where the heart is, and roughly what is what. A 3-D U-Net of dilated
            5 x 5 x 5 convolutions, zero padding.
    Net2    K slices at full resolution, Net1's probabilities beside the image -> labels of the middle slice. 3-D on the
            way down, pooled in plane alone; a slice-wise block takes K slices to one; 2-D on the way up.

Each has 23 convolutions in the paper's profile: 8 down, 2 at the bottom, 4 that follow an upsampling, 8 up, 1 out.

Deviations (what the text leaves open, or what cannot be done to the letter):
    Padding through plane: "no zero-paddings": eight unpadded 3 x 3 x 3 convolutions would eat 16 of 9 slices. Those on
        the way down are padded, and the slice-wise block alone takes slices away.
    Slice-wise block: 1 x 1 x (K - 1) leaves two slices of K. A second convolution, 1 x 1 x 2, leaves one; they are the
        two at the bottom.
    Several slices at once: K + n - 1 slices give n labelled ones; they share the way down, as a fully convolutional
        network does. With n = 1 it is the paper's. A skip takes the middle slices.
    Input of Net2: "two-channel 4D volume" of label map and image has no gradient for Net1 in step 3. Net1's
        probabilities and the image are C + 1 channels.
    Normalisation: none is named; without it neither net leaves the background in the time that a course has (notebook
        09 shows the curves). Net1 normalises each channel of a volume by itself before each ReLU ("instance"), Net2 all
        channels together ("group"): a slab does not hold every structure, and of a channel that tells of one that is
        not there the former makes much noise. "relu" is the text's, "selu" the self-normalising one of its abstract,
        "batch" that of short-axis stacks.
    Dropout: .2 in the paper's profile. With 8 channels at the first scale it keeps Net2 below Net1: 0 in the others.
    Skip over all: Net2 adds to the logarithm of Net1's probabilities, as residual super-resolution nets add to their
        input (the text: SRCNN "with skip connections"). Without it hundreds of batches go into learning to repeat them.
    Dilation: at the bottom, and after upsampling, none is stated: 1. Widths are not stated: each scale has twice the
        channels of the one above.
    Recursive units: the second convolution of each block of Net2 is applied `recurrent` times with the same weights,
        its input added before the activation.
    Quick, full: fewer scales and channels, and 2 x 2 pixels of full resolution are folded into channels at Net2's door
        and unfolded behind its last convolution (`fold`, as in `shapelab.models.native`): half the time at equal
        parameters.
    Short-axis stacks have slices of 10 mm: kernels see one slice, and K slices are channels of the first convolution
        (`merge`; where they meet at the bottom alone, as in the text, real hearts came out with a Dice of .888, and of
        .910 by a 2-D net that sees them at the door). Their Net1 does not pool through plane, and a share of the
        samples is learned from without it (`hidden`), since it knows the hearts that it was trained on too well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapelab.augment import AffineRanges, ElasticRanges
from shapelab.device import laid_out
from shapelab.errors import in_range, must, one_of
from shapelab.phantoms.randomise import Randomisation
from shapelab.profiles import current_profile, limited
from shapelab.training import Config
from shapelab.types import Shape3

LEAST = 1e-3  # probability of Net1 that is taken for possible
UNITS = ("group", "instance", "batch", "relu", "selu")
MERGES = ("bottom", "door")
STEPS = 4


@dataclass(frozen=True)
class TwoStageConfig(Config):
    """Numbers of both nets and of their training; the defaults are whole hearts' in the quick profile."""

    # fmt: off
    n_classes: int = 8                                      # background and seven structures
    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5)   # mm, full resolution; 0: as far apart as the slices are
    factor: tuple[int, int, int] = (4, 4, 4)                # full voxels along the edges of a coarse one (paper: 3 mm)
    stages: int = 2                                         # 1: Net2 alone, of the image alone, whole slices
    units1: str = "instance"                                # what follows a convolution of Net1, one of `UNITS`
    units2: str = "group"                                   # ... of Net2
    dropout: float = 0.0                                    # after each block (paper: .2)
    width1: int = 8                                         # channels of Net1's first scale
    dilation: tuple[int, ...] = (2, 4, 6)                   # 2n in block n
    kernel1: tuple[int, int, int] = (5, 5, 5)
    pool1: tuple[int, int, int] = (2, 2, 2)
    width2: int = 16                                        # channels of Net2's first scale
    levels2: int = 3
    kernel2: tuple[int, int, int] = (3, 3, 3)               # on the way down
    kernel2_up: int = 5                                     # in plane, on the way up
    recurrent: int = 2                                      # times that a recursive unit is applied
    skip_all: bool = True                                   # Net2 adds to the logarithm of Net1's probabilities
    fold: int = 2                                           # pixels in plane folded into channels, along each axis
    deep: int = 0                                           # coarser scales that are supervised too
    slices: int = 9                                         # K
    merge: str = "bottom"                                   # where K slices become one: there, or at the "door"
    hidden: float = 0.0                                     # share of the samples that Net2 learns from without Net1
    outputs: int = 8                                        # slices that are labelled at once
    margin_mm: float = 12.0                                 # about what Net1 finds
    steps: tuple[int, int, int, int] = (100, 2000, 300, 1200)  # batches of each step; 0 leaves it out
    batch: tuple[int, int] = (2, 1)                         # volumes of a batch in steps 1 and 2, in 3 and 4
    sides: tuple[int, ...] = (64, 80, 96)                   # voxels of a sub-volume along each axis (paper: 64/128/256)
    rates: tuple[float, float, float, float] = (3e-3, 3e-3, 1e-3, 2e-3)  # of each step (the paper: 1e-4)
    weight_decay: float = 1e-5
    cross_entropy: float = 1.0                              # its weight beside Dice
    unet_mm: float = 2.0                                    # voxels of the 3-D U-Net that both are compared with
    unet_width: int = 8                                     # channels of its first scale
    unet_levels: int = 4
    every: int = 200                                        # batches in a row of the history
    affine: AffineRanges = field(default_factory=lambda: AffineRanges((10, 10, 10), 0.1, 0.05, 0.05, (10, 10, 10)))
    elastic: ElasticRanges | None = field(default_factory=ElasticRanges)
    looks: Randomisation | None = None                      # of short-axis stacks
    field: int = 160                                        # pixels in plane that Net1 sees of a stack
    window: int = 96                                        # ... and Net2
    # fmt: on

    PROFILES = {
        "full": {"width1": 12, "width2": 24, "steps": (600, 6000, 2000, 8000)},
        "paper": {  # section 2.3: 200 epochs of 16 in each step, at 3 mm and at full resolution
            "factor": (6, 6, 6),
            "spacing": (0.5, 0.5, 0.5),
            "width1": 16,
            "width2": 16,
            "levels2": 4,
            "fold": 1,
            "dropout": 0.2,
            "dilation": (2, 4, 6, 8),
            "outputs": 1,
            "sides": (64, 128, 256),
            "steps": (3200, 3200, 3200, 3200),
            "batch": (1, 1),
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("TwoStageConfig.units1", self.units1, UNITS)
        one_of("TwoStageConfig.units2", self.units2, UNITS)
        one_of("TwoStageConfig.stages", self.stages, (1, 2))
        one_of("TwoStageConfig.merge", self.merge, MERGES)
        in_range("TwoStageConfig.hidden", self.hidden, 0, 1)
        must(
            self.slices % 2 == 1 and self.slices >= 3,
            "TwoStageConfig.slices",
            self.slices,
            "an odd number from 3: the one in the middle is labelled",
        )
        must(
            len(self.steps) == len(self.rates) == STEPS and min(self.steps) >= 0 and sum(self.steps) > 0,
            "TwoStageConfig.steps",
            f"{self.steps} at the rates {self.rates}",
            f"{STEPS} numbers from 0 each, at least one above",
        )
        must(
            self.field % self.fold == self.window % self.fold == 0,
            "TwoStageConfig",
            f"field {self.field}, window {self.window}",
            f"multiples of fold {self.fold}",
        )

    @property
    def inputs2(self) -> int:
        """Channels of Net2's input."""
        return 1 + (self.n_classes if self.stages == 2 else 0)


def short_axis_config(profile: str | None = None, **changes: Any) -> TwoStageConfig:
    """The numbers for short-axis stacks, some of them changed by name."""
    numbers: dict[str, Any] = {
        "n_classes": 4,
        "spacing": (1.5, 1.5, 0.0),
        "factor": (4, 4, 1),
        "units1": "batch",
        "units2": "batch",
        "dropout": 0.0,
        "width1": 12,
        "dilation": (2, 4),
        "kernel1": (5, 5, 3),
        "pool1": (2, 2, 1),
        "width2": 24,
        "levels2": 3,
        "kernel2": (3, 3, 1),
        "kernel2_up": 3,
        "recurrent": 1,
        "skip_all": False,
        "fold": 2,
        "deep": 2,
        "slices": 3,
        "merge": "door",
        "hidden": 0.25,
        "outputs": 6,
        "batch": (4, 6),
        "steps": (100, 500, 200, 2000),
        "rates": (3e-3, 3e-3, 2e-3, 3e-3),
        "margin_mm": 20.0,
        "elastic": None,
        "looks": Randomisation(missing=0.0),
    }
    profile = current_profile(profile)
    if profile != "quick":
        numbers |= {"width1": 24, "width2": 48, "steps": (500, 2500, 1000, 20000), "batch": (8, 12)}
    held = {name: limited(value, name, profile) for name, value in numbers.items()}
    return TwoStageConfig.profile(profile, **{**held, **changes})


# -------------------------------------------------------------------------------------------------------- the networks


class Convolution(nn.Conv3d):
    """A dilated one is learned from on a CPU as the plain one that it is for every d-th voxel: there the gradient of
    dilated weights takes four times as long. Not where a kernel is wider than those voxels: see `training.exact`."""

    def forward(self, x: Tensor) -> Tensor:
        step = self.dilation
        fits = all(n % d == 0 and n >= d * k for n, d, k in zip(x.shape[2:], step, self.kernel_size))
        if max(step) == 1 or not (fits and torch.is_grad_enabled() and x.device.type == "cpu"):
            return super().forward(x)
        (n, c, z, h, w), (dz, dx, dy) = x.shape, step
        apart = x.permute(0, 2, 3, 4, 1).reshape(n, z // dz, dz, h // dx, dx, w // dy, dy, c)
        apart = apart.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(0, 3).permute(0, 4, 1, 2, 3)
        assert not isinstance(self.padding, str)
        pads = [p // d for p, d in zip(self.padding, step)]
        made = F.conv3d(apart, self.weight, self.bias, padding=pads)  # (n dz dx dy, channels, z / dz, h / dx, w / dy)
        made = made.permute(0, 2, 3, 4, 1).unflatten(0, (n, *step)).permute(0, 4, 1, 5, 2, 6, 3, 7)
        return made.reshape(n, z, h, w, -1).permute(0, 4, 1, 2, 3)


class InstanceNorm(nn.InstanceNorm3d):
    """Instance normalisation, each volume by itself as a batch of one: what lies channels last stays so, while torch's
    own copies it there and back."""

    def forward(self, x: Tensor) -> Tensor:
        parts = [F.batch_norm(one, None, None, self.weight, self.bias, True, eps=self.eps) for one in x.split(1)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


class Unit(nn.Module):
    """A convolution and what follows it. Tensors are (N, C, Z, X, Y): slices first, so that planes lie in memory as
    wholes; kernels are given as (x, y, z)."""

    def __init__(
        self, n_in: int, n_out: int, kernel: Shape3, units: str, dilation: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        kx, ky, kz = kernel
        sizes = (kz, kx, ky)
        dz, dx, dy = (dilation if k > 1 else 1 for k in sizes)
        pads = (dz * (kz - 1) // 2, dx * (kx - 1) // 2, dy * (ky - 1) // 2) if padded else (0, 0, 0)
        norms: dict[str, Callable[[int], nn.Module]] = {
            "group": partial(nn.GroupNorm, 1),
            "instance": partial(InstanceNorm, affine=True),
            "batch": nn.BatchNorm3d,
        }
        normal = units in norms
        self.conv = Convolution(n_in, n_out, sizes, padding=pads, dilation=(dz, dx, dy), bias=not normal)
        self.norm = norms[units](n_out) if normal else nn.Identity()
        self.act: nn.Module = nn.SELU() if units == "selu" else nn.ReLU(inplace=True)
        if units == "selu":  # what keeps mean 0 and variance 1 (Klambauer et al., NeurIPS 2017)
            nn.init.kaiming_normal_(self.conv.weight, nonlinearity="linear")

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        x = self.conv(x)
        if not (isinstance(self.norm, nn.InstanceNorm3d) and x.shape[2:].numel() == 1):  # one voxel has no spread
            x = self.norm(x)
        return self.act(x if plus is None else x + plus)


class Block(nn.Module):
    """Two convolutions and dropout; the second is applied `recurrent` times, if more than once as a recursive unit."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: Shape3,
        units: str,
        dropout: float,
        dilation: int = 1,
        recurrent: int = 1,
    ) -> None:
        super().__init__()
        self.first = Unit(n_in, n_out, kernel, units, dilation)
        self.second = Unit(n_out, n_out, kernel, units, dilation)
        self.drop = (nn.FeatureAlphaDropout if units == "selu" else nn.Dropout3d)(dropout)
        self.recurrent = recurrent

    def forward(self, x: Tensor) -> Tensor:
        start = x = self.first(x)
        for _ in range(self.recurrent):
            x = self.second(x, start if self.recurrent > 1 else None)
        return self.drop(x)


def _grown(x: Tensor, like: Tensor) -> Tensor:
    """Upsampled to the size of a skip."""
    return F.interpolate(x, size=like.shape[2:], mode="nearest")


class Net1(nn.Module):
    """(N, 1, X, Y, Z) coarse voxels in [-1, 1] -> logits (N, C, X, Y, Z). Shapes in the comments are the paper
    profile's at 96 x 80 x 96: channels (x, y, z)."""

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.dilation)
        w = [config.width1 * 2**level for level in range(levels + 1)]
        kernel, spread, like = config.kernel1, config.dilation, (config.units1, config.dropout)
        self.down = nn.ModuleList(
            Block(n_in, n, kernel, *like, d) for n_in, n, d in zip([1, *w], w[:-1], spread)
        )  # 16 (96, 80, 96), 32 (48, 40, 48), 64 (24, 20, 24), 128 (12, 10, 12)
        self.bottom = nn.ModuleList(Unit(n, w[-1], kernel, config.units1) for n in w[-2:])  # 256 (6, 5, 6)
        self.grow = nn.ModuleList(Unit(below, n, kernel, config.units1) for n, below in [*pairwise(w)][::-1])
        self.up = nn.ModuleList(Block(2 * n, n, kernel, *like, d) for n, d in [*zip(w, spread)][::-1])
        self.out = nn.Conv3d(w[0], config.n_classes, 1)
        laid_out(self, torch.channels_last_3d)

    def forward(self, x: Tensor) -> Tensor:
        px, py, pz = self.config.pool1
        x = x.permute(0, 1, 4, 2, 3).contiguous(memory_format=torch.channels_last_3d)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool3d(x, (pz, px, py), ceil_mode=True)
        for unit in self.bottom:
            x = unit(x)
        for grow, block in zip(self.grow, self.up):
            skip = skips.pop()
            x = block(torch.cat([grow(_grown(x, skip)), skip], 1))
        return self.out(x).permute(0, 1, 3, 4, 2)


class Net2(nn.Module):
    """(N, C + 1, X, Y, K + n - 1) -> logits (N, C, X, Y, n) of the slices in the middle. X, Y: multiples of `fold`.

    Shapes in the comments: the paper profile's for 256 x 256 x 9, channels (x, y, z).
    """

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__()
        self.config = config
        w = [config.width2 * 2**level for level in range(config.levels2 + 1)]
        first = config.inputs2 * config.fold**2 * (config.slices if config.merge == "door" else 1)
        folded, up, units = config.fold**2, (config.kernel2_up, config.kernel2_up, 1), config.units2
        like = (units, config.dropout, 1, config.recurrent)
        self.down = nn.ModuleList(
            Block(n_in, n, config.kernel2, *like) for n_in, n in zip([first, *w], w[:-1])
        )  # 16 (256, 256, 9), 32 (128, 128, 9), 64 (64, 64, 9), 128 (32, 32, 9)
        through = [(1, 1, config.slices - 1), (1, 1, 2)]  # 256 (16, 16, 2), 256 (16, 16, 1)
        self.flat = nn.ModuleList(
            Unit(n, w[-1], kernel, units, padded=False) if config.merge == "bottom" else Unit(n, w[-1], up, units)
            for n, kernel in zip(w[-2:], through, strict=True)
        )
        self.grow = nn.ModuleList(Unit(below, n, up, units) for n, below in [*pairwise(w)][::-1])
        self.up = nn.ModuleList(Block(2 * n, n, up, *like) for n in w[-2::-1])
        heads = w[: config.deep + 1]  # the finest first
        self.out = nn.ModuleList(nn.Conv3d(n, folded * config.n_classes, 1) for n in heads)
        laid_out(self, torch.channels_last_3d)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The logits; while training, of a config with `deep`, also those of the coarser scales, at full size."""
        size, half = x.shape[2:4], self.config.slices // 2
        coarse = x[:, : self.config.n_classes, :, :, half : x.shape[4] - half]
        x = x.permute(0, 1, 4, 2, 3)
        if self.config.merge == "door":
            x, half = x.unfold(2, self.config.slices, 1).permute(0, 1, 5, 2, 3, 4).flatten(1, 2), 0
        x = _folded(x, self.config.fold).contiguous(memory_format=torch.channels_last_3d)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x[:, :, half : x.shape[2] - half])
            x = F.max_pool3d(x, (1, 2, 2), ceil_mode=True)
        for unit in self.flat:
            x = unit(x)
        scales = []
        for grow, block in zip(self.grow, self.up):
            skip = skips.pop()
            x = block(torch.cat([grow(_grown(x, skip)), skip], 1))
            scales.append(x)
        wanted = scales[::-1][: len(self.out) if self.training else 1]
        made = [_unfolded(out(scale), self.config.fold) for out, scale in zip(self.out, wanted)]
        logits = tuple(_plane_sized(m, size).permute(0, 1, 3, 4, 2) for m in made)
        if self.config.skip_all and self.config.stages == 2:
            logits = tuple(scale + coarse.float().clamp(min=LEAST).log() for scale in logits)
        return logits if len(logits) > 1 else logits[0]


def _folded(x: Tensor, fold: int) -> Tensor:
    """(N, C, Z, X, Y) -> (N, fold^2 C, Z, X / fold, Y / fold)."""
    x = x.unflatten(4, (-1, fold)).unflatten(3, (-1, fold))  # (N, C, Z, x, fold, y, fold)
    return x.permute(0, 1, 4, 6, 2, 3, 5).flatten(1, 3)


def _unfolded(x: Tensor, fold: int) -> Tensor:
    """The other way round."""
    x = x.unflatten(1, (-1, fold, fold))  # (N, C, fold, fold, Z, x, y)
    return x.permute(0, 1, 4, 5, 2, 6, 3).flatten(5, 6).flatten(3, 4)


def _plane_sized(x: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, Z, x, y) logits of a coarser scale -> (N, C, Z, X, Y)."""
    if x.shape[3:] == tuple(size):
        return x
    return F.interpolate(x, size=(x.shape[2], *size), mode="trilinear", align_corners=False)


class TwoStageNet(nn.Module):
    """Both nets; of a config with one stage Net2 alone."""

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__()
        self.config = config
        self.net1 = Net1(config) if config.stages == 2 else None
        self.net2 = Net2(config)


# ------------------------------------------------------------------------------------------------- from coarse to fine


def coarse_image(image: Tensor, factor: Shape3) -> Tensor:
    """(N, 1, X, Y, Z) -> coarse voxels, each the mean of those it covers (fewer at the far ends)."""
    kernel = [min(f, n) for f, n in zip(factor, image.shape[2:], strict=True)]
    return F.avg_pool3d(image, kernel, ceil_mode=True, count_include_pad=False)


def full_sized(coarse: Tensor, factor: Shape3, box: Sequence[slice]) -> Tensor:
    """Coarse values (N, C, x, y, z) at the full-resolution voxels of a box, linear: (N, C, *box's size).

    Coarse voxel i covers the full voxels f i to f i + f - 1. Beyond the last coarse voxel's centre its value stays.

    Args:
        factor: full voxels along a coarse one
        box: of full voxels, start and stop given, inside what the coarse ones cover
    """
    part: list[slice] = []
    within: list[slice] = []
    for n, f, side in zip(coarse.shape[2:], factor, box, strict=True):
        low, high = max(0, side.start // f - 1), min(n, -(-side.stop // f) + 1)
        part.append(slice(low, high))
        within.append(slice(side.start - low * f, side.stop - low * f))
    x, y, z = part
    grown = coarse[:, :, x, y, z]
    if max(factor) > 1:
        scale = tuple(float(f) for f in factor)
        grown = F.interpolate(grown, scale_factor=scale, mode="trilinear", align_corners=False)
    x, y, z = within
    return grown[:, :, x, y, z]
