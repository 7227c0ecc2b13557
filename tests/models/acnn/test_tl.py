"""The predictor against Table IV of the paper, the three stages of the T-L network, and its shape space."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from shapelab.augment import AffineRanges
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.models.acnn import AEConfig, Autoencoder, train_autoencoder
from shapelab.models.acnn.predictor import (
    ContrastRanges,
    Predictor,
    PredictorConfig,
)
from shapelab.models.acnn.tl import (
    TLNetwork,
    TLSpace,
    change_basis,
    distance,
    joint_losses,
    train_tl_network,
)
from shapelab.spaces.contract import ShapeSpace
from shapelab.training import FitSettings, Run
from shapelab.training.loop import CHECKPOINT
from shapelab.training.losses import onehot

GRID = {"shape": (24, 24, 12), "spacing": (6.0, 6.0, 10.0)}
AE = AEConfig(**GRID, widths=(8, 8, 16), bottleneck=24, code=8, epochs=6, learning_rate=5e-3, batch=4)
TINY = PredictorConfig(**GRID, widths=(8, 8, 16, 16), last=8, code=8, epochs=5, joint_epochs=3, batch=4)
STILL = {
    "affine": AffineRanges((0, 0, 0), 0, 0, 0, (0, 0, 0)),
    "contrast": ContrastRanges(0, 0, 0, 0),
    "noise": 0.0,
    "thick": 0.0,
}
QUIET = {"progress": False, "device": "cpu"}


def hearts(n=12, shape=(24, 24, 12), seed=0):
    """Images and label maps with two factors: size of the LV and thickness of its wall."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij")
    out = np.zeros((n, *shape), np.uint8)
    for label, (size, wall) in zip(out, rng.uniform((0.3, 0.1), (0.5, 0.25), (n, 2))):
        left = np.sqrt((x - 0.15) ** 2 + y**2 + (0.6 * z) ** 2)
        label[np.sqrt((x + 0.35) ** 2 + y**2 + (0.6 * z) ** 2) < 0.45] = 1
        label[left < size + wall] = 2
        label[left < size] = 3
    images = np.array([0.1, 0.7, 0.3, 0.9])[out] + 0.02 * rng.standard_normal(out.shape)
    return images.clip(0, 1).astype(np.float16), out


@pytest.fixture(scope="module")
def shapes():
    return train_autoencoder(hearts()[1], AE, run=Run(seed=0, **QUIET))[0]


@pytest.fixture(scope="module")
def trained(shapes):
    return train_tl_network(*hearts(), TINY, run=Run(seed=0, **QUIET), autoencoder=shapes, data="test hearts")


# ---------------------------------------------------------------------------------------------------------- Table IV


@pytest.mark.parametrize("name", ["quick", "full", "paper"])
def test_every_profile_feeds_its_codes_and_fits_its_autoencoder(name):
    config = PredictorConfig.profile(name)
    assert np.prod(config.cells) * config.last >= config.code
    with torch.device("meta"):
        network = TLNetwork(Autoencoder(AEConfig.profile(name)), Predictor(config)).eval()
    images = torch.zeros(2, *config.shape, device="meta")
    assert network.predict(images).shape == (2, 64)
    assert network.predict(images[:, None]).shape == (2, 64)
    assert network(images).shape == (2, 4, *config.shape)


def test_networks_of_different_grids_do_not_go_together():
    with pytest.raises(UsageError, match="TLNetwork: found a predictor for 24x24x12 .* 8 codes, an autoencoder .* 9"):
        TLNetwork(Autoencoder(replace(AE, code=9)), Predictor(TINY))


# ---------------------------------------------------------------------------------------------------------- the images


# ---------------------------------------------------------------------------------------------------------- training


def test_distance_by_hand():
    a, b = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert distance(a, b).item() == pytest.approx((4 + 25) / 2)


