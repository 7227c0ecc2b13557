"""CE-Reg and its variants against the paper's numbers; the two optimisers, the fixed decoder, and the space."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from shapelab.augment import AffineRanges
from shapelab.data.grid import Grid, z_normalised
from shapelab.data.scheme import CARDIAC, WHOLE_HEART
from shapelab.data.volumes import Scans
from shapelab.errors import DataError, UsageError
from shapelab.models.joint_space import (
    METHODS,
    ImageTurn,
    JointNetwork,
    JointSpace,
    JointSpaceConfig,
    train_joint_space,
)
from shapelab.spaces import load
from shapelab.spaces.contract import ShapeSpace
from shapelab.training import Run, TimeUp, probing, time_limit
from shapelab.training.losses import onehot

GRID = Grid((14, 11, 12), (10.0, 10.0, 10.0))
STILL = AffineRanges((0, 0, 0), 0, 0, 0, (0, 0, 0))
TINY = JointSpaceConfig(
    shape=GRID.shape, spacing=GRID.spacing, n_classes=4, widths=(6, 12), convs=(2, 2), steps=24, every=6, affine=STILL
)
QUIET = {"progress": False, "device": "cpu"}
TISSUES = {"CT": (0.0, 0.9, 0.4, 0.7), "MR": (0.6, 0.1, 0.9, 0.3)}  # each structure's grey value


def hearts(n=6, seed=0, modalities=("CT", "MR"), grid=GRID):
    """Three balls that move and grow, seen by each modality in its own grey values."""
    rng = np.random.default_rng(seed)
    where = np.stack(np.meshgrid(*[np.linspace(-1, 1, s) for s in grid.shape], indexing="ij"), -1)
    labels = np.zeros((n, *grid.shape), np.uint8)
    for label in labels:
        for k, centre in enumerate(((-0.4, 0, 0), (0.4, 0.2, 0.2), (0.1, -0.4, -0.4)), 1):
            label[((where - centre - rng.uniform(-0.15, 0.15, 3)) ** 2).sum(-1) < rng.uniform(0.35, 0.5) ** 2] = k
    names = [modalities[i % len(modalities)] for i in range(n)]
    grey = [np.take(TISSUES[m], y) + 0.03 * rng.standard_normal(y.shape) for m, y in zip(names, labels)]
    images = np.stack([z_normalised(image) for image in grey])
    table = pd.DataFrame({"patient": [f"p{i}" for i in range(n)], "modality": names})
    return Scans(images.astype(np.float16), labels, table, grid, CARDIAC)


def train(method="CE-Reg", run=None, scans=None, **changes):
    config = replace(TINY, method=method, **changes)
    return train_joint_space(scans or hearts(), config, run or Run(seed=0, **QUIET), data="test hearts")


@pytest.fixture(scope="module")
def trained():
    return train(steps=400, every=100)


# ------------------------------------------------------------------------------------------------- the paper's numbers


@pytest.mark.parametrize(
    ("method", "count"),
    [("CE-Reg", 624_044), ("l1-Reg", 624_044), ("2E-D", 386_393), ("E-D", 621_854), ("U-Net", 701_774)],
)
def test_numbers_of_parameters_at_the_paper_profile(method, count):
    """624K in print; the others follow from the layer list."""
    config = JointSpaceConfig.profile("paper", method=method)
    with torch.device("meta"):
        network = JointNetwork(config)
    count_of = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert sum(count_of.values()) == count
    if method == "CE-Reg":
        assert count_of == {"encoder": 480_972, "decoder": 143_072}
        assert config.code == 1584
        assert config.sizes[-1] == (9, 8, 11)
        convs = {n: [m for m in c.modules() if isinstance(m, torch.nn.Conv3d)] for n, c in network.named_children()}
        assert len(convs["encoder"]) == 15 + 1  # one more first convolution
        assert [m.out_channels for m in convs["decoder"]] == [80, 40, 32, 16, 8]
        assert sum(m.stride == (2, 2, 2) for m in convs["encoder"]) == 4


@pytest.mark.parametrize("profile", ["quick", "full", "paper"])
@pytest.mark.parametrize("method", METHODS)
def test_shapes_at_every_profile(profile, method):
    config = JointSpaceConfig.profile(profile, method=method)
    with torch.device("meta"):
        network = JointNetwork(config).eval()
    images = torch.zeros(2, *config.shape, device="meta")
    assert network(images).shape == (2, 8, *config.shape)
    codes = network.encode_images(images)
    assert codes.shape == (2, config.code)
    if method != "U-Net":
        assert network.decode(codes).shape == (2, 8, *config.shape)
    assert {s * 2**level for s, level in zip(config.spacing, [len(config.widths) - 1] * 3)} == {24.0}  # mm of a cell


def test_a_configuration_that_cannot_be_is_an_error():
    with pytest.raises(UsageError, match="method"):
        replace(TINY, method="CE")
    with pytest.raises(UsageError, match="two groups"):
        replace(TINY, widths=(6, 12, 24))
    with pytest.raises(UsageError, match="more than one cell"):
        replace(TINY, shape=(2, 2, 2))


# --------------------------------------------------------------------------------------------- what a batch changes


def changed(network, before):
    """Names of parts of the network whose weights, and whose running statistics, are others than before."""
    state = network.state_dict()
    names = [name for name, value in state.items() if not torch.equal(value, before[name])]
    return {".".join(n.split(".")[:3]) if ".first." in n and n[0] != "d" else n.split(".")[0] for n in names}


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_changes_what_it_shall_and_nothing_else(method):
    """Label batches E and D, image batches E alone, statistics included; each leaves the other's first layer alone."""
    expected = {
        "CE-Reg": ({"encoder.first.labels", "encoder", "decoder"}, {"encoder.first.images", "encoder"}),
        "l1-Reg": ({"encoder.first.labels", "encoder", "decoder"}, {"encoder.first.images", "encoder"}),
        "2E-D": ({"label_encoder.first.labels", "label_encoder", "decoder"}, {"encoder.first.images", "encoder"}),
        "E-D": (None, {"encoder.first.images", "encoder", "decoder"}),
        "U-Net": (None, {"encoder.first.images", "encoder", "decoder"}),
        "free decoder": (
            {"encoder.first.labels", "encoder", "decoder"},
            {"encoder.first.images", "encoder", "decoder"},
        ),
    }[method]
    seen = []

    def one_batch_each(training):
        network = training.model.train()
        optimiser = training.optimiser([])
        for batch in training.batches(0):
            before = {name: value.clone() for name, value in network.state_dict().items()}
            optimiser.zero_grad()
            sum(training.step(batch).values()).backward()
            optimiser.step()
            seen.append((isinstance(batch, torch.Tensor), changed(network, before)))
        raise InterruptedError

    with pytest.raises(InterruptedError), probing(one_batch_each):
        train(method, steps=2, every=2)
    of_labels, of_images = ([parts for labels, parts in seen if labels == kind] for kind in (True, False))
    assert of_images == [expected[1]] * 2
    assert of_labels == ([] if expected[0] is None else [expected[0]] * 2)


