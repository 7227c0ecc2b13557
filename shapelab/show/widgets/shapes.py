"""Widgets: thin views of plain functions code -> meshes.

    code_a, code_b, t -> interpolate_meshes -> MeshView      `InterpolationWidget`
    {dimension: sigmas} -> traverse_meshes -> MeshView       `TraversalWidget`
    subject id -> its code or its label map -> MeshView      `EmbeddingWidget`
    name of a step -> its label map -> MeshView              `StagesWidget`

Whatever a handler raises is written into a visible line under the widget: ipywidgets would swallow it. Every handler
is a method (`show`, `reset`, `choose`) that tests call without a browser.
"""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import pandas as pd
import trimesh

from shapelab.data.orientation import canonical
from shapelab.data.scheme import LabelScheme
from shapelab.errors import ShapelabError, must, one_of, whole
from shapelab.show.meshes import heart_meshes
from shapelab.show.slices import planes, slices
from shapelab.show.style import in_body, png_bytes
from shapelab.show.widgets.views import MeshView, ScatterView
from shapelab.spaces.contract import ShapeSpace, check_codes, code_size
from shapelab.types import Triple

if TYPE_CHECKING:
    from shapelab.data.cohort import Cohort

Meshes = dict[str, trimesh.Trimesh]


# -------------------------------------------------------------------------------------------- functions that are shown


def code_meshes(space: ShapeSpace, code: np.ndarray | pd.Series) -> Meshes:
    """A code (d,) of a ShapeSpace, or a row of a Codes table -> meshes of the shape that it decodes to, in mm on the
    space's grid."""
    must(np.ndim(code) == 1, "code_meshes", f"codes of shape {np.shape(code)}", "one code (d,)")
    return heart_meshes(space.decode(check_codes(code, code_size(space))[0])[0], space.grid.spacing, space.scheme)


def interpolate_meshes(space: ShapeSpace, code_a: np.ndarray, code_b: np.ndarray, t: float) -> Meshes:
    """Meshes of the shape at (1 - t) a + t b."""
    a, b = (check_codes(code, code_size(space))[0] for code in (code_a, code_b))
    return code_meshes(space, (1 - t) * a + t * b)


def traverse_meshes(space: ShapeSpace, sigmas: Mapping[int, float], base: np.ndarray | None = None) -> Meshes:
    """Meshes of the shape at base + sum over k of sigmas[k] sigma_k; `base` is the mean by default."""
    code = check_codes(space.mean if base is None else base, code_size(space))[0].copy()
    for dimension, amount in sigmas.items():
        k = whole("traverse_meshes: dimension", dimension, 0, len(code) - 1)
        code[k] += amount * space.sigma[k]
    return code_meshes(space, code)


# -------------------------------------------------------------------------------------------------------------- widgets


class ShapeWidget(ipywidgets.VBox):
    """A mesh view, a line of volumes, and a line that shows what a handler raised."""

    STILL = "Runs in a live notebook; the picture beside it shows the same without a kernel."

    def __init__(
        self, scheme: LabelScheme, controls: Sequence[ipywidgets.Widget], beside: Sequence[ipywidgets.Widget] = ()
    ):
        self.scheme = scheme
        self.view = MeshView(layout={"width": "440px"})
        self.info = ipywidgets.HTML()
        self.error = ipywidgets.HTML()
        picture = ipywidgets.HBox([*beside, self.view]) if beside else self.view
        super().__init__([*controls, picture, self.info, self.error])

    def __repr__(self) -> str:
        return f"{type(self).__name__}. {self.STILL}"

    def attempt(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> bool:
        """Call a handler; what it raises is written into the error line, which is emptied when all went well."""
        try:
            function(*args, **kwargs)
        except Exception as error:  # every one of them: what is not shown here is seen nowhere
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__}: {error} (line {last.lineno} of {last.name})"
            self.error.value = (
                '<div role="alert" style="color:#B34700;font-weight:600;line-height:1.3;'
                f'white-space:normal">{html.escape(str(error) if isinstance(error, ShapelabError) else where)}</div>'
            )
            return False
        self.error.value = ""
        return True

    def draw(self, meshes: Meshes, caption: str, recentre: bool = False) -> None:
        """Put meshes, caption and volumes on the screen."""
        self.view.show(meshes, self.scheme, caption, recentre)
        volumes = ", ".join(f"{n} {meshes[n].volume / 1000:.0f} ml" for n in self.scheme.names if n in meshes)
        self.info.value = f"Volume inside the surfaces: {html.escape(volumes) or 'none'}"


