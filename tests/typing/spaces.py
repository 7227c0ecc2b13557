"""What a user's type checker is told of the shape spaces: read by mypy (`make lint`), never run."""

from __future__ import annotations

from typing import assert_type

import numpy as np

from shapelab.data.grid import Grid
from shapelab.data.scheme import LabelScheme
from shapelab.data.volumes import HeartPairs
from shapelab.models.acnn import (
    AEConfig,
    AESpace,
    Autoencoder,
    Predictor,
    PredictorConfig,
    SubPixelNet,
    TLNetwork,
    TLSpace,
    train_autoencoder,
    train_network,
    train_tl_network,
)
from shapelab.spaces import PCASpace, ShapeSpace, load
from shapelab.training import Config, History, seeded


def each_is_a_space(autoencoder: AESpace, tl: TLSpace, pca: PCASpace) -> list[ShapeSpace]:
    return [autoencoder, tl, pca]


def what_a_folder_gives() -> None:
    assert_type(AESpace.load("folder"), AESpace)
    assert_type(TLSpace.load("folder"), TLSpace)
    assert_type(PCASpace.load("folder"), PCASpace)
    assert_type(load("folder"), ShapeSpace)


def what_a_space_has(space: ShapeSpace, labels: np.ndarray) -> None:
    assert_type(space.grid, Grid)
    assert_type(space.scheme, LabelScheme)
    assert_type(space.mean, np.ndarray)
    assert_type(space.sigma, np.ndarray)
    assert_type(space.decode(space.encode(labels)), np.ndarray)


def networks_and_numbers(autoencoder: AESpace, tl: TLSpace, config: Config) -> None:
    assert_type(autoencoder.config, AEConfig)
    assert_type(autoencoder.model, Autoencoder)
    assert_type(autoencoder.config.grid, Grid)
    assert_type(tl.config, PredictorConfig)
    assert_type(tl.model, TLNetwork)
    assert_type(tl.predictor, Predictor)
    assert_type(tl.shapes, AESpace)
    assert_type(AEConfig.profile("quick"), AEConfig)
    _ = config.grid  # type: ignore[misc]  # not every configuration has a shape and a spacing


def trainings(labels: np.ndarray, pairs: HeartPairs, network: SubPixelNet) -> None:
    assert_type(train_autoencoder(labels), tuple[AESpace, History])
    assert_type(train_tl_network(labels, labels), tuple[TLSpace, History])
    assert_type(train_network(network, pairs), tuple[SubPixelNet, History])
    assert_type(AESpace().fit(labels), AESpace)
    assert_type(PCASpace().fit(labels), PCASpace)
    assert_type(seeded(lambda: Autoencoder(AEConfig()), 0), Autoencoder)
