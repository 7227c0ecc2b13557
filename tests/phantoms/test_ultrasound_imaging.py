"""How the phantom is pictured: speckle, shadows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapelab.phantoms.ultrasound import us_arrays, us_cohort
from shapelab.phantoms.ultrasound_geometry import make_box
from shapelab.phantoms.ultrasound_imaging import more_shadows, rays, shadow_db


def test_speckle_is_fine_along_the_beam_and_grows_across_it_with_depth():
    from shapelab.phantoms.ultrasound_imaging import _speckle

    box = make_box((96, 96, 96), (1.5, 1.5, 1.5))
    r = rays(box)
    field = torch.zeros(96**3)
    grain = _speckle(np.random.default_rng(0), r, 1)[0]
    field[r.index] = grain
    assert grain.square().mean() == pytest.approx(1, abs=0.03)
    assert grain.mean() == pytest.approx(np.sqrt(np.pi) / 2, abs=0.02)  # Rayleigh
    field = field.reshape(box.shape).numpy()

    def correlation(axis, z):
        a = field[38:58, 38:58, z : z + 8]
        b = np.roll(field, -1, axis)[38:58, 38:58, z : z + 8]
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    assert correlation(0, 86) > correlation(0, 40) + 0.1  # wider grains further away
    assert correlation(2, 86) < correlation(0, 86)  # and short along the beam


def test_more_shadows_is_pure_and_only_inside_the_sector():
    images, _, _ = us_arrays(us_cohort(2, seed=1, phases=("ED",)))
    box = make_box((48, 48, 48), (3.0,) * 3)
    batch = torch.from_numpy(images)
    a, b = more_shadows(batch, box, 3), more_shadows(batch, box, 3)
    assert torch.equal(a, b) and not torch.equal(a, more_shadows(batch, box, 4))
    assert (a[batch == 0] == 0).all() and a.min() >= 0 and a.max() <= 1
    weak, strong = (more_shadows(batch, box, 3, s).mean() for s in (0.0, 3.0))
    assert strong < weak


def test_shadows_are_wedges():
    azimuth, elevation = (torch.from_numpy(v).float() for v in np.meshgrid(*[np.linspace(-0.7, 0.7, 41)] * 2))
    for seed in range(5):
        loss = shadow_db(np.random.default_rng(seed), azimuth, elevation)
        assert 0 <= loss.min() < 1 and 5 < loss.max() <= 26
