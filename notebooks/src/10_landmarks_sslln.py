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
# # 10 · Labels and landmarks in one network: SSLLN
#
# | | |
# |---|---|
# | **Goal** | one network that names the tissue of every voxel and finds six points; slices as channels |
# | **Time** | 40 minutes of reading; about a minute of computing |
# | **You need** | notebook 01 for the structures of the heart. Notebook 11 continues from here |
#
# To lay one heart on another, one needs points that are the same in both: **landmarks**. An observer marks them by
# hand. Duan et al. (IEEE TMI 2019) let a network find them, and the same network segments the heart: the
# *simultaneous segmentation and landmark localisation network*, SSLLN. Notebook 11 uses both to fit high-resolution
# hearts, *atlases*, onto a scan of thick slices.

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from shapelab import course
from shapelab.experiments import kept_runs
from shapelab.experiments.sslln import laboratory as sslln_methods
from shapelab.experiments.sslln import layout as sslln_tables
from shapelab.experiments.sslln.hearts import COHORTS, SEEDS, degrade, missing_slices, phantom_volumes
from shapelab.metrics import evaluate_cohort
from shapelab.models import sslln
from shapelab.phantoms import LANDMARKS
from shapelab.show import slices, style

DATA = "phantom"
SEED = 0
run = course.start("10", DATA, SEED)

# %% [markdown]
# ## 1 · Six points
#
# | landmark | where it is |
# |---|---|
# | LV lateral wall mid-point | middle of the left ventricle's wall, on the side away from the right ventricle |
# | RV insertion, anterior and inferior | where the right ventricle's wall meets the left one, at the front and below |
# | RV lateral wall turning point | where the right ventricle's outer wall is farthest out |
# | apex | the tip of the left ventricle |
# | mitral valve centre | middle of the valve between left atrium and ventricle: the base |
#
# "Together, they reflect the size, pose and shape of the heart." Four lie in a slice half way down, two at the ends
# of the long axis. Hearts here are phantoms at end diastole (ED, the ventricles full), each somewhere in its field of
# view and turned as its patient lay: nobody cuts out a region of interest first.

# %% tags=["nbval-check-output"]
numbers = sslln_methods.SSLLNExperiment.profile(run.profile)
config = numbers.network
hearts = phantom_volumes(run.pick(quick=8, full=12, paper=12), config.grid, seed=71_000, groups=("NOR", "RV"))
print("images", hearts.images.shape, "labels", hearts.labels.shape, "landmarks", hearts.landmarks.shape)
print("grid:", config.grid, "| classes:", ("background", *hearts.scheme.names))

# %%
MARKS = style.marks(LANDMARKS)