def test_the_joint_step_sends_both_gradients_to_the_encoder():
    torch.manual_seed(0)
    network = TLNetwork(Autoencoder(AE), Predictor(TINY))
    images, labels = (torch.from_numpy(a) for a in hearts(4))

    def gradients(loss):
        network.zero_grad()
        loss.backward(retain_graph=True)
        parts = {
            "encoder": network.autoencoder.encoder,
            "decoder": network.autoencoder.decoder,
            "predictor": network.predictor,
        }
        return {
            k: torch.cat([torch.zeros_like(p).ravel() if p.grad is None else p.grad.ravel() for p in part.parameters()])
            for k, part in parts.items()
        }

    lx, lh = joint_losses(network, images.float(), labels, labels)
    by_x, by_h, both = gradients(lx), gradients(lh), gradients(lx + 0.5 * lh)
    assert by_x["encoder"].any() and by_h["encoder"].any()
    assert not by_h["decoder"].any() and not by_x["predictor"].any()
    assert torch.allclose(both["encoder"], by_x["encoder"] + 0.5 * by_h["encoder"], atol=1e-5)
    # L_h is that of clean maps: swapping labels moves L_x alone
    other = joint_losses(network, images.float(), labels, (labels + 1) % 4)
    assert not torch.isclose(other[0], lx) and torch.isclose(other[1], lh, rtol=1e-4)


def test_each_stage_lowers_its_loss():
    config = replace(TINY, **STILL, joint_epochs=8, joint_learning_rate=3e-3)
    space, history = train_tl_network(*hearts(), config, run=Run(seed=0, **QUIET), autoencoder=AE)
    table = history.table
    assert table["stage"].tolist() == [1] * 6 + [2] * 5 + [3] * 8 and history.table.index.tolist() == list(range(19))
    for stage, column in ((1, "L_x"), (2, "L_h"), (3, "loss")):
        values = table.loc[table["stage"] == stage, column].to_numpy()
        assert values[-1] < values[0], (stage, values)
    assert table.loc[table["stage"] == 2, "L_x"].isna().all() and space.metadata["weight of L_h"] > 0
    last = table.iloc[-1]
    assert last["loss"] == pytest.approx(last["L_x"] + space.metadata["weight of L_h"] * last["L_h"], rel=1e-5)


def test_the_weight_makes_both_losses_alike(shapes):
    from shapelab.models.acnn import tl

    space = TLSpace(copy.deepcopy(shapes), Predictor(replace(TINY, **STILL, batch=12)))
    space.model.autoencoder.config = replace(AE, swap=0.0)
    stages = tl._Stages(space, *hearts(), None, Run(device="cpu"))
    with torch.no_grad():
        images, labels = (torch.from_numpy(a) for a in hearts())
        lx, lh = joint_losses(copy.deepcopy(space.model).train(), images.float(), labels, labels)
    assert stages._weight() == pytest.approx(float(lx / lh), rel=0.05) and not 0.5 < lx / lh < 2


def test_what_training_leaves_are_statistics_of_clean_data(trained):
    images, labels = (torch.from_numpy(a) for a in hearts())
    read = {"autoencoder": onehot(labels, 4), "predictor": images.float()[:, None]}
    for part, first in (
        ("autoencoder", trained[0].model.autoencoder.encoder[0]),
        ("predictor", trained[0].predictor.features[0]),
    ):
        with torch.no_grad():
            out = first[0](read[part])
        assert torch.allclose(first[1].running_mean, out.mean((0, 2, 3, 4)), atol=3e-3), part


def test_the_space_given_for_stage_1_is_not_changed(shapes, trained):
    images, labels = hearts()
    again = train_autoencoder(labels, AE, run=Run(seed=0, **QUIET))[0]
    assert np.array_equal(shapes.encode(labels), again.encode(labels))
    assert not np.array_equal(trained[0].encode(labels), shapes.encode(labels))  # stage 3 has moved the encoder
    assert trained[1].table["stage"].tolist() == [2] * 5 + [3] * 3
    assert trained[0].metadata["data"] == "test hearts" and trained[0].metadata["n"] == 12


def test_training_is_repeatable_and_validation_does_not_change_it(shapes, trained):
    space, history = train_tl_network(
        *hearts(), TINY, run=Run(**QUIET), autoencoder=shapes, validation=hearts(3, seed=1)
    )
    images, labels = hearts()
    assert np.array_equal(space.encode_images(images), trained[0].encode_images(images))
    assert np.array_equal(space.encode(labels), trained[0].encode(labels))
    assert history.table[["val explained", "val dice"]].notna().sum().min() >= 2


