"""``python -m shapelab`` is the same as ``shapelab``."""

import sys

from shapelab.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
