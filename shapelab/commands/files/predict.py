"""From a scan's file to a label map's file: what `shapelab predict` does.

A model is a folder whose description says its kind: "native" (`shapelab.models.native`, slices as they come), a network
of the ACNN work (`shapelab.models.acnn`), which wants the heart laid on its grid, for which the shipped native network
finds the heart first, or "joint" (`shapelab.models.joint_space`), which reads whole hearts: see `whole_hearts`. A
"two-stage" network (`shapelab.models.two_stage`) takes short-axis stacks or whole hearts, as its label scheme says. In
each case the label map has the scan's own voxels, order, affine and header.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from shapelab import __version__
from shapelab.commands.files.networks import check_scan, default_model, find_network
from shapelab.commands.files.outputs import as_the_scan, beside, check_outputs, listened, save_nifti, write_report
from shapelab.commands.files.whole_hearts import predict_whole_heart
from shapelab.data.formats.nifti import read_header, read_image, stem
from shapelab.data.grid import Grid, from_grid, to_grid, to_unit_range
from shapelab.data.orientation import orientation_of, thick_axis
from shapelab.data.scheme import CARDIAC, LabelScheme
from shapelab.data.subject import Subject
from shapelab.device import autocast
from shapelab.errors import must, need
from shapelab.metrics.clinical import doubts, doubts_of_map, ejection_fraction, indices_of, volumes_and_masses
from shapelab.metrics.plausible import map_doubts
from shapelab.models.native import NativeSegmenter, Segmenter, keep_largest, segment
from shapelab.places import weights_of
from shapelab.show.refined import segmented
from shapelab.spaces.kept import load_network
from shapelab.types import Triple

if TYPE_CHECKING:
    from shapelab.models.acnn import SubPixelConfig

FINDER = "acnn_seg_native_quick"  # finds the heart for models that want it laid on a grid
LEAST_FIELD_MM = 100.0  # in plane; the smallest adult heart with its surroundings
IN_PLANE_MM, THROUGH_MM = (0.3, 4.0), (2.0, 20.0)  # what a short-axis stack can have


class GridSegmenter:
    """A sub-pixel segmentation network on a scan: another segmenter finds the heart and how it lies, the scan is laid
    on the network's grid (turned so that the RV is to the left), and the result comes back to the scan's own voxels."""

    def __init__(self, network: torch.nn.Module, finder: NativeSegmenter):
        task = getattr(network, "task", "seg")
        must(task == "seg", "model", f"a network for {task!r}", "one that segments")
        self.network, self.finder = network, finder
        self.config: SubPixelConfig = vars(network)["config"]
        self.scheme: LabelScheme = getattr(network, "scheme", CARDIAC)
        self.metadata: dict[str, Any] = getattr(network, "metadata", {})

    @torch.inference_mode()
    def predict(self, image: np.ndarray, spacing: Triple) -> np.ndarray:
        """Label map (X, Y, Z) uint8 of a stack (X, Y, Z), voxels of `spacing` mm; empty where no heart was found."""
        found = self.finder.predict(image, spacing)
        if not all((found == v).any() for v in (1, 2, 3)):
            return np.zeros_like(found)
        subject = Subject("scan", CARDIAC, found, np.asarray(image, np.float32), np.diag([*spacing, 1.0]))
        fine, factor = self.config.grid, self.config.factor
        thick = Grid((*fine.shape[:2], fine.shape[2] // factor), (*fine.spacing[:2], fine.spacing[2] * factor))
        stack = to_unit_range(np.asarray(to_grid(subject, thick, align="rigid").image))
        back = to_grid(subject.with_(image=None, scheme=CARDIAC), fine, align="rigid").transform
        device = next(self.network.parameters()).device
        with autocast(device):
            logits = self.network(torch.from_numpy(stack)[None, None].to(device))
        return keep_largest(from_grid(logits[0].float().softmax(0).cpu().numpy(), back))


def load_segmenter(model: str | Path) -> Segmenter:
    """The model by name or folder, as something with `predict(image, spacing) -> label map` and a `scheme`.

    Raises UsageError for an unknown name, DataError where the folder's files are damaged or of an unknown kind.
    """
    network = load_network(find_network(model).folder)
    if not isinstance(network, torch.nn.Module):  # it knows how it is used on a scan
        return network
    return GridSegmenter(network, NativeSegmenter.load(weights_of(FINDER)))


def read_short_axis(path: str | Path) -> Subject:
    """A short-axis stack, its voxels in the file's order, whichever that is.

    Raises DataError: what `shapelab.data.formats.nifti` refuses (4-D among it), or a scan that is no short-axis stack:
    no axis with clearly thicker voxels, voxels or field of another size, or one single intensity.
    """
    header = read_header(path)
    turn = orientation_of(header.affine, header.shape, stack=True)
    x, y, z = spacing = turn.per_axis(header.spacing)
    sizes = " x ".join(f"{s:.3g}" for s in header.spacing)
    stack = "a stack of thick short-axis slices (ACDC: 1.4 x 1.4 x 10 mm)"
    thick = thick_axis(spacing) == 2
    todo = "Give a short-axis stack; of a whole heart's scan, name a model that takes it (`shapelab predict --list`)."
    need(thick, path, f"voxels of {sizes} mm, along no axis clearly thicker", stack, todo)
    ranges = "{:g} to {:g} mm in plane, {:g} to {:g} mm through it".format(*IN_PLANE_MM, *THROUGH_MM)
    inside = IN_PLANE_MM[0] <= min(x, y) and max(x, y) <= IN_PLANE_MM[1] and THROUGH_MM[0] <= z <= THROUGH_MM[1]
    need(
        inside and max(x, y) <= 1.1 * min(x, y), path, f"voxels of {sizes} mm", f"{stack}, {ranges}", "Is the unit mm?"
    )
    field = turn.per_axis(header.shape)[:2] * spacing[:2]
    need(
        field.min() >= LEAST_FIELD_MM,
        path,
        f"a field of {field[0]:.0f} x {field[1]:.0f} mm",
        f"at least {LEAST_FIELD_MM:g} mm",
        "Give the whole slices, not a crop.",
    )
    image = read_image(path)
    need(image.min() < image.max(), path, f"the same intensity ({image.flat[0]:g}) in every voxel", "an image")
    return Subject(stem(Path(path)), CARDIAC, image=image, affine=header.affine, file=path)


def predict_file(
    model: str | Path | None,
    scan: str | Path,
    output: str | Path,
    es: str | Path | None = None,
    es_output: str | Path | None = None,
    force: bool = False,
    modality: str | None = None,
    centre: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Segment a scan (or the ED and ES scans of one patient); write label map, clinical indices and a picture.

    A warning says what no heart has (`shapelab.metrics.clinical.PLAUSIBLE`, `shapelab.metrics.plausible.map_doubts`),
    and what of the scan does not suit the network. Without one a result may be wrong as well: look at the picture.

    Args:
        model: name of shipped weights (``acnn_seg_native_quick``), or a folder; None: `networks.default_model`, for a
            short-axis stack
        scan: short-axis NIfTI stack, stored in any order (`shapelab.models.native.segment`); at ED, where `es` is given
        output: label map, ``.nii`` or ``.nii.gz``: uint8, the model's integers, in the scan's voxels, affine and
            header. Beside it, with the same name: ``.json``, the indices that are returned, and ``.png``, slices
            of each scan with the outlines
        es: the scan at ES; its label map is `es_output`, or the output's name with ``_es``
        force: overwrite what is there
        modality: this and `centre` go with a model of whole hearts, `whole_hearts.predict_whole_heart`
        centre: see `modality`

    Returns:
        dict: model, scan(s), label map(s), `volumes_ml` by structure, `myocardial_mass_g` (and `rv_mass_g` of a model
            that knows the RV wall); with `es` also `es` (the same of
        the other scan), and of each ventricle `stroke_volume_ml` and `ejection_fraction_percent` (None without a
            cavity); `assumed`, what neither affine nor image could tell; `warnings`; both are lists of sentences,
            empty where there is nothing to say

    Raises:
        UsageError: unknown model or one that segments no scan, an output that is no NIfTI name, exists, or is an input
        DataError: a scan that cannot be read, is no short-axis stack (`read_short_axis`), is a label map or nearly of
            one intensity, or shows no heart to the model
    """
    must(es is not None or es_output is None, "es_output", "a name without an ES scan", "both or neither")
    scans, outputs = [Path(scan)], [Path(output)]
    if es is not None:
        scans.append(Path(es))
        named = beside(outputs[0], "_es" + outputs[0].name[len(stem(outputs[0])) :])
        outputs.append(Path(es_output) if es_output is not None else named)
    report, picture = beside(outputs[0], ".json"), beside(outputs[0], ".png")
    check_outputs(outputs, [report, picture], scans, force)
    network = find_network(default_model() if model is None else model)
    if network.modalities:
        must(es is None, "es", "an ES scan beside a model of whole hearts", "one scan at a time")
        return predict_whole_heart(network, scans[0], outputs[0], modality=modality, centre=centre)
    must(
        modality is None and centre is None,
        "predict",
        "modality or centre",
        f"none with {network.name}, a model of short-axis stacks",
    )
    subjects = [read_short_axis(path) for path in scans]  # before the model: bad input is said at once
    unsuited = [check_scan(subject, network) for subject in subjects]
    segmenter = load_segmenter(network.folder)
    hearts = [_segment(segmenter, subject) for subject in subjects]
    parts: list[dict[str, Any]] = []
    for path, out, heart in zip(scans, outputs, hearts):
        save_nifti(as_the_scan(path, heart.as_stored), out)
        parts.append(
            {"scan": path.name, "label_map": out.name, "scheme": segmenter.scheme.name}
            | volumes_and_masses(heart.label, heart.spacing, segmenter.scheme)
        )
    found: dict[str, Any] = {"shapelab": __version__, "model": network.name, "picture": picture.name, **parts[0]}
    if es is not None:
        found |= {"es": parts[1], **_function(*parts)}
    found["assumed"] = list(dict.fromkeys(text for heart in hearts for text in heart.assumed))
    found["warnings"] = _doubts(parts, hearts, unsuited)
    names = ["ED", "ES"] if es is not None else ["scan"]
    drawn = segmented(
        [(name, heart.image, heart.label) for name, heart in zip(names, hearts)],
        [heart.spacing for heart in hearts],
        segmenter.scheme,
        _title(found),
    )
    write_report(found, drawn, outputs[0])
    return found


