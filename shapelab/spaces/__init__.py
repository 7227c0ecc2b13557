"""What a shape space is: its contract, how a space is kept, and the spaces that need no network."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
