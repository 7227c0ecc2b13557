"""What super-resolution is compared with in the ACNN paper (Table III): interpolation through plane, and SR-CNN [34];
and how a network learns the residual of an interpolation.

All map a stack of thick slices (N, 1, X, Y, Z) to K times as many slices (N, 1, X, Y, K Z), as `SubPixelNet` does.
Slice k of the stack covers fine slices kK ... kK + K - 1; its centre lies at fine index kK + (K - 1) / 2.

Interpolation is linear in the image, so each kind is one (K Z x Z) matrix: a few milliseconds on any device, and its
gradient is the transposed matrix.

SR-CNN is the network of Oktay et al., "Multi-input cardiac image super-resolution using convolutional neural networks"
(MICCAI 2016), with one input stack: a transposed convolution brings features to the fine grid first, all
convolutions then work there, and what they find is added to the interpolated stack.

Deviations:
    Edges: beyond the outermost slice centres (half a slice at each end) the outermost slice goes on unchanged, for both
        kinds of interpolation; scipy calls it mode="nearest".
    Overshoot: a cubic B-spline may leave the range of its data. Nothing is clipped here.
    SR-CNN's size: the ACNN paper gives it "the same number of filters and capacity" as ACNN-SR, and no numbers.
        `SRCNNConfig.matching` takes as many convolutions as asked for, and the width that meets a number of parameters.
    SR-CNN's interpolation is linear. No batch normalisation: the residual of an interpolation is small and centred.
    `SubPixelSR`: the ACNN paper's SR network gives intensities; here it may give what is to be added to the
        interpolated stack, as [34] does. On 100 phantoms, 125 steps: SSIM .94 instead of .81 (interpolation .95), so
        most of a short training went into copying the stack. `Residual` does it to any network, so that all learn the
        same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from shapelab.device import without_autocast
from shapelab.errors import must, one_of, whole
from shapelab.models.acnn.baselines import nearest_width
from shapelab.models.acnn.prior import ACNNLoss
from shapelab.models.acnn.subpixel import SubPixelConfig, SubPixelNet
from shapelab.training import Config

INTERPOLATIONS = ("linear", "bspline")
_PADDING = 16  # slices repeated beyond each end before the spline is fitted: its memory falls by 3.7 a slice


# ------------------------------------------------------------------------------------------------------ interpolation


@lru_cache(maxsize=32)
def interpolation_matrix(slices: int, factor: int, kind: str = "linear") -> np.ndarray:
    """(K Z, Z) float64: column k is what slice k contributes to each fine slice; rows sum to 1.

    Args:
        slices: Z, of the thick stack
        factor: K, fine slices a thick one
        kind: "linear", or "bspline": the cubic B-spline through the slices

    Raises:
        UsageError: fewer than one slice or a factor below 1, or an unknown kind
    """
    whole("slices", slices)
    whole("factor", factor)
    one_of("kind", kind, INTERPOLATIONS)
    where = np.clip((np.arange(slices * factor) + 0.5) / factor - 0.5, 0, slices - 1)  # fine centres, in thick slices
    distance = np.abs(where[:, None] - np.arange(slices))
    if kind == "linear":
        return np.clip(1 - distance, 0, None)
    # the spline of the data with its ends repeated: coefficients solve (c[k-1] + 4 c[k] + c[k+1]) / 6 = f[k]
    n = slices + 2 * _PADDING
    collocation = (4 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)) / 6
    collocation[0, 0] = collocation[-1, -1] = 5 / 6  # flat there: c[-1] = c[0]
    repeated = np.eye(slices)[np.clip(np.arange(n) - _PADDING, 0, slices - 1)]
    coefficients = np.linalg.solve(collocation, repeated)
    return _cubic_bspline(where[:, None] + _PADDING - np.arange(n)) @ coefficients


def _cubic_bspline(t: np.ndarray) -> np.ndarray:
    """The cubic B-spline of unit spacing, centred on 0."""
    t = np.abs(t)
    inner, outer = 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, inner, outer)


def through_plane_product(images: Tensor, matrix: np.ndarray | Tensor) -> Tensor:
    """Apply a (Z_out, Z) matrix along the last axis of (..., Z) images; in float32."""
    matrix = torch.as_tensor(matrix, dtype=torch.float32, device=images.device)
    with without_autocast(images.device):  # bf16 would round to 3 digits what is exact otherwise
        return images.float() @ matrix.T


class Interpolation(nn.Module):
    """Linear or cubic B-spline interpolation through plane, (N, 1, X, Y, Z) -> (N, 1, X, Y, K Z). No weights."""

    def __init__(self, factor: int, kind: str = "linear"):
        super().__init__()
        interpolation_matrix(4, factor, kind)  # says at once what is wrong
        self.factor, self.kind = factor, kind

    def forward(self, stack: Tensor) -> Tensor:
        _check_stack(stack)
        return through_plane_product(stack, interpolation_matrix(stack.shape[-1], self.factor, self.kind))


def _check_stack(stack: Tensor) -> None:
    must(stack.ndim == 5 and stack.shape[1] == 1, "stack", f"shape {tuple(stack.shape)}", "(N, 1, X, Y, Z)")


# ------------------------------------------------------------------------------------------------------------- SR-CNN


@dataclass(frozen=True)
class SRCNNConfig(Config):
    """Numbers of SR-CNN.

    Attributes:
        factor: K, fine slices a thick one
        widths: kernels of the transposed convolution, then of each 3x3x3 convolution on the fine grid but the last
    """

    factor: int = 2
    widths: tuple[int, ...] = (32, 32, 32, 32, 32, 32)

    def __post_init__(self):
        super().__post_init__()
        must(
            self.factor >= 2 and self.widths and min(self.widths) >= 1,
            "SRCNNConfig",
            self,
            "a factor from 2 and widths from 1",
        )

    @property
    def parameters(self) -> int:
        """How many numbers the network learns."""
        first, *_, last = self.widths
        pairs = zip(self.widths[:-1], self.widths[1:], strict=True)
        deconvolution = 9 * 2 * self.factor * first + first
        return deconvolution + sum(27 * a * b + b for a, b in pairs) + 27 * last + 1

    @classmethod
    def matching(cls, parameters: int, factor: int, layers: int = 6, tolerance: float = 0.03) -> SRCNNConfig:
        """The network of `layers` equally wide layers whose number of parameters is nearest to `parameters`.

        The last width is changed alone where equal widths miss by more than half the tolerance.

        Raises:
            UsageError: no widths come within `tolerance`
        """
        whole("layers", layers, 2)

        def miss(config: SRCNNConfig) -> float:
            return abs(config.parameters / parameters - 1)

        def ending(width: int, last: int) -> SRCNNConfig:
            return cls(factor, (width,) * (layers - 1) + (last,))

        equal = nearest_width(lambda n: ending(n, n).parameters, parameters, most=512)
        best = ending(equal, equal)
        if miss(best) > tolerance / 2:
            near = range(max(1, equal - 2), equal + 3)
            lasts = (nearest_width(lambda m, w=w: ending(w, m).parameters, parameters, most=4 * w - 1) for w in near)
            best = min(map(ending, near, lasts), key=miss)
        must(
            miss(best) <= tolerance,
            "parameters",
            parameters,
            f"a number that {layers} layers can meet (nearest {best.parameters})",
        )
        return best


class SRCNN(nn.Module):
    """SR-CNN: (N, 1, X, Y, Z) -> (N, 1, X, Y, K Z). Any X, Y, Z.

    Shapes in the comments are the paper profile's with K = 5: (channels, x, y, z).
    """

    def __init__(self, config: SRCNNConfig):
        super().__init__()
        self.config = config
        k, widths = config.factor, config.widths
        padding = -(-k // 2)
        self.upsample = nn.ConvTranspose3d(  # (1, 120, 120, 12) -> (w, 120, 120, 60)
            1, widths[0], (3, 3, 2 * k), (1, 1, k), (1, 1, padding), output_padding=(0, 0, 2 * padding - k)
        )
        layers: list[nn.Module] = [nn.ReLU(inplace=True)]
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Conv3d(a, b, 3, padding=1), nn.ReLU(inplace=True)]  # (w, 120, 120, 60), all of them
        self.features = nn.Sequential(*layers)
        for layer in (self.upsample, *(m for m in self.features if isinstance(m, nn.Conv3d))):
            fan = "fan_out" if isinstance(layer, nn.ConvTranspose3d) else "fan_in"  # transposed: stored the other way
            nn.init.kaiming_normal_(layer.weight, mode=fan, nonlinearity="relu")  # nothing else keeps the scale here
            nn.init.zeros_(layer.bias)
        self.head = nn.Conv3d(widths[-1], 1, 3, padding=1)  # -> (1, 120, 120, 60)
        nn.init.zeros_(self.head.weight)  # so that training starts from the interpolated stack
        nn.init.zeros_(self.head.bias)
        self.interpolation = Interpolation(k, "linear")

    def forward(self, stack: Tensor) -> Tensor:
        _check_stack(stack)
        return self.interpolation(stack) + self.head(self.features(self.upsample(stack)))


class Patches(nn.Module):
    """While training, a random square of the stack goes through the network; else the whole stack."""

    def __init__(self, network: nn.Module, size: int):
        super().__init__()
        self.network, self.size, self.window = network, size, (slice(None), slice(None))
        self.config = getattr(network, "config", None)

    def forward(self, stack: Tensor) -> Tensor:
        self.window = (slice(None), slice(None))
        if self.training:
            corner = [int(torch.randint(0, max(n - self.size, 0) + 1, ())) for n in stack.shape[2:4]]
            self.window = tuple(slice(c, c + self.size) for c in corner)
        return self.network(stack[:, :, self.window[0], self.window[1]])


class PatchLoss(ACNNLoss):
    """The pixel term of equation 2, on the square that `Patches` has sent through."""

    def __init__(self, patches: Patches):
        super().__init__(None)
        self.patches = patches

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        x, y = self.patches.window
        return super().__call__(output, target[:, :, x, y])


# ---------------------------------------------------------------------------------------------------------- residuals


class Residual(nn.Module):
    """Any network (N, 1, X, Y, Z) -> (N, 1, X, Y, K Z) whose output is added to the linearly interpolated stack.

    Attributes:
        network: with `.head`, a convolution that makes the output; it is set to zero, so that training starts from the
            interpolation
        factor: K
    """

    def __init__(self, network: nn.Module, factor: int):
        super().__init__()
        self.network, self.interpolation = network, Interpolation(factor, "linear")
        self.config = getattr(network, "config", None)
        nn.init.zeros_(network.head.weight)
        nn.init.zeros_(network.head.bias)

    def forward(self, stack: Tensor) -> Tensor:
        return self.interpolation(stack) + self.network(stack)


class SubPixelSR(Residual):
    """SR and ACNN-SR: the sub-pixel backbone (Fig. 2) as the residual of an interpolation."""

    def __init__(self, config: SubPixelConfig):
        must(
            config.n_in == 1 and config.n_out == 1, "SubPixelSR", f"n_in={config.n_in}, n_out={config.n_out}", "1 and 1"
        )
        super().__init__(SubPixelNet(config), config.factor)
