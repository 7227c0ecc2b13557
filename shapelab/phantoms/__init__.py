"""Synthetic hearts with known answers: labels, landmarks and images from one set of implicit surfaces."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
