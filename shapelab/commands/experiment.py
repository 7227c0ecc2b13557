"""``shapelab experiment``: a paper's tables, made anew."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click

from shapelab import experiments
from shapelab.commands.terminal import OK, output_option, profile_option, root_option, seed_option
from shapelab.data.facts import GROUPS


def read_groups(context: click.Context, option: click.Parameter, text: str | None) -> list[str] | None:
    """``nor,DCM`` -> ["NOR", "DCM"]: two groups at least, each known."""
    if text is None:
        return None
    groups = list(dict.fromkeys(g.strip().upper() for g in text.split(",") if g.strip()))
    if len(groups) < 2 or set(groups) - set(GROUPS):
        raise click.BadParameter(f"{text!r}: name two or more of {', '.join(GROUPS)}, separated by commas")
    return groups


def read_seeds(context: click.Context, option: click.Parameter, text: str | None) -> list[int] | None:
    """``0,3`` -> [0, 3]: whole numbers from 0, each once."""
    parts = [] if text is None else text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise click.BadParameter(f"{text!r}: name whole numbers from 0, each once, separated by commas")
    return list(map(int, parts)) or None


@click.group("experiment")
def command() -> None:
    """Reproduce a paper's table."""


@command.command()
@click.option("--data", default="phantom", metavar="NAME", help="phantom or acdc.")
@root_option
@click.option("--groups", callback=read_groups, metavar="A,B,...", help="Default: NOR,DCM,HCM and then all five.")
@profile_option
@seed_option
@output_option("Default: results/pathology.")
def pathology(output: Path | None, **options: Any) -> int:
    """Classify disease from shape codes (ACNN, section III-F).

    Accuracy of disease classification from shape codes, beside PCA codes, volumes + EF, shuffled labels and random
    codes, by repeated patient-level cross-validation. Prints the table and writes it as CSV.
    """
    from shapelab.experiments.acnn.pathology import run

    print(run(output=output, progress=True, **options).to_string())
    print(f"Tables: {output or Path('results/pathology')}")
    return OK


@click.command()
@click.option("--table", type=int, metavar="N", required=True, help="Its number in the paper.")
@click.option("--data", default="phantom", metavar="NAME", help="phantom, or a data set that the table takes.")
@root_option
@profile_option
@click.option("--seeds", callback=read_seeds, metavar="A,B,...", help="Default: the profile's.")
@output_option("Default: results/PAPER.")
@click.pass_context
def paper(context: click.Context, output: Path | None, **options: Any) -> int:
    """Make one table of the paper that the command is named after."""
    name = str(context.info_name)
    output = output or Path("results") / name
    import_module(f"shapelab.experiments.{name.replace('-', '_')}").run(output=output, **options)
    print(f"Tables: {output}")
    return OK


HOW = """Trains what the table compares, prints it with the paper's numbers beside ours, and writes it as CSV. A run
that was interrupted resumes where it stopped."""
for module in iter_modules(experiments.__path__, "shapelab.experiments."):
    if module.ispkg:  # a folder a paper, and what it says of itself is the help
        name = module.name.rpartition(".")[2].replace("_", "-")
        command.add_command(
            click.Command(
                name,
                callback=paper.callback,
                params=paper.params,
                help=f"{import_module(module.name).__doc__}\n\n{HOW}",
                short_help=f"The {name.upper()} paper's tables.",
            )
        )


@command.command()
@root_option
@profile_option
@output_option("Default: results/reality.")
def reality(output: Path | None, **options: Any) -> int:
    """A network that learned from phantoms alone, on real ACDC scans.

    Segments the short-axis stacks of ACDC with a network that never saw a real heart, and writes Dice and Hausdorff
    distance per stack and structure.
    """
    from shapelab.experiments.acnn.reality import run, summary

    output = output or Path("results/reality")
    print(summary(run(output=output, **options)).to_string())
    print(f"Tables: {output}")
    return OK
