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
# # 06 · Super-resolution with an anatomical prior
#
# | | |
# |---|---|
# | **Goal** | make a stack of 10 mm slices fine; what a network adds to interpolation, and a shape prior to a network |
# | **Time** | 40 minutes of reading; about half a minute of computing |
# | **You need** | notebook 04 for the T-L network, whose predictor is the prior here |
#
# A cine scan of the heart is a stack of some ten slices, 10 mm apart, each taken in a breath-hold of its own. In
# the plane it is sharp, through the plane it is coarse, and the slices do not quite fit on one another. A
# **super-resolution** (SR) network $\Phi$ takes the stack $x$ and gives the fine volume $\Phi(x)$ that a better
# scanner would have taken, $y$. It learns from
#
# $$\min_\theta \;\; \Psi_{\ell_1}\big(\Phi(x;\theta) - y\big) + \lambda_1\,\big\| p(\Phi(x;\theta)) - p(y) \big\|_2^2
# + \tfrac{\lambda_2}{2}\,\|w\|_2^2 , \qquad
# \Psi_{\ell_1}(k) = \begin{cases} \tfrac12 k^2 & |k| < 1 \\ |k| - \tfrac12 & \text{otherwise} \end{cases}$$
#
# (equation 2 of Oktay et al., ACNN, IEEE TMI 2018). The first term compares voxels. The second compares **shape
# codes** that the predictor $p$ of a T-L network reads from both images: a voxel does not know what a heart is, $p$
# does.

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import display

import shapelab
from shapelab import course
from shapelab.experiments.acnn import super_resolution as table_3
from shapelab.experiments.tables import printed
from shapelab.models.acnn import InputSettings, lr_stacks, predict_images
from shapelab.models.acnn.sr_baselines import INTERPOLATIONS, Interpolation, SubPixelSR, interpolation_matrix
from shapelab.phantoms.pairs import heart_pairs
from shapelab.show import style

DATA = "phantom"
SEED = 0
run = course.start("06", DATA, SEED)

# %% [markdown]
# ## 1 · From fine to coarse: the acquisition model
#
# Nobody has the fine volume of a patient who was scanned coarsely. So pairs are made the other way round: from a
# fine volume, a scanner with thick slices is imitated. A slice sees the heart through a Gaussian profile ($\sigma$
# = 4 mm), and only every $K$-th position is measured: one matrix, from $Z$ fine slices to $Z/K$ thick ones. Then
# each slice is moved in its plane, as by a breath-hold that differs a little from the last one. The fine volume is
# *not* moved: the network has to undo it.

# %% tags=["nbval-check-output"]
from shapelab.augment import acquire
from shapelab.augment.corruptions import acquisition_matrix

config = table_3.SuperResolutionConfig.profile(run.profile)
numbers = config.network
K = numbers.factor
pairs = heart_pairs(run.pick(quick=12, full=40, paper=40), numbers.grid, K, seed=table_3.TEST_SEED)
clean = lr_stacks(pairs, InputSettings(natural=False, noise=config.noise))
moved = lr_stacks(pairs, InputSettings(noise=config.noise))
truth = pairs.images.astype(np.float32)

weights = acquisition_matrix(numbers.shape[2], numbers.spacing[2], K)
print("fine:", numbers.grid, "| K =", K, "| LR:", "x".join(map(str, numbers.lr_shape)))
print("a slice's weights sum to 1:", bool(torch.allclose(weights.sum(1), torch.ones(len(weights)))))
print("slice 3 is centred on fine slice", float((weights[3] * torch.arange(numbers.shape[2])).sum().round(decimals=3)))
print("hearts to test on:", len(pairs), "of", pairs.table["patient"].nunique(), "patients")

# %%
# where the breath-holds of this patient step most, and a cut through his LV
chosen = int(np.argmax(np.abs(np.diff(pairs.motion[:, 3:-3], axis=1))[..., :2].max((1, 2))))
cut = int(round(np.argwhere(pairs.labels[chosen] == 3).mean(0)[1]))


