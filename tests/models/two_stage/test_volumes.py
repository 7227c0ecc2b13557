"""Volumes as they are made and as batches are drawn from them: intensities, sub-volumes, slabs, stacks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shapelab.augment import AffineRanges
from shapelab.data.grid import Grid
from shapelab.data.scheme import CARDIAC
from shapelab.data.volumes import Scans
from shapelab.errors import DataError
from shapelab.models.two_stage import volumes as v
from shapelab.models.two_stage.networks import TwoStageConfig, short_axis_config
from shapelab.models.two_stage.volumes import Source, Volume, drawn_voxel, in_steps, volume_of, volumes_of
from shapelab.phantoms.randomise import Randomisation

CPU = torch.device("cpu")
STILL = AffineRanges((0, 0, 0), 0, 0, 0, (0, 0, 0))
PLAIN = Randomisation(**dict.fromkeys(vars(Randomisation()), 0))
HEARTS = TwoStageConfig(n_classes=3, sides=(8, 12), levels2=2, fold=1, slices=5, outputs=4, affine=STILL, elastic=None)
STACKS = short_axis_config("quick", field=32, window=16, outputs=4, slices=3, looks=PLAIN)


def places(shape=(24, 20, 16)):
    """A volume whose every voxel has its own value, which says where it is: x + 100 y + 10,000 z."""
    x, y, z = np.indices(shape)
    return (x + 100 * y + 10_000 * z).astype(np.float32)


def heart(shape=(24, 20, 16), at=(10, 9, 6)):
    """A box of class 1 with one of class 2 in it, and its image: -1, 0 and 1."""
    label = np.zeros(shape, np.uint8)
    x, y, z = at
    label[x - 4 : x + 4, y - 3 : y + 3, z - 2 : z + 3] = 1
    label[x - 1 : x + 2, y - 1 : y + 1, z] = 2
    return Volume(label.astype(np.float32) - 1, label, (1.5, 1.5, 1.5))


@pytest.fixture
def unlooked(monkeypatch):
    """What is drawn keeps its grey values."""
    monkeypatch.setattr(v, "looked", lambda images: images)


# -------------------------------------------------------------------------------------------------------------- volumes


def test_percentiles_1_and_99_become_minus_one_and_one():
    image = np.arange(1001, dtype=np.float64).reshape(7, 11, 13)
    made = volume_of(1000 - 3 * image, (1, 2, 3))
    assert made.image.dtype == np.float16 and made.spacing == (1, 2, 3) and made.label is None
    expected = np.clip((500 - image) / 490, -1, 1)  # 10 and 990 are the percentiles
    np.testing.assert_allclose(made.image, expected, atol=1e-3)
    assert made.image[0, 0, 0] == 1 and made.image[-1, -1, -1] == -1
    assert (volume_of(np.full((2, 2, 2), 7.0), (1, 1, 1)).image == -1).all()  # nothing to see is dark


def test_scans_become_volumes_each_with_its_label():
    images, labels = np.random.default_rng(0).random((2, 5, 4, 3)), np.arange(120).reshape(2, 5, 4, 3) % 4
    made = volumes_of(
        Scans(
            images,
            labels.astype(np.uint8),
            pd.DataFrame({"patient": ["a", "b"]}),
            Grid((5, 4, 3), (1.0, 2.0, 3.0)),
            CARDIAC,
        )
    )
    assert [m.spacing for m in made] == [(1, 2, 3)] * 2
    for volume, image, label in zip(made, images, labels, strict=True):
        np.testing.assert_array_equal(volume.label, label)
        np.testing.assert_array_equal(volume.image, volume_of(image, (1, 2, 3)).image)


@pytest.mark.parametrize(
    ("image", "label", "spacing", "match"),
    [
        (np.zeros((2, 2)), None, (1, 1, 1), r"Volume.image: found shape \(2, 2\)"),
        (np.full((2, 2, 2), 300.0), None, (1, 1, 1), "intensities from 300 to 300; expected -1 to 1. Make it with vol"),
        (np.full((2, 2, 2), np.nan), None, (1, 1, 1), "intensities from nan"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), (1, 1, 1), r"Volume.label: found shape \(2, 2, 3\)"),
    ],
)
def test_volumes_that_cannot_be_are_named(image, label, spacing, match):
    with pytest.raises(DataError, match=match):
        Volume(image, label, spacing)


# ------------------------------------------------------------------------------------------------------ drawing a place


def test_classes_of_drawn_voxels_are_even_and_voxels_within_a_class():
    """Whatever the sizes of the classes (5,000 voxels to 6): chi-square of 900 draws."""
    label = torch.zeros(20, 20, 13, dtype=torch.uint8)
    label[2:6, 3:8, 4:9] = 2
    label[10:13, 4:6, 3] = 5  # six voxels
    torch.manual_seed(3)
    drawn = [drawn_voxel(label) for _ in range(900)]
    classes = [int(label[place]) for place in drawn]
    counts = [classes.count(c) for c in (0, 2, 5)]
    assert sum(counts) == 900 and stats.chisquare(counts).pvalue > 0.01
    few = [place for place, c in zip(drawn, classes) if c == 5]
    each = [few.count((x, y, 3)) for x in (10, 11, 12) for y in (4, 5)]
    assert sum(each) == len(few) and stats.chisquare(each).pvalue > 0.01


@settings(max_examples=60)
@given(
    n=st.integers(1, 60),
    ends=st.tuples(st.integers(-20, 80), st.integers(-20, 80)),
    step=st.sampled_from([1, 2, 8, 16]),
)
def test_a_stretch_in_steps_holds_what_it_is_about(n, ends, step):
    low, high = min(ends), max(ends) + 1
    low, high = min(low, n - 1), max(high, 1)
    made = in_steps(low, high, n, step)
    size = made.stop - made.start
    assert 0 <= made.start < made.stop <= n
    assert size % step == 0 or n < step and size == n
    inside = max(0, low), min(n, high)
    if -(-(inside[1] - inside[0]) // step) * step <= n:
        assert made.start <= inside[0] and inside[1] <= made.stop and size < inside[1] - inside[0] + step


def test_a_stretch_in_steps_by_hand():
    assert in_steps(10, 20, 64, 16) == slice(7, 23)  # three to each side
    assert in_steps(0, 10, 64, 16) == slice(0, 16)
    assert in_steps(60, 64, 64, 16) == slice(48, 64)
    assert in_steps(-5, 99, 40, 16) == slice(4, 36)  # the middle of what there is
    assert in_steps(2, 5, 10, 16) == slice(0, 10)


@given(start=st.integers(-6, 8), size=st.integers(1, 12))
def test_slices_beyond_the_ends_are_the_last_ones_again(start, size):
    volume = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    before, after = max(0, -start), max(0, start + size - 5)
    padded = np.pad(volume, ((0, 0), (0, 0), (before, after)), mode="edge")
    made = v.repeated(torch.from_numpy(volume), slice(start, start + size))
    np.testing.assert_array_equal(made, padded[..., start + before : start + before + size])


def test_a_coarse_voxel_has_the_class_of_most_of_its_voxels():
    labels = torch.zeros(1, 4, 2, 3, dtype=torch.uint8)
    labels[0, :2, :, 0] = torch.tensor([[1, 1], [2, 1]])
    labels[0, 2:, :, 0] = torch.tensor([[2, 2], [0, 1]])
    made = v.coarse_labels(labels, (2, 2, 1), 3)
    assert made.dtype == torch.uint8 and made[0, :, 0, 0].tolist() == [1, 2] and not made[..., 1:].any()


# --------------------------------------------------------------------------------------------------------- whole hearts


def test_counts_are_of_all_volumes():
    source = Source([heart(), heart(at=(12, 9, 8))], HEARTS, CPU)
    assert source.counts().tolist() == [2 * (24 * 20 * 16 - 240), 2 * (240 - 6), 2 * 6]
    assert Source([replace(heart(), label=heart().label * 2)], HEARTS, CPU).counts().tolist()[1:] == [0, 234]


def test_the_same_seed_draws_the_same_and_another_another():
    config = replace(HEARTS, affine=TwoStageConfig().affine)
    source = Source([heart(), heart(at=(12, 9, 8))], config, CPU)
    calls = (
        lambda: source.coarse([0, 1], sub=False),
        lambda: source.coarse([0, 1], sub=True),
        lambda: tuple(vars(source.both([0, 1], whole=False)).values()),
        lambda: tuple(vars(source.both([0, 1], whole=True)).values()),
    )
    for call in calls:
        made = []
        for seed in (5, 5, 6):
            torch.manual_seed(seed)
            made.append(call())
        for first, second in zip(made[0], made[1], strict=True):
            assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
        assert made[0][0].shape != made[2][0].shape or not torch.equal(made[0][0], made[2][0])


def test_an_image_moves_with_its_label(unlooked):
    config = replace(HEARTS, affine=AffineRanges((15, 15, 15), 0.1, 0, 0, (3, 3, 3)), factor=(1, 1, 1))
    source = Source([heart((32, 28, 24), (14, 13, 12))], config, CPU)
    for seed in range(3):
        torch.manual_seed(seed)
        image, label = source.coarse([0], sub=False)
        inside, outside = image[0, 0][label[0] > 0], image[0, 0][label[0] == 0]
        assert float(inside.mean()) > -0.3 and float(outside.mean()) < -0.95
        assert not torch.equal(label[0], source.labels[0])


def test_a_look_changes_grey_values_of_each_image_by_itself():
    torch.manual_seed(0)
    images = torch.linspace(-1, 1, 4000).view(1, 20, 20, 10).repeat(3, 1, 1, 1)
    made = v.looked(images)
    for image in made:
        assert torch.isfinite(image).all() and -2 < image.min() and image.max() < 2
        assert np.corrcoef(image.flatten(), images[0].flatten())[0, 1] > 0.9  # what is brighter stays so
    assert (made[0] - made[1]).abs().mean() > 0.02


def test_coarse_volumes_are_means_and_majorities(unlooked):
    volume = heart()
    image, label = Source([volume], HEARTS, CPU).coarse([0], sub=False)
    assert image.shape == (1, 1, 6, 5, 4) and label.shape == (1, 6, 5, 4)
    for x, y, z in np.ndindex(6, 5, 4):
        part = tuple(slice(4 * i, 4 * i + 4) for i in (x, y, z))
        assert float(image[0, 0, x, y, z]) == pytest.approx(volume.image[part].mean(), abs=1e-5)
        assert int(label[0, x, y, z]) == np.bincount(volume.label[part].ravel()).argmax()


def test_a_sub_volume_is_a_part_of_its_volume(unlooked):
    """Of a volume whose values say where they are: places follow one another, inside, sizes are those of the config,
    and the drawn class lies in it."""
    shape = (24, 20, 16)
    label = heart(shape).label
    image = places(shape) / 200_000  # -1 to 1
    source = Source([Volume(image, label, (1, 1, 1))], HEARTS, CPU)
    sizes, hearts = set(), 0
    for seed in range(30):
        torch.manual_seed(seed)
        made, named = source.sub_volumes([0])
        size = tuple(made.shape[2:])
        sizes.add(size)
        corner = round(float(made[0, 0, 0, 0, 0]) * 200_000)
        start = corner % 100, corner // 100 % 100, corner // 10_000
        part = tuple(slice(a, a + n) for a, n in zip(start, size))
        np.testing.assert_allclose(made[0, 0], image[part], atol=1e-5)
        np.testing.assert_array_equal(named[0], label[part])
        hearts += bool((named > 0).any())
    assert {n for size in sizes for n in size} == {8, 12} and len(sizes) >= 6  # each axis by itself
    assert hearts >= 20  # two of three classes are of the heart


@pytest.mark.parametrize("whole", [False, True])
def test_what_both_nets_see_lies_where_it_says(unlooked, whole):
    """The slab is the coarse volume's own place, its labels the middle slices; beyond the ends the last one again."""
    shape = (24, 20, 16)
    volume = replace(heart(shape), image=places(shape) / 200_000)
    config = replace(HEARTS, factor=(1, 1, 1), sides=(12, 16))
    source, starts = Source([volume], config, CPU), set()
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = source.both([0], whole)
        x, y, slab = drawn.box
        n = drawn.labels.shape[3]
        assert n == 4 and slab.stop - slab.start == n + 4 == drawn.fine.shape[4]
        expected = v.repeated(drawn.coarse[0, 0, x, y], slab)
        np.testing.assert_array_equal(drawn.fine[0, 0], expected)
        middle = slice(slab.start + 2, slab.stop - 2)
        named = volume.label if whole else drawn.coarse_labels[0].numpy()
        np.testing.assert_array_equal(drawn.labels[0], named[x, y, middle])
        assert (drawn.coarse_labels is None) == whole  # Net1 does not learn from whole slices
        starts.add(slab.start)
        if whole:
            assert drawn.coarse.shape == (1, 1, *shape)  # as in use, Net1 sees the whole
            around = np.argwhere(volume.label.any(axis=2))
            for side, axis in ((x, 0), (y, 1)):
                assert side.start <= around[:, axis].min() and around[:, axis].max() < side.stop
                assert (side.stop - side.start) % 4 == 0
    assert len(starts) > 3 and min(starts) >= -2 and max(starts) + n + 4 <= shape[2] + 2


