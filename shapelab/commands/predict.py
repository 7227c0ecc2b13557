"""``shapelab predict``: segment a scan of your own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from shapelab.commands.terminal import PATH, force_option, output_option, print_table


def _list(context: click.Context, option: click.Parameter, asked: bool) -> None:
    """Print which networks there are and what each is for, and end."""
    if not asked or context.resilient_parsing:
        return
    from shapelab.commands.files.networks import default_model, networks

    known = networks()
    rows = [(n.name, n.segments, n.takes, n.learned_from, n.caution) for n in known if not n.refused]
    print_table(["model", "segments", "takes", "learned from", "caution"], rows)
    print(f"Without MODEL: {default_model()}, for a short-axis stack.")
    for n in known:
        if n.refused:
            print(f"Not for predict: {n.name} {n.refused}.")
    context.exit()


def _one(context: click.Context, argument: click.Parameter, names: tuple[str, ...]) -> str | None:
    """The model's name, of what comes before SCAN; None: there is none."""
    if len(names) > 1:
        raise click.UsageError(f"found {len(names) + 1} names; expected SCAN, or MODEL and SCAN", context)
    return names[0] if names else None


@click.command("predict")
@click.argument("model", nargs=-1, metavar="[MODEL]", callback=_one)
@click.argument("scan", type=PATH)
@click.option("--es", type=PATH, metavar="SCAN", help="The same heart at end systole; SCAN is then end diastole.")
@output_option("The label map, .nii or .nii.gz.", required=True, metavar="FILE")
@click.option(
    "--es-output", type=PATH, metavar="FILE", help="That of the ES scan (default: the output's name with _es)."
)
@click.option("--modality", metavar="CT|MR", help="Of a whole heart's scan (default: CT where there is air in HU).")
@click.option(
    "--centre",
    type=float,
    nargs=3,
    metavar="I J K",
    help="Of a joint space: a voxel in the heart (default: the middle).",
)
@force_option
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="Which networks suit what, and end."
)
def command(model: str | None, scan: Path, output: Path, **options: Any) -> None:
    """Segment a scan of your own.

    Writes a label map in the scan's own voxels and affine, and beside it volumes, mass and (with --es) ejection
    fraction as JSON, and a picture: look at it. What no heart has is said on standard error and in the JSON. SCAN is a
    short-axis stack, .nii or .nii.gz, or CT or MR of a whole heart; MODEL a folder that `shapelab train` wrote, or the
    name of shipped weights that take such a scan. Without MODEL SCAN is a short-axis stack; `--list` says what segments
    it then.

    \b
    shapelab predict --list
    shapelab predict scan.nii.gz -o label.nii.gz
    shapelab predict acnn_seg_native_quick scan.nii.gz -o label.nii.gz
    """
    from shapelab.commands.files.predict import predict_file

    print(json.dumps(predict_file(model, scan, output, **options), indent=1))
