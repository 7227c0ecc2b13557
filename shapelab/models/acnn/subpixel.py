"""The sub-pixel backbone of the ACNN paper (Fig. 2): 3D-Seg and SR, from a stack of thick slices to a fine grid.

All features are computed on the grid of the low-resolution (LR) stack; the last transposed convolution alone goes up
through plane, by K. So a segmentation is finer than its input, and super-resolution costs a fraction of a network that
upsamples first. Strides are in plane only: any number of slices will do.

Deviations:
    Widths: Fig. 2 gives kernels and strides, and Table I 1.60 million parameters in all; the widths of the paper
        profile are growing ones that give that number.
    "s2" in Fig. 2: in plane (2, 2, 1), as section II-C says ("multi strides in the in-plane direction"); 12 slices
        would not survive three strides.
    Skips: concatenation, as in the 3D U-Net that the paper names as its model.
    Normalisation: batch normalisation and ReLU after each convolution but the last, as in the paper's other networks.
    Classes: four in every profile (background, RV cavity, LV myocardium, LV cavity); the paper's labels are endocardium
        and myocardium alone.
    Optimiser: the supplement says "gradient descent" with a rate "fixed" at 0.001. Adam is our choice, with lambda_2 as
        its L2 term; `quick` and `full` raise and lower the rate once (one cycle), `paper` keeps it. Epochs are not
        given.
    Weight decay: "w corresponds to weights of the convolution filters"; here all parameters decay until the networks
        are next trained (`decay="convolutions"` is the paper's).
    Transposed convolution through plane: kernel 2K, stride K, as the paper's 10 and 5; K = 1 leaves it out (native
        resolution).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shapelab.device import laid_out
from shapelab.errors import must
from shapelab.training import Config

IN_PLANE = 8  # product of the in-plane strides
PAPER_WIDTHS = (24, 48, 112, 128)  # 1.59 million parameters (Table I: 1.60)


@dataclass(frozen=True)
class SubPixelConfig(Config):
    """Numbers of the backbone and of its training; the defaults are the quick profile's."""

    # fmt: off
    shape: tuple[int, int, int] = (48, 48, 24)      # of the HR output: the quick autoencoder's grid
    spacing: tuple[float, float, float] = (3.0, 3.0, 5.0)   # mm, HR
    factor: int = 2                                 # K: LR slices are 10 mm in every profile
    n_in: int = 1
    n_out: int = 4                                  # classes; 1 for super-resolution
    widths: tuple[int, int, int, int] = (12, 24, 48, 64)    # kernels at the four in-plane scales
    batch: int = 8                                  # supplement
    learning_rate: float = 1e-3                     # supplement; Adam is our choice, see above
    weight_decay: float = 5e-6                      # supplement: lambda_2
    decay: str = "all"                              # of "convolutions" alone in the paper: see above
    schedule: str = "one-cycle"
    epochs: int = 30
    # fmt: on

    PROFILES = {
        "full": {
            "shape": (96, 96, 36),
            "spacing": (1.5, 1.5, 10 / 3),
            "factor": 3,
            "widths": PAPER_WIDTHS,
            "epochs": 100,
        },
        "paper": {
            "shape": (120, 120, 60),
            "spacing": (1.25, 1.25, 2.0),
            "factor": 5,
            "widths": PAPER_WIDTHS,
            "epochs": 100,
            "schedule": "constant",
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = [self.factor, self.n_in, self.n_out, self.batch, self.epochs, *self.widths, *self.shape]
        must(
            len(self.shape) == 3 and len(self.widths) == 4 and min(whole) >= 1,
            "SubPixelConfig",
            self,
            "three sizes, four widths and numbers from 1",
        )
        must(
            not self.shape[0] % IN_PLANE and not self.shape[1] % IN_PLANE and not self.shape[2] % self.factor,
            "SubPixelConfig.shape",
            self.shape,
            f"multiples of {IN_PLANE} in plane and of factor={self.factor} through plane",
        )

    @property
    def lr_shape(self) -> tuple[int, int, int]:
        """Shape of the LR stack."""
        return (*self.shape[:2], self.shape[2] // self.factor)


def conv(n_in: int, n_out: int, kernel: tuple[int, int, int] = (3, 3, 3), stride: int = 1) -> nn.Sequential:
    """A box "Conv" of Fig. 2; the stride is in plane."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.Conv3d(n_in, n_out, kernel, (stride, stride, 1), padding, bias=False),
        nn.BatchNorm3d(n_out),
        nn.ReLU(inplace=True),
    )


def deconv(n_in: int, n_out: int) -> nn.Sequential:
    """A box "Deconv (4x4x1 - s2)" of Fig. 2: twice as fine in plane."""
    return nn.Sequential(
        nn.ConvTranspose3d(n_in, n_out, (4, 4, 1), (2, 2, 1), (1, 1, 0), bias=False),
        nn.BatchNorm3d(n_out),
        nn.ReLU(inplace=True),
    )


def through_plane(channels: int, factor: int) -> nn.Module:
    """The box "Deconv (1x1x10 - s5)" of Fig. 2: K times as many slices; nothing where K = 1."""
    if factor == 1:
        return nn.Identity()
    padding = -(-factor // 2)
    return nn.Sequential(
        nn.ConvTranspose3d(
            channels,
            channels,
            (1, 1, 2 * factor),
            (1, 1, factor),
            (0, 0, padding),
            output_padding=(0, 0, 2 * padding - factor),
            bias=False,
        ),
        nn.BatchNorm3d(channels),
        nn.ReLU(inplace=True),
    )


def check_stack(stack: Tensor, config: SubPixelConfig) -> None:
    """UsageError unless a network of this configuration takes `stack`."""
    must(
        stack.ndim == 5
        and stack.shape[1] == config.n_in
        and not stack.shape[2] % IN_PLANE
        and not stack.shape[3] % IN_PLANE,
        "stack",
        f"shape {tuple(stack.shape)}",
        f"(N, {config.n_in}, X, Y, Z) with X and Y multiples of {IN_PLANE}",
    )


class SubPixelNet(nn.Module):
    """Fig. 2. (N, n_in, X, Y, Z) -> (N, n_out, X, Y, K Z): logits (Seg) or intensities (SR).

    Shapes in the comments are the paper profile's: (channels, x, y, z).
    """

    def __init__(self, config: SubPixelConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c, d = config.widths
        flat = (3, 3, 1)
        # fmt: off
        self.scale1 = nn.Sequential(conv(config.n_in, a), conv(a, a))           # (1, 120, 120, 12) -> (a, 120, 120, 12)
        self.scale2 = nn.Sequential(conv(a, b, stride=2), conv(b, b))           # -> (b, 60, 60, 12)
        self.scale3 = nn.Sequential(conv(b, c, stride=2), conv(c, c))           # -> (c, 30, 30, 12)
        self.scale4 = nn.Sequential(conv(c, d, flat, stride=2), conv(d, d, flat))   # -> (d, 15, 15, 12)
        self.up3, self.merge3 = deconv(d, c), conv(2 * c, c, flat)              # -> (c, 30, 30, 12)
        self.up2, self.merge2 = deconv(c, b), conv(2 * b, b)                    # -> (b, 60, 60, 12)
        self.up1, self.merge1 = deconv(b, a), conv(2 * a, a)                    # -> (a, 120, 120, 12)
        self.through_plane = through_plane(a, config.factor)                    # -> (a, 120, 120, 60)
        self.head = nn.Conv3d(a, config.n_out, 3, padding=1)                    # -> (n_out, 120, 120, 60)
        # fmt: on
        # a bf16 step on a CPU is 1.4 (quick) and 1.25 (full) times as fast as contiguous, 2.4 and 2.8 times as plain
        # fp32 (benchmarks/bench_acnn.py)
        laid_out(self, torch.channels_last_3d)

    def forward(self, stack: Tensor) -> Tensor:
        check_stack(stack, self.config)
        s1 = self.scale1(stack)
        s2 = self.scale2(s1)
        s3 = self.scale3(s2)
        up = self.merge3(torch.cat([self.up3(self.scale4(s3)), s3], 1))
        up = self.merge2(torch.cat([self.up2(up), s2], 1))
        up = self.merge1(torch.cat([self.up1(up), s1], 1))
        return self.head(self.through_plane(up))
