"""Widgets without a browser: the functions they show, their handlers, the error line, the size of what is sent."""

from __future__ import annotations

import json
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pandas as pd
import pytest

from shapelab.data.cohort import Cohort
from shapelab.data.scheme import CARDIAC, WHOLE_HEART
from shapelab.data.subject import Subject
from shapelab.errors import UsageError
from shapelab.show.slices import planes
from shapelab.show.style import png_bytes
from shapelab.show.widgets import EmbeddingWidget, InterpolationWidget, StagesWidget, TraversalWidget, views
from shapelab.show.widgets import shapes as widgets
from shapelab.show.widgets.views import UNIT, MeshView


@pytest.fixture
def space(shapes):
    """A ShapeSpace of four codes; the first is the heart's scale, about 1."""

    class Space:
        scheme, grid = CARDIAC, SimpleNamespace(shape=shapes.QUICK[0], spacing=shapes.QUICK[1])
        n_codes, mean, sigma = 4, np.array([1.0, 0, 0, 0], np.float32), np.array([0.1, 1, 1, 1], np.float32)
        calls = 0

        def decode(self, codes):
            self.calls += 1
            codes = np.atleast_2d(codes)
            if not np.isfinite(codes).all():
                raise UsageError("codes: found NaN; expected finite numbers")
            return np.stack([shapes.heart(scale=float(c[0])) for c in codes])

    return Space()


def volume(widget: widgets.ShapeWidget) -> float:
    """Volume (ml) of the LV cavity from what was sent to the browser."""
    part = next(p for p in widget.view.parts if p["name"] == "LV cavity")
    vertices = np.frombuffer(part["vertices"], "<i2").reshape(-1, 3) * UNIT
    faces = np.frombuffer(part["faces"], "<u2").reshape(-1, 3)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6000)


SMALL, LARGE = np.array([0.7, 0, 0, 0]), np.array([1.0, 0, 0, 0])


def test_interpolation_shows_both_ends_and_the_way_between(space):
    widget = InterpolationWidget(space, SMALL, LARGE, ("patient 1", "patient 2"))
    found = []
    for t in (0.0, 0.5, 1.0):
        widget.slider.value = t
        found.append(volume(widget))
        expected = widgets.interpolate_meshes(space, SMALL, LARGE, t)["LV cavity"].volume / 1000
        assert found[-1] == pytest.approx(expected, rel=0.01)
    assert found[0] < 0.5 * found[2] and found[0] < found[1] < found[2]
    assert widget.view.caption == "patient 1 → patient 2, t = 1.00"
    assert "LV cavity" in widget.info.value and "ml" in widget.info.value
    assert widget.error.value == ""


def test_camera_stays_so_that_a_growing_heart_is_seen_to_grow(space):
    widget = InterpolationWidget(space, SMALL, LARGE)
    radius, centre = widget.view.radius, widget.view.centre
    widget.slider.value = 1.0
    assert (widget.view.radius, widget.view.centre) == (radius, centre)


def test_camera_steps_back_for_a_larger_heart_and_never_comes_nearer(space):
    widget = TraversalWidget(space, [0])
    radius, centre = widget.view.radius, widget.view.centre
    widget.sliders[0].value = 3.0
    assert widget.view.radius > 1.1 * radius and widget.view.centre == centre
    largest = widget.view.radius
    widget.sliders[0].value = -3.0
    assert widget.view.radius == largest


def test_a_handler_s_error_is_seen_and_goes_away(space):
    widget = InterpolationWidget(space, SMALL, LARGE)
    widget.codes = (SMALL, np.array([np.nan, 0, 0, 0]))
    before = widget.view.parts
    widget.slider.value = 0.5
    assert 'role="alert"' in widget.error.value and "found NaN" in widget.error.value
    assert widget.view.parts == before
    widget.codes = (SMALL, LARGE)
    widget.slider.value = 0.6
    assert widget.error.value == "" and widget.view.parts != before

    def broken(codes):
        raise ZeroDivisionError("<b>by zero</b>")

    space.decode = broken
    widget.slider.value = 0.7
    assert "ZeroDivisionError: &lt;b&gt;by zero" in widget.error.value and "of broken" in widget.error.value


def test_an_error_at_the_start_is_seen_too(space):
    widget = InterpolationWidget(space, np.array([np.nan, 0, 0, 0]), LARGE)
    assert "found NaN" in widget.error.value


