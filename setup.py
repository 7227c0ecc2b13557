"""What pyproject.toml cannot say: a wheel carries, inside the package, what ships beside it in a checkout.

`shapelab.places` finds it there. An editable install copies nothing: it is the checkout. MANIFEST.in names the same
files, so that a source distribution has them.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.errors import FileError

SHIPS = ("data/weights/**/*.*", "notebooks/*.ipynb", "benchmarks/results/*.*")


class BuildWithWhatShips(build_py):
    """Copies what ships into shapelab/shipped_files, laid out as in the checkout."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "shapelab", "shipped_files")
        shutil.rmtree(target, ignore_errors=True)  # an earlier build may have left what ships no more
        for pattern in SHIPS:
            files = [file for file in Path().glob(pattern) if file.is_file()]
            if not files:
                raise FileError(f"{pattern}: found no such file; expected what ships with shapelab")
            for file in files:
                self.mkpath(str((target / file).parent))
                self.copy_file(str(file), str(target / file))


setup(cmdclass={"build_py": BuildWithWhatShips})
