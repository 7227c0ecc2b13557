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
# # 04 · The T-L network: a shape code from an image
#
# | | |
# |---|---|
# | **Goal** | teach a network to read the autoencoder's code from an *image*; train both together, in the open |
# | **Time** | 45 minutes of reading; about three quarters of a minute of computing |
# | **You need** | PyTorch; the autoencoder of notebook 03 |
#
# The autoencoder of notebook 03 turns a label map $y$ into 64 numbers. But a label map is what somebody had to draw
# first. The ACNN paper (Oktay et al., IEEE TMI 2018, section II-D) puts a **predictor** $p$ beside it, which reads
# the same 64 numbers from the image $x$:
#
# $$\mathcal{L}_x = \mathrm{CE}\big(g(f(\tilde y)),\,y\big), \qquad
# \mathcal{L}_h = \big\| p(x) - f(y) \big\|_2^2 .$$
#
# Trained in three stages: (1) the autoencoder alone, by $\mathcal{L}_x$; (2) the predictor alone, by
# $\mathcal{L}_h$, the encoder frozen; (3) **both in one update**, by $\mathcal{L}_x + w\,\mathcal{L}_h$. In stage 3
# the encoder $f$ hears two voices: *be rebuildable* and *be readable from an image*.
#
# Draw it: label maps run along the top through $f$ and $g$, the image comes up from below through $p$ to the code in
# the middle: a **T**. In use the label map is gone, and image, predictor and decoder are left: an **L**.
#
# *Two sentences of cardiology.* The left ventricle (LV) is a pump with a muscular wall (the myocardium), the right
# ventricle (RV) lies beside it like a pocket; in the MR images here blood is bright and muscle dark. ED is the
# moment when the heart is full, ES when it is emptiest.

# %%
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from IPython.display import display
from sklearn.ensemble import RandomForestClassifier

from shapelab import course
from shapelab.experiments import kept_runs
from shapelab.models.acnn import AEConfig, train_autoencoder
from shapelab.models.acnn.predictor import Predictor, PredictorConfig, augment_pairs, measure_image_statistics
from shapelab.models.acnn.tl import TLNetwork, TLSpace, distance, joint_losses
from shapelab.show import charts, slices, style
from shapelab.training import Run

DATA = "phantom"  # or "acdc"
SEED = 0
run = course.start("04", DATA, SEED)

# %% [markdown]
# ## 1 · Table IV, beside the code
#
# `shapelab/models/acnn/predictor.py` has a line for each row of the paper's Table IV. On torch's `meta` device, which
# computes shapes and no numbers, a volume of the paper's size is sent through:

# %%
table_iv = [
    "S1 Conv 3x3x3, 32",
    "S1 Conv 3x3x3, 32",
    "S2 Conv 3x3x3, s2, 64",
    "S2 Conv 3x3x3, 64",
    "S3 Conv 3x3x3, s2, 128",
    "S3 Conv 3x3x3, 128",
    "S4 Conv 3x3x3, s2, 256",
    "S4 Conv 3x3x3, 1",
    "FC 64, no non-linearity",
]
paper = PredictorConfig.profile("paper")
with torch.device("meta"):
    network, rows = Predictor(paper).eval(), []
    for layer in [*network.features, network.last, network.to_code]:
        layer.register_forward_hook(
            lambda layer, _, out: rows.append(
                {"out": "x".join(map(str, out.shape[1:])), "parameters": sum(p.numel() for p in layer.parameters())}
            )
        )
    network(torch.zeros(1, *paper.shape))
pd.DataFrame(rows, index=pd.Index(table_iv, name="Table IV"))

# %% tags=["nbval-check-output"]
counts = {
    name: sum(p.numel() for p in Predictor(PredictorConfig.profile(name)).parameters()) for name in ("paper", "quick")
}
print("parameters, paper profile:", f"{counts['paper']:,d}", "| quick profile:", f"{counts['quick']:,d}")
print(
    "convolutions:",
    sum(isinstance(m, torch.nn.Conv3d) for m in network.modules()),
    "| with batch normalisation:",
    sum(isinstance(m, torch.nn.BatchNorm3d) for m in network.modules()),
)
print("coarsest scale:", paper.cells, "x", paper.last, "->", rows[-1]["out"], "codes")

