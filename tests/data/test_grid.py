import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from shapelab.data import grid
from shapelab.data.cohort import Cohort
from shapelab.data.grid import (
    RV_SIDE_MM,
    Grid,
    from_grid,
    images_on_grid,
    stack_labels,
    to_grid,
    to_unit_range,
    unit_image,
    z_normalised,
)
from shapelab.data.placement import Placement
from shapelab.data.scheme import CARDIAC, HIPPOCAMPUS, WHOLE_HEART
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError
from shapelab.metrics import dice


def heart(shape=(90, 80, 12), spacing=(1.5, 1.5, 10), lv=(70, 55), rv_angle=180.0, rv_distance=40.0, **kw):
    """A round LV of radius 25/32 mm and a round RV of radius 18 mm beside it; centre `lv` in mm."""
    x, y, _ = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    label = np.zeros(shape, np.uint8)
    angle = np.radians(rv_angle)
    rv = np.hypot(x - lv[0] - rv_distance * np.cos(angle), y - lv[1] - rv_distance * np.sin(angle)) < 18
    radius = np.hypot(x - lv[0], y - lv[1])
    label[rv], label[radius < 32], label[radius < 25] = 1, 2, 3
    label[:, :, :2], label[:, :, -2:] = 0, 0
    return Subject("toy", CARDIAC, label=label, affine=np.diag([*spacing, 1]), **kw)


GRID = Grid((64, 64, 24), (2.5, 2.5, 5))


def volume(label, value, spacing):
    return (label == value).sum() * np.prod(spacing) / 1000


def test_grid_says_what_it_is():
    assert GRID.extent == (160, 160, 120) and str(GRID) == "64x64x24 at 2.5x2.5x5 mm"


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((0, 1, 1), (1, 1, 1)), ((1, 1, 1), (1, 1, 0)), ((1, 1), (1, 1, 1)), ((1, 1, 1), (1, 1, np.nan))],
)
def test_bad_grids(shape, spacing):
    with pytest.raises(UsageError, match="Grid: (shape|spacing|found)"):
        Grid(shape, spacing)


@pytest.mark.parametrize("align", ["none", "rigid"])
def test_volumes_are_kept(align):
    s = heart(rv_angle=130)
    sample = to_grid(s, GRID, align=align)
    for value in (1, 2, 3):
        assert volume(sample.label, value, GRID.spacing) == pytest.approx(volume(s.label, value, s.spacing), rel=0.04)
    assert sample.outside == pytest.approx(0, abs=0.01)


def test_the_lv_comes_to_the_middle():
    sample = to_grid(heart(), GRID)
    middle = np.argwhere(sample.label >= 2).mean(0)
    assert np.allclose(middle, (np.array(GRID.shape) - 1) / 2, atol=0.15)


@given(angle=st.floats(0, 360))
@settings(max_examples=12, deadline=None)
def test_rigid_alignment_turns_the_rv_to_the_left(angle):
    s = heart(shape=(120, 120, 8), lv=(90, 90), rv_angle=angle)
    label = to_grid(s, GRID, align="rigid").label
    lv, rv = (np.argwhere(np.isin(label, v)).mean(0) * GRID.spacing for v in ([2, 3], [1]))
    # the centroid of the visible RV lies farther out than its circle's centre: part of it hides behind the LV
    assert rv[0] < lv[0] - 38 and abs(rv[1] - lv[1]) < 1.0
    assert lv[0] == pytest.approx((GRID.shape[0] - 1) / 2 * GRID.spacing[0] + RV_SIDE_MM, abs=0.8)


@pytest.mark.parametrize("align", ["none", "rigid"])
def test_hearts_are_turned_in_mm_where_pixels_are_not_square(align):
    square, oblong = ((150, 150, 8), (1.2, 1.2, 10)), ((180, 90, 8), (1.0, 2.0, 10))
    samples = [to_grid(heart(*s, lv=(90, 90), rv_angle=130), GRID, align=align) for s in (square, oblong)]
    assert dice(samples[0].label, samples[1].label, CARDIAC).min() > 0.93  # other voxels were cut
    back = from_grid(samples[1].label, samples[1].transform)
    assert dice(back, samples[1].subject.label, CARDIAC).min() > 0.9


