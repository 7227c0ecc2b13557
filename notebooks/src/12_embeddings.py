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
# # 12 · Embeddings: 64 numbers on one sheet of paper
#
# **Goal.** A heart is now a point in a space of 64 dimensions. You will draw that space in two, in three ways, and
# learn to say how far such a drawing can be trusted: which of its features are in the codes, and which are made by
# the drawing.
#
# **Time.** 25 minutes to read; about half a minute to run.
#
# **You need.** PyTorch is not needed here. A shape code is explained in
# [03, the shape autoencoder](03_shape_autoencoder.ipynb); its weights come with the course.
#
# Hearts, in two sentences: the *left ventricle* (LV) pumps into the body and has a thick wall (the *myocardium*), the
# *right ventricle* (RV) pumps into the lungs. *ED* (end diastole) is the heart at its fullest and *ES* (end systole)
# at its emptiest; the share of blood that leaves in between is the *ejection fraction* (EF).

# %%
DATA = "phantom"  # or "acdc": the same notebook on real hearts
SPACE = "autoencoder"  # or "tl": the space of the T-L network, notebook 04

import numpy as np
import pandas as pd
from IPython.display import display
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from shapelab import course, stack_labels
from shapelab.experiments.shipped import fit_pca, learned_space
from shapelab.latent import embed, embedding_quality
from shapelab.latent.codes import code_array, codes_table
from shapelab.metrics import dice
from shapelab.metrics.clinical import cardiac_indices
from shapelab.show import charts, render, style
from shapelab.show.meshes import heart_meshes

run = course.start("12", data=DATA, seed=0)

# %% [markdown]
# ## The idea
#
# An *embedding* gives each code $z_i \in \mathbb{R}^{64}$ a place $y_i \in \mathbb{R}^2$. Something must be lost. The
# three methods differ in what they try to keep.
#
# **PCA** keeps the directions of largest variance: $y_i = (u_1, u_2)^\top (z_i - \bar z)$. It is a shadow: straight
# lines stay straight, and a distance on paper is never longer than the true one.
#
# **t-SNE** keeps *neighbours*. Each subject spreads one unit of attention over the others,
#
# $$p_{j|i} = \frac{\exp(-\lVert z_i - z_j\rVert^2 / 2\sigma_i^2)}
# {\sum_{k \ne i} \exp(-\lVert z_i - z_k\rVert^2 / 2\sigma_i^2)}, \qquad p_{ij} = \frac{p_{j|i} + p_{i|j}}{2N},$$
#
# with $\sigma_i$ chosen so that attention goes to about *perplexity* many neighbours. On paper the same is done with
# a heavier tail, $q_{ij} \propto (1 + \lVert y_i - y_j\rVert^2)^{-1}$, and the $y$ are moved until $\mathrm{KL}(P
# \,\Vert\, Q) = \sum_{ij} p_{ij} \log (p_{ij}/q_{ij})$ is small.
#
# **UMAP** builds a graph of the nearest neighbours and lays it out with attraction along its edges and repulsion
# elsewhere.
#
# Only PCA's axes mean anything; only PCA's distances are distances. Keep that in mind when the pictures get pretty.

# %% [markdown]
# ## Step 1: the table of codes
#
# The autoencoder was trained on 1000 *other* phantom hearts, so it has seen none of the hearts below. If its weights
# are missing, this cell trains it (about 20 minutes on two cores).

# %%
space = learned_space(SPACE)

hearts = run.hearts(100)
labels, facts = stack_labels(hearts, space)
pca_space = fit_pca(labels, space.grid)  # the linear space beside it, fitted on these very hearts

indices = cardiac_indices(hearts)[["LVV_ED", "LVV_ES", "RVV_ED", "LVM", "LVEF"]]
facts = facts[["patient", "phase", "group"]].join(indices, on="patient")
codes = {
    "autoencoder": codes_table(space.encode(labels), facts),
    "PCA codes": codes_table(pca_space.encode(labels), facts),
}
codes["autoencoder"].iloc[:4, [0, 1, 2, -8, -7, -6, -1]]

