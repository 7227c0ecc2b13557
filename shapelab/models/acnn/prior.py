"""The objectives of the ACNN paper (equations 1 and 2): a loss that knows what hearts look like.

    Seg, eq. 1:   CE(phi(x), y)  +  lambda * || f(phi(x)) - f(y) ||^2          f: the autoencoder's encoder
    SR,  eq. 2:   smooth l1(Phi(x), y)  +  lambda * || p(Phi(x)) - p(y) ||^2   p: the T-L network's predictor

(the paper's third term, weight decay, is the optimiser's). The prior is frozen: its weights get no gradient, but the
gradient goes through it, back to the network that is trained. That network can be any that maps to the same grid.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapelab.errors import in_range, must, one_of
from shapelab.training.losses import code_distance, cross_entropy, onehot

SCALES = ("none", "axes", "sigma")


class ACNNLoss:
    """Equation 1 where the target is a label map, equation 2 where it is an image.

    Args:
        prior: what turns shapes into codes. For labels: an `AESpace`, a `TLSpace`, a `TLNetwork`, or a module with
            `encode(maps (N, C, X, Y, Z)) -> (N, d)`. For images: a `TLSpace`, a `TLNetwork` (their predictor), or a
            module images (N, 1, X, Y, Z) -> (N, d). None: the pixel term alone. It is copied and frozen.
        weight: lambda (paper: 0.01); 0 leaves the prior term out
        scale: in which units codes are compared. "none": the network's own, as in the paper; "axes": along the space's
            axes (those that carry the shape); "sigma": each in units of its spread over the training shapes. The last
            two need a space.

    >>> loss = ACNNLoss(space, weight=0.01)                  # doctest: +SKIP
    >>> loss(logits, labels)["loss"].backward()              # doctest: +SKIP

    Called with:
        - output: logits (N, C, X, Y, Z) or intensities (N, 1, X, Y, Z)
        - target: channel numbers (N, X, Y, Z), any integer type, or intensities (N, 1, X, Y, Z)

        Returns a dict of scalars: "loss" = "pixel" + weight * "prior"; "prior" only where it is used.

        Where output and prior have different grids over the same box, both sides are resampled to the prior's: averaged
        where it is coarser, linearly where it is finer.

        Deviation: the pixel terms are means over voxels (the paper writes sums); the prior term is the mean over the
        batch of squared distances. So lambda here is the paper's up to the number of voxels its implementation divides
        by.
    """

    def __init__(self, prior=None, weight: float = 0.01, scale: str = "none"):
        self.weight, self.scale = in_range("weight", weight), one_of("scale", scale, SCALES)
        self.encoder = _frozen(_part(prior, "encoder"))
        self.predictor = _frozen(_part(prior, "predictor"))
        must(
            prior is None or self.encoder is not None or self.predictor is not None,
            "prior",
            type(prior).__name__,
            "a space, an autoencoder or a predictor",
        )
        self.metric = _metric(prior, scale) if prior is not None else None
        self.shape = _grid_shape(prior)

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        if target.is_floating_point():
            pixel = F.smooth_l1_loss(output.float(), target.float())
            output, target = output.float(), target.float()  # cast once more: gradients add up in the output's type
        else:
            pixel = cross_entropy(output, target)
        if self.weight == 0 or (self.encoder is None and self.predictor is None):
            return {"loss": pixel, "pixel": pixel.detach()}
        prior = self.distance(output, target)
        return {"loss": pixel + self.weight * prior, "pixel": pixel.detach(), "prior": prior.detach()}

    def distance(self, output: Tensor, target: Tensor) -> Tensor:
        """L_he (eq. 1) or L_hp (eq. 2): mean over the batch of the squared distance of codes."""
        with torch.no_grad():
            wanted = self.codes(target)
        return code_distance(self.codes(output if target.is_floating_point() else output.float().softmax(1)), wanted)

    def codes(self, shapes: Tensor) -> Tensor:
        """Codes (N, d), in the units of `scale`, of label maps (N, X, Y, Z), probabilities (N, C, ...) or images.

        Which of the two networks reads them is told by the number of channels: one is an image.
        """
        if not shapes.is_floating_point():
            must(self.encoder is not None, "prior", "one that does not read a label map", "an autoencoder")
            shapes = onehot(shapes, self.encoder.config.n_classes)
        network = self.predictor if shapes.shape[1] == 1 else self.encoder
        kind, reader = ("an image", "a predictor") if shapes.shape[1] == 1 else ("a label map", "an autoencoder")
        must(network is not None, "prior", f"one that does not read {kind}", f"a T-L network, or {reader}")
        network.to(shapes.device)
        self.metric = None if self.metric is None else self.metric.to(shapes.device)
        shapes = resample(shapes, self.shape)
        codes = network.encode(shapes) if hasattr(network, "encode") else network(shapes)
        return codes.float() if self.metric is None else codes.float() @ self.metric


def resample(shapes: Tensor, shape: tuple[int, int, int] | None) -> Tensor:
    """(N, C, ...) on another grid over the same box: averaged along axes where that grid is coarser by a whole number,
    linear elsewhere. None, or the grid it has: as it is."""
    if shape is None or tuple(shapes.shape[2:]) == tuple(shape):
        return shapes
    coarser = [n // m if n % m == 0 else 1 for n, m in zip(shapes.shape[2:], shape)]
    if max(coarser) > 1:
        shapes = F.avg_pool3d(shapes, coarser)
    if tuple(shapes.shape[2:]) != tuple(shape):
        shapes = F.interpolate(shapes, size=tuple(shape), mode="trilinear", align_corners=False)
    return shapes


def _part(prior, name: str) -> nn.Module | None:
    """The network of a prior that reads label maps ("encoder": it has `encode`) or images ("predictor")."""
    prior = getattr(prior, "model", prior)  # a space: its network
    if prior is None:
        return None
    if hasattr(prior, "autoencoder") and hasattr(prior, "predictor"):  # a T-L network
        return prior.autoencoder if name == "encoder" else prior.predictor
    reads_labels = hasattr(prior, "encode")
    return prior if isinstance(prior, nn.Module) and reads_labels == (name == "encoder") else None


def _frozen(network: nn.Module | None) -> nn.Module | None:
    return None if network is None else copy.deepcopy(network).requires_grad_(False).eval()


def _grid_shape(prior) -> tuple[int, int, int] | None:
    """The grid a prior was trained on, where it says so."""
    for holder in (prior, getattr(prior, "model", None), getattr(prior, "autoencoder", None)):
        shape = getattr(getattr(holder, "config", None), "shape", None)
        if shape is not None:
            return tuple(shape)
    return None


def _metric(prior, scale: str) -> Tensor | None:
    """(d, d) matrix that takes the network's codes to the units they are compared in."""
    if scale == "none":
        return None
    must(
        getattr(prior, "axes", None) is not None or hasattr(prior, "sigma"),
        "scale",
        f"{scale!r} with {type(prior).__name__}",
        "a trained space",
    )
    axes = prior.axes if getattr(prior, "axes", None) is not None else np.eye(len(prior.sigma))
    if scale == "sigma":
        axes = axes / np.maximum(prior.sigma, 1e-3 * prior.sigma.max())  # an unused code stays unused
    return torch.from_numpy(np.ascontiguousarray(axes, np.float32))
