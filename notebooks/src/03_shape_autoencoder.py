# %% [markdown]
# # 03 · The shape autoencoder
#
# | | |
# |---|---|
# | **Goal** | read the ACNN paper's autoencoder beside its code, train it in the open, and judge what it has learned |
# | **Time** | 45 minutes of reading; about three quarters of a minute of computing |
# | **You need** | PyTorch; notebook 02 for what it has to beat |
#
# PCA draws flat sheets through shapes. An **autoencoder** may bend. An encoder $f$ squeezes a label map $y$ through
# 64 numbers, a decoder $g$ rebuilds it, and both learn from cross-entropy,
#
# $$h = f(\tilde y)\in\mathbb{R}^{64}, \qquad
# \mathcal{L}_x = -\frac{1}{|\Omega|}\sum_{v\in\Omega} \log\,\mathrm{softmax}\big(g(h)\big)_{v,\;y_v} ,$$
#
# where $\tilde y$ is $y$ with some labels swapped at random: the network has to repair them, so it has to know what a
# heart looks like. The network is that of Oktay et al. (ACNN, IEEE TMI 2018), Table V; later in the paper (and the
# course) its encoder judges the output of a segmentation network, and its codes are used to tell diseases apart.

# %%
import matplotlib
import numpy as np
import pandas as pd
import torch
from IPython.display import display

import shapelab
from shapelab import course
from shapelab.models.acnn import AEConfig, Autoencoder
from shapelab.show import charts, meshes, render, slices, style

DATA = "phantom"  # or "acdc"
SEED = 0
run = course.start("03", DATA, SEED)

# %% [markdown]
# ## 1 · Table V, beside the code
#
# The paper gives its autoencoder in a table. `shapelab/models/acnn/autoencoder.py` has a line for each row. Here a
# label map of the paper's size is sent through the code, and every layer says what comes out of it. (On torch's
# `meta` device, which computes shapes and no numbers.)

# %%
table_v = [
    "Conv 3x3x3, s(2,2,1), 16",
    "Conv 3x3x3, 16",
    "Conv 3x3x3, s(2,2,2), 32",
    "Conv 3x3x3, 32",
    "Conv 3x3x3, s(2,2,2), 64",
    "Conv 3x3x3, 64",
    "Conv 3x3x3, s(3,3,3), 1",
    "FC 64, no non-linearity",
    "FC 125",
    "Deconv 7x7x7, s(3,3,3), 64",
    "Conv 3x3x3, 64",
    "Deconv 4x4x4, s(2,2,2), 32",
    "Conv 3x3x3, 32",
    "Deconv 4x4x4, s(2,2,2), 16",
    "Conv 3x3x3, 16",
    "Deconv 4x4x1, s(2,2,1), 16",
    "Conv 3x3x3, C",
]
paper = AEConfig.profile("paper")
with torch.device("meta"):
    network = Autoencoder(paper).eval()
    layers = [*network.encoder, network.to_code, network.from_code, *network.decoder]
    rows = []
    for layer in layers:
        layer.register_forward_hook(
            lambda layer, _, out: rows.append(
                {"out": "x".join(map(str, out.shape[1:])), "parameters": sum(p.numel() for p in layer.parameters())}
            )
        )
    network(torch.zeros(1, paper.n_classes, *paper.shape))
pd.DataFrame(rows, index=pd.Index(table_v, name="Table V"))

# %% tags=["nbval-check-output"]
counts = {name: sum(p.numel() for p in Autoencoder(AEConfig.profile(name)).parameters()) for name in ("paper", "quick")}
print("parameters, paper profile:", f"{counts['paper']:,d}", "| quick profile:", f"{counts['quick']:,d}")
print(
    "convolutions:",
    sum(isinstance(m, torch.nn.Conv3d) for m in network.modules()),
    "| transposed:",
    sum(isinstance(m, torch.nn.ConvTranspose3d) for m in network.modules()),
    "| fully connected:",
    sum(isinstance(m, torch.nn.Linear) for m in network.modules()),
)
print("coarsest scale:", paper.cells, "->", rows[6]["out"], "->", rows[7]["out"], "codes")