# %% tags=["nbval-check-output"]
first = codes["autoencoder"]
print("label maps:", labels.shape)
print("codes, autoencoder:", code_array(first).shape)
print("codes, PCA:", code_array(codes["PCA codes"]).shape)
print("patients in each group:", first[first["phase"] == "ED"]["group"].value_counts().sort_index().to_dict())
print("ED and ES of every patient:", bool((first.groupby("patient")["phase"].nunique() == 2).all()))

# %% [markdown]
# One row a heart, one column a dimension. Before any embedding, look at the table itself: each row below is a patient
# at ED, each column a dimension (in standard deviations from the mean). Groups are stacked: **NOR** normal, **DCM**
# dilated (large, weak LV), **HCM** hypertrophic (thick wall), **MINF** old infarction, **RV** overloaded right
# ventricle.


# %%
@style.styled
def code_sheet(codes, title):
    """The codes of one phase as an image: a row a patient, sorted by group."""
    codes = codes.sort_values(["group", "patient"], kind="stable")
    z = code_array(codes)
    z = (z - z.mean(0)) / z.std(0)
    fig = style.figure(9, 3.6)
    ax = fig.subplots()
    shown = ax.imshow(z, cmap="PuOr", vmin=-3, vmax=3, aspect="auto", interpolation="nearest")
    fig.colorbar(shown, label="(code − mean) / sigma", extend="both")
    starts = [int((codes["group"] == g).to_numpy().argmax()) for g in dict.fromkeys(codes["group"])]
    for start in starts[1:]:
        ax.axhline(start - 0.5, color=style.INK, lw=1)
    ends = [*starts[1:], len(codes)]
    ax.set_yticks([(a + b) / 2 for a, b in zip(starts, ends)], list(dict.fromkeys(codes["group"])))
    ax.set(xlabel="dimension of the code", title=title)
    return fig


ed = {name: table[table["phase"] == "ED"] for name, table in codes.items()}
code_sheet(ed["autoencoder"], "Codes of the autoencoder at ED, one row a patient")

# %% [markdown]
# In the first columns you can see the groups with the bare eye: whole blocks of one colour. The dimensions are sorted
# by variance, so the first ones carry the big differences between hearts. Further right it looks like noise. (Is it?
# That is the subject of [13](13_latent_histograms.ipynb).)

# %% [markdown]
# ## Step 2: PCA, the honest shadow


# %%
def plane(codes, method, **options):
    """`embed`, with the method's name kept for the axes."""
    table = embed(codes, method, seed=run.seed, **options)
    table.attrs["method"] = method
    return table


charts.embedding_picture(plane(first, "pca"), title="Codes of the autoencoder")

# %%
z = code_array(ed["autoencoder"])
shares = np.sort(np.linalg.eigvalsh(np.cov(z.T)))[::-1] / np.trace(np.cov(z.T))
print(f"two axes show {shares[:2].sum():.0%} of the variance of the codes; ten show {shares[:10].sum():.0%}")

# %% [markdown]
# Every patient is there twice, full (solid) and empty (hollow). From ED to ES most hearts move the same way, towards
# the small ones: contraction is one of the largest things that the space knows. Two hearts of one patient are often
# neighbours, and that would flatter every measure of "neighbours of the same group". **From here on we look at ED
# alone: one point a patient.**

# %% [markdown]
# ## Step 3: PCA, t-SNE and UMAP side by side
#
# UMAP's library needs some seconds to load.

# %%
METHODS = ("pca", "tsne", "umap")
planes = {name: {m: plane(table, m) for m in METHODS} for name, table in ed.items()}
NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}

charts.embedding_picture(
    {NAMES[m]: planes["autoencoder"][m] for m in METHODS}, title="Codes of the autoencoder at ED, three embeddings"
)

# %%
charts.embedding_picture(
    {NAMES[m]: planes["PCA codes"][m] for m in METHODS},
    title="Codes of the linear space (PCA of voxels) at ED, three embeddings",
)

# %% [markdown]
# Mind the two uses of PCA: the second *figure* has PCA **codes** (64 numbers from a linear space), the left *panel*
# is a PCA **embedding** (64 numbers to 2).
#
# The same as a figure you can point at: hover over a heart to read who it is.

# %%
charts.embedding(
    planes["autoencoder"]["tsne"],
    title="t-SNE of autoencoder codes at ED",
    hover=["group", "LVV_ED", "LVM", "LVEF"],
)

