"""The command line: `main`, one file a command, and under `files` what commands do with files of one's own."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
