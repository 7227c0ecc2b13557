"""The heart as levels, the probe and its box."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapelab.errors import UsageError
from shapelab.phantoms.anatomy import build_heart
from shapelab.phantoms.heart import label_batch
from shapelab.phantoms.population import draw_factors
from shapelab.phantoms.ultrasound_geometry import Artefacts, Levels, closed, make_box, make_probe


def test_levels_are_the_surfaces_of_the_slice_wise_phantom():
    f = draw_factors(3, 1, "DCM")
    for phase, heart in build_heart(f).items():
        levels = Levels(heart.surfaces)
        shape, spacing, origin = (80, 80, 60), (2.0, 2.0, 2.5), np.array([80.0, 70.0, 12.0])
        label = label_batch(heart.surfaces.moved(origin=origin[None]), (shape, spacing))[0].numpy()
        points = np.indices(shape).reshape(3, -1).T * spacing - origin
        h = torch.from_numpy(points.T.astype(np.float32))
        level, normal, _ = levels.lv(*h)
        mine = (closed(level[0], h[2], levels.base) < 0).numpy().reshape(shape)
        differ = (mine != (label == 3)).sum() / (label == 3).sum()
        assert differ < 0.01, (phase, differ)
        outer = (closed(level[1], h[2], levels.base) < 0).numpy().reshape(shape)
        assert (outer != np.isin(label, (2, 3))).sum() / outer.sum() < 0.01
        near = level[1].abs() < 5
        assert torch.allclose(normal[:, near].norm(dim=0), torch.ones(int(near.sum())), atol=1e-3)
        rv, _ = levels.rv(*h)
        mine = ((rv[0] < 0) & (level[1] >= 0)).numpy().reshape(shape)
        inside = (h[2] > float(heart.surfaces.rv_base)).numpy().reshape(shape)
        assert ((mine & inside) != (label == 1)).sum() / (label == 1).sum() < 0.03


def test_level_is_about_the_distance_in_mm_and_goes_on_below_the_apex():
    heart = build_heart(draw_factors(0, 0, "NOR"))["ED"]
    levels = Levels(heart.surfaces)
    line = levels.line @ np.array([1.0, levels.apex, levels.apex**2])
    end = levels.base + float(heart.surfaces.endo_length)
    below = torch.tensor([[line[0]] * 4, [line[1]] * 4, [end, end + 3, end + 10, levels.apex + 20]]).float()
    level = levels.lv(*below)[0][0]
    assert abs(level[0]) < 1.0 and (level.diff() > 0).all() and level[2] == pytest.approx(10, abs=4)
    out = torch.arange(10, 60, 0.5)
    level = levels.lv(line[0] + out, 0 * out + line[1], 0 * out + 30)[0][1]
    slope = level.diff()[level[1:].abs() < 4] / 0.5
    assert len(slope) > 8 and slope.min() > 0.8 and slope.max() < 1.2


def test_axes_apex_at_the_probe_rv_at_low_x_anterior_at_low_y():
    seed, index = 5, 2
    f = draw_factors(seed, index, "NOR")
    marks = build_heart(f)["ED"].landmarks
    probe = make_probe(seed, index, f, 144.0)
    at = {name: probe.to_probe(p[None])[0] for name, p in marks.items()}
    assert 8 < at["apex"][2] < 30 and at["mitral valve centre"][2] > at["apex"][2] + 50
    assert np.hypot(*at["apex"][:2]) < 15
    assert at["RV lateral wall turning point"][0] < at["LV lateral wall mid-point"][0] - 40
    assert at["RV insertion anterior"][1] < at["RV insertion inferior"][1]
    assert np.allclose(probe.turn @ probe.turn.T, np.eye(3)) and np.linalg.det(probe.turn) == pytest.approx(1)
    points = np.random.default_rng(0).normal(size=(5, 3)) * 50
    assert np.allclose(probe.to_heart(probe.to_probe(points)), points)


def test_affine_has_the_probe_in_the_middle_of_the_first_side():
    box = make_box((48, 48, 36), (3.0, 3.0, 4.0))
    assert (box.affine @ [23.5, 23.5, -0.5, 1]).tolist() == [0, 0, 0, 1]
    assert box.points[:, 1, 2, 3].tolist() == (box.affine @ [1, 2, 3, 1])[:3].tolist()


@pytest.mark.parametrize("value", [-1, 6, np.nan, "much"])
def test_wrong_artefacts(value):
    with pytest.raises(UsageError, match="Artefacts.shadow: found"):
        Artefacts(shadow=value)