# %% tags=["nbval-check-output"]
for name in planes:
    for m in METHODS:
        points = planes[name][m][["x", "y"]].to_numpy()
        print(f"{name}, {NAMES[m]}: {points.shape}, all finite: {bool(np.isfinite(points).all())}")

# %% [markdown]
# ## Step 4: how far can the picture be trusted?
#
# Four numbers, each 1 at best except the third.
#
# - **trustworthiness**: are neighbours on paper neighbours in the space? With $r(i,j)$ the rank of $j$ among the
#   neighbours of $i$ in the space and $U_k(i)$ those among the $k$ nearest on paper that are not among the $k$
#   nearest in the space, $T = 1 - \frac{2}{Nk(2N-3k-1)} \sum_i \sum_{j \in U_k(i)} (r(i,j) - k)$.
# - **continuity**: the same the other way round: are neighbours in the space still neighbours on paper?
# - **disparity** (0 at best): the same data, another random seed. How different is the picture after turning, scaling
#   and mirroring?
# - **overlap**: do the same hearts lie beside each other in both pictures? Mean share of common neighbours over pairs
#   of seeds.

# %%
quality = pd.concat(
    {name: embedding_quality(table, METHODS, seeds=range(3)) for name, table in ed.items()}, names=["codes"]
)
quality[["trustworthiness", "continuity", "disparity", "overlap"]].round(3)


# %%
@style.styled
def quality_picture(quality, title):
    """Trustworthiness, continuity and overlap of each embedding, grouped by space."""
    columns = ["trustworthiness", "continuity", "overlap"]
    spaces = list(quality.index.get_level_values(0).unique())
    fig = style.figure(9, 2.9)
    for ax, column in zip(fig.subplots(1, 3, sharey=True), columns):
        for i, name in enumerate(spaces):
            rows = quality.loc[name].loc[list(METHODS)]
            mark = list(style.marks(spaces).values())[i]
            ax.plot(
                [NAMES[m] for m in METHODS],
                rows[column],
                ls="",
                marker=mark.marker,
                ms=8,
                color=mark.colour,
                label=name,
            )
        ax.set(title=column, ylim=(0.4, 1.03), xlim=(-0.5, 2.5))
        ax.grid(True, axis="y")
    fig.axes[0].set_ylabel("share (1 is best)")
    fig.axes[0].legend(loc="lower left")
    fig.suptitle(title)
    return fig


quality_picture(quality, "How much of the neighbourhoods survives")

# %% [markdown]
# What to read from it:
#
# - t-SNE and UMAP are built to keep neighbours, and keep more of them than the shadow does: higher trustworthiness.
#   PCA has the better *continuity*: a shadow never separates what was together.
# - PCA and t-SNE give the same picture for every seed, and for t-SNE that is a choice: scikit-learn starts it from
#   PCA. UMAP depends on its seed; between two seeds a good part of each heart's neighbours on paper changes. **A
#   neighbour that is there in one seed only is no finding.**

# %% tags=["nbval-check-output"]
ae_quality = quality.loc["autoencoder"]
print(
    "t-SNE keeps neighbours better than the PCA shadow:",
    bool(ae_quality.trustworthiness["tsne"] > ae_quality.trustworthiness["pca"]),
)
print("every embedding is far better than chance (0.5):", bool((quality["trustworthiness"] > 0.75).all()))
print("PCA is the same for every seed:", bool(np.allclose(ae_quality.disparity["pca"], 0)))
print("UMAP is not:", bool(ae_quality.overlap["umap"] < 0.95))

# %% [markdown]
# ## Step 5: are the groups in the codes?
#
# Colours in a scatter plot invite wishful seeing. So count: of the $k = 10$ nearest neighbours of a heart, how many
# belong to its own group? We never told the space about groups. If they were scattered at random, the share would be
# about one in five.


# %%
def neighbours(points, k=10):
    """(N, k) positions of the k nearest other points."""
    return NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)


def purity(points, groups, k=10):
    """Share of the k nearest neighbours that are of a point's own group."""
    groups = np.asarray(groups)
    return float((groups[neighbours(points, k)] == groups[:, None]).mean())


