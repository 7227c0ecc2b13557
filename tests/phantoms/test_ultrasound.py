"""The 3D ultrasound phantom: geometry against the slice-wise phantom, volumes, axes, and each artefact on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapelab.data.scheme import LV_CAVITY
from shapelab.errors import UsageError
from shapelab.phantoms.anatomy import build_heart
from shapelab.phantoms.heart import label_batch
from shapelab.phantoms.population import draw_factors
from shapelab.phantoms.ultrasound import us_arrays, us_cohort
from shapelab.phantoms.ultrasound_geometry import Artefacts, Levels, closed, make_box, make_probe
from shapelab.phantoms.ultrasound_imaging import more_shadows, rays, shadow_db

QUICK = {"grid": ((24, 24, 24), (6.0, 6.0, 6.0))}


@pytest.fixture(scope="module")
def cohort():
    return us_cohort(3, seed=7)


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


@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_volumes_are_those_of_the_facts(cohort, phase):
    for s in cohort.filter(phase=phase):
        volume = s.label.sum() * 27 / 1000
        assert volume == pytest.approx(s.facts[f"LVV_{phase}"], rel=0.02)
        assert s.facts["LVEF"] == pytest.approx(100 * (1 - s.facts["LVV_ES"] / s.facts["LVV_ED"]))


def test_same_volume_on_every_grid():
    volumes = [
        us_cohort(1, seed=3, grid=((int(144 / sp),) * 3, (sp,) * 3))[0].label.sum() * sp**3 / 1000
        for sp in (2.0, 3.0, 4.0)
    ]
    assert np.ptp(volumes) / np.mean(volumes) < 0.03


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


def test_ids_facts_scheme_and_one_probe_for_both_phases(cohort):
    assert cohort.ids == ("us000_ED", "us000_ES", "us001_ED", "us001_ES", "us002_ED", "us002_ES")
    assert cohort.scheme is LV_CAVITY and [s.facts["group"] for s in cohort[::2]] == ["NOR", "DCM", "MINF"]
    ed, es = (dict(cohort[i].facts) for i in (0, 1))
    assert {k for k in ed if ed[k] != es[k]} == {"phase"}
    # the sector is the same: beams outside it are 0 in both
    assert ((cohort[0].image > 0) == (cohort[1].image > 0)).mean() > 0.995


def test_image_is_a_picture_of_the_label(cohort):
    for s in cohort:
        image, label = s.image, s.label.astype(bool)
        assert image.dtype == np.float32 and image.min() == 0 and 0.5 < image.max() <= 1
        seen = image > 0
        assert 0.2 < seen.mean() < 0.6 and not seen[0, :, 0].any()
        depth = np.indices(label.shape)[2]
        deep = seen & (depth > 15)
        assert image[deep & label].mean() < image[deep & ~label].mean()


def test_a_function_of_seed_and_index_alone():
    a, b = us_cohort(3, seed=1, **QUICK), us_cohort(1, seed=1, first=2, **QUICK)
    assert b.ids == ("us002_ED", "us002_ES")
    for i in (0, 1):
        assert (a[4 + i].image == b[i].image).all() and (a[4 + i].label == b[i].label).all()
    other = us_cohort(1, seed=2, **QUICK)
    assert (other[0].image != a[0].image).any()


def test_artefacts_change_what_they_are_called_after_and_never_the_label():
    usual = us_cohort(1, seed=4, phases=("ED",))[0]
    image, label = usual.image, usual.label
    seen = image > 0

    def made(**strengths):
        s = us_cohort(1, seed=4, phases=("ED",), artefacts=Artefacts(**strengths))[0]
        assert (s.label == label).all() and all(s.facts[k] == v for k, v in strengths.items())
        return s.image

    assert made(shadow=3)[seen].mean() < image[seen].mean() < made(shadow=0)[seen].mean()
    darker = made(shadow=2)[seen] - image[seen]
    assert darker.max() < 1e-6  # a shadow takes away, never adds
    assert made(dropout=4)[seen].mean() < made(dropout=0)[seen].mean()
    near = label.astype(bool) & (np.indices(label.shape)[2] < 12)
    assert made(clutter=3)[near].mean() > made(clutter=0)[near].mean() + 0.03
    flat, grainy = made(speckle=0, clutter=0), made(clutter=0)
    rough = [np.abs(np.diff(a[20:28, 20:28, 40:46], axis=2)).mean() for a in (flat, grainy)]
    assert rough[0] < rough[1]


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n: found 0"),
        ({"n": True}, "n: found True"),
        ({"seed": -1}, "seed: found -1"),
        ({"groups": "NOR"}, "groups: found 'NOR'"),
        ({"groups": ["X"]}, r"groups: found \['X'\]"),
        ({"phases": ["ED", "ED"]}, "phases: found"),
        ({"grid": ((9, 9, 9), (1, 1))}, "spacing"),
        ({"grid": ((9, 9, 9), (-1.0, 1, 1))}, "spacing"),
        ({"first": 1.5}, "first: found 1.5"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(UsageError, match=message):
        us_cohort(**options)


@pytest.mark.parametrize("value", [-1, 6, np.nan, "much"])
def test_wrong_artefacts(value):
    with pytest.raises(UsageError, match="Artefacts.shadow: found"):
        Artefacts(shadow=value)


def test_arrays_of_a_cohort():
    images, labels, table = us_arrays(us_cohort(1, **QUICK))
    assert images.shape == labels.shape == (2, 24, 24, 24) and images.dtype == np.float16 and labels.dtype == np.uint8
    assert list(table.phase) == ["ED", "ES"]