@style.styled
def landmark_panels(image, places, spacing, title, found=None):
    """The slice half way down with its four landmarks, a long-axis cut with the two ends; rings: those found."""
    fig = style.figure(9.0, 3.9)
    mid, row = int(round(places[:4, 2].mean())), int(round(places[4:, 1].mean()))
    cuts = ((image[:, :, mid], (0, 1), range(4)), (image[:, row], (0, 2), (4, 5)))
    for ax, (plane, axes, shown) in zip(fig.subplots(1, 2), cuts):
        size = np.array(spacing)[list(axes)]
        width, height = plane.shape * size
        ax.imshow(plane.T, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        for i in shown:
            mark = MARKS[LANDMARKS[i]]
            at = (places[i, list(axes)] + 0.5) * size
            ax.plot(*at, mark.marker, color=mark.colour, ms=7, mec="white", mew=0.8, ls="none", label=LANDMARKS[i])
            if found is not None:
                ring = (found[i, list(axes)] + 0.5) * size
                ax.plot(*ring, "o", mfc="none", mec=mark.colour, ms=12, mew=1.8)
    left, right = fig.axes
    left.set(xlabel="x (mm)", ylabel="y (mm), anterior up", title=f"short axis, z = {(mid + 0.5) * spacing[2]:.0f} mm")
    right.set(xlabel="x (mm)", ylabel="z (mm), base up", title=f"long axis, y = {(row + 0.5) * spacing[1]:.0f} mm")
    fig.legend(loc="outside lower center", ncols=3)
    fig.suptitle(title)
    return fig


landmark_panels(hearts.images[0], hearts.landmarks[0], hearts.spacing, "Six landmarks of a healthy heart")

# %% [markdown]
# The heart's wall is dark, blood is bright, the right ventricle lies left in the picture, as seen from the patient's
# feet. Left, the four landmarks of the middle slice; right, a cut through the long axis with its two ends. A scan may
# be turned, so a landmark can lie a little before or behind the cut.
#
# ## 2 · Slices as channels
#
# A 2-D network sees a slice and does not know its neighbours. A 3-D network sees all, and pays for it. SSLLN does
# something between, called **2.5D**: it hands the whole volume to a 2-D network, *each slice a channel*, as if it were
# a colour picture with very many colours. After the first convolution every feature map has seen every slice. At the
# end there is one output map for each (class, slice).
#
# Fifteen convolutions: twelve at five scales, from fine to coarse, one on all scales together, one more, and the
# heads. Count the multiplications of one volume:


# %% tags=["nbval-check-output"]
def multiplications(network):
    """Multiply-adds of one volume, counted layer by layer."""
    total = []
    hooks = [
        m.register_forward_hook(lambda m, _, out: total.append(m.weight.numel() * out[0, 0].numel() * len(out)))
        for m in network.modules()
        if isinstance(m, (torch.nn.Conv2d, torch.nn.Conv3d))
    ]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, *config.shape))
    for hook in hooks:
        hook.remove()
    return sum(total)


costs = {}
for name, kind in sslln.NETWORKS.items():
    network = kind(config)
    costs[name] = multiplications(network)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{name:8s}{parameters:10,d} parameters{costs[name] / 1e9:8.2f} billion multiplications a volume")

# %% [markdown]
# The 2D FCN is the same network on one slice at a time, the 3D FCN the same in three dimensions with half the
# feature maps, on a crop of the middle. 2.5D is the cheapest of the three, and yet sees everything. It pays with
# something else: what a 3-D convolution knows anywhere along $z$, the 2.5D network has to learn for each slice anew.
#
# ## 3 · A loss for six voxels
#
# $$\mathcal{L} = \alpha\,\mathcal{L}_D + \beta\,\mathcal{L}_L + \gamma\,\|W\|^2, \qquad
# \alpha = 0.8,\; \beta = 0.2,\; \gamma = 5\cdot 10^{-5}$$
#
# $\mathcal{L}_D$ is a Dice loss over all classes at once, with squared probabilities below:
#
# $$\mathcal{L}_D = -\,\frac{2\sum_{k,j} 1[r_j = k]\,P_{kj}}{\sum_{k,j} \big(1[r_j = k]^2 + P_{kj}^2 + \epsilon\big)}$$
#
# $\mathcal{L}_L$ is cross-entropy over seven classes: six landmarks *of one voxel each*, and all the rest. Without
# weights the rest would win: a network that says "nowhere" is right in all voxels but six. So each class gets
#
# $$w_k = 1 - |Y_k| / |Y|$$
#
# which is nearly 1 for a landmark (one voxel) and nearly 0 for the rest. Work it out for one volume:

# %% tags=["nbval-check-output"]
voxels = int(np.prod(config.shape))
w_landmark, w_rest = 1 - 1 / voxels, 1 - (voxels - 6) / voxels
print(f"{voxels:,d} voxels | weight of a landmark: {w_landmark:.6f} | of the rest: {w_rest:.2e}")
print(f"together, the rest weighs as much as {w_rest * (voxels - 6):.3f} voxels; the landmarks as much as 6")

# %% [markdown]
# Six against six: balanced. Now both terms, written out, and compared with the library:


