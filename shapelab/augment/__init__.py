"""Augmentation and corruption in batches, on the device the batch is on."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
