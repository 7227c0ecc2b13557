"""Two small browser views that widgets are made of: meshes (WebGL) and a scatter plot (SVG).

Each is an anywidget with its script beside it: nothing is fetched from anywhere, and the state is what is drawn (60
to 120 kB for a heart, sent as binary). They hold no logic: `show` puts meshes or points on the screen.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets
import trimesh

from shapelab.data.scheme import LabelScheme
from shapelab.errors import must
from shapelab.show import meshes as _meshes
from shapelab.show import scatter, style
from shapelab.show.render import FRONT

HERE = Path(__file__).parent
UNIT = 0.02  # mm; vertices travel as 16-bit multiples of it, so a shape may be 1.3 m large


class MeshView(anywidget.AnyWidget):
    """Meshes in the browser: drag to turn, wheel to zoom, double click to go back; arrow keys, + and - do the same."""

    _esm = HERE / "mesh_view.js"
    _css = HERE / "views.css"
    parts = traitlets.List(traitlets.Dict()).tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    centre = traitlets.List(traitlets.Float(), [0.0, 0.0, 0.0]).tag(sync=True)
    radius = traitlets.Float(100.0).tag(sync=True)  # mm from the centre to the nearer edges of the picture
    unit = traitlets.Float(UNIT).tag(sync=True)
    height = traitlets.Int(400).tag(sync=True)
    _aimed = False
    azimuth = traitlets.Float(FRONT.azimuth).tag(sync=True)
    elevation = traitlets.Float(FRONT.elevation).tag(sync=True)

    def show(
        self, meshes: Mapping[str, trimesh.Trimesh], scheme: LabelScheme, caption: str = "", recentre: bool = False
    ) -> None:
        """Draw meshes (mm, in the frame of the array). A structure of the scheme without a mesh is named under them.

        The camera is aimed at the first ones shown, or at these with `recentre`; it steps back when a heart would not
        fit and never comes nearer, so that a large heart is seen to be large.
        """
        with self.hold_sync():  # one message: a new heart never meets an old caption
            if meshes:
                self._fit(meshes, scheme, recentre)
            self.caption, self.note = caption, _meshes.missing(meshes, scheme)
            self.parts = mesh_parts(meshes, scheme)

    def _fit(self, meshes: Mapping[str, trimesh.Trimesh], scheme: LabelScheme, recentre: bool) -> None:
        points = _up(np.concatenate([m.vertices for m in meshes.values()]), scheme)
        if recentre or not self._aimed:
            self.centre = [float(v) for v in (points.min(0) + points.max(0)) / 2]
        needed = float(1.08 * np.linalg.norm(points - self.centre, axis=1).max())
        self.radius = max(needed, self.radius if self._aimed else 0.0)
        self._aimed = True


def _up(vertices: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Array frame -> (right, away, up), see `style.towards`."""
    return vertices * style.towards(scheme)


def mesh_parts(meshes: Mapping[str, trimesh.Trimesh], scheme: LabelScheme) -> list[dict[str, Any]]:
    """Meshes as `MeshView` sends them: name, colour, opacity, vertices (int16 of UNIT mm) and faces (uint16 or uint32).

    UsageError where a vertex is farther than 655 mm from the origin.
    """
    alpha = _meshes.opacities(scheme)
    parts = []
    for structure in (s for s in scheme.structures if s.name in meshes):
        mesh = meshes[structure.name]
        vertices = np.round(_up(mesh.vertices, scheme) / UNIT)
        must(
            np.abs(vertices).max() <= 32767,
            "mesh_parts",
            f"a vertex {np.abs(mesh.vertices).max():.0f} mm from the origin",
            f"at most {32767 * UNIT:.0f} mm",
        )
        wide = len(vertices) > 65535
        mirrored = style.towards(scheme).prod() < 0  # wound the other way then
        faces = mesh.faces[:, ::-1] if mirrored else mesh.faces
        parts.append(
            {
                "name": structure.name,
                "colour": [round(float(c), 4) for c in style.rgb(structure.colour)],
                "opacity": alpha[structure.name],
                "wide": wide,
                "vertices": vertices.astype("<i2").tobytes(),
                "faces": np.ascontiguousarray(faces, dtype="<u4" if wide else "<u2").tobytes(),
            }
        )
    return parts


class ScatterView(anywidget.AnyWidget):
    """An embedding in the browser, with hover text; the point that was clicked is `selected` (its id)."""

    _esm = HERE / "scatter_view.js"
    _css = HERE / "views.css"
    points = traitlets.List(traitlets.Dict()).tag(sync=True)
    legend = traitlets.List(traitlets.Dict()).tag(sync=True)
    titles = traitlets.List(traitlets.Unicode(), ["", ""]).tag(sync=True)
    caption = traitlets.Unicode("Embedding").tag(sync=True)
    selected = traitlets.Unicode("").tag(sync=True)
    width = traitlets.Int(430).tag(sync=True)
    height = traitlets.Int(400).tag(sync=True)

    def show(self, table: pd.DataFrame, colour: str = "group", hollow: str | None = "phase") -> None:
        """Draw an embedding: columns x, y, `colour`; the same marks as `charts.embedding`."""
        scatter.check_points(table, colour, "embedding")
        points, legend = [], []
        for name, mark, open_, rows in scatter.pieces(table, colour, hollow):
            look = {"colour": mark.colour, "marker": mark.symbol, "hollow": open_}
            legend.append({"name": name, **look})
            texts = [t.replace("<br>", "\n").replace("<b>", "").replace("</b>", "") for t in scatter.hover_text(rows)]
            points += [
                {"id": str(i), "x": float(x), "y": float(y), "text": text, **look}
                for i, x, y, text in zip(rows.index, rows["x"], rows["y"], texts)
            ]
        with self.hold_sync():
            self.titles, self.legend, self.points = list(scatter.axis_titles(table)), legend, points
