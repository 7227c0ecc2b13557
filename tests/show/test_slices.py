"""Slices: orientation, scale and units, contours, errors by name."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text

from shapelab.data.scheme import CARDIAC, HIPPOCAMPUS, WHOLE_HEART
from shapelab.data.subject import Subject
from shapelab.errors import UsageError
from shapelab.show.slices import (
    compare_long_axes,
    compare_planes,
    compare_slices,
    long_axis,
    pick_slices,
    planes,
    slices,
)
from shapelab.show.style import png_bytes, rgb

SPACING = (2.0, 2.0, 8.0)


@pytest.fixture(scope="module")
def label(tiny_heart):
    return tiny_heart((60, 50, 6))


def texts(fig) -> str:
    fig.draw_without_rendering()
    found = [t.get_text() for t in fig.findobj(Text)]
    return " | ".join(found)


def middle_of(picture: np.ndarray, colour: str) -> np.ndarray:
    """(row, column) of the middle of what has about that colour drawn at .85 on white."""
    wanted = 0.85 * rgb(colour) + 0.15
    hit = np.argwhere(np.abs(picture - wanted).max(axis=-1) < 0.03)
    assert len(hit) > 50
    return hit.mean(axis=0)


def test_rv_is_left_anterior_is_up(painted):
    a = np.zeros((40, 40, 1), np.uint8)
    a[5:15, 15:25] = 1  # small x: left
    a[15:25, 5:15] = 2  # small y: up
    a[15:25, 25:35] = 3
    picture = painted(slices(a, (1, 1, 10), CARDIAC, contours=False))
    rv, up, down = (middle_of(picture[:-25], c) for c in CARDIAC.colours)
    assert rv[1] < up[1] - 20
    assert up[0] < rv[0] < down[0]


def test_long_axis_has_the_base_up_and_the_rv_left(painted):
    a = np.zeros((40, 20, 12), np.uint8)
    a[4:12, 5:15, 0:4] = 1
    a[20:30, 5:15, 8:11] = 3
    picture = painted(long_axis(a, (1, 1, 3), CARDIAC, contours=False))
    rv, lv = (middle_of(picture[:-25], c) for c in (CARDIAC.colours[0], CARDIAC.colours[2]))
    assert rv[0] < lv[0] - 20 and rv[1] < lv[1] - 20


def test_long_axes_side_by_side_share_cut_and_window(painted):
    a, b = np.zeros((2, 40, 20, 12), np.uint8)
    a[4:12, 5:15, 0:4], a[20:30, 5:15, 8:11] = 1, 3
    b[20:30, 2:4, 8:11], b[20:30, 9:11, 8:11] = 2, 2  # the cut goes through the middle of the first one's cavity
    fig = compare_long_axes([("one", a), ("other", b), ("scan", a.astype(np.float32))], (1, 1, 3), CARDIAC)
    assert all(t in texts(fig) for t in ("one", "other", "scan", "x (mm), RV → LV", "z (mm), base up"))
    windows = {(*ax.get_xlim(), *ax.get_ylim()) for ax in fig.axes}
    assert windows == {(0.0, 40.0, 36.0, 0.0)}
    picture = painted(compare_long_axes([("one", a), ("other", b)], (1, 1, 3), CARDIAC, contours=False))
    cavity, wall = (middle_of(picture[:-25], c) for c in (CARDIAC.colours[2], CARDIAC.colours[1]))
    assert abs(cavity[0] - wall[0]) < 3 and wall[1] > cavity[1] + 100


def test_units_titles_legend_and_names_are_there(label):
    words = texts(slices(label, SPACING, CARDIAC, n=4, title="One heart"))
    for word in (
        "x (mm)",
        "y (mm), anterior up",
        "RV → LV",
        "One heart",
        "slice 0",
        "(basal)",
        "(apical)",
        *CARDIAC.names,
        "Myo",
    ):
        assert word in words
    assert "RV → LV" not in texts(slices((label > 0).astype(np.uint8), SPACING, HIPPOCAMPUS))
    assert "z (mm), base up" in texts(long_axis(label, SPACING, CARDIAC))


def test_every_panel_keeps_the_millimetre_scale(label):
    fig = slices(label, (1.0, 3.0, 8.0), CARDIAC, n=3)
    fig.draw_without_rendering()
    for ax in fig.axes:
        box = ax.get_window_extent()
        assert box.width / box.height == pytest.approx(np.ptp(ax.get_xlim()) / abs(np.ptp(ax.get_ylim())), rel=0.02)


def test_compared_hearts_share_one_scale(label, tiny_heart):
    small = tiny_heart((40, 40, 5))
    fig = compare_slices(
        [("real", label), ("phantom", Subject("b", CARDIAC, label=small, affine=np.diag([2, 2, 8, 1])))],
        SPACING,
        CARDIAC,
        n=3,
    )
    spans = {(round(np.ptp(ax.get_xlim()), 6), round(abs(np.ptp(ax.get_ylim())), 6)) for ax in fig.axes}
    assert len(spans) == 1
    assert all(w in texts(fig) for w in ("real", "phantom", "30 mm"))


def test_compared_label_maps_of_one_grid_show_the_slices_asked_for(label):
    moved = np.roll(label, 2, axis=0)
    fig = compare_slices([("a", label), ("b", moved)], SPACING, CARDIAC, indices=[1, 2])
    assert len(fig.axes) == 4
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in fig.axes}) == 1
    assert f"z = {2 * SPACING[2]:.0f} mm" in texts(fig)
    with pytest.raises(UsageError, match="2 different grids"):
        compare_slices([("a", label), ("b", label[:-1])], SPACING, CARDIAC, indices=[1])
    for wrong in ([], [label.shape[2]]):
        with pytest.raises(UsageError, match="expected some of"):
            compare_slices([("a", label)], SPACING, CARDIAC, indices=wrong)


def test_contours_differ_in_line_style_and_lie_between_voxels(label):
    image = np.random.default_rng(0).random(label.shape, np.float32)
    fig = slices((image, label), SPACING, CARDIAC, n=1)
    sets = [c for c in fig.axes[0].collections if c.get_linewidth()[0] == pytest.approx(1.3)]
    assert len(sets) == 3 and len({str(c.get_linestyle()) for c in sets}) == 3
    square = np.zeros((10, 10, 1), np.uint8)
    square[4:6, 4:6] = 3
    path = slices(square, (2, 2, 8), CARDIAC, n=1).axes[0].collections[0].get_paths()[0]
    assert path.vertices.min() == pytest.approx(8) and path.vertices.max() == pytest.approx(12)


def test_subject_brings_its_own_spacing_scheme_and_name(label):
    subject = Subject("patient007_ED", CARDIAC, label=label, affine=np.diag([2, 2, 8, 1]), facts={"group": "DCM"})
    assert "patient007_ED (DCM)" in texts(slices(subject))


def test_slices_are_spread_over_the_labelled_ones():
    label = np.zeros((4, 4, 12), np.uint8)
    label[1, 1, 2:11] = 1
    assert pick_slices(label, 12, 3) == [2, 6, 10]
    assert pick_slices(label, 12, 99) == list(range(2, 11))
    assert pick_slices(None, 3, 2) == [0, 2]


def test_a_picture_shows_itself_once_and_is_small(label):
    import matplotlib.pyplot

    fig = slices(label, SPACING, CARDIAC)
    assert fig._repr_png_()[:4] == b"\x89PNG" and len(fig._repr_png_()) < 200_000
    assert matplotlib.pyplot.get_fignums() == []


def test_an_empty_label_is_drawn_whole():
    fig = slices(np.zeros((10, 12, 3), np.uint8), SPACING, CARDIAC)
    assert fig.axes[0].get_xlim() == (0, 20)


@pytest.mark.parametrize(
    ("item", "more", "words"),
    [
        (np.zeros((4, 4), np.uint8), {}, "three axes"),
        (np.zeros((4, 4, 4), np.uint8), {"spacing": None}, "no spacing"),
        (np.zeros((4, 4, 4), np.uint8), {"spacing": (1, 1, -1)}, "above 0"),
        (np.zeros((4, 4, 4), np.uint8), {"scheme": None}, "without a scheme"),
        ((np.zeros((4, 4, 4)), np.zeros((4, 4, 5), np.uint8)), {}, "one shape"),
        (np.zeros((4, 4, 4), np.uint8), {"indices": [9]}, r"\[9\]"),
    ],
)
def test_wrong_input_is_named(item, more, words):
    with pytest.raises(UsageError, match=words):
        slices(item, **{"spacing": SPACING, "scheme": CARDIAC, **more})


def test_wrong_plane_and_no_items_are_named(label):
    with pytest.raises(UsageError, match="'xy'"):
        long_axis(label, SPACING, CARDIAC, plane="xy")
    with pytest.raises(UsageError, match="position: found 99"):
        compare_long_axes([("a", label)], SPACING, CARDIAC, position=99)
    with pytest.raises(UsageError, match="no item"):
        compare_slices([])
    with pytest.raises(UsageError, match="compare_long_axes: found no item"):
        compare_long_axes([])
    with pytest.raises(UsageError, match="compare_long_axes: position: found -1"):
        compare_long_axes([("a", label)], SPACING, CARDIAC, position=-1)
    with pytest.raises(UsageError, match="compare_long_axes: found 2 different grids"):
        compare_long_axes([("a", label), ("b", label[1:])], SPACING, CARDIAC)


@pytest.fixture
def body():
    """A block on each side of the middle of a body, in canonical order: x grows to the right, y forward, z upwards."""
    a = np.zeros((30, 26, 34), np.uint8)
    a[2:8, 10:16, 14:20] = WHOLE_HEART.structure("LV cavity").value  # the patient's left
    a[22:28, 10:16, 14:20] = WHOLE_HEART.structure("right atrium").value
    a[12:18, 19:24, 14:20] = WHOLE_HEART.structure("RV cavity").value  # anterior
    a[12:18, 2:7, 14:20] = WHOLE_HEART.structure("left atrium").value
    a[12:18, 10:16, 27:32] = WHOLE_HEART.structure("pulmonary artery").value  # towards the head
    a[12:18, 10:16, 2:7] = WHOLE_HEART.structure("LV myocardium").value
    return a


def sides(fig, picture, panel, names):
    """(across, up) of the middle of each structure in a panel of a picture, in shares of it: 0 is left or the foot."""
    fig.draw_without_rendering()
    box, scale = fig.axes[panel].get_window_extent(), len(picture) / fig.bbox.height
    rows = len(picture) - np.array([box.y1, box.y0]) * scale
    inner = picture[int(rows[0]) : int(rows[1]), int(box.x0 * scale) : int(box.x1 * scale)]
    found = [middle_of(inner, WHOLE_HEART.structure(n).colour) / inner.shape[:2] for n in names]
    return [(across, 1 - down) for down, across in found]


def test_whole_heart_has_the_head_up_and_the_left_on_the_right(body, painted):
    names = ["RV cavity", "left atrium", "right atrium", "LV cavity", "pulmonary artery", "LV myocardium"]
    front, back, right, left, head, foot = names
    fig = planes(body, (3, 3, 3), WHOLE_HEART, contours=False)
    picture = painted(fig)
    for panel, (at_left, at_right, above, below) in enumerate(
        ((right, left, front, back), (right, left, head, foot), (front, back, head, foot))  # axial, coronal, sagittal
    ):
        around = sides(fig, picture, panel, (at_left, at_right, above, below))
        assert around[0][0] < 0.35 and around[1][0] > 0.65 and around[2][1] > 0.65 and around[3][1] < 0.35
        assert [around[i][1] for i in (0, 1)] == pytest.approx([0.5, 0.5], abs=0.1)
    for fig, pair in (
        (slices(body, (3, 3, 3), WHOLE_HEART, indices=[16], contours=False), (front, back)),
        (long_axis(body, (3, 3, 3), WHOLE_HEART, contours=False), (head, foot)),
    ):
        around = sides(fig, painted(fig), 0, (right, left, *pair))
        assert around[0][0] < 0.35 and around[1][0] > 0.65 and around[2][1] > 0.65 and around[3][1] < 0.35


def test_edges_of_a_whole_heart_are_lettered_and_of_a_short_axis_not(body, label):
    fig = planes(body, (3, 3, 3), WHOLE_HEART)
    for ax, letters in zip(fig.axes, ("RLPA", "RLFH", "APFH"), strict=True):
        at = {t.get_text(): t.get_position() for t in ax.texts if t.get_text() in set("RLPAHF")}
        left, right, low, high = (at[letter] for letter in letters)
        assert left[0] < 0.1 and right[0] > 0.9 and low[1] < 0.1 and high[1] > 0.9 and len(at) == 4
    words = texts(fig)
    assert all(
        w in words for w in ("axial, z = 48 mm", "coronal, y = 36 mm", "sagittal, x = 42 mm", "RA", "PA", "30 mm")
    )
    assert "x (mm), right → left" in texts(slices(body, (3, 3, 3), WHOLE_HEART))
    assert "One coronal plane" in texts(compare_long_axes([("a", body)], (3, 3, 3), WHOLE_HEART))
    assert not any(t.get_text() in set("RLPAHF") for ax in slices(label, SPACING, CARDIAC).axes for t in ax.texts)


def test_planes_share_one_scale_and_go_through_the_voxel_asked_for(body, painted):
    image = np.zeros(body.shape, np.float32)
    image[6, 14, 21] = 1.0
    fig = compare_planes([("map", body), ("CT", (image, body))], (3, 3, 3), WHOLE_HEART, at=(6, 14, 21))
    assert [ax.images[0].get_array().max() for ax in fig.axes[3:]] == [1, 1, 1]  # each plane holds the voxel
    fig.draw_without_rendering()
    per_mm = [ax.get_window_extent().width / np.ptp(ax.get_xlim()) for ax in fig.axes]
    assert per_mm == pytest.approx([per_mm[0]] * 6, rel=0.03)
    lines = compare_slices([("a", body)], (3, 3, 3), WHOLE_HEART).axes[0]
    (ends,) = (line.get_xdata() for line in lines.lines)
    assert max(lines.get_xlim()) > ends[0] > ends[1] > min(lines.get_xlim()) and ends[0] - ends[1] == 30


def test_one_whole_heart_stored_in_any_order_gives_one_picture(body, every_order):
    image = np.random.default_rng(0).random(body.shape).astype(np.float32)
    orders = [*every_order(body, image, np.diag([3.0, 3, 3, 1]))][::7]
    hearts = [Subject("a", WHOLE_HEART, label=stored, image=grey, affine=affine) for stored, grey, affine in orders]
    assert len({png_bytes(planes(heart)) for heart in hearts}) == 1


def test_planes_that_cannot_be_drawn_are_named(body, label):
    with pytest.raises(UsageError, match="found label scheme .*cardiac short axis.*whole heart"):
        planes(label, SPACING, CARDIAC)
    with pytest.raises(UsageError, match="compare_planes: at: found 34"):
        planes(body, (3, 3, 3), WHOLE_HEART, at=(0, 0, 34))
    with pytest.raises(UsageError, match=r"a voxel \(3,\)"):
        planes(body, (3, 3, 3), WHOLE_HEART, at=(0, 0))
    with pytest.raises(UsageError, match="2 different grids"):
        compare_planes([("a", body), ("b", body[1:])], (3, 3, 3), WHOLE_HEART)


@pytest.mark.realdata
def test_real_heart_has_the_rv_on_the_left_and_the_base_first(acdc_root):
    import nibabel

    label = np.asarray(nibabel.load(acdc_root / "training/patient001/patient001_frame01_gt.nii.gz").dataobj).astype(
        np.uint8
    )
    assert np.argwhere(label == 1)[:, 0].mean() < np.argwhere(label == 3)[:, 0].mean()
    areas = (label > 0).sum(axis=(0, 1))
    assert areas[1] > areas[-1]
    assert slices(label, (1.56, 1.56, 10), CARDIAC).axes


def test_one_heart_stored_in_any_order_gives_one_picture(tiny_heart, every_order):
    label = tiny_heart((24, 20, 6))
    label[..., 3:][label[..., 3:] == 2] = 0  # narrower towards the apex
    image = np.random.default_rng(0).random(label.shape).astype(np.float32)
    pictures = set()
    for stored, grey, affine in [*every_order(label, image, np.diag([2.0, 2, 8, 1]))][::5]:
        heart = Subject("a", CARDIAC, label=stored, image=grey, affine=affine)
        pictures.add(png_bytes(slices(heart, n=3)))
    assert len(pictures) == 1 and pictures != {png_bytes(slices(heart.with_(label=stored * (stored < 3)), n=3))}
