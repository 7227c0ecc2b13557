# %% [markdown]
# # 00 · Start here
#
# | | |
# |---|---|
# | **Goal** | know what this course is about, see it run on your machine, hold one heart, build a first *shape space* |
# | **Time** | 20 minutes of reading; about half a minute of computing |
# | **You need** | Python and NumPy. No medicine, no data set, no GPU |
#
# ## What this course is about
#
# A segmentation network looks at an image and gives every voxel a label: *cavity of the left ventricle*, *heart
# muscle*, *background*. Nothing in a voxel-wise loss tells it that a heart is one piece, that the muscle is a closed
# wall round the cavity, or that a right ventricle does not float off on its own. Where the image is dark, blurred or
# missing, it then paints anatomy that no human being has.
#
# A **shape prior** is what we know about label maps $y$ *before* looking at the image $x$:
#
# $$\hat y = \arg\max_y \; \underbrace{\log p(x \mid y)}_{\text{fits the image}} +
# \underbrace{\log p(y)}_{\text{is a heart}} .$$
#
# The difficulty is $p(y)$. A label map on a modest grid has 55 000 voxels, but hearts do not vary in 55 000
# independent ways. A **shape space** puts that into numbers: an encoder $f$ turns a label map into a short code $z$,
# a decoder $g$ turns a code into a label map,
#
# $$z = f(y) \in \mathbb{R}^{d}, \qquad g(z) \approx y, \qquad d \ll \text{number of voxels},$$
#
# and whatever cannot be written as $g(z)$ is no heart. This course builds such spaces (by linear algebra, then by
# neural networks), looks into them, and uses them: to tell diseases apart, to walk from one heart to another, and to
# keep a segmentation network honest.
#
# ## The five papers behind it
#
# 1. **ACNN** (Oktay et al., *Anatomically Constrained Neural Networks*, IEEE TMI 2018). An autoencoder learns 64
#    numbers a heart; a segmentation network is then punished for the distance between the codes of its output and of
#    the truth. The codes alone also tell healthy hearts from two diseases. Notebooks 02, 03 and 12 to 15 follow this
#    paper.
# 2. **Joint shape space** (*CE-Reg*). One encoder-decoder without skip connections takes CT images, MR images and
#    label maps into the *same* shape space, so that an image and its own label map land on neighbouring codes.
# 3. **Shape signature.** A small network learns a map of a shape that stays the same under affine motion; its
#    distance is a loss for segmenting structures deep in the brain.
# 4. **Two-stage U-Net.** The same knowledge put in by hand: a coarse network finds *where* the heart is, a fine one
#    works at full resolution inside that region only.
# 5. **SSLLN with shape refinement** (Duan et al., IEEE TMI 2019). A network segments and finds six landmarks; atlases
#    of other hearts, registered through these landmarks, repair what thick slices and moving patients have broken.
#
# ## The map
#
# | notebook | question |
# |---|---|
# | **00 start here** | does it run, what is a heart here? |
# | **01 hearts and labels** | what do the labels mean, and what do physicians compute from them? |
# | **02 linear shape space** | how far does linear algebra get? |
# | **03 shape autoencoder** | what does a network do better, and what not? |
# | **04 T-L network** | can a code be predicted from an image? |
# | **05 ACNN segmentation**, **06 super-resolution** | does a loss that knows shapes help? |
# | **10 landmarks: SSLLN**, **11 atlas refinement** | how does a smooth heart come from thick slices? |
# | **12 embeddings** | what does a cloud of codes look like, and may one believe the picture? |
# | **13 latent histograms** | how are codes distributed, which of them are unused? |
# | **14 pathology classification** | do the codes know the disease? |
# | **15 shape interpolation** | what lies between two hearts? |
#
# The numbers between are for the other papers' chapters. Every notebook runs on its own, top to bottom.

# %% [markdown]
# ## 1 · How this notebook runs
#
# Every notebook starts with this cell. `DATA` is a switch: with `"acdc"` the same cells run on real hearts, if you
# have them (the section *On real hearts* below says how). Everything random follows from `SEED`.

# %%
import numpy as np
from IPython.display import display

import shapelab
from shapelab import course

DATA = "phantom"  # or "acdc"
SEED = 0
run = course.start("00", DATA, SEED)

# %% [markdown]
# Is everything in place? `shapelab doctor` on the command line says it at length; here are the essentials. A line
# with `BAD` would say how to fix it.

# %% tags=["nbval-check-output"]
from shapelab.commands import doctor

checks = [doctor.check_python(), *doctor.check_packages()]
bad = [c for c in checks if c.status == doctor.BAD]
for c in bad:
    print(f"BAD  {c.what}: {c.found}. {c.fix}")
