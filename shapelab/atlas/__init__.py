"""Atlas refinement: high-resolution hearts, deformed onto a segmentation of thick slices and fused (SSLLN, II-C)."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
