# %% [markdown]
# # 02 · A linear shape space
#
# | | |
# |---|---|
# | **Goal** | turn hearts into vectors, find the directions in which they differ, and see where straight lines fail |
# | **Time** | 40 minutes of reading; about half a minute of computing |
# | **You need** | linear algebra (singular values); notebook 01 for the names of the structures |
#
# Lay every heart on one grid, write its voxels one after another, and it is a point $x \in \mathbb{R}^F$, with $F$ in
# the hundred thousands. A few hundred hearts lie near a much smaller flat set through their mean,
#
# $$x \;\approx\; \bar x + \sum_{i=1}^{d} z_i v_i , \qquad z_i = v_i^{\top}(x-\bar x),$$
#
# and **principal component analysis** (PCA) finds the best one: the orthonormal $v_1, v_2, \dots$ along which the
# hearts vary most. This is Cootes' statistical shape model of 1995, with voxels instead of points, and the baseline
# against which the ACNN paper holds its autoencoder. It is hard to beat, and it has one flaw that no number of codes
# removes.

# %%
import numpy as np
import pandas as pd
from IPython.display import display

import shapelab
from shapelab import course
from shapelab.show import charts, meshes, render, slices, style

DATA = "phantom"  # or "acdc"
SEED = 0
run = course.start("02", DATA, SEED)

# %% [markdown]
# ## 1 · A grid for all
#
# Scans differ in matrix and voxel size. A **grid** is the box that a model sees: so many voxels of so many mm.
# `to_grid` lays a subject on it: the LV's centre comes to the middle, labels are resampled (linear interpolation of
# the one-hot map, then the most probable class), sizes in mm are kept, and one matrix remembers how to come back.

# %% tags=["nbval-check-output"]
from shapelab.metrics import dice
from shapelab.models.acnn import AEConfig

hearts = run.hearts(n=run.pick(quick=60, full=200, paper=400))
grid = AEConfig.profile(run.profile).grid
heart = hearts[0]

sample = shapelab.to_grid(heart, grid, align="rigid")
back = shapelab.from_grid(sample.label, sample.transform)
overlap = dice(back, heart.label, heart.scheme)

print("grid:", grid, "| a box of", " x ".join(f"{mm:.0f}" for mm in grid.extent), "mm")
print("on the grid:", sample.label.shape, "| and back to the scan's own shape:", back.shape == heart.label.shape)
print("there and back, Dice above 0.85 for each structure:", bool((overlap > 0.85).all()))

# %% [markdown]
# A coarse grid costs something before any model has been asked. This Dice, there and back, is the ceiling for
# everything that follows on it:

# %%
print(overlap.round(3).to_string())
on_grid = heart.with_(label=sample.label, image=None, affine=np.diag([*grid.spacing, 1.0]))
slices.compare_slices(
    [("the scan", heart), ("on the grid", on_grid)], title=f"{heart.id}: as it lay in the scanner, and on the grid"
)

# %% [markdown]
# ## 2 · Alignment
#
# The second row is also *turned*: `align="rigid"` rotates each heart in the plane until its RV lies straight to the
# left. How a patient lay, and how the slices were planned, is not shape. If it stays in, the space spends its first
# directions on it. Here is the mean of all hearts in a middle slice, without and with alignment. The sharper the
# mean, the more alike the hearts:

# %%
labels, table = shapelab.stack_labels(hearts, grid, align="rigid")
as_they_lay, _ = shapelab.stack_labels(hearts[:60], grid, align="none")

