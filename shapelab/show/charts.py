"""Charts of codes and results: embeddings, histograms, confusion, accuracies, training, paths.

Each takes a table (or an array) and returns a figure; none computes a statistic that a table should hold. Groups are
told apart by colour and by marker, measures by colour and by line style, and every axis says its unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from shapelab.data.rows import in_order
from shapelab.data.scheme import LabelScheme
from shapelab.errors import must
from shapelab.latent.codes import code_columns
from shapelab.show import style
from shapelab.show.scatter import embedding, embedding_picture
from shapelab.show.slices import HALO
from shapelab.show.style import Picture, check_columns, styled

if TYPE_CHECKING:  # loading it loads torch
    from shapelab.training.history import History

__all__ = [
    "accuracy_by_groups",
    "bars_with_interval",
    "bland_altman",
    "confusion",
    "curves",
    "embedding",
    "embedding_picture",
    "explained_variance",
    "history",
    "lines",
    "path_chart",
    "ridgeline",
]

AT_MOST = 16  # code dimensions drawn unless others are asked for
BINS = 24  # of a histogram, over 8 sigmas
HATCHES = ("", "///", "...", "\\\\\\", "xxx")


# ------------------------------------------------------------------------------------------------------- histograms


@styled
def ridgeline(
    codes: pd.DataFrame | np.ndarray,
    dims: Sequence[int | str] | None = None,
    *,
    title: str | None = None,
) -> Picture:
    """Histograms of code dimensions, one under the other, each against the normal curve of its own mean and sigma.

    `codes` is a Codes table or an array (N, d); `dims` are columns or numbers (by default the first `AT_MOST`). The
    horizontal axis is (code - mean) / sigma. A dimension that does not vary is drawn as a flat line and called
    constant.
    """
    values = _code_columns(codes, dims)
    n = len(values)
    fig = style.figure(6.6, 0.36 * n + 1.5)
    ax = fig.subplots()
    edges = np.linspace(-4, 4, BINS + 1)
    grid = np.linspace(-4, 4, 200)
    normal = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    step = 0.42
    for row, column in enumerate(values.values()):
        base = (n - 1 - row) * step
        sigma = column.std()
        if not sigma > 1e-9 * max(1.0, np.abs(column).max()):
            ax.plot([-4, 4], [base, base], color=style.MUTED, lw=1)
            ax.text(0, base + 0.03, "constant: not used", ha="center", fontsize=7.5, color=style.CONTRAST)
            continue
        z = np.clip((column - column.mean()) / sigma, -4, 4)  # what lies beyond 4 sigma is counted in the last bar
        density = np.histogram(z, edges)[0] / (len(z) * np.diff(edges))
        ax.stairs(base + density, edges, baseline=base, fill=True, color=style.ACCENT, alpha=0.55, zorder=2 + row)
        ax.plot(grid, base + normal, color=style.INK, lw=0.9, ls=style.line_style(1), zorder=2.5 + row)
        ax.plot([-4, 4], [base, base], color=style.MUTED, lw=0.5, zorder=2.6 + row)
    ax.set_yticks([(n - 1 - i) * step for i in range(n)], [str(k) for k in values])
    ax.set(
        xlim=(-4, 4), ylim=(-0.05, (n - 1) * step + 0.62), xlabel="(code − mean) / sigma (no unit)", ylabel="dimension"
    )
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    fig.suptitle(title or f"Codes of {len(codes)} shapes against the normal curve")
    fig.legend(
        handles=[
            Patch(color=style.ACCENT, alpha=0.55, label="share of shapes"),
            Line2D([], [], color=style.INK, lw=0.9, ls=style.line_style(1), label="normal, same mean and sigma"),
        ],
        loc="outside lower center",
        ncols=2,
    )
    return fig


def _code_columns(codes: pd.DataFrame | np.ndarray, dims: Sequence[int | str] | None) -> dict[Any, np.ndarray]:
    """Name -> values of the dimensions asked for; UsageError names one that is not there."""
    if not isinstance(codes, pd.DataFrame):
        array = np.asarray(codes, dtype=float)
        must(array.ndim == 2, "ridgeline", f"an array {array.shape}", "(N, d)")
        codes = pd.DataFrame(array, columns=[f"z{d:02d}" for d in range(array.shape[1])])
    asked: Sequence[int | str] = code_columns(codes)[:AT_MOST] if dims is None else dims
    wanted = [f"z{d:02d}" if isinstance(d, (int, np.integer)) else d for d in asked]
    check_columns(codes, wanted, "ridgeline")
    must(wanted and len(codes), "ridgeline", "no code", "a table with columns z00, z01, ... and at least one row")
    values = codes[wanted].to_numpy(dtype=float)
    wrong = codes.index[~np.isfinite(values).all(axis=1)]
    must(not len(wrong), "ridgeline", f"no finite code in {len(wrong)} rows, {list(wrong[:3])}", "finite numbers")
    return {c: codes[c].to_numpy(dtype=float) for c in wanted}


@styled
def explained_variance(ratios: Sequence[float] | Mapping[str, Sequence[float]], *, title: str | None = None) -> Picture:
    """Share of the variance each component explains (bars, for one series) and the running sum (lines), in %."""
    series = {"": ratios} if not isinstance(ratios, Mapping) else ratios
    fig = style.figure(6.6, 3.4)
    ax = fig.subplots()
    for position, (name, ratio) in enumerate(series.items()):
        values = 100 * np.asarray(ratio, dtype=float)
        count = np.arange(1, len(values) + 1)
        if len(series) == 1:
            ax.bar(count, values, color=style.ACCENT, alpha=0.55, label="one component")
        ax.plot(
            count,
            np.cumsum(values),
            color=style.spare(position + (len(series) == 1)).colour,
            lw=1.6,
            ls=style.line_style(position),
            label=f"{name}: sum".lstrip(": ") if name else "sum up to here",
        )
    for level in (90, 95):
        ax.axhline(level, color=style.MUTED, lw=0.7, ls=":")
        ax.text(1, level + 1, f"{level} %", fontsize=7.5, color=style.MUTED, va="bottom", ha="left")
    ax.set(
        xlabel="component (number)", ylabel="variance explained (%)", ylim=(0, 104), title=title or "Explained variance"
    )
    ax.legend(loc="center right")
    return fig


# ----------------------------------------------------------------------------------------------------------- results


@styled
def confusion(
    matrix: pd.DataFrame | np.ndarray,
    labels: Sequence[str] | None = None,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Confusion matrix (K, K), rows the true group: count and share of the row in each cell, and accuracy in the title.

    `matrix` may hold means over repeats (they are shown with one decimal). A table's columns are matched with its rows
    by their names, and `labels` that are these names say the order; other labels stand in for them one by one.
    UsageError if it is not square, DataError if its columns are not called as its rows.
    """
    table = pd.DataFrame(matrix)
    rows = [str(c) for c in table.index]
    labels = rows if labels is None else [str(c) for c in labels]
    must(
        table.shape == (len(labels), len(labels)),
        "confusion",
        f"a matrix {table.shape} and {len(labels)} labels",
        "(K, K) and K",
    )
    if not isinstance(table.columns, pd.RangeIndex):
        table = in_order("confusion: columns", table.T, table.index).T
    if sorted(labels) == sorted(rows):
        order = [rows.index(label) for label in labels]
        table = table.iloc[order, order]
    counts = table.to_numpy(dtype=float)
    sums = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, sums, out=np.zeros_like(counts), where=sums > 0)
    k = len(labels)
    fig = style.figure(0.95 * k + 1.9, 0.8 * k + 1.5) if ax is None else ax.figure.figure
    ax = fig.subplots() if ax is None else ax
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    whole = np.allclose(counts, counts.round())
    for i in range(k):
        for j in range(k):
            ax.text(
                j,
                i,
                f"{counts[i, j]:.{0 if whole else 1}f}\n{100 * share[i, j]:.0f} %",
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if share[i, j] > 0.55 else style.INK,
                fontweight="bold" if i == j else "normal",
            )
    ax.set_xticks(range(k), labels)
    ax.set_yticks(
        range(k),
        [f"{name}\n(n = {total:.{0 if whole else 1}f})" for name, total in zip(labels, sums[:, 0], strict=True)],
    )
    accuracy = np.trace(counts) / max(counts.sum(), 1e-12)
    ax.set(xlabel="predicted group", ylabel="true group", title=f"{title or 'Confusion'}: {100 * accuracy:.1f} % right")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return fig