def test_traversal_moves_several_dimensions_at_once_and_comes_back(space):
    widget = TraversalWidget(space, [0, 2])
    mean = volume(widget)
    widget.sliders[0].value = 2.0
    widget.sliders[2].value = -1.0
    assert widget.sigmas == {0: 2.0, 2: -1.0}
    assert widget.view.caption == "z00 +2.00 σ, z02 -1.00 σ"
    expected = widgets.traverse_meshes(space, {0: 2.0, 2: -1.0})["LV cavity"].volume / 1000
    assert volume(widget) == pytest.approx(expected, rel=0.01) and volume(widget) > 1.2 * mean
    space.calls = 0
    widget.button.click()
    assert space.calls == 1  # drawn once, not once a slider
    assert widget.sigmas == {0: 0.0, 2: 0.0} and volume(widget) == pytest.approx(mean)
    assert widget.view.caption == "mean"


def test_traversal_starts_from_another_base_and_names_a_wrong_dimension(space):
    assert volume(TraversalWidget(space, [1], base=SMALL)) < volume(TraversalWidget(space, [1]))
    with pytest.raises(UsageError, match="dimension: found 9"):
        widgets.traverse_meshes(space, {9: 1.0})
    with pytest.raises(UsageError, match="no dimension"):
        TraversalWidget(space, [])


@pytest.fixture
def tables(shapes):
    ids = ["p1_ED", "p1_ES", "p2_ED"]
    embedded = pd.DataFrame(
        {"x": [0.0, 1, 2], "y": [1.0, 0, 2], "group": ["NOR", "NOR", "DCM"], "phase": ["ED", "ES", "ED"]}, index=ids
    )
    codes = embedded.drop(columns=["x", "y"]).assign(z00=[0.7, 0.85, 1.0], z01=0.0, z02=0.0, z03=0.0)
    affine = np.diag([*shapes.QUICK[1], 1])
    cohort = Cohort(
        [
            Subject(i, CARDIAC, label=shapes.heart_label(scale=s), affine=affine, facts={"group": g})
            for i, s, g in zip(ids, codes["z00"], codes["group"])
        ],
        "test",
        CARDIAC,
    )
    return embedded, codes, cohort


def test_embedding_click_and_list_show_the_same_heart(space, tables):
    embedded, codes, cohort = tables
    widget = EmbeddingWidget(embedded, codes, space, cohort)
    assert widget.list.value == widget.points.selected == "p1_ED"
    first = volume(widget)
    widget.points.selected = "p2_ED"  # what a click does
    assert widget.list.value == "p2_ED" and volume(widget) > 1.5 * first
    assert "p2_ED" in widget.view.caption
    widget.list.value = "p1_ES"  # what the keyboard does
    assert widget.points.selected == "p1_ES" and first < volume(widget)
    decoded = volume(widget)
    widget.source.value = EmbeddingWidget.LABEL
    assert volume(widget) == pytest.approx(decoded, rel=0.06)
    assert widget.picture.value[:4] == b"\x89PNG" and widget.picture.layout.display == ""
    widget.points.selected = "nobody"
    assert "nobody" in widget.error.value


def test_embedding_with_one_source_and_with_wrong_ones(space, tables):
    embedded, codes, cohort = tables
    assert EmbeddingWidget(embedded, cohort=cohort).picture.value
    assert "label map" not in EmbeddingWidget(embedded, codes, space).view.caption
    with pytest.raises(UsageError, match="neither"):
        EmbeddingWidget(embedded)
    with pytest.raises(UsageError, match="p2_ED"):
        EmbeddingWidget(embedded, codes.drop(index="p2_ED"), space)


def test_hearts_are_found_by_their_ids_of_whatever_type_and_in_whatever_order(space, tables):
    embedded, codes, _ = tables
    by_name = EmbeddingWidget(embedded, codes, space)
    numbered, numbers = embedded.set_axis([0, 1, 2]), codes.set_axis([0, 1, 2])
    shuffled = numbers.iloc[[2, 0, 1]][["z03", "z01", "group", "phase", "z00", "z02"]]  # rows and columns
    for other in (EmbeddingWidget(numbered, numbers, space), EmbeddingWidget(numbered, shuffled, space)):
        for subject, name in enumerate(embedded.index):
            by_name.choose(name)
            other.points.selected = str(subject)
            assert other.error.value == "" and volume(other) == volume(by_name)
    with pytest.raises(UsageError, match=r"subjects twice in the codes, \['1'\]"):
        EmbeddingWidget(numbered, codes.set_axis([0, 1, "1"]), space)


def test_a_row_of_a_table_is_a_code(space, tables):
    row = tables[1].loc["p1_ES"]
    for code in (row, row[["z03", "z02", "z01", "z00"]]):
        widget = InterpolationWidget(space, code, row)
        widget.show(0.5)
        assert widget.error.value == "" and volume(widget) == volume(InterpolationWidget(space, [0.85, 0, 0, 0], row))


