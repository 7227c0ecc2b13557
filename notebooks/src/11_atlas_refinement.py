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
# # 11 · Atlas refinement: from thick slices to a smooth heart
#
# **Goal.** A short-axis stack shows a heart in slices of 10 mm, each from another breath-hold, often without the
# apex. You will turn its label map into a smooth one of 2 mm by bending other people's hearts onto it: landmarks,
# choice of atlases, free-form deformation, label fusion. Then you will see what the method cannot do.
#
# **Time.** 40 minutes to read; about a minute to run. One slider (run the notebook to use it).
#
# **You need.** Label maps and millimetres ([01](01_hearts_and_labels.ipynb)), gradients, a little linear algebra. No
# training: the *prior* here is not a network but a shelf of whole hearts.
#
# The paper is SSLLN (Duan et al., "Automatic 3D bi-ventricular segmentation of cardiac images by a shape-refined
# multi-task deep learning approach", IEEE TMI 2019): a network segments the stack and finds six landmarks, and then
# section II-C does what this notebook does.

# %%
import numpy as np
import pandas as pd
from IPython.display import display

from shapelab import course
from shapelab.atlas import (
    FreeFormDeformation,
    RefinementSettings,
    fuse_labels,
    interpolate_slices,
    landmark_affine,
    majority_vote,
    normalised_mutual_information,
    phantom_atlases,
    refine,
    select_atlases,
    simulate_low_resolution,
    transform_points,
)
from shapelab.data.grid import to_unit_range
from shapelab.data.landmarks import landmarks_from_label
from shapelab.data.scheme import CARDIAC
from shapelab.experiments import kept_runs
from shapelab.experiments.sslln import layout as sslln_tables
from shapelab.experiments.sslln import refinement_acdc as refinement
from shapelab.metrics import dice, surface_curvature
from shapelab.show import render, style
from shapelab.show.meshes import heart_meshes
from shapelab.show.widgets import StagesWidget

DATA = "phantom"
SEED = 0
run = course.start("11", DATA, SEED)

# %% [markdown]
# ## The idea
#
# Let $S$ be the label map of the stack (the *target*) and $l_n$ those of high-resolution hearts (the *atlases*). Find
# for each atlas a map $\Phi_n$ from target to atlas, so that a place and its image carry the same label as often as
# can be:
#
# $$\Phi_n^* = \arg\max_{\Phi}\; \sum_i P_{S,\; l_n(\Phi)}(i, i) \tag{4}$$
#
# where $P(i, j)$ is the share of voxels with label $i$ in the target and $j$ in the warped atlas. (The paper writes
# $\arg\min$ of the same sum; at its minimum nothing would agree.) $\Phi$ is an affine map, then a smooth bending on
# top of it. The warped atlases are smooth at 2 mm, because the atlases are, and they know what lies between two
# slices. At last several of them are *fused* into one.
#
# ## 1 · The problem, with a known truth
#
# A phantom heart at 1.25 x 1.25 x 2 mm is the truth. `simulate_low_resolution` keeps every fifth slice, cuts the lowest
# labelled one off, and moves each slice as a breath-hold would (section III-F of the paper, its Fig. 13).

# %% tags=["nbval-check-output"]
atlases = phantom_atlases(run.pick(8, 20, 40), seed=100 + SEED)
truth = phantom_atlases(1, seed=200 + SEED)[0]
scheme = truth.scheme
still = simulate_low_resolution(truth, factor=5, shift_mm=0, apex_slices=1, first=2)
shifted = simulate_low_resolution(truth, factor=5, shift_mm=2.0, apex_slices=1, first=2, seed=5)
print("truth:", truth.label.shape, "voxels of", truth.spacing, "mm; structures:", ", ".join(scheme.names))
print("stack:", still.label.shape, "voxels of", still.spacing, "mm")
print("no atlas is the target:", all(not np.array_equal(a.label, truth.label) for a in atlases))
print("the stack has lost its apex:", bool(still.label.any((0, 1)).sum() * 5 < truth.label.any((0, 1)).sum()))


# %%
@style.styled
def long_cuts(items, frame, title):
    """A long-axis cut (x against z, base up) through the LV of each label map in one frame; RV to the left."""
    lv = np.argwhere(items[0][1] == scheme.structure("LV cavity").value)
    y = int(round(lv[:, 1].mean()))
    used = np.flatnonzero(np.any([label.any((1, 2)) for _, label in items], 0))
    x0, x1 = used[0] - 4, used[-1] + 5
    fig = style.figure(9.0, 2.6)
    for ax, (name, label) in zip(np.atleast_1d(fig.subplots(1, len(items))), items):
        plane = label[x0:x1, y].T
        picture = np.ones((*plane.shape, 3))
        for s in scheme.structures:
            picture[plane == s.value] = style.rgb(s.colour)
        width, height = plane.shape[1] * frame.spacing[0], plane.shape[0] * frame.spacing[2]
        ax.imshow(picture, extent=(0, width, height, 0))
        ax.plot([4, 24], [height - 4] * 2, color=style.INK, lw=2)
        ax.text(4, height - 6, "20 mm", fontsize=7.5)
        ax.set(title=name)
        ax.set_axis_off()
    fig.suptitle(title)
    return fig


