"""Where the arithmetic is done: device, number format, seeds."""

from __future__ import annotations

import os
import platform
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapelab.types import Network

_chosen: ContextVar[torch.device | None] = ContextVar("device", default=None)


def best_device() -> torch.device:
    """The device of `computing_on` where there is one, else the first CUDA device, else the CPU."""
    return _chosen.get() or torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def computing_on(device: torch.device | str) -> Iterator[torch.device]:
    """Context in which all that names no device of its own (trainings, opened networks, phantoms) is done on this one.

    >>> with computing_on("cpu"):                                     # doctest: +SKIP
    ...     space, history = train_autoencoder(labels, config)
    """
    token = _chosen.set(torch.device(device))
    try:
        yield torch.device(device)
    finally:
        _chosen.reset(token)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that still draw from the global state
    torch.manual_seed(seed)


def generator_of(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`, seeded."""
    return torch.Generator(device).manual_seed(int(seed))


@cache
def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware (AVX-512 BF16 or AMX); emulated bf16 is slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def fast_dtype(device: torch.device | str) -> torch.dtype:
    """bf16 where the device computes it in hardware, else fp32."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else torch.float32


def autocast(device: torch.device | str, enabled: bool = True) -> AbstractContextManager:
    """Context in which convolutions run in `fast_dtype`; nothing changes where that is fp32 or `enabled` is False.

    On the CPU measured 2-3x faster for the autoencoder (benchmarks/bench_training.py).
    """
    device = torch.device(device)
    dtype = fast_dtype(device)
    if not enabled or dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def laid_out(module: Network, layout: torch.memory_format) -> Network:
    """The module, its weights laid out in memory as the convolutions like it: `torch.channels_last` and its 3-D kin."""
    return module.to(memory_format=layout)  # type: ignore[call-overload]  # torch's annotations leave it out


def without_autocast(device: torch.device | str) -> AbstractContextManager:
    """Context in which numbers keep the format they have, also inside an autocast context."""
    kind = torch.device(device).type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()  # not "meta"


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device; a GPU is not waited for, since what goes there lies in pinned memory first."""
    device = torch.device(device)
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def room_for_data(device: torch.device | str) -> int:
    """Bytes that data may take of a device for good: half of what is free on a GPU, nothing elsewhere."""
    device = torch.device(device)
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 0


def resident(arrays: Sequence[Any], device: torch.device | str) -> Sequence[Any]:
    """The arrays whole on a GPU that has room for them, so that batches are gathered there; else as they are."""
    room = room_for_data(device)
    if not room:  # nothing is read, so that a memory map stays one
        return arrays
    whole_arrays = [a if isinstance(a, Tensor) else torch.as_tensor(np.asarray(a)) for a in arrays]
    if sum(a.nbytes for a in whole_arrays) > room:
        return arrays
    return [a.to(device) for a in whole_arrays]


def gathered(array: Any, rows: np.ndarray) -> Tensor:
    """Rows of an array as a tensor, on the device where a tensor is."""
    if isinstance(array, Tensor):
        return array[sent(torch.from_numpy(rows), array.device)]
    return torch.as_tensor(np.asarray(array[rows]))


def describe() -> dict[str, str]:
    """Machine and versions, as written beside every measurement."""
    device = best_device()
    return {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