def _slider(name: str, low: float, high: float, step: float, readout: str) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(
        0.0, min=low, max=high, step=step, description=name, readout_format=readout, layout={"width": "440px"}
    )


class InterpolationWidget(ShapeWidget):
    """A slider from one subject's code to another's; the mesh follows.

    Args:
        space: a ShapeSpace
        code_a: (d,) codes of it
        code_b: (d,) codes of it
        names: what the two ends are called
    """

    def __init__(
        self,
        space: ShapeSpace,
        code_a: np.ndarray,
        code_b: np.ndarray,
        names: tuple[str, str] = ("A", "B"),
        steps: int = 20,
    ):
        self.space, self.codes, self.names = space, (code_a, code_b), tuple(names)
        self.slider = _slider("t", 0.0, 1.0, 1.0 / steps, ".2f")
        ends = ipywidgets.HTML(
            f"t = 0: <b>{html.escape(self.names[0])}</b>, t = 1: <b>{html.escape(self.names[1])}</b>"
        )
        super().__init__(space.scheme, [ends, self.slider])
        self.slider.observe(lambda change: self.attempt(self.show, change["new"]), "value")
        self.attempt(self.show, 1.0) and self.attempt(self.show, 0.0)  # both ends: the camera fits all of the way

    def show(self, t: float) -> None:
        """Show the shape at `t`, 0 = A, 1 = B."""
        self.draw(interpolate_meshes(self.space, *self.codes, t), f"{self.names[0]} → {self.names[1]}, t = {t:.2f}")


class TraversalWidget(ShapeWidget):
    """One slider per dimension of the space, in sigmas from the mean, all at once; and a button back to the mean.

    `base` is another code to start from; `limit` is how many sigmas a slider reaches.
    """

    def __init__(
        self, space: ShapeSpace, dimensions: Sequence[int], base: np.ndarray | None = None, limit: float = 3.0
    ):
        self.space, self.base = space, base
        self.sliders = {int(d): _slider(f"z{int(d):02d} (σ)", -limit, limit, 0.25, "+.2f") for d in dimensions}
        must(self.sliders, "TraversalWidget", "no dimension", "at least one")
        self.button = ipywidgets.Button(description="Back to the mean" if base is None else "Back to the start")
        super().__init__(space.scheme, [*self.sliders.values(), self.button])
        self._busy = False
        for slider in self.sliders.values():
            slider.observe(lambda _: None if self._busy else self.attempt(self.show), "value")
        self.button.on_click(lambda _: self.attempt(self.reset))
        self.attempt(self.show)

    @property
    def sigmas(self) -> dict[int, float]:
        """Dimension -> where its slider stands, in sigmas."""
        return {d: s.value for d, s in self.sliders.items()}

    def show(self) -> None:
        """Show the shape at the sliders' values."""
        moved = [f"z{d:02d} {v:+.2f} σ" for d, v in self.sigmas.items() if v]
        start = "mean" if self.base is None else "start"
        self.draw(traverse_meshes(self.space, self.sigmas, self.base), ", ".join(moved) or start)

    def reset(self) -> None:
        """All sliders to 0, drawn once."""
        self._busy = True
        try:
            for slider in self.sliders.values():
                slider.value = 0.0
        finally:
            self._busy = False
        self.show()


class StagesWidget(ShapeWidget):
    """A slider through the steps of one heart, label maps on one grid; the mesh follows.

    Args:
        stages: name -> label map (X, Y, Z), in the order of the slider
        spacing: (3,) mm
        scheme: of the label maps

    Meshes are made once, here, so that sliding is quick. UsageError for no stage, or label maps of several shapes.
    """

    def __init__(self, stages: Mapping[str, np.ndarray], spacing: Triple, scheme: LabelScheme):
        shapes = sorted({np.shape(label) for label in stages.values()})
        must(len(shapes) == 1, "StagesWidget", f"label maps of shapes {shapes}", "at least one, of one shape")
        self.meshes = {str(name): heart_meshes(label, spacing, scheme) for name, label in stages.items()}
        names = list(self.meshes)
        self.slider = ipywidgets.SelectionSlider(
            options=names, value=names[0], description="step", layout={"width": "440px"}
        )
        super().__init__(scheme, [self.slider])
        self.slider.observe(lambda change: self.attempt(self.show, change["new"]), "value")
        for name in (*names[1:], names[0]):  # all of them once: the camera fits the largest
            self.attempt(self.show, name)

    def show(self, name: str) -> None:
        """Show the heart at a step."""
        self.draw(self.meshes[one_of("StagesWidget: step", name, self.meshes)], name)


