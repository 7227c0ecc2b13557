"""From files of one's own to files: what `shapelab predict` and `shapelab refine` do, as functions."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