def purity_table(ed, planes):
    """Purity in the space, on paper, and by chance (groups shuffled)."""
    generator = np.random.default_rng(0)
    rows = {}
    for name, table in ed.items():
        z, groups = code_array(table), table["group"].to_numpy()
        rows[name] = {
            "by chance": np.mean([purity(z, generator.permutation(groups)) for _ in range(20)]),
            "64 dimensions": purity(z, groups),
            **{NAMES[m]: purity(planes[name][m][["x", "y"]], groups) for m in METHODS},
        }
    return pd.DataFrame(rows).T.rename_axis("codes")


purities = purity_table(ed, planes)
purities


# %%
@style.styled
def neighbour_matrix(tables, title):
    """Of a group's neighbours among the codes, what share is of each group? One panel a space."""
    fig = style.figure(8.2, 3.7)
    for ax, (name, table) in zip(fig.subplots(1, len(tables)), tables.items()):
        groups = table["group"].to_numpy()
        order = [g for g in style.GROUPS if g in groups]
        near = groups[neighbours(code_array(table))]
        share = np.array([[(near[groups == g] == other).mean() for other in order] for g in order])
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for i in range(len(order)):
            for j in range(len(order)):
                ax.text(
                    j,
                    i,
                    f"{100 * share[i, j]:.0f} %",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if share[i, j] > 0.55 else style.INK,
                )
        ax.set_xticks(range(len(order)), order)
        ax.set_yticks(range(len(order)), order)
        ax.set(title=name, xlabel="group of the neighbours", ylabel="group of the heart")
        ax.tick_params(length=0)
    fig.suptitle(title)
    return fig


neighbour_matrix(ed, "Whose neighbours are whose? (10 nearest, 64 dimensions, ED)")

# %% [markdown]
# Shape at ED alone tells a good deal of the disease: the purity is well above chance. DCM hearts are among
# themselves, because a dilated LV looks like nothing else. A normal heart has neighbours of every group: diseases
# begin at the edge of normal, and ED is a still picture in which a wall that does not *move* cannot be seen. The
# embedding neither creates the groups nor loses many of them: purity on paper is near the purity in 64 dimensions.
#
#
# Which space has the purer neighbourhoods is in the table, for you to read; purity is *not* what a shape space is
# trained for.

# %% tags=["nbval-check-output"]
print("neighbourhoods are purer than chance:", bool((purities["64 dimensions"] > 1.3 * purities["by chance"]).all()))
print(
    "an embedding hardly changes that:",
    bool((purities[["t-SNE", "UMAP"]].sub(purities["64 dimensions"], axis=0).abs() < 0.15).all(axis=None)),
)

# %% [markdown]
# ## Step 6: what the picture does not say
#
# ### Clusters can be made by the method
#
# The top row is our codes, the bottom row is *nothing*: as many points drawn from one 64-dimensional normal
# distribution. With a small perplexity t-SNE finds "clusters" in both.


# %%
@style.styled
def scatter_rows(rows, columns, title, colours=None):
    """Small scatter plots: rows is {name: [points (N, 2) ...]}."""
    fig = style.figure(9, 2.15 * len(rows) + 0.6)
    axes = fig.subplots(len(rows), len(columns), squeeze=False)
    for number, (line, (name, panels)) in enumerate(zip(axes, rows.items())):
        for ax, points, column in zip(line, panels, columns):
            groups = None if colours is None else colours.get(name)
            if groups is None:
                ax.scatter(*np.asarray(points).T, s=12, color=style.MUTED, lw=0)
            else:
                for group, mark in style.marks(groups).items():
                    chosen = np.asarray(points)[np.asarray(groups) == group]
                    ax.scatter(*chosen.T, s=16, marker=mark.marker, color=mark.colour, lw=0, label=group)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(True)
            if number == 0:
                ax.set_title(column)
        line[0].set_ylabel(name)
    handles, names = axes[0, 0].get_legend_handles_labels()
    if handles:
        fig.legend(handles, names, loc="outside right upper")
    fig.suptitle(title)
    return fig


