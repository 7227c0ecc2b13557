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
# # 07 · One space for CT, MR and label maps: CE-Reg
#
# | | |
# |---|---|
# | **Goal** | one network that reads CT, MR *and* label maps of whole hearts into one space, trained in the open |
# | **Time** | 50 minutes of reading; about a minute of computing |
# | **You need** | PyTorch; the idea of an autoencoder (notebook 03) |
#
# Most networks that segment are U-Nets: what their first layers see is handed straight to their last layers by *skip
# connections*. That draws sharp borders, but the shape itself passes through no bottleneck, and there is no code of it.
# The paper of this notebook (Bouteldja et al., *Deep Multi-Modal Encoder-Decoder Networks for Shape Constrained
# Segmentation and Joint Representation Learning*, 2019) leaves the skips out. Its encoder $E$ brings a scan $I$ and
# its label map $S$ to one code, and its decoder $D$ draws the label map again:
#
# $$\text{label maps:}\quad \min_{E,\,D}\ \mathrm{CE}\big(D(E(S)),\,S\big) \qquad\qquad
# \text{scans:}\quad \min_{E}\ \mathrm{CE}\big(D(E(I)),\,S\big)\ \ \text{with $D$ held fixed.}$$
#
# CE is the cross-entropy: minus the mean logarithm of the probability that the true structure of a voxel was given.
# Mini-batches of label maps and of scans take turns. So **label maps alone decide what a heart can look like**; a scan
# has to find its place among these shapes. The paper calls this CE-Reg, regression into a space by cross-entropy.
#
# *Words.* **CT** measures how much X-ray a tissue absorbs, in Hounsfield units (HU: air -1000, water 0, bone several
# hundred); a contrast agent in the blood makes heart chambers bright. **MR** here is bSSFP: blood bright, muscle dark,
# and intensities have no unit. A **code** is a short list of numbers that stands for a shape. **Dice** is the overlap
# of two masks, 1 for equal, 0 for disjoint ones.

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from shapelab import course
from shapelab.data.grid import Grid
from shapelab.data.scheme import WHOLE_HEART
from shapelab.data.volumes import Scans
from shapelab.experiments import kept_runs
from shapelab.models.joint_space import JointNetwork, JointSpaceConfig
from shapelab.phantoms import whole_heart_scans
from shapelab.show import charts, slices, style

SEED = 0
run = course.start("07", "phantom", SEED)

# %% [markdown]
# ## 1 · A whole heart, and two ways to see it
#
# Four chambers: the left ventricle (LV) pumps blood into the **aorta** and has a thick wall, the **myocardium**; the
# right ventricle (RV) pumps into the **pulmonary artery**, which carries it to the lungs. The **left atrium** (LA) and
# the **right atrium** (RA) collect the blood that comes back. Seven structures, seven colours, the same in every
# picture of this course.
#
# Each phantom heart can be scanned by both machines. Here is one, in three planes. As in a clinic you look at the
# patient from the feet and from the front: **the patient's left is on the right of the picture**, feet are down.

# %%
fine = Grid((72, 61, 84), (3.0, 3.0, 3.0))
one = whole_heart_scans(1, fine, seed=SEED + 5)
for name in ("CT", "MR"):
    row = int(np.flatnonzero(one.table["modality"] == name)[0])
    display(
        slices.planes(
            (one.images[row].astype(np.float32), one.labels[row]),
            fine.spacing,
            WHOLE_HEART,
            title=f"One phantom heart in {name}, voxels of 3 mm: axial, coronal, sagittal",
        )
    )

# %% [markdown]
# The same label map lies on both. In CT the contrast agent has not spread evenly: left and right heart differ. In MR
# the brightness drifts from one side to the other (the *bias field* of the coil), and muscle, fat and lung look alike
# in places. A network that reads both must not go by brightness alone.
#
# ## 2 · The network, beside the paper's Fig. 1
#
# On torch's `meta` device, which computes shapes and no numbers, a volume of the paper's size is sent through:

# %%
paper = JointSpaceConfig.profile("paper")
with torch.device("meta"):
    network, rows = JointNetwork(paper), []
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Conv3d):
            layer.register_forward_hook(
                lambda layer, _, out, name=name: rows.append(
                    {
                        "part": "E" if "encoder" in name else "D",
                        "stride": layer.stride[0],
                        "channels": out.shape[1],
                        "grid": "x".join(map(str, out.shape[2:])),
                        "parameters": sum(p.numel() for p in layer.parameters()),
                    }
                )
            )
    network(torch.zeros(2, *paper.shape))