@pytest.mark.slow
def test_it_reads_hearts_it_has_not_seen():
    ae = replace(AE, epochs=60, principal_axes=True, affine=STILL["affine"])
    config = replace(TINY, **STILL, epochs=40, joint_epochs=10, learning_rate=3e-3)
    space, _ = train_tl_network(*hearts(32), config, run=Run(**QUIET), autoencoder=ae)
    images, labels = hearts(8, seed=1)
    assert (space.segmentation_dice(images, labels).mean(0) > 0.75).all()
    read, true = space.encode_images(images)[:, 0], space.encode(labels)[:, 0]
    assert np.corrcoef(read, true)[0, 1] > 0.9


class Killed(Exception):
    """The power is gone."""


@pytest.mark.parametrize("stage, at", [("predictor", 8), ("joint", 4)])
def test_a_killed_run_resumes_to_the_same_bits(shapes, tmp_path, monkeypatch, stage, at):
    from shapelab.models.acnn import tl

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole, _ = train_tl_network(*hearts(), TINY, run=Run(**QUIET), autoencoder=shapes)
        monkeypatch.setattr(tl, "FitSettings", lambda **o: FitSettings(**o, checkpoint_seconds=0))
        calls, target = iter(range(1000)), {"predictor": "distance", "joint": "joint_losses"}[stage]
        real = getattr(tl, target)

        def dying(*args):
            if next(calls) == at + (3 if stage == "joint" else 0):  # 3: those that find the weight of L_h
                raise Killed
            return real(*args)

        monkeypatch.setattr(tl, target, dying)
        with pytest.raises(Killed):
            train_tl_network(*hearts(), TINY, run=Run(checkpoint=tmp_path, **QUIET), autoencoder=shapes)
        monkeypatch.setattr(tl, target, real)
        assert (tmp_path / "2-predictor" / CHECKPOINT).is_file()
        assert (tmp_path / "3-joint" / CHECKPOINT).is_file() == (stage == "joint")
        resumed, history = train_tl_network(*hearts(), TINY, run=Run(checkpoint=tmp_path, **QUIET), autoencoder=shapes)
        assert len(history) == 8
        for key, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[key]), key
        images, labels = hearts(3, seed=2)
        assert np.array_equal(whole.encode_images(images), resumed.encode_images(images))
        with pytest.raises(DataError, match=f"{CHECKPOINT}: found a checkpoint with images"):
            train_tl_network(*hearts(seed=5), TINY, run=Run(checkpoint=tmp_path, **QUIET), autoencoder=shapes)
        other = copy.deepcopy(shapes)
        next(other.model.parameters()).data.mul_(1.5)
        with pytest.raises(DataError, match=f"{CHECKPOINT}: found a checkpoint with initial weights .*step.encoder"):
            train_tl_network(*hearts(), TINY, run=Run(checkpoint=tmp_path, **QUIET), autoencoder=other)
    finally:
        torch.set_num_threads(threads)


# --------------------------------------------------------------------------------------------------------- the space


def test_it_is_a_shape_space_with_codes_from_images(trained):
    space = trained[0]
    images, labels = hearts(5)
    assert isinstance(space, ShapeSpace) and space.n_codes == 8 and space.scheme == CARDIAC
    assert space.grid.shape == (24, 24, 12)
    codes = space.encode_images(images)
    assert codes.shape == (5, 8) and codes.dtype == np.float32
    assert np.allclose(space.encode_images(images, batch=2), codes, atol=1e-4)
    assert np.array_equal(space.segment(images), space.decode(codes).argmax(1))
    assert space.segmentation_dice(images, labels).shape == (5, 3)
    with torch.no_grad():
        own = space.model.predict(torch.from_numpy(images).float()).numpy()
        label = space.model.encode(onehot(torch.from_numpy(labels), 4)).numpy()
    assert np.allclose(own, codes, atol=1e-4) and np.allclose(label, space.encode(labels), atol=1e-4)
    trained_codes = space.encode(hearts()[1])
    assert np.allclose(space.mean, trained_codes.mean(0), atol=1e-4)
    assert np.allclose(space.sigma, trained_codes.std(0), atol=1e-4)


def test_another_basis_changes_the_codes_and_not_the_shapes():
    torch.manual_seed(0)
    network = TLNetwork(Autoencoder(AE), Predictor(TINY)).eval()
    images, labels = (torch.from_numpy(a) for a in hearts(2))
    maps, axes = onehot(labels, 4), np.random.default_rng(0).normal(size=(8, 8))

    def all_of():
        codes, read = network.encode(maps), network.predict(images.float())
        return codes.numpy(), read.numpy(), network.decode(codes), network(images.float())

    with torch.no_grad():
        before = all_of()
        change_basis(network, axes)
        after = all_of()
    for one, other in zip(before[:2], after[:2]):
        assert np.allclose(one @ axes, other, atol=1e-4)
    for one, other in zip(before[2:], after[2:]):
        assert torch.allclose(one, other, atol=1e-3)