fig = style.figure(8.0, 3.0)
k = grid.shape[2] // 2
left, middle, right = fig.subplots(1, 3, width_ratios=(1, 1, 1.1))
variance = {}
for ax, (align, maps) in zip((left, middle), {"none": as_they_lay, "rigid": labels[:60]}.items()):
    picture = np.ones((*grid.shape[:2], 3))
    for s in hearts.scheme.structures:  # white paper, coloured ink: the more hearts, the more ink
        share = (maps == s.value).mean(0)
        variance[align] = variance.get(align, 0.0) + float((share * (1 - share)).sum())
        picture *= 1 - share[:, :, k, None] * (1 - style.rgb(s.colour))
    ax.imshow(picture.transpose(1, 0, 2), extent=(0, grid.extent[0], grid.extent[1], 0))
    ax.set(title=f"mean, align={align!r}", xlabel="x (mm)", ylabel="y (mm)" if ax is left else "")
right.bar(list(variance), list(variance.values()), color=[style.MUTED, style.ACCENT], width=0.6)
right.set(title="total variance", ylabel="sum over voxels and structures")
fig

# %% tags=["nbval-check-output"]
print("label maps:", labels.shape, "| numbers that describe one heart:", 3 * int(np.prod(grid.shape)))
print("alignment lowers the variance:", variance["rigid"] < variance["none"])
print(
    "patients:", table["patient"].nunique(), "| each at ED and ES:", bool((table["patient"].value_counts() == 2).all())
)

# %% [markdown]
# The paper says the same of its PCA baseline: it "requires additional spatial-normalisation prior to linear mapping".
# Scale is *not* taken out: how large a heart is, is part of the disease.
#
# ## 3 · PCA, by hand
#
# Patients (not label maps: ED and ES of one heart are relatives) are split into those the space learns from and those
# it is tried on. Then: one-hot, flatten, centre, and a singular value decomposition, $X - \bar X = U S V^\top$. The
# rows of $V^\top$ are the directions; $S^2/(N-1)$ is the variance along each. On forty hearts, to be quick:

# %% tags=["nbval-check-output"]
from shapelab.spaces import PCASpace

train, test = hearts.split(test=0.25, seed=SEED)
is_test = table["patient"].isin(test.patients).to_numpy()
learn, unseen = labels[~is_test], labels[is_test]

X = (learn[:40, None] == np.array([1, 2, 3], np.uint8).reshape(1, 3, 1, 1, 1)).reshape(40, -1).astype(np.float32)
U, S, Vt = np.linalg.svd(X - X.mean(0), full_matrices=False)
z = (X - X.mean(0)) @ Vt[:16].T  # 16 codes of each heart

small = PCASpace(n_codes=16, grid=grid, scheme=hearts.scheme).fit(learn[:40])
print("no patient in both parts:", not set(train.patients) & set(test.patients))
print("X:", X.shape, "| directions:", Vt.shape, "| codes:", z.shape)
print(
    "the library finds the same variances:", bool(np.allclose(S[:16] ** 2 / 39, small.explained_variance_, rtol=1e-2))
)
print("and the same codes, up to sign:", bool(np.allclose(np.abs(z), np.abs(small.encode(learn[:40])), atol=0.05)))

# %% [markdown]
# ## 4 · Three ways to write a heart down
#
# PCA is linear in whatever numbers describe the shape, so everything hangs on the description:
#
# - **labels**: one-hot maps, which jump from 0 to 1 at a border;
# - **sdf**: the *signed distance* of each voxel to the border of each structure, in mm, negative inside. It changes
#   smoothly when a border moves;
# - **nested**: signed distances again, but of *surfaces* instead of structures. The muscle is not a thing of its own:
#   it is what lies between the inner surface of the LV and the outer one.
#
# The library has the first two. The third is written here, because it shows what a shape space is: any object with
# `encode`, `decode`, `mean` and `sigma`. All tools of the course take it.

# %%
from shapelab.spaces.distances import signed_distance


