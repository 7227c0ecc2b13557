"""Where a refinement may start from: classes that overlap, and landmarks that stand for a map."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.atlas import landmark_affine, transform_points
from shapelab.data.scheme import BIVENTRICULAR
from shapelab.experiments.sslln import starts as sslln_starts
from shapelab.experiments.sslln.laboratory import Laboratory


def test_class_affine_finds_a_shift_and_a_scale(config, folder, oracle):
    atlas = Laboratory(config, folder).true_atlases[0]
    moved = np.zeros_like(atlas.label)
    moved[5:, 3:] = atlas.label[:-5, :-3]
    affine = sslln_starts.class_affines(moved, atlas.spacing, [atlas], BIVENTRICULAR)[0]
    points = np.argwhere(moved == 3)[::50] * np.array(atlas.spacing)
    expected = points - (20.0, 12.0, 0.0)
    assert np.abs(transform_points(affine, points) - expected).max() < 4.0  # one voxel
    landmarks, (pretended,) = sslln_starts.started_from(affine[None], [atlas], moved, atlas.spacing)
    assert landmark_affine(landmarks, pretended.landmarks) == pytest.approx(affine, abs=1e-6)
