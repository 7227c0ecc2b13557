"""Embeddings as scatter plots: every subject once, with its facts; the still twin."""

from __future__ import annotations

from shapelab.show import charts


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
