"""Atlas refinement: high-resolution hearts, deformed onto a segmentation of thick slices and fused (SSLLN, II-C)."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