def in_truth(stack):
    """A stack's label map at the truth's voxels: the nearest slice's label."""
    frame = type(stack.truth_frame)(stack.label.shape, stack.spacing)
    return frame.nearest(stack.label, stack.truth_frame)


long_cuts(
    [("truth, 2 mm", truth.label), ("slices in place", in_truth(still)), ("breath-holds", in_truth(shifted))],
    still.truth_frame,
    "The same heart, cut along its long axis (RV left, base up)",
)

# %% [markdown]
# Three troubles: a **staircase**, an **apex** that nobody scanned, and slices **out of line**. Section 2 to 6 take the
# middle stack, so that each step can be judged alone. The right one comes back in section 8.
#
# ## 2 · Six landmarks
#
# To bend one heart onto another one has to start near. The paper marks six points that every heart has and that a
# reader finds again in any stack:
#
# | landmark | what it is | what it fixes |
# |---|---|---|
# | LV lateral wall mid-point | the left ventricle's wall, opposite the right one | size across |
# | two RV insertion points | where the right ventricle joins the left one, anterior and inferior | rotation |
# | RV lateral wall turning point | where the right ventricle's free wall bulges most | size of the right side |
# | apex | the tip of the left ventricle | length, tilt |
# | mitral valve centre | the middle of the left ventricle's inlet, at the base | length, tilt |
#
# Four lie in one slice in the middle of the heart, two at its ends.

# %%
names = list(truth.landmarks)
points = np.array([still.landmarks[n] for n in names])  # mm along the stack's axes


@style.styled
def landmark_picture(stack, landmarks, title):
    """Left: the slice half way, with the four landmarks in it; right: the long-axis cut, with the two at the ends."""
    fig = style.figure(9.0, 4.0)
    left, right = fig.subplots(1, 2)
    middle = int(round(np.median([landmarks[n][2] for n in names[:4]]) / stack.spacing[2]))
    y = int(round(landmarks["mitral valve centre"][1] / stack.spacing[1]))
    cuts = ((left, stack.label[:, :, middle], (0, 1), names[:4]), (right, stack.label[:, y], (0, 2), names[4:]))
    for ax, plane, axes, shown in cuts:
        picture = np.ones((*plane.T.shape, 3))
        for s in scheme.structures:
            picture[plane.T == s.value] = 0.45 + 0.55 * style.rgb(s.colour)
        size = [stack.spacing[a] for a in axes]
        extent = (-size[0] / 2, (plane.shape[0] - 0.5) * size[0], (plane.shape[1] - 0.5) * size[1], -size[1] / 2)
        ax.imshow(picture, extent=extent)
        at = np.array([[landmarks[n][a] for a in axes] for n in shown])
        ax.plot(*at.T, "o", color=style.INK, ms=6, mfc="white", mew=1.6)
        used = np.argwhere(plane) * size
        low, high = np.minimum(used.min(0), at.min(0)) - 12, np.maximum(used.max(0), at.max(0)) + 12
        ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), xlabel="x (mm), RV → LV")
        for n, p in zip(shown, at):
            rightwards = p[0] < (low[0] + high[0]) / 2
            ax.annotate(
                n.replace(" wall", "").replace(" turning point", ""),
                p,
                (5, 5),
                textcoords="offset points",
                fontsize=8,
                ha="left" if rightwards else "right",
            )
    left.set(title="short axis, half way", ylabel="y (mm), anterior up")
    right.set(title="long axis", ylabel="z (mm), base up")
    fig.suptitle(title)
    return fig


landmark_picture(still, still.landmarks, "The six landmarks of the target")

# %% [markdown]
# The apex lies below the last slice: the phantom knows it. On a real stack it is guessed (section 9).
#
# ## 3 · The affine map, by hand
#
# An affine map $y = Mx + t$ has 12 numbers, and six landmarks give 18 equations. Least squares: stack the landmarks of
# the target as rows $(x, 1)$, those of the atlas as rows $y$, and solve. This is the whole of it.

# %% tags=["nbval-check-output"]
atlas = atlases[0]
there = np.array([atlas.landmarks[n] for n in names])
rows = np.column_stack([points, np.ones(6)])  # (6, 4)
solution, *_ = np.linalg.lstsq(rows, there, rcond=None)  # (4, 3): 12 numbers
by_hand = np.eye(4)
by_hand[:3] = solution.T
library = landmark_affine(still.landmarks, atlas.landmarks)
error = np.linalg.norm(transform_points(by_hand, points) - there, axis=1)
print("equations:", there.size, "| unknowns:", solution.size)
print("the library's map is the same:", bool(np.allclose(by_hand, library, atol=1e-6)))
print("landmarks meet within 10 mm:", bool(error.max() < 10), "| exactly:", bool(error.max() < 1e-6))


