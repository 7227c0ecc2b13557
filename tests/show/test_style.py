"""Marks, names and the look that all pictures share."""

from __future__ import annotations

import pytest

from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS, LV_CAVITY, WHOLE_HEART
from shapelab.show import charts, style


def test_groups_differ_in_colour_and_in_marker(embedded):
    found = style.marks(embedded["group"])
    assert list(found) == ["NOR", "DCM", "HCM", "MINF", "RV"]
    for kind in ("colour", "marker", "symbol"):
        assert len({getattr(m, kind) for m in found.values()}) == 5
    fig = charts.embedding(embedded)
    assert {t.marker.symbol for t in fig.data if "ES" in t.name} == {m.symbol + "-open" for m in found.values()}
    assert len({m.marker for m in style.marks("abcdefgh").values()}) == 8


def test_the_user_s_own_matplotlib_look_is_left_alone(embedded):
    import matplotlib

    before = dict(matplotlib.rcParams)
    charts.embedding_picture(embedded)
    assert dict(matplotlib.rcParams) == before


def test_which_way_shapes_are_shown():
    for scheme in (CARDIAC, BIVENTRICULAR, LV_CAVITY):
        assert style.is_heart(scheme) and not style.in_body(scheme)
        assert style.towards(scheme).tolist() == [1, 1, -1]
    assert style.in_body(WHOLE_HEART) and not style.is_heart(WHOLE_HEART)
    assert style.towards(WHOLE_HEART).tolist() == [-1, -1, 1]
    assert style.towards(HIPPOCAMPUS).tolist() == style.towards(None).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("LV myocardium", "Myo"),
        ("RV cavity", "RV"),
        ("RV wall", "RVw"),
        ("aorta", "aorta"),
        ("left atrium", "LA"),
        ("ascending aorta", "Ao"),
        ("anterior hippocampus", "ante."),
    ],
)
def test_short_names(name, short):
    assert style.short_name(name) == short