def test_each_kind_of_batch_has_moments_of_its_own_at_its_own_rate():
    """Adam's first step of a weight is its rate, whatever the gradient: .002 by a label batch, then .004 by an image
    batch, though the label batch has moved the same weight before."""
    moves = []

    def look(training):
        network = training.model.train()
        optimiser, weight = training.optimiser([]), network.encoder.groups[1][0][0].weight
        for batch in training.batches(0):
            before = weight.detach().clone()
            optimiser.zero_grad()
            sum(training.step(batch).values()).backward()
            optimiser.step()
            moves.append((weight - before).abs().median().item())
        raise InterruptedError

    with pytest.raises(InterruptedError), probing(look):
        train(steps=1, every=1, weight_decay=0.0)
    assert moves == pytest.approx([0.002, 0.004], rel=1e-3)


def test_an_image_batch_goes_through_the_very_decoder():
    network = JointNetwork(TINY).train()
    scans = hearts(3)
    images, labels = torch.from_numpy(scans.images).float(), torch.from_numpy(scans.labels)
    loss = ImageTurn(network).loss(images, labels)
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(network(images), labels.long()).item(), 1e-5)
    network = JointNetwork(replace(TINY, method="l1-Reg")).train()
    loss = ImageTurn(network).loss(images, labels)
    apart = network.encode_images(images) - network.encode(onehot(labels, 4))
    assert loss.item() == pytest.approx(apart.abs().mean().item(), 1e-5)


# ---------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls(method):
    space, history = train(method, steps=60, every=15)
    assert history["images"][-1] < 0.6 * history["images"][0]
    if method not in ("E-D", "U-Net"):
        assert history["labels"][-1] < 0.6 * history["labels"][0]
        assert history["loss"] == pytest.approx((history["labels"] + history["images"]) / 2)
    assert history["steps"].tolist() == [15, 30, 45, 60]
    assert space.metadata["modalities"] == ["CT", "MR"]


def test_the_rates_go_down_by_a_tenth_at_every_30th_of_1000_parts(trained):
    _, history = train(steps=100, every=1, label_lead=0)
    rates = history["lr"]
    assert rates[0] == pytest.approx(0.002)
    assert rates[3] == pytest.approx(0.002 * 0.9)
    assert rates[-1] == pytest.approx(0.002 * 0.9**33)
    assert all(b <= a for a, b in pairwise(rates))


def test_it_segments_and_a_scan_lies_nearest_to_its_own_label_map(trained):
    space, scans = trained[0], hearts()
    assert space.dice(space.segment(scans), scans.labels).mean() > 0.8
    assert space.reconstruction_dice(scans.labels).mean() > 0.8
    own, codes = space.encode(scans.labels), space.encode_images(scans)
    assert np.square(codes[:, None] - own).sum(2).argmin(1).tolist() == [*range(6)]