print("everything this course needs is installed:", not bad)

# %% [markdown]
# **Profiles.** The same code runs with three sets of numbers: `quick` for any laptop, `full` for one GPU, `paper` for
# the published size. You are told in the first line which one is on; `SHAPELAB_PROFILE=full jupyter lab` changes it.
# This is what it means for the autoencoder of notebook 03:

# %% tags=["nbval-check-output"]
from shapelab.models.acnn import AEConfig

for name in ("quick", "full", "paper"):
    config = AEConfig.profile(name)
    print(f"{name:6s} {str(config.grid):30s} = {np.prod(config.shape):7,d} voxels -> {config.code} numbers")

# %% [markdown]
# ## 2 · The first heart
#
# Data come as a **cohort** of **subjects**. A subject is one heart at one moment: a label map, perhaps an image, the
# size of its voxels in mm, and facts. *ED* is end-diastole (the heart is full), *ES* is end-systole (it has
# squeezed); one patient is two subjects.
#
# The default hearts are **phantoms**: synthetic, made on the spot, in five groups (one healthy, four diseased), with
# slices as thick as a scanner's.

# %% tags=["nbval-check-output"]
hearts = run.hearts(n=30)
heart = hearts[0]

print(hearts)
print("first subject:", heart.id, "| group", heart.facts["group"], "| phase", heart.facts["phase"])
print("label map:", heart.label.dtype, "| axes", heart.label.ndim, "| labels", np.unique(heart.label).tolist())
for s in hearts.scheme.structures:
    print(f"  {s.value} = {s.name}")

# %% [markdown]
# A scanner takes *short-axis* slices: planes across the heart, from its **base** (top, where the great vessels leave)
# to its **apex** (tip). You look at them from below: the patient's right is on *your* left, so the right ventricle
# (RV) is on the left.

# %%
from shapelab.show import meshes, render, slices

slices.slices(heart, n=6)

# %% [markdown]
# Stacked up again, the slices are a solid. The left ventricle (LV, orange) is a bullet inside its muscular wall
# (green, drawn as glass); the right ventricle (blue) is wrapped round it.

# %%
surfaces = meshes.heart_meshes(heart.label, heart.spacing, heart.scheme)
render.mesh_picture(surfaces, heart.scheme, title=f"{heart.id} ({heart.facts['group']})")

# %% [markdown]
# And the same to turn with the mouse (in JupyterLab or on the page that `make run` writes):

# %%
few_triangles = meshes.heart_meshes(heart.label, heart.spacing, heart.scheme, max_faces=4000)
meshes.mesh_figure(few_triangles, heart.scheme, title=heart.id, height=440)

# %% [markdown]
# ## 3 · How data flow
#
#     file  ->  Subject  ->  grid  ->  model  ->  label map  ->  Dice, volumes
#                                        |
#                                        +->  code z  ->  pictures, statistics, classifier
#                                                |
#                                                +->  decoder  ->  label map  ->  mesh
#
# Every scan has its own matrix and voxel size. A model needs one **grid** for all. `stack_labels` lays each heart on
# it, in millimetres: nothing is stretched, the LV comes to the middle, and with `align="rigid"` each heart is turned
# until its RV lies straight to the left.

# %% tags=["nbval-check-output"]
grid = AEConfig.profile(run.profile).grid
labels, table = shapelab.stack_labels(hearts, grid, align="rigid")

print("grid:", grid, "| box in mm:", tuple(round(mm) for mm in grid.extent))
print("label maps:", labels.shape, labels.dtype)
print("one row of facts for each:", len(table) == len(labels))

# %% [markdown]
# ## 4 · A shape space in ten lines
#
# The oldest shape space is **principal component analysis** (PCA): the mean heart, plus a few directions $v_i$ in
# which hearts differ most,
#
# $$y \;\approx\; \bar y + \sum_{i=1}^{d} z_i\, v_i .$$
#
# It is fitted on some patients and tried on others it has never seen. (Notebook 02 takes it apart.)

# %% tags=["nbval-check-output"]
from shapelab.metrics import dice_table
from shapelab.spaces import PCASpace

is_test = table["patient"].isin(hearts.patients[-6:]).to_numpy()
space = PCASpace(n_codes=16, grid=grid, scheme=hearts.scheme).fit(labels[~is_test])

codes = space.encode(labels)  # (60, 16): every heart is now 16 numbers
rebuilt = space.decode(codes[is_test]).argmax(1).astype(np.uint8)  # and back: the most probable label of every voxel
dice = dice_table(rebuilt, labels[is_test], hearts.scheme, index=table.index[is_test])