@styled
def bars_with_interval(
    table: pd.DataFrame,
    *,
    by: str | None = None,
    chance: float | None = None,
    title: str | None = None,
) -> Picture:
    """Accuracies as horizontal bars with 95 % intervals: one per row, grouped by the column `features`, one colour and
    hatch per value of the column `by`.

    `accuracy`, `low`, `high` are columns of shares (0..1), drawn in %. `chance` draws the line of guessing. The value
    is written behind each bar.
    """
    check_columns(table, ["accuracy", "low", "high", "features", *([by] if by else [])], "bars_with_interval")
    order = list(dict.fromkeys(table["features"]))
    kinds = list(dict.fromkeys(table[by])) if by else [None]
    thick = 0.8 / len(kinds)
    fig = style.figure(7.4, 0.3 * len(order) * len(kinds) + 0.12 * len(order) + 1.3)
    ax = fig.subplots()
    looks: list[dict[str, Any]] = [
        {"facecolor": style.spare(i).colour, "alpha": 0.6, "hatch": HATCHES[i % len(HATCHES)], "edgecolor": "white"}
        for i in range(len(kinds))
    ]
    for row in table.to_dict("records"):
        kind = kinds.index(row[by]) if by else 0
        y = order.index(row["features"]) + (kind - (len(kinds) - 1) / 2) * thick
        v, lo, hi = (100 * row[c] for c in ("accuracy", "low", "high"))
        ax.barh(y, v, 0.9 * thick, **looks[kind])
        ax.plot([lo, hi], [y, y], color=style.INK, lw=1.3, marker="|", ms=5)
        ax.text(max(hi, v) + 1.2, y, f"{v:.1f}", va="center", fontsize=8, path_effects=HALO, zorder=4)
    if chance is not None:
        ax.axvline(100 * chance, color=style.CONTRAST, lw=1.2, ls=style.line_style(1))
        word = f"chance {100 * chance:.0f} %"
        ax.text(100 * chance, -0.72, word, color=style.CONTRAST, fontsize=8, ha="center", va="bottom")
    ax.set_yticks(range(len(order)), order)
    ax.set(xlim=(0, 108), ylim=(len(order) - 0.4, -0.75), xlabel="accuracy (%), line: 95 % interval")
    ax.set_xticks(range(0, 101, 20))
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if by:
        fig.legend(
            handles=[Patch(label=str(k), **look) for k, look in zip(kinds, looks, strict=True)],
            loc="outside lower center",
            ncols=len(kinds),
        )
    fig.suptitle(title or "Accuracy with 95 % intervals")
    return fig


