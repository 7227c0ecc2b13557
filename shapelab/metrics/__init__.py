"""How well a label map agrees with the truth, whether it can be a heart, and whether one method beats another."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
