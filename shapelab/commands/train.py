"""``shapelab train``: train a network and keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shapelab.commands.terminal import (
    OK,
    POSITIVE,
    output_option,
    print_table,
    profile_option,
    root_option,
    seed_option,
)
from shapelab.errors import must


@click.command("train", short_help="Train a network and keep it.")
@click.argument("model")
@click.option("--data", default="phantom", metavar="NAME", help="phantom, or a data set the model can learn from.")
@root_option
@profile_option
@click.option("--hearts", type=POSITIVE, metavar="N", help="Phantom patients (default: the profile's).")
@click.option("--epochs", type=POSITIVE, metavar="N", help="Default: the profile's.")
@seed_option
@click.option("--resume", is_flag=True, help="Continue a run that was interrupted.")
@output_option("Where the trained network goes.")
def command(model: str, output: Path | None, **options: Any) -> int:
    """Train a network and keep it in a folder that the library and `shapelab predict` read.

    MODEL is a name from `shapelab train list`, which says what each is and what it can learn from.

    \b
    shapelab train list
    shapelab train native --data acdc -o my_network
    """
    from shapelab.experiments import recipes

    if model == "list":
        print_table(["model", "what", "data"], recipes.listing())
        return OK
    must(output, "output", "none", "-o DIR, where to put the trained network")
    assert output is not None
    print(f"Trained: {recipes.train(model, output, **options)}")
    return OK
