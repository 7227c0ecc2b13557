"""Tensors in one file with a checksum (safetensors), written whole or not at all."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shapelab.errors import DataError
from shapelab.files import atomic_write


def write_tensors(file: str | Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str] | None = None) -> Path:
    """Write tensors and texts as one safetensors file with a checksum, in one piece or not at all."""
    plain = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    with atomic_write(file) as temporary:
        save_file(plain, temporary, metadata={**(texts or {}), "checksum": checksum(plain)})
    return Path(file)


def read_tensors(file: str | Path, checked: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote: tensors (on the CPU) and texts. DataError if the file is missing or damaged.

    Args:
        checked: the contents must have the checksum that the file records; False for files that record none
    """
    todo = "Delete it and train again, or fetch it anew."
    if not Path(file).is_file():
        raise DataError(file, "no such file", "a safetensors file", todo)
    try:
        with safe_open(file, framework="pt") as source:
            texts = source.metadata() or {}
            tensors = {key: source.get_tensor(key) for key in source.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(file, f"a damaged file ({error})", "a safetensors file", todo) from error
    if checked and texts.get("checksum") != (found := checksum(tensors)):
        raise DataError(file, f"contents with checksum {found}", f"checksum {texts.get('checksum')}, as it says", todo)
    return tensors, texts


def checksum(tensors: Mapping[str, Tensor | np.ndarray]) -> str:
    """CRC-32 over names, shapes and bytes: tells one data set, or one set of weights, from another (1 GB/s)."""
    value = 0
    for name in sorted(tensors):
        given = tensors[name]  # torch takes no array that is read backwards
        given = np.asarray(given, order="C") if isinstance(given, np.ndarray) else given
        tensor = torch.as_tensor(given).detach().cpu().contiguous()
        value = zlib.crc32(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode(), value)
        value = zlib.crc32(tensor.view(-1).view(torch.uint8).numpy().data, value)  # bytes: NumPy has no bf16
    return f"{value:08x}"