# %%
@style.styled
def outlines(stack, maps, at, title):
    """Slices of the stack in its colours with the outline of another label map over them, a row a map."""
    fig = style.figure(9.0, 1.6 * len(maps) + 0.6)
    used = np.argwhere(stack.label.any(2))
    low, high = np.maximum(used.min(0) - 18, 0), used.max(0) + 19
    for line, (name, other) in zip(fig.subplots(len(maps), len(at), squeeze=False), maps.items()):
        for ax, k in zip(line, at):
            plane = stack.label[low[0] : high[0], low[1] : high[1], k].T
            picture = np.ones((*plane.shape, 3))
            for s in scheme.structures:
                picture[plane == s.value] = 0.35 + 0.65 * style.rgb(s.colour)
            ax.imshow(picture)
            for s in scheme.structures:
                mask = other[low[0] : high[0], low[1] : high[1], k].T == s.value
                if mask.any():
                    ax.contour(mask, [0.5], colors=style.INK, linewidths=0.8)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(name)
    for ax, k in zip(fig.axes, at):
        ax.set_title(f"z = {k * stack.spacing[2]:.0f} mm", fontsize=8.5)
    fig.suptitle(title)
    return fig


used = np.flatnonzero(still.label.any((0, 1)))
shown = used[np.linspace(0, len(used) - 1, 5).round().astype(int)]
plain = FreeFormDeformation(iterations=0)  # an affine map alone, as a deformation that does nothing
unmoved = plain.fit(still.label, atlas.label, still.spacing, atlas.spacing)
affine_only = plain.fit(still.label, atlas.label, still.spacing, atlas.spacing, library)
outlines(
    still,
    {"as it lies": unmoved.warp_label(atlas.label), "by landmarks": affine_only.warp_label(atlas.label)},
    shown,
    "The target (colours) and the first atlas (black outlines)",
)

# %% [markdown]
# Size, position, rotation and tilt are right, the shape is not yet.
#
# ## 4 · Which atlases? Normalised mutual information
#
# A dilated heart makes a poor atlas for a small one. So all atlases are mapped by their affine maps, and the five most
# like the target are kept. Likeness is $\mathrm{NMI}(A, B) = (H(A) + H(B)) / H(A, B)$ with $H$ the entropy of labels:
# 1 if the one map says nothing about the other, 2 if each determines the other.


# %% tags=["nbval-check-output"]
def entropy(counts):
    p = counts[counts > 0] / counts.sum()
    return -(p * np.log(p)).sum()


affines = [landmark_affine(still.landmarks, a.landmarks) for a in atlases]
warped = [
    plain.fit(still.label, a.label, still.spacing, a.spacing, m).warp_label(a.label) for a, m in zip(atlases, affines)
]
joint = np.histogram2d(still.label.ravel(), warped[0].ravel(), bins=[np.arange(6) - 0.5] * 2)[0]
nmi = (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint.ravel())
chosen, scores = select_atlases(still.label, warped, n=5)
print("joint histogram:", joint.shape, "| by hand as in the library:", bool(np.isclose(nmi, scores[0])))
print("of the target with itself:", normalised_mutual_information(still.label, still.label))
print("all scores between 1 and 2:", bool((scores > 1).all() and (scores < 2).all()), "| chosen:", len(chosen))

# %%
overlap = [dice(w, still.label, scheme).mean() for w in warped]
fig = style.figure(9.0, 3.0)
bars, cloud = fig.subplots(1, 2)
bars.bar(range(len(atlases)), scores, color=[style.ACCENT if i in chosen else style.GRID for i in range(len(atlases))])
bars.set(ylim=(1, None), ylabel="NMI", xlabel="atlas", xticks=range(len(atlases)), title="five chosen (blue)")
cloud.plot(overlap, scores, "o", color=style.GRID, mec=style.MUTED)
cloud.plot([overlap[i] for i in chosen], scores[chosen], "o", color=style.ACCENT)
cloud.set(xlabel="mean Dice after the affine map", ylabel="NMI", title="NMI follows the overlap")
fig.suptitle("Atlases after their affine maps")
fig

# %% [markdown]
# ## 5 · Free-form deformation, from coarse to fine
#
# Control points stand on a lattice; each has a displacement, and between them cubic B-splines blend them: a
# displacement
# $u(x)$ that is smooth by construction. $\Phi(x) = A(x + u(x))$. The sum of equation 4 is maximised by gradient over
# the control points, first with 40 mm between them, then 20, then 10. Two restraints: a bending energy, and a **guard
# against folding**: where $\det \nabla (x + u) \le 0$ the map turns tissue inside out, and a level's part is damped
# until there is no such place.
#
# The target counts *at its slices only*. It is not interpolated to 2 mm first: its staircase is no data.

# %% tags=["nbval-check-output"]
best = atlases[chosen[0]]
ffd = FreeFormDeformation()
bent = ffd.fit(still.label, best.label, still.spacing, best.spacing, affines[chosen[0]])
at_slices = [dice(bent.warp_label(best.label, stage=s), still.label, scheme) for s in bent.names]
path = pd.DataFrame(at_slices, index=bent.names)
print("stages:", ", ".join(bent.names))
print("control points:", [tuple(level.coefficients.shape) for level in bent.levels])
print("Dice with the target grows at every level:", bool((path.mean(axis=1).diff().dropna() > 0).all()))
print("nothing is folded:", bent.folded == 0 and bent.min_jacobian > 0)

