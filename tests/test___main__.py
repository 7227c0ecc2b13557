"""`python -m shapelab` is the command line."""

from __future__ import annotations

import subprocess
import sys

import shapelab


def test_python_m_shapelab_is_the_same():
    done = subprocess.run([sys.executable, "-m", "shapelab", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"shapelab {shapelab.__version__}\n")