layers = pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="convolution"))
layers

# %% tags=["nbval-check-output"]
print("parameters:", f"{sum(p.numel() for p in network.parameters()):,d}", "(the paper: 624K)")
print("numbers in a code:", paper.code, "= 2 x", " x ".join(map(str, paper.sizes[-1])))
print("convolutions of the encoder and of the decoder:", *(int((layers["part"] == p).sum()) for p in "ED"))
quick = JointSpaceConfig.profile("quick")
print(
    "in quick:", f"{sum(p.numel() for p in JointNetwork(quick).parameters()):,d}", "parameters,", quick.code, "numbers"
)

# %% [markdown]
# The paper prints the number of parameters, the size of the code, and that the encoder has "about three times as many
# conv layers" as the decoder's five. It does not print the channels; this list is one that fits all three.
#
# Only the *first* convolution differs: a scan has one channel, a label map has eight (one a structure, and the
# background). All else is shared. A code keeps its place: it is a tiny volume of two channels, whose cells are 24 mm
# wide.
#
# `quick` works on voxels of 6 mm, with cells of 24 mm as well.
#
# ## 3 · Taking turns, in the open
#
# Twenty CT and twenty MR scans of *different* patients to learn from, as in the paper; twenty other anatomies, each
# seen by both machines, to try it on. (Nobody in a hospital has such pairs. Phantoms do.)

# %% tags=["nbval-check-output"]
grid = quick.grid
learn = Scans.of(whole_heart_scans(20, grid, SEED, ("CT",)), whole_heart_scans(20, grid, SEED, ("MR",), first=20))
test = whole_heart_scans(20, grid, SEED + 1)
print(
    "learn from",
    learn.table["modality"].value_counts().to_dict(),
    "patients",
    learn.table["patient"].nunique(),
)
print("try on", test.table["modality"].value_counts().to_dict(), "patients", test.table["patient"].nunique())
by_patient = [test.labels[test.table["patient"] == p] for p in test.table["patient"].unique()]
print("CT and MR of one patient share their label map:", all((a == b).all() for a, b in by_patient))

# %% [markdown]
# The whole of the training in plain torch. Two optimisers, since the two losses differ in size and noise. Look at the
# line that makes CE-Reg what it is: while a scan is learned from, the decoder **lets gradients through to the encoder
# but does not move itself**.

# %% tags=["nbval-check-output"]
from shapelab.augment import random_affine, random_affine_pair
from shapelab.device import autocast, best_device
from shapelab.training import Batches
from shapelab.training.losses import cross_entropy, onehot

device = best_device()
torch.manual_seed(SEED)
network = JointNetwork(quick).to(device).train()
E, D = network.encoder, network.decoder
label_optimiser = torch.optim.Adam([*E.parameters(), *D.parameters()], lr=quick.label_rate)
image_optimiser = torch.optim.Adam(E.parameters(), lr=quick.image_rate)


def learn_from_labels(labels):
    """One step of E and D: an autoencoder."""
    labels = random_affine(labels, quick.spacing, quick.affine)
    loss = cross_entropy(network.decode(network.encode(onehot(labels, 8))), labels)
    label_optimiser.zero_grad()
    loss.backward()
    label_optimiser.step()
    return loss.item()


def learn_from_scans(images, labels):
    """One step of E alone, through the fixed decoder."""
    images, labels = random_affine_pair(images, labels, quick.spacing, quick.affine)
    D.requires_grad_(False)  # <- this line
    loss = cross_entropy(network.segment(images), labels)
    image_optimiser.zero_grad()
    loss.backward()
    image_optimiser.step()
    D.requires_grad_(True)
    return loss.item()


batches = Batches(learn.images, learn.labels, batch_size=3, seed=SEED)
losses = []
for epoch in range(run.pick(quick=6, full=40, paper=40)):
    for images, labels in batches(epoch):
        with autocast(device):
            images, labels = images.to(device).float(), labels.to(device)
            before = D.first[0].weight.clone()
            by_labels = learn_from_labels(labels)
            between = D.first[0].weight.clone()
            by_scans = learn_from_scans(images, labels)
            losses.append((by_labels, by_scans))
print("label batches move the decoder:", not torch.equal(before, between))
print("scans leave it as it is:", torch.equal(between, D.first[0].weight))
losses = np.array(losses)
print("both losses fell by a third or more:", bool((losses[-14:].mean(0) < losses[:3].mean(0) * 2 / 3).all()))