# %%
fine = type(still.truth_frame)(truth.label.shape, truth.spacing, still.truth_frame.origin)
against_truth = pd.DataFrame(
    [dice(bent.warp_label(best.label, fine, s), truth.label, scheme) for s in bent.names], index=bent.names
)
fig = style.figure(9.0, 3.2)
for ax, (name, table) in zip(
    fig.subplots(1, 2, sharey=True), {"with the stack, at its slices": path, "with the truth": against_truth}.items()
):
    for i, s in enumerate(scheme.structures):
        ax.plot(bent.names, table[s.name], color=s.colour, marker="o", ls=style.line_style(i), label=s.name)
    ax.set(title=name)
    ax.grid(True)
fig.axes[0].set_ylabel("Dice of one warped atlas")
handles, labels = fig.axes[0].get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=4)
fig.suptitle("From coarse to fine: each level adds detail")
fig

# %% [markdown]
# What does the guard hold back? The same registration with weak restraints, without and with it:

# %% tags=["nbval-check-output"]
loose = {"iterations": 25, "bending": (0.05,) * 3, "stretch": 0.0, "least_jacobian": 0.0, "step_mm": (4.0, 3.0, 2.0)}
wild = {
    name: FreeFormDeformation(**loose, guard=guard).fit(
        still.label, best.label, still.spacing, best.spacing, affines[chosen[0]]
    )
    for name, guard in (("without the guard", False), ("with the guard", True))
}
print("without the guard something folds:", wild["without the guard"].folded > 0)
print("with it nothing does:", wild["with the guard"].folded == 0)

# %%
pd.DataFrame(
    {
        name: {
            "least determinant": d.min_jacobian,
            "folded places, %": 100 * d.folded,
            "share of the last level kept": d.levels[-1].kept,
            "Dice with the truth": dice(d.warp_label(best.label, fine), truth.label, scheme).mean(),
        }
        for name, d in ({"as it is": bent} | wild).items()
    }
).T

# %% [markdown]
# ## 6 · Label fusion, and what $h$ does
#
# Five atlases give five answers. The paper weighs them by how much their *images* look like the target's:
#
# $$S(x) = \arg\max_k \sum_n \sum_{y \in N(x)} \exp\!\Big(-\frac{\|f_x - f_{n,y}\|^2}{h}\Big)\, [\,l_n(y) = k\,]
# \tag{5}$$
#
# with patches $f$ of 7x7x1 voxels, windows $N$ of 7x7x3, and $h = 10$, on intensities in [0, 1]. Look at the weights.

# %%
result = refine(still.label, still.image, still.landmarks, atlases, still.spacing)
frame, five = result.frame, result.atlases
labels5 = [d.warp_label(a.label, frame) for d, a in zip(result.deformations, five)]
images5 = [d.warp_image(to_unit_range(a.image), frame) for d, a in zip(result.deformations, five)]
image = result.target_frame.linear(to_unit_range(still.image), frame)
truth_here = still.truth_frame.nearest(truth.label, frame)

wall = np.argwhere(truth_here == scheme.structure("RV wall").value)
inside = wall[((wall > 4) & (wall < np.array(frame.shape) - 5)).all(1)]
sample = np.random.default_rng(0).permutation(inside)[:400]
distances = []
for x in sample:
    cut = tuple(slice(c - r, c + r + 1) for c, r in zip(x, (3, 3, 0)))
    for i, j in np.random.default_rng(0).integers(-3, 4, (5, 2)):
        moved = (slice(cut[0].start + i, cut[0].stop + i), slice(cut[1].start + j, cut[1].stop + j), cut[2])
        distances += [float(((image[cut] - f[moved]) ** 2).sum()) for f in images5]
distances = np.array(distances)
typical = np.quantile(distances, (0.05, 0.5, 0.95))

fig = style.figure(9.0, 2.8)
ax = fig.subplots()
d = np.linspace(0, max(4.0, typical[2]), 200)
for i, h in enumerate((10.0, 1.0, 0.1)):
    ax.plot(d, np.exp(-d / h), color=style.INK, ls=style.line_style(i), label=f"h = {h:g}")
ax.axvspan(typical[0], typical[2], color=style.GRID, zorder=0, label="patches at the RV wall, 5 % to 95 %")
ax.axvline(typical[1], color=style.ACCENT, label="their median")
ax.set(xlabel="squared distance of two patches (49 values in [0, 1])", ylabel="weight", ylim=(0, 1.02))
ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
fig.suptitle("With h = 10 like and unlike patches weigh nearly alike, with h = 0.1 next to none counts")
fig

