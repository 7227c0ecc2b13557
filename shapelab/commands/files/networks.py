"""Which networks there are, and which of them `shapelab predict` can use on which scan: read from their descriptions.

A description (`shapelab.spaces.kept`) says the kind, its task, its numbers and what it learned from. What follows from
that for a scan is written here, once: the list that `shapelab predict --list` prints, why a network is refused, and
what of a scan does not suit it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shapelab.data.grid import Grid
from shapelab.data.orientation import canonical, is_short_axis, is_whole_heart
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError, must, need
from shapelab.places import weights_folders, weights_of
from shapelab.spaces.kept import ADVICE, FILES, NETWORK, SPACE, find, is_kept, scheme_of

#: What segments a short-axis stack when no model is named: the first whose weights are there.
DEFAULTS = ("two_stage_sa_quick", "acnn_seg_native_quick")
NATIVE = "native"  # the kind that takes slices as they come
JOINT = "joint"  # the kind that takes whole hearts, of the modalities that it was trained on
TWO_STAGE = "two-stage"  # the kind that takes either, as its label scheme says
NATIVE_SLICES_MM = (5.0, 10.0)  # of the phantom's stacks and of ACDC's, which it learns from
SLACK = 1.3  # times as thick, or as thin, as what a network learned from
COARSE = 2.0  # times the network's own voxels in plane
MOST_VALUES, MOST_LABELS, ALIKE = 32, 1024, 0.8  # of a label map, see `check_scan`
# Dice of RV, wall and LV on 20 real ACDC stacks, own voxels: data/weights/README.md
WHOLE_CAUTION = "learned from phantoms' images alone: not measured on real scans"
CAUTION = "learned from phantoms' images alone: on real scans its Dice is .4 to .65 (acnn_seg_native_quick: .8 to .9)"


@dataclass(frozen=True)
class Network:
    """What is kept in a folder, as far as a scan is concerned.

    Attributes:
        name: of its folder
        folder: where it is kept
        segments: the structures of its label maps
        takes: the scans that it is made for
        learned_from: as its description says
        refused: why `shapelab predict` cannot use it; "": it can
        caution: what is to be known before it is used on a real scan; "": nothing
        slices_mm: thickness of the slices that it learned from, least and most
        in_plane_mm: its own voxels
        modalities: of scans of whole hearts; none: it takes short-axis stacks
    """

    name: str
    folder: Path
    segments: str = ""
    takes: str = ""
    learned_from: str = ""
    refused: str = ""
    caution: str = ""
    slices_mm: tuple[float, float] = (0.0, np.inf)
    in_plane_mm: float = np.inf
    modalities: tuple[str, ...] = ()


def described(folder: Path) -> Network:
    """What the description in a folder says; DataError where there is none."""
    file = find(folder) or folder / NETWORK
    need(
        file.is_file(),
        folder,
        f"no {NETWORK}",
        "a folder that holds a saved segmentation network",
        "`shapelab predict --list` names those that ship.",
    )
    try:
        text = json.loads(file.read_text(encoding="utf-8"))
        learned_from = str(text.get("metadata", {}).get("data", "not said"))
        refused = _why_not(file.name, text)
        more = {"refused": refused} if refused else _suits(text, learned_from)
    except (ValueError, KeyError, TypeError, AttributeError, ImportError, UsageError) as error:
        raise DataError(
            file,
            f"a damaged description ({type(error).__name__}: {error})",
            "JSON of a network: kind, config, scheme",
            ADVICE,
        ) from error
    return Network(folder.name, folder, learned_from=learned_from, **more)


def _why_not(file: str, text: Mapping[str, Any]) -> str:
    """Why a network can segment neither a short-axis stack nor a whole heart; "": it can."""
    if text["kind"] == JOINT:
        return "" if not is_short_axis(scheme_of(text["scheme"])) else "reads short-axis hearts laid on its grid alone"
    if file != NETWORK:
        kinds = {SPACE: "a shape space: it knows label maps, and no scan"}
        return "is " + kinds.get(file, "a T-L network: it makes a shape's code from a high-resolution image")
    if text.get("task", "seg") != "seg":
        return f"is for {text['task']!r} (super-resolution): it makes a finer image, and no label map"
    scheme = scheme_of(text["scheme"])
    if text["kind"] == TWO_STAGE and is_whole_heart(scheme):
        said = text.get("metadata", {}).get("modalities")
        return "" if said else "does not say on scans of which modalities it was trained (`modalities` in its metadata)"
    if scheme != CARDIAC:
        return f"labels {', '.join(scheme.names)} in whole volumes, and not in a short-axis stack"
    laid = text["kind"] in (NATIVE, TWO_STAGE) or {"shape", "spacing", "factor"} <= set(text["config"])
    return "" if laid else f"is a {text['kind']}, which takes no short-axis stack"


def _suits(text: Mapping[str, Any], learned_from: str) -> dict[str, Any]:
    """What a network that can segment does with a scan."""
    config, kind, scheme = text["config"], text["kind"], scheme_of(text["scheme"])
    fine = float(np.ravel(config["spacing"])[0])
    suits: dict[str, Any] = {"segments": ", ".join(scheme.names), "in_plane_mm": fine}
    if kind == NATIVE or (kind == TWO_STAGE and scheme == CARDIAC):
        low, high = NATIVE_SLICES_MM
        seen = f"{config['first' if kind == NATIVE else 'field'] * fine:.0f} mm about its middle"
        takes = f"cardiac MR, short-axis stack, slices of {low:g} to {high:g} mm as they come, at {fine:g} mm in plane"
        return suits | {"takes": f"{takes}, {seen}", "slices_mm": NATIVE_SLICES_MM}
    if kind == TWO_STAGE:
        return suits | _whole_heart(text, learned_from, f"anywhere in the scan, at {fine:g} mm")
    grid = Grid(config["shape"], config["spacing"])
    box = " x ".join(f"{mm:.0f}" for mm in grid.extent)
    if kind == JOINT:
        return suits | _whole_heart(text, learned_from, f"{box} mm about it, on its grid, {grid}")
    thick = float(config["spacing"][2] * config["factor"])
    return suits | {
        "takes": f"cardiac MR, short-axis stack, slices of {thick:g} mm (thinner ones are averaged), {box} mm about "
        f"the heart, which another network finds, on its grid, {grid}",
        "caution": CAUTION if "phantom" in learned_from else "",
        "slices_mm": (0.0, thick),
    }


def _whole_heart(text: Mapping[str, Any], learned_from: str, seen: str) -> dict[str, Any]:
    """What a network of whole hearts takes, which sees this of a scan."""
    modalities = tuple(text["metadata"]["modalities"])
    return {
        "takes": f"{' or '.join(modalities)} of a whole heart, {seen}",
        "caution": WHOLE_CAUTION if "phantom" in learned_from else "",
        "modalities": modalities,
    }


def networks() -> list[Network]:
    """All that is kept where weights are looked for, by name; what is found first counts."""
    kept = {
        file.parent.name: file.parent for root in weights_folders()[::-1] for f in FILES for file in root.glob(f"*/{f}")
    }
    found = []
    for name, folder in sorted(kept.items()):
        try:
            found.append(described(folder))
        except DataError as error:
            found.append(Network(name, folder, refused=f"cannot be read: {error.found}"))
    return found


def default_model() -> str:
    """The name of the weights that segment a short-axis stack when no model is named."""
    return next((name for name in DEFAULTS if is_kept(weights_of(name))), DEFAULTS[-1])


def find_network(model: str | Path) -> Network:
    """The network of a folder, or of the name of shipped weights, that can segment a scan.

    Raises UsageError for an unknown name and for a network of another task, naming those that can; DataError for a
    folder that holds none.
    """
    folder = next((f for f in (Path(model), weights_of(str(model))) if f.is_dir()), None)
    able = [network.name for network in networks() if not network.refused]
    known = f"one of {able}" if able else f"the name of a network in {weights_folders()[0]}, where there is none"
    must(folder is not None, "model", repr(str(model)), f"a folder with a {NETWORK}, or {known}")
    assert folder is not None
    found = described(folder)
    must(
        not found.refused,
        "model",
        f"{str(model)!r}, which {found.refused}",
        f"a network that segments a scan: {known}",
    )
    return found


def check_scan(scan: Subject, network: Network) -> list[str]:
    """What of a scan does not suit a network, in words; DataError for what is no scan.

    That is a label map: `MOST_VALUES` different values or fewer, or few enough for one (`MOST_LABELS`) of which
    neighbours along the first axis are mostly alike where there is anything; and an image that has one value nearly
    everywhere. Of ACDC's 160 scans each has 116 values or more, and 3 to 48 % of such neighbours are alike.
    """
    upright = canonical(scan)[0]
    spacing, lowest = upright.spacing, check_intensities(np.asarray(upright.image), scan.where)
    words = {
        f"the network {network.caution}": bool(network.caution),
        f"intensities down to {lowest:g}: CT, or changed? The network knows MR": lowest < 0,
        f"slices of {spacing[2]:.3g} mm; the network learned from {_range(*network.slices_mm)} mm": not (
            network.slices_mm[0] / SLACK <= spacing[2] <= network.slices_mm[1] * SLACK
        ),
        f"{spacing[0]:.3g} mm in plane; the network sees {network.in_plane_mm:g} mm": spacing[0]
        > COARSE * network.in_plane_mm,
    }
    return [text for text, holds in words.items() if holds]


def check_intensities(image: np.ndarray, file: str) -> float:
    """The lowest value of a scan in canonical order; DataError for what is no scan, see `check_scan`."""
    values = np.unique(image)
    low, high = np.percentile(image, (1, 99))
    need(
        low < high or len(values) <= MOST_VALUES,
        file,
        f"one intensity ({low:g}) in 98 % of the voxels",
        "a scan's intensities",
    )
    there = (image[1:] > values[0]) | (image[:-1] > values[0])
    alike = float((image[1:] == image[:-1])[there].mean()) if there.any() else 1.0
    some = ", ".join(f"{v:g}" for v in values[:6]) + ", ..." * (len(values) > 6)
    need(
        len(values) > MOST_VALUES and (len(values) > MOST_LABELS or alike < ALIKE),
        file,
        f"{len(values)} different values ({some}): a label map",
        "a scan's intensities",
        "Give the scan, and not its segmentation.",
    )
    return float(values[0])


def _range(low: float, high: float) -> str:
    return f"{low:g} to {high:g}" if low else f"{high:g}"
