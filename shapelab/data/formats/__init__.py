"""File formats: a header as it stands in the file, voxels, and errors that name the file."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
