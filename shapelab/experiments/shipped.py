"""Shape spaces that several experiments and notebooks share: learned from phantoms, kept under data/weights.

They ship because a space learned from phantoms alone has seen no real heart: it may be applied to any patient without
leaking the patient's shape into the features, and no licence of a data set touches it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from shapelab.data import open_cohort
from shapelab.data.cards import data_sets
from shapelab.data.cohort import Cohort
from shapelab.data.facts import PHASES
from shapelab.data.grid import Grid, images_on_grid, stack_labels, unit_image
from shapelab.data.placement import HEARTS
from shapelab.data.scheme import CARDIAC
from shapelab.device import generator_of
from shapelab.errors import must, one_of
from shapelab.experiments.kept_runs import opened, save_trained
from shapelab.experiments.recipes import RECIPES, Order, recipe
from shapelab.models.acnn import AEConfig, AESpace, train_autoencoder
from shapelab.models.acnn.tl import PredictorConfig, TLSpace, train_tl_network
from shapelab.phantoms import heart_cohort
from shapelab.phantoms.pairs import heart_pairs
from shapelab.phantoms.randomise import new_contrast, new_surroundings
from shapelab.places import weights_of
from shapelab.profiles import current_profile, limited, limits
from shapelab.spaces.kept import is_kept
from shapelab.spaces.pca import PCASpace

#: Phantom patients that the shipped spaces are learned from: a seed that no other experiment draws from.
TRAINING_SEED = 20_000
#: Profile -> patients (two shapes each) and epochs. Many hearts seen a few times beat few seen often.
TRAINING = {"quick": (1000, 25), "full": (2000, 100), "paper": (2000, 100)}
#: Profile -> patients of the T-L network (four pairs each: ED and ES, as HR volumes and as stacks of thick slices).
TL_PATIENTS = {"quick": 300, "full": 1000, "paper": 1000}
#: Share of the T-L network's training images with other surroundings and contrast than the phantom gives them.
RANDOMISED = 0.5


def shipped(name: str, profile: str | None = None, progress: bool = True) -> Any:
    """What a recipe's name ships: read from where weights lie (`shapelab.places`); or trained now, and kept there for
    the next time.

    Where nothing can be written it is as good without a copy on disk, and trained each time. What is trained under
    `shapelab.profiles.limits` is kept only in a folder that SHAPELAB_WEIGHTS names: it is not what its name says.
    """
    order, found = Order(name, profile=current_profile(profile), progress=progress), RECIPES[name]
    folder = weights_of(f"{found.ships}_{order.profile}")
    if is_kept(folder):
        return opened(folder)
    made = found.train(order)
    if order.profile == "full" and limits() and not os.environ.get("SHAPELAB_WEIGHTS"):
        return made
    with suppress(OSError):
        save_trained(made, folder, found.half)
    return made


def phantom_shapes(n: int, grid: Grid, seed: int, progress: bool = False) -> tuple[np.ndarray, pd.DataFrame]:
    """Label maps (2 n, X, Y, Z) uint8 of n phantom patients (ED and ES, stacks as ACDC's) on a grid; their facts."""
    cohort = heart_cohort(n, seed=seed, resolution="LR", scheme=CARDIAC)
    return stack_labels(cohort, grid, **vars(HEARTS), progress=progress)


@recipe("autoencoder", "shape autoencoder (Table V)", CARDIAC, ships="acnn_ae", half=False)
def _autoencoder(order: Order) -> AESpace:
    hearts, epochs = (
        limited(n, name, order.profile) for n, name in zip(TRAINING[order.profile], ("hearts", "epochs"), strict=True)
    )
    hearts, seed = order.hearts or hearts, TRAINING_SEED + order.seed
    config = replace(AEConfig.profile(order.profile), epochs=order.epochs or epochs)
    if order.data == "phantom":
        labels, _ = phantom_shapes(hearts, config.grid, seed, order.progress)
        about = f"{hearts} phantom hearts, ED and ES, seed {seed}"
    else:
        labels, _ = stack_labels(order.cohort(), config.grid, **vars(HEARTS), progress=order.progress)
        about = f"data set {order.data}"
    return train_autoencoder(labels, config, order.run, data=about)[0]


def phantom_autoencoder(profile: str | None = None, progress: bool = True) -> AESpace:
    """The autoencoder learned from phantoms: shipped weights, or trained now (and kept) where there are none.

    Training takes about 20 minutes in `quick` on two cores. Where the folder of weights cannot be written to, the space
    is trained each time.
    """
    return shipped("autoencoder", profile, progress)


def phantom_images(
    n: int, grid: Grid, factor: int, seed: int, randomised: float = 0.0, progress: bool = False
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Images and label maps of n phantom patients on a grid, each heart in two forms, half of the rows each.

    First as HR volumes drawn on the grid (`shapelab.phantoms.pairs`); then as the grid shows a clinical stack of mostly
    10 mm slices (ACDC's form): displaced slices, an observer's contours, nothing above and below the stack.

    Args:
        factor: HR slices of the grid per thick slice; of `heart_pairs`
        randomised: share of the images that get other surroundings and another contrast (`shapelab.phantoms.randomise`)

    Returns:
        images (4 n, X, Y, Z) float16 in [0, 1], labels (4 n, X, Y, Z) uint8, and their facts with a column `form`
    """
    pairs = heart_pairs(n, grid, factor, seed, progress=progress)
    stacks = heart_cohort(n, seed=seed, resolution="LR", scheme=CARDIAC, images=True)
    images, labels, table = images_on_grid(stacks, grid, progress=progress)
    facts = pd.concat([pairs.table.assign(form="HR"), table.assign(form="stack")])
    images, labels = np.concatenate([pairs.images.astype(np.float32), images]), np.concatenate([pairs.labels, labels])
    if randomised > 0:
        images = _other_looks(images, labels, randomised, seed)
    return np.stack([unit_image(image).astype(np.float16) for image in images]), labels, facts


def _other_looks(images: np.ndarray, labels: np.ndarray, share: float, seed: int, batch: int = 16) -> np.ndarray:
    """Some of the images (N, X, Y, Z) with other surroundings and contrast; what was not scanned (0) stays so."""
    out = np.empty_like(images)
    order = np.random.default_rng(seed).permutation(len(images))  # surroundings are swapped between neighbours
    for start in range(0, len(images), batch):
        rows = order[start : start + batch]
        x, tissues = (torch.from_numpy(a[rows]).permute(0, 3, 1, 2) for a in (images, labels))  # slices first
        g = generator_of(seed + 1 + start)
        looks = new_surroundings(new_contrast(x, tissues, share, g), tissues, share, g)
        out[rows] = torch.where(x > 0, looks.clamp(min=1e-3), 0).permute(0, 2, 3, 1).numpy()
    return out


@recipe("tl", "T-L network (Table IV): codes from images", CARDIAC, ships="acnn_tl")
def _tl(order: Order) -> TLSpace:
    config = order.numbers(PredictorConfig.profile(order.profile))
    shapes = phantom_autoencoder(order.profile, order.progress)
    if order.data == "phantom":
        hearts = order.hearts or limited(TL_PATIENTS[order.profile], "hearts", order.profile)
        seed = TRAINING_SEED + order.seed
        images, labels, _ = phantom_images(hearts, config.grid, config.factor, seed, RANDOMISED, order.progress)
        about = f"{hearts} phantom hearts, ED and ES, HR and LR, seed {seed}"
    else:
        images, labels, _ = images_on_grid(order.cohort(), config.grid, progress=order.progress)
        about = f"data set {order.data}"
    return train_tl_network(images, labels, config, order.run, autoencoder=shapes, data=about)[0]


def phantom_tl(profile: str | None = None, progress: bool = True) -> TLSpace:
    """The T-L network learned from phantoms: shipped weights, or trained now (and kept) where there are none.

    Training takes about 25 minutes in `quick` on one core. Its autoencoder began as that of `phantom_autoencoder`.
    """
    return shipped("tl", profile, progress)


def learned_space(name: str = "autoencoder", profile: str | None = None, progress: bool = True) -> AESpace | TLSpace:
    """A space that ships, by name: "autoencoder" (`phantom_autoencoder`) or "tl" (`phantom_tl`).

    Both encode label maps and decode codes; "tl" also encodes images. UsageError for another name.
    """
    spaces: dict[str, Callable[..., AESpace | TLSpace]] = {"autoencoder": phantom_autoencoder, "tl": phantom_tl}
    return spaces[one_of("space", name, spaces)](profile, progress)


def fit_pca(labels: np.ndarray, grid: Grid, n_codes: int = 64) -> PCASpace:
    """PCA of label maps with as many codes as the autoencoder: the linear space beside it."""
    return PCASpace(n_codes=n_codes, grid=grid, scheme=CARDIAC).fit(labels)


def cardiac_cohort(
    data: str, root: str | Path | None = None, seed: int = 0, n: int = 100, images: bool = False
) -> Cohort:
    """The hearts an experiment runs on: ED and ES of "acdc" or another cardiac data set, or "phantom" (n patients of
    `seed`, as ACDC's stacks).

    Args:
        images: make the phantoms' images too; real ones are there

    UsageError for another name, or for the seed that the shipped spaces were learned from.
    """
    if one_of("data", data, data_sets(CARDIAC)) != "phantom":
        return open_cohort(data, root=root).filter(phase=list(PHASES))
    must(seed != TRAINING_SEED, "seed", seed, "another, the shipped spaces were learned from its hearts")
    return open_cohort("phantom", n=n, seed=seed, images=images)
