"""Table V of SSLLN: the networks of the ACNN paper on SSLLN's hearts (see `shapelab.experiments.sslln.laboratory`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from shapelab.augment import MotionRanges
from shapelab.data.scheme import LabelScheme
from shapelab.data.volumes import HeartPairs
from shapelab.experiments.acnn.segmentation import SegmentationConfig, train_method
from shapelab.experiments.kept_runs import kept_network
from shapelab.experiments.sslln.hearts import COHORTS, PHASE, SEEDS
from shapelab.models.acnn import lr_stacks, predict_labels
from shapelab.phantoms.pairs import heart_pairs
from shapelab.phantoms.patients import Mix
from shapelab.training import Run


def acnn_pairs(config, cohort: str, n: int, folder: Path | None, progress: bool = False) -> HeartPairs:
    """The first n hearts of one of SSLLN's cohorts as aligned pairs (LV cavity and wall, RV cavity), at ED.

    Args:
        config: `shapelab.experiments.sslln.laboratory.SSLLNExperiment`
        folder: where they are kept
    """
    cache = None if folder is None else folder / f"pairs_{cohort}.npz"
    return heart_pairs(
        n,
        config.acnn.grid,
        config.acnn.factor,
        SEEDS[cohort],
        Mix(COHORTS[cohort], (PHASE,)),
        MotionRanges(config.degradation.shift_mm, 0.0),
        cache,
        progress,
    )


def acnn_segmentations(
    method: str, config, seed: int, folder: str | Path | None, progress: bool = False
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float], LabelScheme]:
    """Train (or read) a network of the ACNN paper and segment the hearts of Table V.

    Args:
        method: a name of `shapelab.experiments.acnn.segmentation.METHODS`
        config: `shapelab.experiments.sslln.laboratory.SSLLNExperiment`

    Returns labels and truth (N, X, Y, Z) channel numbers, spacing (mm) and the scheme.
    """
    folder = None if folder is None else Path(folder)
    shared = None if folder is None else folder.parent

    def train(checkpoint: Path | None) -> nn.Module:
        pairs = acnn_pairs(config, "training", config.training, shared, progress)
        numbers = SegmentationConfig(
            training=config.training,
            phases=(PHASE,),
            network=config.acnn,
            epochs=config.network.baseline_epochs,
            validation=0,
        )
        run = Run(checkpoint, seed=seed, progress=progress)
        network, history = train_method(method, {"training": pairs}, numbers, run)
        network.metadata = {"method": method, "final": history.last}
        return network

    network = kept_network(folder, train)
    test = acnn_pairs(config, "healthy", config.compared, shared, progress)
    return predict_labels(network, lr_stacks(test, seed=seed)), test.labels, test.spacing, test.scheme
