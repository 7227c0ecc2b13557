"""Pictures: slices, meshes, charts, and widgets that are thin views of them.

Everything in `slices`, `meshes`, `refined`, `render` and `charts` is a plain function of its arguments that returns a
matplotlib Figure, a plotly Figure or a trimesh mesh; nothing is drawn on a global canvas. `widgets` holds the
interactive views.
"""

from __future__ import annotations

import importlib

_MODULES = ("charts", "meshes", "refined", "render", "scatter", "slices", "style", "widgets")


def __getattr__(name: str):  # each module is imported when used: plotly, trimesh and ipywidgets are not free
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
