"""The 3D ultrasound phantom: geometry against the slice-wise phantom, volumes, axes, and each artefact on its own."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.data.scheme import LV_CAVITY
from shapelab.errors import UsageError
from shapelab.phantoms.ultrasound import us_arrays, us_cohort
from shapelab.phantoms.ultrasound_geometry import Artefacts

QUICK = {"grid": ((24, 24, 24), (6.0, 6.0, 6.0))}


@pytest.fixture(scope="module")
def cohort():
    return us_cohort(3, seed=7)


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


def test_arrays_of_a_cohort():
    images, labels, table = us_arrays(us_cohort(1, **QUICK))
    assert images.shape == labels.shape == (2, 24, 24, 24) and images.dtype == np.float16 and labels.dtype == np.uint8
    assert list(table.phase) == ["ED", "ES"]
