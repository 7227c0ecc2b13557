"""How a room opens: the names of its stub and its modules, each imported when first asked for.

A room's `__init__.pyi` lists its names once, for type checkers as for the program; its modules need no list.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import lazy_loader


def open_room(name: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from its `__name__` and `__file__`.

    >>> import shapelab
    >>> shapelab.atlas.pipeline.FUSIONS                   # nothing else was imported by name
    ('majority', 'non-local')
    """
    listed, directory, names = lazy_loader.attach_stub(name, file)

    def get(attribute: str) -> Any:
        try:
            return listed(attribute)
        except AttributeError:
            if attribute.startswith("_"):
                raise
            try:
                return import_module(f"{name}.{attribute}")
            except ModuleNotFoundError as error:
                if error.name != f"{name}.{attribute}":  # a package that one of its modules needs
                    raise
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

    return get, directory, names