def long_axis_panels(volumes, title, columns=4, cut=cut, difference=False, unit="intensity"):
    """Cuts along the long axis, base up, RV left, voxels as large as they are in mm; volumes: name -> (array, spacing).

    difference : the arrays are differences, shown from blue to red with a scale
    """
    rows = -(-len(volumes) // columns)
    fig = style.figure(9.0, 2.35 * rows + 0.4)
    axes = fig.subplots(rows, columns, squeeze=False)
    look = {"cmap": "RdBu_r", "vmin": -0.3, "vmax": 0.3} if difference else {"cmap": "gray", "vmin": 0, "vmax": 1}
    for ax in axes.flat[len(volumes) :]:
        ax.set_axis_off()
    for i, (ax, (name, (volume, spacing))) in enumerate(zip(axes.flat, volumes.items())):
        extent = (0, volume.shape[0] * spacing[0], volume.shape[2] * spacing[2], 0)
        shown = ax.imshow(volume[:, cut, :].T, extent=extent, aspect="equal", interpolation="nearest", **look)
        ax.set_title(name)
        ax.tick_params(length=2, labelleft=i % columns == 0, labelbottom=i + columns >= len(volumes))
        ax.set_xlabel("x (mm), RV → LV" if i + columns >= len(volumes) else "")
        ax.set_ylabel("z (mm), base up" if i % columns == 0 else "")
    if difference:
        fig.colorbar(shown, ax=axes, shrink=0.8, label=unit)
    fig.suptitle(title)
    return fig


fine, thick = numbers.spacing, (*numbers.spacing[:2], K * numbers.spacing[2])
long_axis_panels(
    {
        "the heart (HR)": (truth[chosen], fine),
        "thick slices": (clean[chosen].numpy(), thick),
        "with breath-holds": (moved[chosen].numpy(), thick),
    },
    f"One heart, as a fine scanner sees it and as thick slices do: {pairs.table.index[chosen]}",
    columns=3,
)

# %% [markdown]
# In the middle the wall has become stairs; on the right the stairs are also shifted against one another. An
# observer who measures there measures the breath-holds too.
#
# ## 2 · Interpolation, as one matrix
#
# What does one do without a network? Draw a line, or a smooth curve, through the slice centres, voxel by voxel.
# Both are linear in the image: a matrix from thick slices to fine ones. Thick slice $k$ covers the fine slices $kK
# \dots kK + K - 1$, so its centre lies at $kK + (K-1)/2$. Beyond the outermost centres the outermost slice is repeated.

# %% tags=["nbval-check-output"]
slices = numbers.lr_shape[2]
for kind in INTERPOLATIONS:
    matrix = interpolation_matrix(slices, K, kind)
    print(
        f"{kind:8s}",
        matrix.shape,
        "| rows sum to 1:",
        bool(np.allclose(matrix.sum(1), 1)),
        "| negative weights:",
        bool(matrix.min() < -1e-9),
    )
print(
    "fine slices between thick slices 2 and 3 (linear):", interpolation_matrix(slices, 2, "linear")[5:7, 2:4].tolist()
)

# %%
fig = style.figure(9.0, 2.9)
left, right = fig.subplots(1, 2, sharey=True)
z = np.arange(numbers.shape[2])
for ax, kind in zip((left, right), INTERPOLATIONS):
    matrix = interpolation_matrix(slices, K, kind)
    for k in range(4, 8):
        mark = style.spare(k - 4)
        ax.plot(z * fine[2], matrix[:, k], mark.marker + "-", color=mark.colour, ms=3, label=f"thick slice {k}")
    ax.set(title="linear" if kind == "linear" else "cubic B-spline", xlabel="z of the fine slice (mm)", xlim=(20, 100))
    ax.grid(True)
left.set_ylabel("weight")
handles, labels = right.get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=4)
fig.suptitle("What each thick slice gives to the fine ones")
fig

