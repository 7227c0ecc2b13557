"""Factors of whole hearts."""

import numpy as np
import pytest

from shapelab.errors import UsageError
from shapelab.phantoms.whole_heart_population import WHOLE_GROUPS, whole_heart_factors


def test_a_patient_is_its_key():
    f = whole_heart_factors((0, 3, "PH", 0))
    assert f == whole_heart_factors((0, 3, "PH", 0)) != whole_heart_factors((1, 3, "PH", 0))
    for group in WHOLE_GROUPS:
        g = whole_heart_factors((0, 3, group, 0))
        assert g.keys() == f.keys() and all(isinstance(v, float) and np.isfinite(v) for v in g.values())


def test_unknown_group_is_named():
    with pytest.raises(UsageError, match="group: found 'RV'"):
        whole_heart_factors((0, 0, "RV", 0))


def test_diameters_of_normals_are_those_published():
    """Framingham: aorta 33.3 +- 3.9 mm (men and women as drawn), trunk 25.1 +- 2.8 mm, ratio .77 +- .09."""
    for seed in (0, 1):
        f = [whole_heart_factors((seed, i, "NOR", i)) for i in range(400)]
        aorta, trunk = (np.array([one[name] for one in f]) for name in ("aorta", "trunk"))
        index = np.array([one["RAV"] / one["bsa"] for one in f])
        for value, mean, sd in ((aorta, 33.3, 3.9), (trunk, 25.1, 2.8), (trunk / aorta, 0.77, 0.09), (index, 77, 11)):
            assert value.mean() == pytest.approx(mean, rel=0.04) and value.std() == pytest.approx(sd, rel=0.15)


def test_groups_have_known_factors():
    names = ("LAV", "aorta", "trunk", "LVV_ED", "LVM", "septum_chord_ED")
    drawn = {group: [whole_heart_factors((0, i, group, i)) for i in range(60)] for group in WHOLE_GROUPS}
    mean = {group: {name: np.mean([f[name] for f in one]) for name in names} for group, one in drawn.items()}
    normal = mean["NOR"]
    assert mean["LAE"]["LAV"] / normal["LAV"] == pytest.approx(1.75, rel=0.1)
    assert mean["AAD"]["aorta"] / normal["aorta"] == pytest.approx(1.38, rel=0.05) and mean["AAD"]["aorta"] > 40
    assert mean["PH"]["trunk"] / normal["trunk"] == pytest.approx(1.36, rel=0.05) and mean["PH"]["trunk"] > 29
    assert mean["PH"]["septum_chord_ED"] < 0.9 * normal["septum_chord_ED"]  # flattened towards the LV
    assert mean["DCM"]["LVV_ED"] > 1.7 * normal["LVV_ED"] and mean["HCM"]["LVM"] > 1.3 * normal["LVM"]