@pytest.mark.parametrize("align", ["none", "rigid"])
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 10), (1.25, 1.25, 5)])
def test_there_and_back(align, spacing):
    s = heart(shape=(110, 100, 10), spacing=spacing, rv_angle=150)
    sample = to_grid(s, Grid((96, 96, 48), (1.5, 1.5, 2.5)), align=align)
    back = from_grid(sample.label, sample.transform)
    assert back.shape == s.label.shape and back.dtype == np.uint8
    assert dice(back, s.label, CARDIAC).min() > 0.96
    soft = from_grid(CARDIAC.onehot(sample.label), sample.transform)
    assert (soft == back).mean() > 0.999


def test_on_the_way_back_a_voxel_is_the_mean_over_its_own_extent(monkeypatch):
    s = heart((90, 24, 6), (1.0, 4.0, 5.0), lv=(45, 46), rv_angle=90, rv_distance=30)  # turned by 90 degrees
    sample = to_grid(s, Grid((100, 100, 30), (1.0, 1.0, 1.0)), align="rigid")
    asked, resample = [], grid._resample
    monkeypatch.setattr(grid, "_resample", lambda *a: asked.append(a[3]) or resample(*a))
    back = from_grid(sample.label, sample.transform)
    assert asked == [(1, 4, 5)] and dice(back, s.label, CARDIAC)["LV cavity"] > 0.9


def test_same_grid_changes_nothing():
    s = heart()
    sample = to_grid(s, Grid(s.shape, s.spacing), centre="volume")
    assert (sample.label == s.label).all()
    assert (from_grid(sample.label, sample.transform) == s.label).all()


def test_slices_that_nobody_annotated_are_not_background():
    """A heart that is alike in all slices: drawn on every second one, or on all, it is the same heart."""
    full = heart(file="heart.nii.gz")
    sparse = full.label.copy()
    sparse[:, :, 3:9:2] = 0
    expected = to_grid(full, GRID, align="rigid")
    with pytest.warns(UserWarning, match="^heart.nii.gz: found empty slices 3, 5, 7 "):
        found = to_grid(full.with_(label=sparse), GRID, align="rigid")
    assert (found.label == expected.label).all() and found.outside == expected.outside
    np.testing.assert_array_equal(found.transform.matrix, expected.transform.matrix)


def test_image_follows_the_label():
    s = heart()
    s = s.with_(image=(s.label == 3).astype(np.float32))
    sample = to_grid(s, GRID, align="rigid")
    assert sample.image.dtype == np.float32
    assert ((sample.image > 0.5) == (sample.label == 3)).mean() > 0.999


def test_image_alone_is_centred_on_the_volume():
    s = Subject("i", CARDIAC, image=np.random.default_rng(0).random((20, 20, 6)))
    sample = to_grid(s, Grid((20, 20, 6), (1, 1, 1)))
    assert sample.label is None and np.allclose(sample.image, s.image, atol=1e-5)


def test_what_the_grid_cuts_off_is_said():
    small = to_grid(heart(), Grid((20, 20, 24), (2.5, 2.5, 5)))
    assert 0.3 < small.outside < 0.9


def test_one_slice_and_a_chosen_centre():
    s = heart(shape=(90, 80, 5))
    s = s.with_(label=s.label[:, :, 2:3])
    sample = to_grid(s, Grid((64, 64, 1), (2.5, 2.5, 10)), centre=(70, 55, 0))
    assert volume(sample.label, 3, (2.5, 2.5, 10)) == pytest.approx(volume(s.label, 3, s.spacing), rel=0.03)


