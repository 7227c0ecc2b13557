import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
)
from shapelab.data.scheme import CARDIAC, HIPPOCAMPUS
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