# %% [markdown]
# The spline's weights are negative two slices away: it sharpens, and it overshoots at edges. Neither of them moves
# a slice back to where it belongs. They cannot: that needs to know what a heart looks like.
#
# ## 3 · Where does a network do its work?
#
# **SR-CNN** (Oktay et al., MICCAI 2016) first brings the stack to the fine grid by a transposed convolution, then
# convolves there. The ACNN paper's SR network (its Fig. 2) does the opposite: all its convolutions work on the
# *thick* slices, at four scales in the plane, and the last transposed convolution alone goes up through the plane.
# Same number of parameters; count the multiplications.

# %% tags=["nbval-check-output"]
networks = {m: table_3.build(m, config) for m in ("SR-CNN", "SR")}


def multiplications(network, shape):
    """Multiply-adds of one volume, counted layer by layer."""
    total = []
    kinds = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)

    def count(layer, given, made):
        size = given[0] if isinstance(layer, torch.nn.ConvTranspose3d) else made
        total.append(layer.weight.numel() * size[0, 0].numel())

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, kinds)]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 1, *shape))
    for hook in hooks:
        hook.remove()
    return sum(total)


costs = {name: multiplications(n, numbers.lr_shape) for name, n in networks.items()}
for name, network in networks.items():
    print(f"{name:7s}{table_3.count(network):8,d} parameters, {costs[name] / 1e9:.2f} billion multiplications a volume")
print(f"SR-CNN needs {costs['SR-CNN'] / costs['SR']:.1f} times as many")

# %% [markdown]
# The paper says five times faster, and gives the reason that you have just counted. Both networks here learn the
# **residual**: what has to be added to the linearly interpolated stack. SR-CNN does so in its paper. For the ACNN
# network it is our choice: its training in `quick` takes minutes, and most of them would go into learning to copy
# the stack.
#
# ## 4 · The loss, in the open
#
# Equation 2, written out. Everything that `shapelab.models.acnn.ACNNLoss` does is in the first lines; everything
# that `train_network` does is in the loop, with safeguards. The predictor is frozen: its weights get no gradient,
# but the gradient goes *through* it, to the network.

# %%
from shapelab.augment import shift_slices
from shapelab.device import autocast, best_device
from shapelab.training import Batches

device = best_device()
predictor = table_3.tl_space(run.profile, progress=False).model.predictor.to(device).eval().requires_grad_(False)


def smooth_l1(k):
    return torch.where(k.abs() < 1, 0.5 * k**2, k.abs() - 0.5).mean()


def equation_2(output, y, weight):
    pixel = smooth_l1(output.float() - y)
    shape = (predictor(output.float()) - predictor(y)).square().sum(1).mean()
    return pixel + weight * shape, pixel, shape


few = heart_pairs(run.pick(quick=16, full=100, paper=100), numbers.grid, K, seed=7)
torch.manual_seed(SEED)
model = SubPixelSR(numbers).to(device)
optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=5e-6)
batches = Batches(few.images, few.motion, batch_size=8, seed=SEED)

rows = []
for epoch in range(run.pick(quick=6, full=6, paper=6)):
    for images, motion in batches(epoch):
        y = images.to(device).float()  # (8, X, Y, Z): stays where it is
        x = acquire(y, few.spacing, K)  # (8, X, Y, Z / K)
        x = shift_slices(x, motion.to(device), few.spacing)  # one breath-hold a slice
        x = x + config.noise * torch.rand(()) * torch.randn_like(x)
        with autocast(device):
            output = model(x[:, None])  # (8, 1, X, Y, Z)
        loss, pixel, shape = equation_2(output, y[:, None], weight=0.01)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rows.append((pixel.item(), shape.item()))
terms = np.array(rows)

# %% tags=["nbval-check-output"]
from shapelab.models.acnn import ACNNLoss

with torch.no_grad():
    ours = ACNNLoss(predictor, weight=0.01)(output.float(), y[:, None])
print("steps:", len(terms), "| the library's loss is the same:", bool(torch.isclose(ours["loss"], loss, rtol=1e-3)))
print("smooth l1 has fallen:", bool(terms[-4:, 0].mean() < terms[:4, 0].mean()))
print("the predictor got no gradient:", all(p.grad is None for p in predictor.parameters()))

