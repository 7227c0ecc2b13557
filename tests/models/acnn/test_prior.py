"""Equations 1 and 2, by hand, round our networks and round another library's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shapelab.errors import UsageError
from shapelab.models.acnn import ACNNLoss, AEConfig, AESpace, Autoencoder, SubPixelConfig, SubPixelNet
from shapelab.models.acnn.prior import resample
from shapelab.training import seeded
from shapelab.training.losses import onehot

TINY = AEConfig(shape=(24, 24, 12), spacing=(6.0, 6.0, 10.0), widths=(4, 4, 8), bottleneck=4, code=6, epochs=1)


class Sums(nn.Module):
    """A prior one can follow by hand: the code is the number of voxels of each class, in hundreds."""

    def __init__(self):
        super().__init__()
        self.unit = nn.Parameter(torch.tensor(0.01))
        self.config = SimpleNamespace(n_classes=3)

    def encode(self, maps):
        return maps.sum((2, 3, 4)) * self.unit


class Mean(nn.Module):
    """A predictor one can follow by hand: the code is the mean intensity."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, images):
        return images.mean((2, 3, 4)) * self.factor


def labels_and_logits():
    labels = torch.zeros(2, 5, 4, 5, dtype=torch.uint8)
    labels[0, :2] = 1
    labels[1, :, :3] = 2
    logits = 40.0 * onehot(labels, 3)
    logits[0, :, 0, 0, 0] = torch.tensor([40.0, 0.0, 0.0])  # one voxel of class 1 called background, for sure
    return labels, logits


def test_equation_1_by_hand():
    labels, logits = labels_and_logits()
    out = ACNNLoss(Sums(), weight=0.5)(logits, labels)
    # sample 0: one voxel too many of class 0, one too few of class 1, in hundreds: .01^2 + .01^2; sample 1: nothing
    assert float(out["prior"]) == pytest.approx((2 * 0.01**2 + 0) / 2, rel=1e-4)
    assert float(out["pixel"]) == pytest.approx(40.0 / 200)  # -log softmax of that one voxel among 200
    assert float(out["loss"]) == pytest.approx(40.0 / 200 + 0.5 * 0.01**2, rel=1e-4)


def test_equation_2_by_hand():
    image = torch.zeros(2, 1, 4, 4, 4)
    made = image.clone()
    made[0] += 0.5  # smooth l1: .5 * .25; code: 2 * .5 = 1
    made[1] += 2.0  # smooth l1: 2 - .5;   code: 4
    out = ACNNLoss(Mean(), weight=0.01)(made, image)
    assert float(out["pixel"]) == pytest.approx((0.125 + 1.5) / 2)
    assert float(out["prior"]) == pytest.approx((1 + 16) / 2)
    assert float(out["loss"]) == pytest.approx(0.8125 + 0.085)


def test_a_perfect_prediction_costs_nothing():
    labels, _ = labels_and_logits()
    out = ACNNLoss(Sums())(60.0 * onehot(labels, 3), labels)
    assert float(out["loss"]) == pytest.approx(0, abs=1e-6)
    image = torch.rand(1, 1, 4, 4, 4)
    assert float(ACNNLoss(Mean())(image, image)["loss"]) == 0


@pytest.mark.parametrize("prior, weight", [(None, 0.01), (Sums(), 0.0)])
def test_without_prior_or_weight_the_pixel_term_is_left(prior, weight):
    labels, logits = labels_and_logits()
    out = ACNNLoss(prior, weight=weight)(logits, labels)
    assert set(out) == {"loss", "pixel"}
    assert float(out["loss"]) == pytest.approx(float(F.cross_entropy(logits, labels.long())))


def autoencoder():
    return seeded(lambda: Autoencoder(TINY), 0)


def test_the_prior_is_frozen_and_the_gradient_goes_through_it():
    prior = autoencoder().train()
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    loss = ACNNLoss(prior, weight=1.0)
    labels = torch.randint(0, 4, (2, *TINY.shape), dtype=torch.uint8)
    logits = torch.zeros(2, 4, *TINY.shape, requires_grad=True)
    out = loss(logits, labels)
    (out["loss"] - F.cross_entropy(logits, labels.long())).backward()  # the prior's part alone
    assert float(logits.grad.abs().sum()) > 0
    assert all(p.grad is None for p in [*loss.encoder.parameters(), *prior.parameters()])
    assert prior.training and not loss.encoder.training  # ours is a copy in evaluation mode
    assert all(torch.equal(v, before[k]) for k, v in prior.state_dict().items())


