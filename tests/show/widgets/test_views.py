"""What the browser views are sent: meshes, points, scripts that fetch nothing."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from shapelab.data.scheme import CARDIAC, WHOLE_HEART
from shapelab.errors import UsageError
from shapelab.show import style
from shapelab.show.meshes import heart_meshes
from shapelab.show.widgets import views
from shapelab.show.widgets.views import UNIT, mesh_parts


def test_what_is_sent_is_the_mesh_base_up_and_wound_outwards(shapes):
    meshes = heart_meshes(shapes.heart(), shapes.QUICK[1], CARDIAC)
    parts = mesh_parts(meshes, CARDIAC)
    assert [p["name"] for p in parts] == list(CARDIAC.names)
    for part in parts:
        mesh = meshes[part["name"]]
        vertices = np.frombuffer(part["vertices"], "<i2").reshape(-1, 3) * UNIT
        faces = np.frombuffer(part["faces"], "<u2").reshape(-1, 3)
        assert vertices == pytest.approx(mesh.vertices * (1, 1, -1), abs=UNIT)
        a, b, c = (vertices[faces[:, i]] for i in range(3))
        assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(mesh.volume, rel=0.01)
    far = {"LV cavity": meshes["LV cavity"].copy()}
    far["LV cavity"].apply_translation((900, 0, 0))
    with pytest.raises(UsageError, match="655 mm"):
        mesh_parts(far, CARDIAC)


def test_a_whole_heart_is_sent_with_the_left_on_the_right():
    label = np.zeros((16, 14, 12), np.uint8)
    label[2:6, 3:9, 2:9] = 3
    meshes = heart_meshes(label, (6, 6, 6), WHOLE_HEART)
    (part,) = mesh_parts(meshes, WHOLE_HEART)
    vertices = np.frombuffer(part["vertices"], "<i2").reshape(-1, 3) * UNIT
    assert vertices == pytest.approx(meshes["RV cavity"].vertices * (-1, -1, 1), abs=UNIT)
    a, b, c = (vertices[np.frombuffer(part["faces"], "<u2").reshape(-1, 3)[:, i]] for i in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(meshes["RV cavity"].volume, rel=0.01)


def test_scripts_fetch_nothing():
    for name in ("mesh_view.js", "scatter_view.js", "views.css"):
        text = (views.HERE / name).read_text()
        assert "import " not in text and "fetch(" not in text and "@import" not in text
        assert [line for line in text.splitlines() if "http" in line and "www.w3.org/2000/svg" not in line] == []


def test_every_mark_has_its_shape():
    text = (views.HERE / "scatter_view.js").read_text()
    for mark in (style.WITHOUT, *style.SPARE, *style.GROUPS.values()):
        assert re.search(rf'[{{ "]{mark.symbol}"?: "M', text), mark


def test_points_carry_the_marks_and_facts_of_their_rows():
    table = pd.DataFrame(
        {"x": [0.0, 1.0, 2.0], "y": [3.0, 4.0, 5.0], "group": ["NOR", "NOR", "DCM"], "phase": ["ED", "ES", "ED"]},
        index=["a", "b", "c"],
    )
    view = views.ScatterView()
    view.show(table)
    points = {p["id"]: p for p in view.points}
    assert {name: (p["x"], p["y"]) for name, p in points.items()} == {"a": (0, 3), "b": (1, 4), "c": (2, 5)}
    assert points["a"]["marker"] == points["b"]["marker"] != points["c"]["marker"]
    assert [points[n]["hollow"] for n in "abc"] == [False, True, False]
    assert points["c"]["text"] == "c\ngroup: DCM\nphase: ED"
    view.show(table.assign(group=["NOR", None, "DCM"]))
    assert {p["id"]: p["marker"] for p in view.points}["b"] == "hexagon" and len(view.points) == 3
    assert "1 without a group" in [entry["name"] for entry in view.legend]
    with pytest.raises(UsageError, match="also .'x'."):
        view.show(table.drop(columns="x"))
