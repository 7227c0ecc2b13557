import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shapelab.augment import AffineRanges
from shapelab.errors import DataError, UsageError
from shapelab.models import sslln
from shapelab.models.sslln import SSLLN, SSLLNConfig, SSLLNLoss
from shapelab.spaces import load_network, save_network
from shapelab.training import Run

TINY = SSLLNConfig(shape=(16, 16, 6), widths=(4, 6, 8), convs=(2, 2, 2), merged=8, crop=(12, 12, 4), epochs=1)


def test_fifteen_convolutions_and_the_papers_sizes():
    config = SSLLNConfig.profile("paper")
    with torch.device("meta"):
        network = SSLLN(config)
        labels, landmarks = network(torch.empty(1, 192, 192, 80))
    assert labels.shape == (1, 5, 192, 192, 80) and landmarks.shape == (1, 7, 192, 192, 80)
    deep = sum(isinstance(m, nn.Conv2d) for m in network.trunk.scales.modules())
    assert deep == 12
    # the parts of the convolution of the concatenated scales are one, the two heads are one last layer
    assert deep + 1 + 1 + 1 == 15 and len(network.trunk.squeeze) == 5
    assert (config.alpha, config.beta, config.gamma) == (0.8, 0.2, 5e-5)
    assert (config.batch, config.epochs, config.learning_rate, config.schedule) == (8, 50, 1e-3, "constant")


