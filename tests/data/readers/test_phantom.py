"""Data sets that are made: opened as those that are read, with the phantoms' own arguments."""

import pytest

from shapelab.data import open_cohort
from shapelab.errors import DataError, UsageError


def test_phantom_forwards(monkeypatch):
    phantoms = pytest.importorskip("shapelab.phantoms")
    from shapelab.data.scheme import CARDIAC

    cohort = open_cohort("phantom", n=2, seed=3)
    assert cohort.scheme is CARDIAC and len(cohort.patients) == 2
    assert cohort[0].spacing[2] == 10
    direct = phantoms.heart_cohort(n=2, seed=3, resolution="LR", scheme=CARDIAC)
    assert (cohort[0].label == direct[0].label).all()
    with pytest.raises(UsageError, match=r"found the options \['patients'\]"):
        open_cohort("phantom", patients=3)
    with pytest.raises(UsageError, match="found a root"):
        open_cohort("phantom", root=".")


def test_ultrasound_phantom_forwards():
    from shapelab.data.scheme import LV_CAVITY

    cohort = open_cohort("phantom-us", n=1, seed=3, grid=((16, 16, 16), (9.0, 9.0, 9.0)))
    assert cohort.scheme is LV_CAVITY and cohort.ids == ("us000_ED", "us000_ES")
    with pytest.raises(UsageError, match=r"open_cohort\('phantom-us'\): found the options \['resolution'\]"):
        open_cohort("phantom-us", resolution="LR")
    with pytest.raises(UsageError, match="found a root"):
        open_cohort("phantom-us", root=".")
    with pytest.raises(DataError, match="phantom-us"):
        open_cohort("cetus", root="nowhere")
