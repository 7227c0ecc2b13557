"""From factors to surfaces: what ED and ES share, what disease changes, where the landmarks are."""

import numpy as np
import pytest
import torch

from shapelab.phantoms.anatomy import LANDMARKS, build_heart, deformation, profile, volume
from shapelab.phantoms.heart import ANGLES, NODES, heart_frame, level_functions, slice_curves
from shapelab.phantoms.population import GROUPS, draw_factors


@pytest.fixture(scope="module")
def hearts():
    """Ten factors and hearts of each group."""
    return {g: [(f := draw_factors(1, i, g), build_heart(f)) for i in range(10)] for g in GROUPS}


def levels_at(surfaces, point):
    """endo, epi, rv, rv_outer at a point (3,) of the heart's frame: mm, negative inside."""
    curves = slice_curves(surfaces, torch.tensor([point[2]], dtype=torch.float32))
    at = [torch.tensor([v], dtype=torch.float32) for v in point[:2]]
    return level_functions(curves, *heart_frame(surfaces, *at))[:, 0, 0, 0].numpy()


def surface_volumes(s):
    table = {n: getattr(s, n)[0].numpy() for n in ("endo", "epi")}
    cavity = volume(table["endo"], float(s.endo_length))
    return cavity, volume(table["epi"], float(s.epi_length)) - cavity


def test_lv_volumes_are_solved_to_a_thousandth(hearts):
    for pairs in hearts.values():
        for f, both in pairs:
            cavity, wall = surface_volumes(both["ED"].surfaces)
            assert cavity == pytest.approx(f["LVV_ED"], rel=2e-3)
            assert wall == pytest.approx(f["LVM"] / 1.05, rel=4e-3)
            cavity, _ = surface_volumes(both["ES"].surfaces)
            assert cavity == pytest.approx(f["LVV_ED"] * (1 - f["LVEF"] / 100), rel=1e-2)


def test_wall_volume_is_conserved_within_5_percent(hearts):
    for pairs in hearts.values():
        for _, both in pairs:
            ed, es = (surface_volumes(both[p].surfaces)[1] for p in ("ED", "ES"))
            assert es / ed == pytest.approx(1, abs=0.05)


def test_the_two_phases_share_their_anatomy(hearts):
    """The outline at ES is that at ED made smaller: far more alike than the outlines of two patients."""
    outlines = {p: [both[p].surfaces.epi[0, 10].numpy() for _, both in hearts["NOR"]] for p in ("ED", "ES")}
    outlines = {p: np.array([o / o.mean() for o in v]) for p, v in outlines.items()}
    own = np.sqrt(((outlines["ED"] - outlines["ES"]) ** 2).mean(1)).mean()
    others = np.sqrt(((outlines["ED"] - np.roll(outlines["ES"], 1, 0)) ** 2).mean(1)).mean()
    assert own < 0.6 * others


def test_base_descends_and_lv_shortens_in_systole(hearts):
    for _, both in hearts["NOR"]:
        ed, es = both["ED"].surfaces, both["ES"].surfaces
        assert float(ed.lv_base) == 0 < float(es.lv_base)
        assert float(es.epi_length) < float(ed.epi_length)
        assert float(es.rv_base) > float(es.lv_base)  # the tricuspid valve moves further than the mitral valve


@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_landmarks_lie_on_their_surfaces(hearts, phase):
    for pairs in hearts.values():
        for _, both in pairs:
            heart = both[phase]
            assert tuple(heart.landmarks) == LANDMARKS
            s, marks = heart.surfaces, heart.landmarks
            endo, epi, _, _ = levels_at(s, marks["LV lateral wall mid-point"])
            assert endo == pytest.approx(-epi, abs=0.4) and endo > 0  # half way between the two surfaces
            for name in ("RV insertion anterior", "RV insertion inferior"):
                _, epi, rv, _ = levels_at(s, marks[name])
                assert epi == pytest.approx(0, abs=0.5) and rv == pytest.approx(0, abs=0.8)
            _, epi, rv, _ = levels_at(s, marks["RV lateral wall turning point"])
            assert rv == pytest.approx(0, abs=0.1) and epi > 0
            assert marks["RV insertion anterior"][1] > marks["RV insertion inferior"][1]  # y is anterior


def test_apex_is_the_lowest_point_and_the_valve_the_middle_of_the_base(hearts):
    for pairs in hearts.values():
        for _, both in pairs:
            for heart in both.values():
                s = heart.surfaces
                apex, valve = heart.landmarks["apex"], heart.landmarks["mitral valve centre"]
                assert apex[2] == pytest.approx(float(s.lv_base + s.epi_length), abs=1e-3)
                assert valve[2] == pytest.approx(float(s.lv_base), abs=1e-3)
                above = slice_curves(s, torch.tensor([apex[2] - 0.05], dtype=torch.float32))
                assert np.hypot(*(above.lv[0, 0].numpy() - apex[:2])) < 0.1  # the surface closes there
                assert 0 < float(above.radii[1].max()) < 5
                assert float(slice_curves(s, torch.tensor([apex[2] + 0.05], dtype=torch.float32)).radii[1].max()) < 0
                base = slice_curves(s, torch.tensor([valve[2] + 0.01], dtype=torch.float32))
                assert np.hypot(*(base.lv[0, 0].numpy() - valve[:2])) < 0.1