class NestedSpace:
    """PCA of the signed distances (mm) of three surfaces: RV, outer LV, inner LV."""

    surfaces = ((1,), (2, 3), (3,))  # labels inside each of them

    def __init__(self, n_codes, grid, scheme):
        self.grid, self.scheme = grid, scheme
        self.pca = PCASpace(n_codes)  # on plain tables: scikit-learn's fit, transform, inverse_transform

    def fields(self, labels):
        """Label maps (N, X, Y, Z) -> distances (N, 3 X Y Z), cut at 20 mm."""
        maps = [[signed_distance(np.isin(one, v), self.grid.spacing, 20) for v in self.surfaces] for one in labels]
        return np.array(maps, np.float32).reshape(len(labels), -1)

    def fit(self, labels):
        fields = self.fields(labels)
        self.training_codes = self.pca.fit(fields).transform(fields)
        self.mean, self.sigma = self.pca.mean, self.pca.sigma
        return self

    def encode(self, labels):
        return self.pca.transform(self.fields(labels))

    def decode(self, codes):
        return self.shapes(self.pca.inverse_transform(np.atleast_2d(codes)))

    def shapes(self, fields):
        """Distances -> probabilities (N, 4, X, Y, Z): background, RV cavity, LV myocardium, LV cavity."""
        distances = fields.reshape(-1, 3, *self.grid.shape)
        right, outer, inner = 1 / (1 + np.exp(np.clip(distances / 1.5, -30, 30))).swapaxes(0, 1)  # inside each?
        inner = np.minimum(inner, outer)
        return np.stack([(1 - outer) * (1 - right), (1 - outer) * right, outer - inner, inner], axis=1)


spaces = {
    "labels": PCASpace(n_codes=64, grid=grid, scheme=hearts.scheme).fit(learn),
    "sdf": PCASpace(n_codes=64, representation="sdf", grid=grid, scheme=hearts.scheme).fit(learn),
    "nested": NestedSpace(64, grid, hearts.scheme).fit(learn),
}

# %% [markdown]
# The mean heart, $z = 0$, in each of the three:

# %%
mean_hearts = [meshes.heart_meshes(s.decode(s.mean)[0], grid.spacing, hearts.scheme) for s in spaces.values()]
render.mesh_grid(
    [mean_hearts], hearts.scheme, column_names=list(spaces), title="Three means of the same hearts", width=7.5
)

# %% tags=["nbval-check-output"]
from shapelab.metrics.clinical import structure_volumes

volumes = pd.DataFrame([structure_volumes(m, grid.spacing, hearts.scheme) for m in learn])
of_mean = {n: structure_volumes(s.decode(s.mean)[0].argmax(0), grid.spacing, hearts.scheme) for n, s in spaces.items()}
kept = {n: v["LV myocardium"] / volumes["LV myocardium"].mean() for n, v in of_mean.items()}
print("the mean heart that keeps most muscle:", max(kept, key=kept.get))
print("sdf loses more than a fifth of it:", bool(kept["sdf"] < 0.8))

# %%
print("muscle of the mean heart, as a share of the hearts' mean:", {n: f"{100 * k:.0f} %" for n, k in kept.items()})

# %% [markdown]
# Averaging the distance to a *thin wall* that is here in one heart and there in the next gives a voxel that is far
# from *a* wall everywhere: the muscle melts. Two surfaces that are averaged one by one keep a gap between them.
# Nothing was learned, no code was added; the shape was only written down in better words.
#
# ## 5 · How many codes?
#
# The share of the variance that the first $d$ directions hold:

# %%
ratios = {n: getattr(s, "pca", s).explained_variance_ratio_ for n, s in spaces.items()}
charts.explained_variance(ratios, title="Variance explained by the first codes (training hearts)")

# %% [markdown]
# Careful: these are shares of different things (voxels that flip, against millimetres), so the curves must not be
# compared with each other. What counts is the heart that comes back. So: encode hearts of **unseen patients**, keep
# the first $d$ codes, decode, and measure the overlap.

# %%
from shapelab.metrics import dice_table