def accuracy_by_groups(table: pd.DataFrame, model: str = "forest") -> list[Picture]:
    """`bars_with_interval` of one model: a picture for each set of groups of `shapelab experiment pathology`."""
    check_columns(table, ["groups", "model", "phases", "chance", "n_patients"], "accuracy_by_groups")
    pictures = []
    for names, rows in table[table["model"] == model].groupby("groups", sort=False):
        first = rows.iloc[0]
        title = f"{names}: {first['n_patients']} ACDC patients, {model}"
        pictures.append(bars_with_interval(rows, by="phases", chance=first["chance"], title=title))
    return pictures


@styled
def history(
    table: History | pd.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    log: bool = False,
    title: str = "Training",
) -> Picture:
    """Losses against epochs; takes a `History` or its table (index or column `epoch`, one column a loss).

    Losses share the left panel; columns called dice or accuracy (shares, 0..1) get a panel of their own.
    """
    table = table if isinstance(table, pd.DataFrame) else table.table
    table = table.set_index("epoch") if "epoch" in table.columns else table
    shown = (
        list(columns)
        if columns is not None
        else [
            c
            for c in table.columns
            if pd.api.types.is_numeric_dtype(table[c])
            and not any(w in str(c).lower() for w in ("seconds", "time", "lr", "rate"))
        ]
    )
    check_columns(table, shown, "history")
    must(shown and len(table), "history", "no numbers", "at least one epoch and one loss")
    shares = [c for c in shown if any(w in str(c).lower() for w in ("dice", "accuracy", "acc"))]
    panels = [p for p in ([c for c in shown if c not in shares], shares) if p]
    fig = style.figure(4.6 * len(panels) + 0.6 if len(panels) > 1 else 6.0, 3.2)
    for ax, part in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for position, column in enumerate(part):
            line = table[column].dropna()
            ax.plot(
                line.index,
                line,
                label=str(column),
                color=style.spare(position).colour,
                lw=1.6,
                ls=style.line_style(position),
                marker="o" if len(line) < 12 else None,
                ms=3,
            )
        is_share = part is shares or part == shares
        ax.set(xlabel="epoch", ylabel="share (0 to 1)" if is_share else "loss (no unit)")
        ax.set_yscale("log" if log and not is_share else "linear")
        ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        ax.grid(True)
        ax.legend()
    fig.suptitle(title)
    return fig


