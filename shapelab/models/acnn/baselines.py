"""What ACNN-Seg is compared with (Table I of the ACNN paper), each at the capacity that the table gives it.

Every network here maps a stack of thick slices to a segmentation of the fine (HR) grid, as `SubPixelNet` (3D-Seg)
does: (N, n_in, X, Y, Z) -> logits (N, n_out, X, Y, K Z). So one trainer, one loss and one test serve them all.

    FCN2D   2D-FCN: slice by slice (Tran, "A fully convolutional neural network for cardiac segmentation in short-axis
            MRI", arXiv 1604.00494). A slice's labels are repeated over the K fine slices it covers: blocky.
    UNet3D  3D-UNet (Cicek et al., MICCAI 2016) on the stack interpolated linearly to the HR grid.
    AESeg   AE-Seg, AE-Seg-M: a segmentation network and behind it a convolutional autoencoder that redraws its output
            (Ravishankar et al., "Learning and incorporating shape models for semantic segmentation", MICCAI 2017).

`build(method, config)` makes any of them by its name in Table I; `predictor + decoder` (the T-L network alone) needs
no network of its own.

Capacity:
    "The number of trainable parameters used in each model is kept fixed to avoid any bias" (section III-C), up to what
    Table I says. Widths are not told: `matched_widths` takes each architecture's own proportions and scales them until
    the parameters stand in Table I's ratio to those of 3D-Seg. In the paper profile that gives Table I's numbers; in
    the others, the same ratios.

Deviations:
    All: batch normalisation after each convolution but the last (Tran normalises each map of each image by its mean and
        variance; the U-Net has batch normalisation itself), no dropout (3D-Seg has none; Tran has two layers of it).
    FCN2D: four scales of 3, 4, 4, 4 convolutions, overlapping max-pooling, scores of three scales averaged, as Tran's
        code has it; learned upsampling with kernel 4 instead of 3 and a crop. What its 2D labels were trained on is not
        told; here the loss compares the repeated labels with the HR truth, as for all others.
    UNet3D: 2 x 2 x 2 max-pooling three times needs a number of slices that 8 divides; 60 and 36 are divided by 4 only,
        so the third pooling is in plane alone. How the paper brought 12 slices to a 3D U-Net's 60 is not told; here the
        LR stack is interpolated linearly, so that the network sees the HR grid from its first layer.
    AESeg: "cascaded 3D-UNet and convolutional AE" is what the text says, but 1.68 and 1.91 million parameters are those
        of 3D-Seg (1.60) and 8e4 (which the text names) or 3.1e5 more. So its first network is 3D-Seg's: what differs
        between 3D-Seg and AE-Seg is the autoencoder and nothing else. Ravishankar trains the shape block beforehand;
        here both are trained together from the start, with cross-entropy at both outputs (`CascadeLoss`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapelab.errors import must, one_of
from shapelab.models.acnn.autoencoder import conv, deconv
from shapelab.models.acnn.subpixel import SubPixelConfig, SubPixelNet, check_stack
from shapelab.training import seeded
from shapelab.training.losses import cross_entropy

#: Trainable parameters in Table I; the networks with motion augmentation or a prior are 3D-Seg's.
PAPER_PARAMETERS = {"2D-FCN": 1.39e6, "3D-Seg": 1.60e6, "3D-UNet": 1.64e6, "AE-Seg": 1.68e6, "AE-Seg-M": 1.91e6}


def build(method: str, config: SubPixelConfig | None = None, seed: int = 0) -> nn.Module:
    """The network of a method of Table I, with weights drawn from `seed`.

    Args:
        method: a key of `PAPER_PARAMETERS`
        config: grid, factor, channels in and out, and the widths of 3D-Seg, which set the capacity of all; None takes
            the current profile's

    Raises UsageError for another name, or a grid that the network's strides do not divide.
    """
    one_of("method", method, PAPER_PARAMETERS)
    config = config or SubPixelConfig.profile()
    return seeded(lambda: (SubPixelNet if method == "3D-Seg" else NETWORKS[method])(config), seed)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


# ------------------------------------------------------------------------------------------------------------ 2D-FCN


def conv2d(n_in: int, n_out: int) -> nn.Sequential:
    """3 x 3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


