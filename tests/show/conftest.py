"""The analytic shapes as a fixture (tests are imported by path, so that they cannot import each other)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shapes():
    """Module with `signed`, `soft`, `heart`, `heart_label`, QUICK."""
    spec = importlib.util.spec_from_file_location("show_shapes", Path(__file__).with_name("shapes.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def painted():
    """``painted(figure) -> (rows, columns, 3) float`` of a matplotlib Figure."""
    import io

    import matplotlib.image

    def paint(figure):
        return matplotlib.image.imread(io.BytesIO(figure._repr_png_()))[..., :3]

    return paint
