"""The four widgets in a real JupyterLab: the mesh follows, errors are seen, the console is quiet."""

from __future__ import annotations

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.browser

SPACE = """
from types import SimpleNamespace
import numpy as np, pandas as pd
from shapelab.data.scheme import CARDIAC
from shapelab.show.widgets import EmbeddingWidget, InterpolationWidget, StagesWidget, TraversalWidget

class Balls:
    "A space of two codes: radius of the LV cavity in mm, and how far the RV lies off."
    scheme, grid, n_codes = CARDIAC, SimpleNamespace(shape=(40, 40, 20), spacing=(3.0, 3.0, 6.0)), 2
    mean, sigma = np.array([20.0, 40.0], np.float32), np.array([4.0, 5.0], np.float32)
    def decode(self, codes):
        axes = [(np.arange(n) + .5) * s for n, s in zip(self.grid.shape, self.grid.spacing)]
        x, y, z = np.meshgrid(*axes, indexing="ij")
        found = []
        for radius, off in np.atleast_2d(codes):
            if radius > 34.5:
                raise ValueError("the heart is too large")
            r = np.sqrt((x - 70) ** 2 + (y - 60) ** 2 + (z - 60) ** 2)
            rv = 1 / (1 + np.exp((np.sqrt((x - 70 + off) ** 2 + (y - 60) ** 2 + (z - 50) ** 2) - 22) / 2))
            lv, epi = (1 / (1 + np.exp((r - s) / 2)) for s in (radius, radius + 8))
            rv = rv * (1 - epi)
            found.append(np.stack([1 - epi - rv, rv, epi - lv, lv]))
        return np.array(found, np.float32)

space = Balls()
"""
CELLS = {
    "interpolation": "InterpolationWidget(space, np.array([16., 40.]), np.array([30., 45.]), ('small', 'large'))",
    "traversal": "TraversalWidget(space, [0, 1], limit=4)",
    "embedding": """
codes = pd.DataFrame({"z00": [14., 22., 30.], "z01": [40., 44., 48.], "group": ["NOR", "HCM", "DCM"], "phase": "ED"},
                     index=["p1", "p2", "p3"])
table = codes.drop(columns=["z00", "z01"]).assign(x=[0., 1, 2], y=[0., 2, 1])
EmbeddingWidget(table, codes, space)
""",
    "stages": """
hearts = space.decode([[16., 40.], [22., 40.], [30., 45.]]).argmax(1).astype(np.uint8)
StagesWidget(dict(zip(("before", "affine", "after"), hearts)), space.grid.spacing, CARDIAC)
""",
}


@pytest.fixture
def notebook(tmp_path) -> Path:
    book = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    book.cells = [nbformat.v4.new_code_cell(source.strip()) for source in (SPACE, *CELLS.values())]
    path = tmp_path / "widgets.ipynb"
    nbformat.write(book, path)
    return path


def test_drag_click_choose(lab, notebook):
    page = lab.page
    lab.open(notebook)
    lab.run_all()
    assert lab.tracebacks() == []
    meshes = page.locator(".shapelab-mesh")
    page.wait_for_function("""() => {
        const shown = [...document.querySelectorAll('.shapelab-mesh')];
        return shown.length === 4 && shown.every((e) => Number(e.dataset.updates) > 0);
    }""")
    assert page.locator(".shapelab-mesh[data-failed]").count() == 0
    traverse(lab, meshes.nth(1))
    choose(lab, meshes.nth(2))
    stages(lab, meshes.nth(3))
    turn(lab, meshes.nth(0))
    without_webgl(lab)
    lab.assert_quiet()


def traverse(lab, mesh) -> None:
    """Keys on the first slider; then far out, where the space raises and the widget says so; then back to the mean."""
    page = lab.page
    mean, seen = mesh.get_attribute("data-checksum"), mesh.screenshot()
    handle = page.locator(".noUi-handle").nth(1)
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(4):
        handle.press("ArrowRight")
    lab.wait_for_change(mesh, mean)
    assert mesh.screenshot() != seen
    handle.press("End")
    page.wait_for_selector("div[role=alert]")
    assert "the heart is too large" in page.locator("div[role=alert]").inner_text()
    page.get_by_role("button", name="Back to the mean").click()
    page.wait_for_selector("div[role=alert]", state="detached")
    page.wait_for_function("([e, sum]) => e.dataset.checksum === sum", arg=[mesh.element_handle(), mean])


def choose(lab, mesh) -> None:
    """A click on a point of the embedding, with its hover text; then another subject from the list."""
    page = lab.page
    mesh.scroll_into_view_if_needed()
    before = mesh.get_attribute("data-checksum")
    point = page.locator(".shapelab-point[data-id=p3]")
    point.hover()
    assert "group: DCM" in page.locator(".shapelab-tip").inner_text()
    point.click()
    before = lab.wait_for_change(mesh, before)
    assert page.locator(".shapelab-scatter").get_attribute("data-selected") == "p3"
    chosen = page.locator("select").filter(has_text="p3")
    assert chosen.input_value() == "p3"
    chosen.select_option("p2")
    lab.wait_for_change(mesh, before)
    page.wait_for_function("() => document.querySelector('.shapelab-scatter').dataset.selected === 'p2'")


def stages(lab, mesh) -> None:
    """Arrow keys go through the steps, before to after and back, and the mesh is each time that step's."""
    handle = lab.page.locator(".noUi-handle").last
    handle.scroll_into_view_if_needed()
    handle.focus()
    seen = [mesh.get_attribute("data-checksum")]
    for key in ("ArrowRight", "ArrowRight", "Home"):
        handle.press(key)
        seen.append(lab.wait_for_change(mesh, seen[-1]))
    assert len(set(seen[:3])) == 3 and seen[3] == seen[0]


def turn(lab, mesh) -> None:
    """Turning changes the picture and not the mesh; Home turns it back."""
    canvas = mesh.locator("canvas")
    canvas.scroll_into_view_if_needed()
    canvas.focus()
    canvas.press("Home")  # the first key makes the focus visible
    before, seen = mesh.get_attribute("data-checksum"), canvas.screenshot()
    canvas.press("ArrowLeft")
    lab.page.wait_for_timeout(200)
    assert canvas.screenshot() != seen and mesh.get_attribute("data-checksum") == before
    canvas.press("Home")
    lab.page.wait_for_timeout(200)
    assert canvas.screenshot() == seen


def without_webgl(lab) -> None:
    """Where there is no WebGL 2, the view says so and points to the still picture."""
    lab.page.evaluate("""() => {
        const original = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind === 'webgl2' ? null : original.call(this, kind, ...rest);
        };
        window.jupyterapp.commands.execute('notebook:run-all-cells');
    }""")
    failed = lab.page.locator(".shapelab-mesh[data-failed='no WebGL 2']").first
    failed.wait_for()
    assert "still picture" in failed.inner_text()