print("fitted on", int((~is_test).sum()), "hearts, tried on", int(is_test.sum()), "of other patients")
print("one heart:", labels[0].size, "voxels ->", codes.shape[1], "numbers")
print("mean Dice of unseen hearts above 0.6:", bool(dice.mean().mean() > 0.6))

# %% [markdown]
# **Dice** measures overlap: $2|A\cap B|/(|A|+|B|)$, 1 for two identical shapes, 0 for two that do not touch. Here are
# a heart the space has never seen and what 16 numbers keep of it:

# %%
print(dice.mean().round(3).to_string())
k = int(np.flatnonzero(is_test)[0])
slices.compare_slices(
    [(f"{table.index[k]}\nas it is", labels[k]), ("rebuilt from\n16 numbers", rebuilt[0])],
    grid.spacing,
    hearts.scheme,
    indices=slices.pick_slices(labels[k], len(labels[k].T), 5),
    title="An unseen heart and its reconstruction",
)

# %% [markdown]
# The thin wall suffers most. That is not the last word: notebook 02 uses more codes and a better representation,
# notebook 03 a network.
#
# What does a single number do? Walk along the first direction, from two standard deviations below the mean to two
# above, and decode each stop:

# %%
from shapelab.latent import interpolate, traverse

walk = traverse(space, 0, n_sigma=2, steps=5)
walk_meshes = [meshes.heart_meshes(p, grid.spacing, hearts.scheme) for p in walk.probabilities]
render.mesh_grid(
    [walk_meshes],
    hearts.scheme,
    column_names=[f"{s:+.0f} sigma" if s else "mean" for s in walk.position],
    title="The first direction: what differs most between hearts",
)

# %% [markdown]
# ## 5 · A taste of interpolation
#
# Codes can be averaged; hearts cannot, or not as they are. Between the codes of a healthy heart (A) and one with a
# dilated left ventricle (B, group DCM) lies a straight line, $z(t) = (1-t)\,z_A + t\,z_B$. Decoded, it is a heart
# that falls ill:

# %%
ed = (table["phase"] == "ED").to_numpy()
a = int(np.flatnonzero(ed & (table["group"] == "NOR").to_numpy())[0])
b = int(np.flatnonzero(ed & (table["group"] == "DCM").to_numpy())[0])
path = interpolate(space, codes[a], codes[b], steps=5)
render.mesh_grid(
    [[meshes.heart_meshes(p, grid.spacing, hearts.scheme) for p in path.probabilities]],
    hearts.scheme,
    column_names=[f"t = {t:g}" for t in path.position],
    title=f"From {table.index[a]} (NOR) to {table.index[b]} (DCM), in 16 numbers",
)

# %% tags=["nbval-check-output"]
from shapelab.latent import path_table

lv = path_table(path, grid.spacing, hearts.scheme).query("structure == 'LV cavity'")["volume_ml"].to_numpy()
print("the LV cavity grows at every step:", bool((np.diff(lv) > 0).all()))
print("the ends are the codes of the two hearts:", bool(np.allclose(path.codes[[0, -1]], codes[[a, b]], atol=1e-4)))

# %% [markdown]
# Whether such a path stays plausible, and what plain blending of voxels does instead, is notebook 15.
#
# ## 6 · Exercises
#
# ### Exercise 1: how long is the box?
# A grid of 96 x 96 x 36 voxels has a spacing of 1.5 x 1.5 x 3.333 mm. How far does it reach along $z$, in mm? (It is
# the `full` profile's grid.)

# %%
answer_1 = None  # your number, in mm

# %%
mistakes = {"Multiply, do not divide.": 36 / (10 / 3), "That is x; z is the last axis.": 144.0}
course.check("1", answer_1, 120.0, tolerance=0.5, wrong=mistakes)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Voxels times spacing: $36 \times 3.333\,\mathrm{mm} = 120\,\mathrm{mm}$, the same as in the `quick` profile. Grids
# differ in how finely they look, not in how far.
#
# ```python
# answer_1 = 36 * 10 / 3
# ```
# </details>
#
# ### Exercise 2: half way
# Write the function that gives the code half way between two codes. The check tries it on codes of this notebook.


# %%
def half_way(code_a, code_b):
    return ...  # your code here


# %%
cases = [((codes[i], codes[j]), interpolate(space, codes[i], codes[j], steps=3).codes[1]) for i, j in ((0, 3), (a, b))]
course.check_function("2", half_way, cases, tolerance=1e-3, hint="The mean of both, number by number.")
# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def half_way(code_a, code_b):
#     return (code_a + code_b) / 2
# ```
# </details>
#
# ### Exercise 3: is the heart half way a heart?
# Decode the code half way between A and B. Into how many pieces does its LV myocardium fall?
# (`shapelab.data.geometry.count_components` counts the pieces of a mask.)