class FCN2D(nn.Module):
    """2D-FCN: 15 convolutions at four scales, scores of three scales averaged on the way up (Tran 2016).

    (N, n_in, X, Y, Z) -> (N, n_out, X, Y, K Z); no slice knows of another. Shapes in the comments are one slice's.
    """

    METHOD = "2D-FCN"

    def __init__(self, config: SubPixelConfig, widths: Sequence[int] | None = None):
        super().__init__()
        self.config, self.widths = config, _widths(self.METHOD, config, widths)
        a, b, c, d = self.widths
        n_in, n_out = config.n_in, config.n_out
        # fmt: off
        self.scale1 = nn.Sequential(conv2d(n_in, a), *(conv2d(a, a) for _ in range(2)))     # -> (a, 120, 120)
        self.scale2 = nn.Sequential(conv2d(a, b), *(conv2d(b, b) for _ in range(3)))        # -> (b, 60, 60)
        self.scale3 = nn.Sequential(conv2d(b, c), *(conv2d(c, c) for _ in range(3)))        # -> (c, 30, 30)
        self.scale4 = nn.Sequential(conv2d(c, d), *(conv2d(d, d) for _ in range(3)))        # -> (d, 15, 15)
        # fmt: on
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.score4, self.score3, self.score2 = (nn.Conv2d(n, n_out, 1) for n in (d, c, b))
        self.up = nn.ModuleList(nn.ConvTranspose2d(n_out, n_out, 4, 2, 1, bias=False) for _ in range(3))
        self.head = nn.Conv2d(n_out, n_out, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, stack: Tensor) -> Tensor:
        check_stack(stack, self.config)
        n, _, _, _, n_slices = stack.shape
        images = stack.permute(0, 4, 1, 2, 3).flatten(0, 1)  # every slice is an image of its own
        s2 = self.scale2(self.pool(self.scale1(images)))
        s3 = self.scale3(self.pool(s2))
        # fmt: off
        scores = self.score4(self.scale4(self.pool(s3)))                       # (n_out, 15, 15)
        scores = (self.up[0](scores) + self.score3(s3)) / 2                    # (n_out, 30, 30)
        scores = (self.up[1](scores) + self.score2(s2)) / 2                    # (n_out, 60, 60)
        scores = self.head(self.up[2](scores))                                 # (n_out, 120, 120)
        # fmt: on
        logits = scores.unflatten(0, (n, n_slices)).permute(0, 2, 3, 4, 1)
        return logits.repeat_interleave(self.config.factor, dim=-1)  # blocks: all a 2D network can say


# ----------------------------------------------------------------------------------------------------------- 3D-UNet


class UNet3D(nn.Module):
    """3D-UNet (Cicek 2016): four resolutions, two convolutions each, the first of which doubles half of the width.

    (N, n_in, X, Y, Z) -> (N, n_out, X, Y, K Z), from the stack interpolated linearly through plane.
    """

    POOLS = ((2, 2, 2), (2, 2, 2), (2, 2, 1))  # the last in plane alone: see above

    METHOD = "3D-UNet"

    def __init__(self, config: SubPixelConfig, widths: Sequence[int] | None = None):
        super().__init__()
        must(not config.shape[2] % 4, "3D-UNet", f"{config.shape[2]} HR slices", "a multiple of 4, for its poolings")
        self.config, self.widths = config, _widths(self.METHOD, config, widths)
        widths = self.widths
        ins = (config.n_in, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(conv(n_in, max(1, n // 2)), conv(max(1, n // 2), n)) for n_in, n in zip(ins, widths)
        )
        self.pools = nn.ModuleList(nn.MaxPool3d(p) for p in self.POOLS)
        below = widths[:0:-1]  # (512, 256, 128) in Cicek 2016
        here = widths[-2::-1]  # (256, 128, 64)
        self.up = nn.ModuleList(nn.ConvTranspose3d(n, n, p, p) for n, p in zip(below, self.POOLS[::-1]))
        self.merge = nn.ModuleList(nn.Sequential(conv(n + m, n), conv(n, n)) for m, n in zip(below, here))
        self.head = nn.Conv3d(widths[0], config.n_out, 1)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, stack: Tensor) -> Tensor:
        check_stack(stack, self.config)
        x = upsample(stack, self.config.factor)
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pools[level - 1](x))
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1]):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.head(x)


def upsample(stack: Tensor, factor: int) -> Tensor:
    """A stack (N, C, X, Y, Z) on the HR grid (N, C, X, Y, K Z): linear through plane, edge slices repeated.

    An LR slice k lies in the middle of the HR slices kK ... kK + K - 1.
    """
    if factor == 1:
        return stack
    return F.interpolate(stack, scale_factor=(1, 1, factor), mode="trilinear", align_corners=False)


# ------------------------------------------------------------------------------------------------------------ AE-Seg