# %% [markdown]
# Look at the two terms:

# %%
fig = style.figure(9.0, 2.4)
names = ("smooth l1 (mean over voxels)", "shape: squared distance of codes")
for ax, column, name in zip(fig.subplots(1, 2), (0, 1), names):
    ax.plot(np.arange(1, len(terms) + 1), terms[:, column], color=style.ACCENT)
    ax.set(title=name, xlabel="step", ylim=(0, None))
    ax.grid(True)
fig.suptitle("The two terms of equation 2")
fig

# %% [markdown]
# They live on different scales. Intensities lie in $[0, 1]$, so half a squared difference, averaged over voxels, is
# in the thousandths. Codes have a scale of their own: that of our T-L network are small (their variance over hearts
# sums to 0.23), others may be a hundred times as large. So a $\lambda$ means nothing without the scale of both; the
# paper's 0.01 belongs to its codes and to its way of adding up voxels. Section 7 has a sweep.
#
# ## 5 · Weights that took longer
#
# Networks that come with the course: SR (first term only), ACNN-SR (both) and SR-CNN, each trained once on
# phantoms. Where they are missing this cell trains them, which takes a while.

# %%
methods = {
    "Linear": Interpolation(K, "linear"),
    "B-spline": Interpolation(K, "bspline"),
    **{m: table_3.phantom_sr(m, run.profile, progress=False) for m in ("SR-CNN", "SR", "ACNN-SR")},
}
print({name: f"{table_3.count(n):,d} parameters" for name, n in methods.items()})

# %% [markdown]
# ## 6 · Side by side
#
# Hearts of patients that no network has seen, from stacks with breath-holds:

# %%
made = {name: predict_images(n, moved) for name, n in methods.items()}
long_axis_panels(
    {"the stack": (moved[chosen].numpy(), thick)}
    | {name: (m[chosen], fine) for name, m in made.items()}
    | {"the heart (HR)": (truth[chosen], fine)},
    "From thick slices with breath-holds to fine ones",
)

# %%
long_axis_panels(
    {name: (m[chosen] - truth[chosen], fine) for name, m in made.items()},
    "Difference from the heart: what is still wrong",
    columns=5,
    difference=True,
    unit="made - true (images: 0 to 1)",
)

# %% [markdown]
# **SSIM** (structural similarity, Wang et al. 2004) compares means, variances and covariance of two images within a
# small window, and averages over all windows: 1 for the same image. The paper takes it because its HR images are
# not perfectly aligned with its stacks, where a voxel-by-voxel error would punish the alignment. Ours are.

# %%
inputs = {"clean": clean, "breath-holds": moved}
rows = []
for condition, stacks in inputs.items():
    for name, network in methods.items():
        scores = table_3.evaluate(network, stacks, pairs)
        rows.append({"input": condition, "method": name, **scores[["ssim", "psnr", "error"]].mean()})
scores = pd.DataFrame(rows).set_index(["method", "input"]).unstack()
paper = printed("acnn", "III").query("measure == 'ssim'").set_index("method")["mean"]
scores["paper", "ssim"] = paper.reindex(scores.index)
scores.loc[list(methods)]

# %% tags=["nbval-check-output"]
similarity = scores["ssim"]["breath-holds"]
print(
    "with breath-holds, every network beats both interpolations:",
    bool(similarity[["SR-CNN", "SR", "ACNN-SR"]].min() > similarity[["Linear", "B-spline"]].max()),
)
print("breath-holds cost each method similarity:", bool((similarity < scores["ssim"]["clean"]).all()))

# %% [markdown]
# Read the column *clean* first: where no slice has moved, a spline is hard to beat. It gets .94 and so do the
# networks; the phantom's hearts are smooth, and what a smooth thing does between two slices a smooth curve knows.
# With breath-holds the order is another one: both interpolations keep the steps, the networks have learned to take
# them out.
#
# The whole experiment (`shapelab experiment acnn --table 3`, quick profile, CPU; 60 unseen hearts, two trainings of
# each network), **as measured beforehand** (`benchmarks/results/acnn_table3_phantom.csv`); the paper's numbers in
# parentheses:

# %%
from shapelab.experiments import kept_runs

whole = table_3.layout(kept_runs.measured("acnn_table3_phantom"))
display(whole[["SSIM", "sd", "PSNR dB", "error in heart", "Dice", "p (two best)"]])

# %% [markdown]
# `Dice` is that of the label map which the T-L network reads from each result: whether a shape survives. The paper
# finds linear < B-spline < SR-CNN < 3D-UNet < ACNN-SR, all within two hundredths. We find the same order with
# breath-holds (but for the 3D-UNet, which lies below SR-CNN), and gaps that are larger, .81 to .85. Its SSIM is lower
# for all methods: a volunteer's fine scan is noisier than a phantom's, and no method can guess noise.
# Its test stacks are clinical ones, ours are simulated; its networks learned by "gradient descent" at a fixed rate,
# ours by Adam with one cycle of the rate (our choice).
#
# ## 7 · Does the prior help?
#
# ACNN-SR and SR differ in the second term of equation 2 and in nothing else. **As measured beforehand**, with more
# lambdas (the first training of each):

# %%
display(kept_runs.measured("acnn_table3_phantom_claims"))
sweep = kept_runs.measured("acnn_table3_phantom_sweep").rename(
    columns={"weight": "λ", "share": "λ · shape / smooth l1"}
)
sweep.set_index(["condition", "λ"]).sort_index()

# %% [markdown]
# **Not in SSIM.** It falls by .0025 with $\lambda_1 = 0.01$, a tiny step, but in nearly every patient (p below
# .0001); and by more with larger values. What the prior asks for it gets: the distance of codes falls as $\lambda_1$
# grows (`prior`), and the label map that is read from a moved stack is a little better (Dice .849 instead of .846).
# So the term pulls where it should, towards images in which $p$ sees the right heart, and SSIM pays for it. The paper
# has no SR without the prior in its table, so that its gain over SR-CNN (.783 to .796) may well be the network's:
# here that alone gives .841 to .851.
#
# ## 8 · Growing motion
#
# The same hearts, the same directions, farther and farther. At 0 mm the slices fit; ACDC's slices leave a smooth
# line by 1 to 2 mm.

# %%
from dataclasses import replace