# %%
def equation_2(logits, labels, epsilon=1e-8):
    p = logits.softmax(1)
    truth = torch.nn.functional.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1)
    above = 2 * (truth * p).flatten(1).sum(1)
    return -(above / (truth + p**2 + epsilon).flatten(1).sum(1)).mean()


def equation_3(logits, landmarks):
    total = 0
    for log_p, places in zip(logits.log_softmax(1), landmarks.round().long()):
        rest = log_p[0].clone()
        for k, (x, y, z) in enumerate(places.tolist(), start=1):
            total += (1 - 1 / rest.numel()) * log_p[k, x, y, z]
            rest[x, y, z] = 0
        total += len(places) / rest.numel() * rest.sum()
    return -total / len(logits)


# %% tags=["nbval-check-output"]
torch.manual_seed(SEED)
model = sslln.SSLLN(config)
images = torch.as_tensor(hearts.images[:2]).float()
labels, landmarks = torch.as_tensor(hearts.labels[:2]), torch.as_tensor(hearts.landmarks[:2])
with torch.no_grad():
    made, found = model(images)
    mine = equation_2(made, labels), equation_3(found, landmarks)
    ours = sslln.SSLLNLoss()((made, found), labels, landmarks)
print("outputs:", tuple(made.shape), tuple(found.shape))
print("equation 2 is the library's:", bool(torch.isclose(mine[0], ours["dice"], rtol=1e-4)))
print("equation 3 is the library's:", bool(torch.isclose(mine[1], ours["landmarks"], rtol=1e-4)))
print("0.8 x one + 0.2 x the other:", bool(torch.isclose(ours["loss"], 0.8 * mine[0] + 0.2 * mine[1], rtol=1e-4)))

# %% [markdown]
# Six against six is balance *among the landmark classes*. Between the two terms there is none: one is a ratio, the
# other a sum. Look at what each asks of the layers that both share:

# %% tags=["nbval-check-output"]
made, found = model(images)
asked = {}
for name, term in (("Dice", sslln.dice_term(made, labels)), ("landmarks", sslln.landmark_term(found, landmarks))):
    gradients = torch.autograd.grad(term, list(model.trunk.parameters()), retain_graph=True)
    asked[name] = float(torch.cat([g.flatten() for g in gradients]).norm())
ratio = 0.2 * asked["landmarks"] / (0.8 * asked["Dice"])
print("the landmark term pulls more than ten times as hard as the Dice term:", ratio > 10)

# %% [markdown]
# The paper trains for 6,250 steps, 20 hours on a GPU, and gets over it. In the small steps of the `quick` profile the
# labels would hardly learn; there $\alpha$ is 32 (`SSLLNConfig`), in `full` and `paper` it is 0.8.
#
# ## 4 · Training, in the open
#
# Each volume is moved in each step: shifted in the plane, scaled, turned about *one* axis, brighter or darker. The
# landmarks move along. This is the whole loop; `train_sslln` does the same with safeguards (checkpoints, a schedule
# of the learning rate).

# %%
from shapelab.augment import affine_pair
from shapelab.device import autocast, best_device
from shapelab.training import Batches

device = best_device()
model = model.to(device).train()
optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=2 * config.gamma)
few = phantom_volumes(run.pick(quick=16, full=100, paper=100), config.grid, seed=71_001)
batches = Batches(few.images, few.labels, few.landmarks.astype(np.float32), batch_size=config.batch, seed=SEED)
loss = sslln.SSLLNLoss(config.alpha, config.beta)
rows = []
for epoch in range(5):
    for images, labels, landmarks in batches(epoch):
        maps = sslln.random_maps(len(images), config.affine)
        images, labels = affine_pair(images.to(device).float(), labels.to(device), maps, few.spacing)
        landmarks = sslln.move_landmarks(landmarks, maps, config.shape, few.spacing).to(device)
        brightness = 1 + config.intensity * (2 * torch.rand(len(images), 1, 1, 1, device=device) - 1)
        with autocast(device):
            output = model((images * brightness).clamp(0, 1))
        terms = loss(output, labels, landmarks)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        rows.append((terms["dice"].item(), terms["landmarks"].item()))