# %% [markdown]
# Why has the `quick` network *more* parameters? Its grid has 16 times fewer voxels, and its coarsest scale 2 x 2 x 2
# cells instead of 5 x 5 x 5. One channel of 8 cells could not feed 64 codes, so it gets 16 channels there, 128
# numbers against the paper's 125, and the layers on both sides of it grow. The other kernels are the paper's.
# Whatever the paper leaves open, and what we chose, stands at the top of that file.
#
# ## 2 · What the network sees
#
# Hearts on the grid, as in notebook 02. Two things happen to each of them, anew in every epoch:
#
# - **affine augmentation**: a little rotation, scale, stretch, shear and shift. Hearts vary more than a hundred
#   patients show;
# - **label swap**: every voxel gets the label of another class with probability 0.1, at the input only. The target
#   stays clean.

# %% tags=["nbval-check-output"]
from shapelab.augment import random_affine, swap_labels

config = AEConfig.profile(run.profile)
hearts = run.hearts(n=run.pick(quick=60, full=400, paper=1000))
labels, table = shapelab.stack_labels(hearts, config.grid, align="rigid")
train, test = hearts.split(test=0.2, seed=SEED)
is_test = table["patient"].isin(test.patients).to_numpy()
learn, unseen = labels[~is_test], labels[is_test]

generator = torch.Generator().manual_seed(SEED)
one = torch.from_numpy(labels[:1])
moved = random_affine(one.repeat(3, 1, 1, 1), config.spacing, config.affine, generator)
swapped = swap_labels(one, config.swap, config.n_classes, generator)

print("learn from", learn.shape, "| try on", unseen.shape)
share = float((swapped != one).float().mean())
print(f"voxels swapped: {share:.2f} | labels still in range: {int(swapped.max()) < config.n_classes}")
print("the affine maps differ:", not bool((moved[0] == moved[1]).all()))

# %%
shown = [
    ("the heart", labels[0]),
    *((f"moved, {i + 1}", m.numpy()) for i, m in enumerate(moved)),
    ("swapped", swapped[0].numpy()),
]
fig = style.figure(9.0, 2.3)
k = config.shape[2] // 2
colours = matplotlib.colors.ListedColormap(["white", *hearts.scheme.colours])
for ax, (name, one_map) in zip(fig.subplots(1, len(shown)), shown):
    ax.imshow(one_map[:, :, k].T, cmap=colours, vmin=0, vmax=3, interpolation="nearest")
    ax.set(title=name)
    ax.set_axis_off()
fig.suptitle("One slice, as the network gets it")
fig

# %% [markdown]
# ## 3 · Training, in the open
#
# The whole of it, once, in plain torch. Everything that `shapelab.training.fit` does later is this loop, with
# safeguards.

# %% tags=["nbval-check-output"]
from shapelab.device import autocast, best_device
from shapelab.training import Batches
from shapelab.training.losses import cross_entropy, onehot

device = best_device()
torch.manual_seed(SEED)
model = Autoencoder(config).to(device)
optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
batches = Batches(torch.from_numpy(learn), batch_size=config.batch, seed=SEED)