some = pairs[:: max(1, len(pairs) // 12)]
curve = table_3.motion_curve(methods, some, replace(config, shifts=(0.0, 1.5, 3.0, 4.5)))
fig = style.figure(6.0, 3.0)
ax = fig.subplots()
for i, (name, one) in enumerate(curve.groupby("method", sort=False)):
    mark = style.spare(i)
    ax.plot(
        one["shift_mm"], one["ssim"], marker=mark.marker, color=mark.colour, ms=4, label=name, ls="--" if i < 2 else "-"
    )
ax.set(xlabel="sd of each slice's shift, x and y (mm)", ylabel="SSIM", title=f"Mean over {len(some)} unseen hearts")
ax.grid(True)
ax.legend()
fig

# %% tags=["nbval-check-output"]
at = curve.set_index(["method", "shift_mm"])["ssim"].unstack()
print("every method falls as motion grows:", bool((at.diff(axis=1).iloc[:, 1:] < 0).all().all()))
interpolated = at.loc[["Linear", "B-spline"], 3.0].max()
print("at 3 mm the networks lead:", bool(at.loc[["SR-CNN", "SR", "ACNN-SR"], 3.0].min() > interpolated))

# %% [markdown]
# ## 9 · How long does it take?
#
# One volume at a time, on this machine, median of five:

# %%
speed = table_3.speed_table({m: methods[m] for m in ("Linear", "SR-CNN", "SR")}, replace(config, paper_speed=False))
speed[["method", "grid", "parameters", "seconds", "times_srcnn", "threads", "device"]].set_index("method")

# %% [markdown]
# SR is **more than five times as fast as SR-CNN**, as the paper says (0.06 s against 0.29 s). On a CPU, with the
# paper's own sizes, it is forty times (7.5 s against 0.19 s a volume, `acnn_table3_phantom_speed.csv`): the fewer
# multiplications of section 3.
#
# ## 10 · Exercises
#
# ### Exercise 1: where is the slice?
# Twelve slices of 10 mm become sixty of 2 mm ($K = 5$). Which fine slice (counted from 0) lies in the middle of
# thick slice 7?

# %%
answer_1 = None  # a whole number

# %%
mistakes = {"That is where it begins.": 35, "Counted from 0.": 38}
course.check("1", answer_1, 7 * 5 + 2, wrong=mistakes, hint="k K + (K - 1) / 2")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = 7 * 5 + (5 - 1) // 2
# ```
# </details>
#
# ### Exercise 2: PSNR
# The peak signal-to-noise ratio of two images with intensities from 0 to 1 is $-10 \log_{10}$ of their mean squared
# difference, in dB. Write it.


# %%
def psnr(a, b):
    return ...  # a number


# %%
g = np.random.default_rng(0)
cases = []
for size in (0.1, 0.01):
    a = g.random((4, 4, 4))
    b = a + size * g.standard_normal(a.shape)
    cases.append(((a, b), float(-10 * np.log10(np.mean((a - b) ** 2)))))
course.check_function("2", psnr, cases, tolerance=1e-6, hint="np.mean of the squares, then np.log10.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def psnr(a, b):
#     return -10 * np.log10(np.mean((a - b) ** 2))
# ```
# </details>
#
# ### Exercise 3: what can be undone?
# A network was trained with `train_network(..., inputs=InputSettings(natural=False))`: no slice was ever displaced.
# What will it do with the breath-holds of a real stack: `"undo"` them, `"keep"` them as sharp steps, or `"blur"`
# them?

# %%
answer_3 = None  # "undo", "keep" or "blur"

# %%
course.check("3", answer_3, "keep", hint="It has learned that what the slices say is where it should be.")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer_3 = "keep"
# ```
# For such a network slices are always in their place, so a step between them is an edge like any other, to be kept
# sharp. Only a network that has seen moved stacks and unmoved targets learns to distrust a slice. In return it
# blurs a little what was in its place: look at the column `clean` of section 6.
# </details>

# %% [markdown]
# ## On real hearts
#
# ACDC has stacks and no fine volumes: **there is no truth here**, and no SSIM. What can be seen is whether the
# steps between the slices go, and whether anything appears that is not in the stack. The networks have seen
# phantoms only.
#
# *Data: Bernard et al., IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018,
# [doi:10.1109/TMI.2018.2837502](https://doi.org/10.1109/TMI.2018.2837502); licence CC BY-NC-SA 4.0.*

# %%
real = course.real_hearts(n=3)
if real is not None:
    lr_grid = shapelab.Grid(numbers.lr_shape, thick)
    for subject in real.filter(phase="ED"):
        sample = shapelab.to_grid(subject, lr_grid, align="rigid")
        scanned = sample.image[sample.image > 0]
        stack = np.clip(sample.image / np.percentile(scanned, 99), 0, 1).astype(np.float32)
        through = int(round(np.argwhere(sample.label == 3).mean(0)[1]))
        panels = {f"ACDC, {subject.spacing[2]:g} mm": (stack, thick)}
        for name in ("B-spline", "SR-CNN", "SR", "ACNN-SR"):
            panels[name] = (predict_images(methods[name], stack[None])[0], fine)
        title = f"{subject.id} ({subject.facts['group']}): no truth to compare with"
        display(long_axis_panels(panels, title, columns=5, cut=through))

# %% [markdown]
# The stairs become a wall, and small steps go. What the networks do where a slice lies far off differs, and **nobody
# can tell from the picture who is right**: each of them draws what would be likely in a phantom. A smooth wall is no
# proof.
#
# Next: **[10 landmarks](10_landmarks_sslln.ipynb)**, another way to a smooth heart: find six points, and bend known
# hearts onto the scan. The cloud of codes is in **[12 embeddings](12_embeddings.ipynb)**.
