"""Tiny hearts that several tests share, and networks that know the answers."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.experiments.sslln import laboratory as sslln_methods
from shapelab.experiments.sslln.hearts import Degradation
from shapelab.experiments.sslln.laboratory import Laboratory, SSLLNExperiment
from shapelab.models.acnn import SubPixelConfig
from shapelab.models.sslln import SSLLNConfig

NETWORK = SSLLNConfig(
    shape=(48, 48, 32),
    spacing=(4.0, 4.0, 4.0),
    widths=(4, 4, 8),
    convs=(1, 1, 1),
    merged=8,
    crop=(32, 32, 32),
    epochs=1,
    slices=4,
)


PAIRS = SubPixelConfig(shape=(16, 16, 8), spacing=(9.0, 9.0, 15.0), factor=2, widths=(8, 8, 8, 8), batch=4)


CONFIG = SSLLNExperiment(
    training=4,
    healthy=2,
    PH=1,
    atlases=2,
    compared=1,
    n_atlases=2,
    degradation=Degradation(2, 2.0, 1),
    network=NETWORK,
    acnn=PAIRS,
)


@pytest.fixture(scope="session")
def config() -> SSLLNExperiment:
    """The experiment on a handful of hearts."""
    return CONFIG


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Hearts are made once for all tests of this folder."""
    return tmp_path_factory.mktemp("sslln")


@pytest.fixture
def oracle(monkeypatch):
    """Networks that know the labels and landmarks of every image that was made here."""
    known = {}

    def remember(made):
        volumes = made[0] if isinstance(made, tuple) else made
        for image, label, places in zip(volumes.images, volumes.labels, volumes.landmarks, strict=True):
            known[image.tobytes()] = label, places
        return made

    for name in ("phantom_volumes", "degrade"):
        true = getattr(sslln_methods, name)
        monkeypatch.setattr(sslln_methods, name, lambda *a, true=true: remember(true(*a)))
    monkeypatch.setattr(Laboratory, "network", lambda self, method: None)
    monkeypatch.setattr(
        sslln_methods,
        "predict",
        lambda network, images: tuple(np.stack(v) for v in zip(*(known[i.tobytes()] for i in images), strict=True)),
    )