# %% [markdown]
# Compare with the encoder of notebook 03: an image is harder to read than a label map, so the predictor has twice the
# kernels at each scale and works at full resolution first. On the grid of `quick` that would take 170 ms a heart and
# step on one core; `quick` strides at once and has half the kernels: 10 ms.
#
# ## 2 · Pairs of image and label map
#
# To see all three stages in seconds, they run on a **coarse** grid first: voxels of 6 x 6 x 10 mm. Every heart comes
# with the image that a scanner would take of it.

# %% tags=["nbval-check-output"]
from shapelab.data.grid import images_on_grid, unit_image
from shapelab.phantoms.pairs import heart_pairs

coarse = {"shape": (24, 24, 12), "spacing": (6.0, 6.0, 10.0)}
ae_config = replace(AEConfig.profile("quick"), **coarse, bottleneck=64, learning_rate=3e-3, principal_axes=False)
config = replace(PredictorConfig.profile("quick"), **coarse, stem=(1, 1, 1), thick=0.0)

n_patients = run.pick(quick=60, full=200, paper=200)
if DATA == "phantom":
    pairs = heart_pairs(n_patients, config.grid, factor=1, seed=SEED)
    images, labels, table = np.stack([unit_image(i) for i in pairs.images]), pairs.labels, pairs.table
else:
    images, labels, table = images_on_grid(run.hearts(n_patients), config.grid)
patients = list(dict.fromkeys(table["patient"]))
is_test = table["patient"].isin(patients[::5]).to_numpy()  # every fifth patient, with ED and ES
print("images", images.shape, images.dtype, "| label maps", labels.shape, labels.dtype)
print("learn from", int((~is_test).sum()), "| try on", int(is_test.sum()))
print("intensities within [0, 1]:", bool(images.min() >= 0 and images.max() <= 1))
both = len(set(table["patient"][is_test]) & set(table["patient"][~is_test]))
print("patients on both sides:", both)

# %% [markdown]
# The predictor must not learn the scanner by heart. So each pair is moved by *one* affine map, image and labels
# alike, and the image gets another contrast, a bias field and noise, anew in every step. On the finer grid, later,
# half of the images also pass through an acquisition with slices twice as thick.


# %%
def picture(ax, image, label=None, k=None):
    """One slice: the image, and the outlines of the label map on it."""
    k = image.shape[2] // 2 if k is None else k
    ax.imshow(image[:, :, k].T, cmap="gray", vmin=0, vmax=1.1)
    if label is not None:
        for structure in run_scheme.structures:
            mask = (label[:, :, k] == structure.value).T
            if mask.any():
                ax.contour(mask, [0.5], colors=structure.colour, linewidths=1.3)
    ax.set_axis_off()


from shapelab.data.scheme import CARDIAC as run_scheme

torch.manual_seed(SEED)
x, y = (torch.from_numpy(a[:1]).repeat(5, 1, 1, 1) for a in (images, labels))
x, y = augment_pairs(x, y, config)
fig = style.figure(9.0, 2.1)
for i, ax in enumerate(fig.subplots(1, 6)):
    picture(ax, images[0] if i == 0 else x[i - 1].numpy(), labels[0] if i == 0 else y[i - 1].numpy())
    ax.set_title("a pair" if i == 0 else f"varied, {i}")
fig.suptitle("One heart, one slice: as it is, and as the predictor gets it")
fig

# %% [markdown]
# ## 3 · Stage 1: the autoencoder alone
#
# As in notebook 03; nothing new. (No principal axes here, so that the code is what the network says it is.)

# %%
shapes, first = train_autoencoder(
    labels[~is_test],
    replace(ae_config, epochs=run.pick(quick=26, full=100, paper=100)),
    run=Run(seed=SEED, progress=False),
)
charts.history(first, columns=["loss"], title="Stage 1: L_x on the coarse grid")

# %% [markdown]
# ## 4 · Stage 2: the predictor alone
#
# The whole of it in plain torch. The encoder is frozen: its code $h = f(y)$ of the moved label map is the target.
#
# One trifle saves many steps. Before it knows anything, the best guess of a code is the *mean* code; so that is where
# the last bias starts.

# %% tags=["nbval-check-output"]
from shapelab.device import autocast, best_device
from shapelab.models.acnn.autoencoder import measure_statistics
from shapelab.training import Batches
from shapelab.training.losses import onehot

device = best_device()
f_and_g = shapes.model.to(device).eval()
train_codes = shapes.encode(labels[~is_test])

torch.manual_seed(SEED)
predictor = Predictor(config).to(device)
with torch.no_grad():
    predictor.to_code.bias.copy_(torch.from_numpy(train_codes.mean(0)))
