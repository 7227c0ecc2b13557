"""How well a label map agrees with the truth, whether it can be a heart, and whether one method beats another."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
