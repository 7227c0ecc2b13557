"""Arrays of hearts: rows are taken together, and labels are channel numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from shapelab.data.cohort import Cohort
from shapelab.data.grid import Grid
from shapelab.data.placement import Placement
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.data.volumes import HeartPairs, LandmarkedVolumes, Scans, SliceData, neighbours, scans_on_grid
from shapelab.errors import DataError, UsageError

LABELS = np.arange(5)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(4, 3).astype(np.uint8) % 4
IMAGES = LABELS / np.float32(4)
TABLE = pd.DataFrame({"patient": list("aabbc")}, index=list("vwxyz"))


@pytest.fixture(params=["pairs", "landmarks", "scans"])
def hearts(request):
    if request.param == "pairs":
        return HeartPairs(IMAGES, LABELS, np.arange(30.0).reshape(5, 2, 3), TABLE, (1.0, 1.0, 2.0), 2)
    if request.param == "scans":
        return Scans(IMAGES, LABELS, TABLE, Grid((2, 2, 4), (3, 3, 3)))
    return LandmarkedVolumes(IMAGES, LABELS, np.arange(30.0).reshape(5, 2, 3), TABLE, (1.0, 1.0, 2.0))


@pytest.mark.parametrize(
    "rows, wanted",
    [
        (slice(1, 4), [1, 2, 3]),
        ([4, 0], [4, 0]),
        (np.array([True, False, True, False, False]), [0, 2]),
        (TABLE["patient"] == "b", [2, 3]),
        ((TABLE["patient"] == "b").iloc[[4, 2, 0, 1, 3]], [2, 3]),
        ([True, False, False, False, True], [0, 4]),
        (["z", "v"], [4, 0]),
        (TABLE.index[[3, 1]], [3, 1]),
        (pd.Series([4, 0], index=["v", "w"]), [4, 0]),
        ({1: 0, 2: 0}.keys(), [1, 2]),
    ],
)
def test_rows_of_all_arrays_are_taken_together(hearts, rows, wanted):
    some = hearts[rows]
    assert type(some) is type(hearts) and len(some) == len(wanted) and some.shape == (2, 2, 4)
    assert some.labels[:, 0, 0, 0].tolist() == [n % 4 for n in wanted]
    assert some.table.index.tolist() == [TABLE.index[n] for n in wanted]
    if isinstance(some, Scans):
        assert some.grid == hearts.grid and some.images[:, 0, 0, 0].tolist() == [n % 4 / 4 for n in wanted]
        return
    more = some.motion if hasattr(some, "motion") else some.landmarks
    assert more[:, 0, 0].tolist() == [6.0 * n for n in wanted] and some.spacing == (1.0, 1.0, 2.0)


def test_a_mask_of_other_rows_and_one_number_are_refused(hearts):
    for rows, error in ((pd.Series([True] * 5), DataError), ([True] * 4, UsageError), (2, UsageError)):
        with pytest.raises(error, match=type(hearts).__name__):
            hearts[rows]


def test_numbers_of_an_index_are_names(hearts):
    from dataclasses import replace

    numbered = replace(hearts, table=TABLE.set_axis([7, 3, 0, 1, 2]))
    assert numbered[numbered.table.index[1:3]].table.index.tolist() == [3, 0]
    assert numbered[[3, 0]].table.index.tolist() == [1, 7]  # a list's are positions


def test_a_schemes_integers_are_not_taken_for_channel_numbers(hearts):
    from dataclasses import replace

    with pytest.raises(DataError, match=r"labels: found channel number 205; expected 0 to \d, those of the scheme"):
        replace(hearts, labels=np.where(LABELS == 2, 205, LABELS))


def test_neighbours_are_about_10_mm_away():
    assert neighbours(3, 10.0).tolist() == [[-1, 0, 1], [0, 1, 2], [1, 2, -1]]
    assert neighbours(4, 5.0).tolist() == [[-1, 0, 2], [-1, 1, 3], [0, 2, -1], [1, 3, -1]]
    assert neighbours(1, 8.0).tolist() == [[-1, 0, -1]]


def test_slice_data_gives_the_neighbours_of_the_same_stack():
    a, b = np.full((4, 4, 2), 0.2), np.stack([np.full((4, 4), v) for v in (0.4, 0.6, 1.0)], -1)
    data = SliceData.of_stacks([a, b], [np.ones_like(a), 2 * np.ones_like(b)], [10.0, 10.0])
    assert len(data) == 5 and data.stack.tolist() == [0, 0, 1, 1, 1]
    images, tissues = data.take(np.array([1, 2, 3]))
    means = images.mean((2, 3)).numpy()
    assert np.allclose(means, [[0.2, 0.2, 0], [0, 0.4, 0.6], [0.4, 0.6, 1.0]], atol=0.002)
    assert tissues[:, :, 0, 0].tolist() == [[1, 1, 0], [0, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize("room", [0, 10**6])
def test_slices_on_a_device_are_taken_as_here(room, monkeypatch):
    monkeypatch.setattr("shapelab.device.room_for_data", lambda device: room)
    image = np.random.default_rng(0).random((6, 5, 4))
    here = SliceData.of_stacks([image, image[:, :, :2]], [np.round(3 * image), np.round(3 * image[:, :, :2])], [10, 10])
    there = here.on("cpu")
    assert isinstance(there.images, torch.Tensor) == isinstance(there.tissues, torch.Tensor) == bool(room)
    for a, b in zip(here.take(np.array([5, 0, 2])), there.take(np.array([5, 0, 2])), strict=True):
        assert torch.equal(a, b) and a.shape == (3, 3, 6, 5)
    assert here.take(np.array([0]))[0][0, 0].max() == 0  # nothing lies above the first slice


def test_scans_follow_one_another_and_must_lie_on_their_grid():
    grid = Grid((2, 2, 4), (3, 3, 3))
    scans = Scans(IMAGES, LABELS, TABLE, grid)
    both = Scans.of(scans[[3]], scans[:2])
    np.testing.assert_array_equal(both.labels, LABELS[[3, 0, 1]])
    assert list(both.table.index) == ["y", "v", "w"] and both.grid == grid and both.n_classes == 8
    with pytest.raises(DataError, match=r"Scans.images.*shape \(5, 2, 2, 4\).*\(5, 2, 2, 5\)"):
        Scans(IMAGES, LABELS, TABLE, Grid((2, 2, 5), (3, 3, 3)))


def ball_scan(name, at, side=9, scale=1.0, modality="MR", **changes):
    """A cube of side 4 mm around voxel `at`, bright on a dark ground."""
    label = np.zeros((side,) * 3, np.uint8)
    label[tuple(slice(i - 2, i + 2) for i in at)] = 3
    parts = {"label": label, "image": scale * label + 7.0} | changes
    return Subject(name, CARDIAC, affine=np.eye(4), facts={"patient": name, "modality": modality}, **parts)


def test_scans_on_a_grid_are_centred_and_normalised_after_the_crop():
    cohort = Cohort(
        [ball_scan("a", (3, 4, 5)), ball_scan("b", (6, 5, 4), scale=-50.0, modality="CT")], "cubes", CARDIAC
    )
    scans = scans_on_grid(cohort, Grid((6, 6, 6), (1, 1, 1)), Placement("heart"))
    cube = np.zeros((6, 6, 6), np.uint8)
    cube[1:5, 1:5, 1:5] = 3
    assert (scans.labels == cube).all() and scans.scheme is CARDIAC and scans.images.dtype == np.float16
    share = 64 / 216  # of the crop that is bright: z of the two values of a binary image
    for image, sign in zip(scans.images, (1, -1), strict=True):
        assert np.allclose(image[cube > 0], sign * np.sqrt((1 - share) / share), atol=2e-3)
        assert np.allclose(image[cube == 0], -sign * np.sqrt(share / (1 - share)), atol=2e-3)
    assert scans.table["modality"].tolist() == ["MR", "CT"] and np.allclose(scans.table["outside"], 0)
    with pytest.warns(UserWarning, match="cuts off more than 10% of 2 of 2 shapes"):
        cut = scans_on_grid(cohort, Grid((2, 6, 6), (1, 1, 1)), Placement("heart"))
    assert np.allclose(cut.table["outside"], 0.5)


@pytest.mark.parametrize("lacks, said", [("label", "no label map"), ("image", "no image")])
def test_scans_on_a_grid_need_both(lacks, said):
    cohort = Cohort([ball_scan("a", (4, 4, 4)), ball_scan("b", (4, 4, 4), **{lacks: None})], "cubes", CARDIAC)
    with pytest.raises(DataError, match=f"subject b: found {said}; expected image and label map"):
        scans_on_grid(cohort, Grid((6, 6, 6), (1, 1, 1)))
    with pytest.raises(DataError, match="no subject"):
        scans_on_grid(cohort[:0], Grid((6, 6, 6), (1, 1, 1)))