class AESeg(nn.Module):
    """AE-Seg: 3D-Seg, and a convolutional autoencoder without skips that redraws its probabilities.

    (N, n_in, X, Y, Z) -> (N, n_out, X, Y, K Z). In training mode both outputs come back, (first network's, cascade's),
    as `CascadeLoss` takes them; in evaluation mode the cascade's alone. `widths` are the autoencoder's at its three
    scales.
    """

    METHOD = "AE-Seg"

    def __init__(self, config: SubPixelConfig, widths: Sequence[int] | None = None):
        super().__init__()
        must(not config.shape[2] % 4, "AE-Seg", f"{config.shape[2]} HR slices", "a multiple of 4, for its strides")
        self.config, self.widths = config, _widths(self.METHOD, config, widths)
        a, b, c = self.widths
        self.first = SubPixelNet(config)
        self.autoencoder = nn.Sequential(
            conv(config.n_out, a, (2, 2, 1)),                # (C, 120, 120, 60) -> (a, 60, 60, 60)
            conv(a, b, 2),                                   # -> (b, 30, 30, 30)
            conv(b, c, 2),                                   # -> (c, 15, 15, 15)
            deconv(c, b, 4, 2, 1),                           # -> (b, 30, 30, 30)
            deconv(b, a, 4, 2, 1),                           # -> (a, 60, 60, 60)
            deconv(a, a, (4, 4, 1), (2, 2, 1), (1, 1, 0)),   # -> (a, 120, 120, 60)
            nn.Conv3d(a, config.n_out, 3, padding=1),        # -> (C, 120, 120, 60), logits
        )  # fmt: skip

    def forward(self, stack: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        first = self.first(stack)
        final = self.autoencoder(first.softmax(1))
        return (first, final) if self.training else final


class AESegM(AESeg):
    """AE-Seg-M: the same with a larger autoencoder."""

    METHOD = "AE-Seg-M"


class CascadeLoss:
    """Cross-entropy of the cascade's output, and of its first network's where there is one (training mode).

    loss(output, target) -> {"loss", "pixel", "first"}, with loss = pixel + weight * first, of

    - output: logits (N, C, X, Y, Z), or a pair of them, as `AESeg` gives in training
    - target: channel numbers (N, X, Y, Z)
    """

    scale = "none"  # as `ACNNLoss` has it: part of a training's identity

    def __init__(self, weight: float = 1.0):
        self.weight = float(weight)

    def __call__(self, output: Tensor | tuple[Tensor, Tensor], target: Tensor) -> dict[str, Tensor]:
        first, final = output if isinstance(output, tuple) else (None, output)
        pixel = cross_entropy(final, target)
        if first is None:
            return {"loss": pixel, "pixel": pixel.detach()}
        at_first = cross_entropy(first, target)
        return {"loss": pixel + self.weight * at_first, "pixel": pixel.detach(), "first": at_first.detach()}


# ---------------------------------------------------------------------------------------------------------- capacity

NETWORKS: dict[str, type[nn.Module]] = {cls.METHOD: cls for cls in (FCN2D, UNet3D, AESeg, AESegM)}
#: Widths of each architecture relative to its first: as published (AE: as Table V's), before scaling to a capacity.
PROPORTIONS = {"2D-FCN": (1, 2, 4, 8), "3D-UNet": (1, 2, 4, 8), "AE-Seg": (1, 2, 4), "AE-Seg-M": (1, 2, 4)}


def parameter_target(method: str, config: SubPixelConfig) -> float:
    """Parameters that a method should have: Table I's ratio to 3D-Seg, whose number follows from `config.widths`."""
    with torch.device("meta"):
        segmentation = count_parameters(SubPixelNet(config))
    return segmentation * PAPER_PARAMETERS[method] / PAPER_PARAMETERS["3D-Seg"]


@lru_cache(maxsize=64)
def matched_widths(method: str, config: SubPixelConfig) -> tuple[int, ...]:
    """Widths in the architecture's proportions whose number of parameters comes nearest to `parameter_target`.

    First the common scale, as large as the target allows; then the deepest width alone makes up the rest.
    """
    target, proportions = parameter_target(method, config), PROPORTIONS[method]

    def parameters(widths: Sequence[int]) -> int:
        with torch.device("meta"):
            return count_parameters(NETWORKS[method](config, widths))

    def scaled(base: int) -> tuple[int, ...]:
        return tuple(base * p for p in proportions)

    base = largest_width(lambda n: parameters(scaled(n)), target)
    *others, deepest = scaled(base)
    more = nearest_width(lambda n: parameters((*others, deepest + n)), target, least=0)
    return (*others, deepest + more)


def largest_width(parameters: Callable[[int], int], most_parameters: float, least: int = 1, most: int = 4096) -> int:
    """The largest width, `least` to `most`, with at most so many parameters, whose number grows with it; or `least`."""
    return max(least, least - 1 + bisect_right(range(least, most + 1), most_parameters, key=parameters))


def nearest_width(parameters: Callable[[int], int], target: float, least: int = 1, most: int = 4096) -> int:
    """The width, `least` to `most`, whose number of parameters is nearest to `target`; the smaller of two as near."""
    below = largest_width(parameters, target, least, most)
    return min((below, min(below + 1, most)), key=lambda n: abs(parameters(n) - target))


def _widths(method: str, config: SubPixelConfig, widths: Sequence[int] | None) -> tuple[int, ...]:
    """The widths asked for, or the matched ones."""
    if widths is None:
        return matched_widths(method, config)
    wanted = len(PROPORTIONS[method])
    must(len(widths) == wanted and min(widths) >= 1, "widths", tuple(widths), f"{wanted} whole numbers from 1")
    return tuple(int(n) for n in widths)


__all__ = [
    "NETWORKS",
    "PAPER_PARAMETERS",
    "AESeg",
    "AESegM",
    "CascadeLoss",
    "FCN2D",
    "UNet3D",
    "build",
    "count_parameters",
    "largest_width",
    "matched_widths",
    "nearest_width",
    "parameter_target",
    "upsample",
]
