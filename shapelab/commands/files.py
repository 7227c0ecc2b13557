"""The part of the command line that takes files of one's own and writes files: `shapelab predict` and `refine`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

SCHEMES = ("cardiac", "biventricular")  # those of `shapelab.commands.refine`, which is not imported for --help
FUSIONS = ("majority", "non-local")  # those of `shapelab.atlas.refine`


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return number


def mapping(text: str) -> dict[int, int]:
    """``500=3,205=2`` -> {500: 3, 205: 2}, for argparse."""
    try:
        pairs = [tuple(int(n) for n in part.split("=")) for part in text.split(",")]
        found = dict(pairs)
    except ValueError:
        pairs, found = [], {}
    if not found or len(found) < len(pairs) or min(*found, *found.values()) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write FILE=SCHEME,... such as 500=3,205=2,600=1, each value once")
    return found


def add_predict(commands) -> None:
    """`shapelab predict`, added to the subparsers."""
    predict = commands.add_parser(
        "predict",
        help="segment a scan of your own",
        description="Write a label map in the scan's own voxels and affine, and volumes, mass and (with --es) ejection "
        "fraction as JSON beside it.",
    )
    add = predict.add_argument
    add("model", metavar="MODEL", help="a folder that `shapelab train` wrote, or the name of shipped weights")
    add("scan", type=Path, metavar="SCAN", help="a short-axis stack, .nii or .nii.gz")
    add("--es", type=Path, metavar="SCAN", help="the same heart at end systole; SCAN is then end diastole")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the label map, .nii or .nii.gz")
    add("--es-output", type=Path, metavar="FILE", help="that of the ES scan (default: the output's name with _es)")
    add("--force", action="store_true", help="overwrite what is there")
    predict.set_defaults(run=_predict)


def _predict(arguments) -> int:
    from shapelab.commands.predict import predict_file

    found = predict_file(
        arguments.model,
        arguments.scan,
        arguments.output,
        es=arguments.es,
        es_output=arguments.es_output,
        force=arguments.force,
    )
    print(json.dumps(found, indent=1))
    return 0


def add_refine(commands) -> None:
    """`shapelab refine`, added to the subparsers."""
    refine = commands.add_parser(
        "refine",
        help="a smooth high-resolution label map from one of thick slices",
        description="Deform high-resolution hearts (atlases) onto a label map of thick short-axis slices and fuse "
        "them: the staircase is mended, and an apex that was not scanned (SSLLN, section II-C). Writes the "
        "refined label map in the same mm, and beside it volumes and masses before and after as JSON and a picture of "
        "both.",
        epilog="Landmarks are a CSV with the columns name, x, y, z, in mm of the label map's affine, which is "
        "nibabel's affine @ (i, j, k, 1): RAS+, not LPS and not voxels. Names: LV lateral wall mid-point, RV "
        "insertion anterior, RV insertion inferior, RV lateral wall turning point, apex, mitral valve centre; four "
        "of them at least. Without landmarks the label map gives them.",
    )
    add = refine.add_argument
    add("label", type=Path, metavar="LABEL", help="label map of a short-axis stack, .nii or .nii.gz")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the refined label map, .nii or .nii.gz")
    add("--image", type=Path, metavar="SCAN", help="the scan: for the picture, and for --fusion non-local")
    add("--landmarks", type=Path, metavar="CSV", help="landmarks in mm (see below)")
    add(
        "--atlases",
        type=Path,
        metavar="DIR",
        help="high-resolution label maps of your own: labels/ID.nii.gz, and if "
        "there are any images/ID.nii.gz and landmarks/ID.csv (default: 20 phantom hearts at ED and ES)",
    )
    add(
        "--scheme",
        choices=SCHEMES,
        help="1 RV cavity, 2 LV myocardium, 3 LV cavity (cardiac), and 4 RV wall "
        "(biventricular); default: told from the values",
    )
    add("--mapping", type=mapping, metavar="A=B,...", help="your label values = those of the scheme; 0 drops one")
    add("--n-atlases", type=positive, default=5, metavar="L", help="how many are deformed and fused (default: 5)")
    add(
        "--fusion",
        choices=FUSIONS,
        default="majority",
        help="of the deformed atlases (default: majority; non-local, the paper's, needs images of scan and atlases)",
    )
    add("--align", action="store_true", help="bring slices out of line into line first, by the centres of the LV")
    add(
        "--spacing",
        type=float,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="voxel size of the result in mm, Z along the slice axis (default: that of the atlases, 1.25 1.25 2)",
    )
    add("--seed", type=int, default=0, help="of the phantoms (default: 0)")
    add("--force", action="store_true", help="overwrite what is there")
    refine.set_defaults(run=_refine)


def _refine(arguments) -> int:
    from shapelab.commands.refine import refine_file

    found = refine_file(
        arguments.label,
        arguments.output,
        image=arguments.image,
        landmarks=arguments.landmarks,
        atlases=arguments.atlases,
        scheme=arguments.scheme,
        mapping=arguments.mapping,
        n_atlases=arguments.n_atlases,
        fusion=arguments.fusion,
        align=arguments.align,
        spacing=arguments.spacing,
        seed=arguments.seed,
        force=arguments.force,
        progress=lambda text: print(f"shapelab refine: {text}", file=sys.stderr, flush=True),
    )
    print(json.dumps(found, indent=1))
    return 0
