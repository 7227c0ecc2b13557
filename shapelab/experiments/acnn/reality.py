"""From phantom to reality: a network that has seen phantoms alone, on every real ACDC stack.

The honest test of a phantom is what it teaches. `run` segments all stacks of ACDC (ED and ES, native voxels) with a
network trained on phantoms alone. With `data="acdc"` it makes the upper reference: the same network trained on real
scans of other patients, without and with the ACNN prior (equation 1), whose autoencoder has seen phantoms alone.

How the phantom was worked on: pictures of failures were looked at for some patients alone (`looked_at`: those whose
number is divisible by 4, and the twin scan of one of them); the tables give the other patients separately. No weight,
early stop or threshold comes from a real scan, except in the upper reference.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from shapelab.data.cohort import Cohort
from shapelab.data.grid import RV_SIDE_MM, Grid, to_grid, to_unit_range
from shapelab.data.orientation import canonical
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC
from shapelab.data.volumes import SliceData
from shapelab.device import best_device
from shapelab.errors import must, one_of
from shapelab.experiments.kept_runs import KeptRun, Study
from shapelab.experiments.recipes import Order, recipe
from shapelab.experiments.shipped import cardiac_cohort, phantom_autoencoder, shipped
from shapelab.experiments.tables import spread
from shapelab.metrics import evaluate
from shapelab.models.acnn import ACNNLoss, AESpace
from shapelab.models.native import NativeConfig, NativeSegmenter, segment, train_native
from shapelab.phantoms.acquisition import LR_SHIFT_MM, make_stack, square_field
from shapelab.phantoms.anatomy import build_heart
from shapelab.phantoms.cohort import PHASES, make_image, make_label
from shapelab.phantoms.population import GROUPS, draw_factors
from shapelab.phantoms.randomise import Randomisation
from shapelab.training import Run

#: Phantom patients the network learns from.
TRAINING_SEED = 30_000
SHIPPED = "acnn_seg_native"  # its folder under data/weights, before the profile's name
FIELD_PX = 144  # of a training stack, before it is moved and cut
TWINS = ("patient074", "patient076")  # one scan, outlined twice
AIM = {"LV cavity": 0.85, "LV myocardium": 0.70, "RV cavity": 0.75}  # mean Dice that was aimed at
SUMMARY = (
    *("method", "part", "structure", "n", "missed"),
    *("dice", "dice_sd", "dice_median", "hd", "hd_sd", "aim"),
)
#: Real scans need no other surroundings than their own, and little other contrast.
REAL = Randomisation(surroundings=0.1, contrast=0.2, trabeculae=0.0, curve=0.5, noise=0.03, bias=0.2)
REAL_SLICES = {"quick": 24_000, "full": 150_000, "paper": 150_000}


def looked_at(patient: str) -> bool:
    """Whether the failures of this ACDC patient were looked at while the phantom's images were improved."""
    return int("".join(filter(str.isdigit, patient)) or 1) % 4 == 0 or patient in TWINS


# ---------------------------------------------------------------------------------------------------------------- data


def phantom_slices(n: int, config: NativeConfig, seed: int = TRAINING_SEED, progress: bool = False) -> SliceData:
    """Slices of n phantom patients (ED and ES, ACDC-like stacks), with images, on the network's in-plane grid."""
    return SliceData.of_stacks(*zip(*phantom_stacks(n, config.spacing, seed, progress), strict=True))


