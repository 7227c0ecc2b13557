"""``python -m shapelab`` is the same as ``shapelab``."""

import sys

from shapelab.cli import main

if __name__ == "__main__":
    sys.exit(main())
