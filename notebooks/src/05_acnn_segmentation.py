# %% [markdown]
# # 05 · Segmentation with a prior: ACNN-Seg
#
# | | |
# |---|---|
# | **Goal** | train a segmentation network that is also judged by the *shape* of its answer; see when that helps |
# | **Time** | 50 minutes of reading; about three quarters of a minute of computing |
# | **You need** | PyTorch; notebook 03 for the autoencoder that judges |
#
# A heart in MRI comes as a **stack**: slices 10 mm thick, each taken in a breath-hold of its own. Between two
# breaths the diaphragm does not return to the same place, so that neighbouring slices are shifted against each
# other by a few millimetres. Two questions follow, and the ACNN paper (Oktay et al., IEEE TMI 2018, section III-C)
# answers both with one network:
#
# - **finer than its input**: the network maps the thick stack $x$ to labels $y$ on a fine grid, whose truth comes
#   from a high-resolution scan of the same heart, without motion. It has to undo the shifts;
# - **anatomically constrained**: cross-entropy counts voxels. A hole in the wall costs a few of them. So the
#   encoder $f$ of a frozen autoencoder (notebook 03) looks at the whole answer, and the distance of codes is added
#   to the loss:
#
# $$\min_{\theta}\;\; \underbrace{\mathcal{L}_x\big(\phi(x;\theta),\,y\big)}_{\text{cross-entropy}}
# \;+\;\lambda_1\,\underbrace{\big\|f(\phi(x;\theta)) - f(y)\big\|_2^2}_{\text{shape, }\mathcal{L}_{he}}
# \;+\;\tfrac{\lambda_2}{2}\,\|w\|_2^2 \tag{1}$$

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from shapelab import course
from shapelab.experiments import kept_runs
from shapelab.experiments.acnn import robustness as acnn_robustness
from shapelab.experiments.acnn import segmentation as acnn_segmentation
from shapelab.models.acnn import InputSettings, SubPixelConfig, SubPixelNet, lr_stacks, predict_labels
from shapelab.phantoms.pairs import heart_pairs
from shapelab.phantoms.patients import Mix
from shapelab.show import style

DATA = "phantom"
SEED = 0
run = course.start("05", DATA, SEED)
config = SubPixelConfig.profile(run.profile)

# %% [markdown]
# ## 1 · Pairs of hearts
#
# The paper had 1200 pairs: a stack and a 3-D scan of the same volunteer. Here the phantom makes them. Image and
# labels are drawn on the fine grid; the stack is *acquired* from the image (a Gaussian of 4 mm through plane,
# every $K$-th position), and each of its slices is moved by its own breath-hold. The truth is not moved.

# %% tags=["nbval-check-output"]
pairs = heart_pairs(run.pick(20, 60, 60), config.grid, config.factor, seed=50_000 + SEED, mix=Mix(phases=("ED",)))
few, unseen = pairs[:12], pairs[12:]
stacks = lr_stacks(unseen, seed=SEED)
print("HR grid:", config.grid, "| K =", config.factor)
print("images", unseen.images.shape, "labels", unseen.labels.shape, "-> stacks", tuple(stacks.shape))
print("each slice has its own motion (dx, dy, degrees):", unseen.motion.shape)
print("sd of the shifts in mm, over all hearts and slices, below 4:", bool(unseen.motion[..., :2].std() < 4))

# %%
restless = int(np.argmax(np.abs(unseen.motion[..., :2]).mean((1, 2))))
still = lr_stacks(unseen, InputSettings(natural=False, noise=0.0))
cut = config.shape[1] // 2
fig = style.figure(9.0, 3.3)
shown = {
    "HR image": unseen.images[restless].astype(np.float32),
    "LR, nobody breathes": still[restless].numpy().repeat(config.factor, 2),
    "LR, breath-holds": stacks[restless].numpy().repeat(config.factor, 2),
}
for ax, (name, volume) in zip(fig.subplots(1, 3), shown.items()):
    ax.imshow(volume[:, cut].T, cmap="gray", vmin=0, vmax=1, aspect=config.spacing[2] / config.spacing[0])
    ax.contour((unseen.labels[restless][:, cut] == 3).T, [0.5], colors="#F0E442", linewidths=0.8)
    ax.set(title=name)
    ax.set_axis_off()
