"""The two-stage network in use, its nets set by hand to know the answer: what is around them brings it back."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import nn

from shapelab.data.scheme import CARDIAC, WHOLE_HEART
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError
from shapelab.models.native import NativeSegmenter, segment
from shapelab.models.two_stage.networks import TwoStageConfig, TwoStageNet, short_axis_config
from shapelab.models.two_stage.segmenter import AT_ONCE, TwoStage
from shapelab.models.two_stage.volumes import Volume
from shapelab.spaces.kept import KINDS, load_network, open_kept

TINY = TwoStageConfig(n_classes=4, width1=2, width2=2, dilation=(2,), levels2=2, slices=5, fold=1, margin_mm=6.0)
STACKS = short_axis_config("quick", width1=2, width2=2, margin_mm=12.0, field=88)  # the LV is more than 1 % of it
LEVELS = (-1.0, 0.25, -0.5, 1.0)  # grey values of background, RV, wall, LV


class Finds(nn.Module):
    """Net1 that calls a coarse voxel heart where it is brighter than a level."""

    def __init__(self, level=-0.95, n_classes=4):
        super().__init__()
        self.level, self.n_classes = nn.Parameter(torch.tensor(level)), n_classes

    def forward(self, image):
        heart = 40 * (image > self.level).float() - 20
        return torch.cat([torch.zeros_like(heart), heart, *[heart - 90] * (self.n_classes - 2)], 1)


class Draws(nn.Module):
    """Net2 that reads the class of the middle slices from their grey values, and keeps what it was shown."""

    def __init__(self, slices, levels=LEVELS):
        super().__init__()
        self.levels, self.half, self.seen = nn.Parameter(torch.tensor(levels)), slices // 2, []

    def forward(self, x):
        self.seen.append(x)
        image = x[:, -1:, :, :, self.half : x.shape[4] - self.half]
        return -500 * (image - self.levels.view(1, -1, 1, 1, 1)).square()


def knows(config=TINY, net1=None, scheme=CARDIAC):
    net = TwoStageNet(config)
    if net.net1 is not None:
        net.net1 = net1 or Finds()
    net.net2 = Draws(config.slices)
    return TwoStage(net, config, scheme)


def box(shape=(64, 48, 40), where=(slice(30, 43), slice(9, 20), slice(14, 25))):
    """Labels and image: an LV in its wall, an RV beside it, in a box of the scan."""
    label = np.zeros(shape, np.uint8)
    label[where] = 2
    x, y, z = where
    label[x.start + 3 : x.stop - 3, y.start + 3 : y.stop - 3, z.start + 3 : z.stop - 3] = 3
    label[x.start, y, z] = 1
    return label, Volume(np.array(LEVELS, np.float32)[label], label, (1.5, 1.5, 1.5))


def seen_by(made):
    """Sizes (x, y, z) of what Net2 was shown."""
    return [tuple(x.shape[2:]) for x in made.net.net2.seen]


# --------------------------------------------------------------------------------------------------- region of interest


def test_a_box_is_found_at_its_very_voxels():
    label, volume = box()
    made = knows()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(made.segment(volume), label)
    # coarse 28 to 44, 8 to 20, 12 to 28; four voxels (6 mm) to each side; in plane in steps of four
    assert seen_by(made) == [(24, 20, 24 + 4)]
    soft = made.probabilities(volume)
    assert soft.shape == (4, *label.shape) and soft.dtype == np.float32
    np.testing.assert_allclose(soft.sum(0), 1, atol=1e-5)
    assert (soft[0][:24] == 1).all()  # outside the region: background


def test_the_region_by_hand():
    made = knows()
    _, volume = box()
    coarse = torch.zeros(1, 4, 16, 12, 10)
    coarse[:, 0] = 0.6
    coarse[0, 2, 5:7, 4, 3:6] = 1
    coarse[0, 3, 12, 9, 9] = 1  # a crumb elsewhere
    # 20 to 28, 16 to 20, 12 to 24, and four voxels more
    assert made.roi(coarse, volume) == (slice(16, 32), slice(12, 24), slice(8, 28))
    wide = replace(volume, spacing=(1.5, 3.0, 0.5))  # the margin is in mm: 4, 2 and 12 voxels
    assert made.roi(coarse, wide) == (slice(16, 32), slice(14, 22), slice(0, 36))
    assert made.roi(torch.eye(4)[0].view(1, 4, 1, 1, 1).expand(1, 4, 16, 12, 10), volume) is None


def test_net1_alone_at_full_resolution():
    label, volume = box()
    made = knows()
    found, soft = made.segment(volume, net=1), made.probabilities(volume, net=1)
    assert not made.net.net2.seen
    assert set(np.unique(found)) == {0, 1}  # all that it knows
    assert (found[label > 0] == 1).mean() > 0.95 and (found > 0).sum() < 2.5 * (label > 0).sum()
    assert soft.shape == (4, *label.shape)
    coarse = made.coarse(volume)
    assert coarse.shape == (1, 4, 16, 12, 10)
    whole = F.interpolate(coarse, scale_factor=4.0, mode="trilinear", align_corners=False)[0]
    np.testing.assert_allclose(soft, whole, atol=1e-6)


def test_net2_is_shown_probabilities_and_then_the_image():
    _, volume = box()
    made = knows()
    made.segment(volume)
    seen, whole = made.net.net2.seen[0][0], made.probabilities(volume, net=1)
    x, y, z = made.roi(made.coarse(volume), volume)
    reach = slice(z.start - 2, z.stop + 2)
    np.testing.assert_allclose(seen[:4], whole[:, x, y, reach], atol=1e-5)
    np.testing.assert_array_equal(seen[4], volume.image[x, y, reach])


def test_where_net1_finds_nothing_net2_reads_whole_slices_and_a_warning_says_so():
    label, volume = box()
    made = knows(net1=Finds(level=2.0))
    with pytest.warns(UserWarning, match="Net1 found no heart; expected one in the scan. Net2 read the whole slices"):
        found = made.segment(volume)
    np.testing.assert_array_equal(found, label)
    assert {size[:2] for size in seen_by(made)} == {(64, 48)}
    assert [size[2] for size in seen_by(made)] == [24 + 4, 16 + 4]  # 40 slices, at most 24 at once


def test_where_the_heart_reaches_the_border_of_the_region_net2_reads_whole_slices():
    """Net1 that sees the bright middle alone, and a margin too small for the rest."""
    label, volume = box()
    made = knows(replace(TINY, margin_mm=0.0), Finds(level=0.3))
    with pytest.warns(UserWarning, match="the heart reaches the border of the region that Net1 found"):
        found = made.segment(volume)
    np.testing.assert_array_equal(found, label)
    sizes = seen_by(made)
    assert sizes[0][0] < 64 and sizes[-1][:2] == (64, 48)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, 1])
def test_a_heart_at_the_border_of_the_scan_is_no_reason_to_warn(axis, end):
    where = [slice(20, 33), slice(20, 31), slice(14, 25)]
    size = where[axis].stop - where[axis].start
    where[axis] = slice(0, size) if not end else slice((64, 48, 40)[axis] - size, None)
    where[axis] = slice(*where[axis].indices((64, 48, 40)[axis])[:2])
    label, volume = box(where=tuple(where))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(knows().segment(volume), label)


def test_one_border_of_six_is_enough():
    label, volume = box()
    for axis in range(3):
        for end in (0, -1):
            made = knows()
            sides = [slice(24, 48), slice(4, 24), slice(8, 32)]
            whole = label.any(axis=tuple({0, 1, 2} - {axis})).nonzero()[0]
            first, last = int(whole[0]), int(whole[-1])
            sides[axis] = slice(first, sides[axis].stop) if end == 0 else slice(sides[axis].start, last + 1)
            made.roi = lambda *_, sides=sides: tuple(sides)
            with pytest.warns(UserWarning, match="reaches the border"):
                np.testing.assert_array_equal(made.segment(volume), label)


# ---------------------------------------------------------------------------------------------------------------- slabs


def test_a_long_scan_is_read_in_slabs_with_its_ends_repeated():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, (16, 12, 2 * AT_ONCE + 5)).astype(np.uint8)
    image = np.array(LEVELS, np.float32)[label]
    made = knows(replace(TINY, stages=1))
    np.testing.assert_array_equal(made.segment(Volume(image, None, (1.5, 1.5, 1.5))), label)
    assert [size[2] - 4 for size in seen_by(made)] == [AT_ONCE, AT_ONCE, 5]
    padded = np.pad(image, ((0, 0), (0, 0), (2, 2)), mode="edge")
    for number, seen in enumerate(made.net.net2.seen):
        start = AT_ONCE * number
        np.testing.assert_array_equal(seen[0, 0], padded[..., start : start + seen.shape[4]])


@pytest.mark.parametrize("slices", [1, 2, 4])
def test_a_scan_of_fewer_slices_than_k(slices):
    label, volume = box((32, 24, slices), (slice(8, 21), slice(6, 17), slice(0, slices)))
    label[10:14, 8:12] = 3
    volume = replace(volume, image=np.array(LEVELS, np.float32)[label])
    made = knows(replace(TINY, slices=9, factor=(4, 4, 1)))
    np.testing.assert_array_equal(made.segment(volume), label)
    assert seen_by(made)[0][2] == slices + 8


def test_one_stage_reads_whole_slices_and_has_no_net1():
    label, volume = box()
    made = knows(replace(TINY, stages=1))
    np.testing.assert_array_equal(made.segment(volume), label)
    assert {size[:2] for size in seen_by(made)} == {(64, 48)} and {x.shape[1] for x in made.net.net2.seen} == {1}
    with pytest.raises(UsageError, match="coarse: found a config with one stage"):
        made.segment(volume, net=1)
    with pytest.raises(UsageError, match="net: found 3"):
        made.segment(volume, net=3)


def test_pixels_that_do_not_fold_are_background():
    label, volume = box((33, 25, 8), (slice(8, 21), slice(6, 17), slice(0, 8)))
    made = knows(replace(STACKS, factor=(4, 4, 1), stages=1))
    np.testing.assert_array_equal(made.segment(volume), label)
    assert {size[:2] for size in seen_by(made)} == {(32, 24)}


@pytest.mark.parametrize("shape", [(10, 9, 7), (20, 9, 30)])
def test_a_scan_smaller_than_the_steps_of_a_region(shape):
    label, volume = box(shape, (slice(2, 8), slice(1, 8), slice(0, 7)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the heart reaches the region's border: it has to
        np.testing.assert_array_equal(knows(replace(TINY, levels2=4)).segment(volume), label)


def test_the_real_nets_take_what_they_are_given():
    torch.manual_seed(0)
    for config, scheme in ((replace(TINY, n_classes=8), WHOLE_HEART), (STACKS, CARDIAC)):
        made = TwoStage(TwoStageNet(config), config, scheme)
        volume = Volume(np.random.default_rng(0).random((32, 24, 9), np.float32), None, (1.5, 1.5, 8.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            soft = made.probabilities(volume)
        assert soft.shape == (scheme.n_classes, 32, 24, 9)
        np.testing.assert_allclose(soft.sum(0), 1, atol=0.02)
        assert not made.net.net1.training and not made.net.net2.training


# ---------------------------------------------------------------------------------------------------- short-axis stacks


def ventricles(shape=(80, 72, 5), centre=(40, 30), scale=1.0):
    """Tissues of a round LV in its wall, and an RV at its left."""
    x, y = (np.indices(shape[:2]) - np.array(centre)[:, None, None]) / scale
    plane = np.zeros(shape[:2], np.uint8)
    plane[np.hypot(x + 15, y) < 12] = 1
    plane[np.hypot(x - 3, y) < 12] = 2
    plane[np.hypot(x - 3, y) < 7] = 3
    return np.repeat(plane[:, :, None], shape[2], 2)


def image_of(label):
    return 300 * np.array([0.1, 0.6, 0.3, 0.9], np.float32)[label] + 40


def dice(found, label, value):
    a, b = found == value, label == value
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.filterwarnings("ignore:two-stage network")
@pytest.mark.parametrize(
    ("spacing", "slices"), [((1.5, 1.5, 10.0), 5), ((1.0, 1.0, 8.0), 4), ((1.9, 1.9, 5.0), 2), ((1.2, 1.7, 10.0), 1)]
)
def test_a_prediction_comes_back_to_the_scans_own_voxels(spacing, slices):
    """Any distance of pixels and of slices, few slices, and a heart off the middle."""
    size = [round(130 / s) for s in spacing[:2]]
    plane = ventricles((130, 130, 1), (72, 60), scale=1.5)[..., 0]  # 1 mm pixels
    x, y = (np.minimum(((np.arange(n) + 0.5) * s).astype(int), 129) for n, s in zip(size, spacing))
    scan = np.repeat(plane[np.ix_(x, y)][..., None], slices, 2)
    made = knows(STACKS)
    found = made.predict(image_of(scan), spacing)
    assert found.shape == scan.shape and found.dtype == np.uint8
    assert min(dice(found, scan, value) for value in (1, 2, 3)) > 0.85
    assert {x.shape[4] for x in made.net.net2.seen} == {slices + 2}  # its own slices, and K's neighbours


@pytest.mark.filterwarnings("ignore:two-stage network")
def test_turns_and_the_order_of_slices_are_undone():
    label = ventricles((80, 64, 6), (42, 30))
    label[..., 4:][label[..., 4:] == 1] = 0  # ends that differ
    volume = Volume(np.array(LEVELS, np.float32)[label], None, (1.5, 1.5, 8.0))
    made = knows(STACKS)
    mean = made.averaged(volume)
    np.testing.assert_allclose(mean.sum(0)[10:-10, 10:-10], 1, atol=1e-3)
    assert min(dice(mean.argmax(0), label, value) for value in (1, 2, 3)) > 0.9
    assert (mean.argmax(0)[..., 4:] == 1).mean() < 0.01
    np.testing.assert_allclose(made.averaged(volume, (0.0,)), made.probabilities(volume), atol=1e-6)


@pytest.mark.filterwarnings("ignore:two-stage network")
def test_an_empty_scan_stays_empty():
    found = knows(STACKS).predict(np.zeros((40, 37, 3)), (1.4, 1.4, 10.0))
    assert found.shape == (40, 37, 3) and not found.any()


@pytest.mark.filterwarnings("ignore:two-stage network")
def test_one_scan_stored_in_any_order_gives_one_label_map_in_its_own(every_order):
    """By the protocol that `shapelab predict` calls."""
    label = ventricles((64, 56, 4), (34, 28))
    label[..., 3:][label[..., 3:] == 2] = 0  # narrower to the apex
    tipped = np.eye(4)
    tipped[:3, :3] = Rotation.from_euler("xy", (35, -20), degrees=True).as_matrix() @ np.diag([1.5, 1.5, 8])
    made = knows(STACKS)
    for stored, grey, affine in [*every_order(label, image_of(label), tipped)][::11]:
        found, turn = segment(made, Subject("a", CARDIAC, image=grey, affine=affine))
        assert found.shape == stored.shape
        assert min(dice(found, stored, value) for value in (1, 2, 3)) > 0.85
        rv, lv = (np.argwhere(np.isin(turn.canonical(found), values)).mean(0) for values in ([1], [2, 3]))
        assert rv[0] < lv[0]


# ----------------------------------------------------------------------------------------------------------------- kept


@pytest.mark.parametrize(("config", "scheme"), [(replace(TINY, n_classes=8), WHOLE_HEART), (STACKS, CARDIAC)])
@pytest.mark.filterwarnings("ignore:two-stage network")
def test_it_is_kept_and_opened(tmp_path, config, scheme):
    torch.manual_seed(3)
    made = TwoStage(TwoStageNet(config), config, scheme, {"data": "none"})
    assert json.loads((made.save(tmp_path) / "model.json").read_text())["kind"] == "two-stage"
    assert KINDS["two-stage"] == "shapelab.models.two_stage.segmenter:TwoStage"
    for back in (TwoStage.load(tmp_path, "cpu"), open_kept(tmp_path, "cpu"), load_network(tmp_path, "cpu")):
        assert isinstance(back, TwoStage)
        assert (back.config, back.scheme, back.metadata) == (config, scheme, {"data": "none"})
        for name, value in made.net.state_dict().items():
            assert torch.equal(back.net.state_dict()[name], value), name
    volume = Volume(np.random.default_rng(0).random((32, 24, 9), np.float32), None, (1.5, 1.5, 8.0))
    for net in (1, 2):
        np.testing.assert_array_equal(back.segment(volume, net=net), made.segment(volume, net=net))


def test_half_the_size_and_nearly_the_same(tmp_path):
    config = replace(STACKS, width1=8, width2=8)
    made, size = TwoStage(TwoStageNet(config), config, CARDIAC), []
    for half in (False, True):
        made.save(tmp_path, half=half)
        size.append(next(tmp_path.glob("*.safetensors")).stat().st_size)
    assert size[1] < 0.75 * size[0]
    for a, b in zip(made.net.parameters(), TwoStage.load(tmp_path, "cpu").net.parameters(), strict=True):
        assert b.dtype == torch.float32 and torch.allclose(a, b, rtol=1e-3, atol=1e-6)


def test_what_is_damaged_or_another_kind_is_named(tmp_path):
    made = TwoStage(TwoStageNet(TINY), TINY, CARDIAC)
    file = made.save(tmp_path) / "model.json"
    text = json.loads(file.read_text())
    with pytest.raises(DataError, match="kind: found 'two-stage'|kind 'two-stage'; expected a NativeSegmenter"):
        NativeSegmenter.load(tmp_path)
    text["config"]["width2"] = 4
    file.write_text(json.dumps(text))
    with pytest.raises(DataError, match="do not fit"):
        TwoStage.load(tmp_path)
    text["config"]["slices"] = 4
    file.write_text(json.dumps(text))
    with pytest.raises(DataError, match="damaged description"):
        TwoStage.load(tmp_path)
    with pytest.raises(UsageError, match="of 8 classes; expected 4"):
        TwoStage(TwoStageNet(TINY), TINY, WHOLE_HEART)
