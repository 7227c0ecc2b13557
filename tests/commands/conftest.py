"""What stands in for what a command calls."""

from __future__ import annotations

import sys
import types

import pytest


@pytest.fixture
def stand_in(monkeypatch):
    """``stand_in("shapelab.data", fetch=...)``: replace a module by one that has just these names."""

    def replace(name: str, **names) -> None:
        module = types.ModuleType(name)
        vars(module).update(names)
        parent, _, child = name.rpartition(".")
        monkeypatch.setitem(sys.modules, name, module)
        if parent in sys.modules:
            monkeypatch.setattr(sys.modules[parent], child, module, raising=False)

    return replace
