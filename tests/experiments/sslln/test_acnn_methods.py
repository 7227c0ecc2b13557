"""The networks of the ACNN paper on SSLLN's hearts: which hearts, and that a trained network is read again."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.data.scheme import CARDIAC
from shapelab.experiments.sslln import acnn_methods
from shapelab.experiments.sslln.acnn_methods import acnn_pairs, acnn_segmentations


def test_pairs_are_the_cohorts_hearts_at_ed_displaced_and_not_turned(config):
    healthy, sick = (acnn_pairs(config, cohort, 2, None) for cohort in ("healthy", "PH"))
    assert set(healthy.table["phase"]) == {"ED"} and set(sick.table["group"]) == {"RV"}
    assert healthy.images.shape == (2, *config.acnn.shape) and healthy.spacing == config.acnn.spacing
    assert healthy.motion[..., :2].any() and not healthy.motion[..., 2].any()
    again = acnn_pairs(config, "healthy", 1, None)
    assert np.array_equal(again.labels, healthy.labels[:1])  # the first are the first of more


def test_what_was_trained_is_read_the_second_time(config, tmp_path, monkeypatch):
    labels, truth, spacing, scheme = acnn_segmentations("3D-Seg", config, 0, tmp_path / "seg")
    assert labels.shape == truth.shape == (config.compared, *config.acnn.shape)
    assert spacing == config.acnn.spacing and scheme == CARDIAC and truth.max() == 3
    monkeypatch.setattr(acnn_methods, "train_method", lambda *a, **k: pytest.fail("trained anew"))
    assert np.array_equal(acnn_segmentations("3D-Seg", config, 0, tmp_path / "seg")[0], labels)
