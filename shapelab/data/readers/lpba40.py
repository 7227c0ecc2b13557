"""Reader of LPBA40, the LONI Probabilistic Brain Atlas (Shattuck et al., NeuroImage 39(3):1064-1080, 2008): brain MR of
40 volunteers, 56 structures outlined by hand.

Layout, also below a folder ``LPBA40/``, ``delineation_space/`` or ``Delineation/``; each file Analyze or NIfTI::

    S01/S01.delineation.skullstripped.hdr    .img     or .nii.gz; the brain alone
        S01.delineation.structure.label.hdr  .img     the label map

Names and integers were found in public programs that read the data, since the archive itself asks for a registration:
names in settings of registration programs, the integers in a list called ``LBPA40``. Odd ones are left, even ones
right. What a copy numbers otherwise is said by `mapping`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel
import numpy as np

from shapelab.data.cards import Card, register
from shapelab.data.formats.nifti import Header
from shapelab.data.reading import Scan, patient_folders, scheme_of
from shapelab.errors import must, one_of

#: First integer -> names of structures that lie on both sides, left and right in turn from there on.
_PAIRS = {
    21: "superior frontal gyrus, middle frontal gyrus, inferior frontal gyrus, precentral gyrus, "
    "middle orbitofrontal gyrus, lateral orbitofrontal gyrus, gyrus rectus",
    41: "postcentral gyrus, superior parietal gyrus, supramarginal gyrus, angular gyrus, precuneus",
    61: "superior occipital gyrus, middle occipital gyrus, inferior occipital gyrus, cuneus",
    81: "superior temporal gyrus, middle temporal gyrus, inferior temporal gyrus, parahippocampal gyrus, "
    "lingual gyrus, fusiform gyrus",
    101: "insular cortex",
    121: "cingulate gyrus",
    161: "caudate, putamen, hippocampus",
}
LABELS = {
    first + 2 * i + right: f"{side} {name}"
    for first, names in _PAIRS.items()
    for i, name in enumerate(names.split(", "))
    for right, side in enumerate(("left", "right"))
} | {181: "cerebellum", 182: "brainstem"}
LPBA40 = scheme_of("LPBA40", LABELS)
#: 1 left caudate, 2 right caudate, 3 left hippocampus, 4 right hippocampus.
CAUDATE_HIPPOCAMPUS = scheme_of(
    "caudate and hippocampus", {k: LABELS[value] for k, value in enumerate((161, 162, 165, 166), 1)}
)
STRUCTURES = {"caudate and hippocampus": CAUDATE_HIPPOCAMPUS, "all": LPBA40}
FOLDERS = ("LPBA40", "delineation_space", "Delineation", "LPBA40/delineation_space", "LPBA40/Delineation")
ANALYZE_AXES = "LAS"  # the convention of Analyze 7.5, whose header does not say it


def recognise(root: Path) -> bool:
    """Whether `root` holds subjects in LPBA40's layout; looks at names only."""
    folders = patient_folders(Path(root), FOLDERS, r"S\d+")
    return any(any(folder.glob(f"{folder.name}.delineation.*")) for _, folder in folders)


def scan(
    root: str | Path,
    structures: str = "caudate and hippocampus",
    mapping: Mapping[int, int] | None = None,
    axes: str | None = None,
) -> Scan:
    """Find the subjects below `root`.

    Args:
        structures: "caudate and hippocampus", each left and right (`CAUDATE_HIPPOCAMPUS`), or "all" 56 (`LPBA40`)
        mapping: the files' integers -> the scheme's, where a copy has others than `LABELS`; 0: left out
        axes: where the axes of the files' arrays lead to, such as "LAS"; None: what NIfTI says, and "LAS" for Analyze

    Facts of a subject: patient ("S01"), modality ("MR").
    """
    scheme = STRUCTURES[one_of("lpba40: found structures", structures, STRUCTURES)]
    own = {value: scheme.structure(name).value if name in scheme.names else 0 for value, name in LABELS.items()}
    if axes is not None:
        sides = {frozenset("LR"), frozenset("AP"), frozenset("IS")}
        fits = len(axes) == 3 and {pair for pair in sides for letter in axes if letter in pair} == sides
        must(fits, "lpba40: axes", repr(axes), 'a letter each of L or R, A or P, I or S, such as "LAS"')
    found = Scan(
        "lpba40", Path(root), scheme, own if mapping is None else mapping, in_mm=partial(as_it_lies, axes=axes)
    )
    for _, folder in patient_folders(found.root, FOLDERS, r"S\d+"):
        image, label = (f"{folder.name}.delineation.{kind}" for kind in ("skullstripped", "structure.label"))
        facts = {"patient": folder.name.upper(), "modality": "MR"}
        found.find(folder.name.upper(), folder, [image], [label], facts)
    return found


def as_it_lies(header: Header, axes: str | None = None) -> Header:
    """The header with the axes named; of Analyze, which does not say them, those of its convention."""
    if axes is None and header.file.suffix == ".hdr" and header.file.read_bytes()[344:347] != b"ni1":
        axes = ANALYZE_AXES
    if axes is None:
        return header
    affine = np.eye(4)
    affine[:3, :3] = 0
    for k, (axis, sign) in enumerate(nibabel.orientations.axcodes2ornt(tuple(axes))):
        affine[int(axis), k] = sign * header.spacing[k]
    return replace(header, affine=affine)


register(
    Card(
        "lpba40",
        "LPBA40: 56 structures of the brain in MR, 40 volunteers",
        home="https://resource.loni.usc.edu/resources/atlases-downloads/",
        licence="the publisher's terms",
        citation="Shattuck et al., Construction of a 3D probabilistic atlas of human cortical structures, NeuroImage "
        "39(3):1064-1080, 2008, doi:10.1016/j.neuroimage.2007.09.031",
        layout="SNN/SNN.delineation.skullstripped.hdr and SNN.delineation.structure.label.hdr with their .img "
        "(or .nii.gz)",
        folder="LPBA40",
        scheme=CAUDATE_HIPPOCAMPUS,
        phantom="",
        recognise=recognise,
        scan=scan,
    )
)