def _doubts(parts: list[dict[str, Any]], hearts: list[Segmented], unsuited: list[list[str]]) -> list[str]:
    """What of the scans does not suit the network, and what of the result no heart has; each once."""
    volumes = [part["volumes_ml"] for part in parts]
    about = [[*said, *heart.said, *map_doubts(heart.label)] for said, heart in zip(unsuited, hearts)]
    if len(parts) == 1:
        return [*about[0], *doubts_of_map(parts[0])]
    first, second = about
    said = [text if text in second else f"ED: {text}" for text in first]
    said += [f"ES: {text}" for text in second if text not in first]
    if not np.allclose(hearts[0].spacing, hearts[1].spacing, rtol=0.01):
        said.append(f"ED and ES of other voxel sizes ({hearts[0].spacing} and {hearts[1].spacing} mm)")
    return [*said, *doubts(indices_of(*volumes), volumes[1])]


def _title(found: Mapping[str, Any]) -> str:
    """Of the picture, a line each: scan and model, the ejection fractions or the volumes, how many warnings."""
    percent = found.get("ejection_fraction_percent")
    numbers = (
        [f"{name} {ml:.0f} ml" for name, ml in found["volumes_ml"].items()]
        if percent is None
        else [f"{name} ejects {value} %" for name, value in percent.items()]
    )
    doubt = f"\n{len(found['warnings'])} warning(s), see the JSON" if found["warnings"] else ""
    return f"{found['scan']}, {found['model']}\n{', '.join(numbers)}{doubt}"