def test_validation_goes_into_the_history_and_changes_nothing():
    others = hearts(4, seed=1)
    plain = train()[0]
    space, history = train_joint_space(hearts(), TINY, Run(seed=0, **QUIET), validation=others)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, space.model.state_dict()[name]), name
    assert {"val CT", "val MR", "val labels", "val rank-1", "val seconds"} <= set(history.table)
    assert history.last["val CT"] == pytest.approx(space.dice(space.segment(others), others.labels)[::2].mean())


def test_further_label_maps_are_learned_from_and_counted():
    labels = hearts(5, seed=3).labels
    space, _ = train_joint_space(hearts(), TINY, Run(seed=0, **QUIET), shapes=labels)
    assert (space.metadata["n"], space.metadata["maps"], len(space.training_codes)) == (6, 11, 11)
    plain = train()[0]
    assert not torch.equal(plain.model.decoder.first[0].weight, space.model.decoder.first[0].weight)


@pytest.mark.parametrize("method", ["CE-Reg", "U-Net"])
def test_a_run_that_was_stopped_ends_in_the_same_weights(tmp_path, method):
    whole, history = train(method)
    for _ in range(3):  # one step at least each time
        with pytest.raises(TimeUp), time_limit(0):
            train(method, Run(tmp_path, seed=0, **QUIET))
    resumed, again = train(method, Run(tmp_path, seed=0, **QUIET))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert again["images"].tolist() == history["images"].tolist()


# ---------------------------------------------------------------------------------------------------------- the space


def test_a_prediction_does_not_depend_on_its_batch(trained):
    space, scans = trained[0], hearts()
    alone = np.concatenate([space.encode_images(scans[[i]]) for i in range(6)])
    np.testing.assert_allclose(space.encode_images(scans), alone, atol=1e-4)
    np.testing.assert_array_equal(space.segment(scans), np.concatenate([space.segment(scans[[i]]) for i in range(6)]))


def test_instance_statistics_are_each_volume_s_own_and_leave_the_running_ones_alone(trained):
    space, scans = trained[0], hearts(1)
    before = {name: value.clone() for name, value in space.model.state_dict().items()}
    own = space.encode_images(scans)
    for name, value in space.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    network = space.model.train()  # a batch of one: its statistics are the volume's
    expected = network.encode_images(torch.from_numpy(scans.images).float()).detach().numpy()
    network.load_state_dict(before)
    np.testing.assert_allclose(own, expected, atol=1e-4)
    space.statistics = "running"
    try:
        assert np.abs(space.encode_images(scans) - own).max() > 0.01
    finally:
        space.statistics = "instance"
    np.testing.assert_array_equal(space.encode_images(scans), own)
    with pytest.raises(UsageError, match="statistics"):
        space.statistics = "batch"


@pytest.mark.parametrize("method", METHODS)
def test_it_is_kept_and_opened(tmp_path, method):
    space, _ = train(method, steps=2)
    opened = load(space.save(tmp_path))
    assert isinstance(opened, JointSpace)
    assert isinstance(opened, ShapeSpace)
    assert opened.config == space.config
    scans = hearts(3)
    np.testing.assert_array_equal(opened.segment(scans), space.segment(scans))
    np.testing.assert_array_equal(opened.encode_images(scans), space.encode_images(scans))
    np.testing.assert_array_equal(opened.sigma, space.sigma)
    assert opened.metadata["modalities"] == ["CT", "MR"]


@pytest.mark.parametrize("method", ["E-D", "U-Net"])
def test_what_never_saw_a_label_map_encodes_none(method):
    space, _ = train(method, steps=1)
    with pytest.raises(UsageError, match=f"{method}, which reads images alone"):
        space.encode(hearts().labels)
    assert space.mean.shape == (space.n_codes,)
    if method == "U-Net":
        with pytest.raises(UsageError, match="alone do not tell a shape"):
            space.decode(space.mean)


def test_wrong_scans_are_told_by_what_is_wrong(trained):
    space, scans = trained[0], hearts(2)
    with pytest.raises(DataError, match=r"scans.grid: found .* at 9x9x9 mm.*10x10x10 mm"):
        space.segment(replace(scans, grid=Grid(GRID.shape, (9.0, 9.0, 9.0))))
    with pytest.raises(DataError, match="scheme"):
        space.segment(replace(scans, scheme=WHOLE_HEART))
    with pytest.raises(DataError, match="images of US; expected of CT or MR"):
        space.encode_images(replace(scans, table=scans.table.assign(modality="US")))
    with pytest.raises(DataError, match=r"shape \(2, 14, 11, 11\)"):
        space.segment(scans.images[..., :-1])
    with pytest.raises(DataError, match="mean 300 and sd"):
        space.segment(scans.images.astype(np.float32) * 1 + np.array([0, 300.0])[:, None, None, None])
    with pytest.raises(DataError, match="finite: False"):
        space.segment(np.full_like(scans.images, np.nan))