def test_bad_input_is_named():
    s = heart(file="p1.nii.gz")
    empty = s.with_(label=np.zeros((4, 4, 4), np.uint8))
    no_rv = s.with_(label=np.where(s.label == 1, 0, s.label))
    with pytest.raises(DataError, match=r"p1\.nii\.gz: found no voxel of the LV"):
        to_grid(empty, GRID)
    with pytest.raises(DataError, match=r"p1\.nii\.gz: found no voxel of the RV cavity"):
        to_grid(no_rv, GRID, align="rigid")
    with pytest.raises(DataError, match="no label"):
        to_grid(Subject("i", CARDIAC, image=np.ones((3, 3, 3))), GRID, centre="lv")
    for arguments in ({"centre": "rv"}, {"align": "affine"}, {"centre": (1, 2)}):
        with pytest.raises(UsageError, match="to_grid: found"):
            to_grid(s, GRID, **arguments)
    hippocampus = Subject("h", HIPPOCAMPUS, label=np.ones((4, 4, 4), np.uint8))
    with pytest.raises(UsageError, match="align='rigid'"):
        to_grid(hippocampus, GRID, align="rigid")
    with pytest.raises(UsageError, match="centre='lv'"):
        to_grid(hippocampus, GRID, centre="lv")
    transform = to_grid(s, GRID).transform
    with pytest.raises(DataError, match=r"shape \(3, 3, 3\)"):
        from_grid(np.zeros((3, 3, 3), int), transform)
    with pytest.raises(DataError, match="7 channels"):
        from_grid(np.zeros((7, *GRID.shape)), transform)


def test_stack():
    c = Cohort([heart().with_(id=str(i), facts={"group": "NOR"}) for i in range(3)], "toy", CARDIAC)
    labels, table = stack_labels(c, GRID, align="rigid")
    assert labels.shape == (3, *GRID.shape) and labels.dtype == np.uint8
    assert (labels[0] == labels[2]).all() and list(table.columns) == ["patient", "group", "outside"]
    with pytest.raises(DataError, match="no subject"):
        stack_labels(c[:0], GRID)


def test_unit_range():
    image = np.arange(101, dtype=float).reshape(101, 1, 1)
    scaled = to_unit_range(image, (1, 99))
    assert scaled.min() == 0 and scaled.max() == 1 and scaled[50, 0, 0] == pytest.approx(0.5)
    assert np.array_equal(to_unit_range(image), scaled)  # 1 and 99 unless others are asked for
    assert to_unit_range(image)[[1, 2, 99], 0, 0] == pytest.approx([0, 1 / 98, 1])
    assert (to_unit_range(np.full((2, 2, 2), 7.0)) == 0).all()


def test_a_z_normalised_image_has_mean_0_and_sd_1():
    np.testing.assert_allclose(z_normalised(np.array([1, 3, 1, 3])), [-1, 1, -1, 1])
    assert not z_normalised(np.full((2, 2), 7)).any()


def test_unit_images_are_in_units_of_the_99th_percentile_of_what_was_scanned():
    image = np.concatenate([np.zeros(900), np.arange(1, 102)]).reshape(-1, 1, 1)  # percentile 99 of 1 to 101: 100
    made = unit_image(image)
    assert made[[899, 900, 949, 999, 1000], 0, 0] == pytest.approx([0, 0.01, 0.5, 1, 1]) and made.dtype == np.float32
    assert not unit_image(np.zeros((2, 2, 2))).any()


def test_images_lie_as_every_space_has_hearts_by_their_own_labels_or_by_poses():
    s = heart((120, 120, 8), lv=(90, 90), rv_angle=70)
    s = s.with_(image=(10.0 * s.label).astype(np.float32), facts={"group": "NOR"})
    cohort = Cohort([s], "toy", CARDIAC)
    images, labels, table = images_on_grid(cohort, GRID)
    assert np.array_equal(labels[0], to_grid(s, GRID, align="rigid").label) and table["group"].tolist() == ["NOR"]
    assert ((images[0] > 0.9) == (labels[0] == 3)).mean() > 0.99 and images.max() <= 1
    moved = np.roll(s.label, 8, axis=0)  # a network that sees the heart 12 mm off
    images, labels, _ = images_on_grid(cohort, GRID, {s.id: moved})
    assert np.array_equal(labels[0], to_grid(s.with_(label=moved), GRID, align="rigid").label)
    seen, said = (np.argwhere(mask).mean(0)[:2] * 2.5 for mask in (images[0] > 0.9, labels[0] == 3))
    assert np.linalg.norm(seen - said) == pytest.approx(12, abs=1)
    with pytest.raises(DataError, match="no pose of this subject"):
        images_on_grid(cohort, GRID, {})


