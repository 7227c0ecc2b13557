"""The predictor of the ACNN paper's T-L network (Oktay et al., IEEE TMI 2018), Table IV, and how its images are varied.

It reads a shape code from an image. How it is trained, and what deviates from the paper: `shapelab.models.acnn.tl`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from math import prod

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from shapelab.augment import AffineRanges, acquire, random_affine_pair
from shapelab.device import laid_out, without_autocast
from shapelab.errors import must
from shapelab.models.acnn.autoencoder import conv, measure_statistics
from shapelab.training import Config
from shapelab.types import Vector3


@dataclass(frozen=True)
class ContrastRanges:
    """How far the look of an image may go; each number is drawn evenly from -range to +range. 0 leaves it out."""

    # fmt: off
    gamma: float = 0.4      # log of the exponent: .67 to 1.5
    gain: float = 0.2       # factor 0.8 to 1.2
    offset: float = 0.08    # added, images being in [0, 1]
    bias: float = 0.3       # log of a smooth (log-linear) field's factor at the faces of the box, each axis
    # fmt: on

    def __post_init__(self) -> None:
        must(
            all(math.isfinite(v) and v >= 0 for v in asdict(self).values()) and self.gain < 1,
            "ContrastRanges",
            self,
            "finite numbers from 0, gain below 1",
        )


TABLE_IV = {"stem": (1, 1, 1), "widths": (32, 64, 128, 256), "last": 1}


@dataclass(frozen=True)
class PredictorConfig(Config):
    """Numbers of the predictor and of stages 2 and 3; the defaults are the quick profile's."""

    shape: tuple[int, int, int] = (48, 48, 24)
    # fmt: off
    spacing: tuple[float, float, float] = (3.0, 3.0, 5.0)   # mm; shape and spacing are the autoencoder's
    stem: tuple[int, int, int] = (2, 2, 1)          # stride of the first convolution; Table IV: 1
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)   # kernels at S1 to S4; Table IV: 32, 64, 128, 256
    last: int = 8                                   # kernels of the last convolution; Table IV: 1
    code: int = 64                                  # Table IV
    noise: float = 0.05                             # largest sd of the Gaussian noise; each image draws its own
    affine: AffineRanges = field(default_factory=AffineRanges)
    contrast: ContrastRanges = field(default_factory=ContrastRanges)
    # fmt: on
    # fmt: off
    thick: float = 0.5                              # share of images seen through slices `factor` times as thick
    factor: int = 2                                 # quick: 5 -> 10 mm
    batch: int = 8                                  # supplement
    learning_rate: float = 1e-3                     # supplement; Adam is our choice
    joint_learning_rate: float = 3e-4               # stage 3 starts from trained networks
    schedule: str = "one-cycle"
    epochs: int = 24  # stage 2
    joint_epochs: int = 8  # stage 3
    # fmt: on

    PROFILES = {
        # Table IV on the coarser grid: 12 x 12 x 5 cells of one channel at S4
        "full": {
            **TABLE_IV,
            "shape": (96, 96, 36),
            "spacing": (1.5, 1.5, 10 / 3),
            "factor": 3,
            "epochs": 100,
            "joint_epochs": 30,
        },
        "paper": {
            **TABLE_IV,
            "shape": (120, 120, 60),
            "spacing": (1.25, 1.25, 2.0),
            "factor": 5,
            "epochs": 200,
            "joint_epochs": 50,
            "schedule": "constant",
            "joint_learning_rate": 1e-3,
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = (
            *self.shape,
            *self.stem,
            *self.widths,
            self.last,
            self.code,
            self.batch,
            self.epochs,
            self.joint_epochs,
            self.factor,
        )
        must(
            len(self.shape) == 3 and len(self.stem) == 3 and len(self.widths) == 4 and min(sizes) >= 1,
            "PredictorConfig",
            self,
            "a shape of three, four widths and at least one of everything",
        )
        must(
            0 <= self.thick <= 1 and self.noise >= 0,
            "PredictorConfig",
            f"thick {self.thick}, noise {self.noise}",
            "a share and a number from 0",
        )
        must(
            self.thick <= 0 or not self.shape[2] % self.factor,
            "PredictorConfig.factor",
            self.factor,
            f"a divisor of {self.shape[2]} slices, or thick = 0",
        )

    @property
    def cells(self) -> tuple[int, int, int]:
        """Grid of the coarsest scale S4; 15 x 15 x 8 in the paper."""
        x, y, z = (-(-n // (8 * s)) for n, s in zip(self.shape, self.stem))
        return x, y, z


# ---------------------------------------------------------------------------------------------------------- the model


class Predictor(nn.Module):
    """Table IV, p: images (N, X, Y, Z) or (N, 1, X, Y, Z) in [0, 1] -> codes (N, 64), as the encoder's network makes
    them. Shapes in the comments are the paper profile's."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c, d = config.widths
        self.features = nn.Sequential(
            conv(1, a, config.stem),                         # S1  (1, 120, 120, 60) -> (32, 120, 120, 60)
            conv(a, a),
            conv(a, b, stride=2),                            # S2  -> (64, 60, 60, 30)
            conv(b, b),
            conv(b, c, stride=2),                            # S3  -> (128, 30, 30, 15)
            conv(c, c),
            conv(c, d, stride=2),                            # S4  -> (256, 15, 15, 8)
        )  # fmt: skip
        self.last = nn.Conv3d(d, config.last, 3, padding=1)  #     -> (1, 15, 15, 8), not normalised, ReLU
        self.to_code = nn.Linear(config.last * prod(config.cells), config.code)  # FC  1800 -> 64
        laid_out(self, torch.channels_last_3d)

    def forward(self, images: Tensor) -> Tensor:
        images = images.unsqueeze(1) if images.ndim == 4 else images
        features = torch.relu(self.last(self.features(images)))
        with without_autocast(images.device):  # a code is more than 8 bits
            return self.to_code(features.float().flatten(1))


# ---------------------------------------------------------------------------------------------------------- the images


def random_contrast(images: Tensor, ranges: ContrastRanges, generator: Generator | None = None) -> Tensor:
    """Give each image (N, X, Y, Z) in [0, 1] another gamma, gain, offset and bias field; what is 0 stays dark."""
    draws = (torch.rand(len(images), 6, generator=generator) * 2 - 1).to(images.device)
    gamma, gain, offset, *slopes = (d.view(-1, 1, 1, 1) for d in draws.unbind(1))
    field = torch.zeros(())
    for axis, slope in enumerate(slopes, 1):
        view = [-1 if axis == k else 1 for k in range(4)]
        field = field + ranges.bias * slope * torch.linspace(-1, 1, images.shape[axis], device=images.device).view(view)
    looks = images.clamp(min=0) ** torch.exp(ranges.gamma * gamma) * (1 + ranges.gain * gain) * torch.exp(field)
    return looks + ranges.offset * offset * (images > 0)


def thick_slices(images: Tensor, spacing: Vector3, factor: int) -> Tensor:
    """Images (N, X, Y, Z) as they come from slices `factor` times as thick, interpolated back to Z slices linearly."""
    stack = acquire(images, spacing, factor)  # (N, X, Y, Z / factor)
    return F.interpolate(stack[:, None], images.shape[1:], mode="trilinear", align_corners=False)[:, 0]


def augment_pairs(images: Tensor, labels: Tensor, config: PredictorConfig) -> tuple[Tensor, Tensor]:
    """Both moved by one affine map; the images also get thick slices (some), another contrast, and noise.

    images (N, X, Y, Z) of any float type, labels (N, X, Y, Z) uint8; drawn from torch's default generator.
    """
    images, labels = random_affine_pair(images.float(), labels, config.spacing, config.affine)
    chosen = torch.rand(len(images)) < config.thick
    if chosen.any():
        images = images.clone()
        images[chosen] = thick_slices(images[chosen], config.spacing, config.factor)
    images = random_contrast(images, config.contrast)
    sigma = config.noise * torch.rand(len(images), 1, 1, 1, device=images.device)
    return images + sigma * torch.randn_like(images), labels


def measure_image_statistics(predictor: Predictor, images: Tensor, batch: int = 16, at_most: int = 512) -> None:
    """Set the predictor's batch normalisation to the statistics of images (N, X, Y, Z), in place: see
    `measure_statistics` of the autoencoder."""
    measure_statistics(predictor, images, batch, at_most, prepare=Tensor.float)