def test_a_volume_of_fewer_slices_than_are_labelled_at_once(unlooked):
    volume = heart((24, 20, 3), (10, 9, 2))
    drawn = Source([volume], HEARTS, CPU).both([0], whole=True)
    assert drawn.labels.shape[3] == 3 and drawn.box[2] == slice(-2, 5)
    assert torch.equal(drawn.fine[..., 0], drawn.fine[..., 2]) and torch.equal(drawn.fine[..., -1], drawn.fine[..., -3])
    np.testing.assert_array_equal(drawn.labels[0], volume.label[drawn.box[0], drawn.box[1]])


def test_volumes_of_two_sizes_in_one_batch_are_named():
    source = Source([heart(), heart((24, 20, 12))], HEARTS, CPU)
    with pytest.raises(DataError, match=r"sizes \[\(24, 20, 12\), \(24, 20, 16\)\] in one batch; expected one size"):
        source.coarse([0, 1], sub=False)


# ---------------------------------------------------------------------------------------------------- short-axis stacks


def stack(shape=(40, 36, 6), values=5):
    """A round heart whose slices can be told apart: tissues 1 to 4 inside one another, darker slice by slice."""
    x, y = np.indices(shape[:2]) - np.array(shape[:2]).reshape(2, 1, 1) / 2 + 0.5
    r = np.hypot(x, y)[..., None].repeat(shape[2], 2)
    label = sum((r < radius).astype(np.uint8) for radius in (11, 9, 6, 3)[: values - 1])
    grey = label * 0.4 - 0.8
    return Volume(grey.astype(np.float32), label, (1.5, 1.5, 8.0))