def test_the_distance_is_that_of_the_encoders_codes():
    prior = autoencoder().eval()
    loss = ACNNLoss(prior, weight=1.0)
    labels = torch.randint(0, 4, (3, *TINY.shape), dtype=torch.uint8)
    logits = torch.randn(3, 4, *TINY.shape)
    with torch.no_grad():
        difference = prior.encode(logits.softmax(1)) - prior.encode(onehot(labels, 4))
    assert float(loss.distance(logits, labels)) == pytest.approx(float(difference.square().sum(1).mean()), rel=1e-5)


def test_units_of_the_codes():
    space = AESpace(TINY, model=autoencoder())
    labels = np.random.default_rng(0).integers(0, 4, (5, *TINY.shape)).astype(np.uint8)
    space.axes = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0] * 2
    space.set_training_codes(space.encode(labels))
    maps = torch.from_numpy(labels)
    assert np.allclose(ACNNLoss(space, scale="axes").codes(maps).numpy(), space.encode(labels), atol=1e-4)
    expected = space.encode(labels) / space.sigma
    assert np.allclose(ACNNLoss(space, scale="sigma").codes(maps).numpy(), expected, atol=1e-2)


def test_a_tl_network_reads_both_labels_and_images():
    both = SimpleNamespace(model=SimpleNamespace(autoencoder=autoencoder(), predictor=Mean()))
    loss = ACNNLoss(both)
    assert loss.codes(torch.zeros(1, *TINY.shape, dtype=torch.uint8)).shape == (1, 6)
    assert loss.codes(torch.full((1, 1, 4, 4, 4), 0.25)).tolist() == [[0.5]]


def test_other_grids_are_brought_to_the_priors():
    fine = torch.arange(16.0).reshape(1, 1, 4, 2, 2)
    assert torch.equal(resample(fine, (2, 2, 2)), F.avg_pool3d(fine, (2, 1, 1)))
    assert resample(fine, (4, 2, 6)).shape == (1, 1, 4, 2, 6)
    constant = torch.full((1, 2, 6, 6, 4), 0.3)
    assert torch.allclose(resample(constant, (3, 9, 8)), torch.tensor(0.3))
    assert resample(fine, None) is fine
    loss = ACNNLoss(autoencoder(), weight=1.0)
    labels = torch.zeros(1, 48, 24, 12, dtype=torch.uint8)
    assert float(loss(torch.zeros(1, 4, 48, 24, 12), labels)["prior"]) > 0


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_weight_out_of_range(weight):
    with pytest.raises(UsageError, match="weight"):
        ACNNLoss(None, weight=weight)


def test_what_cannot_be_a_prior_is_named():
    with pytest.raises(UsageError, match="found str"):
        ACNNLoss("prior")
    with pytest.raises(UsageError, match="scale"):
        ACNNLoss(autoencoder(), scale="large")
    with pytest.raises(UsageError, match="expected a trained space"):
        ACNNLoss(autoencoder(), scale="sigma")
    with pytest.raises(UsageError, match="does not read an image"):
        ACNNLoss(autoencoder())(torch.zeros(1, 1, *TINY.shape), torch.zeros(1, 1, *TINY.shape))
    with pytest.raises(UsageError, match="does not read a label map"):
        ACNNLoss(Mean())(torch.zeros(1, 4, 4, 4, 4), torch.zeros(1, 4, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("which", ["ours", "monai"])
def test_any_network_that_maps_to_the_grid_learns_under_it(which):
    """The objective round MONAI's U-Net as round ours: both terms fall, the prior stays as it is."""
    torch.manual_seed(0)
    if which == "monai":
        pytest.importorskip("monai")
        from monai.networks.nets import UNet

        network = UNet(spatial_dims=3, in_channels=1, out_channels=4, channels=(8, 16), strides=(2,))
    else:
        network = SubPixelNet(SubPixelConfig(shape=TINY.shape, spacing=TINY.spacing, factor=1, widths=(8, 8, 8, 8)))
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in TINY.shape], indexing="ij")
    labels = torch.from_numpy(
        np.stack([np.digitize(-np.sqrt((x - d) ** 2 + y**2 + z**2), (-0.8, -0.6, -0.3)) for d in (-0.2, 0.1)]).astype(
            np.uint8
        )
    )
    images = labels[:, None].float() / 3
    loss, optimiser = ACNNLoss(autoencoder(), weight=0.1), torch.optim.Adam(network.parameters(), lr=1e-2)
    seen = []
    for _ in range(25):
        out = loss(network(images), labels)
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
        seen.append((float(out["pixel"]), float(out["prior"])))
    assert seen[-1][0] < 0.5 * seen[0][0] and seen[-1][1] < 0.5 * seen[0][1]
