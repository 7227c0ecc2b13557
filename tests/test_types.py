"""Names for annotations: they cost nothing when the program runs, and say what a checker needs."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

from shapelab import types


def test_nothing_is_loaded_for_an_annotation():
    code = "import sys, shapelab.types; print([m for m in ('numpy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_three_numbers_and_two_libraries():
    assert get_args(types.Shape3) == (int, int, int)
    assert get_args(types.Vector3) == (float, float, float)
    assert [a.__forward_arg__ for a in get_args(types.Array)] == ["np.ndarray", "Tensor"]
    assert [c.__forward_arg__ for c in types.Kind.__constraints__] == ["np.ndarray", "Tensor"]
