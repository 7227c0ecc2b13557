"""`shapelab predict` with a network of whole hearts: a CT or MR scan, labelled in its own voxels.

A joint space (`shapelab.models.joint_space`) reads a box about the heart, and a scan does not say where that is. So the
first box is about the middle of the scan, or about a voxel that the user names; the next lies so that what was labelled
in it comes to where hearts lay in training; and so on until the box rests (`ROUNDS` at most). A two-stage network
(`shapelab.models.two_stage`) reads the whole scan, and finds the heart in it by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shapelab import __version__
from shapelab.commands.files.networks import Network, check_intensities
from shapelab.commands.files.outputs import as_the_scan, beside, listened, save_nifti, write_report
from shapelab.data.formats.nifti import read_header, read_image, stem
from shapelab.data.grid import GridSample, from_grid, to_grid, z_normalised
from shapelab.data.orientation import canonical
from shapelab.data.scheme import LabelScheme
from shapelab.data.subject import Subject
from shapelab.errors import must, need
from shapelab.metrics.clinical import volumes_and_masses
from shapelab.models.joint_space import JointSpace
from shapelab.models.two_stage import TwoStage
from shapelab.show.slices import planes
from shapelab.spaces.kept import open_kept

ROUNDS = 5
AIR_HU = -300  # CT has air, and lungs, below it; MR has no negative values
LEAST_FIELD_MM = 80.0  # along each axis; a heart that is cut off is labelled wrongly
BORDER = 0.02  # share of what is labelled that may lie at the border of the box
RIM_MM = 6.0  # what counts as the border of a scan: as thick as a voxel of the joint space that ships
NO_HEART = ("no heart (the model labelled nothing)", "a scan of a whole heart")


@dataclass(frozen=True, eq=False)
class Reading:
    """What a network made of a scan.

    Attributes:
        label: in the file's order, integers of the network's scheme
        assumed: what neither the scan nor its affine could tell
        warnings: what speaks of a scan that does not suit the network, or of a segmentation that failed
    """

    label: np.ndarray
    assumed: list[str]
    warnings: list[str]


def read_whole_heart(path: Path, scheme: LabelScheme) -> Subject:
    """A scan of a whole heart, its voxels in the file's order; DataError for what is none, or cuts the heart off."""
    header, image = read_header(path), read_image(path)
    scan = Subject(stem(path), scheme, image=image, affine=header.affine, file=path)
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
    dark = _dark(scan)
    where = (np.array(scan.shape) - 1) / 2 if centre is None else np.asarray(centre, float)
    aim = np.asarray(space.metadata.get("middle", (np.array(space.grid.shape) - 1) / 2))
    for _ in range(ROUNDS):
        laid = to_grid(dark, space.grid, centre=where * scan.spacing)
        found = space.probabilities(z_normalised(np.asarray(laid.image))[None])[0]
        heart = np.argwhere(found.argmax(0) > 0)
        need(len(heart), scan.where, *NO_HEART, todo="Say with centre (--centre) which voxel lies in the heart.")
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
        network: of whole hearts
        scan: NIfTI, stored in any order
        output: label map; ``.json`` and ``.png`` of the same name lie beside it
        modality: of the scan, one that the network was trained on; None: CT where there is air in HU, else MR
        centre: of a joint space: voxel (3,) of the file that lies in the heart; None: the middle of the scan

    Returns:
        dict: model, scan, label map, modality, `volumes_ml`, `myocardial_mass_g`, `assumed`, `warnings`

    DataError for a scan of a modality that it was not trained on, that is none, or without a heart.
    """
    model: JointSpace | TwoStage = open_kept(network.folder)
    subject = read_whole_heart(scan, model.scheme)
    lowest = check_intensities(np.asarray(canonical(subject)[0].image), subject.where)
    assumed = []
    if modality is None:
        modality = "CT" if lowest < AIR_HU else "MR"
        assumed.append(f"modality {modality}: the lowest intensity is {lowest:g}")
    need(
        modality in network.modalities,
        subject.where,
        f"images of {modality}",
        f"of {' or '.join(network.modalities)}, which {network.name} was trained on",
        "Take a network that was trained on such images.",
    )
    read = _by_two_stage(model, subject, centre) if isinstance(model, TwoStage) else _by_space(model, subject, centre)
    upright = canonical(subject.with_(label=read.label, image=subject.image))[0]
    report: dict[str, Any] = {
        "shapelab": __version__,
        "model": network.name,
        "picture": beside(output, ".png").name,
        "scan": scan.name,
        "label_map": output.name,
        "modality": modality,
        "scheme": model.scheme.name,
        **volumes_and_masses(np.asarray(upright.label), upright.spacing, model.scheme),
        "assumed": [*assumed, *read.assumed],
        "warnings": [*[f"the network {network.caution}"] * bool(network.caution), *read.warnings],
    }
    save_nifti(as_the_scan(scan, read.label), output)
    drawn = planes(upright, title=f"{scan.name}, {network.name}")
    write_report(report, drawn, output)
    return report


def _by_space(space: JointSpace, scan: Subject, centre: Sequence[float] | None) -> Reading:
    """By a joint space, from the middle of the scan or from a voxel that the user named."""
    assumed = ["the heart was looked for from the middle of the scan"] if centre is None else []
    if centre is not None:
        inside = len(centre) == 3 and all(0 <= c < n for c, n in zip(centre, scan.shape))
        most = tuple(n - 1 for n in scan.shape)
        must(inside, "centre", tuple(centre), f"a voxel of the scan, (0, 0, 0) to {most}")
    found, laid = segment_whole_heart(space, scan, centre)
    said = _doubts(found.argmax(0), (1, 1, 1), "box that the network sees", laid, scan)
    return Reading(from_grid(found, laid.transform), [*assumed, *laid.assumed], said)


def _by_two_stage(network: TwoStage, scan: Subject, centre: Sequence[float] | None) -> Reading:
    """By a two-stage network, which finds the heart in the whole scan."""
    must(
        centre is None,
        "centre",
        "a voxel",
        "none with a two-stage network, which looks for the heart in all of the scan",
    )
    volume, laid = network.laid(_dark(scan))
    found, said = listened(lambda: network.probabilities(volume))
    label = from_grid(found, laid.transform)
    need(label.any(), scan.where, *NO_HEART, todo="Look at the scan.")
    rim = [max(1, round(RIM_MM / size)) for size in scan.spacing]
    doubts = _doubts(network.scheme.channels(label), rim, "scan", laid, scan)
    return Reading(label, [*laid.assumed], [*said, *doubts])


def _dark(scan: Subject) -> Subject:
    """A scan whose darkest voxels are 0, as a grid has it where nothing was scanned."""
    image = np.asarray(scan.image)
    return scan.with_(image=image - image.min())


def _doubts(channels: np.ndarray, rim: Sequence[int], box: str, laid: GridSample, scan: Subject) -> list[str]:
    """What speaks of a scan that does not suit a network, or of a segmentation that failed, in words.

    Args:
        channels: (X, Y, Z) of what the network saw, `box` in words
        rim: layers of it, along each axis, that count as its border
        laid: the scan as the network saw it
    """
    missing = [name for k, name in enumerate(scan.scheme.names, 1) if not (channels == k).any()]
    inner = channels[tuple(slice(n, -n) for n in rim)]
    at_border = 1 - (inner > 0).sum() / (channels > 0).sum()
    sees = laid.transform.grid.spacing
    words = {
        f"no {', no '.join(missing)}": bool(missing),
        f"{at_border:.0%} of the heart at the border of the {box}": at_border > BORDER,
        f"voxels of {scan.spacing.max():.3g} mm; the network sees {sees[0]:g} mm": scan.spacing.max() > 2 * max(sees),
    }
    return [text for text, holds in words.items() if holds]