# %%
answer_3 = None  # a whole number

# %%
from shapelab.data.geometry import count_components

middle = space.decode((codes[a] + codes[b]) / 2)[0].argmax(0)
course.check("3", answer_3, count_components(middle == 2), hint="argmax over the channels first; label 2.")
# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# from shapelab.data.geometry import count_components
#
# middle = space.decode((codes[a] + codes[b]) / 2)[0].argmax(0)
# answer_3 = count_components(middle == 2)
# ```
# </details>

# %% [markdown]
# ## On real hearts
#
# Everything above works the same on scans of patients. **ACDC** (Automated Cardiac Diagnosis Challenge) has
# short-axis MR of 100 patients for training, 20 of each of five groups, outlined by experts. It is free after
# registration on its [home page](https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html); unpack it into a
# folder `acdc`, and name the folder above: `export SHAPELAB_DATA=/path/to/folder`. What you see committed here was
# computed on **80 of those 100 patients**, 16 of each group.
#
# *Data: Bernard et al., IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018,
# [doi:10.1109/TMI.2018.2837502](https://doi.org/10.1109/TMI.2018.2837502); licence CC BY-NC-SA 4.0.*

# %%
real = course.real_hearts()
if real is not None:
    healthy = real.filter(phase="ED", group="NOR")[0]
    display(slices.slices(healthy, title="A heart without disease at end-diastole, outlined by an expert"))

# %% [markdown]
# The same ten lines on real hearts. Each point is one heart, placed by its first two codes. Nobody told the space
# which heart was ill:

# %%
if real is not None:
    real_labels, real_table = shapelab.stack_labels(real, grid, align="rigid")
    real_space = PCASpace(n_codes=16, grid=grid, scheme=real.scheme).fit(real_labels)
    real_codes = real_space.encode(real_labels)

    from shapelab.show import style

    fig = style.figure(8.6, 4.2)
    for ax, phase in zip(fig.subplots(1, 2, sharex=True, sharey=True), ("ED", "ES")):
        for group, mark in style.GROUPS.items():
            here = ((real_table["phase"] == phase) & (real_table["group"] == group)).to_numpy()
            ax.scatter(*real_codes[here, :2].T, c=mark.colour, marker=mark.marker, s=24, label=group)
        title = {"ED": "end-diastole (full)", "ES": "end-systole (squeezed)"}[phase]
        ax.set(title=title, xlabel="code 0", ylabel="code 1" if phase == "ED" else "")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    fig.suptitle(f"{len(real.patients)} real patients in a linear shape space")
    display(fig)

# %% [markdown]
# Hearts with a dilated left ventricle (DCM, triangles) lie apart from hypertrophic ones (HCM, squares) at
# end-systole; others mix. Two numbers of sixteen, and no disease was mentioned.
#
# ## Your own data
#
# Point the library at a folder of NIfTI label maps. The cell below makes such a folder out of three phantoms and
# opens it as you would open yours: `labels/`, if you have them `images/` with the same names, and a `facts.csv` with
# a column `id`.

# %% tags=["nbval-check-output"]
import tempfile
from pathlib import Path

import nibabel
import pandas as pd

with tempfile.TemporaryDirectory() as folder:
    mine = Path(folder)
    (mine / "labels").mkdir()
    for s in run.hearts(3).filter(phase="ED"):
        nibabel.save(nibabel.Nifti1Image(s.label, s.affine), mine / "labels" / f"{s.patient}.nii.gz")
    pd.DataFrame({"id": run.hearts(3).patients, "age": [34, 51, 62]}).to_csv(mine / "facts.csv", index=False)

    cohort = shapelab.open_cohort("folder", root=mine, scheme=shapelab.CARDIAC)
    wrong = shapelab.data.check_folder(mine, name="folder")
    print(cohort)
    print("ages:", cohort.table["age"].astype(int).tolist(), "| problems found by the doctor:", len(wrong))
    print("laid on the grid:", shapelab.stack_labels(cohort, grid, align="rigid")[0].shape)

# %% [markdown]
# Say what your integers mean with a `LabelScheme` (names and colours; notebook 01), and every notebook, chart and
# table here works on your shapes. `shapelab data check FOLDER` reads every file first and tells you what is wrong
# with it.
#
# ## Where to go next
#
# - **[01 hearts and labels](01_hearts_and_labels.ipynb)** if you have never seen a heart from the inside: anatomy,
#   volumes, ejection fraction, the five groups.
# - **[02 linear shape space](02_linear_shape_space.ipynb)** if you know all that.
# - **[15 shape interpolation](15_shape_interpolation.ipynb)** if you cannot wait to drag a slider.