def test_a_stack_gives_runs_of_slices_about_its_middle():
    source = Source([stack(), stack()], STACKS, CPU)
    torch.manual_seed(0)
    image, label = source.coarse([0, 1], sub=False)
    assert image.shape == (2, 1, 8, 8, 4) and label.shape == (2, 8, 8, 4)  # field 32 of factor 4, outputs
    assert -1 <= image.min() and image.max() <= 1
    drawn = source.both([0, 1], whole=True)
    assert drawn.fine.shape == (2, 1, 16, 16, 6) and drawn.labels.shape == (2, 16, 16, 4)
    assert drawn.box == (slice(0, 16), slice(0, 16), slice(-1, 5))
    expected = stack().label[12:28, 10:26, :4]
    np.testing.assert_array_equal(drawn.labels[0], np.where(expected == 4, 0, expected))  # the RV's wall: no class


def test_labels_beyond_the_classes_are_background():
    drawn = Source([stack()], STACKS, CPU).both([0], whole=True)
    assert drawn.labels.unique().tolist() == [0, 1, 2, 3]
    assert stack().label.max() == 4
    assert len(Source([stack()], STACKS, CPU).counts()) == 4


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_a_stack_of_fewer_slices_than_are_labelled_at_once(slices):
    source = Source([stack((40, 36, slices)), stack()], STACKS, CPU)
    drawn = source.both([0, 1], whole=True)
    assert drawn.labels.shape == (2, 16, 16, slices) and drawn.fine.shape == (2, 1, 16, 16, slices + 2)
    assert torch.equal(drawn.fine[..., 0], drawn.fine[..., 1])  # the end's own neighbour is itself
    assert torch.equal(drawn.fine[..., -1], drawn.fine[..., -2])
    assert drawn.coarse.shape[-1] == slices