# %% tags=["nbval-check-output"]
candidates = {
    "majority": majority_vote(labels5),
    "eq. 5, h = 10 (paper)": fuse_labels(labels5, images5, image, threads=2),
    "eq. 5, h = 0.1": fuse_labels(labels5, images5, image, h=0.1, threads=2),
}
fused = pd.DataFrame({name: dice(label, truth_here, scheme) for name, label in candidates.items()}).T
rv_wall = fused["RV wall"]
weights = np.exp(-typical / 10)
print("h = 10: the 5 % nearest patches weigh less than 3 times the 5 % farthest:", bool(weights[0] < 3 * weights[2]))
print("h = 10 erodes the RV wall:", bool(rv_wall["eq. 5, h = 10 (paper)"] < 0.7 * rv_wall["majority"]))
print("the majority is best on average:", fused.mean(axis=1).idxmax() == "majority")

# %%
display(fused)
long_cuts(
    [("truth", truth_here), *candidates.items()], frame, "Fused label maps along the long axis (RV left, base up)"
)

# %% [markdown]
# With nearly equal weights, equation 5 takes the **mode of the labels in a box** of 8.75 x 8.75 x 6 mm. A wall of 3 mm
# fills a third of such a box at best; what lies on either side takes the rest and, a voxel off the wall's middle, the
# vote. A small $h$ listens to the image; but between two slices that are 10 mm apart, the target's image is a blend of
# both, and leads astray. The atlases were already fitted to the labels: their plain majority is better. Chosen on
# five hearts, then measured on ten others (`python benchmarks/atlas_settings.py`, read from
# benchmarks/results/atlas_fusion.csv):

# %%
measured = kept_runs.measured("atlas_fusion")
measured["stack"] = np.where(measured["shift_mm"] > 0, "breath-holds", "in place")
order = list(dict.fromkeys(measured["way"]))
table3 = measured.pivot_table(["dice", "hd"], ["stack", "way"], "structure", sort=False)
display(table3["dice"][list(scheme.names)].rename_axis(columns="Dice"))
display(table3["hd"][list(scheme.names)].rename_axis(columns="HD, mm"))

# %% [markdown]
# So `refine` takes the majority unless it is told otherwise (`fusion="non-local"`).
#
# ## 7 · All of it
#
# `refine(label, image, landmarks, atlases, spacing)` has done it above, in a few seconds. (The paper: 15 to 20
# minutes a heart.) It keeps every stage. Slide through them: the stack as it is, the affine majority, each level, the
# end.

# %%
stack_here = result.target_frame.nearest(still.label, frame)
stages = {"the stack": stack_here} | {name: result.stage(name) for name in result.stages} | {"truth": truth_here}
no_wall = {n: np.where(label == scheme.structure("RV wall").value, 0, label) for n, label in stages.items()}
slider = StagesWidget(no_wall, frame.spacing, scheme)
slider

# %% [markdown]
# The still twin. (The RV wall, two voxels thin, is left out: its surface would hide that of the cavity.)

# %%
names_shown = ["the stack", "affine", "FFD 40 mm", "fusion", "truth"]
render.mesh_grid(
    [[slider.meshes[n] for n in names_shown]],
    scheme,
    column_names=names_shown,
    title="From the stack to a smooth heart (seen from the front, base up)",
)

# %% tags=["nbval-check-output"]
between = interpolate_slices(still.label, still.spacing, frame)  # no atlas: distances to the outlines, slice to slice
three = {"nearest slice": stack_here, "shape-based interpolation": between, "refined": result.label}
scored = pd.DataFrame({name: dice(label, truth_here, scheme) for name, label in three.items()}).T
lv = [scheme.structure(n).value for n in ("LV cavity", "LV myocardium")]
whole_lv = {n: np.isin(label, lv) for n, label in (three | {"truth": truth_here}).items()}
curved = {n: surface_curvature(mask, frame.spacing) for n, mask in whole_lv.items()}
better = scored.loc["refined"] > scored.drop("refined").max()
print("stages:", ", ".join(result.stages))
print("refined is nearer to the truth in every structure:", bool(better.all()))
print("the LV's surface is smoother than the stack's:", bool(curved["refined"] < curved["nearest slice"]))
print("Dice back on the slices that were given above 0.9:", bool(result.agreement().drop("RV wall").min() > 0.9))

# %%
scored["LV curvature, 1/mm"] = pd.Series(curved)
display(scored)
print(f"the truth's curvature: {curved['truth']:.4f} 1/mm;", f"{sum(result.seconds.values()):.0f} s in all")

# %% [markdown]
# Curvature is the mean of $|H|$ over the surface, $1/R$ for a sphere of radius $R$
# (`shapelab.metrics.surface_curvature`). A staircase bends to and fro at each step, so it has more.
#
# ## 8 · What it cannot do
#
# **Slices out of line are followed.** Every slice's labels pull, also those of a slice that lies wrong. One can bring
# them into line first (`align=True`): the centre of the left ventricle runs down the heart along a smooth line, so draw
# a parabola through the centres of all slices, and push each slice by what it is off. The paper does not.

