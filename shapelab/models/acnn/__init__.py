"""The ACNN paper, network by network: autoencoder (Table V), T-L network (Table IV), sub-pixel backbone (Fig. 2),
and the objectives that carry a shape prior (equations 1 and 2)."""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
