"""Pictures: slices, meshes, charts, and widgets that are thin views of them.

Everything in `slices`, `meshes`, `refined`, `render` and `charts` is a plain function of its arguments that returns a
matplotlib Figure, a plotly Figure or a trimesh mesh; nothing is drawn on a global canvas. `widgets` holds the
interactive views.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