# %%
followed = refine(shifted.label, None, shifted.landmarks, atlases, shifted.spacing)
aligned = refine(
    shifted.label, None, shifted.landmarks, atlases, shifted.spacing, settings=RefinementSettings(align=True)
)
truth_there = shifted.truth_frame.nearest(truth.label, followed.frame)
shift_table = pd.DataFrame(
    {
        "in place, refined": dice(result.label, truth_here, scheme),
        "breath-holds, nearest slice": dice(
            followed.target_frame.nearest(shifted.label, followed.frame), truth_there, scheme
        ),
        "breath-holds, refined": dice(followed.label, truth_there, scheme),
        "breath-holds, aligned, refined": dice(
            aligned.label, shifted.truth_frame.nearest(truth.label, aligned.frame), scheme
        ),
    }
).T
display(shift_table)
long_cuts(
    [
        ("stack with breath-holds", followed.target_frame.nearest(shifted.label, followed.frame)),
        ("refined", followed.label),
        ("aligned, refined", aligned.frame.nearest(aligned.label, followed.frame)),
        ("truth", truth_there),
    ],
    followed.frame,
    "The refined heart is smooth, and bent where the slices were",
)

# %% tags=["nbval-check-output"]
print(
    "breath-holds cost more than .05 of Dice:",
    bool(shift_table.mean(axis=1)["in place, refined"] - shift_table.mean(axis=1)["breath-holds, refined"] > 0.05),
)
print(
    "alignment takes some of it away:",
    bool(
        shift_table.mean(axis=1)["breath-holds, aligned, refined"] > shift_table.mean(axis=1)["breath-holds, refined"]
    ),
)
print(
    "it is still better than the stack itself:",
    bool(shift_table.mean(axis=1)["breath-holds, refined"] > shift_table.mean(axis=1)["breath-holds, nearest slice"]),
)

# %% [markdown]
# The paper shows such stacks (its Fig. 13) and calls the result free of artefacts, by eye. Here the truth is known, and
# the eye is too kind: a smooth heart is not yet a right one. Alignment takes part of the cost away, and no more: a
# shift, tilt or bend of the whole stack looks like a heart that lies so.
#
# **The apex is a guess.** Below the last slice nothing pulls; there the atlases' own apices are seen, carried along by
# what lies above. How good is the guess, slice by slice?

# %%
z = frame.positions()[2]
last = (still.label.shape[2] - 1) * still.spacing[2]


def per_slice(label, structure):
    value = scheme.structure(structure).value
    a, b = label == value, truth_here == value
    total = a.sum((0, 1)) + b.sum((0, 1))
    return np.where(total > 0, 2 * (a & b).sum((0, 1)) / np.maximum(total, 1), np.nan)


fig = style.figure(9.0, 3.0)
ax = fig.subplots()
for i, name in enumerate(("LV cavity", "LV myocardium", "RV cavity")):
    s = scheme.structure(name)
    ax.plot(z, per_slice(result.label, name), color=s.colour, ls=style.line_style(i), label=name)
ax.axvspan(last, z[-1], color=style.GRID, zorder=0)
for k in range(still.label.shape[2]):
    ax.axvline(k * still.spacing[2], color=style.MUTED, lw=0.5)
heart_z = z[truth_here.any((0, 1))]
ax.set(xlim=(heart_z[0] - 4, heart_z[-1] + 4), ylim=(0, 1.02), xlabel="z (mm), base → apex")
ax.set(ylabel="Dice with the truth")
ax.legend(loc="lower center")
fig.suptitle("Dice in each 2 mm slice; thin lines: slices that were scanned; grey: below the last one")
fig

# %% [markdown]
# ## 9 · Landmarks, or the labels alone?
#
# The paper (its Fig. 12): "the non-rigid refinement failed completely if the affine transform is initialised from the
# tissue classes". A registration of whole label maps can end wrongly turned, as a ventricle is nearly round. How
# wrongly may it be turned before the deformation fails? The same atlas, its start turned about the long axis by more
# and more:

# %%
centre = points.mean(0)
angles = (0, 60, 180)


def turned(angle):
    """The landmark affine after a turn by `angle` degrees about the target's long axis."""
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    turn[:3, 3] = centre - turn[:3, :3] @ centre
    return affines[chosen[0]] @ turn


starts = [ffd.fit(still.label, best.label, still.spacing, best.spacing, turned(a)) for a in angles]
begin = [dice(d.warp_label(best.label, fine, "affine"), truth.label, scheme).mean() for d in starts]
end = [dice(d.warp_label(best.label, fine), truth.label, scheme).mean() for d in starts]

# %% [markdown]
# Landmarks can also be *read from the label map* (`landmarks_from_label`): the valve from the last basal slice, the
# apex from how fast the cross-sections shrink, the insertion points from where septum and RV part. With those of
# target and atlas made by one rule, what is wrong with the rule cancels. That is the way for real label maps without
# landmarks.

# %% tags=["nbval-check-output"]
read = landmarks_from_label(still.label, still.spacing, scheme)
off = pd.Series({n: np.linalg.norm(read[n] - still.landmarks[n]) for n in names})
from_labels = refine(still.label, None, None, atlases, still.spacing)
dice_labels = dice(from_labels.label, still.truth_frame.nearest(truth.label, from_labels.frame), scheme)
print("landmarks read from labels:", len(read), "| all within 25 mm:", bool(off.max() < 25))
print("a start turned by 60 degrees costs less than .1 of Dice:", bool(end[1] > end[0] - 0.1))
print("one turned by 180 degrees fails:", bool(end[-1] < end[0] - 0.2))
by_known = scored.loc["refined", list(scheme.names)].mean()
print("landmarks from labels are as good, within .03 of Dice:", bool(abs(dice_labels.mean() - by_known) < 0.03))