# %%
fig = style.figure(9.0, 2.6)
ax = fig.subplots()
for k, (name, colour) in enumerate((("label maps", style.ACCENT), ("scans", style.CONTRAST))):
    ax.plot(losses[:, k], color=colour, lw=0.6, alpha=0.5)
    ax.plot(np.arange(13, len(losses)), np.convolve(losses[:, k], np.ones(14) / 14, "valid"), color=colour, label=name)
ax.set(xlabel="step", ylabel="cross-entropy", title="Taking turns", ylim=(0, None))
ax.legend()
ax.grid(True)
fig

# %% [markdown]
# Scans follow label maps at a distance: the decoder can only draw what label maps have taught it. These few steps are a
# beginning; the curves below are of thousands.
#
# ## 4 · A trained space
#
# The weights that come with the course have learned from phantoms. (Where there are none they are trained now.)

# %%
from shapelab.experiments.joint_space.laboratory import phantom_joint_space

space = phantom_joint_space()
print(space.metadata["data"])
truth = WHOLE_HEART.integers(test.labels)
from_scans, from_labels = space.segment(test), space.reconstruct(truth)
scores = {"scan → code → label map": from_scans, "label map → code → label map (the ceiling)": from_labels}
dice = {
    name: pd.DataFrame(space.dice(made, truth), test.table.index, WHOLE_HEART.names) for name, made in scores.items()
}
modality = test.table["modality"]
pd.concat({name: d.groupby(modality).mean() for name, d in dice.items()}).assign(mean=lambda t: t.mean(axis=1))

# %% [markdown]
# Read the second block first. It is the **ceiling**: no scan comes into it, the true label map goes in and comes out
# again, and what a code of this space cannot hold is lost all the same. Whoever compares a space with a U-Net must have
# that number beside it.

# %% tags=["nbval-check-output"]
of_scans, of_labels = (d.to_numpy().mean() for d in dice.values())
print("scans:", len(test), "| structures:", len(WHOLE_HEART.names))
print("scans above 0.6:", bool(of_scans > 0.6), "| below the ceiling:", bool(of_scans < of_labels))