generator = np.random.default_rng(run.seed)
noise = codes_table(generator.normal(size=z.shape), ed["autoencoder"][["group"]])
PERPLEXITIES = (2, 10, 30, 60)
scatter_rows(
    {
        "hearts": [plane(ed["autoencoder"], "tsne", perplexity=p)[["x", "y"]] for p in PERPLEXITIES],
        "one normal\ndistribution": [plane(noise, "tsne", perplexity=p)[["x", "y"]] for p in PERPLEXITIES],
    },
    [f"perplexity {p}" for p in PERPLEXITIES],
    "t-SNE at four perplexities: hearts, and nothing",
    colours={"hearts": ed["autoencoder"]["group"]},
)

# %% [markdown]
# ### Distances and sizes are not kept
#
# Three clouds in 64 dimensions: A and B have the same spread, C is ten times wider; A and B are close, C is ten times
# further away.

# %%
toy_groups = np.repeat(["A", "B", "C"], 40)
toy = generator.normal(size=(120, 64)) * np.repeat([1.0, 1.0, 10.0], 40)[:, None]
toy[toy_groups == "B", 0] += 20
toy[toy_groups == "C", 1] += 200
toy = codes_table(toy, pd.DataFrame({"group": toy_groups}, index=[f"point{i}" for i in range(120)]))
toy_planes = {m: plane(toy, m)[["x", "y"]].to_numpy() for m in ("pca", "tsne")}


def size_and_distance(points):
    """(spread of C : spread of A, distance A-C : distance A-B)."""
    middle = {g: points[toy_groups == g].mean(0) for g in "ABC"}
    spread = {g: points[toy_groups == g].std(0).mean() for g in "ABC"}
    return spread["C"] / spread["A"], np.linalg.norm(middle["C"] - middle["A"]) / np.linalg.norm(
        middle["B"] - middle["A"]
    )


ratios = pd.DataFrame(
    {
        "truth (64 dimensions)": size_and_distance(code_array(toy)),
        **{NAMES[m]: size_and_distance(p) for m, p in toy_planes.items()},
    },
    index=["C is wider than A by a factor", "C is further from A than B is, by a factor"],
).T
display(ratios)
scatter_rows(
    {"three clouds": list(toy_planes.values())},
    ["PCA", "t-SNE"],
    "The same three clouds",
    {"three clouds": toy_groups},
)

# %% [markdown]
# t-SNE draws all three about equally large and about equally far apart. That is not an error; it was asked to keep
# neighbours, and it does. The same for our hearts: each dot below is a pair of them.


# %%
@style.styled
def shepard(codes, planes, title):
    """Distance on paper against distance in the space, for all pairs; Spearman's rank correlation in the titles."""
    true = pdist(code_array(codes))
    fig = style.figure(9, 3.1)
    for ax, m in zip(fig.subplots(1, 3), METHODS):
        paper = pdist(planes[m][["x", "y"]])
        ax.scatter(true, paper, s=2, color=style.ACCENT, alpha=0.25, lw=0, rasterized=True)
        ax.set(
            title=f"{NAMES[m]}: rank correlation {spearmanr(true, paper).statistic:.2f}",
            xlabel="distance of two codes (no unit)",
            ylabel="distance on paper",
            xlim=(0, None),
            ylim=(0, None),
        )
    fig.suptitle(title)
    return fig


shepard(ed["autoencoder"], planes["autoencoder"], "Distances of all pairs of hearts: in the space, and on paper")

# %% tags=["nbval-check-output"]
true = pdist(code_array(ed["autoencoder"]))
order_kept = {m: spearmanr(true, pdist(planes["autoencoder"][m][["x", "y"]])).statistic for m in METHODS}
print("PCA keeps the order of distances best:", bool(max(order_kept, key=order_kept.get) == "pca"))
print(
    "PCA never makes a distance longer:",
    bool((pdist(planes["autoencoder"]["pca"][["x", "y"]]) <= true * 1.001).all()),
)
print("t-SNE hides that one cloud is ten times wider:", bool(ratios.iloc[2, 0] < 4 < ratios.iloc[0, 0]))

# %% [markdown]
# ## Step 7: colour by what can be measured
#
# A group is a word; volume is a number. If the plane is ordered by a number, colours run smoothly across it. Beside
# each picture: how well a heart's value is predicted by the mean of its 10 nearest neighbours *on paper* (rank
# correlation; 0 is chance).


