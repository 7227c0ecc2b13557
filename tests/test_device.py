import random

import numpy as np
import torch

from shapelab import device


def test_seeds_make_draws_repeat():
    draws = []
    for _ in range(2):
        device.seed_everything(7)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002 - the global state is the test
    assert draws[0] == draws[1]


def test_autocast_follows_the_processor(monkeypatch):
    x = torch.randn(4, 4)
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)
    with device.autocast("cpu"):
        assert (x @ x).dtype == torch.bfloat16
    with device.autocast("cpu", enabled=False):
        assert (x @ x).dtype == torch.float32
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)
    with device.autocast("cpu"):
        assert (x @ x).dtype == torch.float32


def test_describe_has_what_stands_beside_a_measurement():
    about = device.describe()
    assert set(about) == {"machine", "cores", "python", "torch", "numpy"}
    assert about["torch"] == torch.__version__ and all(about.values())