batches = Batches(images[~is_test], labels[~is_test], batch_size=config.batch, seed=SEED)


def train_predictor(predictor, epochs, rate):
    """Stage 2: L_h of every step; the learning rate rises, then falls to zero."""
    optimiser = torch.optim.Adam(predictor.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * len(batches))
    losses = []
    predictor.train()
    for epoch in range(epochs):
        for x, y in batches(epoch):
            x, y = augment_pairs(x.to(device), y.to(device), config)
            with autocast(device):
                with torch.no_grad():
                    h = f_and_g.encode(onehot(y, 4))  # (8, 64), the target
                loss = distance(predictor(x), h)  # L_h
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
    return losses


losses_2 = train_predictor(predictor, run.pick(quick=20, full=100, paper=100), config.learning_rate)
spread = float(train_codes.var(0).sum())  # what guessing the mean code would cost
print("steps:", len(losses_2), "| codes:", predictor.to_code.out_features)
print("L_h fell by half:", bool(np.mean(losses_2[-20:]) < 0.5 * np.mean(losses_2[:10])))
print("better than the mean code:", bool(np.mean(losses_2[-20:]) < spread))


# %%
def curves(panels, title):
    """Losses of each step, thin, and their running mean."""
    fig = style.figure(9.0, 2.6)
    for ax, (name, values, level, word) in zip(np.atleast_1d(fig.subplots(1, len(panels))), panels):
        ax.plot(values, color=style.ACCENT, lw=0.6, alpha=0.5)
        running = np.convolve(values, np.ones(24) / 24, "valid")
        ax.plot(np.arange(23, len(values)), running, color=style.INK)
        if level is not None:
            ax.axhline(level, color=style.CONTRAST, ls="--", lw=1.2)
            ax.text(len(values), level, word, ha="right", va="bottom", color=style.CONTRAST, fontsize=8)
        ax.set(title=name, xlabel="step", ylim=(0, None))
        ax.grid(True)
    fig.suptitle(title)
    return fig


curves([("distance of codes, L_h", losses_2, spread, "the mean code")], "Stage 2: the predictor learns to read codes")

# %% [markdown]
# ## 5 · Stage 3: both, in one update
#
# Three things are said in the paper: the encoder gets the gradients of *both* losses, in a *joint* update (not one
# after the other), and "the two loss functions are scaled to match their range". We read the last one as a constant,
#
# $$w = \mathcal{L}_x / \mathcal{L}_h \quad\text{measured once, when stage 3 begins,}$$
#
# so that both start with the same size. Here is the step, written out. With `listen=False` the encoder does not hear
# $\mathcal{L}_h$ (its code is detached from the graph): a control that the paper does not have, to tell what the second
# voice does from what a longer training does.

# %% tags=["nbval-check-output"]
import copy

from shapelab.augment import swap_labels


def both_losses(tl, x, y, listen=True):
    """L_x and L_h of one batch; the library's `joint_losses`."""
    x, y = augment_pairs(x.to(device), y.to(device), config)
    swapped = swap_labels(y, 0.1, 4)
    with autocast(device):
        logits = tl.decode(tl.encode(onehot(swapped, 4)))  # g(f(y~))
        h, h_image = tl.encode(onehot(y, 4)), tl.predict(x)  # f(y) and p(x)
        lx = torch.nn.functional.cross_entropy(logits.float(), y.long())  # L_x
        lh = distance(h_image, h if listen else h.detach())  # L_h: now with a gradient to the encoder, too
    return lx, lh


def stage_3(listen=True):
    """Both networks on from stage 2, in one update; with losses, and both gradients at the encoder now and then."""
    epochs, rate = run.pick(quick=6, full=30, paper=30), config.joint_learning_rate
    torch.manual_seed(SEED)
    tl = TLNetwork(copy.deepcopy(f_and_g), copy.deepcopy(predictor)).to(device).train()
    encoder = [*tl.autoencoder.encoder.parameters(), *tl.autoencoder.to_code.parameters()]
    with torch.no_grad():
        at_start = np.mean([[loss.item() for loss in both_losses(tl, *b)] for b in batches(0)], axis=0)
    w = at_start[0] / at_start[1]
    optimiser = torch.optim.Adam(tl.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * len(batches))
    losses, voices = [], []
    for epoch in range(epochs):
        for i, (x, y) in enumerate(batches(epoch)):
            lx, lh = both_losses(tl, x, y, listen)
            if listen and i % 4 == 0:  # the two voices, one by one
                by_x, by_h = (
                    torch.cat([g.ravel() for g in torch.autograd.grad(loss, encoder, retain_graph=True)])
                    for loss in (lx, w * lh)
                )
                cosine = torch.nn.functional.cosine_similarity(by_x, by_h, dim=0)
                voices.append((by_x.norm().item(), by_h.norm().item(), cosine.item()))
            optimiser.zero_grad()
            (lx + w * lh).backward()  # one update of f, g and p
            optimiser.step()
            schedule.step()
            losses.append((lx.item(), w * lh.item()))
    return tl, np.array(losses), np.array(voices)