# %%
@style.styled
def coloured(plane, columns, title):
    """One panel a number: points coloured by it, and how well neighbours predict it."""
    fig = style.figure(9, 2.9)
    near = neighbours(plane[["x", "y"]])
    for ax, (column, text) in zip(fig.subplots(1, len(columns)), columns.items()):
        values = plane[column].to_numpy()
        told = spearmanr(values, values[near].mean(1)).statistic
        dots = ax.scatter(plane["x"], plane["y"], c=values, cmap="viridis", s=22, lw=0.3, edgecolors="white")
        fig.colorbar(dots, ax=ax, label=text)
        ax.set(title=f"predicted from neighbours: {told:.2f}", xticks=[], yticks=[])
    fig.suptitle(title)
    return fig


NUMBERS = {"LVV_ED": "LV volume at ED (ml)", "LVM": "LV mass (g)", "LVEF": "LV ejection fraction (%)"}
coloured(planes["autoencoder"]["tsne"], NUMBERS, "t-SNE of autoencoder codes at ED, coloured by clinical indices")

# %% [markdown]
# Volume runs smoothly from one end of the plane to the other: *size* is the first thing the codes know. The ejection
# fraction is predicted less well, as it should be: it is a matter of two phases, and these are codes of ED. That it is
# predicted at all comes from dilated hearts being weak ones.

# %% tags=["nbval-check-output"]
points = planes["autoencoder"]["tsne"]
near = neighbours(points[["x", "y"]])
told = {c: spearmanr(points[c], points[c].to_numpy()[near].mean(1)).statistic for c in NUMBERS}
print("neighbours tell the LV volume well:", bool(told["LVV_ED"] > 0.7))
print("better than the ejection fraction:", bool(told["LVV_ED"] > told["LVEF"]))

# %% [markdown]
# ## Step 8: from the point back to the heart
#
# A point in an embedding is a heart, so look at it. Click a point: the decoder turns its code into surfaces; a switch
# shows the patient's own label map instead. (In a page that is not running you see the still figure below it
# instead.)

# %%
from shapelab.show.widgets import EmbeddingWidget

EmbeddingWidget(planes["autoencoder"]["tsne"], ed["autoencoder"], space, hearts.filter(phase="ED"))

# %% [markdown]
# The still twin: four hearts at the ends of the plane, and their surfaces from the decoder.


# %%
def ends_of(plane):
    """Subjects furthest left, right, down and up."""
    return [plane["x"].idxmin(), plane["x"].idxmax(), plane["y"].idxmin(), plane["y"].idxmax()]


chosen = list(dict.fromkeys(ends_of(planes["autoencoder"]["tsne"])))
display(
    charts.embedding_picture(planes["autoencoder"]["tsne"], names=chosen, title="t-SNE of codes at ED, and four hearts")
)
decoded = space.decode(code_array(ed["autoencoder"].loc[chosen]))
render.mesh_grid(
    [[heart_meshes(p, space.grid.spacing, space.scheme) for p in decoded]],
    space.scheme,
    column_names=[f"{c}: {ed['autoencoder'].at[c, 'group']}" for c in chosen],
    title="The four hearts, from their codes",
)

# %% [markdown]
# ## On real hearts
#
# Everything again on real patients. **80 of the 100 training patients of ACDC, 16 of each group; so these figures are
# not those of the whole data set.** The autoencoder has seen phantoms only, never one of these hearts; the PCA codes
# come from a space fitted on these 80 patients. Data: Bernard et al., *Deep learning techniques for automatic MRI
# cardiac multi-structures segmentation and diagnosis*, IEEE TMI 37(11):2514–2525, 2018,
# [doi:10.1109/TMI.2018.2837502](https://doi.org/10.1109/TMI.2018.2837502), licence CC BY-NC-SA 4.0 (the figures below
# are derived from them).

# %%
real = course.real_hearts()