@styled
def curves(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str = "method",
    panels: str | None = None,
    levels: Mapping[Any, float] | None = None,
    labels: tuple[str, str] | None = None,
    title: str | None = None,
) -> Picture:
    """A measure against steps, time or number of hearts: a line per value of `by`, a panel per value of `panels`.

    Args:
        table: a row a measurement; rows of one x, panel and line (several seeds) are drawn as mean, with a band from
            least to most
        x: column of the horizontal axis
        y: column of the measure
        by: column of what is compared, lines in the order in which they come
        panels: column, such as the modality; None: one panel
        levels: a horizontal line in a panel, by its value (None where there is one panel), called "ceiling": what the
            measure cannot get above
        labels: titles of the two axes, with their units; None: the columns' names

    UsageError for a missing column, and where no row has both numbers.
    """
    check_columns(table, [x, y, by, *([panels] if panels else [])], "curves")
    table = table[np.isfinite(table[[x, y]].to_numpy(dtype=float)).all(axis=1)]
    must(len(table), "curves", f"no row with a number in {x!r} and {y!r}", "at least one")
    parts = {None: table} if panels is None else dict(list(table.groupby(panels, sort=False)))
    colours = {str(name): style.spare(i).colour for i, name in enumerate(dict.fromkeys(table[by]))}
    fig = style.figure(min(style.WIDTH, 4.4 * len(parts) + 1.0), 3.8)
    for ax, (panel, part) in zip(
        fig.subplots(1, len(parts), squeeze=False, sharey=True)[0], parts.items(), strict=True
    ):
        grouped = part.groupby([x, part[by].astype(str)])[y]
        mean, low, high = (some.unstack() for some in (grouped.mean(), grouped.min(), grouped.max()))
        lines(ax, {"": mean}, colours, *(labels or (x, y)))
        for name in (n for n in colours if n in mean):
            there = mean.index[mean[name].notna()]
            ax.fill_between(there, low.loc[there, name], high.loc[there, name], color=colours[name], alpha=0.15, lw=0)
        if levels is not None and panel in levels:
            ax.axhline(levels[panel], color=style.INK, lw=1.0, ls=style.line_style(2))
            ax.annotate("ceiling", (0.02, levels[panel]), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
        ax.set_title("" if panel is None else str(panel))
        ax.label_outer()
    shown = [*table[y], *(levels or {}).values()]
    fig.axes[0].set_ylim(np.min(shown) - 0.05 * np.ptp(shown), np.max(shown) + 0.08 * np.ptp(shown))
    fig.suptitle(title or "")
    return fig


@styled
def bland_altman(
    table: pd.DataFrame,
    *,
    measured: str,
    truth: str,
    unit: str,
    by: str | None = None,
    group: str | None = None,
    limits: Mapping[Any, Mapping[str, float]] | None = None,
    title: str | None = None,
) -> Picture:
    """Bland-Altman: difference (`measured` - `truth`) against the mean of both, one panel per value of `by` (method).

    `limits` gives each panel (or None, if there is one) its lines, as `shapelab.metrics.bland_altman` returns them:
    bias, low, high; they are written at the right. `group` tells cases apart by colour and marker. All panels share
    their axes. UsageError if a column is missing, a cell is not finite, or a panel has no case or no limits.
    """
    check_columns(table, [measured, truth, *([by] if by else []), *([group] if group else [])], "bland_altman")
    panels = list(dict.fromkeys(table[by])) if by else [None]
    finite = np.isfinite(table[[measured, truth]].to_numpy(dtype=float)).all(1)
    must(
        len(table) and finite.all(),
        "bland_altman",
        f"{len(table)} cases, {(~finite).sum()} of them not finite",
        "finite numbers",
    )
    known = panels if limits is None else list(limits)
    must(all(p in known for p in panels), "bland_altman", f"limits of {known}", f"those of {panels}")
    gaps = int(table[by].isna().sum()) if by else 0
    must(not gaps, "bland_altman", f"{gaps} cases without {by!r}", "one for each")
    look = style.by_value(table, group) if group else [("", style.SPARE[0], table)]
    fig = style.figure(3.9 * len(panels) + 0.9, 3.6)
    axes = fig.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for ax, panel in zip(axes, panels, strict=True):
        for name, mark, rows in look:
            some = rows if by is None else rows[rows[by] == panel]
            middle, gap = (some[measured] + some[truth]) / 2, some[measured] - some[truth]
            ax.scatter(middle, gap, s=18, color=mark.colour, marker=mark.marker, alpha=0.75, lw=0, label=name)
        ax.axhline(0, color=style.MUTED, lw=0.6)
        for key, line in (("bias", "solid"), ("low", style.line_style(1)), ("high", style.line_style(1))):
            if limits is not None:
                value = limits[panel][key]
                ax.axhline(value, color=style.INK, lw=1.1, ls=line)
                ax.annotate(
                    f"{value:+.1f}",
                    (1, value),
                    xycoords=("axes fraction", "data"),
                    xytext=(-2, 2),
                    textcoords="offset points",
                    ha="right",
                    va="bottom",
                    fontsize=8,
                    path_effects=HALO,
                )
        ax.set(xlabel=f"mean of both ({unit})", title="" if panel is None else str(panel))
        ax.margins(x=0.12)
    axes[0].set_ylabel(f"{measured} - {truth} ({unit})")
    if group:
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(look))
    fig.suptitle(title or "Agreement: bias and limits (bias ± 1.96 sd)")
    return fig


