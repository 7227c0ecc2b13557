"""The two-stage U-Net (Wang et al., arXiv 1804.04341): a coarse net finds the heart, a fine one draws it."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