terms = np.array(rows)

# %%
fig = style.figure(9.0, 2.4)
for ax, column, name in zip(fig.subplots(1, 2), (0, 1), ("Dice term (-1: perfect)", "landmark term")):
    ax.plot(np.arange(1, len(terms) + 1), terms[:, column], color=style.ACCENT)
    ax.set(title=name, xlabel="step")
    ax.grid(True)
fig.suptitle("The two terms of equation 1")
fig

# %% tags=["nbval-check-output"]
print("steps:", len(terms), "| both terms have fallen:", bool((terms[-8:].mean(0) < terms[:8].mean(0)).all()))

# %% [markdown]
# The Dice term begins well below 0, and that says little: most voxels are background, and background counts. It is a
# property of the paper's loss to remember: **thin structures come last**. The wall of the right ventricle is a few
# thousandths of the sum.
#
# ## 5 · Weights that took longer
#
# Networks that come with the course, trained on 200 phantoms of all five groups: SSLLN-HR on high-resolution volumes
# (80 epochs), SSLLN-LR on thick slices, and the 2D FCN (16 epochs: it learns from twelve slices of each volume in each
# step, so an epoch teaches it more). Where they are missing this cell trains them, half an hour each. The last row is
# of hearts that SSLLN-HR was trained on.

# %%
networks = {m: sslln_methods.phantom_sslln(m, run.profile, progress=False) for m in sslln_methods.SHIPPED}
unseen = phantom_volumes(run.pick(quick=10, full=20, paper=20), config.grid, seed=71_002, groups=("NOR",))
made, found = sslln.predict(networks["SSLLN-HR"], unseen.images)
flat, _ = sslln.predict(networks["2D FCN"], unseen.images)


def scores(labels, truth, method):
    ids = list(truth.table.index)
    return evaluate_cohort(
        truth.scheme.integers(labels),
        truth.scheme.integers(truth.labels),
        truth.spacing,
        ids,
        truth.scheme,
        method=method,
    )


old = phantom_volumes(10, config.grid, SEEDS["training"], COHORTS["training"])
again, _ = sslln.predict(networks["SSLLN-HR"], old.images)
parts = {"SSLLN-HR": (made, unseen), "2D FCN": (flat, unseen), "SSLLN-HR, hearts of its training": (again, old)}
table = pd.concat([scores(labels, who, name) for name, (labels, who) in parts.items()])
table.pivot_table(index="method", columns="label", values=["dice", "hd"], sort=False).round(3)

# %%
chosen = 1
picked = np.linspace(*np.flatnonzero(unseen.labels[chosen].any((0, 1)))[[1, -2]], 5).round().astype(int)
truth, one, two = (unseen.scheme.integers(a[chosen]) for a in (unseen.labels, made, flat))
image = unseen.images[chosen].astype(np.float32)
slices.compare_slices(
    [("truth", (image, truth)), ("SSLLN-HR", (image, one)), ("2D FCN", (image, two))],
    unseen.spacing,
    unseen.scheme,
    indices=list(picked),
    title="A heart that no network has seen, base to apex",
)

# %% [markdown]
# All tables of the paper, with more hearts (`shapelab experiment sslln --table 1`; 60 healthy hearts), **as measured
# beforehand**; the paper's numbers in parentheses:

# %%
display(sslln_tables.layout(kept_runs.measured("sslln_table1")))

# %% [markdown]
# ## 6 · From a heap of voxels to a point
#
# The network calls a few voxels "apex", not one. The landmark is their **centre of gravity**. Where it calls none so,
# we take the voxel in which the landmark is likeliest.

# %%
with torch.inference_mode():
    logits = networks["SSLLN-HR"](torch.as_tensor(unseen.images[chosen])[None].float().to(device))[1][0].float()
