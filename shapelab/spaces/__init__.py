"""What a shape space is: its contract, how a space is kept, and the spaces that need no network."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