def septal_flatness(heart):
    """Septal against mean outer radius half way down: 1 round, less is flat."""
    epi = heart.surfaces.epi[0, 10].numpy()
    return epi[np.abs((ANGLES + np.pi) % (2 * np.pi) - np.pi) < 0.35].mean() / epi.mean()


def septal_curvature(heart):
    """Curvature of the septum (1 / radius of the circle through its arc) times the LV's mean outer radius."""
    epi = heart.surfaces.epi[0, 10].numpy()
    arc = np.abs((ANGLES + np.pi) % (2 * np.pi) - np.pi) < 0.7
    x, y = epi[arc] * np.cos(ANGLES[arc]), epi[arc] * np.sin(ANGLES[arc])
    a = np.column_stack([2 * x, 2 * y, np.ones_like(x)])
    cx, cy, c = np.linalg.lstsq(a, x * x + y * y, rcond=None)[0]
    return epi.mean() / np.sqrt(c + cx * cx + cy * cy)


@pytest.mark.parametrize("measure", [septal_flatness, septal_curvature])
def test_septum_is_flatter_under_rv_overload(hearts, measure):
    for phase in ("ED", "ES"):
        normal, overload = ([measure(both[phase]) for _, both in hearts[g]] for g in ("NOR", "RV"))
        assert np.mean(overload) < np.mean(normal) - 0.012
    assert np.mean(overload) < np.mean(normal) - 0.02  # more so at ES


def sector_wall(heart, f, inside: bool):
    """Mean wall thickness (mm) within, or far from, the infarct's territory."""
    s = heart.surfaces
    level = int(np.argmin(np.abs(NODES - min(f["infarct_level"], 0.75))))
    away = np.abs((np.rad2deg(ANGLES) - f["infarct_angle"] + 180) % 360 - 180)
    z = torch.tensor([float(s.lv_base) + NODES[level] * float(s.epi_length)], dtype=torch.float32)
    radii = slice_curves(s, z).radii[:2, 0, 0].numpy()
    return (radii[1] - radii[0])[away < 25 if inside else away > 140].mean()


def test_infarct_is_thin_and_does_not_thicken(hearts):
    thin, thicker = [], []
    for f, both in hearts["MINF"]:
        assert f["infarct_territory"] in (1, 2, 3) and f["infarct_thinning"] > 0.1
        ed, es = (sector_wall(both[p], f, True) for p in ("ED", "ES"))
        far_ed, far_es = (sector_wall(both[p], f, False) for p in ("ED", "ES"))
        thin.append(ed / far_ed)
        thicker.append((es / ed, far_es / far_ed))
    scar, remote = np.mean(thicker, 0)
    assert np.mean(thin) < 0.8
    assert scar < 1.2 < remote


def test_no_infarct_elsewhere(hearts):
    for group in set(GROUPS) - {"MINF"}:
        assert all(f["infarct_thinning"] == 0 and f["infarct_territory"] == 0 for f, _ in hearts[group])


def test_hypertrophy_is_mostly_septal(hearts):
    """HCM: thick walls; in the asymmetric ones the hypertrophied part is the thickest."""
    for f, both in hearts["HCM"]:
        if f["hypertrophy"] > 0.3 and f["hypertrophy_width"] < 110:
            s = both["ED"].surfaces
            z = torch.tensor([f["hypertrophy_level"] * float(s.epi_length)], dtype=torch.float32)
            wall = slice_curves(s, z).radii[:2, 0, 0].numpy()
            wall = wall[1] - wall[0]
            near = np.abs((np.rad2deg(ANGLES) - f["hypertrophy_angle"] + 180) % 360 - 180) < 30
            assert wall[near].mean() > 1.1 * wall.mean()


def test_deformation_has_the_spread_asked_for():
    rng = np.random.default_rng(0)
    fields = np.array([deformation(rng, np.array([0.02]), np.array([3])) for _ in range(300)])
    # variance at angle 0 and base (all cosines 1): spread^2 * sum of squares of the wave spreads
    expected = 0.02 * np.sqrt(1 + 0.65**2 + 0.45**2 + 0.3**2 + 0.2**2)
    assert fields[:, 0, 0].std() == pytest.approx(expected, rel=0.12)
    assert abs(fields.mean(2)).max() < 1e-12  # of angular frequency 3: mean 0 round the circle


def test_profile_is_the_ellipse_it_says():
    g = profile(0.2, 0.1, 0.5)
    assert g.max() == pytest.approx(1, abs=2e-3) and g[0] == pytest.approx(0.9) and g[-1] == 0
    half = np.interp(0.6, NODES, g)  # half way between equator and apex of an ellipse: sqrt(3)/2
    assert half == pytest.approx(np.sqrt(3) / 2, abs=2e-3)