heap = logits.argmax(0).cpu()
print({name: int((heap == k).sum()) for k, name in enumerate(LANDMARKS, start=1)}, "voxels")
landmark_panels(
    image, unseen.landmarks[chosen], unseen.spacing, "Landmarks: true (filled) and found (rings)", found[chosen]
)

# %%
errors = sslln_methods.landmark_errors(found, unseen)
mm = np.linspace(0, 30, 121)
fig = style.figure(6.0, 3.3)
ax = fig.subplots()
beforehand = kept_runs.measured("sslln_table2_cases")
for name, part in beforehand[beforehand["method"] == "SSLLN-HR"].groupby("landmark", sort=False):
    mark = MARKS[name]
    share = sslln_tables.cumulative(part["error"], mm)
    ax.plot(mm, 100 * share, color=mark.colour, marker=mark.marker, markevery=12, ms=4, label=name)
ax.set(xlabel="error not above (mm)", ylabel="hearts (%)", title="Fig. 10: cumulative errors, as measured beforehand")
ax.grid(True)
ax.legend(fontsize=8)
fig

# %% [markdown]
# Here, a few hearts; and Table II, **as measured beforehand**. The paper's second observer missed the first one by 5.6
# to 17.4 mm: points that lie on a smooth wall have no mark of their own. A phantom has none either, and no second
# observer.

# %%
print(errors.groupby("landmark", sort=False)["error"].mean().round(1).to_dict(), "mm")
display(sslln_tables.layout(kept_runs.measured("sslln_table2")))

# %% [markdown]
# ## 7 · What is not there
#
# Slices get lost: a breath, a trigger that failed. Set some to zero and segment again (the paper's Fig. 8). The paper
# finds that the 2D FCN has nothing to go by there, and that SSLLN fills in what belongs there. Ours?

# %%
count = round(26 / unseen.spacing[2])
holed, gap = missing_slices(unseen, count)
rows = {m: sslln.predict(networks[m], holed.images[: chosen + 1])[0][chosen] for m in networks if m != "SSLLN-LR"}
scan = holed.images[chosen].astype(np.float32)
slices.compare_long_axes(
    [("with a gap", scan), ("truth", (scan, truth))]
    + [(m, (scan, unseen.scheme.integers(labels))) for m, labels in rows.items()],
    unseen.spacing,
    unseen.scheme,
    title=f"{count} slices ({count * config.spacing[2]:.0f} mm) are missing",
)

# %%
gaps = kept_runs.measured("sslln_gaps")
gaps.pivot_table(index=["method", "gap_mm"], columns="label", values="dice", sort=False)

# %% [markdown]
# Dice *inside the gap*, **as measured beforehand** on 60 hearts. The 2D FCN has nothing to go by. The 3D FCN sees
# beyond the gap, but has learned that dark is background. SSLLN sees all slices, and yet ours is **lost**, even beyond
# the gap: each slice is a channel that goes into every feature, so a zero that training never showed it upsets them
# all.
#
# The network "SSLLN-HR, gaps" was trained with some slices set to zero in every second volume (not in the paper), and
# it does what the paper promises: the wall is drawn through the dark. On whole volumes that costs .01 to .04 of Dice
# (.11 for the RV wall). Robustness to something is learned from it; an architecture only makes it possible.
#
# ## 8 · Thick slices
#
# In a clinic, slices are 10 mm thick, each from its own breath-hold, and the apex is often not covered. SSLLN-LR is
# the same network, trained on such stacks, laid on the same fine grid. Its labels are those of the slices as they
# were taken, steps and all; its landmarks are the heart's, also where no slice is.

# %%
low, stacks = degrade(unseen, numbers.degradation, seed=SEED)
thick, places = sslln.predict(networks["SSLLN-LR"], low.images)
display(scores(thick, unseen, "SSLLN-LR").groupby("label", sort=False)[["dice", "hd"]].mean())
errors = sslln_methods.landmark_errors(places, low)
print(errors.groupby("landmark", sort=False)["error"].mean().round(1).to_dict(), "mm")
landmark_panels(
    low.images[chosen].astype(np.float32),
    low.landmarks[chosen],
    low.spacing,
    "Thick slices: landmarks true (filled) and found (rings)",
    places[chosen],
)