# %%
fig = style.figure(9.0, 3.0)
ax, bars = fig.subplots(1, 2)
ax.plot(angles, begin, color=style.MUTED, marker="s", label="start")
ax.plot(angles, end, color=style.ACCENT, marker="o", label="after the deformation")
ax.set(xlabel="start turned by (degrees)", ylabel="mean Dice with the truth", ylim=(0, 1), xticks=angles)
ax.legend()
ax.grid(True)
bars.barh(range(6), off, color=style.ACCENT, alpha=0.6)
bars.set_yticks(range(6), [n.replace(" wall", "") for n in names])
bars.invert_yaxis()
bars.set(xlabel="read from labels against known (mm)")
fig.suptitle("Left: why a start is needed. Right: landmarks that the labels give")
fig

# %% [markdown]
# ### What the paper found, and what we find
#
# | | paper | here |
# |---|---|---|
# | Dice (LV cavity, wall, RV cavity, wall) | .94 .86 .91 .56, a network's labels | .92 .80 .89 .49, true labels |
# | the same, slices in place | | .98 .96 .96 .85 |
# | breath-holds | smooth and "artefact-free" by eye | smooth, but the slices' shifts are in it |
# | fusion | eq. 5, $h = 10$ | erodes the RV wall; the majority of the same atlases does better |
# | start from landmarks | else it "failed completely" | may be 60 degrees off; labels give landmarks as good |
# | time a heart | 15 to 20 minutes | seconds |

# %% [markdown]
# ### After a network
#
# Up to here true labels went in. In the paper a network's do ([notebook 10](10_landmarks_sslln.ipynb)), and its atlases
# are hearts labelled by the same network trained on high resolution. **As measured beforehand** on 60 healthy
# phantoms, voxels of 2.5 x 2.5 x 3.3 mm (`shapelab experiment sslln --table 3`); the paper's numbers in parentheses:

# %%
display(sslln_tables.layout(kept_runs.measured("sslln_table3")))

# %% [markdown]
# Dice gains little, distances much (the outer LV: 16.5 to 7.7 mm): what goes are islands, steps and a flat end, as the
# atlases have none. The RV wall cannot come back where the atlases' own wall, found by a network, has holes. And to
# bring slices into line first changes nothing: a network that looks at all slices at once follows their shifts in part
# only.
#
# The same refinement from other starts (the paper's Fig. 12, `--table 5`): the network's landmarks, landmarks read from
# its labels, and no landmarks at all, but an affine map that makes the tissue classes overlap.

# %%
starts = kept_runs.measured("sslln_initialisation")
starts.groupby(["start", "label"], sort=False)[["dice", "hd"]].mean().unstack("label").round(3)

# %% [markdown]
# The network's landmarks are the best start (outer LV 7.6 mm, against 10.4 with landmarks read from its labels and 8.2
# with classes), and no start fails. The paper's failed without landmarks; ours, as seen above, forgives a start that is
# many degrees off.
#
# ## 10 · On real hearts
#
# ACDC outlines the RV cavity, not its wall, so the atlases are phantoms of that scheme. Its stacks have no landmarks:
# the label maps give them. There is no 2 mm truth; what can be asked is whether the outlines stay where the annotator
# drew them.

# %%
real = course.real_hearts(run.pick(5, 10, 20))
if real is not None:
    shelf = phantom_atlases(run.pick(8, 20, 40), seed=300 + SEED, scheme=CARDIAC, images=False)
    same_spacing = RefinementSettings(out_spacing=refinement.SPACING)
    rows, kept = [], {}
    for subject in list(real.filter(phase="ED"))[: run.pick(2, 5, 10)]:
        subject = subject.load()
        one = refine(subject.label, None, None, shelf, tuple(subject.spacing), CARDIAC, same_spacing)
        kept[f"{subject.id}\n({subject.facts['group']})"] = (
            refinement.ways(subject.label, one.target_frame, one.label, one.frame),
            one.frame,
        )
        rows.append({"heart": subject.id, "group": subject.facts["group"], **one.agreement()})
    display(pd.DataFrame(rows).set_index("heart").rename_axis("Dice back on the slices given"))
    display(
        render.mesh_grid(
            [[heart_meshes(w, f.spacing, CARDIAC) for w in maps.values()] for maps, f in kept.values()],
            CARDIAC,
            row_names=list(kept),
            column_names=["the stack", "shape-based interpolation", "refined"],
            title="ACDC at ED, before and after",
            width=7.0,
        )
    )

# %% [markdown]
# The same for ACDC patients at large, **as measured beforehand** (`shapelab.experiments.sslln.refinement_acdc.run()`,
# read from benchmarks/results/refinement_acdc_summary.csv):

