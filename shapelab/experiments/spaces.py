"""Shape spaces that several experiments and notebooks share: learned from phantoms, kept under data/weights.

They ship because a space learned from phantoms alone has seen no real heart: it may be applied to any patient without
leaking his shape into the features, and no licence of a data set touches it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from shapelab.data.cohort import Cohort
from shapelab.data.scheme import CARDIAC
from shapelab.errors import UsageError
from shapelab.grid import Grid, stack_labels
from shapelab.latent.pca import PCASpace
from shapelab.models.acnn import AEConfig, AESpace, train_autoencoder
from shapelab.profiles import current_profile

#: Phantom patients that the shipped spaces are learned from: a seed that no other experiment draws from.
TRAINING_SEED = 20_000
#: Profile -> patients (two shapes each) and epochs. Many hearts seen a few times beat few seen often.
TRAINING = {"quick": (1000, 25), "full": (2000, 100), "paper": (2000, 100)}
ALIGN = "rigid"  # every space here: hearts turned so that the RV lies to the left (`shapelab.grid.to_grid`)


def weights_folder() -> Path:
    """Where shipped weights lie: data/weights of the repository, or the folder named by SHAPELAB_WEIGHTS."""
    return Path(os.environ.get("SHAPELAB_WEIGHTS") or Path(__file__).parents[2] / "data" / "weights")


def phantom_shapes(n: int, grid: Grid, seed: int, progress: bool = False) -> tuple[np.ndarray, pd.DataFrame]:
    """Label maps (2 n, X, Y, Z) uint8 of n phantom patients (ED and ES, stacks as ACDC's) on a grid; their facts."""
    from shapelab.phantoms import heart_cohort

    cohort = heart_cohort(n, seed=seed, resolution="LR", scheme=CARDIAC)
    return stack_labels(cohort, grid, align=ALIGN, progress=progress)


def train_phantom_autoencoder(
    profile: str | None = None,
    hearts: int | None = None,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> AESpace:
    """Train the ACNN autoencoder on phantom hearts: what ships under data/weights/acnn_ae_<profile>.

    Parameters
    ----------
    profile : numbers of the model and of patients; None: the current one
    hearts : patients (two shapes each) instead of the profile's
    epochs : instead of the profile's
    checkpoint : folder; a killed run goes on from there
    """
    profile = current_profile(profile)
    config = AEConfig.profile(profile)
    hearts, epochs = hearts or TRAINING[profile][0], epochs or TRAINING[profile][1]
    labels, _ = phantom_shapes(hearts, config.grid, TRAINING_SEED, progress)
    space, _ = train_autoencoder(
        labels,
        config,
        seed=0,
        checkpoint=checkpoint,
        epochs=epochs,
        progress=progress,
        data=f"{hearts} phantom hearts, ED and ES, seed {TRAINING_SEED}",
    )
    return space


def phantom_autoencoder(profile: str | None = None, progress: bool = True) -> AESpace:
    """The autoencoder learned from phantoms: shipped weights, or trained now (and kept) where there are none.

    Training takes about 20 minutes in `quick` on two cores. Where the folder of weights cannot be written to, the space
    is trained each time.
    """
    profile = current_profile(profile)
    folder = weights_folder() / f"acnn_ae_{profile}"
    if (folder / AESpace.FILE).is_file():
        return AESpace.load(folder)
    space = train_phantom_autoencoder(profile, progress=progress)
    try:
        space.save(folder)
    except OSError:
        pass  # a read-only installation: the space is as good without a copy on disk
    return space


def fit_pca(labels: np.ndarray, grid: Grid, n_codes: int = 64) -> PCASpace:
    """PCA of label maps with as many codes as the autoencoder: the linear space beside it."""
    return PCASpace(n_codes=n_codes, grid=grid, scheme=CARDIAC).fit(labels)


def cardiac_cohort(data: str, root: str | Path | None = None, seed: int = 0, n: int = 100) -> Cohort:
    """The hearts an experiment runs on: "acdc" (needs the data) or "phantom" (n patients of `seed`).

    UsageError for another name, or for the seed that the shipped spaces were learned from.
    """
    from shapelab.data import open_cohort

    if data == "acdc":
        return open_cohort("acdc", root=root).filter(phase=["ED", "ES"])
    if data == "phantom":
        if seed == TRAINING_SEED:
            raise UsageError(f"seed: found {seed}; expected another, the shipped spaces were learned from its hearts")
        return open_cohort("phantom", n=n, seed=seed)
    raise UsageError(f"data: found {data!r}; expected 'acdc' or 'phantom'")
