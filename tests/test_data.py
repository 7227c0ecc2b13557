"""What `shapelab.data` offers, and that asking for it costs nothing until then."""

import subprocess
import sys
from types import ModuleType

import shapelab.data


def test_every_name_is_what_it_says():
    for name in shapelab.data.__all__:
        assert getattr(shapelab.data, name) is not None and name in dir(shapelab.data)


def test_functions_are_not_hidden_by_modules_of_their_name():
    """``import shapelab.data.x`` binds x in the package; no function may share a module's name."""
    import pkgutil

    modules = {m.name for m in pkgutil.iter_modules(shapelab.data.__path__)}
    assert {name for name in modules if not isinstance(getattr(shapelab.data, name), ModuleType)} == set()


def test_import_is_light():
    code = "import sys, shapelab.data; print(sorted({'torch', 'pandas', 'nibabel', 'pooch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_opening_a_cohort_needs_no_torch():
    code = "import sys, shapelab.data.checking, shapelab.data.cards; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