fig.suptitle("Long axis of the most restless heart, base up; the line is the true LV cavity")
fig

# %% [markdown]
# The right picture is what every network below gets, the line in it is what every network has to find.
#
# ## 2 · The network, and six others of its size
#
# **3D-Seg** (the paper's Fig. 2, `shapelab/models/acnn/subpixel.py`) computes all its features on the coarse grid,
# with strides in plane, and goes up through plane in its last transposed convolution. Its layers, in the paper's
# size (on torch's `meta` device: shapes, no numbers):

# %%
paper = SubPixelConfig.profile("paper")
with torch.device("meta"):
    network, rows = SubPixelNet(paper), []
    for name, part in network.named_children():
        part.register_forward_hook(
            lambda m, _, out, name=name: rows.append(
                {
                    "part": name,
                    "out": "x".join(map(str, out.shape[1:])),
                    "parameters": sum(p.numel() for p in m.parameters()),
                }
            )
        )
    network(torch.zeros(1, 1, *paper.lr_shape))
pd.DataFrame(rows).set_index("part")

# %% [markdown]
# A comparison is fair if the networks are of one size. Table I gives the number of parameters of each; how many
# channels that means is not said. `matched_widths` keeps each architecture's own proportions and scales them until
# the numbers agree, in the paper's size and in ours (`shapelab/models/acnn/baselines.py` says what each network is):
#
# - **2D-FCN**: slice by slice (Tran 2016); a label holds for the whole thickness of its slice;
# - **3D-UNet** (Çiçek 2016): on the stack interpolated linearly to the fine grid;
# - **AE-Seg**, **AE-Seg-M**: 3D-Seg followed by an autoencoder, small or larger, that redraws its answer
#   (Ravishankar 2017), trained end to end;
# - **3D-Seg-MAug**: 3D-Seg, trained with further random motion of every slice;
# - **ACNN-Seg**: 3D-Seg, trained with equation 1. Not one parameter more, and nothing changes when it is used.

# %% tags=["nbval-check-output"]
from shapelab.models.acnn.baselines import PAPER_PARAMETERS, build, count_parameters

counted = {m: count_parameters(build(m, paper)) for m in PAPER_PARAMETERS}
sizes = pd.DataFrame({"Table I": PAPER_PARAMETERS, "ours, paper profile": counted})
sizes["ratio"] = (sizes["ours, paper profile"] / sizes["Table I"]).round(3)
sizes["ours, quick"] = [count_parameters(build(m, SubPixelConfig.profile("quick"))) for m in PAPER_PARAMETERS]
print(sizes.astype({"Table I": int}).to_string())
print("all within 3 % of Table I:", bool(((sizes["ratio"] - 1).abs() < 0.03).all()))

# %% [markdown]
# ## 3 · Equation 1, in the open
#
# One training loop, written out once, for a few steps. What is behind `train_network` later is this loop with
# affine augmentation and safeguards. Read the five lines in the middle beside equation 1. The gradient passes
# *through* the encoder, but the encoder does not learn.

# %% tags=["nbval-check-output"]
from shapelab.augment import MotionRanges, acquire, random_motion, shift_slices
from shapelab.device import autocast, best_device
from shapelab.experiments.shipped import phantom_autoencoder
from shapelab.training import Batches
from shapelab.training.losses import cross_entropy, onehot

device = best_device()
space = phantom_autoencoder(run.profile, progress=False)
f = space.model.to(device).eval().requires_grad_(False)  # the frozen encoder
LAMBDA_1, LAMBDA_2 = 0.1, 5e-6

torch.manual_seed(SEED)
phi = SubPixelNet(config).to(device)
optimiser = torch.optim.Adam(phi.parameters(), lr=3e-3, weight_decay=LAMBDA_2)
batches = Batches(few.images, few.labels, few.motion, batch_size=6, seed=SEED)

