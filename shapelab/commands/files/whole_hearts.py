"""`shapelab predict` with a joint space (`shapelab.models.joint_space`): a CT or MR scan of a whole heart.

The space reads a box about the heart, and a scan does not say where that is. So the first box is about the middle of
the scan, or about a voxel that the user names; the next lies so that what was labelled in it comes to where hearts lay
in training; and so on until the box rests (`ROUNDS` at most). The label map that comes back has the scan's own voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shapelab import __version__
from shapelab.commands.files.networks import Network, check_intensities
from shapelab.commands.files.outputs import as_the_scan, beside, save_nifti, write_report
from shapelab.data.formats.nifti import read_header, read_image, stem
from shapelab.data.grid import GridSample, from_grid, to_grid, z_normalised
from shapelab.data.orientation import canonical
from shapelab.data.subject import Subject
from shapelab.errors import must, need
from shapelab.metrics.clinical import volumes_and_masses
from shapelab.models.joint_space import JointSpace
from shapelab.show.slices import planes

ROUNDS = 5
AIR_HU = -300  # CT has air, and lungs, below it; MR has no negative values
LEAST_FIELD_MM = 80.0  # along each axis; a heart that is cut off is labelled wrongly
BORDER = 0.02  # share of what is labelled that may lie at the border of the box


def read_whole_heart(path: Path, space: JointSpace) -> Subject:
    """A scan of a whole heart, its voxels in the file's order; DataError for what is none, or cuts the heart off."""
    header, image = read_header(path), read_image(path)
    scan = Subject(stem(path), space.scheme, image=image, affine=header.affine, file=path)
    field = np.array(scan.shape) * scan.spacing
    need(
        field.min() >= LEAST_FIELD_MM,
        path,
        f"a field of {' x '.join(f'{mm:.0f}' for mm in field)} mm",
        f"at least {LEAST_FIELD_MM:g} mm along each axis, a whole heart",
        "Give a scan that holds the whole heart.",
    )
    return scan


def segment_whole_heart(
    space: JointSpace, scan: Subject, centre: Sequence[float] | None = None
) -> tuple[np.ndarray, GridSample]:
    """Probabilities (C, X, Y, Z) on the space's grid, and the scan as it was laid there.

    Args:
        space: reads the scan's modality
        scan: with an image, in its file's order
        centre: voxel of the file that lies in the heart; None: the middle of the scan

    DataError where nothing is labelled.
    """
    image = np.asarray(scan.image)
    dark = scan.with_(image=image - image.min())  # a grid has 0 where nothing was scanned
    where = (np.array(scan.shape) - 1) / 2 if centre is None else np.asarray(centre, float)
    aim = np.asarray(space.metadata.get("middle", (np.array(space.grid.shape) - 1) / 2))
    for _ in range(ROUNDS):
        laid = to_grid(dark, space.grid, centre=where * scan.spacing)
        found = space.probabilities(z_normalised(np.asarray(laid.image))[None])[0]
        heart = np.argwhere(found.argmax(0) > 0)
        need(
            len(heart),
            scan.where,
            "no heart (the model labelled nothing)",
            "a scan of a whole heart",
            "Say with centre (--centre) which voxel lies in the heart.",
        )
        move = heart.mean(0) - aim
        if np.abs(move).max() < 1:  # voxel of the grid
            break
        middle = (np.array(space.grid.shape) - 1) / 2 + move
        in_scan = laid.transform.matrix @ [*middle, 1]
        where = (laid.transform.orientation.matrix @ in_scan)[:3]
    return found, laid


def predict_whole_heart(
    network: Network,
    scan: Path,
    output: Path,
    *,
    modality: str | None = None,
    centre: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Segment a scan of a whole heart; write label map, volumes and a picture of three planes.

    Args:
        network: a joint space
        scan: NIfTI, stored in any order
        output: label map; ``.json`` and ``.png`` of the same name lie beside it
        modality: of the scan, one that the space was trained on; None: CT where there is air in HU, else MR
        centre: voxel (3,) of the file that lies in the heart; None: the middle of the scan

    Returns:
        dict: model, scan, label map, modality, `volumes_ml`, `myocardial_mass_g`, `assumed`, `warnings`

    DataError for a scan of a modality that it was not trained on, that is none, or without a heart.
    """
    space = JointSpace.load(network.folder)
    subject = read_whole_heart(scan, space)
    lowest = check_intensities(np.asarray(canonical(subject)[0].image), subject.where)
    assumed = []
    if modality is None:
        modality = "CT" if lowest < AIR_HU else "MR"
        assumed.append(f"modality {modality}: the lowest intensity is {lowest:g}")
    space.check_modality(modality)
    if centre is None:
        assumed.append("the heart was looked for from the middle of the scan")
    else:
        inside = len(centre) == 3 and all(0 <= c < n for c, n in zip(centre, subject.shape))
        must(
            inside, "centre", tuple(centre), f"a voxel of the scan, (0, 0, 0) to {tuple(n - 1 for n in subject.shape)}"
        )
    found, laid = segment_whole_heart(space, subject, centre)
    label = from_grid(found, laid.transform)
    upright = canonical(subject.with_(label=label, image=subject.image))[0]
    report: dict[str, Any] = {
        "shapelab": __version__,
        "model": network.name,
        "picture": beside(output, ".png").name,
        "scan": scan.name,
        "label_map": output.name,
        "modality": modality,
        "scheme": space.scheme.name,
        **volumes_and_masses(np.asarray(upright.label), upright.spacing, space.scheme),
        "assumed": [*assumed, *laid.assumed],
        "warnings": _doubts(network, space, found.argmax(0), subject),
    }
    save_nifti(as_the_scan(scan, label), output)
    drawn = planes(upright, title=f"{scan.name}, {network.name}")
    write_report(report, drawn, output)
    return report


def _doubts(network: Network, space: JointSpace, channels: np.ndarray, scan: Subject) -> list[str]:
    """What speaks of a scan that does not suit the space, or of a segmentation that failed, in words."""
    missing = [name for k, name in enumerate(space.scheme.names, 1) if not (channels == k).any()]
    inner = channels[1:-1, 1:-1, 1:-1]
    at_border = 1 - (inner > 0).sum() / (channels > 0).sum()
    words = {
        f"the network {network.caution}": bool(network.caution),
        f"no {', no '.join(missing)}": bool(missing),
        f"{at_border:.0%} of the heart at the border of the box that the network sees": at_border > BORDER,
        f"voxels of {scan.spacing.max():.3g} mm; the network sees {space.grid.spacing[0]:g} mm": scan.spacing.max()
        > 2 * max(space.grid.spacing),
    }
    return [text for text, holds in words.items() if holds]
