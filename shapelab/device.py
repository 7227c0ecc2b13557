"""Where the arithmetic is done: device, number format, seeds."""

from __future__ import annotations

import os
import platform
import random
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def best_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that still draw from the global state
    torch.manual_seed(seed)


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
