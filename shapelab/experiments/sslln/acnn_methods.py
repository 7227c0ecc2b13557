"""Table V of SSLLN: the networks of the ACNN paper on SSLLN's hearts (see `shapelab.experiments.sslln.laboratory`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from shapelab.augment import MotionRanges
from shapelab.data.scheme import CARDIAC, LabelScheme
from shapelab.data.volumes import HeartPairs
from shapelab.experiments.acnn.segmentation import METHODS, SegmentationConfig, prior_of, train_method
from shapelab.experiments.kept_runs import KeptRun, described, kept_network, weights_key
from shapelab.experiments.sslln.hearts import COHORTS, PHASE, SEEDS
from shapelab.models.acnn import AESpace, lr_stacks, predict_labels
from shapelab.models.acnn.tl import TLSpace
from shapelab.phantoms.pairs import heart_pairs
from shapelab.phantoms.patients import Mix
from shapelab.training import numbers_of

if TYPE_CHECKING:  # it imports this module
    from shapelab.experiments.sslln.laboratory import SSLLNExperiment


def acnn_pairs(config: SSLLNExperiment, cohort: str, n: int, folder: Path | None, progress: bool = False) -> HeartPairs:
    """The first n hearts of one of SSLLN's cohorts as aligned pairs (LV cavity and wall, RV cavity), at ED.

    Args:
        config: `shapelab.experiments.sslln.laboratory.SSLLNExperiment`
        folder: where they are kept
    """
    return heart_pairs(
        n,
        config.acnn.grid,
        config.acnn.factor,
        SEEDS[cohort],
        Mix(COHORTS[cohort], (PHASE,)),
        MotionRanges(config.degradation.shift_mm, 0.0),
        None if folder is None else folder / f"pairs_{cohort}.npz",
        progress,
    )


def _numbers(config: SSLLNExperiment) -> SegmentationConfig:
    """How a network of the ACNN paper is trained here."""
    epochs = config.network.baseline_epochs
    return SegmentationConfig(
        training=config.training, phases=(PHASE,), network=config.acnn, epochs=epochs, validation=0
    )


def acnn_prior(method: str, config: SSLLNExperiment, progress: bool = False) -> AESpace | TLSpace | None:
    """The prior that a method of SSLLN's tables is trained with; None: without one."""
    numbers = _numbers(config)
    return prior_of(method, numbers, numbers.weight, progress) if method in METHODS and METHODS[method].prior else None


def acnn_segmentations(
    method: str, config: SSLLNExperiment, seed: int, folder: str | Path | None, progress: bool = False
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float], LabelScheme]:
    """Train (or read) a network of the ACNN paper and segment the hearts of Table V.

    Args:
        method: a name of `shapelab.experiments.acnn.segmentation.METHODS`
        config: `shapelab.experiments.sslln.laboratory.SSLLNExperiment`

    Returns labels and truth (N, X, Y, Z) channel numbers, spacing (mm) and the scheme.
    """
    folder = None if folder is None else Path(folder)
    shared = None if folder is None else folder.parent

    numbers = _numbers(config)
    key = {"method": method, "seed": seed, "config": numbers_of(numbers), "motion": config.degradation.shift_mm}
    key["prior"] = weights_key(acnn_prior(method, config, progress))

    def train(checkpoint: Path | None) -> nn.Module:
        pairs = acnn_pairs(config, "training", config.training, shared, progress)
        run = KeptRun(checkpoint, seed=seed, progress=progress)
        network, history = train_method(method, {"training": pairs}, numbers, run)
        return described(network, "seg", CARDIAC, {"method": method, "final": history.last})

    network = kept_network(folder, train, key)
    test = acnn_pairs(config, "healthy", config.compared, shared, progress)
    return predict_labels(network, lr_stacks(test, seed=seed)), test.labels, test.spacing, test.scheme