@dataclass(frozen=True, eq=False)
class Segmented:
    """A scan and its label map (X, Y, Z) as the heart was found, voxels of `spacing` mm; the label map as the file is
    stored; and what the network warned of."""

    image: np.ndarray
    label: np.ndarray
    spacing: np.ndarray
    as_stored: np.ndarray
    assumed: tuple[str, ...]
    said: list[str]


def _segment(segmenter: Segmenter, scan: Subject) -> Segmented:
    """The scan's label map; DataError where the model labels nothing."""
    (as_stored, turn), said = listened(lambda: segment(segmenter, scan))
    need(
        as_stored.any(),
        scan.where,
        "no heart (the model labelled nothing)",
        "a short-axis cardiac MR stack",
        "Look at the scan; the model knows slices as ACDC has them.",
    )
    image, label = turn.canonical(np.asarray(scan.image)), turn.canonical(as_stored)
    return Segmented(image, label, turn.per_axis(scan.spacing), as_stored, turn.assumed, said)


def _function(ed: dict[str, Any], es: dict[str, Any]) -> dict[str, Any]:
    """Stroke volume (ml) and ejection fraction (%) of each ventricle."""
    cavities = {name.split()[0]: name for name in ed["volumes_ml"] if name.endswith("cavity")}
    volumes = {ventricle: (ed["volumes_ml"][name], es["volumes_ml"][name]) for ventricle, name in cavities.items()}
    return {
        "stroke_volume_ml": {v: round(a - b, 2) for v, (a, b) in volumes.items()},
        "ejection_fraction_percent": {
            v: round(float(ejection_fraction(a, b)), 2) if a > 0 else None for v, (a, b) in volumes.items()
        },
    }