def test_a_small_stack_is_dark_beyond_its_border():
    image, label = Source([stack((20, 18, 6))], STACKS, CPU).coarse([0], sub=False)
    assert image.shape == (1, 1, 8, 8, 4) and (image[0, 0, 0] == -1).all() and (image[0, 0, :, -1] == -1).all()
    assert not label[0, 0].any() and label.any()


def test_one_stage_sees_places_off_the_heart_too():
    """In use it reads whole slices: a third of its runs lie anywhere; all of two stages' about the middle."""
    off = {}
    for stages in (1, 2):
        source = Source([stack()], replace(STACKS, stages=stages), CPU)
        there = []
        for seed in range(24):
            torch.manual_seed(seed)
            labels = source.both([0], whole=True).labels[0]
            there.append(np.argwhere(labels[..., 0].numpy() == 3).mean(0) if (labels == 3).any() else None)
        off[stages] = sum(p is None or np.abs(p - 7.5).max() > 0.5 for p in there)
    assert off[2] == 0 and 4 <= off[1] <= 14  # of 24


def test_looks_are_of_the_config():
    plain, bright = (
        Source([stack()], replace(STACKS, looks=replace(PLAIN, noise=noise)), CPU).both([0], whole=True).fine
        for noise in (0.0, 0.3)
    )
    assert len(plain.unique()) <= 8 and len(bright.unique()) > 500
