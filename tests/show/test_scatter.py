"""Embeddings as scatter plots: every subject once, with its facts; the still twin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shapelab.errors import UsageError
from shapelab.show import charts, scatter, style


def test_embedding_has_every_subject_once_with_its_facts(embedded):
    fig = charts.embedding(embedded, title="Codes")
    ids = [i for trace in fig.data for i in trace.customdata]
    assert sorted(ids) == sorted(embedded.index)
    text = dict(zip(ids, (t for trace in fig.data for t in trace.text), strict=True))
    assert "<b>p07</b>" in text["p07"] and "group: HCM" in text["p07"] and "phase: ED" in text["p07"]
    assert fig.layout.xaxis.title.text == "UMAP axis 1 (no unit)" and fig.layout.title.text == "Codes"
    at = dict(zip(ids, ((x, y) for trace in fig.data for x, y in zip(trace.x, trace.y, strict=True)), strict=True))
    assert at["p11"] == (embedded.at["p11", "x"], embedded.at["p11", "y"])


def test_embedding_by_a_number_has_a_colour_bar(embedded, words):
    fig = charts.embedding(embedded, colour="height")
    assert fig.data[0].marker.colorbar.title.text == "height" and len(fig.data) == 1
    assert "height" in words(charts.embedding_picture(embedded, colour="height"))


def test_embedding_picture_is_the_twin(embedded, words, inside):
    fig = charts.embedding_picture({"UMAP": embedded, "again": embedded}, names=["p03"])
    text = words(fig)
    for word in ("UMAP axis 1 (no unit)", "NOR, ED", "RV, ES", "p03", "again"):
        assert word in text
    drawn = sum(len(c.get_offsets()) for c in fig.axes[0].collections)
    assert drawn == 60
    inside(fig)


def test_links_join_a_scan_and_its_label_map(embedded, inside):
    links = [("p01", "p02"), ("p07", "p03")]
    fig = charts.embedding_picture({"all": embedded, "without": embedded.drop(index="p02")}, links=links)
    joined = [[line.get_xydata() for line in ax.lines] for ax in fig.axes]
    assert [len(lines) for lines in joined] == [2, 1]
    for line, link in zip(joined[0], links, strict=True):
        assert line == pytest.approx(embedded.loc[list(link), ["x", "y"]].to_numpy())
    assert (joined[1][0] == joined[0][1]).all()
    inside(fig)
    assert not charts.embedding_picture(embedded).axes[0].lines
    with pytest.raises(UsageError, match=r"links: found \['nobody'\]"):
        charts.embedding_picture(embedded, links=[("p01", "nobody")])


@pytest.fixture
def gaps(embedded):
    """Ten without a group, and three others without a phase."""
    table = embedded.copy()
    table.loc[table.index[:10], "group"] = None
    table.loc[table.index[[10, 31, 59]], "phase"] = np.nan
    return table


def test_what_is_missing_is_drawn_grey_and_counted(gaps, words, inside):
    pieces = {name: (mark, rows) for name, mark, _, rows in scatter.pieces(gaps, "group", "phase")}
    drawn = [i for _, rows in pieces.values() for i in rows.index]
    assert sorted(drawn) == sorted(gaps.index) and len(set(drawn)) == 60
    for name, rows in (("10 without a group", range(10)), ("3 without a phase", (10, 31, 59))):
        mark, found = pieces[name]
        assert mark is style.WITHOUT and list(found.index) == [f"p{i:02d}" for i in rows]
    assert all(mark is not style.WITHOUT for name, (mark, _) in pieces.items() if "without" not in name)

    fig = charts.embedding(gaps)
    (grey,) = (t for t in fig.data if t.name == "10 without a group")
    assert grey.marker.color == style.WITHOUT.colour and list(grey.customdata) == [f"p{i:02d}" for i in range(10)]
    assert grey.text[0] == "<b>p00</b><br>phase: ED<br>height: " + f"{gaps.at['p00', 'height']:.3g}<br>no group"
    assert sum(len(t.x) for t in fig.data) == 60

    still = charts.embedding_picture({"all": gaps, "again": gaps})
    assert sum(len(c.get_offsets()) for c in still.axes[0].collections) == 60
    assert "10 without a group" in words(still) and "3 without a phase" in words(still)
    inside(still)


def test_a_number_that_some_lack_is_drawn_grey_too(embedded, words, inside):
    table = embedded.assign(age=embedded["height"].where(embedded["group"] != "RV"))
    scale, grey = charts.embedding(table, colour="age").data
    assert (len(scale.x), len(grey.x), grey.name) == (48, 12, "12 without an age")
    assert np.isfinite(scale.marker.color).all() and grey.marker.color == style.WITHOUT.colour
    still = charts.embedding_picture(table, colour="age")
    assert [len(c.get_offsets()) for c in still.axes[0].collections] == [48, 12] and "12 without an age" in words(still)
    inside(still)


@pytest.mark.parametrize("column", ["group", "phase"])
def test_a_column_that_nobody_has(embedded, column):
    found = scatter.pieces(embedded.assign(**{column: None}), "group", "phase")
    assert sum(len(rows) for *_, rows in found) == 60
    assert [name for name, *_ in found] == (["60 without a group"] if column == "group" else list(style.GROUPS))


def test_points_without_a_place_and_names_of_nobody_are_refused(embedded):
    for draw in (charts.embedding, charts.embedding_picture):
        with pytest.raises(UsageError, match=r"no finite x and y for 1 points, \['p04'\]"):
            draw(embedded.assign(x=embedded["x"].where(embedded.index != "p04")))
    with pytest.raises(UsageError, match=r"names: found \['nobody'\]"):
        charts.embedding_picture(embedded, names=["p03", "nobody"])
    numbered = embedded.set_axis(pd.RangeIndex(60))
    assert any(t.get_text() == "7" for t in charts.embedding_picture(numbered, names=[7]).axes[0].texts)