def test_adding_squeezed_scales_is_a_convolution_of_the_concatenated_ones():
    torch.manual_seed(0)
    trunk = sslln._Trunk(2, 3, (4, 6, 8), (1, 1, 1), 5).eval()
    x, maps = torch.rand(2, 3, 16, 16), []
    y = x
    for scale in trunk.scales:
        y = scale(y)
        maps.append(F.interpolate(y, size=(16, 16), mode="bilinear", align_corners=False))
    kernel = torch.cat([s.weight for s in trunk.squeeze], 1)
    expected = trunk.last(trunk.norm(F.conv2d(torch.cat(maps, 1), kernel)))
    assert torch.allclose(trunk(x), expected, atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- loss


def test_the_loss_by_hand():
    # every class equally likely, 2 x 2 x 4 = 16 voxels, 5 classes
    labels = torch.zeros(2, 2, 2, 4, dtype=torch.uint8)
    labels[0, 0] = 3
    made, found = torch.zeros(2, 5, 2, 2, 4), torch.zeros(2, 7, 2, 2, 4)
    landmarks = torch.tensor([[[0, 0, k % 4] if k < 4 else [1, 1, k % 4] for k in range(6)]] * 2).float()
    result = SSLLNLoss()((made, found), labels, landmarks)
    # numerator 2 * 16 * .2; denominator 16 (truth) + 16 * 5 * .04 (probabilities)
    assert result["dice"].item() == pytest.approx(-6.4 / 19.2)
    # six voxels of weight 15/16, ten voxels of weight 6/16, each with - log P = log 7
    expected = (6 * 15 / 16 + 10 * 6 / 16) * math.log(7)
    assert result["landmarks"].item() == pytest.approx(expected, rel=1e-5)
    assert result["loss"].item() == pytest.approx(0.8 * -6.4 / 19.2 + 0.2 * expected, rel=1e-5)


def test_the_loss_against_its_definition_written_as_loops():
    generator = torch.Generator().manual_seed(1)
    made = torch.randn(2, 3, 2, 3, 2, generator=generator)
    found = torch.randn(2, 3, 2, 3, 2, generator=generator)
    labels = torch.randint(0, 3, (2, 2, 3, 2), generator=generator)
    landmarks = torch.tensor([[[0, 1, 1], [1, 2, 0]], [[1, 0, 0], [float("nan")] * 3]])
    dice = located = 0.0
    for i in range(2):
        p, q = made[i].softmax(0), found[i].log_softmax(0)
        above = below = 0.0
        classes = torch.zeros(2, 3, 2, dtype=int)
        for k, place in enumerate(landmarks[i]):
            if torch.isfinite(place).all():
                classes[tuple(int(v) for v in place)] = k + 1
        for voxel in np.ndindex(2, 3, 2):
            for k in range(3):
                true = float(labels[i][voxel] == k)
                above += true * p[k][voxel].item()
                below += true**2 + p[k][voxel].item() ** 2 + 1e-8
        for k in range(3):
            voxels = (classes == k).nonzero()
            weight = 1 - len(voxels) / 12
            located -= weight * sum(q[k][tuple(v)].item() for v in voxels) / 2
        dice -= 2 * above / below / 2
    result = SSLLNLoss(1.0, 1.0)((made, found), labels, landmarks)
    assert result["dice"].item() == pytest.approx(dice, rel=1e-5)
    assert result["landmarks"].item() == pytest.approx(located, rel=1e-5)


def test_a_perfect_answer_has_the_least_loss_and_a_landmark_outside_is_none():
    labels = torch.randint(0, 5, (1, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    made = 60 * F.one_hot(labels, 5).movedim(-1, 1).float()
    assert sslln.dice_term(made, labels).item() == pytest.approx(-1, abs=1e-6)
    none = torch.full((1, 2, 3), float("nan"))
    outside = torch.tensor([[[-1.0, 0, 0], [0, 4, 0]]])
    logits = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    assert sslln.landmark_term(logits, outside) == sslln.landmark_term(logits, none) == 0  # w = 1 - 1
    with pytest.raises(UsageError, match=r"landmarks: found shape \(1, 3, 3\); expected \(1, 2, 3\)"):
        sslln.landmark_term(logits, torch.zeros(1, 3, 3))
    with pytest.raises(UsageError, match="alpha: found -1"):
        SSLLNLoss(alpha=-1)


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("method", sslln.NETWORKS)
def test_shapes_and_gradients(method):
    torch.manual_seed(0)
    network = sslln.NETWORKS[method](TINY)
    labels, landmarks = network(torch.rand(2, 16, 16, 6))
    assert labels.shape == (2, 5, 16, 16, 6)
    assert (landmarks is None) == (method != "SSLLN") and (landmarks is None or landmarks.shape == (2, 7, 16, 16, 6))
    output = SSLLNLoss()((labels, landmarks), torch.zeros(2, 16, 16, 6, dtype=torch.uint8), torch.zeros(2, 6, 3))
    output["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    with pytest.raises(UsageError, match=r"volume: found shape \(1, 8, 16, 6\)"):
        network(torch.rand(1, 8, 16, 6))


def test_only_the_25d_network_sees_other_slices():
    torch.manual_seed(0)
    one = torch.rand(1, 16, 16, 6)
    other = one.clone()
    other[..., 4] = 0
    with torch.no_grad():
        for method, sees in (("SSLLN", True), ("2D FCN", False)):
            network = sslln.NETWORKS[method](TINY).eval()
            changed = (network(one)[0] - network(other)[0]).abs().amax((0, 1, 2, 3)) > 1e-6
            assert changed[4] and changed[[0, 1, 2, 3, 5]].all() == sees and changed[[0, 1, 2, 3, 5]].any() == sees


def test_the_3d_network_looks_at_its_crop_alone():
    torch.manual_seed(0)
    network = sslln.VolumeFCN(TINY).eval()
    one = torch.rand(1, 16, 16, 6)
    other = one.clone()
    other[:, :2], other[:, 14:], other[..., 0] = 0, 0, 1
    with torch.no_grad():
        made, again = network(one)[0], network(other)[0]
    assert torch.equal(made, again) and network.crop == (12, 12, 4)
    assert (made.argmax(1)[:, :2] == 0).all() and (made.argmax(1)[..., 5] == 0).all()


def test_saved_and_read_again(tmp_path):
    torch.manual_seed(0)
    network = SSLLN(TINY).eval()
    save_network(tmp_path / "one", network)
    again = load_network(tmp_path / "one")
    volume = torch.rand(1, 16, 16, 6)
    with torch.no_grad():
        assert all(torch.allclose(a, b.cpu(), atol=1e-5) for a, b in zip(network(volume), again(volume), strict=True))
    assert again.config == TINY


def test_configurations_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="multiples of 4 in the plane"):
        replace(TINY, shape=(18, 16, 6))
    with pytest.raises(UsageError, match="expected as many, from 1"):
        replace(TINY, convs=(1, 1))


# ---------------------------------------------------------------------------------------------------------- training


def balls(n: int, seed: int = 0) -> sslln.LandmarkedVolumes:
    """A ball (label 1) in noise, and two landmarks: its centre and its top."""
    rng = np.random.default_rng(seed)
    x = np.stack(np.meshgrid(*(np.arange(k) for k in TINY.shape), indexing="ij"), -1)
    images, labels, places = [], [], []
    for _ in range(n):
        centre = np.array([rng.uniform(5, 10), rng.uniform(5, 10), rng.uniform(2, 3)])
        label = (np.linalg.norm((x - centre) * (1, 1, 2), axis=-1) < 3.6).astype(np.uint8)
        images.append(np.clip(0.2 + 0.6 * label + 0.05 * rng.standard_normal(label.shape), 0, 1))
        labels.append(label)
        places.append([centre, centre + (0, 3, 0)])
    table = pd.DataFrame({"patient": [f"p{i}" for i in range(n)]})
    return sslln.LandmarkedVolumes(
        np.stack(images).astype(np.float32), np.stack(labels), np.array(places), table, TINY.spacing
    )


BALLS = replace(
    TINY,
    n_classes=2,
    n_landmarks=2,
    epochs=40,
    batch=8,
    learning_rate=1e-2,
    intensity=0.1,
    affine=AffineRanges((10, 10, 10), 0.05, 0, 0, (3, 3, 0)),
)


@pytest.mark.slow
def test_training_finds_labels_and_landmarks_of_unseen_volumes():
    network, history = sslln.train_sslln(balls(48), BALLS, run=Run(progress=False))
    assert history["loss"][-1] < history["loss"][0] and history["dice"][-1] < -0.95
    unseen = balls(8, seed=1)
    labels, landmarks = sslln.predict(network, unseen.images)
    overlap = 2 * ((labels == 1) & (unseen.labels == 1)).sum() / ((labels == 1).sum() + (unseen.labels == 1).sum())
    assert overlap > 0.8  # a ball of some 50 voxels
    assert np.linalg.norm(landmarks - unseen.landmarks, axis=-1).mean() < 1  # voxels


def test_training_is_a_function_of_its_seed():
    config = replace(BALLS, epochs=1)
    one, same, other = (sslln.train_sslln(balls(8), config, run=Run(seed=s, progress=False))[0] for s in (0, 0, 1))
    weights = [torch.cat([p.ravel() for p in n.parameters()]) for n in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.allclose(weights[0], weights[2])
    with pytest.raises(UsageError, match="method: found 'U-Net'"):
        sslln.train_sslln(balls(2), config, method="U-Net")
    with pytest.raises(UsageError, match=r"found shape \(16, 16, 6\)"):
        sslln.train_sslln(balls(2), replace(config, shape=(16, 16, 8)))


def test_weight_decay_is_the_gradient_of_gamma_w_squared(monkeypatch):
    given = []
    monkeypatch.setattr(sslln, "fit", lambda *args, settings, **rest: given.append(settings))
    sslln.train_sslln(balls(2), replace(BALLS, gamma=0.03))
    w = torch.tensor([0.5, -2.0], requires_grad=True)
    (0.03 * w.square().sum()).backward()
    assert torch.allclose(given[0].weight_decay * w.detach(), w.grad)


def test_other_data_is_another_run(tmp_path):
    config, run = replace(BALLS, epochs=1), Run(tmp_path, progress=False)
    one = balls(4)
    sslln.train_sslln(one, config, run)
    for other in (balls(4, seed=1), replace(one, labels=1 - one.labels), replace(one, landmarks=one.landmarks + 1)):
        with pytest.raises(DataError, match="found a checkpoint with data"):
            sslln.train_sslln(other, config, run)


STILL = AffineRanges((0, 0, 0), 0, 0, 0, (0, 0, 0))


def one_step(monkeypatch, volumes, config, method="SSLLN") -> dict:
    """What a step of training gives its network ("images") and its loss ("labels", "landmarks"), and the "weights"."""
    seen = {}

    class Loss:
        def __init__(self, *weights):
            seen["weights"] = weights

        def __call__(self, output, labels, landmarks):
            seen.update(labels=labels, landmarks=landmarks)

    monkeypatch.setattr(sslln, "SSLLNLoss", Loss)
    monkeypatch.setattr(sslln, "fit", lambda step, *args, **rest: seen.update(step=step))
    network, _ = sslln.train_sslln(volumes, config, method=method)
    network.register_forward_pre_hook(lambda _, inputs: seen.update(images=inputs[0]))
    torch.manual_seed(0)
    seen["step"](tuple(torch.as_tensor(a) for a in (volumes.images, volumes.labels, volumes.landmarks)))
    return seen


def test_a_step_moves_labels_and_landmarks_with_the_images(monkeypatch):
    moving = replace(BALLS, affine=AffineRanges((10, 10, 10), 0.05, 0, 0, (6, 6, 0)), alpha=3.0, beta=5.0)
    volumes = balls(8)
    seen = one_step(monkeypatch, volumes, moving)
    for image, label, places in zip(seen["images"], seen["labels"], seen["landmarks"], strict=True):
        centres = [np.argwhere((mask > 0.5).numpy()).mean(0) for mask in (image, label)]
        assert np.abs(centres[0] - centres[1]).max() < 0.5 and np.abs(centres[1] - places[0].numpy()).max() < 1
    assert (seen["landmarks"][:, 0] - torch.from_numpy(volumes.landmarks[:, 0])).abs().amax(1).median() > 1
    assert seen["weights"] == (3.0, 5.0)


def test_a_step_multiplies_each_image_by_a_factor_of_its_own(monkeypatch):
    volumes = balls(8)
    dim = replace(volumes, images=0.5 * volumes.images)
    seen = one_step(monkeypatch, dim, replace(BALLS, affine=STILL, intensity=0.5))
    factors = [np.median(made / image) for made, image in zip(seen["images"].numpy(), dim.images)]
    assert 0.5 <= min(factors) < 0.8 and 1.2 < max(factors) <= 1.5
    for made, image, factor in zip(seen["images"].numpy(), dim.images, factors):
        assert np.allclose(made, factor * image, atol=1e-4)


def test_gaps_are_as_long_as_asked_for_in_mm(monkeypatch):
    config = replace(BALLS, affine=STILL, gaps=1.0, gap_mm=2 * BALLS.spacing[2])
    missing = (one_step(monkeypatch, balls(16), config)["images"] == 0).all(1).all(1).sum(1)
    assert set(missing.tolist()) == {1, 2}


def test_the_2d_network_is_shown_some_slices_with_their_labels(monkeypatch):
    volumes = balls(4)
    volumes = replace(volumes, images=0.8 * volumes.labels.astype(np.float32))
    config = replace(BALLS, affine=STILL, intensity=0.0, slices=4)
    seen = one_step(monkeypatch, volumes, config, "2D FCN")
    assert seen["images"].shape == (4, 16, 16, 4) and torch.equal(seen["images"] > 0.4, seen["labels"] == 1)


def test_prediction_uses_the_statistics_of_training():
    network = SSLLN(TINY).train()
    images = torch.rand(3, 16, 16, 6, generator=torch.Generator().manual_seed(0))
    labels, landmarks = sslln.predict(network, images)
    assert not network.training
    again = sslln.predict(network, images, batch=1)  # by themselves: no statistics of a batch
    assert (labels != again[0]).mean() < 0.01 and network.trunk.norm[0].num_batches_tracked == 0


def test_training_sees_missing_slices_only_if_asked_for():
    def weights(**numbers):
        network, _ = sslln.train_sslln(balls(4), replace(BALLS, epochs=1, **numbers), run=Run(progress=False))
        return torch.cat([p.ravel() for p in network.parameters()])

    assert torch.equal(weights(), weights(gap_mm=9.0)) and not torch.allclose(weights(), weights(gaps=1.0))


def test_a_landmark_is_the_centre_of_gravity_of_its_voxels():
    logits = torch.zeros(3, 5, 5, 5)
    logits[0] = 1
    logits[1, 1:4, 2, 2] = 5  # three voxels: their middle
    logits[2, 4, 4, 0] = 0.5  # never the likeliest: the place where it is likeliest
    assert sslln.landmarks_of(logits).tolist() == [[2, 2, 2], [4, 4, 0]]


def test_volumes_that_do_not_fit_together_are_named():
    good = balls(3)
    assert len(good[[0, 2]]) == 2 and good[np.array([True, False, True])].table["patient"].tolist() == ["p0", "p2"]
    with pytest.raises(DataError, match=r"LandmarkedVolumes.labels: found shape \(3, 16, 16, 5\)"):
        replace(good, labels=good.labels[..., :5])
    with pytest.raises(DataError, match=r"LandmarkedVolumes.landmarks: found shape \(2, 2, 3\)"):
        replace(good, landmarks=good.landmarks[:2])