log = []
for epoch in range(run.pick(quick=6, full=10, paper=10)):
    phi.train()
    for image, y, motion in batches(epoch):
        image, y = image.to(device).float(), y.to(device)
        motion = motion + random_motion(len(y), motion.shape[1], MotionRanges())  # "MAug"
        x = shift_slices(acquire(image, few.spacing, few.factor), motion.to(device), few.spacing)

        with autocast(device):
            logits = phi(x[:, None])  # (N, 4, X, Y, Z): finer than x
            codes, wanted = f.encode(logits.float().softmax(1)), f.encode(onehot(y, 4))
        pixel = cross_entropy(logits, y)  # L_x
        prior = (codes.float() - wanted.float()).square().sum(1).mean()  # L_he
        loss = pixel + LAMBDA_1 * prior

        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        log.append((pixel.item(), prior.item()))

log = np.array(log)
print("steps:", len(log), "| cross-entropy fell by half:", bool(log[-2:, 0].mean() < 0.5 * log[0, 0]))
print("the prior term fell by half:", bool(log[-2:, 1].mean() < 0.5 * log[0, 1]))
print("the encoder got no gradient:", all(p.grad is None for p in f.parameters()))

# %%
fig = style.figure(9.0, 2.4)
for ax, column, name in zip(fig.subplots(1, 2), log.T, ("cross-entropy", "prior term, squared distance of codes")):
    ax.plot(np.arange(1, len(log) + 1), column, color=style.ACCENT, marker="o", ms=3)
    ax.set(title=name, xlabel="step", ylim=(0, None))
    ax.grid(True)
fig.suptitle("The first steps of an ACNN-Seg")
fig

# %% [markdown]
# ## 4 · How strong is the prior?
#
# The paper weighs it with $\lambda_1 = 0.01$, "chosen experimentally". That number is in the units of *its* codes,
# and nothing in the method fixes those: multiply all codes by ten, and $\lambda_1$ means a hundred times as much.
# What can be compared is $\lambda_1$ times the **spread** of the codes, $\sum_i \sigma_i^2$, half of the mean
# squared distance between two hearts. The paper shows 16 of its 64 histograms (Fig. 5); read off their axes, its
# spread is about 200. Ours:

# %% tags=["nbval-check-output"]
spread = float((space.sigma**2).sum())
print("spread of our codes:", round(spread, 1), "| codes:", space.n_codes)
print("lambda that weighs as much as the paper's 0.01:", round(0.01 * 200 / spread, 1))

# %% [markdown]
# So by the scale of its codes, $\lambda_1 = 1$ here is what 0.01 was in the paper, and 0.01 is next to nothing. But
# scale is not all: with 1 the term grows to several times cross-entropy, and the network learns to please $f$. The
# networks below were trained with $\lambda_1 = 0.1$; section 8 tries the others.
#
# ## 5 · Networks that were trained longer
#
# The next cell loads weights that come with the course, trained on phantoms alone. Where they are missing it
# trains them, which takes a while.

# %%
trained = {
    "2D-FCN": acnn_segmentation.phantom_network("2D-FCN", run.profile, progress=False),
    "3D-Seg-MAug": acnn_segmentation.phantom_network("3D-Seg-MAug", run.profile, progress=False),
    "ACNN-Seg-MAug": acnn_segmentation.phantom_network("ACNN-Seg-MAug", run.profile, progress=False),
}
for name, one in trained.items():
    print(
        f"{name:14s} learned from {one.metadata['data']}, lambda {one.metadata['weight']:g}, "
        f"{count_parameters(one):,d} parameters"
    )

# %%
predicted = {name: predict_labels(one, stacks) for name, one in trained.items()}
acnn_robustness.segmentation_figure(
    stacks[restless],
    {name: labels[restless] for name, labels in predicted.items()} | {"truth": unseen.labels[restless]},
    unseen.labels[restless],
    unseen,
    title="The most restless of the unseen hearts; lines: the truth",
)

# %% [markdown]
# 2D-FCN answers in blocks as thick as the slices, and follows every slice to where the breath-hold left it. The
# two 3-D networks are smooth along the heart and pull the slices back in line. Between *them* one has to look
# twice. So let us count.

# %%
cases = {name: acnn_segmentation.evaluate_cases(labels, unseen) for name, labels in predicted.items()}
rows = {}
for name, one in cases.items():
    part = one.groupby("structure", sort=False)[["dice", "hd", "assd"]].mean()
    rows[name] = {(s, m): part.loc[s, m] for s in part.index for m in part.columns}
    rows[name]["heart", "plausible %"] = 100 * one.drop_duplicates("case")["plausible"].mean()