class EmbeddingWidget(ShapeWidget):
    """An embedding beside a heart: click a point (or use the list) and see that subject.

    Args:
        embedding: table with x, y, the facts, and subject ids as index (`latent.embed`)
        codes: a Codes table with the same ids, and its ShapeSpace: the heart is what the code decodes to
        space: see `codes`
        cohort: with the same ids: the heart is the subject's own label map, with its slices under it, of a whole
            heart three planes

    With both, a switch chooses. UsageError if neither is given, or if ids are missing in what is given.
    """

    CODE, LABEL = "what its code decodes to", "its label map"

    def __init__(
        self,
        embedding: pd.DataFrame,
        codes: pd.DataFrame | None = None,
        space: ShapeSpace | None = None,
        cohort: Cohort | None = None,
        *,
        colour: str = "group",
    ):
        self.sources = [
            name
            for name, given in ((self.CODE, codes is not None and space is not None), (self.LABEL, cohort is not None))
            if given
        ]
        must(self.sources, "EmbeddingWidget", "neither codes with a space nor a cohort", "one of them")
        self.codes, self.space, self.cohort = codes, space, cohort
        self.ids = [str(i) for i in embedding.index]
        self._check_ids()
        self.points = ScatterView()
        self.points.show(embedding, colour)
        self.list = ipywidgets.Dropdown(options=self.ids, description="subject", layout={"width": "300px"})
        self.source = ipywidgets.ToggleButtons(
            options=self.sources, description="show", style={"button_width": "180px"}
        )
        self.picture = ipywidgets.Image(format="png", layout={"display": "none"})
        shown = cohort if space is None else space
        assert shown is not None
        super().__init__(
            shown.scheme,
            [self.list] + ([self.source] if len(self.sources) > 1 else []),
            [self.points],
        )
        self.set_trait("children", (*self.children, self.picture))
        self.points.observe(lambda change: self.attempt(self.choose, change["new"]), "selected")
        self.list.observe(lambda change: self.attempt(self.choose, change["new"]), "value")
        self.source.observe(lambda _: self.attempt(self.show, self.list.value), "value")
        self.attempt(self.choose, self.ids[0])

    def _check_ids(self) -> None:
        known: dict[str, list[str]] = {"embedding": self.ids}  # as text, also 0, 1, 2: what a browser sends back
        if self.codes is not None:
            known["codes"] = [str(i) for i in self.codes.index]
        if self.cohort is not None:
            known["cohort"] = list(self.cohort.ids)
        for name, ids in known.items():
            twice = [i for i in self.ids if ids.count(i) > 1]
            must(not twice, "EmbeddingWidget", f"subjects twice in the {name}, {twice[:3]}", "distinct ids")
            absent = [i for i in self.ids if i not in ids]
            must(
                not absent,
                "EmbeddingWidget",
                f"{len(absent)} subjects that the {name} lack, {absent[:3]}",
                "the same ids",
            )

    def choose(self, subject: str) -> None:
        """Choose a subject by its id: list, ring in the plot, and heart."""
        must(subject in self.ids, "EmbeddingWidget", f"subject {subject!r}", f"one of {self.ids[:3]} ...")
        if subject == self._shown and self.error.value == "":
            return  # the list and the plot tell each other
        self._shown = subject
        self.list.value = self.points.selected = subject
        self.show(subject)

    _shown = ""

    def show(self, subject: str) -> None:
        """Draw the heart of a subject from the source that is switched on."""
        if self.source.value == self.CODE:
            from shapelab.latent.codes import code_columns

            assert self.codes is not None and self.space is not None
            row = self.codes[code_columns(self.codes)].iloc[[str(i) for i in self.codes.index].index(subject)]
            meshes = code_meshes(self.space, row)
            self.picture.layout.display = "none"
        else:
            assert self.cohort is not None
            chosen = canonical(self.cohort[subject], from_base=True)[0]
            meshes = heart_meshes(np.asarray(chosen.label), chosen.spacing, chosen.scheme)
            still = planes(chosen) if in_body(chosen.scheme) else slices(chosen, n=6)
            self.picture.value = png_bytes(still, dpi=72)
            self.picture.layout.display = ""
        self.draw(meshes, f"{subject}: {self.source.value}", recentre=True)
