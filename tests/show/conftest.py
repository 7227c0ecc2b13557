"""The analytic shapes as a fixture (tests are imported by path, so that they cannot import each other)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
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


@pytest.fixture
def embedded() -> pd.DataFrame:
    """An embedding of sixty subjects of five groups, half of them at ED."""
    generator = np.random.default_rng(0)
    groups = np.array(["NOR", "DCM", "HCM", "MINF", "RV"])[np.arange(60) % 5]
    table = pd.DataFrame(
        {
            "x": generator.normal(size=60),
            "y": generator.normal(size=60),
            "group": groups,
            "phase": np.where(np.arange(60) < 30, "ED", "ES"),
            "height": generator.normal(170, 9, 60),
        },
        index=[f"p{i:02d}" for i in range(60)],
    )
    table.attrs["method"] = "umap"
    return table


@pytest.fixture(scope="session")
def words():
    """``words(figure) -> str``: all that is written on a matplotlib Figure."""
    from matplotlib.text import Text

    def read(fig) -> str:
        fig.draw_without_rendering()
        return " | ".join(t.get_text() for t in fig.findobj(Text))

    return read


@pytest.fixture(scope="session")
def inside(painted):
    """``inside(figure)``: nothing is drawn up to the very edge of the picture, so that no text is clipped."""

    def check(fig) -> None:
        picture = painted(fig)
        sides = (picture[:1], picture[-1:], picture[:, :1], picture[:, -1:])
        assert min(side.min() for side in sides) > 0.97

    return check
