"""Embeddings as scatter plots: one with hover text (plotly), one still twin (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.lines import Line2D

from shapelab.show import style
from shapelab.show.style import Picture, check_columns, marks, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

METHOD_NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}


def axis_titles(table: pd.DataFrame, name: str = "") -> tuple[str, str]:
    """Axis titles of an embedding, from its attrs["method"] or the panel's name; its axes have no unit, and say so."""
    method = str(table.attrs.get("method", name or "embedding"))
    name = METHOD_NAMES.get(method.lower(), method)
    return f"{name} axis 1 (no unit)", f"{name} axis 2 (no unit)"


def _is_number(column: pd.Series, most: int = 8) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and column.nunique() > most


def pieces(table: pd.DataFrame, colour: str, hollow: str | None) -> list[tuple[str, style.Mark, bool, pd.DataFrame]]:
    """(legend text, mark, hollow?, rows) of each group, ED solid and ES hollow where `hollow` names such a column."""
    found = []
    if hollow is not None and hollow in table.columns and table[hollow].nunique() == 2:
        filled_value, hollow_value = sorted(table[hollow].unique(), key=str)
    else:
        filled_value = hollow_value = None
    for value, mark in marks(table[colour].dropna()).items():
        rows = table[table[colour] == value]
        if hollow_value is None:
            found.append((str(value), mark, False, rows))
            continue
        found.append((f"{value}, {filled_value}", mark, False, rows[rows[hollow] == filled_value]))
        found.append((f"{value}, {hollow_value}", mark, True, rows[rows[hollow] == hollow_value]))
    return [piece for piece in found if len(piece[3])]


def hover_text(table: pd.DataFrame, hover: Sequence[str] | None = None) -> list[str]:
    """What a point says when the pointer is over it: the subject's id and its facts, one line each (HTML)."""
    columns = [c for c in (hover or ("group", "phase", "height", "weight", "LVEF")) if c in table.columns]
    texts = []
    for name, row in table.iterrows():
        facts = [f"{c}: {row[c]:.3g}" if isinstance(row[c], float) else f"{c}: {row[c]}" for c in columns]
        texts.append("<br>".join([f"<b>{name}</b>", *facts]))
    return texts


def embedding(
    table: pd.DataFrame,
    *,
    colour: str = "group",
    hover: Sequence[str] | None = None,
    hollow: str | None = "phase",
    title: str = "Embedding of the codes",
    width: int = 680,
    height: int = 520,
) -> go.Figure:
    """Scatter of an embedding with hover text (plotly); `embedding_picture` is its still twin.

    `table` has columns x, y, the facts, and the subject as index (what `latent.embed` returns). `colour` is a column: a
    category is told by colour and marker, a number by a colour scale. `hollow` is a column with two values
    (phase): the second is drawn hollow. `hover` lists columns for the hover text, by default those that are known.
    """
    import plotly.graph_objects as go

    check_columns(table, ["x", "y", colour], "embedding")
    fig = go.Figure()
    common: dict[str, Any] = {"mode": "markers", "hovertemplate": "%{text}<extra></extra>"}
    if _is_number(table[colour]):
        fig.add_trace(
            go.Scatter(
                x=table["x"],
                y=table["y"],
                text=hover_text(table, hover),
                customdata=[str(i) for i in table.index],
                marker={
                    "color": table[colour],
                    "colorscale": "Viridis",
                    "size": 9,
                    "colorbar": {"title": {"text": colour}},
                    "line": {"width": 0.5, "color": "white"},
                },
                showlegend=False,
                **common,
            )
        )
    else:
        for name, mark, open_, rows in pieces(table, colour, hollow):
            symbol = mark.symbol + ("-open" if open_ else "")
            fig.add_trace(
                go.Scatter(
                    x=rows["x"],
                    y=rows["y"],
                    name=name,
                    text=hover_text(rows, hover),
                    customdata=[str(i) for i in rows.index],
                    marker={
                        "color": mark.colour,
                        "symbol": symbol,
                        "size": 9,
                        "line": {"width": 1.6 if open_ else 0.5, "color": mark.colour if open_ else "white"},
                    },
                    **common,
                )
            )
    x_title, y_title = axis_titles(table)
    fig.update_layout(**style.plotly_layout(title, width, height, legend={"title": {"text": colour}}))
    fig.update_xaxes(title_text=x_title, showline=True, linecolor=style.MUTED)
    fig.update_yaxes(title_text=y_title, showline=True, linecolor=style.MUTED)
    return fig


@styled
def embedding_picture(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    colour: str = "group",
    hollow: str | None = "phase",
    title: str | None = None,
    names: Sequence[str] = (),
) -> Picture:
    """Still twin of `embedding`; a mapping {title: table} gives panels side by side.

    `names` are subjects whose id is written beside their point.
    """
    panels = {"": tables} if isinstance(tables, pd.DataFrame) else dict(tables)
    for table in panels.values():
        check_columns(table, ["x", "y", colour], "embedding_picture")
    n = len(panels)
    fig = style.figure(min(style.WIDTH, 4.6 * n + 1.2), 3.9 if n > 1 else 4.3)
    axes = fig.subplots(1, n, squeeze=False)[0]
    handles: dict[str, Line2D] = {}
    for ax, (name, table) in zip(axes, panels.items(), strict=True):
        if _is_number(table[colour]):
            drawn = ax.scatter(
                table["x"], table["y"], c=table[colour], cmap="viridis", s=26, lw=0.4, edgecolors="white"
            )
            fig.colorbar(drawn, ax=ax, label=colour)
        else:
            for text, mark, open_, rows in pieces(table, colour, hollow):
                look = (
                    {"facecolors": "none", "edgecolors": mark.colour, "linewidths": 1.2}
                    if open_
                    else {"facecolors": mark.colour, "edgecolors": "white", "linewidths": 0.4}
                )
                ax.scatter(rows["x"], rows["y"], marker=mark.marker, s=30, **look)
                handles[text] = Line2D(
                    [],
                    [],
                    marker=mark.marker,
                    ls="",
                    color=mark.colour,
                    label=text,
                    ms=6,
                    mfc="none" if open_ else mark.colour,
                )
        for subject in names:
            if subject in table.index:
                ax.annotate(
                    subject,
                    (table.at[subject, "x"], table.at[subject, "y"]),
                    xytext=(6, 6),
                    textcoords="offset points",
                    fontsize=7.5,
                )
        ax.set(title=name, **dict(zip(("xlabel", "ylabel"), axis_titles(table, name), strict=True)))
        ax.grid(True)
    if handles:
        fig.legend(handles=list(handles.values()), loc="outside right upper", title=colour)
    fig.suptitle(title or ("Embedding of the codes" if n == 1 else ""))
    return fig