def test_points_carry_marks_and_facts(tables):
    view = views.ScatterView()
    view.show(tables[0])
    by_id = {p["id"]: p for p in view.points}
    assert by_id["p1_ED"]["marker"] == by_id["p1_ES"]["marker"] != by_id["p2_ED"]["marker"]
    assert by_id["p1_ES"]["hollow"] and not by_id["p1_ED"]["hollow"]
    assert by_id["p2_ED"]["text"] == "p2_ED\ngroup: DCM\nphase: ED"
    assert [e["name"] for e in view.legend] == ["NOR, ED", "NOR, ES", "DCM, ED"]


def state_size(widget: ipywidgets.Widget) -> int:
    """Bytes of state of a widget and all it contains."""
    from ipywidgets.widgets.widget import _remove_buffers

    state, _, buffers = _remove_buffers(widget.get_state())
    size = len(json.dumps(state, default=lambda w: w.model_id)) + sum(len(b) for b in buffers)
    return size + sum(state_size(child) for child in getattr(widget, "children", ()))


def test_state_is_small(space, tables):
    embedded, codes, cohort = tables
    for widget in (
        InterpolationWidget(space, SMALL, LARGE),
        TraversalWidget(space, [0, 1]),
        EmbeddingWidget(embedded, codes, space, cohort),
    ):
        assert 30_000 < state_size(widget) < 300_000


def test_an_empty_heart_is_said(space):
    view = MeshView()
    view.show({}, CARDIAC, "nothing")
    assert view.parts == [] and view.note == "no surface: RV cavity, LV myocardium, LV cavity"


def test_repr_points_to_the_still_picture(space):
    assert "live notebook" in repr(InterpolationWidget(space, SMALL, LARGE))


def test_stages_slide_through_label_maps(shapes):
    spacing = shapes.QUICK[1]
    stages = {n: CARDIAC.integers(shapes.heart(scale=k).argmax(0)) for n, k in (("before", 0.7), ("after", 1.0))}
    widget = StagesWidget(stages, spacing, CARDIAC)
    assert widget.slider.options == ("before", "after") and widget.view.caption == "before"
    small = volume(widget)
    widget.slider.value = "after"
    assert widget.view.caption == "after" and volume(widget) > 1.5 * small and widget.error.value == ""
    assert not widget.attempt(widget.show, "between") and "step: found &#x27;between&#x27;" in widget.error.value
    with pytest.raises(UsageError, match="at least one"):
        StagesWidget({}, spacing, CARDIAC)
    with pytest.raises(UsageError, match="of one shape"):
        StagesWidget({"a": stages["before"], "b": stages["after"][:-1]}, spacing, CARDIAC)


def test_whole_hearts_are_shown_unchanged(embedded):
    label = np.zeros((24, 14, 12), np.uint8)
    for k, value in enumerate(WHOLE_HEART.values):
        label[2 + 3 * k : 5 + 3 * k, 3:10, 3:9] = value

    class Space:
        scheme, grid, n_codes = WHOLE_HEART, SimpleNamespace(shape=label.shape, spacing=(6.0, 6.0, 6.0)), 1
        mean, sigma = np.zeros(1, np.float32), np.ones(1, np.float32)

        def decode(self, codes):
            return np.stack([WHOLE_HEART.onehot(np.roll(label, round(c), axis=2)) for c in np.ravel(codes)])

    widget = InterpolationWidget(Space(), np.array([0.0]), np.array([2.0]))
    heights = []
    for t in (0.0, 1.0):
        widget.slider.value = t
        assert widget.error.value == ""
        assert [p["name"] for p in widget.view.parts] == list(WHOLE_HEART.names) and widget.view.note == ""
        vertices = np.frombuffer(widget.view.parts[0]["vertices"], "<i2").reshape(-1, 3) * UNIT
        heights.append(vertices[:, 2].mean())
    assert heights[1] - heights[0] == pytest.approx(12, abs=0.1)  # two voxels towards the head: upwards
    assert all(f"{name} " in widget.info.value for name in WHOLE_HEART.names)

    heart = Subject("p00", WHOLE_HEART, label=label, affine=np.diag([6.0, 6, 6, 1]))
    chosen = EmbeddingWidget(embedded.loc[["p00"]], cohort=Cohort([heart], "whole hearts", WHOLE_HEART))
    assert bytes(chosen.picture.value) == png_bytes(planes(heart), dpi=72) and chosen.error.value == ""