def test_stage_2_begins_with_the_networks_own_codes_and_their_mean(shapes):
    from shapelab.models.acnn import tl

    labels = hearts()[1]
    space = TLSpace(copy.deepcopy(shapes), Predictor(TINY))
    tl._Stages(space, *hearts(), None, Run(device="cpu"))
    assert shapes.axes is not None and np.allclose(space.encode(labels) @ shapes.axes, shapes.encode(labels), atol=1e-3)
    assert np.allclose(space.predictor.to_code.bias.detach(), space.encode(labels).mean(0), atol=1e-4)


def test_codes_end_up_uncorrelated_and_sorted(trained):
    codes = trained[0].encode(hearts()[1]).astype(float)
    covariance = np.cov(codes.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3 * covariance.max()
    assert (np.diff(np.diag(covariance)) <= 1e-6 * covariance.max()).all()


@pytest.mark.parametrize(
    "images, words",
    [
        (hearts(2)[0][:, :20], r"found an array of shape \(2, 20, 24, 12\); expected .* \(24, 24, 12\)"),
        (hearts(2)[0][0], r"shape \(24, 24, 12\)"),
        (hearts(2)[0][:0], r"shape \(0, 24"),
        (hearts(2)[1], "type uint8"),
        (np.full((1, 24, 24, 12), np.nan), "finite: False"),
        (hearts(2)[0] * 255, "intensities from .* to 243"),
    ],
)
def test_wrong_images_are_named(trained, images, words):
    with pytest.raises(DataError, match=words):
        trained[0].encode_images(images)


def test_images_and_labels_must_be_as_many(shapes):
    with pytest.raises(UsageError, match="found 3 images and 4 label maps"):
        train_tl_network(hearts(3)[0], hearts(4)[1], TINY, run=Run(**QUIET), autoencoder=shapes)


# ------------------------------------------------------------------------------------------------------------- files


def test_save_and_load_give_the_same_space(trained, tmp_path):
    space = trained[0]
    images, labels = hearts(4)
    again = TLSpace.load(space.save(tmp_path / "a"))
    assert np.array_equal(again.encode_images(images), space.encode_images(images))
    assert np.array_equal(again.encode(labels), space.encode(labels))
    assert np.array_equal(again.decode(space.mean), space.decode(space.mean))
    assert (again.config, again.shapes.config, again.scheme) == (space.config, space.shapes.config, space.scheme)
    assert again.metadata == json.loads(json.dumps(space.metadata)) and np.array_equal(again.sigma, space.sigma)
    space.save(tmp_path / "a", half=True)  # over the first: still one file of weights
    assert len(list((tmp_path / "a").iterdir())) == 2
    halved = TLSpace.load(tmp_path / "a")
    assert np.abs(halved.encode_images(images) - space.encode_images(images)).max() < 0.02 * space.sigma[0]
    assert halved.model.predictor.to_code.weight.dtype == torch.float32


@pytest.mark.parametrize("damage", ["no folder", "no weights", "cut weights", "no json", "no config", "wrong config"])
def test_damaged_files_are_named(trained, tmp_path, damage):
    folder = trained[0].save(tmp_path / "a")
    file, weights = folder / TLSpace.FILE, next(folder.glob("*.safetensors"))
    text = json.loads(file.read_text())
    if damage == "no folder":
        folder = tmp_path / "b"
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "no json":
        file.write_text("{")
    elif damage == "no config":
        file.write_text(json.dumps({k: v for k, v in text.items() if k != "autoencoder"}))
    else:
        text["config"]["widths"] = [4, 4, 4, 4]
        file.write_text(json.dumps(text))
    expected = {
        "no folder": "tl.json: found no such file",
        "no weights": "safetensors: found no such file",
        "cut weights": "damaged file",
        "no json": "damaged description",
        "no config": "KeyError: 'autoencoder'",
        "wrong config": "weights that do not fit",
    }[damage]
    with pytest.raises(DataError, match=expected):
        TLSpace.load(folder)
