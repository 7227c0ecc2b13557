# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 15 · Shape interpolation: from one heart to another
#
# **Goal.** A code is a point, so between two hearts there is a straight line. You will walk along it, watch a healthy
# heart turn into a dilated one, and measure what makes such a walk good: does each step look like a heart, and do its
# volumes change as they should? Beside it go two simpler ways: blending voxels, and blending distances.
#
# **Time.** 20 minutes to read; about half a minute to run. This notebook has sliders: run it (in a page that is not
# running you see the still figures).
#
# **You need.** Shape codes ([03](03_shape_autoencoder.ipynb)).

# %%
DATA = "phantom"  # or "acdc": the same notebook on real hearts
SPACE = "autoencoder"  # or "tl": the space of the T-L network, notebook 04

import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.patches import Patch

from shapelab import course, stack_labels
from shapelab.experiments.shipped import fit_pca, learned_space
from shapelab.latent import blend, interpolate, path_table, traverse
from shapelab.latent.paths import Path
from shapelab.metrics import dice
from shapelab.metrics.clinical import cardiac_indices, ejection_fraction
from shapelab.show import charts, render, slices, style
from shapelab.show.meshes import heart_meshes
from shapelab.show.widgets import InterpolationWidget, TraversalWidget
from shapelab.spaces.distances import distance_probabilities, signed_distance, signed_distances

run = course.start("15", data=DATA, seed=0)

# %% [markdown]
# ## The idea
#
# With an encoder $f$ and a decoder $g$, two label maps $y_A$ and $y_B$ are joined by
#
# $$z(t) = (1 - t)\, f(y_A) + t\, f(y_B), \qquad \hat y(t) = g(z(t)), \qquad 0 \le t \le 1.$$
#
# Nothing is special about a straight line but that it is simple. The ACNN paper: "since we obtain a regular and
# smooth latent representation, it is possible to traverse along the latent space and generate LV shapes by
# interpolating between data points". The alternative without any learning is to blend the pictures,
#
# $$p(t) = (1 - t)\, \mathrm{onehot}(y_A) + t\, \mathrm{onehot}(y_B),$$
#
# and take the most probable label of each voxel. We shall see what that does.

# %% [markdown]
# ## Step 1: two hearts
#
# A, a normal heart; B, a dilated one (DCM); both at ED, on the same grid, turned so that the RV lies to the left. The
# space did not see either of them. If the autoencoder's weights are missing, this cell trains it (about 20 minutes on
# two cores).

# %%
space = learned_space(SPACE)

hearts = run.hearts(60)
labels, facts = stack_labels(hearts, space)
indices = cardiac_indices(hearts)
facts = facts[["patient", "phase", "group", "outside"]]