def dice_by_codes(space, maps, counts=(0, 1, 2, 4, 8, 16, 32, 64)):
    """Mean Dice of each structure when only the first d codes are kept: one row a d."""
    codes = space.encode(maps)
    rows = {}
    for d in counts:
        kept = np.where(np.arange(codes.shape[1]) < d, codes, 0).astype(np.float32)
        parts = [space.decode(part).argmax(1) for part in np.array_split(kept, -(-len(kept) // 16))]
        rows[d] = dice_table(np.concatenate(parts).astype(np.uint8), maps, space.scheme).mean()
    return pd.DataFrame(rows).T.rename_axis("codes")


def dice_figure(curves, title):
    """One panel a structure, one line a space; `curves` maps a name to a table of `dice_by_codes`."""
    fig = style.figure(9.0, 3.3)
    for ax, s in zip(fig.subplots(1, 3, sharey=True), hearts.scheme.structures):
        for i, (name, curve) in enumerate(curves.items()):
            x = np.arange(len(curve))
            ax.plot(
                x,
                curve[s.name],
                "os^"[i],
                ls=style.line_style(i),
                color=s.colour,
                mfc="white" if i else None,
                label=name,
            )
        ax.set_xticks(x, curve.index)
        ax.set(title=s.name, xlabel="codes kept", ylabel="Dice, unseen patients" if ax is fig.axes[0] else "")
        ax.grid(True)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(curves))
    fig.suptitle(title)
    return fig


curves = {name: dice_by_codes(s, unseen) for name, s in spaces.items()}
dice_figure(curves, f"Reconstruction of {len(test.patients)} unseen patients (0 codes: the mean heart for everyone)")

# %% tags=["nbval-check-output"]
overall = {name: curve.mean(axis=1) for name, curve in curves.items()}
print("more codes never hurt (labels):", bool((overall["labels"].diff().dropna() > -0.01).all()))
print("64 codes, mean Dice above 0.75 in each:", bool(min(o[64] for o in overall.values()) > 0.75))
print("best description at 64 codes:", max(overall, key=lambda n: overall[n][64]))
print("the thin wall is hardest:", curves["labels"].loc[64].idxmin())

# %% [markdown]
# The first codes buy most; after that the curves creep, and at 64 they still do: some ninety training shapes have not
# shown all that hearts can be. The wall is always worst: it is three voxels thick, and one voxel of error costs a
# third of it. And the description matters about as much as the number of codes.

# %%
j = 6  # an unseen heart at ED
rows = [(f"{table.index[is_test][j]}\n(the heart)", unseen[j])]
for d in (4, 16, 64):
    for name in ("labels", "nested") if d == 64 else ("labels",):
        codes = spaces[name].encode(unseen[j : j + 1])
        kept = np.where(np.arange(codes.shape[1]) < d, codes, 0).astype(np.float32)
        rows.append((f"{d} codes\n({name})", spaces[name].decode(kept)[0].argmax(0).astype(np.uint8)))
chosen = slices.pick_slices(unseen[j], grid.shape[2], 5)
slices.compare_slices(rows, grid.spacing, hearts.scheme, indices=chosen, title="A heart from few numbers")

# %% [markdown]
# ## 6 · What the directions mean
#
# Walk along one direction at a time, from $-2\sigma$ to $+2\sigma$, the others at their mean:

# %%
from shapelab.latent import traverse

names = [f"{s:+.0f} σ" if s else "mean" for s in (-2, -1, 0, 1, 2)]


def walks(space, dimensions, title):
    """Surfaces along some directions of a space, a row each."""
    rows = []
    for i in dimensions:
        path = traverse(space, i, steps=5)
        rows.append([meshes.heart_meshes(p, grid.spacing, space.scheme) for p in path.probabilities])
    words = [f"direction {i}" for i in dimensions]
    return render.mesh_grid(rows, space.scheme, row_names=words, column_names=names, title=title, width=7.5)


nested = spaces["nested"]
walks(nested, range(3), "The first three directions (nested surfaces)")

# %% [markdown]
# Nobody named these directions. How do they relate to what a physician measures? Correlation of each code with the
# volumes of the same heart, over all training hearts:

# %%
volumes["squeezed (ES)"] = (table["phase"][~is_test] == "ES").to_numpy(float)
first = nested.training_codes[:, :6]
correlation = np.array([[np.corrcoef(first[:, i], volumes[c])[0, 1] for c in volumes] for i in range(6)])
fig = style.figure(5.6, 2.9)
ax = fig.subplots()
ax.imshow(correlation, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
for (r, c), value in np.ndenumerate(correlation):
    ax.text(c, r, f"{value:+.2f}", ha="center", va="center", color="white" if abs(value) > 0.7 else style.INK)
ax.set_xticks(range(4), volumes.columns)
ax.set_yticks(range(6), [f"code {i}" for i in range(6)])
ax.set_title("correlation of codes with volumes and phase")
fig

# %% tags=["nbval-check-output"]
strongest = dict(zip(volumes.columns, np.abs(correlation).max(0)))
print("one of six codes follows the LV cavity (|r| > 0.6):", bool(strongest["LV cavity"] > 0.6))
print("codes of the training hearts are uncorrelated:", bool(np.abs(np.corrcoef(first.T) - np.eye(6)).max() < 0.01))

# %% [markdown]
# Size comes first, as so often. But no direction *is* the LV volume or the phase: PCA sorts by variance and knows no
# anatomy.
#
# ## 7 · What straight lines cannot do
#
# A toy first. A disc moves from left to right: **one** number describes everything. What does PCA make of it?

# %%
n = 64
xs, ys = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
places = np.linspace(14, 50, 60)
discs = np.stack([((xs - c) ** 2 + (ys - 32) ** 2 < 81) for c in places]).astype(np.float32).reshape(60, -1)
distances = np.stack([np.hypot(xs - c, ys - 32) - 9 for c in places]).astype(np.float32).reshape(60, -1)
half_way = {"labels": (discs[0] + discs[-1]) / 2, "distances": (distances[0] + distances[-1]) / 2 < 0}

fig = style.figure(9.0, 2.6)
axes = fig.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.5))
pictures = {
    "A and B": discs[0] + discs[-1],
    "half way:\nlabels": half_way["labels"],
    "half way:\ndistances": half_way["distances"],
    "what lies\nbetween": discs[30],
}
for ax, (title, picture) in zip(axes, pictures.items()):
    ax.imshow(np.reshape(picture, (n, n)).T, cmap="Greys", vmin=0, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
needed = {}
for (name, data), colour in zip({"labels": discs, "distances": distances}.items(), (style.CONTRAST, style.ACCENT)):
    variances = np.linalg.svd(data - data.mean(0), compute_uv=False) ** 2
    held = variances.cumsum() / variances.sum()
    needed[name] = int((held < 0.95).sum()) + 1
    axes[4].plot(range(1, 17), 100 * held[:16], "o-" if name == "labels" else "s--", ms=4, color=colour, label=name)
axes[4].set(title="variance explained", xlabel="directions", ylabel="%", ylim=(0, 103), xticks=(1, 5, 10, 15))
axes[4].grid(True)
axes[4].legend(loc="lower right")
fig.suptitle("One moving disc")
fig

# %% tags=["nbval-check-output"]
print("directions for 95 % of a motion of one number: labels", needed["labels"], "| distances", needed["distances"])
print("voxels of a disc:", int(discs[0].sum()), "| half way by distances:", int(half_way["distances"].sum()))

# %% [markdown]
# Half of one disc plus half of another is two grey discs; averaged distances give nothing at all. Shapes that *move*
# lie on a curved path through voxel space, and PCA lays flat sheets through it.
#
# Now hearts. From a small, squeezed, thick-walled one (A: HCM at ES) to a wide one (B: DCM at ED), in a straight line
# between their codes:

# %%
from shapelab.latent import interpolate, path_table

a = int(np.flatnonzero((table["group"] == "HCM") & (table["phase"] == "ES"))[0])
b = int(np.flatnonzero((table["group"] == "DCM") & (table["phase"] == "ED"))[0])
paths = {name: interpolate(s, *s.encode(labels[[a, b]]), steps=9) for name, s in spaces.items()}
render.mesh_grid(
    [[meshes.heart_meshes(p, grid.spacing, hearts.scheme) for p in path.probabilities[::2]] for path in paths.values()],
    hearts.scheme,
    row_names=list(paths),
    column_names=["A", "1/4", "half way", "3/4", "B"],
    width=7.5,
    title=f"From {table.index[a]} (HCM) to {table.index[b]} (DCM) in a straight line",
)

# %%
steps = {name: path_table(path, grid.spacing, hearts.scheme) for name, path in paths.items()}
charts.path_chart(steps, hearts.scheme, title="Volumes and overlap along the way")

# %% tags=["nbval-check-output"]
muscle = {m: t[t["structure"] == "LV myocardium"].set_index("position")["volume_ml"] for m, t in steps.items()}
pieces = {m: int(t.groupby("position")["components"].sum().max()) for m, t in steps.items()}
left_over = {m: v.min() / min(v.iloc[0], v.iloc[-1]) for m, v in muscle.items()}
print("labels: three structures fall into more than three pieces on the way:", pieces["labels"] > 3)
print("sdf: at its thinnest the wall has less than half of its muscle:", bool(left_over["sdf"] < 0.5))
print("nested: it keeps more than sdf does:", bool(left_over["nested"] > left_over["sdf"]))

# %% [markdown]
# **Labels** jump: until half way the heart is A, after it B, and between them nobody has a majority, so pieces and
# holes appear. **sdf** melts the wall. **Nested** surfaces come through well, because B's surfaces lie round A's:
# borders move outwards, which distances do in a straight line.
#
# But a heart that is *turned* is the moving disc again. The same heart, and the same heart rotated by 90 degrees:

# %%
from scipy import ndimage


def rotated(angle):
    """Heart B, turned in the plane (degrees)."""
    return ndimage.rotate(labels[b], angle, axes=(0, 1), reshape=False, order=0)


t = np.linspace(0, 1, 5)
start, end = nested.fields(np.stack([rotated(0), rotated(90)]))
straight = nested.shapes(np.stack([(1 - s) * start + s * end for s in t]))
render.mesh_grid(
    [
        [meshes.heart_meshes(p, grid.spacing, hearts.scheme) for p in straight],
        [meshes.heart_meshes(rotated(90 * s), grid.spacing, hearts.scheme) for s in t],
    ],
    hearts.scheme,
    row_names=["straight line", "the rotation"],
    column_names=["A", "1/4", "half way", "3/4", "B"],
    title="A heart turned by 90°: averaged distances, and what really lies between",
    view=render.View(azimuth=0, elevation=60),
    width=7.5,
)

# %% [markdown]
# On the straight line the RV is worn away on one side before it grows on the other, and half way the heart is smaller
# than either end, though a rotation changes no volume:

# %% tags=["nbval-check-output"]
size = np.array([(p.argmax(0) == 1).sum() for p in straight]) / (rotated(0) == 1).sum()
print("half way the RV has lost more than a fifth:", bool(size[2] < 0.8))

# %% [markdown]
# That is why hearts are aligned first, and why one may want a space that bends: notebook 03.
#
# ## 8 · The paper and we
#
# | | ACNN paper | here |
# |---|---|---|
# | structures | LV cavity and myocardium | RV cavity as well |
# | spatial normalisation before PCA | yes, not said which | rigid, in the plane; scale is kept |
# | codes | 64 | 64 |
# | description | label maps | label maps, distances, nested distances |
# | reconstruction of unseen hearts | not reported | section 5 |
# | disease from PCA codes | .766 (ED), .866 (ED + ES) | notebook 14, with controls |
#
# ## 9 · Exercises
#
# ### Exercise 1: how many codes?
# How many directions of `spaces["labels"]` hold 80 % of the training variance?

# %%
answer_1 = None  # a whole number

# %%
held = spaces["labels"].explained_variance_ratio_.cumsum()
right = int((held < 0.8).sum()) + 1
mistakes = {"Count from one: the first direction alone is one code.": right - 1}
course.check("1", answer_1, right, wrong=mistakes, hint="explained_variance_ratio_, summed up.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = int((spaces["labels"].explained_variance_ratio_.cumsum() < 0.8).sum()) + 1
# ```
# </details>
#
# ### Exercise 2: encode
# Write the encoder: from a flattened heart `x`, the mean and the directions (one a row) to the codes. And no library.


# %%
def encode(x, mean, directions):
    return ...  # your code here


# %%
space = spaces["labels"]
cases = [((x, space.mean_, space.components_), z) for x, z in zip(space.flatten(unseen[:3]), space.encode(unseen[:3]))]
course.check_function("2", encode, cases, tolerance=0.02, hint="Subtract the mean before you project.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def encode(x, mean, directions):
#     return directions @ (x - mean)
# ```
# </details>
#
# ### Exercise 3: which direction fills the ventricle?
# Among the first five directions of `nested`: which changes the volume of the LV cavity most between $-2\sigma$ and
# $+2\sigma$? (Number from 0. `traverse(nested, i, steps=2).channels` has the label maps of both ends.)

# %%
answer_3 = None  # 0, 1, 2, 3 or 4

# %%
ends = [traverse(nested, i, steps=2).channels for i in range(5)]
change = [abs(int((e[1] == 3).sum()) - int((e[0] == 3).sum())) for e in ends]
course.check("3", answer_3, int(np.argmax(change)), hint="Count the voxels of channel 3 at both ends.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# ends = [traverse(nested, i, steps=2).channels for i in range(5)]
# answer_3 = int(np.argmax([abs(int((e[1] == 3).sum()) - int((e[0] == 3).sum())) for e in ends]))
# ```
# </details>

# %% [markdown]
# ## On real hearts
#
# The same on **80 patients of ACDC** (of its 100 training patients): 60 to learn from, 20 to try on. Beside it the
# space learned from phantoms above, which has never seen a real heart.
#
# *Data: Bernard et al., IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018,
# [doi:10.1109/TMI.2018.2837502](https://doi.org/10.1109/TMI.2018.2837502); licence CC BY-NC-SA 4.0.*

# %%
real = course.real_hearts()
if real is not None:
    real_labels, real_table = shapelab.stack_labels(real, grid, align="rigid")
    real_train, real_test = real.split(test=0.25, seed=SEED)
    held_out = real_table["patient"].isin(real_test.patients).to_numpy()
    real_spaces = {
        "labels": PCASpace(n_codes=64, grid=grid, scheme=real.scheme).fit(real_labels[~held_out]),
        "nested": NestedSpace(64, grid, real.scheme).fit(real_labels[~held_out]),
        f"nested, {DATA} (section 4)": nested,
    }
    real_curves = {name: dice_by_codes(s, real_labels[held_out], (0, 1, 4, 16, 64)) for name, s in real_spaces.items()}
    display(dice_figure(real_curves, f"Reconstruction of {len(real_test.patients)} unseen real patients"))
    print("Dice with 64 codes, 20 unseen patients of ACDC")
    print(pd.DataFrame({n: c.loc[64] for n, c in real_curves.items()}).round(3).to_string())

# %% [markdown]
# The space of phantoms, which met no real heart, comes close to the one that was fitted on sixty real patients. What
# it lacks are the ways in which real hearts are irregular.

# %%
if real is not None:
    display(
        walks(
            real_spaces["nested"], range(3), f"The first three directions of {len(real_train.patients)} real patients"
        )
    )

# %% [markdown]
# Next: **[03 shape autoencoder](03_shape_autoencoder.ipynb)**, a space that may bend.
