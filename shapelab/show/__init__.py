"""Pictures: slices, meshes, charts, and widgets that are thin views of them.

Everything in `slices`, `meshes`, `refined`, `render` and `charts` is a plain function of its arguments that returns a
matplotlib Figure, a plotly Figure or a trimesh mesh; nothing is drawn on a global canvas. `widgets` holds the
interactive views.
"""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
