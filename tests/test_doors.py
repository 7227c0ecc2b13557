"""Every room and every public module opens by attribute, from `import shapelab` alone, and nothing more is loaded."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pkgutil import walk_packages

import pytest

import shapelab

MODULES = sorted(m.name for m in walk_packages(shapelab.__path__, "shapelab."))
PUBLIC = [name for name in MODULES if not any(part.startswith("_") for part in name.split("."))]


def test_import_shapelab_loads_neither_torch_nor_numpy_nor_pandas():
    code = "import sys, shapelab; print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_every_public_module_opens_by_attribute():
    assert "shapelab.models.acnn.tl" in PUBLIC and len(PUBLIC) > 150
    # in a fresh interpreter: what another test has imported is an attribute already
    code = (
        "import sys, types, shapelab\n"
        "for name in sys.argv[1:]:\n"
        "    here = shapelab\n"
        "    for part in name.split('.')[1:]:\n"
        "        here = getattr(here, part)\n"
        "    if not isinstance(here, types.ModuleType) or here.__name__ != name:\n"
        "        print(name, here)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *PUBLIC], capture_output=True, text=True)
    # the function `course.start` has the name of its module
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["shapelab.course.start"], (
        done.stdout + done.stderr
    )


def test_every_name_of_every_stub_is_there():
    for name in [n for n in MODULES if hasattr(import_module(n), "__path__")]:
        room = import_module(name)
        assert [n for n in room.__all__ if not hasattr(room, n)] == [], name


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'shapelab.data' has no attribute 'nothing'"):
        shapelab.data.nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from shapelab.data import nothing  # noqa: F401


def test_a_package_that_is_missing_is_named_and_not_taken_for_an_attribute(tmp_path, monkeypatch):
    room = tmp_path / "a_room"
    room.mkdir()
    (room / "__init__.py").write_text(
        "from shapelab.doors import open_room\n__getattr__, __dir__, __all__ = open_room(__name__, __file__)\n"
    )
    (room / "__init__.pyi").write_text("")
    (room / "needy.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_nobody_has"):
        import_module("a_room").needy  # noqa: B018
