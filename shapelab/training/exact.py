"""Where bf16 cannot be trusted: convolutions whose weight gradient the CPU's bf16 kernels get wrong.

On processors with AVX-512 bf16 (torch 2.13.0, oneDNN) the bf16 weight gradient of a 3-D convolution that lies channels
last is another one at each call, and often NaN, where along X the kernel reaches past both ends of the map: a 3x3x3
kernel on a map 2 voxels wide, a 5x5x5 one on 3 or 4; transposed convolutions likewise. The forward pass, the gradient
of the input, plain layouts, 2-D convolutions and fp32 are right.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shapelab.device import without_autocast

Conv = nn.Conv3d | nn.ConvTranspose3d


def gradient_errs(layer: Conv, width: int) -> bool:
    """Whether the bf16 weight gradient of `layer` is in doubt for an input `width` voxels wide in X.

    True if the kernel stands at two places or more along X, and at one of them covers the whole map, reaching past one
    end or both: wider than what was seen to fail, and never false where it was.
    """
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    if layer.dilation[0] != 1:
        return False
    pad = {"same": kernel // 2, "valid": 0}[layer.padding] if isinstance(layer.padding, str) else layer.padding[0]
    if isinstance(layer, nn.ConvTranspose3d):  # the convolution that it transposes goes the other way
        places, width = width, (width - 1) * stride - 2 * pad + kernel + layer.output_padding[0]
    else:
        places = (width + 2 * pad - kernel) // stride + 1
    before = [pad - place * stride for place in range(places)]  # voxels past the first one of the map
    ends = [(left, kernel - left - width) for left in before]  # ... and past the last one
    return places > 1 and any(min(end) >= 0 and max(end) > 0 for end in ends)


@contextmanager
def exact_gradients(model: nn.Module) -> Iterator[None]:
    """Context in which `model`'s layers in doubt (`gradient_errs`) train in fp32 on a CPU; named once in a warning."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, Conv)}
    found: set[str] = set()

    def guard(name: str, layer: Conv, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(forward)
        def guarded(x: Tensor, *arguments: Any) -> Tensor:
            bf16 = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
            if not (bf16 and torch.is_grad_enabled() and gradient_errs(layer, x.shape[-3])):
                return forward(x, *arguments)
            if name not in found:
                found.add(name)
                if len(found) == 1:
                    warnings.warn(
                        f"{name or type(layer).__name__}: its map is narrower than its kernel, where bf16 "
                        "gradients are wrong on some processors; such layers are trained in fp32",
                        stacklevel=2,
                    )
            with without_autocast(x.device):
                return forward(x.float(), *arguments)

        return guarded

    for name, layer in layers.items():
        layer.forward = guard(name, layer, layer.forward)  # type: ignore[method-assign]  # taken off again below
    try:
        yield
    finally:
        for layer in layers.values():
            del layer.forward  # the class's own is found again