if real is not None:
    real_labels, real_facts = stack_labels(real, space)
    real_facts = real_facts[["patient", "phase", "group"]].join(cardiac_indices(real)[list(indices)], on="patient")
    real_ed = {
        "autoencoder": codes_table(space.encode(real_labels), real_facts),
        "PCA codes": codes_table(fit_pca(real_labels, space.grid).encode(real_labels), real_facts),
    }
    real_ed = {name: table[table["phase"] == "ED"] for name, table in real_ed.items()}
    real_planes = {name: {m: plane(table, m) for m in METHODS} for name, table in real_ed.items()}
    display(
        charts.embedding_picture(
            {NAMES[m]: real_planes["autoencoder"][m] for m in METHODS},
            title="80 ACDC patients at ED, codes of the autoencoder",
        )
    )
    display(
        charts.embedding_picture(
            {NAMES[m]: real_planes["PCA codes"][m] for m in METHODS}, title="80 ACDC patients at ED, PCA codes"
        )
    )

# %%
if real is not None:
    real_quality = pd.concat(
        {n: embedding_quality(t, METHODS, seeds=range(3)) for n, t in real_ed.items()}, names=["codes"]
    )
    display(real_quality[["trustworthiness", "continuity", "disparity", "overlap"]].round(3))
    display(purity_table(real_ed, real_planes))
    display(neighbour_matrix(real_ed, "Real hearts: whose neighbours are whose? (10 nearest, 64 dimensions, ED)"))

# %%
if real is not None:
    display(
        coloured(
            real_planes["autoencoder"]["tsne"],
            NUMBERS,
            "Real hearts: t-SNE of autoencoder codes at ED, coloured by clinical indices",
        )
    )

# %% [markdown]
# ### Two points on one spot
#
# A plane is good for *finding* things. Which two patients are nearest to each other in the space, and how near is
# that compared with other nearest neighbours?

# %%
if real is not None:
    table = real_ed["autoencoder"]
    gaps = squareform(pdist(code_array(table)))
    np.fill_diagonal(gaps, np.inf)
    one, other = (table.index[k] for k in np.unravel_index(gaps.argmin(), gaps.shape))
    usual = np.median(gaps.min(1))
    print(f"{one} and {other}: distance {gaps.min():.2f}; the median patient's nearest neighbour is {usual:.2f} away")
    display(table.loc[[one, other], list(indices)])
    images = [real[name].image for name in (one, other)]
    if images[0].shape == images[1].shape:
        print("their images are the same, voxel by voxel:", bool(np.array_equal(*images)))
        print("Dice of their label maps:", dice(real[one].label, real[other].label, real.scheme).round(3).to_dict())

# %% [markdown]
# In the copy of ACDC that these pages were made with, they are **one scan under two names**, outlined twice. The
# codes found it; nobody told them. It matters: a "patient" whose twin is in the training set is no unseen patient
# ([14](14_pathology_classification.ipynb)). And it is a gift: two outlines of one scan say how well a human agrees
# with a human, which is the best that any network can be asked for.

# %% [markdown]
# And the question that decides whether phantoms are of any use: do real hearts and phantoms lie in the same place of
# the space? In one embedding, real hearts and phantoms should mix. The measure is the share of a real heart's ten
# nearest neighbours *in 64 dimensions* that are real as well: near the real hearts' share of all points if they mix,
# 100 % if they are two separate clouds.

# %%
if real is not None and DATA == "phantom":
    both = pd.concat([ed["autoencoder"].assign(kind="phantom"), real_ed["autoencoder"].assign(kind="real")])
    is_real = (both["kind"] == "real").to_numpy()
    mixing = is_real[neighbours(code_array(both))][is_real].mean()
    print(f"of a real heart's 10 nearest neighbours {mixing:.0%} are real; {is_real.mean():.0%} of all points are")
    display(
        charts.embedding_picture(
            plane(both, "tsne"),
            colour="kind",
            hollow=None,
            title="Real hearts and phantoms at ED",
        )
    )

# %% [markdown]
# ## What the papers found, and what we find
#
# | question | the papers | here |
# |---|---|---|
# | separate clusters? | ACNN, II-E: "not separated in multi-clusters" | no: one cloud, ordered |
# | disease in the codes? | ACNN, III-F: yes, a classifier finds it | yes: purity above chance |
# | use of an embedding? | CE-Reg, Fig. 2b: a scan lies beside its label map | a map to find hearts by |
# | autoencoder or PCA? | ACNN: its codes classify better | by neighbourhoods, alike: see below |
#
# - Gaps between groups of points appear only where the embedding makes them (step 6).
# - Neighbourhoods are about as pure in one space as in the other: a few points apart, and not the same way on
#   phantoms and on real hearts (compare the two tables of purity). Purity weighs each dimension by its variance,
#   which a classifier does not; how they compare there, [14](14_pathology_classification.ipynb) will measure.
#
#
# Neither paper says how trustworthy or how stable an embedding is. We had to, to use it.