tl, losses_3, voices = stage_3()
control, losses_control, _ = stage_3(listen=False)
print("both losses start alike:", bool(0.4 < losses_3[:6, 0].mean() / losses_3[:6, 1].mean() < 2.5))
print("both voices reach the encoder:", bool((voices[:, :2] > 0).all()))
print("w L_h fell by a quarter or more:", bool(losses_3[-12:, 1].mean() < 0.75 * losses_3[:6, 1].mean()))
lx, lh = joint_losses(tl, *(torch.from_numpy(a[:4]).to(device) for a in (images, labels, labels)))
print("the library's step has two losses as well:", bool(lx > 0 and lh > 0))

# %%
fig = style.figure(9.0, 2.8)
left, middle, right = fig.subplots(1, 3)
for k, (name, colour) in enumerate((("L_x", style.ACCENT), ("w · L_h", style.CONTRAST))):
    for values, line in ((losses_3, "-"), (losses_control, ":")):
        smooth = np.convolve(values[:, k], np.ones(12) / 12, "valid")
        left.plot(np.arange(11, len(values)), smooth, line, color=colour, label=name if line == "-" else None)
    middle.plot(np.linspace(0, len(losses_3), len(voices)), voices[:, k], color=colour, lw=1, label=name)
left.set(title="losses (dotted: not listening)", xlabel="step", ylim=(0, None))
middle.set(title="gradient at the encoder, length", xlabel="step", yscale="log")
right.plot(np.linspace(0, len(losses_3), len(voices)), voices[:, 2], color=style.INK, lw=1)
right.axhline(0, color=style.CONTRAST, ls="--", lw=1.2)
right.set(title="cosine between the two", xlabel="step", ylim=(-1, 1))
for ax in (left, middle):
    ax.legend()
for ax in (left, middle, right):
    ax.grid(True)
fig.suptitle("Stage 3: two voices in one update")
fig

# %% [markdown]
# In the right panel, a cosine of 1 would mean that both losses want the same step, -1 that they fight. They stand
# nearly at right angles: there are many codes that rebuild a heart equally well, and among these the encoder is free
# to choose readable ones. The middle panel says that losses of one size are not voices of one size: at the encoder
# $w\,\mathcal{L}_h$ speaks several times as loud.
#
# Did it pay? On **unseen** patients. (Before use the normalisation's statistics are measured anew on clean data, for
# both networks: notebook 03, section 7.)


# %%
def space_of(autoencoder, predictor):
    """A T-L space of two coarse networks, ready for use."""
    base = copy.deepcopy(shapes)
    base.model, one = copy.deepcopy(autoencoder), copy.deepcopy(predictor)
    measure_statistics(base.model, torch.from_numpy(labels[~is_test]))
    measure_image_statistics(one, torch.from_numpy(images[~is_test]))
    return TLSpace(base, one)


stages = {
    "after stage 2": space_of(f_and_g, predictor),
    "stage 3, encoder hears L_x only": space_of(control.autoencoder, control.predictor),
    "stage 3, encoder hears both": space_of(tl.autoencoder, tl.predictor),
}
rows = {}
for name, one in stages.items():
    of_labels, of_images = one.encode(labels[is_test]), one.encode_images(images[is_test])
    error = np.square(of_images - of_labels).sum(1).mean()
    rows[name] = {
        "distance L_h": error,
        "share of the codes' variance read": 1 - error / of_labels.var(0).sum(),
        "Dice, image -> labels": one.segmentation_dice(images[is_test], labels[is_test]).mean(),
        "Dice, labels -> labels": one.shapes.reconstruction_dice(labels[is_test]).mean(),
        "size of the codes (sd)": np.sqrt(of_labels.var(0).sum()),
    }
result = pd.DataFrame(rows).T
result.round(3)

