"""Small hearts for every test of the atlas room: phantoms at 2.5 x 2.5 x 4 mm, each made once."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.atlas import Atlas, phantom_atlases

SPACING = (2.5, 2.5, 4.0)


@pytest.fixture(scope="session")
def hearts() -> list[Atlas]:
    """Five atlases (NOR, DCM, HCM, MINF, RV), ED, with landmarks, and images that are their labels' grey values."""
    return [with_grey(a) for a in phantom_atlases(5, seed=3, images=False, resolution=SPACING)]


def with_grey(atlas: Atlas) -> Atlas:
    """An image without a scanner: a grey value a structure and noise (a phantom's MR image takes seconds)."""
    grey = np.array([0.2, 0.9, 0.4, 0.85, 0.5], np.float32)[atlas.label]
    noise = np.random.default_rng(len(atlas.id)).normal(0, 0.03, grey.shape)
    return Atlas(atlas.label, atlas.spacing, atlas.landmarks, grey + noise.astype(np.float32), atlas.scheme, atlas.id)


@pytest.fixture(scope="session")
def ball():
    """``ball(shape, centre, radius, spacing) -> bool``: a ball in mm, for maps whose answers are plain."""

    def make(shape, centre, radius, spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
        axes = np.meshgrid(*[np.arange(n) * s - c for n, s, c in zip(shape, spacing, centre)], indexing="ij")
        return sum(a**2 for a in axes) < radius**2

    return make