# %% [markdown]
# ## Exercise 1: choose a perplexity
#
# Of the perplexities in `PERPLEXITIES`, which gives the highest *trustworthiness* (10 neighbours) for the
# autoencoder's codes at ED?

# %%
best_perplexity = None  # your answer: one of PERPLEXITIES

# %%
scores = {
    p: embedding_quality(
        ed["autoencoder"], "tsne", seeds=[run.seed], options={"tsne": {"perplexity": p}}
    ).trustworthiness["tsne"]
    for p in PERPLEXITIES
}
course.check(
    "1",
    best_perplexity,
    max(scores, key=scores.get),
    hint="embedding_quality has a column for it, and takes options={'tsne': {'perplexity': p}}.",
)
# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def trust(p):
#     table = embedding_quality(ed["autoencoder"], "tsne", seeds=[run.seed], options={"tsne": {"perplexity": p}})
#     return table.trustworthiness["tsne"]
#
# best_perplexity = max(PERPLEXITIES, key=trust)
# ```
#
# Look at the differences, too: from perplexity 10 on they are small. The prettiest picture (most gaps) is not the
# most trustworthy one.
# </details>

# %% [markdown]
# ## Exercise 2: neighbours lost
#
# Take the first patient of the table at ED. How many of its 10 nearest neighbours among the *codes* are **not** among
# its 10 nearest on the t-SNE plane?

# %%
lost = None  # your answer, a number from 0 to 10

# %%
in_space, on_paper = (
    set(neighbours(p)[0]) for p in (code_array(ed["autoencoder"]), planes["autoencoder"]["tsne"][["x", "y"]])
)
course.check(
    "2",
    lost,
    len(in_space - on_paper),
    wrong={"That is how many are kept.": len(in_space & on_paper)},
    hint="neighbours(points)[0] are the neighbours of the first one; set(a) - set(b) is what is in a and not in b.",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# in_the_space = set(neighbours(code_array(ed["autoencoder"]))[0])
# on_the_paper = set(neighbours(planes["autoencoder"]["tsne"][["x", "y"]])[0])
# lost = len(in_the_space - on_the_paper)
# ```
# </details>

# %% [markdown]
# ## Exercise 3: predict from neighbours
#
# Write a function that predicts each heart's value as the mean of its k nearest neighbours' values (never its own),
# from points of any dimension. It is the simplest regression there is, and the "predicted from neighbours" of step 7.


# %%
def predict_from_neighbours(points, values, k):
    """points (N, d), values (N,) -> predictions (N,)."""
    return None  # your code


# %%
line = np.array([[0.0], [1.0], [2.1], [10.0]])
course.check_function(
    "3",
    predict_from_neighbours,
    [
        ((line, np.array([1.0, 2.0, 3.0, 4.0]), 1), np.array([2.0, 1.0, 2.0, 3.0])),
        ((line, np.array([1.0, 2.0, 3.0, 4.0]), 2), np.array([2.5, 2.0, 1.5, 2.5])),
    ],
    hint="The nearest point to a point is itself: leave it out.",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def predict_from_neighbours(points, values, k):
#     return np.asarray(values)[neighbours(points, k)].mean(axis=1)
# ```
#
# `kneighbors()` without an argument leaves each point itself out. By hand: sort `cdist(points, points)` along the
# rows and skip the first column.
# </details>

# %% [markdown]
# ## What to take along
#
# - PCA shows less and distorts nothing; t-SNE and UMAP keep neighbours and nothing else.
# - Before you believe a cluster: another seed, another perplexity, and the same picture of pure noise.
# - Count in the 64 dimensions; use the plane to *find* things, not to prove them.
#
# Next: [13, what each of the 64 numbers looks like](13_latent_histograms.ipynb).
