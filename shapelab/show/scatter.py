"""Embeddings as scatter plots: one with hover text (plotly), one still twin (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from shapelab.data.subject import is_known
from shapelab.errors import must
from shapelab.show import style
from shapelab.show.style import Picture, by_value, check_columns, styled, without

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


def check_points(table: pd.DataFrame, colour: str, what: str) -> None:
    """UsageError unless a table has x and y, finite, and the column of the colour."""
    check_columns(table, ["x", "y", colour], what)
    wrong = table.index[~np.isfinite(table[["x", "y"]].to_numpy(dtype=float)).all(axis=1)]
    must(not len(wrong), what, f"no finite x and y for {len(wrong)} points, {list(wrong[:3])}", "a place for each")


def pieces(table: pd.DataFrame, colour: str, hollow: str | None) -> list[tuple[str, style.Mark, bool, pd.DataFrame]]:
    """(legend text, mark, hollow?, rows) of each group, ED solid and ES hollow where `hollow` names such a column.

    Every row is in one piece: those without a group, and of the others those without a phase, are grey and counted.
    """
    found: list[tuple[str, style.Mark, bool, pd.DataFrame]] = []
    two = hollow in table.columns and table[hollow].nunique() == 2
    phases = sorted(table[hollow].dropna().unique(), key=str) if two else []
    for name, mark, rows in by_value(table, colour):
        if two and mark is not style.WITHOUT:
            found += [(f"{name}, {p}", mark, bool(i), rows[rows[hollow] == p]) for i, p in enumerate(phases)]
        else:
            found.append((name, mark, False, rows))
    if two and hollow:
        rest = table[table[colour].notna() & table[hollow].isna()]
        found.append((without(rest, hollow), style.WITHOUT, True, rest))
    return [piece for piece in found if len(piece[3])]


def hover_text(table: pd.DataFrame, hover: Sequence[str] | None = None) -> list[str]:
    """What a point says when the pointer is over it: the subject's id and its facts, one line each (HTML)."""
    columns = [c for c in (hover or ("group", "phase", "height", "weight", "LVEF")) if c in table.columns]
    texts = []
    for name, row in table.iterrows():
        values = {c: row[c] for c in columns if is_known(row[c])}
        facts = [f"{c}: {v:.3g}" if isinstance(v, float) else f"{c}: {v}" for c, v in values.items()]
        facts += [f"no {c}" for c in columns if c not in values]
        texts.append("<br>".join([f"<b>{name}</b>", *facts]))
    return texts


def embedding(
    table: pd.DataFrame,
    *,
    colour: str = "group",
    hover: Sequence[str] | None = None,
    hollow: str | None = "phase",
    title: str = "Embedding of the codes",
) -> go.Figure:
    """Scatter of an embedding with hover text (plotly); `embedding_picture` is its still twin.

    `table` has columns x, y, the facts, and the subject as index (what `latent.embed` returns). `colour` is a column: a
    category is shown by colour and marker, a number by a colour scale; points without it are grey, and counted in the
    legend. `hollow` is a column with two values
    (phase): the second is drawn hollow. `hover` lists columns for the hover text, by default those that are known.
    """
    import plotly.graph_objects as go

    check_points(table, colour, "embedding")
    fig = go.Figure()
    drawn: list[tuple[str | None, pd.DataFrame, dict[str, Any], dict[str, Any]]] = []
    if _is_number(table[colour]):
        known, rest = (table[there] for there in (table[colour].notna(), table[colour].isna()))
        bar = {"color": known[colour], "colorscale": "Viridis", "colorbar": {"title": {"text": colour}}}
        drawn = [(None, known, bar, {"width": 0.5, "color": "white"})]
        if len(rest):
            grey = {"color": style.WITHOUT.colour, "symbol": style.WITHOUT.symbol}
            drawn.append((without(rest, colour), rest, grey, {"width": 0.5, "color": "white"}))
    else:
        for name, mark, open_, rows in pieces(table, colour, hollow):
            edge = {"width": 1.6, "color": mark.colour} if open_ else {"width": 0.5, "color": "white"}
            drawn.append((name, rows, {"color": mark.colour, "symbol": mark.symbol + ("-open" if open_ else "")}, edge))
    for label, rows, look, edge in drawn:
        fig.add_scatter(
            x=rows["x"],
            y=rows["y"],
            name=label,
            text=hover_text(rows, hover),
            customdata=[str(i) for i in rows.index],
            marker={**look, "size": 9, "line": edge},
            showlegend=None if label else False,
            mode="markers",
            hovertemplate="%{text}<extra></extra>",
        )
    # beside the points, or below them where the scale of a number is there
    legend = {"orientation": "h", "y": -0.15} if _is_number(table[colour]) else {"title": {"text": colour}}
    fig.update_layout(**style.plotly_layout(title, 680, 520, legend=legend))
    for update, axis in zip((fig.update_xaxes, fig.update_yaxes), axis_titles(table), strict=True):
        update(title_text=axis, showline=True, linecolor=style.MUTED)
    return fig