@pytest.mark.parametrize("align", ["none", "rigid"])
@pytest.mark.parametrize("whole_walls", [False, True])
def test_one_heart_stored_in_any_order_is_laid_the_same_way(align, whole_walls, every_order):
    s = heart(shape=(60, 56, 8), spacing=(2.0, 2.0, 10), lv=(66, 55), rv_angle=130)
    image = np.random.default_rng(0).random(s.shape).astype(np.float32)
    tipped = Rotation.from_euler("zyx", (25, 15, -35), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tipped @ np.diag(s.spacing)
    how = {"align": align, "whole_walls": whole_walls, "centre": "auto"}
    first = to_grid(s.with_(image=image, affine=affine), GRID, **how)
    came_back = from_grid(first.label, first.transform)
    for label, grey, matrix in every_order(s.label, image, affine):
        sample = to_grid(s.with_(label=label, image=grey, affine=matrix), GRID, **how)
        assert (sample.label == first.label).all() and np.array_equal(sample.image, first.image)
        back = from_grid(sample.label, sample.transform)
        assert back.shape == label.shape and ((back == label).mean() == (came_back == s.label).mean() > 0.99)


def test_a_position_is_one_in_the_files_own_order(every_order):
    """One marked voxel comes to the middle of the grid, wherever it is stored."""
    label, grid = np.zeros((5, 6, 7), np.uint8), Grid((9, 9, 9), (1, 2, 3))
    label[1, 4, 2] = 1
    for stored, _, affine in every_order(label, label, np.diag([1.0, 2, 3, 1])):
        s = Subject("a", HIPPOCAMPUS, stored, affine=affine)
        place = np.argwhere(stored)[0] * s.spacing
        assert np.argwhere(to_grid(s, grid, centre=place).label).tolist() == [[4, 4, 4]]


def test_the_base_comes_first_where_the_label_map_tells_it():
    cone = heart()
    label = cone.label.copy()
    label[:, :, 6:][label[:, :, 6:] >= 2] = 0
    label[np.hypot(*(np.indices((90, 80)) * 1.5 - np.array([70, 55])[:, None, None])) < 20, 6:10] = 2  # a narrow apex
    turned_over = np.ascontiguousarray(label[:, :, ::-1])  # the affine does not say so
    for align, same in (("rigid", True), ("none", False)):
        first, second = (to_grid(cone.with_(label=a), GRID, align=align) for a in (label, turned_over))
        assert bool(dice(first.label, second.label, CARDIAC).min() > 0.99) is same
        assert not first.assumed
    second = to_grid(cone.with_(label=turned_over), GRID, align="rigid")
    assert dice(from_grid(second.label, second.transform), turned_over, CARDIAC).min() > 0.94


def test_where_the_label_map_cannot_tell_the_base_that_is_said():
    assert "first slice is the base" in to_grid(heart(), GRID, align="rigid").assumed[0]  # a cylinder
    _, table = stack_labels(Cohort([heart()], "c", CARDIAC), GRID, align="rigid")
    assert list(table.attrs["assumed"]) == ["toy"]


def test_right_sides_are_mirrored_on_request():
    label = np.zeros((6, 6, 6), np.uint8)
    label[:4, :3, :2] = 1
    left, grid = Subject("l", HIPPOCAMPUS, label, facts={"side": "left"}), Grid((6, 6, 6), (1, 1, 1))
    right = left.with_(id="r", label=np.ascontiguousarray(label[::-1]), facts={"side": "right"})
    (one, other), _ = stack_labels(Cohort([left, right], "c", HIPPOCAMPUS), grid, centre="volume", mirror="right")
    assert (one == label).all() and (other == label).all()
    (one, other), _ = stack_labels(Cohort([left, right], "c", HIPPOCAMPUS), grid, centre="volume")
    assert (one == label).all() and (other == right.label).all()


def test_whole_walls_are_kept_both_ways():
    """A wall of 3.5 mm on voxels of 5 mm: half of it tears by the largest share."""
    s = heart(shape=(96, 96, 6), spacing=(1.5, 1.5, 10), lv=(70, 70))
    radius = np.hypot(*(np.indices((96, 96)) * 1.5 - np.array([70, 70])[:, None, None]))
    label = s.label
    label[radius < 40, 2:4] = 0
    label[radius < 28.5, 2:4] = 2
    label[radius < 25, 2:4] = 3
    coarse = Grid((30, 30, 6), (5, 5, 10))

    def open_voxels(a):
        around = np.pad(a == 3, ((1, 1), (1, 1), (0, 0)))
        near = around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:]
        return int((near & (a == 0)).sum())

    torn, whole = (to_grid(s.with_(label=label), coarse, whole_walls=w) for w in (False, True))
    assert open_voxels(label) == 0 and open_voxels(torn.label) > 10 and open_voxels(whole.label) == 0
    assert volume(whole.label, 3, coarse.spacing) == pytest.approx(volume(label, 3, s.spacing), rel=0.05)
    assert open_voxels(from_grid(whole.label, whole.transform)) == 0


