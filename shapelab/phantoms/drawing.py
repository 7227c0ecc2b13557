"""Arrays that are drawn on: NumPy's on the CPU, torch's on a GPU, by one code.

What both spell alike (`abs`, `clip`, arithmetic, indexing) is written once; the rest is here, or asked of `of(device)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from shapelab.device import sent

Array = Any  # an ndarray on the CPU, a tensor on a GPU


def of(device: torch.device) -> ModuleType:
    """The module that computes on a device: `numpy` or `torch`."""
    return np if device.type == "cpu" else torch


def there(array: np.ndarray, device: torch.device) -> Array:
    """An array, to be drawn on on a device."""
    return array if device.type == "cpu" else sent(torch.from_numpy(np.ascontiguousarray(array)), device)


def drawn(tensor: Tensor) -> Array:
    """A tensor, to be drawn on where it is."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def here(array: Array) -> np.ndarray:
    """What was drawn, as NumPy's."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def blurred(array: Array, sigma: Sequence[float], mode: str = "reflect") -> Array:
    """scipy.ndimage.gaussian_filter; on a GPU one product with a matrix an axis, which holds scipy's own weights."""
    if isinstance(array, np.ndarray):
        return ndimage.gaussian_filter(array, sigma, mode=mode)
    for axis, width in enumerate(sigma):
        if width > 0:
            weights = ndimage.gaussian_filter1d(np.eye(array.shape[axis]), width, axis=0, mode=mode)
            weights = sent(torch.from_numpy(weights).to(array.dtype), array.device)
            array = torch.tensordot(weights, array, ([1], [axis])).movedim(0, axis)
    return array


def percentile(array: Array, share: float) -> Any:
    """numpy.percentile of all values; torch's own takes 16 million at most."""
    if isinstance(array, np.ndarray):
        return np.percentile(array, share)
    values, place = array.flatten().sort().values, (array.numel() - 1) * share / 100
    low = int(place)
    return torch.lerp(values[low], values[min(low + 1, len(values) - 1)], place - low)