@styled
def embedding_picture(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    colour: str = "group",
    hollow: str | None = "phase",
    title: str | None = None,
    names: Sequence[str] = (),
    links: Sequence[tuple[str, str]] = (),
) -> Picture:
    """Still twin of `embedding`; a mapping {title: table} gives panels side by side.

    `names` are subjects whose id is written beside their point, `links` pairs that a line joins (a scan and its own
    label map); UsageError for an id that is in no table.
    """
    panels = {"": tables} if isinstance(tables, pd.DataFrame) else dict(tables)
    for table in panels.values():
        check_points(table, colour, "embedding_picture")
    for what, ids in (("names", names), ("links", [i for link in links for i in link])):
        unknown = [i for i in ids if not any(i in table.index for table in panels.values())]
        must(not unknown, f"embedding_picture: {what}", unknown, "ids of subjects in the table")
    n = len(panels)
    fig = style.figure(min(style.WIDTH, 4.6 * n + 1.2), 3.9 if n > 1 else 4.3)
    axes = fig.subplots(1, n, squeeze=False)[0]
    handles: dict[str, Line2D] = {}
    for ax, (name, table) in zip(axes, panels.items(), strict=True):
        if _is_number(table[colour]):
            known, rest = (table[there] for there in (table[colour].notna(), table[colour].isna()))
            scale = ax.scatter(
                known["x"], known["y"], c=known[colour], cmap="viridis", s=26, lw=0.4, edgecolors="white"
            )
            fig.colorbar(scale, ax=ax, label=colour)
            drawn = [(without(rest, colour), style.WITHOUT, False, rest)] if len(rest) else []
        else:
            drawn = pieces(table, colour, hollow)
        for text, mark, open_, rows in drawn:
            face, edge, lw = ("none", mark.colour, 1.2) if open_ else (mark.colour, "white", 0.4)
            look: dict[str, Any] = {"marker": mark.marker, "facecolors": face, "edgecolors": edge, "linewidths": lw}
            ax.scatter(rows["x"], rows["y"], s=30, **look)
            look = {"marker": mark.marker, "ls": "", "ms": 6, "color": mark.colour, "mfc": face}
            handles[text] = Line2D([], [], label=text, **look)
        joined = [link for link in links if set(link) <= set(table.index)]
        ends = table.loc[[i for link in joined for i in link], ["x", "y"]].to_numpy(float).reshape(-1, 2, 2)
        ax.plot(*ends.T, color=style.MUTED, lw=0.7, alpha=0.7, zorder=0.9)
        for subject in table.index.intersection(list(names), sort=False):
            ax.annotate(subject, table.loc[subject, ["x", "y"]], (6, 6), textcoords="offset points", fontsize=7.5)
        ax.set(title=name, **dict(zip(("xlabel", "ylabel"), axis_titles(table, name), strict=True)))
        ax.grid(True)
    if handles:
        fig.legend(handles=list(handles.values()), loc="outside right upper", title=colour)
    fig.suptitle(title or ("Embedding of the codes" if n == 1 else ""))
    return fig