def test_a_grid_that_cuts_shapes_off_is_said():
    cohort = Cohort([heart(), heart().with_(id="other")], "two", CARDIAC)
    with pytest.warns(UserWarning, match=r"two: the grid 8x8x8 at 2x2x2 mm cuts off .* 2 of 2 shapes \(9\d% of toy\)"):
        stack_labels(cohort, Grid((8, 8, 8), (2, 2, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack_labels(cohort, GRID)


@pytest.mark.parametrize(("shape", "spacing"), [((2.25, 2.25, 8.0), (64, 64, 16)), ((2, 2, 6), (48, 48, 16))])
def test_shape_and_spacing_exchanged_are_said(shape, spacing):
    with pytest.raises(UsageError, match="are shape and spacing exchanged"):
        Grid(shape, spacing)


def test_stacks_are_laid_as_a_space_remembers():
    class Space:
        grid, placement = GRID, Placement(align="rigid", whole_walls=True)

    cohort = Cohort([heart(rv_angle=120)], "c", CARDIAC)
    labels, _ = stack_labels(cohort, Space())
    assert labels.placement == Space.placement
    assert (labels == stack_labels(cohort, GRID, align="rigid", whole_walls=True)[0]).all()
    assert not (labels == stack_labels(cohort, GRID, align="rigid")[0]).all()
    with pytest.raises(UsageError, match="nothing of this beside a space"):
        stack_labels(cohort, Space(), align="rigid")


def test_a_whole_heart_is_centred_as_a_whole():
    label = np.zeros((9, 9, 19), np.uint8)
    label[4, 4, 2:4] = (1, 2)  # the LV, its centroid at 2.5
    label[4, 4, 16], label[4, 4, 17] = 6, 7  # vessels far above: of all four voxels 9.5
    box = Grid((9, 9, 18), (1, 1, 1))
    laid = to_grid(Subject("a", WHOLE_HEART, label, None, np.eye(4)), box)
    assert np.argwhere(laid.label)[:, 2].tolist() == [1, 2, 15, 16]  # 9.5 comes to 8.5
    about_lv = to_grid(Subject("a", WHOLE_HEART, label, None, np.eye(4)), box, centre="lv")
    assert np.argwhere(about_lv.label)[:, 2].tolist() == [8, 9]