# %%
median = int(dice["scan → code → label map"].mean(axis=1).argsort().iloc[len(test) // 2])
display(
    slices.planes(
        (test.images[median].astype(np.float32), from_scans[median]),
        grid.spacing,
        WHOLE_HEART,
        title=f"The scan in the middle of the field ({test.table.index[median]}), as the network draws it",
    )
)

# %% [markdown]
# ## 5 · Do scans lie beside their own label maps?
#
# Nothing in the losses says so. For every test scan, which of the label maps has the nearest code (Euclidean distance)?
# If it is the scan's own, that is a hit; the share of hits is called **rank-1**. By chance it would be one in twenty.

# %% tags=["nbval-check-output"]
label_codes = space.encode(truth[(modality == "CT").to_numpy()])  # one a patient
patients = test.table["patient"][modality == "CT"].to_numpy()
codes = {name: space.encode_images(test[(modality == name).to_numpy()]) for name in ("CT", "MR")}
distance = {name: np.linalg.norm(c[:, None] - label_codes[None], axis=2) for name, c in codes.items()}
rank_1 = {name: float((d.argmin(1) == np.arange(len(d))).mean()) for name, d in distance.items()}
between = np.linalg.norm(codes["CT"][:, None] - codes["MR"][None], axis=2)
twins = float((between.argmin(1) == np.arange(len(between))).mean())
print("rank-1 far above chance:", {name: bool(r > 0.5) for name, r in rank_1.items()})
print("codes:", {name: c.shape for name, c in codes.items()})

# %%
print("rank-1 of scans among label maps:", {name: f"{r:.2f}" for name, r in rank_1.items()}, "| chance 0.05")
print(f"CT scans whose nearest MR scan is of the same heart: {twins:.2f} | chance 0.05")
for name, d in distance.items():
    own, others = np.diag(d).mean(), d[~np.eye(len(d), dtype=bool)].mean()
    print(f"{name}: distance to the own label map {own:.1f}, to the others {others:.1f}")

# %% [markdown]
# A picture of it: t-SNE (notebook 12) lays the codes out so that near ones stay near. A line leads from each scan to
# its own label map.

# %%
from shapelab.latent.codes import codes_table
from shapelab.latent.embedding import embed

every = np.concatenate([label_codes, codes["CT"], codes["MR"]])
kinds = ["label map", "CT", "MR"]
table = pd.DataFrame(
    {"kind": np.repeat(kinds, len(patients)), "patient": np.tile(patients, 3)},
    index=[f"{p} {kind}" for kind in kinds for p in patients],
)
placed = embed(codes_table(every, table), "tsne", seed=SEED)
charts.embedding_picture(
    {"tsne": placed},
    colour="kind",
    links=[(f"{p} {kind}", f"{p} label map") for kind in kinds[1:] for p in patients],
    title="Codes of twenty hearts: label maps, CT, MR",
)

# %% [markdown]
# ## 6 · A walk from a CT scan to the MR scan of somebody else
#
# Between two codes lie codes, and every one of them is drawn by the same decoder. Is each of them a heart? One that
# has all seven structures, each in one piece and without holes, whose neighbours touch and whose LV is closed is called
# *plausible*.

# %%
from shapelab.metrics import plausibility
from shapelab.show import render
from shapelab.show.meshes import heart_meshes

steps = np.linspace(0, 1, 9)
ends = codes["CT"][0], codes["MR"][1]
walk = space.label_maps(np.stack([(1 - t) * ends[0] + t * ends[1] for t in steps]).astype(np.float32))
shown = [heart_meshes(walk[k], grid.spacing, WHOLE_HEART) for k in (0, 2, 4, 6, 8)]
display(
    render.mesh_grid(
        [shown],
        WHOLE_HEART,
        column_names=[f"t = {steps[k]:.2f}" for k in (0, 2, 4, 6, 8)],
        title=f"From the CT scan of {patients[0]} to the MR scan of {patients[1]}, seen from the front",
    )
)
volumes = pd.DataFrame(
    [[(m == s.value).sum() * np.prod(grid.spacing) / 1000 for s in WHOLE_HEART.structures] for m in walk],
    index=pd.Index(steps, name="t"),
    columns=WHOLE_HEART.names,
)
volumes.assign(violations=[plausibility(m, WHOLE_HEART)["violations"] for m in walk]).round(0)

# %% [markdown]
# ## 7 · Whose statistics?
#
# Batch normalisation subtracts a mean and divides by a standard deviation. In training they come from the batch; in
# use, as a rule, from *running* averages. But here label maps and scans flow through the same layers, and their
# statistics differ; the running averages fit neither. So the paper normalises each volume by its **own** statistics
# when it is used ("instance normalization during evaluation"). Does it matter?

# %%
from shapelab.experiments.joint_space.measures import statistics

now = statistics(space, test).assign(first=lambda t: t["rank"] == 1)
now.groupby(["statistics", "modality"])[["dice", "first"]].mean().rename(columns={"dice": "Dice", "first": "rank-1"})

# %% [markdown]
# That was this space, whose training has ended. What the same comparison gives early in a training (200 batches of
# scans) and late (2,000), each on 20 CT and 20 MR scans:

# %%
STUDY = "joint_space_phantom-wh_quick"
late_and_early = kept_runs.measured(f"{STUDY}_statistics")
late_and_early = late_and_early[late_and_early["method"].isin(["CE-Reg, early", "CE-Reg"])]
late_and_early.pivot_table(index=["method", "statistics"], columns="modality", values=["dice", "rank1"]).sort_index()

# %% [markdown]
# Early, the Dice is the same with both, but with running averages four in ten scans' codes do not find their own label
# map (rank-1 .60 instead of .90 to 1.00): the averages mix two kinds of input, and each kind is shifted by it
# in its own way. Late, rank-1 is 1.00 with both, and the volume's own statistics are ahead by .01 (CT) and .02 (MR).
#
# One thing they give for nothing: a prediction does not depend on what else is in its batch.

# %% tags=["nbval-check-output"]
alone = space.segment(test[[3]])
print("the same alone and among others:", bool((alone[0] == from_scans[3]).all()))

# %% [markdown]
# ## 8 · The paper's table, and ours
#
# **l1-Reg** pulls the scan's code to its label map's by their distance. **2E-D** has two encoders of half the width.
# **E-D** learns from scans alone, its decoder as well. **U-Net** is E-D with skip connections. All have had equally
# many batches of scans. Under each stands its ceiling, where it has one; the paper's numbers are in brackets.

# %%

table_1 = kept_runs.measured(STUDY)
for name, part in table_1[table_1["what"] == "mean"].groupby("modality"):
    print(name)
    display(part.set_index("method")[["mean", "sd_seeds", "n_seeds", "n", "paper_mean"]])

# %%
curves = kept_runs.measured(f"{STUDY}_curves")
curves = curves[curves["method"].isin(["CE-Reg", "l1-Reg", "2E-D", "E-D", "U-Net"])]
long = curves.melt(["method", "seed", "steps"], ["val CT", "val MR"], "modality", "Dice")
charts.curves(
    long,
    x="steps",
    y="Dice",
    panels="modality",
    labels=("batches of scans", "Dice"),
    title="Dice of unseen scans while training; bands: three seeds",
)

# %%
kept_runs.measured(f"{STUDY}_contrasts")

# %% tags=["nbval-check-output"]
contrasts = kept_runs.measured(f"{STUDY}_contrasts").set_index(["modality", "other"])
print(
    "CE-Reg beats l1-Reg in every seed:",
    bool((contrasts.loc[("all", "l1-Reg"), ["seeds_better"]] == contrasts.loc[("all", "l1-Reg"), "seeds"]).all()),
)
print("U-Net beats CE-Reg:", bool(contrasts.loc[("all", "U-Net"), "difference"] < 0))

# %% [markdown]
# - **The order of the paper comes out, but for l1-Reg.** At equal batches of scans: U-Net, CE-Reg, then 2E-D and E-D.
#   l1-Reg, third in the paper, is last here, in every seed.
# - **CE-Reg against E-D is close**: .007 in Dice, in two of three seeds (p = .009 over hearts); the paper: .05 to .06.
#   And a batch of label maps takes time, too. *E-D, equal time* sees twice the scans in the time that CE-Reg takes with
#   its label maps, and is ahead of it. Whoever has scans for all label maps gains nothing in Dice from the second kind.
# - **The ceiling is near.** Label maps come back with .83. What is lost between .83 and the U-Net is lost in the
#   code.
# - **"Two different shape spaces"**, the paper expects, if scans train the decoder as well (*free decoder*). We do not
#   see them: its rank-1 is 1.00, its Dice a little higher.
#
# The curves are nearly flat: over the last third of the steps they rise by .02 or less.
#
# ## 9 · Does a space without skips keep hearts whole?
#
# The best argument for such a space should be the bad scan. So the test scans get worse: noise (its standard deviation
# is given; the image's own is 1), slices that are missing, a contrast that nobody has trained for. How many things are
# wrong with a heart, and how much Dice is left?

# %%
robust = kept_runs.measured(f"{STUDY}_robustness")
robust = robust[robust["method"].isin(["CE-Reg", "E-D", "U-Net"])]
kinds = ["noise", "missing slices"]
for measure, words in (("violations", "impossible things a heart"), ("dice", "Dice")):
    display(
        charts.curves(
            robust[robust["kind"].isin(kinds)],
            x="strength",
            y=measure,
            panels="kind",
            labels=("strength", words),
            title=f"Worse and worse scans: {words}",
        )
    )
robust[robust["kind"] == "unseen contrast"].pivot_table(index="method", columns=["modality", "strength"], values="dice")

# %% [markdown]
# **It does.** With clean scans the U-Net makes .8 impossible things a heart, the spaces .1 to .2. With noise of twice
# the image's own spread it makes seven, CE-Reg .5, and its lead in Dice is gone; with a tenth of the slices missing,
# five against one. But look at E-D: it never saw a label map as input, and its hearts are whole as well. **It is the
# missing skips that keep hearts whole, not the joint training.** CT scans of a late phase, unknown in training,
# cost little; MR with dark blood breaks all three.
#
# ## 10 · Exercises
#
# ### Exercise 1: how many numbers?
# A scan of 144 x 122 x 168 voxels is halved four times (a stride of two keeps the odd voxel) and ends in two channels.
# How many numbers has a code?

# %%
answer_1 = None  # a whole number

# %%
course.check(
    "1",
    answer_1,
    2 * 9 * 8 * 11,
    wrong={
        "122 is 61, then 31, 16 and 8: the odd voxel is kept.": 2 * 9 * 7 * 10,
        "There are two channels.": 9 * 8 * 11,
    },
    hint="Halve each side four times, upwards.",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = 2 * 9 * 8 * 11
# ```
# </details>
#
# ### Exercise 2: who learns from whom?
# For each method, does a batch of *scans* change the decoder? Write True or False.

# %%
answer_2 = {"CE-Reg": None, "l1-Reg": None, "E-D": None, "U-Net": None}

# %%
course.check(
    "2",
    None if None in answer_2.values() else answer_2,
    {"CE-Reg": False, "l1-Reg": False, "E-D": True, "U-Net": True},
    wrong={
        "Look at the line in section 3: the decoder is held fixed.": {
            "CE-Reg": True,
            "l1-Reg": False,
            "E-D": True,
            "U-Net": True,
        }
    },
    hint="Where no label map is ever learned from, who else could teach the decoder?",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_2 = {"CE-Reg": False, "l1-Reg": False, "E-D": True, "U-Net": True}
# ```
#
# l1-Reg compares codes; its loss ends before the decoder begins.
# </details>
#
# ### Exercise 3: rank-1
# From codes of scans (N, d) and of their label maps (N, d), row by row the same heart, give the share of scans whose
# nearest label map is their own.


# %%
def share_of_hits(scans, labels):
    return None  # your code


# %%
course.check_function(
    "3",
    share_of_hits,
    [
        ((np.array([[0.0], [1.0], [5.0]]), np.array([[0.1], [4.0], [5.5]])), 2 / 3),
        ((np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[3.0, 4.1], [0.0, 0.2]])), 0.0),
    ],
    hint="A table of all distances (N, N); in each row, where is the smallest?",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def share_of_hits(scans, labels):
#     distance = np.linalg.norm(scans[:, None] - labels[None], axis=2)
#     return (distance.argmin(1) == np.arange(len(scans))).mean()
# ```
# </details>
#
# ## On real hearts
#
# The paper's data set (MM-WHS, 20 CT and 20 MR of whole hearts) asks for a registration and does not come along;
# `shapelab experiment joint-space --data mmwhs` runs the table on it. What can be had of real hearts here are the
# short-axis MR stacks of ACDC: there, images and label maps of 64 patients share one space, and 16 other patients are
# tested.
#
# *Data: Bernard et al., IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018,
# [doi:10.1109/TMI.2018.2837502](https://doi.org/10.1109/TMI.2018.2837502); licence CC BY-NC-SA 4.0 (the tables below
# are derived from them).*

# %%
ON_ACDC = "joint_space_acdc_quick"
real = kept_runs.measured(ON_ACDC)
display(real[real["what"] == "mean"].set_index("method")[["mean", "sd_seeds", "n_seeds", "n"]])
kept_runs.measured(f"{ON_ACDC}_codes").set_index("method")[["rank1", "own", "others", "chance"]]

# %% [markdown]
# And a question that the paper does not ask. Drawing label maps into scans is what costs. Suppose there are 5, 10 or 20
# patients whose scans are labelled, and label maps of many more hearts *without* scans (of other patients, and of
# phantoms). A joint space can learn from those (*CE-Reg, maps*), a U-Net cannot.

# %%
few = kept_runs.measured(f"{ON_ACDC}_few")
few = few[few["method"].isin(["CE-Reg", "CE-Reg, maps", "E-D", "U-Net"])]
patients_labelled = few.assign(labelled=few["labelled"].fillna(64))
charts.curves(
    patients_labelled,
    x="labelled",
    y="mean",
    labels=("patients with labelled scans", "Dice"),
    title="ACDC: Dice of 16 unseen patients",
)

# %% [markdown]
# **Hardly.** With every number of labelled patients the U-Net is far ahead. Against E-D, at equal batches of scans,
# CE-Reg wins with 20 patients (.71, .68) and is level with 5 and with 64. Label maps of further hearts add .02 with 5
# patients, which is less than seeds differ by, and nothing with 20: what is short is not the knowledge of shapes (the
# ceiling lies above), it is the reading of scans. And on real hearts codes are harder to find: three scans of four lie
# nearest to their own label map, among 32.
#
# ## What to take along
#
# - Scans of two machines and label maps do come to lie together in one space, without a loss that says so. To find a
#   heart again, in another modality, is what such a space is good for.
# - Look at the ceiling before you compare, at equal steps *and* at equal time: CE-Reg is level with E-D or a little
#   above at equal steps, and behind it at equal time.
# - Without skips a network draws coarser hearts, but whole ones, also from bad scans. That needs no label maps.
#
# Next: **[10, landmarks](10_landmarks_sslln.ipynb)**, where a network labels hearts and finds six points in them.
