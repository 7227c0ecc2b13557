"""Notebook 15 in a real JupyterLab: Run All, drag the slider, see the mesh change, and no error on the console."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("15_*.ipynb"))


def test_dragging_the_slider_changes_the_heart(lab):
    if not NOTEBOOKS:
        pytest.skip("needs notebook 15, and there is none")
    page = lab.page
    lab.open(NOTEBOOKS[0])
    lab.run_all()
    assert lab.tracebacks() == []
    mesh = page.locator(".shapelab-mesh").first
    mesh.scroll_into_view_if_needed()
    page.wait_for_function("() => Number(document.querySelector('.shapelab-mesh').dataset.updates) > 0")
    assert mesh.get_attribute("data-failed") is None
    assert int(mesh.get_attribute("data-triangles")) > 500
    before, seen = mesh.get_attribute("data-checksum"), mesh.locator("canvas").screenshot()

    slider = page.locator(".noUi-target").first
    handle = slider.locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    start, track = handle.bounding_box(), slider.bounding_box()
    x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(x + 0.8 * track["width"] * step / 8, y)
        page.wait_for_timeout(40)
    page.mouse.up()
    after = lab.wait_for_change(mesh, before)
    page.wait_for_timeout(500)  # what was sent while the mouse moved has arrived
    assert int(mesh.get_attribute("data-updates")) > 1
    assert mesh.get_attribute("data-checksum") != before and after != before
    assert mesh.locator("canvas").screenshot() != seen
    assert page.locator("div[role=alert]").count() == 0
    lab.assert_quiet()
