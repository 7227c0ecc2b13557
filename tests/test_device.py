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


def test_a_chosen_device_counts_within_its_context(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.best_device().type == "cuda"
    with device.computing_on("cpu") as chosen:
        assert device.best_device() == chosen == torch.device("cpu")
        with device.computing_on("meta"):
            assert device.best_device().type == "meta"
        assert device.best_device().type == "cpu"
    assert device.best_device().type == "cuda"


def test_what_is_sent_arrives_as_it_was():
    x = torch.arange(6.0).view(2, 3)
    assert torch.equal(device.sent(x, "cpu"), x) and device.room_for_data("cpu") == 0