def phantom_stacks(
    n: int, in_plane: float, seed: int = TRAINING_SEED, progress: bool = False, pixels: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """ACDC-like stacks of n phantom patients, ED and ES, on a square field about the heart.

    Args:
        in_plane: mm
        pixels: of the field; None: `FIELD_PX`

    Yields an image (X, Y, Z) in [0, 1], its label map (integers of BIVENTRICULAR), the distance of slices (mm).
    """
    for i in tqdm(range(n), desc="phantoms", disable=not progress, leave=False):
        who = (seed, i, GROUPS[i % len(GROUPS)], i // len(GROUPS))
        f = draw_factors(*who)
        hearts = build_heart(f)
        stack = make_stack(seed, i, f, hearts, "LR", LR_SHIFT_MM, 1.0, 0)
        # at ES the base has come down: real stacks then show one to three slices of atria
        above = int(np.random.default_rng([seed, i, 8]).choice(3, p=(0.5, 0.35, 0.15)))
        stack = square_field(stack, hearts, f["angle"], in_plane, pixels or FIELD_PX, above)
        for phase in PHASES:
            label = make_label(who, phase, stack, BIVENTRICULAR, best_device())
            yield make_image(who, phase, stack, best_device()), label, stack.spacing[2]


def real_slices(cohort: Cohort, config: NativeConfig, progress: bool = False) -> SliceData:
    """Slices of a cohort's stacks (with images) about the heart, on the network's in-plane grid."""
    stacks = []
    for subject in tqdm(cohort, desc=cohort.name, disable=not progress, leave=False):
        subject, _ = canonical(subject)
        spacing = subject.spacing
        label = subject.label
        assert label is not None  # the cohort's hearts are outlined
        found, depth = np.argwhere(label.any(2)), label.shape[2]
        middle = np.array([*(found.min(0) + found.max(0)) / 2 * spacing[:2], (depth - 1) / 2 * spacing[2]])
        grid = Grid((FIELD_PX, FIELD_PX, depth), (config.spacing, config.spacing, spacing[2]))
        sample = to_grid(subject, grid, centre=middle)
        assert sample.image is not None and sample.label is not None
        stacks.append((to_unit_range(sample.image), sample.label, float(spacing[2])))
    return SliceData.of_stacks(*zip(*stacks, strict=True))


# ------------------------------------------------------------------------------------------------------------ networks


@recipe("native", "segmentation of a scan at its own resolution", CARDIAC, ships=SHIPPED)
@recipe("native-acnn", "segmentation of a scan with the shape prior (eq. 1)", CARDIAC, real=True)
def _native(order: Order) -> NativeSegmenter:
    must(order.epochs is None, "epochs", order.epochs, "none: the native network counts training images")
    if order.data != "phantom":
        return train_on_real(order.cohort(), order.profile, order.model == "native-acnn", order.run)
    config = order.numbers(NativeConfig.profile(order.profile), hearts="hearts")
    data = phantom_slices(config.hearts, config, progress=order.progress)
    about = f"{config.hearts} phantom hearts, ED and ES, seed {TRAINING_SEED}"
    return train_native(data, config, order.run, about=about)[0]


def phantom_native(profile: str | None = None, progress: bool = True) -> NativeSegmenter:
    """The network learned from phantoms: shipped weights, or trained now (and kept) where there are none.

    Training takes about half an hour on one core in `quick`. Where the folder of weights cannot be written to, it is
    trained each time.
    """
    return shipped("native", profile, progress)


class StackPrior:
    """The prior term of ACNN's equation 1 for a stack of native slices.

    The autoencoder knows hearts on its own grid, turned so that the RV is to the left. While training, the labels are
    known, so they say how to lay the stack there (as `shapelab.data.grid.to_grid(align="rigid")` does); labels and
    softmax are laid alike, linearly, so that the gradient reaches the native logits.

    Attributes:
        weight: lambda, by default that of Table I here (`shapelab.experiments.acnn.segmentation`)
    """

    def __init__(self, space: AESpace, spacing: float, weight: float = 0.1):
        self.loss, self.grid, self.spacing, self.weight = ACNNLoss(space, weight=1.0), space.grid, spacing, weight

    def __call__(self, logits: Tensor, labels: Tensor, distance_mm: float) -> Tensor:
        """Weighted squared distance of codes; 0 where the stack has no RV or no LV.

        logits (Z, C, X, Y), labels (Z, X, Y) of one stack
        """
        if not all(bool((labels == v).any()) for v in (1, 2, 3)):
            return logits.sum() * 0
        channels = torch.arange(1, logits.shape[1], device=labels.device)[:, None, None, None]
        truth = (labels[None] == channels).float()  # (3, Z, X, Y)
        where = self.place(labels, distance_mm)
        both = torch.stack([logits.float().softmax(1)[:, 1:].transpose(0, 1), truth])  # (2, 3, Z, X, Y)
        laid = F.grid_sample(both.permute(0, 1, 3, 4, 2), where.expand(2, -1, -1, -1, -1), align_corners=False)
        laid = torch.cat([1 - laid.sum(1, keepdim=True), laid], 1).clamp(1e-6, 1)
        # the loss takes logits and labels: the logarithm of probabilities is a logit
        return self.weight * self.loss.distance(laid[:1].log(), laid[1:].argmax(1))

    def place(self, labels: Tensor, distance_mm: float) -> Tensor:
        """Where each voxel of the grid lies in the stack, as `grid_sample` wants it, (1, X, Y, Z, 3)."""
        size = torch.tensor([*labels.shape[1:], labels.shape[0]], dtype=torch.float32)
        unit = torch.tensor([self.spacing, self.spacing, distance_mm])

        def centroid(mask: Tensor) -> Tensor:
            return mask.nonzero().float().mean(0).cpu()[[1, 2, 0]] * unit

        lv, rv = centroid(labels >= 2), centroid(labels == 1)
        direction = (rv - lv)[:2]
        c, s = (-direction / direction.norm().clamp(min=1e-6)).tolist()
        turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        middle = lv + turn @ torch.tensor([-RV_SIDE_MM, 0.0, 0.0])
        axes = [(torch.arange(n) - (n - 1) / 2) * d for n, d in zip(self.grid.shape, self.grid.spacing, strict=True)]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) @ turn.T + middle
        return ((2 * points / unit + 1) / size - 1).flip(-1)[None].to(labels.device)


# ----------------------------------------------------------------------------------------------------------- experiment


def measure(segmenter: NativeSegmenter, cohort: Cohort, method: str, progress: bool = True) -> pd.DataFrame:
    """One row a stack and structure: method, subject, patient, phase, group, looked_at, structure, dice, hd (mm; inf
    where the structure was missed), volume and volume_truth (ml), missed. Native voxels, 3-D over the stack."""
    rows = []
    for subject in tqdm(cohort, desc=method, disable=not progress, leave=False):
        prediction, _ = segment(segmenter, subject)
        found = evaluate(prediction, subject.label, subject.spacing, labels=list(CARDIAC.values))
        for structure in CARDIAC.structures:
            rows.append(
                {
                    "method": method,
                    "subject": subject.id,
                    "patient": subject.patient,
                    "phase": subject.fact("phase"),
                    "group": subject.fact("group"),
                    "looked_at": looked_at(subject.patient),
                    "structure": structure.name,
                    **found.loc[structure.value, ["dice", "hd", "volume", "volume_truth", "missed"]],
                }
            )
    return pd.DataFrame(rows)


def predicted_poses(segmenter: NativeSegmenter, cohort: Cohort, progress: bool = True) -> dict[str, np.ndarray]:
    """Subject id -> label map that the network makes of the subject's image, in its own voxels: where the heart lies
    and how it is turned, without an observer (see `shapelab.experiments.shipped.images_on_grid`)."""
    shown = tqdm(cohort, desc=f"poses of {cohort.name}", disable=not progress, leave=False)
    return {subject.id: segment(segmenter, subject)[0] for subject in shown}


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and sd of Dice and Hausdorff distance by method, part and structure.

    Parts: all stacks, those of patients never looked at, ED, ES. `hd` is the mean over stacks where the structure was
    found; `missed` says how many were not. `aim` is the Dice aimed at.
    """
    parts = {
        "all": table,
        "never looked at": table[~table["looked_at"].astype(bool)],
        "ED": table[table["phase"] == "ED"],
        "ES": table[table["phase"] == "ES"],
    }
    rows = []
    for method, (name, part) in itertools.product(table["method"].unique(), parts.items()):
        for structure, of in part[part["method"] == method].groupby("structure", sort=False):
            dice, hd = spread(of["dice"]), spread(of["hd"])
            numbers = (dice["mean"], dice["sd"], of["dice"].median(), hd["mean"], hd["sd"], AIM[structure])
            rows.append((method, name, structure, hd["n"], hd["n_missed"], *numbers))
    return pd.DataFrame(rows, columns=list(SUMMARY))


def run(
    root: str | Path | None = None,
    profile: str | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    data: str = "phantom",
    seed: int = 0,
) -> pd.DataFrame:
    """Run the experiment and write its tables; returns one row a stack and structure (see `measure`).

    Args:
        root: folder of ACDC; None looks under SHAPELAB_DATA
        profile: "quick", "full" or "paper"; None: the current one
        output: folder for reality_acdc.csv, reality_acdc_summary.csv, reality_acdc.json (with `data="acdc"`
            reality_acdc_trained...) and the checkpoints an interrupted training resumes from; None is
            ``results/reality``
        data: what the network learns from. "phantom": phantoms alone, tested on all stacks. "acdc": three quarters of
            the patients, tested on the others, without and with the prior, beside the phantoms' network on the same
            stacks
        seed: of the split by patient, and of training on ACDC
    """
    one_of("data", data, ("phantom", "acdc"))
    study = Study.of("reality", output, profile, root, progress)
    cohort = cardiac_cohort("acdc", root)
    taught = phantom_native(study.profile, progress)
    if data == "phantom":
        table, name = measure(taught, cohort, "phantoms alone", progress), "reality_acdc"
    else:
        train, test = split(cohort, seed)
        tables = [measure(taught, test, "phantoms alone", progress)]
        for method, prior in (("ACDC", False), ("ACDC + prior", True)):
            checkpoint = study.results / f"training-{'prior' if prior else 'plain'}"
            made = train_on_real(train, study.profile, prior, KeptRun(checkpoint, seed=seed, progress=progress))
            tables.append(measure(made, test, method, progress))
        table, name = pd.concat(tables, ignore_index=True), "reality_acdc_trained"
    about = {"data": data, "cohort": repr(cohort), "profile": study.profile, "seed": seed, "network": taught.metadata}
    study.write(name, {"": table, "_summary": summary(table)}, about)
    return table


def split(cohort: Cohort, seed: int = 0) -> tuple[Cohort, Cohort]:
    """Three quarters of the patients to learn from, one to test on; the twin of a tested scan is not learned from."""
    train, test = cohort.split(test=0.25, seed=seed)
    tested = bool(set(TWINS) & set(test.patients))
    return train.filter(lambda s: not (tested and s.patient in TWINS)), test


def train_on_real(train: Cohort, profile: str, prior: bool, run: Run | None = None) -> NativeSegmenter:
    """The native network trained on real stacks, with or without ACNN's prior. Its weights are not to be shared: they
    hold what they learned from the data set, under its licence."""
    run = run or Run()
    config = replace(NativeConfig.profile(profile), slices=REAL_SLICES[profile], strength=REAL)
    loss = StackPrior(phantom_autoencoder(profile, run.progress), config.spacing) if prior else None
    slices = real_slices(train, config, run.progress)
    return train_native(slices, config, run, stack_loss=loss, whole_stacks=True, about=repr(train))[0]
