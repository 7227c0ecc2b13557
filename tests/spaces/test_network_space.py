"""What all shape spaces of networks do alike, with a network whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from shapelab import device
from shapelab.data.scheme import CARDIAC, LabelScheme, Structure
from shapelab.errors import DataError, UsageError
from shapelab.spaces import NetworkSpace
from shapelab.training import Config

#: Integers of the label maps are not the channel numbers 0, 1, 2.
FAR = LabelScheme("far", (Structure(500, "cavity", "#000000"), Structure(205, "wall", "#ffffff")))


@dataclass(frozen=True)
class Numbers(Config):
    shape: tuple[int, int, int] = (4, 2, 2)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    code: int = 3


class Shares(nn.Module):
    """Code: the share of each class; decoded: those shares in every voxel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def encode(self, maps):
        return maps.mean((2, 3, 4)) * self.weight

    def decode(self, codes):
        return codes.clamp(min=1e-6).log()[:, :, None, None, None].expand(-1, -1, 4, 2, 2)


class Space(NetworkSpace):
    @classmethod
    def rebuilt(cls, text):
        return cls(Numbers(**text["config"]), FAR, Shares())


@pytest.fixture
def space(monkeypatch):
    monkeypatch.setattr(device, "fast_dtype", lambda _: torch.float32)
    return Space(Numbers(), FAR, Shares())


LABELS = np.zeros((2, 4, 2, 2), np.int16)
LABELS[0, :2], LABELS[0, 2], LABELS[1, :3] = 500, 205, 205  # shares (1/4, 1/2, 1/4) and (1/4, 0, 3/4)


def test_codes_probabilities_and_label_maps_by_hand(space):
    codes = space.encode(LABELS)
    assert codes.tolist() == [[0.25, 0.5, 0.25], [0.25, 0, 0.75]] and codes.dtype == np.float32
    assert np.allclose(space.decode(codes)[:, :, 3, 1, 1], codes, atol=1e-5)
    assert np.array_equal(space.encode(LABELS, batch=1), codes)
    made = space.reconstruct(LABELS)
    assert (made[0] == 500).all() and (made[1] == 205).all()
    dice = [[2 * 8 / (8 + 16), 0.0], [1.0, 2 * 12 / (12 + 16)]]
    assert np.allclose(space.reconstruction_dice(LABELS), dice)


def test_axes_rotate_codes_and_are_undone(space):
    plain = space.encode(LABELS)
    space.axes = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
    codes = space.encode(LABELS)
    assert codes[0].tolist() == [0.25, 1.0, 1.0]
    assert np.allclose(space.decode(codes)[:, :, 0, 0, 0], plain, atol=1e-5)


def test_statistics_before_and_after_training_and_of_another_space(space):
    with pytest.raises(UsageError, match="Space: found a space without training"):
        _ = space.mean
    space.set_training_codes(space.encode(LABELS))
    assert space.mean.tolist() == [0.25, 0.25, 0.5] and space.sigma.tolist() == [0, 0.25, 0.25]
    other = Space(Numbers(), FAR, Shares())
    other.share_basis(space)
    assert other.mean.tolist() == [0.25, 0.25, 0.5] and other.axes is None and other.n_codes == 3


def test_channel_numbers_are_not_taken_for_the_schemes_integers(space):
    with pytest.raises(DataError, match=r"label values \[1, 2\]; expected values of the scheme"):
        space.encode(FAR.channels(LABELS))
    with pytest.raises(DataError, match=r"label values \[205, 500\]"):
        Space(Numbers(), CARDIAC, Shares()).encode(LABELS)
    with pytest.raises(UsageError, match=r"codes: found shape \(2, 4\)"):
        space.decode(np.zeros((2, 4)))