# ------------------------------------------------------------------------------------------------------------- paths


@styled
def path_chart(
    paths: pd.DataFrame | Mapping[str, pd.DataFrame],
    scheme: LabelScheme,
    *,
    title: str = "Along the path from A to B",
    xlabel: str = "t (0 = A, 1 = B)",
) -> Picture:
    """Volumes (ml) of the structures and their Dice with both ends along a path.

    `paths` is what `latent.paths.path_table` returns (position, structure, volume_ml, dice_a, dice_b), or a mapping
    {method: such a table}, which draws the methods in one figure: structures differ in colour and marker, methods in
    line style. The Dice is the mean over the structures; one that is in neither of two shapes counts as 1.
    """
    tables = {"": paths} if isinstance(paths, pd.DataFrame) else dict(paths)
    for table in tables.values():
        check_columns(table, ["position", "structure", "volume_ml", "dice_a", "dice_b"], "path_chart")
    fig = style.figure(style.WIDTH, 3.7)
    volume, overlap = fig.subplots(1, 2)
    wide = {m: table.pivot(index="position", columns="structure", values="volume_ml") for m, table in tables.items()}
    colours = {s.name: s.colour for s in scheme.structures if any(s.name in w for w in wide.values())}
    lines(volume, wide, colours, xlabel, "volume (ml)")
    ends = {"with A": style.ACCENT, "with B": style.CONTRAST}
    means = {
        m: t.groupby("position")[["dice_a", "dice_b"]].mean().set_axis(list(ends), axis=1) for m, t in tables.items()
    }
    lines(overlap, means, ends, xlabel, "Dice, mean of structures (0 to 1)")
    overlap.set_ylim(0, 1.03)
    fig.suptitle(title)
    return fig


def lines(ax: Axes, tables: Mapping[str, pd.DataFrame], colours: Mapping[str, str], xlabel: str, ylabel: str) -> None:
    """Columns of tables against their index: one colour and marker per column, one line style per table, and a legend
    under the axes. `colours` says which columns, and how; a table may lack some."""
    looks: dict[str, dict[str, Any]] = {
        name: {"color": colour, "marker": style.spare(i).marker} for i, (name, colour) in enumerate(colours.items())
    }
    for method, table in enumerate(tables.values()):
        for name in (n for n in looks if n in table.columns):
            fill = colours[name] if method == 0 else "white"
            known = table[name].dropna()  # one of several columns may have fewer places
            ax.plot(known.index, known, ls=style.line_style(method), lw=1.5, ms=4, mfc=fill, **looks[name])
    handles = [Line2D([], [], ms=4, label=name, **look) for name, look in looks.items()]
    if len(tables) > 1:
        handles += [
            Line2D([], [], color=style.MUTED, ls=style.line_style(i), label=str(m)) for i, m in enumerate(tables)
        ]
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    ax.grid(True)
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8)