# %% [markdown]
# The landmarks are hardly worse than in thin slices, even the apex, which lies where nothing was scanned: they are what
# the network knows of hearts. The labels are those of thick slices. Notebook 11 takes both, and makes a smooth heart
# of them.
#
# ### What the paper found, and what we find
#
# | | paper | here |
# |---|---|---|
# | landmarks | 3.7 to 8.2 mm off; a second observer 5.6 to 17.4 | 4.4 to 9.7 mm |
# | nearer than 20 mm | 92 % of hearts | 98 % |
# | SSLLN-HR, Dice of RV cavity, LV wall, LV cavity, RV wall | .93 .87 .96 .76 | .92 .89 .95 .52 |
# | the 2D FCN beside it | .89 .84 .95 .63: behind | .96 .92 .97 .75: **ahead** |
# | the 3D FCN | .92 .89 .96 .73: as good | .96 .93 .98 .75: ahead |
# | missing slices | SSLLN fills them in | lost; filled in once training has shown it gaps |
# | test hearts | 831, each pair of methods tested | 60, one pair tested (2D FCN and SSLLN-HR) |
# | learning rate | fixed | one cycle in `quick` and `full` |
# | intensities clipped at percentiles | 1 and 99 | 99 |
#
# Why does the cheaper network not win here? It has to learn each slice by itself, from 200 hearts and 8,000 steps; the
# paper has 1,000 hearts and larger steps for that. The FCNs learn one slice, or one voxel, for all. On hearts
# *of its training* (section 5) SSLLN is hardly better than on new ones: it has not learned them by heart, it
# has not finished learning. What it alone has are landmarks, and these are nearly as good as the paper's.
#
# ## 9 · Exercises
#
# ### Exercise 1: channels
# A volume has 80 slices; there are five tissue classes (background among them) and six landmarks. How many output maps
# do the two heads have together?

# %%
answer_1 = None  # a whole number

# %%
course.check(
    "1",
    answer_1,
    5 * 80 + 7 * 80,
    wrong={"And where there is no landmark?": 11 * 80},
    hint="(classes + landmark classes) x slices",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = (5 + 7) * 80
# ```
# </details>
#
# ### Exercise 2: the centre of gravity
# Write the function that turns a mask (X, Y, Z) into a point in mm.


# %%
def centre_of_gravity(mask, spacing):
    return ...  # three numbers


# %%
g = np.random.default_rng(0)
cases = []
for size in ((2.0, 2.0, 2.5), (1.0, 3.0, 10.0)):
    mask = g.random((5, 6, 7)) < 0.2
    cases.append(((mask, size), np.argwhere(mask).mean(0) * size))
course.check_function("2", centre_of_gravity, cases, tolerance=1e-9, hint="np.argwhere gives the places of the voxels.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def centre_of_gravity(mask, spacing):
#     return np.argwhere(mask).mean(0) * np.array(spacing)
# ```
# </details>
#
# ### Exercise 3: which Dice?
# A network calls every voxel background, with certainty. Background is 97 % of the volume. What does the Dice term of
# equation 2 give (leave $\epsilon$ out)?

# %%
answer_3 = None  # a number

# %%
course.check(
    "3",
    answer_3,
    -0.97,
    tolerance=1e-6,
    wrong={"That is the Dice of the heart alone.": 0.0},
    hint="2 x .97 V above; V + V below.",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_3 = -2 * 0.97 / (1 + 1)
# ```
#
# That is why the curve in section 4 begins where it does.
# </details>
#
# Next: **[11 atlas refinement](11_atlas_refinement.ipynb)**, where six points and a rough label map become a smooth
# heart.