# %%
whole = kept_runs.measured("refinement_acdc_summary")
wide = whole[whole["measure"].isin(["dice", "hd", "curvature"])].pivot_table(
    ["mean", "worst"], ["measure", "way"], "structure", sort=False
)
print("hearts:", int(whole["n"].max()))
for measure, unit in (("dice", "Dice back"), ("hd", "HD back, mm"), ("curvature", "curvature, 1/mm")):
    display(wide.loc[measure].dropna(axis=1).rename_axis(unit))

# %% [markdown]
# In 80 patients the refined outlines keep a Dice of .98, .95 and .98 with those drawn (RV cavity, myocardium, LV
# cavity), and in every heart each surface is smoother than the stack's. Be honest with it:
#
# - **Shape-based interpolation drifts less** (.995, .988, .996), since it leaves each slice as it is, and at the two
#   cavities it is nearly as smooth (.068 against .067 and .056 against .054 per mm). What it has not got is an apex; it
#   ends flat, which is part of why its outer surface is rougher (.055 against .046).
# - The outlines drift most where slices are 5 mm apart and out of line (11 stacks: myocardium .87, against .96 in the
#   others): control points 10 mm apart cannot follow two neighbours that contradict each other.
# - The RV's greatest distances are long (median 7 mm, worst 28): thin ends of the RV beside the septum, drawn in one
#   slice and not in the next, which the atlases end elsewhere.
# - Volumes grow by 4 to 6 % on average, nearly all of it beyond the first and the last slice.
#
# ## Exercise 1: how many landmarks?
#
# Without the apex and the mitral valve, four landmarks remain. Fit the affine map of the first atlas with those four
# alone. What does `landmark_affine` say, and why? Answer with the number of directions in which the four points are
# spread (3 in space, 2 in a plane, 1 on a line).

# %%
directions = None  # your answer: 1, 2 or 3

# %%
four = np.array([still.landmarks[n] for n in names[:4]])
spread = np.linalg.svd(four - four.mean(0), compute_uv=False)
course.check(
    "1",
    directions,
    int((spread > 0.02 * np.linalg.norm(spread)).sum()),
    wrong={"Four points can span space. Do these? Look at their z.": 3},
    hint="np.linalg.svd of the centred points: how many singular values are not about 0?",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# four = np.array([still.landmarks[n] for n in names[:4]])
# directions = int((np.linalg.svd(four - four.mean(0), compute_uv=False) > 1).sum())
# ```
#
# All four lie in one short-axis plane, so nothing says how long the heart is: `landmark_affine` raises a `DataError`
# that names the plane instead of answering with nonsense.
# </details>
#
# ## Exercise 2: the wall that loses every vote
#
# A wall is 3 voxels thick in the first axis and endless in the others. Equation 5 with equal weights takes the mode in
# a window of 7 x 7 x 3. At the wall's middle, what share of the window's voxels is wall?

# %%
share = None  # your answer, a number between 0 and 1

# %%
course.check(
    "2",
    share,
    3 / 7,
    tolerance=0.01,
    wrong={"That is the thickness in voxels over all of the window's voxels.": 3 / 147, "7 - 3 is the others.": 4 / 7},
    hint="Along the wall every voxel of the window is wall; across it three of seven.",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# share = 3 / 7
# ```
#
# Below one half. Whether it loses depends on who the others are: with one structure on either side (cavity and lung)
# each has 2 / 7 and the wall still wins in its middle, but not one voxel off it, where it is 3 against 3 of 7; a wall
# of two voxels is gone sooner. Fused from five atlases that disagree a little, it thins until it breaks.
# </details>
#
# ## Exercise 3: fewer atlases
#
# The paper fuses five. Is one enough? Refine the still stack with `n_atlases=1` and give the mean Dice over the four
# structures with the truth.

# %%
dice_of_one = None  # your answer

# %%
alone = refine(still.label, None, still.landmarks, atlases, still.spacing, settings=RefinementSettings(n_atlases=1))
alone_dice = dice(alone.label, still.truth_frame.nearest(truth.label, alone.frame), scheme)
course.check(
    "3",
    dice_of_one,
    float(alone_dice.mean()),
    tolerance=0.005,
    wrong={"That is of five atlases.": float(scored.loc["refined", list(scheme.names)].mean())},
    hint="RefinementSettings(n_atlases=1); the truth in its frame: "
    "still.truth_frame.nearest(truth.label, result.frame).",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# one = refine(still.label, None, still.landmarks, atlases, still.spacing, settings=RefinementSettings(n_atlases=1))
# dice_of_one = dice(one.label, still.truth_frame.nearest(truth.label, one.frame), scheme).mean()
# ```
#
# Usually a little less than with five: the majority averages out what each atlas has of its own.
# </details>
#
# ## What to take along
#
# - A whole heart is a strong prior: it fills in between slices and guesses an apex, without any training.
# - A start by landmarks is half of the work; the other half is a deformation that cannot fold.
# - Smooth is not the same as right. Ask for the truth where there is one, and for the outlines given where there is
#   none.
# - A parameter such as $h$ means nothing without the units of what it divides.
