"""The ACNN paper, network by network: autoencoder (Table V), T-L network (Table IV), sub-pixel backbone (Fig. 2),
and the objectives that carry a shape prior (equations 1 and 2)."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