here = pd.DataFrame.from_dict(rows, orient="index")
here.columns = pd.MultiIndex.from_tuples(here.columns)
here.rename_axis(f"{len(unseen)} unseen hearts")

# %% tags=["nbval-check-output"]
print(
    "3-D networks beat the 2-D one in Dice of the myocardium:",
    bool(here["LV myocardium", "dice"].drop("2D-FCN").min() > here.loc["2D-FCN", ("LV myocardium", "dice")]),
)
print(
    "and in its Hausdorff distance:",
    bool(here["LV myocardium", "hd"].drop("2D-FCN").max() < here.loc["2D-FCN", ("LV myocardium", "hd")]),
)
print("LV cavity above 0.85 in Dice with either loss:", bool(here["LV cavity", "dice"].drop("2D-FCN").min() > 0.85))

# %% [markdown]
# ## 6 · Growing corruption
#
# The claim is about bad images. So make them worse, step by step, and watch the two networks that differ by the
# prior alone. At strength 0 no slice moves; the dotted line is about what they met in training.

# %%
pair = {name: trained[name] for name in ("3D-Seg-MAug", "ACNN-Seg-MAug")}
curve = acnn_robustness.robustness(pair, unseen, strengths=(0, 2, 4, 8), kind="motion")
acnn_robustness.robustness_figure(curve, trained_at=2.8, title=f"Growing motion, {len(unseen)} hearts, here and now")

# %% [markdown]
# Eight hearts are few. The same with 40 unseen hearts and five networks, **as measured beforehand** (read from
# `benchmarks/results/acnn_table1_robustness.csv`, means of two trainings each; the notebook has not computed this):

# %%
measured = kept_runs.measured("acnn_table1_robustness")
for kind in measured["kind"].unique():
    part = measured[measured["kind"] == kind]
    display(acnn_robustness.robustness_figure(part, title=f"{kind}, 40 hearts (measured)"))

# %% [markdown]
# ## 7 · Impossible hearts
#
# Dice does not ask whether a heart could be one. `plausibility` does, without looking at the truth: in each slice,
# has a ventricle a **hole**? Does the LV cavity **leak**, that is, touch anything but its wall? Is a structure in
# two **pieces**? Does the heart vanish in one slice and come back in the next (**gap**)? Every true heart of the
# phantom passes. Here the networks get stacks with 8 mm of motion, and the hearts with most violations are shown.

# %%
bad = acnn_robustness.corrupted_stacks(unseen, "motion", 8.0)
under_stress = {name: predict_labels(one, bad) for name, one in trained.items()}
stress = {name: acnn_segmentation.evaluate_cases(labels, unseen) for name, labels in under_stress.items()}
counted = ["violations", "holes", "pieces", "leaks", "gaps", "missing"]
table = pd.DataFrame({name: one.drop_duplicates("case")[counted].mean() for name, one in stress.items()}).T
display(table.rename_axis("violations a heart, 8 mm"))
hearts = stress["3D-Seg-MAug"].drop_duplicates("case").reset_index(drop=True)
worst = int(hearts["violations"].idxmax())
acnn_robustness.segmentation_figure(
    bad[worst],
    {name: labels[worst] for name, labels in under_stress.items()} | {"truth": unseen.labels[worst]},
    unseen.labels[worst],
    unseen,
    title="8 mm of motion: the heart in which 3D-Seg-MAug has most violations",
)

# %% tags=["nbval-check-output"]
from shapelab.metrics import plausibility

checked = [plausibility(label) for label in unseen.labels]
print("true hearts that pass:", sum(bool(c["plausible"]) for c in checked), "of", len(unseen))
holed = unseen.labels[0].copy()
middle = int(np.argwhere(holed == 3)[:, 2].mean())
x, y = np.argwhere(holed[:, :, middle] == 3).mean(0).round().astype(int)
wall = holed[x:, y:, middle] == 2
holed[x:, y:, middle][wall] = 0  # a quarter of the wall of one slice is gone
print("without a quarter of the wall in one slice:", bool(plausibility(holed)["plausible"]))

