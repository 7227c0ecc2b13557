"""``shapelab refine``: a smooth high-resolution label map from one of thick slices."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from shapelab.commands.terminal import PATH, POSITIVE, force_option, output_option, seed_option


def read_mapping(context: click.Context, option: click.Parameter, text: str | None) -> dict[int, int] | None:
    """``500=3,205=2`` -> {500: 3, 205: 2}: whole numbers from 0, each value of the file once."""
    pairs = [] if text is None else [part.partition("=")[::2] for part in text.split(",")]
    if not all(a.strip().isdecimal() and b.strip().isdecimal() for a, b in pairs) or len(dict(pairs)) < len(pairs):
        raise click.BadParameter(f"{text!r}: write FILE=SCHEME,... such as 500=3,205=2,600=1, each value once")
    return {int(a): int(b) for a, b in pairs} or None


@click.command("refine", short_help="A smooth label map from one of thick slices.")
@click.argument("label", type=PATH)
@output_option("The refined label map, .nii or .nii.gz.", required=True, metavar="FILE")
@click.option("--image", type=PATH, metavar="SCAN", help="The scan: for the picture, and for --fusion non-local.")
@click.option("--landmarks", type=PATH, metavar="CSV", help="Landmarks in mm (see above).")
@click.option(
    "--atlases",
    type=PATH,
    metavar="DIR",
    help="High-resolution label maps of your own: labels/ID.nii.gz, and if there are any images/ID.nii.gz and "
    "landmarks/ID.csv (default: 20 phantom hearts at ED and ES).",
)
@click.option(
    "--scheme",
    metavar="NAME",
    help="cardiac (1 RV cavity, 2 LV myocardium, 3 LV cavity) or biventricular (4 RV wall besides); default: inferred "
    "from the values.",
)
@click.option(
    "--mapping",
    callback=read_mapping,
    metavar="A=B,...",
    help="Your label values = those of the scheme; 0 drops one.",
)
@click.option("--n-atlases", type=POSITIVE, default=5, metavar="L", help="How many are deformed and fused.")
@click.option(
    "--fusion",
    metavar="NAME",
    default="majority",
    help="Of the deformed atlases: majority, or non-local (the paper's), which needs images of scan and atlases.",
)
@click.option("--align", is_flag=True, help="Bring slices out of line into line first, by the centres of the LV.")
@click.option(
    "--spacing",
    "out_spacing",
    type=float,
    nargs=3,
    metavar="X Y Z",
    help="Voxel size of the result in mm, Z along the slice axis (default: that of the atlases, 1.25 1.25 2).",
)
@seed_option
@force_option
def command(label: Path, output: Path, **options: Any) -> None:
    """Make a smooth high-resolution label map from one of thick slices.

    Deforms high-resolution hearts (atlases) onto LABEL, a label map of a short-axis stack (.nii or .nii.gz), and fuses
    them: this removes the staircase, and fills in an apex that was not scanned (SSLLN, section II-C). Writes the
    refined label map in the same mm, and beside it volumes and masses before and after as JSON and a picture of both.

    Landmarks are a CSV with the columns name, x, y, z, in mm of the label map's affine, which is nibabel's affine @ (i,
    j, k, 1): RAS+, not LPS and not voxels. Names: LV lateral wall mid-point, RV insertion anterior, RV insertion
    inferior, RV lateral wall turning point, apex, mitral valve centre; four of them at least. Without landmarks the
    label map gives them.

    \b
    shapelab refine label.nii.gz -o refined.nii.gz
    shapelab refine label.nii.gz -o refined.nii.gz --mapping 500=3,205=2,600=1 --n-atlases 7
    """
    from shapelab.commands.files.refine import Refining, refine_file

    files = {name: options.pop(name) for name in ("image", "landmarks", "atlases", "force")}
    print(json.dumps(refine_file(label, output, how=Refining(**options), progress=_say, **files), indent=1))


def _say(text: str) -> None:
    """What is done next, where it does not mix with the result."""
    print(f"shapelab refine: {text}", file=sys.stderr, flush=True)
