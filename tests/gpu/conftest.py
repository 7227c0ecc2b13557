"""Where the tests of this folder compute: on the GPU of this machine, and on one that is only pretended.

A test that takes `place` runs twice. Marked `gpu`: on CUDA, skipped where there is none; SHAPELAB_GPU_TESTS=cpu runs it
on the CPU instead, a rehearsal. And on the pretended GPU of `pretend.py`, which every machine has.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from shapelab.device import computing_on
from shapelab.training import loop

spec = importlib.util.spec_from_file_location("shapelab_pretend", Path(__file__).with_name("pretend.py"))
pretend = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
if not hasattr(pretend, "Pretence"):
    spec.loader.exec_module(pretend)


@dataclass
class Place:
    """A device, and what is known of it. exact: a run repeats in every bit; waits: what it was waited for, by name."""

    device: torch.device
    exact: bool
    waits: dict[str, int] | None = None


@pytest.fixture
def gpu() -> Iterator[Place]:
    """The GPU, without TF32 and with cuDNN's repeatable algorithms; the CPU in a rehearsal."""
    wanted = os.environ.get("SHAPELAB_GPU_TESTS", "")
    if wanted != "cpu" and not torch.cuda.is_available():
        pytest.skip("no GPU here; SHAPELAB_GPU_TESTS=cpu rehearses this on the CPU")
    device = torch.device("cpu" if wanted == "cpu" else "cuda")
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    with computing_on(device):
        yield Place(device, exact=device.type == "cpu")
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
    torch.backends.cudnn.deterministic = False


@pytest.fixture
def pretended(monkeypatch) -> Iterator[Place]:
    """The pretended GPU."""
    monkeypatch.setitem(loop.READ_EVERY, pretend.DEVICE.type, 20)
    with pretend.Pretence() as pretence, computing_on(pretend.DEVICE):
        yield Place(pretend.DEVICE, exact=True, waits=pretence.waits)


@pytest.fixture(params=[pytest.param("gpu", marks=pytest.mark.gpu), "pretended"])
def place(request) -> Place:
    """Either of them."""
    return request.getfixturevalue(request.param)