# %% [markdown]
# ## 8 · Does lambda do anything?
#
# Section 4 guessed from the spread of codes that 0.01 is next to nothing here. Ask the networks: how large is the
# prior term beside cross-entropy on unseen hearts, and what does it respond to? $f$ was trained on label maps, and
# a network gives probabilities. If $f$ took mere doubt for a wrong shape, or did not see a wrong shape, the term
# would be useless. So it is split: `hard`, from the argmax to the truth (what is wrong with the shape), and
# `soft`, from the probabilities to their own argmax (doubt alone).

# %%
terms = {name: acnn_robustness.prior_terms(one, space, unseen, weight=0.01) for name, one in pair.items()}
terms = pd.DataFrame(terms).T
terms.rename(columns={"share": "share at λ = 0.01"}).rename_axis("squared distances of codes, 8 unseen hearts")

# %% tags=["nbval-check-output"]
print("at lambda = 0.01 the prior adds less than a fifth to cross-entropy:", bool((terms["share"] < 0.2).all()))
near, doubt = terms["prior"] < terms["between"], terms["soft"] < 0.05 * terms["between"]
print("the predictions' codes are closer to the truth's than another heart's are:", bool(near.all()))
print("doubt moves a code by less than 5 % of the distance between hearts:", bool(doubt.all()))

# %% [markdown]
# And with other values? Trainings of equal length on 20 patients, where a prior should matter most, three seeds each,
# tested on 60 unseen ones, **as measured beforehand** (`benchmarks/results/acnn_table1_lambda.csv`):

# %%
lambdas = kept_runs.measured("acnn_table1_lambda")
columns = ["dice", "hd", "assd", "violations", "pixel", "prior", "hard", "soft"]
by_weight = lambdas.groupby(["hearts", "weight"])
display(by_weight[columns].mean().assign(seeds=by_weight.size()))
acnn_robustness.sweep_figure(lambdas, title="The weight of the prior (measured; 60 unseen hearts, ED and ES)")

# %% [markdown]
# ## 9 · Table I, the paper's and ours
#
# Trained and tested beforehand (`shapelab experiment acnn --table 1`, quick profile, CPU), read from
# `benchmarks/results/acnn_table1_phantom.csv`. In each cell ours, and the paper's in parentheses. The paper's
# hearts were 200 volunteers at 1.25 x 1.25 x 2 mm, ours are 60 phantoms of five groups at 3 x 3 x 5 mm, so that
# the *columns* cannot be compared. The *order within a column* can.

# %%
measured_table = kept_runs.measured("acnn_table1_phantom")
wide = acnn_segmentation.layout(measured_table)
endocardium = [c for c in wide if c.startswith("endocardium")]
myocardium = [c for c in wide if c.startswith("myocardium")]
rest = [c for c in wide if c not in endocardium + myocardium]
for part in (endocardium, myocardium, rest):
    display(wide[part])

# %%
contrasts = kept_runs.measured("acnn_table1_phantom_contrasts")
wall = contrasts[contrasts["structure"].isin(["LV myocardium", "heart"])]
wall.set_index(["differs", "measure"])[["method", "mean", "other", "mean_other", "difference", "p", "better"]]

# %%
dice = measured_table[(measured_table["measure"] == "dice") & (measured_table["structure"] != "RV cavity")]
fig = style.figure(9.0, 3.0)
for ax, (structure, part) in zip(fig.subplots(1, 2), dice.groupby("structure", sort=False)):
    part = part.dropna(subset="paper_mean")
    for i, (_, row) in enumerate(part.iterrows()):
        mark = style.spare(i)
        ax.plot(row["paper_mean"], row["mean"], mark.marker, color=mark.colour, ms=7, label=row["method"])
    ax.set(title=structure, xlabel="Dice in the paper", ylabel="Dice here" if ax is fig.axes[0] else "")
    ax.grid(True)
handles, labels = fig.axes[0].get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=4)
fig.suptitle("Do the methods come in the same order?")
fig

