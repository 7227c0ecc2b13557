"""Synthetic hearts with known answers: labels, landmarks and images from one set of implicit surfaces."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
