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
