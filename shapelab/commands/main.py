"""The command line: each module of this folder that holds a `command` is one, imported when it is asked for.

Exit codes: 0 fine, 1 the data or a result is bad, 2 wrong usage, 130 interrupted. What a user can cause ends in one
message on standard error, never in a traceback. A command's file declares its options and imports what it needs when
it runs, so ``--help`` is instant.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click

from shapelab import __version__
from shapelab.commands.terminal import BAD, INTERRUPTED, OK, USAGE
from shapelab.errors import ShapelabError, UsageError

NO_COMMANDS = ("main", "terminal")


class Commands(click.Group):
    """The modules beside this one, by name."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted(
            m.name for m in iter_modules([str(Path(__file__).parent)]) if not m.ispkg and m.name not in NO_COMMANDS
        )

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """One command; None for a name that is none."""
        if name not in self.list_commands(context):
            return None
        return import_module(f"shapelab.commands.{name}").command


@click.group(
    cls=Commands,
    context_settings={"max_content_width": 120, "help_option_names": ["-h", "--help"], "show_default": True},
    epilog="Data sets are looked for under the folder named by the environment variable SHAPELAB_DATA.",
)
@click.version_option(__version__, message="shapelab %(version)s")
def shapelab() -> None:
    """Shape priors in medical image segmentation: a course and a laboratory."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ShapelabError as error:
        print(f"shapelab: {error}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else BAD
    except KeyboardInterrupt:
        print("shapelab: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `shapelab ... | head`: the reader has what it wanted. Standard output goes nowhere from here, so that
        # Python's own flush at exit does not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _run(argv: list[str]) -> int:
    """The command's own exit code; all that it printed has gone out, or the error is raised here and not at exit."""
    try:
        with shapelab.make_context("shapelab", argv) as context, warnings.catch_warnings():
            warnings.showwarning = _say_warning
            code = shapelab.invoke(context)
    except click.exceptions.Exit as done:  # --help, --version
        code = done.exit_code
    sys.stdout.flush()
    return code or OK


def _say_warning(message: Warning | str, *place: Any, **more: Any) -> None:
    """A warning as one line on standard error, without the place in the library that gave it."""
    print(f"shapelab: warning: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