def extremes(indices, facts):
    """A: normal, of middle ejection fraction; B: DCM, of middle volume; both whole on the grid."""
    whole = facts.groupby("patient")["outside"].max() < 0.005
    indices = indices[whole.reindex(indices.index)]
    normal, dilated = (indices[indices["group"] == g] for g in ("NOR", "DCM"))
    a = normal["LVEF"].sort_values().index[len(normal) // 2]
    b = dilated["LVV_ED"].sort_values().index[len(dilated) // 2]
    return a, b


def at(facts, patient, phase):
    """Row of a patient's heart."""
    return int(np.flatnonzero((facts["patient"] == patient) & (facts["phase"] == phase))[0])


A, B = extremes(indices, facts)
a, b = at(facts, A, "ED"), at(facts, B, "ED")
names = (f"A: {A} (NOR)", f"B: {B} (DCM)")
display(indices.loc[[A, B], ["group", "LVV_ED", "LVV_ES", "LVEF", "RVV_ED", "LVM"]])
slices.compare_slices(
    list(zip(names, (labels[a], labels[b]))), space.grid.spacing, space.scheme, title="A and B at ED, base to apex"
)

# %% tags=["nbval-check-output"]
print("hearts:", len(labels), "of", indices.shape[0], "patients, grid", space.grid)
print("A and B are two patients:", A != B, "| groups:", indices.loc[[A, B], "group"].tolist())
print("B's LV is the larger one:", bool(indices.at[B, "LVV_ED"] > indices.at[A, "LVV_ED"]))

# %% [markdown]
# ## Step 2: from A to B, live
#
# Drag the slider: each position is a code, decoded and turned into surfaces while you drag. Turn the heart with the
# mouse.

# %%
codes = space.encode(labels)
InterpolationWidget(space, codes[a], codes[b], names=names)

# %% [markdown]
# The still twin:

# %%
STEPS = 11
path = interpolate(space, codes[a], codes[b], STEPS)
shown = [0, 2, 4, 6, 8, 10]
render.mesh_grid(
    [[heart_meshes(path.probabilities[i], space.grid.spacing, space.scheme) for i in shown]],
    space.scheme,
    column_names=[f"t = {path.position[i]:.1f}" for i in shown],
    title="From A to B in the autoencoder's space",
)

# %% tags=["nbval-check-output"]
print("a path of", len(path), "codes of", path.codes.shape[1], "numbers; probabilities", path.probabilities.shape)
print(
    "it starts at A's code and ends at B's:",
    bool(np.allclose(path.codes[0], codes[a]) and np.allclose(path.codes[-1], codes[b])),
)
print("probabilities sum to 1:", bool(np.allclose(path.probabilities.sum(1), 1, atol=1e-3)))

# %% [markdown]
# One thing first: the ends of this path are not A and B but *their reconstructions by the decoder*. How near
# is that?

# %%
ends = pd.DataFrame(
    {name: dice(path.channels[i], labels[k], space.scheme) for name, i, k in ((names[0], 0, a), (names[1], -1, b))}
).T
ends

# %% [markdown]
# ## Step 3: five ways from A to B
#
# - **autoencoder**: the path above.
# - **PCA**: the same line in a linear space with as many codes, fitted on all the other patients.
# - **voxels**: blend the one-hot maps.
# - **distances**: blend the *signed distances* to each structure's border, then give each voxel to the structure it
#   is deepest in. An old trick of radiology to fill in missing slices. No training.
# - **nested distances**: the same with some anatomy put in by hand: the wall is what lies between two surfaces, so
#   blend the distances to the cavity and to cavity *and* wall. Still no training: the control to beat.

# %%
others = ~facts["patient"].isin([A, B]).to_numpy()
pca_space = fit_pca(labels[others], space.grid)


TIE = 1e-3  # mm; distances between voxels are often exactly 0 half way: then a structure wins, not the background


def blend_distances(label_a, label_b, steps):
    """Path of (1 - t) d_A + t d_B, d the signed distances (mm, negative inside) of each structure."""
    both = signed_distances(
        space.scheme.channels(np.stack([label_a, label_b])), space.scheme.n_classes, space.grid.spacing, 30.0
    )
    t = np.linspace(0, 1, steps)
    mixed = np.stack([(1 - s) * both[0] + s * both[1] - TIE for s in t])
    return Path(t, None, distance_probabilities(mixed, temperature=min(space.grid.spacing)))


def blend_nested(label_a, label_b, steps):
    """The same for RV cavity, LV cavity and the whole LV; the wall is the whole LV without its cavity."""
    spacing = np.asarray(space.grid.spacing)
    rv, wall, lv = (space.scheme.structure(n).value for n in ("RV cavity", "LV myocardium", "LV cavity"))
    both = [
        [signed_distance(np.isin(label, parts), spacing, 30.0) for parts in ([rv], [lv], [lv, wall])]
        for label in (label_a, label_b)
    ]
    t = np.linspace(0, 1, steps)
    mixed = [[(1 - s) * x + s * y - TIE for x, y in zip(*both)] for s in t]
    three = [np.stack([np.maximum(d_rv, -d_whole), np.maximum(d_whole, -d_lv), d_lv]) for d_rv, d_lv, d_whole in mixed]
    return Path(t, None, distance_probabilities(np.stack(three), temperature=spacing.min()))


def five_ways(label_a, label_b, linear, steps=STEPS):
    """{name: path} between two label maps; `linear` is the PCA space."""
    pair = np.stack([label_a, label_b])
    return {
        "autoencoder": interpolate(space, *space.encode(pair), steps),
        "PCA": interpolate(linear, *linear.encode(pair), steps),
        "voxels": blend(label_a, label_b, steps, space.scheme),
        "distances": blend_distances(label_a, label_b, steps),
        "nested distances": blend_nested(label_a, label_b, steps),
    }


paths = five_ways(labels[a], labels[b], pca_space)


@style.styled
def slice_grid(paths, at, title):
    """One mid-ventricular slice of each path: a row a way, columns along t."""
    fig = style.figure(9, 1.12 * len(paths) + 0.8)
    axes = fig.subplots(len(paths), len(at), squeeze=False)
    x, y = (n * s for n, s in zip(space.grid.shape[:2], space.grid.spacing[:2]))
    middle = space.grid.shape[2] // 2
    for line, (name, one) in zip(axes, paths.items()):
        for ax, i in zip(line, at):
            picture = np.ones((*one.channels.shape[2:0:-1], 3))
            for channel, colour in enumerate(space.scheme.colours, start=1):
                picture[one.channels[i, :, :, middle].T == channel] = style.rgb(colour)
            ax.imshow(picture, extent=(0, x, y, 0))
            ax.spines[:].set_visible(False)
            ax.set_ylim(0.94 * y, 0.16 * y)  # above and below there is nothing
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(name.replace(" ", "\n"))
    for ax, i in zip(axes[0], at):
        ax.set_title(f"t = {next(iter(paths.values())).position[i]:.1f}")
    axes[-1, 0].plot([3, 53], [0.92 * y] * 2, color=style.INK, lw=2)
    axes[-1, 0].text(3, 0.9 * y, "50 mm", fontsize=7.5)
    handles = [Patch(color=s.colour, label=s.name) for s in space.scheme.structures]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    fig.suptitle(title)
    return fig


slice_grid(paths, [0, 2, 4, 5, 6, 8, 10], "Middle slice on the way from A to B (RV left, anterior up)")


# %%
def surfaces(paths, title, at=(0, 3, 5, 7, 10)):
    """Meshes along all ways but the voxels', which has nothing in between: a row a way, columns along t."""
    chosen = {name: one for name, one in paths.items() if name != "voxels"}
    return render.mesh_grid(
        [[heart_meshes(one.probabilities[i], space.grid.spacing, space.scheme) for i in at] for one in chosen.values()],
        space.scheme,
        row_names=[name.replace(" ", "\n") for name in chosen],
        column_names=[f"t = {path.position[i]:.1f}" for i in at],
        title=title,
        width=6.6,
    )


surfaces(paths, "The ways from A to B, as surfaces")

# %% [markdown]
# Blending **voxels** does nothing until $t = 0.5$ and then jumps: a voxel's label changes when $t$ passes one half,
# for all voxels at the same moment. (At exactly 0.5 the two tie, a structure is where either heart has it.) It is no
# interpolation at all. **Distances** move the borders steadily, but the wall breaks where it lies in another place in
# A and in B: half way, its blended distance is nowhere the deepest. **Nested distances** cannot break it, as they
# know that the wall is what is left between two surfaces. The **autoencoder** was told nothing of the kind and keeps
# the wall, too; **PCA** does not.

# %% [markdown]
# ## Step 4: measure the walk
#
# Volumes, and Dice with A and with B, along each path.


# %%
tables = {
    name: path_table(one, space.grid.spacing, space.scheme, ends=(labels[a], labels[b])) for name, one in paths.items()
}
display(
    charts.path_chart({n: tables[n] for n in ("autoencoder", "voxels")}, space.scheme, title="Autoencoder and voxels")
)
charts.path_chart({n: tables[n] for n in ("PCA", "nested distances")}, space.scheme, title="PCA and nested distances")

# %% tags=["nbval-check-output"]
lv = {
    name: table[table["structure"] == "LV cavity"].set_index("position")["volume_ml"] for name, table in tables.items()
}
before, after = lv["voxels"].iloc[:5], lv["voxels"].iloc[6:]
print(
    "voxel blending: nothing happens before and after the middle:",
    bool(before.nunique() == 1 and after.nunique() == 1),
)
print("autoencoder: the LV grows at every step:", bool(lv["autoencoder"].is_monotonic_increasing))
to_b = tables["autoencoder"].groupby("position")["dice_b"].mean()
print("autoencoder: nearer to B at its end than at its start:", bool(to_b.iloc[-1] > to_b.iloc[0] + 0.1))
starts = {name: table.groupby("position")["dice_a"].mean().iloc[0] for name, table in tables.items()}
print("distances start at A itself, the autoencoder does not:", starts["distances"] == 1, starts["autoencoder"] < 1)

# %% [markdown]
# ### Many pairs
#
# One pair is an anecdote. Random pairs of patients at ED, half way ($t = 0.5$) and on the way ($t = 0.1 \dots
# 0.9$):
#
# - **whole**: each structure in one piece and without holes,
# - **largest step**: $1 -$ mean Dice of two label maps that follow each other; an even path of 10 steps has small
#   ones,
# - **half way**: how far the LV volume at $t = 0.5$ is from the mean of the ends, in percent (it need not be 0, but a
#   heart of 250 ml between two of 100 would be odd).


# %%
def judge(labels, pairs, linear):
    """One row a way: means over pairs."""
    rows = []
    for one, other in pairs:
        for name, way in five_ways(labels[one], labels[other], linear).items():
            table = path_table(way, space.grid.spacing, space.scheme)
            inner = table[~table["step"].isin([0, STEPS - 1])]
            whole = (inner["components"].eq(1) & inner["holes"].eq(0)).groupby(inner["step"]).all()
            steps = [1 - dice(way.channels[i], way.channels[i + 1], space.scheme).mean() for i in range(STEPS - 1)]
            ml = table.loc[table["structure"] == "LV cavity", "volume_ml"].to_numpy()
            rows.append(
                {
                    "way": name,
                    "whole (%)": 100 * whole.mean(),
                    "largest step (1 − Dice)": max(steps),
                    "half way: LV off the mean (%)": 100 * (ml[STEPS // 2] / (ml[0] + ml[-1]) * 2 - 1),
                }
            )
    return pd.DataFrame(rows).groupby("way", sort=False).mean()


def random_pairs(facts, n, seed=0):
    """n pairs of different patients at ED, none of them A or B."""
    rows = np.flatnonzero((facts["phase"] == "ED").to_numpy())
    generator = np.random.default_rng(seed)
    return [tuple(generator.choice(rows, 2, replace=False)) for _ in range(n)]


judged = judge(labels, random_pairs(facts, 6), pca_space)
at_ed = path_table(labels[(facts["phase"] == "ED").to_numpy()], space.grid.spacing, space.scheme)
whole_hearts = (at_ed["components"].eq(1) & at_ed["holes"].eq(0)).groupby(at_ed["step"]).all().mean()
print(f"of the hearts themselves, as label maps on this grid, {whole_hearts:.0%} are whole")
judged


# %%
@style.styled
def judged_picture(judged, title):
    fig = style.figure(9, 2.5)
    for ax, column in zip(fig.subplots(1, judged.shape[1], sharey=True), judged):
        ax.barh(range(len(judged)), judged[column], color=style.ACCENT, alpha=0.6)
        for i, value in enumerate(judged[column]):
            ax.text(max(value, 0), i, f" {value:.3g}", va="center", fontsize=8)
        ax.set(title=column)
        ax.axvline(0, color=style.INK, lw=0.8)
        ax.margins(x=0.25)
    fig.axes[0].set_yticks(range(len(judged)), judged.index)
    fig.axes[0].invert_yaxis()
    fig.suptitle(title)
    return fig


judged_picture(judged, "Five ways between hearts")

# %% [markdown]
# Read it with an open mind.
#
# - On the **autoencoder's** path the steps are the smallest, and most are whole hearts: about as often as the hearts
#   themselves are (see the line above the table: thick slices leave the end of an RV in two pieces). It pays with its
#   ends.
# - **PCA** leaves fragments at nearly every step.
# - **Voxels** jump; where their steps are whole, they are simply A or B.
# - **Distances** break walls. **Nested distances** do not: a few lines of anatomy by hand buy what the autoencoder
#   had to learn from a thousand hearts, and its walk is as whole. They need someone to know that a wall lies between
#   two surfaces; and being made of A and B alone, they repeat every step and fragment of A's and B's thick slices.

# %% tags=["nbval-check-output"]
whole, largest = judged["whole (%)"], judged["largest step (1 − Dice)"]
print("steps of the autoencoder are whole hearts, three of four at least:", bool(whole["autoencoder"] > 75))
print("more often than PCA's, by far:", bool(whole["autoencoder"] > whole["PCA"] + 20))
print("voxel blending has the largest jump:", bool(largest.idxmax() == "voxels"))
print(
    "the autoencoder's largest step is less than a third of it:",
    bool(largest["autoencoder"] < largest["voxels"] / 3),
)

# %% [markdown]
# ## Step 5: walk along dimensions
#
# Instead of from heart to heart, walk along the axes of the space, several at once. The sliders are in standard
# deviations; the first dimensions carry the largest differences between hearts.

# %%
TraversalWidget(space, [0, 1, 2, 3])

# %% [markdown]
# The still twins: one dimension a row, and then two dimensions at once.

# %%
walks = {k: traverse(space, k, n_sigma=2, steps=5) for k in range(4)}
render.mesh_grid(
    [[heart_meshes(p, space.grid.spacing, space.scheme) for p in walk.probabilities] for walk in walks.values()],
    space.scheme,
    row_names=[f"z{k:02d}" for k in walks],
    column_names=[f"{s:+.0f} σ" if s else "mean" for s in walks[0].position],
    title="From mean − 2 sigma to mean + 2 sigma, one dimension a row",
    width=6.6,
)

# %%
together = [
    [
        space.mean
        + i * 2 * space.sigma * (np.arange(space.n_codes) == 0)
        + j * 2 * space.sigma * (np.arange(space.n_codes) == 1)
        for j in (-1, 0, 1)
    ]
    for i in (-1, 0, 1)
]
render.mesh_grid(
    [[heart_meshes(p, space.grid.spacing, space.scheme) for p in space.decode(np.stack(row))] for row in together],
    space.scheme,
    row_names=[f"z00 {s:+d} σ" if s else "z00 mean" for s in (-2, 0, 2)],
    column_names=[f"z01 {s:+d} σ" if s else "z01 mean" for s in (-2, 0, 2)],
    title="Two dimensions at once",
    width=5.4,
)

# %% [markdown]
# ## Step 6: is the straight line among hearts?
#
# A straight line between two points of a curved cloud leaves the cloud. Does ours? At each step: the distance from
# $z(t)$ to the nearest code of *another* heart, compared with how far hearts are from their nearest neighbour anyway.


# %%
@style.styled
def off_the_cloud(codes, facts, pairs, title):
    """Distance to the nearest heart's code along paths (the two patients left out), and between hearts."""
    rows = np.flatnonzero((facts["phase"] == "ED").to_numpy())
    cloud = codes[rows]
    gaps = np.linalg.norm(cloud[:, None] - cloud[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    usual = np.quantile(gaps.min(1), [0.05, 0.5, 0.95])
    fig = style.figure(6.8, 3.2)
    ax = fig.subplots()
    t = np.linspace(0, 1, STEPS)
    lines = []
    for one, other in pairs:
        line = (1 - t[:, None]) * codes[one] + t[:, None] * codes[other]
        kept = cloud[~np.isin(rows, [one, other])]
        lines.append(np.linalg.norm(line[:, None] - kept[None], axis=2).min(1))
        ax.plot(t, lines[-1], color=style.MUTED, lw=0.6, alpha=0.6)
    ax.plot(t, np.mean(lines, 0), color=style.ACCENT, lw=2.2, label="along the paths, mean (grey: each pair)")
    ax.axhspan(usual[0], usual[2], color=style.GRID, zorder=0, label="from heart to nearest heart, 5 % to 95 %")
    ax.axhline(usual[1], color=style.INK, lw=0.8, ls="--", label="median of that")
    ax.set(xlabel="t (0 = A, 1 = B)", ylabel="distance to the nearest heart (no unit)", title=title, ylim=(0, None))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=1)
    return fig, np.mean(lines, 0), usual


pairs = random_pairs(facts, 30)
picture, nearest, usual = off_the_cloud(codes, facts, pairs, "The middle of a path is no no-man's-land")
picture

# %% [markdown]
# In the middle of a path one is *nearer* to other hearts than at its ends: the cloud is dense in the middle and thin
# outside. There are no islands to fall between, as [13](13_latent_histograms.ipynb) found with other means. That is
# why the straight line works here; it is a property of hearts as much as of the autoencoder.

# %% tags=["nbval-check-output"]
print(
    "half way is not farther from hearts than the ends are:",
    bool(nearest[STEPS // 2] < max(nearest[0], nearest[-1])),
)
print("and within what is usual between hearts:", bool(nearest[STEPS // 2] < usual[2]))

# %% [markdown]
# ## On real hearts
#
# **80 of the 100 training patients of ACDC.** A is a normal patient, B one with DCM, chosen by the same rule as
# above. The autoencoder knows phantoms only; PCA is fitted on the other 78 patients. Data: Bernard et al., IEEE TMI
# 37(11):2514–2525, 2018, [doi:10.1109/TMI.2018.2837502](https://doi.org/10.1109/TMI.2018.2837502), licence CC
# BY-NC-SA 4.0 (the figures below are derived from them).

# %%
real = course.real_hearts()

if real is not None:
    real_labels, real_facts = stack_labels(real, space)
    real_indices = cardiac_indices(real)
    real_A, real_B = extremes(real_indices, real_facts)
    real_a, real_b = at(real_facts, real_A, "ED"), at(real_facts, real_B, "ED")
    real_linear = fit_pca(real_labels[~real_facts["patient"].isin([real_A, real_B]).to_numpy()], space.grid)
    real_paths = five_ways(real_labels[real_a], real_labels[real_b], real_linear)
    display(real_indices.loc[[real_A, real_B], ["group", "LVV_ED", "LVV_ES", "LVEF", "RVV_ED", "LVM"]])
    display(
        slice_grid(
            real_paths,
            [0, 2, 4, 5, 6, 8, 10],
            f"ACDC: middle slice on the way from {real_A} (NOR) to {real_B} (DCM)",
        )
    )

# %%
if real is not None:
    display(surfaces(real_paths, f"ACDC: the ways from {real_A} (NOR) to {real_B} (DCM), ED"))

# %%
if real is not None:
    real_tables = {
        name: path_table(one, space.grid.spacing, space.scheme, ends=(real_labels[real_a], real_labels[real_b]))
        for name, one in real_paths.items()
    }
    display(
        charts.path_chart(
            {n: real_tables[n] for n in ("autoencoder", "nested distances")},
            space.scheme,
            title="ACDC: autoencoder and nested distances",
        )
    )
    real_judged = judge(real_labels, random_pairs(real_facts, 4), real_linear)
    display(judged_picture(real_judged, "ACDC: five ways between hearts"))
    display(real_judged)

# %%
if real is not None:
    display(
        off_the_cloud(
            space.encode(real_labels),
            real_facts,
            random_pairs(real_facts, 30),
            "ACDC: distance to the nearest other heart along paths",
        )[0]
    )

# %% [markdown]
# ## What the paper found, and what we find
#
# | question | ACNN paper | here |
# |---|---|---|
# | can one interpolate? | "it is possible to [...] generate LV shapes" | yes; counted: mostly whole hearts |
# | is the space smooth? | "regular and smooth" | even steps, no gap in the middle |
# | compared with | nothing | PCA, voxels, distances, nested distances |
# | two dimensions (Fig. 9) | wall thickness, lateral wall | step 5, and [14](14_pathology_classification.ipynb) |
#
# Where it is worse than one may hope: the *ends*. The autoencoder's path starts at its reconstruction of A, not at
# A; and nested distances, which learned nothing, make a fair path. Whoever has to morph two given hearts exactly is
# better served with them; whoever wants each step to be a typical heart, or has structures that are not nested so
# neatly, with the codes.

# %% [markdown]
# ## Exercise 1: voxels
#
# On the voxel-blended path from A to B: how many ml has the LV cavity at $t = 0.3$? Answer without decoding anything:
# in terms of `lv["voxels"]` there are only few possibilities. Give the number (to 1 ml).

# %%
volume_at_03 = None  # your answer in ml

# %%
course.check(
    "1",
    volume_at_03,
    float(lv["voxels"].iloc[0]),
    tolerance=1.0,
    wrong={
        "That is the weighted mean of A and B. Does a voxel's label have a mean?": 0.7 * lv["voxels"].iloc[0]
        + 0.3 * lv["voxels"].iloc[-1]
    },
    hint="Which label is the most probable one, at t = 0.3, where A says cavity and B says background?",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# volume_at_03 = lv["voxels"].loc[0.0]
# ```
#
# Until t = 0.5 every voxel keeps A's label, so the volume is A's.
# </details>

# %% [markdown]
# ## Exercise 2: when does the heart fail?
#
# Let both phases travel: ED from A to B and ES from A to B, with the same t. At each of the 11 steps the decoded pair
# has an ejection fraction. What is the first $t$ at which it is below 40 %?

# %%
t_failing = None  # your answer: one of 0.0, 0.1, ... 1.0

# %%
phases = {
    phase: path_table(
        interpolate(space, codes[at(facts, A, phase)], codes[at(facts, B, phase)], STEPS),
        space.grid.spacing,
        space.scheme,
    )
    .query("structure == 'LV cavity'")
    .set_index("position")["volume_ml"]
    for phase in ("ED", "ES")
}
fraction = ejection_fraction(phases["ED"], phases["ES"])
course.check(
    "2",
    t_failing,
    float(fraction.index[fraction < 40].min()) if (fraction < 40).any() else 1.0,
    tolerance=0.01,
    hint="Two paths, two path_tables; ejection_fraction(ed, es) takes the two columns of LV volumes.",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# ml = {}
# for phase in ("ED", "ES"):
#     way = interpolate(space, codes[at(facts, A, phase)], codes[at(facts, B, phase)], 11)
#     table = path_table(way, space.grid.spacing, space.scheme)
#     ml[phase] = table[table["structure"] == "LV cavity"].set_index("position")["volume_ml"]
# ef = ejection_fraction(ml["ED"], ml["ES"])
# t_failing = ef.index[ef < 40].min()
# ```
# </details>

# %% [markdown]
# ## Exercise 3: the direction of a heartbeat
#
# Contraction is a direction in the space: the mean over patients of $z_{ES} - z_{ED}$. Compute it from all patients
# but A, add it to A's code at ED, decode, and compare the LV cavity with A's *true* ES label map. What Dice do you
# get? (For comparison: A's ED label map itself against its ES.)

# %%
dice_of_predicted_es = None  # your answer, the Dice of the LV cavity

# %%
ed_rows = [at(facts, p, "ED") for p in indices.index if p != A]
es_rows = [at(facts, p, "ES") for p in indices.index if p != A]
beat = (codes[es_rows] - codes[ed_rows]).mean(0)
true_es = labels[at(facts, A, "ES")]
predicted = space.scheme.integers(space.decode(codes[a] + beat)[0].argmax(0))
course.check(
    "3",
    dice_of_predicted_es,
    float(dice(predicted, true_es, space.scheme)["LV cavity"]),
    tolerance=0.01,
    wrong={
        "That is A's ED against its ES, without the step.": float(dice(labels[a], true_es, space.scheme)["LV cavity"])
    },
    hint="space.decode(code)[0].argmax(0) is the label map in channels; dice(...)['LV cavity'].",
)
print(f"without the step, ED against ES: {dice(labels[a], true_es, space.scheme)['LV cavity']:.2f}")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# rest = [p for p in indices.index if p != A]
# beat = np.mean([codes[at(facts, p, "ES")] - codes[at(facts, p, "ED")] for p in rest], axis=0)
# predicted = space.scheme.integers(space.decode(codes[a] + beat)[0].argmax(0))
# dice_of_predicted_es = dice(predicted, labels[at(facts, A, "ES")], space.scheme)["LV cavity"]
# ```
#
# One direction for all patients: the average beat. DCM hearts are among them, so it is a weak one; try the NOR
# patients only.
# </details>

# %% [markdown]
# ## What to take along
#
# - A straight line between codes is an interpolation; blending voxels is not.
# - Ask of every step whether it is a heart: count pieces and holes, look at volumes.
# - Have a control that learned nothing (nested distances): part of what looks like learning is geometry.