# %% [markdown]
# Compare the last two rows, which differ in nothing but the second voice. What the paper wants of the joint stage: a
# larger *share* of the codes can be read from images, and the label maps come back nearly as well. (Against stage 2
# the comparison is not fair either way: a new stage begins with a learning rate that rises again.)
#
# The second of the two holds wherever this was run, and is checked below. The first holds **on some machines and not
# on others**: another processor rounds differently, a minute's training of a coarse network goes another way, and the
# shares change places. One training each settles nothing here; section 6 has one that took longer.
#
# And look at the first and the last column. The distance $\mathcal{L}_h$ can be lowered by a trick: make *all* codes
# small. The decoder scales them up again, and $\mathcal{L}_x$ notices nothing. Where the codes shrink, part of the fall
# of the loss is this trick, which is why the share of the variance is the honest measure; with a learning rate three
# times as high the trick wins, and the codes collapse. (Try it.)

# %% tags=["nbval-check-output"]
listening, control_row = result.loc["stage 3, encoder hears both"], result.loc["stage 3, encoder hears L_x only"]
dice = "Dice, labels -> labels"
print("label maps come back nearly as well (to .05):", bool(abs(listening[dice] - control_row[dice]) < 0.05))

# %% [markdown]
# ## 6 · Weights that took longer
#
# On this profile's own grid, from 300 phantom patients, each as a high-resolution volume and as a clinical stack of
# thick slices; half of the images with other surroundings than the phantom draws. Stage 1 are the weights of notebook
# 03. This cell loads the network; where it is missing it is trained, which takes half an hour.

# %%
from shapelab.experiments.shipped import phantom_tl

space = phantom_tl(run.profile, progress=False)
print("learned from:", space.metadata["data"], "|", space.grid, "|", space.n_codes, "codes")
print(f"w of its stage 3: {space.metadata['weight of L_h']:.3f}")

# %% [markdown]
# Its codes are the networks' own, turned to their principal axes: a rotation changes no distance.
#
# New patients, as thick slices show them. For each heart: the code of its label map, $f(y)$, and of its image, $p(x)$.

# %% tags=["nbval-check-output"]
from shapelab.models.acnn.predictor import thick_slices

n_new = run.pick(quick=40, full=100, paper=100)
hearts = run.hearts(n_new)
if DATA == "phantom":  # the same patients, drawn on the grid and seen through slices of 10 mm
    new = heart_pairs(n_new, space.grid, factor=space.config.factor, seed=SEED)
    thick = thick_slices(torch.from_numpy(new.images).float(), space.grid.spacing, space.config.factor)
    new_images, new_labels, facts = np.stack([unit_image(i) for i in thick.numpy()]), new.labels, new.table
else:
    new_images, new_labels, facts = images_on_grid(hearts, space.grid)
of_labels, of_images = space.encode(new_labels), space.encode_images(new_images)
correlation = np.array([np.corrcoef(of_labels[:, k], of_images[:, k])[0, 1] for k in range(space.n_codes)])
print("hearts:", len(new_images), "| codes from labels", of_labels.shape, "and from images", of_images.shape)
print("the first code is read with r above 0.9:", bool(correlation[0] > 0.9))
error = np.square(of_images - of_labels).sum(1).mean()
print("more than half of the codes' variance is read:", bool(error < 0.5 * of_labels.var(0).sum()))


# %%
def code_scatter(of_labels, of_images, groups, correlation, title):
    """Code of the image against code of the label map: the first four dimensions; and r of all."""
    fig = style.figure(9.0, 4.4)
    grid = fig.add_gridspec(2, 4, height_ratios=(1.3, 1))
    for k in range(4):
        ax = fig.add_subplot(grid[0, k])
        for group, mark in style.marks(sorted(set(groups))).items():
            chosen = np.asarray(groups) == group
            ax.plot(
                of_labels[chosen, k],
                of_images[chosen, k],
                mark.marker,
                color=mark.colour,
                ms=3.5,
                alpha=0.8,
                label=group,
            )
        both = np.concatenate([of_labels[:, k], of_images[:, k]])
        ax.plot([both.min(), both.max()], [both.min(), both.max()], color=style.INK, lw=0.8)
        ax.set(title=f"code {k}, r = {correlation[k]:.2f}", xlabel="from the label map")
    fig.axes[0].set_ylabel("from the image")
    fig.axes[0].legend(fontsize=7)
    ax = fig.add_subplot(grid[1, :])
    ax.bar(range(len(correlation)), correlation, color=style.ACCENT, alpha=0.7)
    ax.set(xlabel="dimension of the code, by its variance", ylabel="r")
    ax.set_ylim(min(0, correlation.min()), 1)
    ax.grid(True, axis="y")
    fig.suptitle(title)
    return fig