# %% [markdown]
# ### What the paper found, and what we find
#
# - *Slice-by-slice segmentation is clearly worst.* **Yes**: myocardium .77 against .85, and it falls fastest when
#   slices move. (When slices are *missing* it loses only those: it is the 3-D networks that get confused.)
# - *Sub-pixel 3D-Seg is about as good as a 3D-UNet.* **Yes**, a little better here (.851 against .846, p = .003).
# - *Motion augmentation helps (.773 to .785).* **Only where there is more motion than in training** (4 mm and more).
#   On the test hearts it changes nothing: our training stacks have breath-holds of their own.
# - *AE-Seg redraws its answer by an autoencoder (.779, larger .791).* **No gain here**: .825 with 17 000 parameters
#   in its autoencoder, .849 with 66 000, 3D-Seg alone .851.
# - *ACNN-Seg is best in Dice and mean distance (.811, 1.14 mm).* **Not on these hearts**: .006 below the same network
#   without the prior in the myocardium (p below .0001), with or without motion augmentation.
# - *With the prior, bad images do less harm.* **Not with these corruptions**: with growing motion, noise and missing
#   slices the network with the prior falls as fast, or faster.
# - *Fewer impossible results.* **With few training hearts, yes**: on 20 patients 66 violations a heart without the
#   prior (mean of three trainings), 10 with the paper's own $\lambda_1 = 0.01$. With 160 patients there is no
#   difference (5.5 against 6.2, p = .2).
# - *Predictor and decoder alone draw a rough heart (Dice .734).* **Here they do better**: .81 for the myocardium, with
#   the fewest violations of all (1.6 a heart). A decoder can draw nothing but hearts; and phantoms, unlike people, all
#   lie in its space.
#
# Where we chose otherwise: Adam and one cycle of the learning rate (the paper: "gradient descent", rate fixed); a
# fourth class, the RV cavity; stacks simulated from phantoms instead of clinical ones; training on ED and ES.
#
# What do the measurements say about *why*?
#
# - *Is $f$ blind to a network's soft output?* No. Doubt moves a code by .02, a wrong shape by .4; another heart
#   is 5 away.
# - *Is $\lambda$ too small?* At 0.01 the term adds 6 % to cross-entropy, at 0.1 half of it. With 160 patients neither
#   moves the result, and 1 does harm, and one sees how: the term is no smaller than with 0.1, while cross-entropy is a
#   third larger. On 20 patients the network pleases $f$ by doubt (`soft` .58).
# - **With 160 patients the term has nothing left to add.** On unseen hearts the distance of codes is all but the
#   same whether a network was trained with the term or without (`prior` in the table of section 8): what is left
#   of it comes from what a thick, shifted stack does not show, and no weight brings that back. The test hearts are
#   of the training hearts' kind, and the image alone says nearly all.
# - **With 20 patients it keeps a short training from going astray.** Look at the three seeds in the file: without the
#   prior, Dice is .67, .74 and .82; with 0.01 it is .81, .82 and .81. The best run is as good as any. The prior does
#   not make the best network better, it makes the bad ones rare.
#
# ## 10 · Exercises
#
# ### Exercise 1: the units of lambda
# A colleague trains another autoencoder. It is as good as ours, but its codes are three times as large. With which
# $\lambda_1$ does its prior weigh as much as ours with $\lambda_1 = 0.9$?

# %%
answer_1 = None  # a number

# %%
course.check("1", answer_1, 0.1, tolerance=1e-6, wrong={"The distance is squared.": 0.3}, hint="What do distances do?")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = 0.9 / 3**2  # squared distances are nine times as large
# ```
# </details>
#
# ### Exercise 2: the prior term
# Write $\mathcal{L}_{he}$ for a batch: logits `(N, C, X, Y, Z)`, labels `(N, X, Y, Z)`, an encoder `f` that takes
# probabilities `(N, C, X, Y, Z)` to codes `(N, d)`. The mean over the batch of the squared Euclidean distance.
# (`onehot` is imported above.)


# %%
def prior_term(f, logits, y):
    return ...  # a scalar tensor


# %%
def half_encoder(maps):  # a stand-in for f: sums over the left half of the box
    return maps[:, :, :1].sum((2, 3, 4))


