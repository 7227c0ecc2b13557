"""The still renderer: orientation, silhouette against the formula, depth order, scale, notes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import trimesh
from matplotlib.text import Text

from shapelab.data.scheme import CARDIAC, HIPPOCAMPUS, WHOLE_HEART
from shapelab.errors import UsageError
from shapelab.show.meshes import heart_meshes
from shapelab.show.render import FRONT, View, mesh_grid, mesh_picture, project, shaded, window_of

STRAIGHT = View(0, 0)
BOX = np.array([[-60.0, 60.0], [-60.0, 60.0]])


def ball(x, y, z, r=12.0):
    mesh = trimesh.creation.icosphere(3, radius=r)
    mesh.apply_translation((x, y, z))
    return mesh


def where(picture, colour):
    """(row, column) mean of pixels whose hue is that colour's."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    shade = picture / np.maximum(np.linalg.norm(picture, axis=-1, keepdims=True), 1e-9)
    hit = np.argwhere((shade @ (wanted / np.linalg.norm(wanted)) > 0.985) & (picture.min(-1) < 0.9))
    assert len(hit) > 20
    return hit.mean(0)


def test_view_axes_are_a_right_handed_frame():
    for view in (FRONT, View(78, 30), View(-140, -20)):
        axes = view.axes()
        assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1)


def test_heart_is_seen_base_up_rv_left_anterior_in_front():
    right, away, up = project(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), STRAIGHT, CARDIAC)
    assert right == pytest.approx([1, 0, 0])  # larger x (LV) to the right
    assert away == pytest.approx([0, 1, 0])  # larger y (inferior) away from the viewer
    assert up == pytest.approx([0, 0, -1])  # larger z (apex) down


def test_picture_puts_the_parts_where_they_belong():
    parts = {"RV cavity": ball(-35, 0, -30), "LV cavity": ball(35, 0, 30)}
    picture = shaded(parts, CARDIAC, BOX, STRAIGHT, 120)
    rv, lv = where(picture, CARDIAC.colours[0]), where(picture, CARDIAC.colours[2])
    assert rv == pytest.approx([30, 25], abs=4) and lv == pytest.approx([90, 95], abs=4)


def test_whole_heart_is_seen_from_the_front_head_up(words):
    right, away, up = project(np.eye(3), STRAIGHT, WHOLE_HEART).T
    assert right == pytest.approx([-1, 0, 0])  # larger x, the patient's right, to the left
    assert away == pytest.approx([0, -1, 0])  # larger y, anterior, in front
    assert up == pytest.approx([0, 0, 1])
    parts = {"LV cavity": ball(-35, 0, -30), "right atrium": ball(35, 0, 30), "left atrium": ball(35, -30, 30)}
    picture = shaded(parts, WHOLE_HEART, BOX, STRAIGHT, 120)
    lv, ra = (where(picture, WHOLE_HEART.structure(n).colour) for n in ("LV cavity", "right atrium"))
    assert lv == pytest.approx([90, 95], abs=4) and ra == pytest.approx([30, 25], abs=4)  # and hides what is behind
    text = words(mesh_picture(parts, WHOLE_HEART))
    assert "from the front, head up" in text and "from the patient's right, head up" in text
    side = shaded(
        {"right atrium": parts["right atrium"], "LV cavity": ball(-35, 0, 30)}, WHOLE_HEART, BOX, View(90, 0), 120
    )
    assert where(side, WHOLE_HEART.structure("right atrium").colour) == pytest.approx([30, 60], abs=4)


def test_nearer_parts_hide_farther_ones():
    for near in (-30.0, 30.0):
        parts = {"RV cavity": ball(0, near, 0), "LV cavity": ball(0, -near, 0)}
        picture = shaded(parts, CARDIAC, BOX, STRAIGHT, 120)
        colour = CARDIAC.colours[0] if near < 0 else CARDIAC.colours[2]
        assert where(picture, colour) == pytest.approx([60, 60], abs=4)


def test_silhouette_has_the_area_of_a_disc_at_any_angle():
    for view in (STRAIGHT, FRONT, View(100, 40)):
        picture = shaded({"LV cavity": ball(0, 0, 0, 40)}, CARDIAC, BOX, view, 240)
        covered = (1 - picture.min(-1) > 0.03).mean() * 120 * 120
        assert covered == pytest.approx(np.pi * 40**2, rel=0.03)


def test_wall_is_translucent_and_the_cavity_shows_through():
    parts = {"LV myocardium": ball(0, 0, 0, 40), "LV cavity": ball(0, 0, 0, 20)}
    picture = shaded(parts, CARDIAC, BOX, STRAIGHT, 120)
    wall_only = shaded({"LV myocardium": parts["LV myocardium"]}, CARDIAC, BOX, STRAIGHT, 120)
    assert np.abs(picture[60, 60] - wall_only[60, 60]).max() > 0.15
    assert np.abs(picture[60, 30] - wall_only[60, 30]).max() < 0.02


def test_large_triangles_are_drawn_too():
    picture = shaded({"anterior hippocampus": trimesh.creation.box((80, 80, 80))}, HIPPOCAMPUS, BOX, STRAIGHT, 120)
    assert (1 - picture.min(-1) > 0.03).mean() == pytest.approx((80 / 120) ** 2, rel=0.03)


def test_grid_is_on_one_scale_with_names_and_notes(shapes):
    small, large = (heart_meshes(shapes.heart(scale=s), shapes.QUICK[1], CARDIAC) for s in (0.7, 1.0))
    without = {k: m for k, m in large.items() if k != "RV cavity"}
    fig = mesh_grid(
        [[small, large, without], [large]],
        CARDIAC,
        row_names=pd.Series(["z03", "z17"], index=[1, 0]),  # a name a row, in their order
        column_names=["−2 σ", "mean", "+2 σ"],
        title="Traversal",
    )
    fig.draw_without_rendering()
    assert len({(tuple(ax.get_xlim()), tuple(ax.get_ylim())) for ax in fig.axes if ax.images}) == 1
    words = " | ".join(t.get_text() for t in fig.findobj(Text))
    for word in ("z03", "z17", "−2 σ", "Traversal", "mm", "no surface: RV", *CARDIAC.names):
        assert word in words
    window = window_of([large], FRONT, CARDIAC)
    assert (np.ptp(window, axis=1) > np.ptp(window_of([small], FRONT, CARDIAC), axis=1)).all()


def test_picture_names_its_parts_and_is_small(shapes):
    fig = mesh_picture(heart_meshes(shapes.heart(), shapes.QUICK[1], CARDIAC), CARDIAC, title="A heart")
    words = " | ".join(t.get_text() for t in fig.findobj(Text))
    for word in ("A heart", "Myo", "RV", "from anterior, base up", "from the RV side, base up", "(translucent)", "mm"):
        assert word in words
    assert len(fig._repr_png_()) < 150_000


def test_no_mesh_at_all_is_said(painted):
    fig = mesh_picture({}, CARDIAC)
    words = " | ".join(t.get_text() for t in fig.findobj(Text))
    assert "empty" in words and "no surface: RV cavity, LV myocardium, LV cavity" in words
    assert painted(fig).shape[0] > 50


def test_wrong_grid_is_named():
    with pytest.raises(UsageError, match="no meshes"):
        mesh_grid([], CARDIAC)
    with pytest.raises(UsageError, match="2 views"):
        mesh_grid([[{}]], CARDIAC, view=[FRONT, FRONT])
