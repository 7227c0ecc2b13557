"""The pretended GPU notices what a GPU would refuse, and what it would be waited for."""

import numpy as np
import pytest
import torch
from torch import nn


def test_numbers_are_the_cpus_and_strangers_are_refused(pretended):
    a = torch.arange(4.0, device=pretended.device)
    assert a.device.type == pretended.device.type and torch.equal((a * 2 + 1).cpu(), torch.tensor([1.0, 3, 5, 7]))
    assert torch.equal((a + torch.tensor(1.0)).cpu(), torch.arange(1.0, 5))  # a number from the CPU is no stranger
    assert torch.equal(a[torch.tensor([2])].cpu(), torch.tensor([2.0]))  # nor are indices
    for stranger in (lambda: a + torch.ones(4), lambda: torch.cat([a, torch.ones(1)]), lambda: a.numpy()):
        with pytest.raises((RuntimeError, TypeError)):
            stranger()
    layer = nn.Linear(4, 2)
    with pytest.raises(RuntimeError, match="are on the CPU"):
        layer(a)
    assert layer.to(pretended.device)(a).shape == (2,)


def test_waits_are_counted(pretended):
    a = torch.from_numpy(np.arange(4.0)).to(pretended.device)
    b = torch.where(a > 1, a, 0.0).sum() * torch.rand(4, device=pretended.device)
    assert pretended.waits == {}
    for wait in (b.cpu, b[0].item, b.tolist, lambda: bool(a[0] > 0), lambda: a[a > 1], lambda: a.unique()):
        before = sum(pretended.waits.values())
        wait()
        assert sum(pretended.waits.values()) > before