title = f"{len(new_images)} unseen hearts: image against label map"
code_scatter(of_labels, of_images, facts["group"], correlation, title)

# %% [markdown]
# The first codes, which carry size and wall, are read almost without error; far to the right, where codes hardly
# differ between hearts, the image says little about them. (In its stage 3 the codes of this network shrank, too: to a
# third. Whoever uses it as a loss, as notebook 06 does, has to choose $\lambda$ for *its* scale.)
#
# ## 7 · A segmentation without a segmentation network
#
# $g(p(x))$: predictor, 64 numbers, decoder. Each heart comes out whole, and roughly right.

# %%
from shapelab.metrics import dice_table


def drawn(codes):
    """The label maps that the decoder draws from codes; `space.segment(images)` is drawn(encode_images(images))."""
    parts = [space.decode(codes[i : i + 16]).argmax(1) for i in range(0, len(codes), 16)]
    return space.scheme.integers(np.concatenate(parts))


made, rebuilt = drawn(of_images), drawn(of_labels)
dice = {
    "image -> code -> labels": dice_table(made, new_labels, space.scheme, facts.index),
    "labels -> code -> labels": dice_table(rebuilt, new_labels, space.scheme, facts.index),
}
middle = int(dice["image -> code -> labels"].mean(axis=1).argsort().iloc[len(made) // 2])
k_slices = slices.pick_slices(new_labels[middle], space.grid.shape[2], 5)
slices.compare_slices(
    [
        ("truth", (new_images[middle], new_labels[middle])),
        ("from the\nimage", (new_images[middle], made[middle])),
        ("from the\nlabels", (new_images[middle], rebuilt[middle])),
    ],
    space.grid.spacing,
    space.scheme,
    indices=k_slices,
    title=f"The heart in the middle of the field: {facts.index[middle]}",
)


# %%
def dice_strips(scores, title):
    """Every heart's Dice as a point, a panel a structure, a column a way; the bar is the mean."""
    fig = style.figure(9.0, 3.0)
    rng = np.random.default_rng(0)
    lowest = min(float(values.min().min()) for values in scores.values())
    for ax, s in zip(fig.subplots(1, 3, sharey=True), space.scheme.structures):
        for i, values in enumerate(scores.values()):
            x = i + rng.uniform(-0.18, 0.18, len(values))
            ax.plot(x, values[s.name], "os^D"[i], color=s.colour, ms=3.2, mfc="white" if i % 2 else None)
            ax.hlines(values[s.name].mean(), i - 0.3, i + 0.3, color=style.INK, lw=1.8)
        ax.set_xticks(range(len(scores)), [n.replace(" -> ", "\n→ ") for n in scores])
        ax.set(title=s.name, ylim=(max(0, lowest - 0.05), 1), ylabel="Dice" if ax is fig.axes[0] else "")
        ax.grid(True, axis="y")
    fig.suptitle(title)
    return fig


print(pd.DataFrame({name: d.mean() for name, d in dice.items()}).round(3).to_string())
dice_strips(dice, f"{len(made)} unseen hearts on the grid")

# %% tags=["nbval-check-output"]
means = {name: d.mean().mean() for name, d in dice.items()}
print("from images above 0.7:", bool(means["image -> code -> labels"] > 0.7))
print("from labels it is better:", bool(means["labels -> code -> labels"] > means["image -> code -> labels"]))

# %% [markdown]
# The paper did the same and found Dice .734: "the ventricle boundaries were not delineated properly but rather a rough
# segmentation was generated". 64 numbers hold *which* heart it is, not where each voxel of its surface lies. That is
# why ACNN uses the code as a **judge** of other networks (notebooks 05 and 06) and not as their replacement.
#
# ## 8 · What only this network can do: disease from the image
#
# The autoencoder needs somebody's outlines. Here a forest (notebook 14) tells three groups of patients apart from
# codes that were read from images; no label map takes part in the code. 5 folds by patient, once: the full experiment
# is further down.

# %%
from shapelab.latent.classification import CrossValidation, classification_report
from shapelab.latent.codes import codes_table
from shapelab.latent.features import FixedFeatures
from shapelab.metrics.clinical import cardiac_indices

facts = facts[["patient", "phase", "group"]]
three = ("NOR", "DCM", "HCM")
report = classification_report(
    {
        "T-L codes, from images": FixedFeatures(codes_table(of_images, facts), saw_test_shapes=False),
        "T-L codes, from labels": FixedFeatures(codes_table(of_labels, facts), saw_test_shapes=False),
    },
    "group",
    RandomForestClassifier(100, max_features="sqrt"),
    [("ED",), ("ED", "ES")],
    groups=three,
    controls=("volumes", "shuffled"),
    indices=cardiac_indices(hearts),
    settings=CrossValidation(n_splits=5, n_repeats=1, permutations=0, importances=False, seed=SEED),
)
n = report.table["n_patients"].iloc[0]
charts.bars_with_interval(report.table, by="phases", chance=1 / 3, title=f"{', '.join(three)}: {n} patients")

# %% tags=["nbval-check-output"]
accuracy = report.table.set_index(["features", "phases"])["accuracy"]
print(
    "patients:",
    int(report.table["n_patients"].iloc[0]),
    "| from images, ED+ES, far above chance (0.33):",
    bool(accuracy["T-L codes, from images", "ED+ES"] > 0.55),
)
print("shuffled labels are not:", bool(accuracy["shuffled labels", "ED+ES"] < 0.55))

# %% [markdown]
# One thing is still taken from the label map: *where* the heart lies. The box about it is centred and turned by it,
# as the paper crops by landmarks that another algorithm had found. `images_on_grid(..., poses=...)` takes any label
# map for this, such as a rough one from a segmentation network.
#
# ## 9 · The paper and we
#
# | | ACNN paper | here, `quick` |
# |---|---|---|
# | predictor | Table IV, 1.87 million parameters | 0.48 million: first stride at once, half the kernels |
# | images | 1200 high-resolution MR volumes | phantoms; contrast and surroundings varied; half of them thick |
# | optimiser | "gradient descent", rate fixed at 0.001 | Adam (our choice), one cycle of the rate a stage |
# | stages 1 and 2, then jointly | yes; "scaled to match" | yes; $w = \mathcal{L}_x/\mathcal{L}_h$ at its start |
# | gain of the joint stage | "better convergence" than alternating; no numbers | table of section 5, with a control |
# | Dice of predictor + decoder | .734 | table of section 7 and below |
# | disease at ED, ED + ES | codes of label maps: .833, .916 (60 of ACDC) | codes of *images*: .844, .917 (48 of ACDC) |
#
# The last row is what we measure below with all of our ACDC patients; its 95 % intervals are twenty points wide, and
# three volumes and the ejection fraction do as well. So: an image is enough, and no more is claimed.
#
# ## 10 · Exercises
#
# ### Exercise 1: the last layer
# How many parameters has the fully connected layer of Table IV (paper profile), bias included? The tables of section 1
# hold all you need.

# %%
answer_1 = None  # a whole number

# %%
mistakes = {
    "That is the encoder's (Table V): its coarsest scale has 5 x 5 x 5 cells.": 125 * 64 + 64,
    "Each of the 64 codes has a bias, too.": 15 * 15 * 8 * 64,
}
course.check("1", answer_1, 15 * 15 * 8 * 64 + 64, wrong=mistakes, hint="Cells at S4, times one channel, times codes.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = 15 * 15 * 8 * 1 * 64 + 64
# ```
#
# 60 slices strided by two, three times: 30, 15, 8 (not 7.5).
# </details>
#
# ### Exercise 2: who hears whom?
# In stage 3, which of the losses sends a gradient to each of the three networks? Fill in `"L_x"`, `"L_h"` or `"both"`.

# %%
answer_2 = {"encoder": None, "decoder": None, "predictor": None}

# %%
course.check(
    "2",
    None if None in answer_2.values() else answer_2,
    {"encoder": "both", "decoder": "L_x", "predictor": "L_h"},
    wrong={
        "That is stage 2: the encoder is at rest there, and the decoder takes no part.": {
            "encoder": "L_x",
            "decoder": "L_x",
            "predictor": "L_h",
        }
    },
    hint="Which networks stand between a loss and its inputs?",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_2 = {"encoder": "both", "decoder": "L_x", "predictor": "L_h"}
# ```
#
# $\mathcal{L}_h$ ends at the code: the decoder comes after it. Try `torch.autograd.grad(lh, ..., allow_unused=True)`.
# </details>
#
# ### Exercise 3: matching ranges
# From the two losses of some batches, `lx` and `lh`, give $w$ such that the *mean* of $w\,\mathcal{L}_h$ is the mean of
# $\mathcal{L}_x$. (A mean of ratios would let one lucky batch with a tiny $\mathcal{L}_h$ rule.)


# %%
def matching_weight(lx, lh):
    return None  # your code


# %%
course.check_function(
    "3",
    matching_weight,
    [((np.array([1.0, 3.0]), np.array([4.0, 4.0])), 0.5), ((np.array([0.2, 0.4]), np.array([0.1, 2.9])), 0.2)],
    hint="Two means, one division.",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def matching_weight(lx, lh):
#     return np.mean(lx) / np.mean(lh)
# ```
# </details>

# %% [markdown]
# ## On real hearts
#
# The shipped network has learned from phantoms alone. Now it reads **patients of ACDC** (in `quick` forty of the 80
# that we have of its 100 training patients), whose scanners, surroundings and diseases it has never met.
#
# *Data: Bernard et al., IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018,
# [doi:10.1109/TMI.2018.2837502](https://doi.org/10.1109/TMI.2018.2837502); licence CC BY-NC-SA 4.0 (the figures below
# are derived from them).*

# %%
real = course.real_hearts(run.pick(quick=40, full=None, paper=None))
if real is not None:
    real_images, real_labels, real_facts = images_on_grid(real, space.grid)
    real_of_labels, real_of_images = space.encode(real_labels), space.encode_images(real_images)
    real_r = np.array([np.corrcoef(real_of_labels[:, k], real_of_images[:, k])[0, 1] for k in range(space.n_codes)])
    display(
        code_scatter(
            real_of_labels,
            real_of_images,
            real_facts["group"],
            real_r,
            f"{len(real_images)} real hearts: image against label map",
        )
    )

# %%
if real is not None:
    real_made, real_rebuilt = drawn(real_of_images), drawn(real_of_labels)
    real_dice = {
        "image -> code -> labels": dice_table(real_made, real_labels, real.scheme, real_facts.index),
        "labels -> code -> labels": dice_table(real_rebuilt, real_labels, real.scheme, real_facts.index),
    }
    print(pd.DataFrame({name: d.mean() for name, d in real_dice.items()}).round(3).to_string())
    print(f"\nmedian r of image and label codes: {np.median(real_r):.2f}; of the first five: {real_r[:5].round(2)}")
    display(dice_strips(real_dice, f"{len(real_made)} real hearts on the grid; the networks know phantoms only"))

# %%
if real is not None:
    overall = real_dice["image -> code -> labels"].mean(axis=1)
    typical, worst = overall.sort_values().index[len(overall) // 2], overall.idxmin()
    shown = []
    for word, name in (("typical", typical), ("worst", worst)):
        i = real_facts.index.get_loc(name)
        shown += [
            (f"{word}:\n{name}", (real_images[i], real_labels[i])),
            (f"from the image,\nDice {overall[name]:.2f}", (real_images[i], real_made[i])),
        ]
    chosen = np.linspace(5, space.grid.shape[2] - 6, 6).round().astype(int).tolist()
    display(
        slices.compare_slices(
            shown, space.grid.spacing, real.scheme, indices=chosen, margin=4, title="A typical and the worst real heart"
        )
    )

# %% [markdown]
# What the predictor has not met in phantoms misleads it; what comes out is still a heart, only another one's. **A code
# cannot say "I do not know".**
#
# And disease? The whole experiment (80 patients, the folds of notebook 14, the T-L network as it is: phantoms only)
# comes with the course, as written by `shapelab experiment pathology --data acdc`. In *from images* the code is read
# from the image, but where the heart lies and how it is turned came from an observer's label map. In *images alone*
# that comes from a segmentation network, too, which has seen phantoms only: no observer has touched those codes.

# %%
whole = kept_runs.measured("pathology_tl_acdc")
for picture in charts.accuracy_by_groups(whole):
    display(picture)

# %% [markdown]
# Three groups are classified as well from images alone as from label maps, and as well as in the paper (.833 at ED,
# .916 with both phases): an autoencoder cannot do that at all, it takes no images. In five groups label maps stay ahead
# where both phases are known. With 48 and 80 patients all these intervals overlap.
#
# ## What to take along
#
# - One code, two ways to it: from the label map for those who have one, from the image for everybody.
# - A joint stage makes codes more readable; and it must be *measured*: against the same training without the second
#   voice, in shares of variance, with the size of the codes beside it.
# - 64 numbers say which heart it is. They do not draw its outline; that is the segmentation network's work.
#
# Next: **[05, segmentation with a shape prior](05_acnn_segmentation.ipynb)**, where the encoder becomes a judge.
