"""Interactive views, each thin over a plain function of `shapelab.show`."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