losses, snapshots = [], []
for epoch in range(run.pick(quick=3, full=10, paper=10)):
    model.train()
    for y in batches(epoch):  # y: (8, X, Y, Z) integers
        y = random_affine(y.to(device), config.spacing, config.affine)
        noisy = onehot(swap_labels(y, config.swap, config.n_classes), config.n_classes)  # (8, C, X, Y, Z)
        with autocast(device):  # bf16 where the processor does it
            logits = model(noisy)
        loss = cross_entropy(logits, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    with torch.no_grad():  # what it can draw by now: batch statistics, as in training
        first = onehot(torch.from_numpy(unseen[: config.batch]).to(device), config.n_classes)
        snapshots.append(model(first)[0].softmax(0).cpu().numpy())

print("steps an epoch:", len(batches), "| batch:", config.batch)
print("the loss fell by half in three epochs:", bool(np.mean(losses[-5:]) < 0.5 * np.mean(losses[:2])))

# %%
fig = style.figure(9.0, 2.6)
first, *rest = fig.subplots(1, 2 + len(snapshots[-3:]), width_ratios=(1.9, *[1] * (1 + len(snapshots[-3:]))))
first.plot(np.arange(1, len(losses) + 1), losses, color=style.ACCENT)
first.set(title="loss of each step", xlabel="step", ylabel="cross-entropy", ylim=(0, None))
first.grid(True)
pictures = [(f"epoch {len(snapshots) - len(snapshots[-3:]) + i + 1}", p) for i, p in enumerate(snapshots[-3:])]
pictures.append(("the heart", hearts.scheme.onehot(unseen[0])))
for ax, (name, p) in zip(rest, pictures):
    ink = np.ones((*config.shape[:2], 3))
    for c, s in enumerate(hearts.scheme.structures, 1):
        ink *= 1 - p[c, :, :, k, None] * (1 - style.rgb(s.colour))
    ax.imshow(ink.transpose(1, 0, 2))
    ax.set(title=name)
    ax.set_axis_off()
fig.suptitle("The first steps: the loss, and what the network draws of an unseen heart")
fig

# %% [markdown]
# First it learns that most voxels are background; then where the ventricles usually are; only much later whose heart
# it is. The fall of the loss flatters: it is mostly background.
#
# ## 4 · The same by `fit`, to the end
#
# `train_autoencoder` writes the same step as a function `step(batch) -> dict of losses` and hands it to `fit`, which
# adds a learning-rate schedule, a history that is also a CSV, and checkpoints. To see a whole training in seconds, it
# runs here on a **coarse** grid: voxels of 6 x 6 x 10 mm, one eighth of their number.

# %%
from dataclasses import replace

from shapelab.models.acnn import train_autoencoder
from shapelab.training import Run

coarse = replace(
    AEConfig.profile("quick"), shape=(24, 24, 12), spacing=(6.0, 6.0, 10.0), bottleneck=64, learning_rate=3e-3
)
coarse_labels, _ = shapelab.stack_labels(hearts, coarse.grid, align="rigid")
coarse_learn, coarse_unseen = coarse_labels[~is_test], coarse_labels[is_test]

coarse_space, history = train_autoencoder(
    coarse_learn,
    replace(coarse, epochs=run.pick(quick=25, full=120, paper=120)),
    run=Run(seed=SEED, progress=False),
    validation=coarse_unseen,
)
charts.history(history, title=f"{len(history)} epochs on {len(train.patients)} patients, coarse grid")

# %% tags=["nbval-check-output"]
columns = [c for c in history.table.columns if c != "seconds"]
print("a row an epoch:", len(history) == history.table.index[-1] + 1, "| columns:", columns)
print("the loss fell by half:", bool(history["loss"][-1] < 0.5 * history["loss"][0]))
print("Dice of unseen patients above 0.5 at the end:", bool(history.last["val dice"] > 0.5))
print(
    "a heart's code:", coarse_space.encode(coarse_unseen[:1]).shape, "->", coarse_space.decode(coarse_space.mean).shape
)

# %% [markdown]
# The Dice of *unseen, clean* hearts (`val dice`) lies above that of the training maps, which are moved and noisy. And
# what would PCA have given, with as many codes, on the same hearts?

# %%
from shapelab.experiments.shipped import fit_pca, phantom_autoencoder
from shapelab.metrics import dice_table


def reconstruct(space, maps):
    """Label maps -> label maps rebuilt from their codes."""
    parts = [space.decode(space.encode(part)).argmax(1) for part in np.array_split(maps, -(-len(maps) // 16))]
    return np.concatenate(parts).astype(np.uint8)


coarse_pca = fit_pca(coarse_learn, coarse.grid, n_codes=64)
for name, one in {"PCA": coarse_pca, "autoencoder": coarse_space}.items():
    print(
        f"{name:12s}",
        dice_table(reconstruct(one, coarse_unseen), coarse_unseen, hearts.scheme).mean().round(3).to_dict(),
    )

# %% [markdown]
# With few hearts and a short training, PCA wins: it has its optimum in closed form, the network has to search for it.
# Networks pay where there are many shapes and patience.
#
# ### Killed and resumed
# Long trainings die: a full disk, a closed laptop. Everything random in `fit` is a function of (seed, epoch, step),
# so a checkpoint of weights, optimiser and two counters is enough to continue *as if nothing had happened*. Here a
# small network is killed in the middle of an epoch and resumed, beside one that ran through:

# %% tags=["nbval-check-output"]
import tempfile

from shapelab.training import FitSettings, fit


class Killed(Exception):
    """The power is gone."""


def train_a_little(folder=None, kill_at=None, epochs=4):
    """Train a small network; raise Killed before step number `kill_at`."""
    torch.manual_seed(SEED)
    network, steps = Autoencoder(coarse), iter(range(10_000))

    def step(y):
        if next(steps) == kill_at:
            raise Killed
        y = random_affine(y, coarse.spacing, coarse.affine)
        return {"loss": cross_entropy(network(onehot(swap_labels(y, 0.1, 4), 4)), y)}

    batches = Batches(torch.from_numpy(coarse_labels[:32]), batch_size=8, seed=SEED)
    settings = FitSettings(checkpoint_seconds=0)  # write one after every step: only here
    fit(step, network, batches, epochs, run=Run(checkpoint=folder, device="cpu", progress=False), settings=settings)
    return torch.cat([p.detach().ravel() for p in network.parameters()])


unbroken = train_a_little()
with tempfile.TemporaryDirectory() as folder:
    try:
        train_a_little(folder, kill_at=6)
        print("it was not killed")
    except Killed:
        print("killed in epoch 2 of 4, before step 7 of 16")
    resumed = train_a_little(folder)
print("the resumed run ends in the same weights, bit by bit:", bool((unbroken == resumed).all()))

# %% [markdown]
# ## 5 · Weights that took longer
#
# The weights that come with the course were trained once, at this profile's grid, on phantoms alone: they have seen
# no real heart, and no data set's licence touches them. This cell loads them; where they are missing it trains them,
# which takes a while.

# %%
space = phantom_autoencoder(run.profile, progress=False)
print("learned from:", space.metadata.get("data"), "|", space.grid, "|", space.n_codes, "codes")
if space.grid != config.grid:
    raise shapelab.UsageError("the shipped space has another grid than this profile")

# %% [markdown]
# Beside it the linear space of notebook 02 with as many codes, fitted on the hearts of this notebook. Both on the
# **same unseen patients**:

# %%
linear = fit_pca(learn, config.grid, n_codes=64)
candidates = {"PCA": linear, "autoencoder": space}
rebuilt = {name: reconstruct(s, unseen) for name, s in candidates.items()}
scores = {name: dice_table(r, unseen, hearts.scheme, table.index[is_test]) for name, r in rebuilt.items()}


def dice_strips(scores, title):
    """Every heart's Dice as a point, a panel a structure, a column a space; the bar is the mean."""
    fig = style.figure(9.0, 3.2)
    rng = np.random.default_rng(0)
    lowest = min(float(values.min().min()) for values in scores.values())
    for ax, s in zip(fig.subplots(1, 3, sharey=True), hearts.scheme.structures):
        for i, values in enumerate(scores.values()):
            x = i + rng.uniform(-0.18, 0.18, len(values))
            ax.plot(x, values[s.name], "os^D"[i], color=s.colour, ms=3.5, mfc="white" if i % 2 else None)
            ax.hlines(values[s.name].mean(), i - 0.3, i + 0.3, color=style.INK, lw=1.8)
        ax.set_xticks(range(len(scores)), [n.replace(", ", ",\n") for n in scores])
        ax.set(title=s.name, ylim=(lowest - 0.05, 1), ylabel="Dice" if ax is fig.axes[0] else "")
        ax.grid(True, axis="y")
    fig.suptitle(title)
    return fig


print(pd.DataFrame({name: s.mean() for name, s in scores.items()}).round(3).to_string())
dice_strips(scores, f"Reconstruction of {len(test.patients)} unseen patients from 64 numbers")

# %% tags=["nbval-check-output"]
from shapelab.data.geometry import count_components

means = {name: float(s.mean().mean()) for name, s in scores.items()}
print("the autoencoder beats PCA of labels with as many codes:", means["autoencoder"] > means["PCA"])
print("both above 0.75:", min(means.values()) > 0.75)

# %% [markdown]
# Read this with care. The shipped network has seen many more hearts than this PCA; and the *nested* description of
# notebook 02 lifts PCA by several hundredths without any network. **As an encoder of clean shapes, a well-described
# linear space is hard to beat.** So why a network?
#
# ## 6 · What it is for: repairing
#
# A prior is there for shapes that are *wrong*. Damage the unseen hearts in three ways, send them through both spaces,
# and compare what comes out with the undamaged heart. A heart's three structures are three pieces; more pieces are
# debris.

# %%
noise = torch.Generator().manual_seed(1)
gap = [k - 2, k - 1, k, k + 1]
without = unseen.copy()
without[:, :, :, gap] = 0
damages = {
    "none": unseen,
    "10 % of voxels swapped": swap_labels(torch.from_numpy(unseen), 0.1, config.n_classes, noise).numpy(),
    "30 % of voxels swapped": swap_labels(torch.from_numpy(unseen), 0.3, config.n_classes, noise).numpy(),
    "four slices missing": without,
}


def pieces(maps):
    """Pieces of a heart's three structures, mean over hearts."""
    return np.mean([sum(count_components(m == v) for v in (1, 2, 3)) for m in maps])


rows = {}
repaired = {}
for damage, maps in damages.items():
    repaired[damage] = {name: reconstruct(s, maps) for name, s in candidates.items()}
    given = {"as given": maps, **repaired[damage]}
    dice = {("Dice", n): dice_table(m, unseen, hearts.scheme).mean().mean() for n, m in given.items()}
    rows[damage] = dice | {("pieces", n): pieces(m) for n, m in repaired[damage].items()}
pd.DataFrame.from_dict(rows, orient="index").rename_axis("damage")

# %%
chosen = sorted({*slices.pick_slices(unseen[0], config.shape[2], 4), k})
for damage in ("10 % of voxels swapped", "four slices missing"):
    shown = [("the heart", unseen[0]), ("as given", damages[damage][0])]
    shown += [(f"out of\n{n}", r[0]) for n, r in repaired[damage].items()]
    title = f"Damage: {damage}"
    display(
        slices.compare_slices(
            shown, config.spacing, hearts.scheme, indices=chosen, contours=False, margin=4, title=title
        )
    )

# %% tags=["nbval-check-output"]
result = pd.DataFrame.from_dict(rows, orient="index")
drop = result["Dice"]["autoencoder"]["none"] - result["Dice"]["autoencoder"]["10 % of voxels swapped"]
print("noise as in training costs the autoencoder less than 0.03 of Dice:", bool(drop < 0.03))
print(
    "its hearts come in fewer pieces than PCA's, whatever the damage:",
    bool((result["pieces"]["autoencoder"] < result["pieces"]["PCA"]).all()),
)

# %% [markdown]
# Two lessons in one table. The network repairs *what it was trained to repair*: noise of the kind it saw costs it
# next to nothing, three times as much costs a lot, and a gap, which it never met, shifts its codes, so that a heart
# comes back that is plausible and too small. PCA cannot do but project, and for the overlap that is not bad at all.
# But the network's reconstruction is always a *heart*, smooth and in one piece; PCA's is ragged. **A prior makes an
# answer plausible. It does not make it right.**
#
# ## 7 · Two things done after training
#
# **Statistics.** Batch normalisation remembers mean and variance of what it saw in training: maps with swapped
# labels. In use the encoder gets clean ones. `measure_statistics` sends clean maps through once and notes *their*
# statistics. What if we had left the others?

# %%
import copy

from shapelab.models.acnn import AESpace, measure_statistics

noisy_model = copy.deepcopy(space.model)
noisy_learn = swap_labels(torch.from_numpy(learn), config.swap, config.n_classes, noise)
measure_statistics(noisy_model, noisy_learn)
as_trained = AESpace(space.config, space.scheme, model=noisy_model)
comparison = {}
for name, one in {"clean maps": space, "swapped maps (training)": as_trained}.items():
    for damage in ("none", "10 % of voxels swapped"):
        score = dice_table(reconstruct(one, damages[damage]), unseen, hearts.scheme).mean().mean()
        comparison[f"statistics of {name}", f"input: {damage}"] = score
pd.Series(comparison).unstack().rename_axis("Dice with the heart")

# %% [markdown]
# Each set fits its own kind of input. The difference is small, and free. (`val dice` of section 4 was measured this
# way.)
#
# **Principal axes.** Nothing in the loss says *which* 64 axes the codes should use: any rotation of them gives the
# same function. So the space is turned once, until the training codes are uncorrelated and sorted by variance (two
# matrix products, folded into the two linear layers). Traversals and histograms become readable, and nothing else
# changes:

# %% tags=["nbval-check-output"]
codes = space.encode(learn)
order = bool((np.diff(space.sigma) <= 1e-4).all())
print("sigma falls from the first code to the last:", order)
rotation, _ = np.linalg.qr(np.random.default_rng(SEED).normal(size=(64, 64)))
spun = Autoencoder(config).to(device).eval()
spun.load_state_dict(space.model.state_dict())
turn = torch.from_numpy(rotation.astype(np.float32)).to(device)
with torch.no_grad():
    spun.to_code.weight.copy_(turn.T @ spun.to_code.weight)
    spun.to_code.bias.copy_(turn.T @ spun.to_code.bias)
    spun.from_code.weight.copy_(spun.from_code.weight @ turn)
    maps = onehot(torch.from_numpy(unseen[:4]).to(device), config.n_classes)
    same = torch.allclose(space.model(maps), spun(maps), atol=1e-2)
print("another rotation of the codes, the same function:", bool(same))

# %% [markdown]
# ## 8 · Looking into it
#
# The first three directions, from $-2\sigma$ to $+2\sigma$:

# %%
from shapelab.latent import traverse

rows = []
for i in range(3):
    path = traverse(space, i, steps=5)
    rows.append([meshes.heart_meshes(p, config.spacing, space.scheme) for p in path.probabilities])
render.mesh_grid(
    rows,
    space.scheme,
    row_names=[f"code {i}" for i in range(3)],
    column_names=["-2 σ", "-1 σ", "mean", "+1 σ", "+2 σ"],
    title="Walking through the autoencoder's space",
    width=7.5,
)

# %% [markdown]
# Compare with the same picture of notebook 02: size first again. The walls stay whole although nobody told the
# network that a wall is closed.
#
# ## 9 · The paper and we
#
# | | ACNN paper | here, `quick` |
# |---|---|---|
# | grid | 120 x 120 x 60 at 1.25 x 1.25 x 2 mm | 48 x 48 x 24 at 3 x 3 x 5 mm |
# | hearts | 1200 healthy people, high resolution, no motion (UK Digital Heart) | synthetic, 10 mm slices, shifted |
# | classes | background, LV cavity, LV myocardium | the same and the RV cavity, in every profile |
# | layers | Table V | Table V (more channels at the coarsest scale) |
# | optimiser | "gradient descent", rate fixed at 0.001 | Adam (our choice), one cycle of the rate; `paper`: fixed |
# | label swap, affine | p = 0.1; ranges not given | p = 0.1; ranges in `AEConfig.affine` |
# | order of codes | as they come | rotated to principal axes |
# | reconstruction Dice | not reported | above |
#
# The paper's profile is in the code (`SHAPELAB_PROFILE=paper`), for whoever has a GPU and a thousand hearts.
#
# ## 10 · Exercises
#
# ### Exercise 1: count
# How many parameters has `conv(16, 32)`, a 3 x 3 x 3 convolution from 16 to 32 channels *without* bias, followed by
# batch normalisation (a scale and a shift for every channel)?

# %%
answer_1 = None  # a whole number

# %%
mistakes = {
    "Batch normalisation has parameters too.": 16 * 32 * 27,
    "No bias here, but two numbers a channel.": 16 * 32 * 27 + 32,
}
course.check("1", answer_1, 16 * 32 * 27 + 64, wrong=mistakes, hint="27 weights for each pair of channels.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = 16 * 32 * 27 + 2 * 32
# ```
# </details>
#
# ### Exercise 2: cross-entropy
# Write the loss of the first cell: logits `(N, C, X, Y, Z)`, labels `(N, X, Y, Z)` of integers, the mean over all
# voxels. No `torch.nn.functional.cross_entropy`.


# %%
def my_cross_entropy(logits, labels):
    return ...  # a scalar tensor


# %%
cases = []
for seed in (0, 1):
    g = torch.Generator().manual_seed(seed)
    z, y = torch.randn(2, 4, 3, 3, 2, generator=g), torch.randint(0, 4, (2, 3, 3, 2), generator=g)
    cases.append(((z, y), float(cross_entropy(z, y))))
course.check_function("2", my_cross_entropy, cases, tolerance=1e-4, hint="log_softmax over axis 1, then gather.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_cross_entropy(logits, labels):
#     log_p = logits.log_softmax(1)
#     return -log_p.gather(1, labels[:, None].long()).mean()
# ```
# </details>
#
# ### Exercise 3: how deep is the bottleneck?
# The `full` profile has a grid of 96 x 96 x 36 voxels; the strides of Table V multiply to (24, 24, 12), and it has 8
# channels at the coarsest scale. Through how many numbers does a heart pass just before the 64 codes?

# %%
answer_3 = None  # a whole number

# %%
course.check("3", answer_3, 4 * 4 * 3 * 8, wrong={"Times the channels.": 48}, hint="Cells along each axis first.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_3 = (96 // 24) * (96 // 24) * (36 // 12) * 8
# ```
# </details>

# %% [markdown]
# ## On real hearts
#
# The shipped autoencoder has learned from phantoms only. How well does it describe **80 patients of ACDC** (of its
# 100 training patients), none of whom it has seen? Beside it PCA fitted on sixty *real* patients, tried on the other
# twenty.
#
# *Data: Bernard et al., IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018,
# [doi:10.1109/TMI.2018.2837502](https://doi.org/10.1109/TMI.2018.2837502); licence CC BY-NC-SA 4.0.*

# %%
real = course.real_hearts()
if real is not None:
    real_labels, real_table = shapelab.stack_labels(real, config.grid, align="rigid")
    real_train, real_test = real.split(test=0.25, seed=SEED)
    held_out = real_table["patient"].isin(real_test.patients).to_numpy()
    real_pca = fit_pca(real_labels[~held_out], config.grid, n_codes=64)

    real_rebuilt = reconstruct(space, real_labels)
    everyone = dice_table(real_rebuilt, real_labels, real.scheme, real_table.index)
    real_scores = {
        "PCA, real hearts": dice_table(
            reconstruct(real_pca, real_labels[held_out]), real_labels[held_out], real.scheme
        ),
        f"PCA, {DATA}": dice_table(reconstruct(linear, real_labels[held_out]), real_labels[held_out], real.scheme),
        "autoencoder, phantoms": everyone[held_out],
    }
    display(
        dice_strips(real_scores, f"Reconstruction of {len(real_test.patients)} unseen real patients from 64 numbers")
    )
    print(pd.DataFrame({n: s.mean() for n, s in real_scores.items()}).round(3).to_string())
    print("\nautoencoder, all 80 patients, by group:")
    print(everyone.groupby(real_table["group"]).mean().reindex(list(style.GROUPS)).round(3).to_string())

# %%
if real is not None:
    overall = everyone.mean(axis=1)
    typical, worst = overall.sort_values().index[len(overall) // 2], overall.idxmin()
    rows = []
    for word, name in (("typical", typical), ("worst", worst)):
        i = real_table.index.get_loc(name)
        rows += [(f"{word}:\n{name}", real_labels[i]), (f"rebuilt, Dice\n{overall[name]:.2f}", real_rebuilt[i])]
    chosen = np.linspace(4, config.shape[2] - 5, 6).round().astype(int).tolist()
    display(
        slices.compare_slices(
            rows,
            config.spacing,
            real.scheme,
            indices=chosen,
            margin=4,
            title="A typical and the worst reconstruction of a real heart",
        )
    )

# %% [markdown]
# A network that met only synthetic hearts describes real ones better than PCA of labels fitted on sixty *real*
# patients, and about as well as the best linear space of notebook 02 (nested distances, fitted on the same sixty).
# What is lost is detail: the codes smooth whatever is irregular, and a heart unlike any phantom comes back as the
# nearest phantom. Whether the codes keep what tells a disease is another question, and the one that matters: notebook
# 14.
#
# Next: **[12 embeddings](12_embeddings.ipynb)**, a look at the cloud of codes; or **[15 shape
# interpolation](15_shape_interpolation.ipynb)**.
