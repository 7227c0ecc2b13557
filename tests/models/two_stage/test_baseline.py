"""The 3-D U-Net at 2 mm: its voxels, the way back by B-splines, its training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shapelab.augment import AffineRanges
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError
from shapelab.models.two_stage.baseline import UNet, resampled, train_unet
from shapelab.models.two_stage.networks import TwoStageConfig
from shapelab.models.two_stage.volumes import Volume
from shapelab.training import Run

TINY = TwoStageConfig(
    n_classes=4, unet_width=4, unet_levels=2, sides=(12, 16), steps=(1, 1, 1, 1), every=2, elastic=None,
    affine=AffineRanges((0, 0, 0), 0, 0, 0, (0, 0, 0)),
)  # fmt: skip
QUIET = {"progress": False, "device": "cpu"}


def blocks(shape=(24, 20, 16)):
    """Two boxes, and a grey value for each."""
    label = np.zeros(shape, np.uint8)
    label[5:13, 4:14, 4:12], label[13:21, 4:14, 4:12] = 1, 3
    return Volume(np.array([-1, 0, 0.5, 1], np.float32)[label], label, (1.5, 1.5, 1.5))


def test_cubes_that_fill_the_field():
    made = resampled(blocks(), 2.0)
    assert made.image.shape == (18, 15, 12) and made.spacing == pytest.approx((2, 2, 2))
    volume = blocks()  # moved by a voxel: no border in the middle of a cube, where shares are even
    volume = Volume(np.roll(volume.image, 1, 0), np.roll(volume.label, 1, 0), (1.0, 2.0, 4.0))
    made = resampled(volume, 2.0)
    assert made.image.shape == (12, 20, 32) and made.spacing == pytest.approx((2, 2, 2))
    for before, after in ((volume, made), (blocks(), resampled(blocks(), 2.0))):
        for value in (1, 3):  # volumes and places in mm stay
            mask, there = before.label == value, after.label == value
            cell, cell_there = np.prod(before.spacing), np.prod(after.spacing)
            assert there.sum() * cell_there == pytest.approx(mask.sum() * cell, rel=0.15)
            middle, middle_there = (
                (np.argwhere(m).mean(0) + 0.5) * v.spacing for m, v in ((mask, before), (there, after))
            )
            assert np.abs(middle - middle_there).max() < 1.5
    assert resampled(replace(volume, label=None), 2.0).label is None


class Reads(nn.Module):
    """Logits of class 3 against background, from the grey value."""

    def forward(self, x):
        return -30 * (x - torch.tensor([-1.0, 50, 50, 1]).view(1, 4, 1, 1, 1)).square()


def test_labels_come_back_in_place(monkeypatch):
    """With a net that knows the answer at 2 mm: the labels at 1.5 mm, but for a voxel at the borders."""
    net = UNet(TINY)
    monkeypatch.setattr(net, "forward", Reads().forward)
    volume = blocks()
    volume = replace(volume, image=np.where(volume.label == 3, 1, -1).astype(np.float32))
    found = net.segment(volume)
    assert found.shape == volume.label.shape and found.dtype == np.uint8
    a, b = found == 3, volume.label == 3
    assert set(np.unique(found)) == {0, 3} and 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85
    assert np.abs(np.argwhere(a).mean(0) - np.argwhere(b).mean(0)).max() < 0.3


def test_it_is_trained_for_as_many_batches_as_all_four_steps():
    hearts = [blocks(), blocks()]
    net, history = train_unet(hearts, TINY, Run(seed=0, **QUIET), scheme=CARDIAC, validation=hearts[:1])
    assert history["steps"].tolist() == [2, 4] and {"dice", "entropy", "val unet"} <= set(history.last)
    again, _ = train_unet(hearts, TINY, Run(seed=0, **QUIET), scheme=CARDIAC)
    for name, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    with pytest.raises(DataError, match=r"volumes\[0\]: found no label"):
        train_unet([replace(hearts[0], label=None)], TINY, scheme=CARDIAC)


def test_parameters_and_shapes_of_the_quick_profile():
    with torch.device("meta"):
        net = UNet(TwoStageConfig.profile("quick")).eval()
    assert net(torch.zeros(1, 1, 33, 29, 17, device="meta")).shape == (1, 8, 33, 29, 17)
    w = (8, 16, 32, 64, 128)

    def unit(n_in, n_out):
        return 27 * n_in * n_out + 2 * n_out

    down = sum(unit(i, o) + unit(o, o) for i, o in zip((1, *w), w))
    up = sum(unit(b, a) + unit(2 * a, a) + unit(a, a) for a, b in zip(w, w[1:]))
    assert sum(p.numel() for p in net.parameters()) == down + up + 8 * 8 + 8