examples = []
for seed in (0, 1):
    g = torch.Generator().manual_seed(seed)
    z, y = torch.randn(2, 3, 2, 2, 2, generator=g), torch.randint(0, 3, (2, 2, 2, 2), generator=g)
    d = half_encoder(z.softmax(1)) - half_encoder(onehot(y, 3))
    examples.append(((half_encoder, z, y), float(d.square().sum(1).mean())))
course.check_function("2", prior_term, examples, tolerance=1e-5, hint="softmax; sum over codes; mean over hearts.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def prior_term(f, logits, y):
#     difference = f(logits.softmax(1)) - f(onehot(y, logits.shape[1]))
#     return difference.square().sum(1).mean()
# ```
# </details>
#
# ### Exercise 3: what going up through plane costs
# The paper's last transposed convolution has kernels of 1 x 1 x 10 and, in our reading, 28 channels in and out,
# without bias. How many weights is that, of 1.6 million?

# %%
answer_3 = None  # a whole number

# %%
mistakes = {"Every output channel sees every input channel.": 28 * 10}
course.check("3", answer_3, 28 * 28 * 10, wrong=mistakes, hint="in x out x kernel")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_3 = 28 * 28 * 10  # half a percent: finer output is nearly free
# ```
# </details>

# %% [markdown]
# ## On real hearts
#
# The networks have seen phantoms alone, in one kind of contrast. ACDC's stacks, laid on the grid (turned by means
# of their labels, which no network sees), at ED. Its truth has no finer grid than its slices: it is interpolated
# here.
#
# *Data: Bernard et al., IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018,
# [doi:10.1109/TMI.2018.2837502](https://doi.org/10.1109/TMI.2018.2837502); licence CC BY-NC-SA 4.0.*

# %%
real = course.real_hearts(10)
if real is not None:
    real = real.filter(phase="ED")
    scores, (scans, truths, on_real) = acnn_robustness.on_real(trained, real, config)
    print(f"Dice, {len(real)} hearts at ED:")
    display(scores.pivot_table(index="method", columns="structure", values="dice", sort=False))
    overall = scores[scores["method"] == "ACNN-Seg-MAug"].groupby("case", sort=False)["dice"].mean()
    typical = list(real.table.index).index(overall.sort_values().index[len(overall) // 2])
    display(
        acnn_robustness.segmentation_figure(
            None,
            {name: labels[typical] for name, labels in on_real.items()} | {"truth": truths[typical]},
            truths[typical],
            unseen,
            title=f"A typical real heart, {real[typical].id}: Dice {overall.iloc[typical]:.2f} with the prior",
        )
    )

# %% [markdown]
# All 80 patients that we have, ED and ES, **as measured beforehand**
# (`benchmarks/results/acnn_table1_acdc.csv`):

# %%
on_acdc = kept_runs.measured("acnn_table1_acdc")
on_acdc.pivot_table(index=["method", "seed"], columns=["phase", "structure"], values="mean", sort=False)

# %% [markdown]
# None of these numbers is good: a network that knows one kind of contrast, and no papillary muscle but the
# phantom's, does not read clinical scans. (What it takes is another experiment, `shapelab experiment reality`.)
#
# **And here is a trap.** With seed 0 the prior pays: .587 becomes .613, and over 160 scans the Wilcoxon test says
# p below .000001. With seed 1 it costs more than that: .637 becomes .524. The test was right, and it answered another
# question: whether *these two networks* differ. Whether the *loss* matters one can only ask over trainings, and there
# the spread between seeds is larger than anything the prior does. Count trainings, not scans.
#
# Trained on real scans themselves (60 patients, native resolution, tested on 20 others; `shapelab experiment acnn
# --table 1 --data acdc`) a network reaches .852, .861 and .934 (RV, myocardium, LV), and with the prior at
# $\lambda_1 = 0.1$ a little less: .844, .844, .925 (`benchmarks/results/reality_acdc_trained_summary.csv`).
#
# So what is a prior worth? Here: **much where training data are few, nothing where they are many.** The paper found
# more, on people. Its images are worse than ours, and its labels are people's, not a formula's.
#
# Next: **[06 super-resolution](06_acnn_super_resolution.ipynb)**, where the output is an image and the prior has to
# read images.
