"""Reader of the Medical Segmentation Decathlon's tasks (Antonelli et al., Nature Communications 13:4128, 2022).

Layout::

    Task04_Hippocampus/dataset.json         labels {"0": "background", "1": "Anterior", ...}, training: image + label
                       imagesTr/hippocampus_001.nii.gz
                       labelsTr/hippocampus_001.nii.gz
                       imagesTs/...         without labels; not read

Any single-channel task can be read; one with several channels (brain tumour, prostate) is 4D and refused by name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from shapelab.data.cards import Card, Source, register
from shapelab.data.formats.nifti import is_nifti, stem
from shapelab.data.formats.text import read_json
from shapelab.data.reading import Case, Problem, Scan, scheme_of
from shapelab.data.scheme import HIPPOCAMPUS, LabelScheme
from shapelab.errors import DataError, UsageError, need

_TODO = "Restore dataset.json from the publisher's archive."
#: Names as the other readers give them.
_MODALITIES = {"MRI": "MR", "CT": "CT"}


def recognise(root: Path) -> bool:
    """Whether there is a dataset.json in `root`."""
    return (Path(root) / "dataset.json").is_file()


def recognise_hippocampus(root: Path) -> bool:
    """Whether a dataset.json in `root` calls itself the hippocampus task; where it cannot be read, the data set that
    is asked for says what is wrong with it."""
    if not recognise(root):
        return False
    try:
        return str(_description(Path(root)).get("name")).casefold() == "hippocampus"
    except DataError:
        return True


def scan(root: str | Path) -> Scan:
    """Read dataset.json and find the training pairs.

    The scheme has the integers and names of dataset.json. Facts of a subject: patient (its id), modality.

    Raises DataError: dataset.json cannot be read, or lacks what names the labels and the cases.
    """
    root = Path(root)
    file, content = root / "dataset.json", _description(root)
    for key, kind in (("labels", dict), ("training", list)):
        need(key in content, file, f"no key {key!r}", "the keys 'labels' and 'training'", _TODO)
        need(
            isinstance(content[key], kind) and content[key],
            file,
            f"{key} = {str(content[key])[:60]}",
            f"a {kind.__name__} that is not empty",
            _TODO,
        )
    found = Scan("decathlon", root, _scheme(file, content))
    channels = content.get("modality") or {}
    modality = next(iter(channels.values()), None) if isinstance(channels, dict) else None
    seen: set[str] = set()
    for entry in content["training"]:
        try:
            case = _case(file, entry, modality)
            need(case.id not in seen, file, f"the case {case.id!r} more than once", "each case once", _TODO)
        except DataError as error:
            found.problems.append(Problem("layout", error))
            continue
        seen.add(case.id)
        found.add(case, f"of {case.id!r}, listed in dataset.json")
    n = len(content["training"])
    if content.get("numTraining", n) != n:
        found.note(
            file,
            f"numTraining {content['numTraining']} and {n} training entries",
            "one number",
            "Has somebody removed cases? Correct numTraining.",
        )
    for path in sorted(root.glob("labelsTr/*")):
        if is_nifti(path) and stem(path) not in seen:
            found.note(
                path,
                "a label map that dataset.json does not list",
                "one entry each",
                "Add it to dataset.json, or remove it.",
            )
    return found


def scan_hippocampus(root: str | Path) -> Scan:
    """`scan` of task 4 with the scheme `HIPPOCAMPUS`; DataError if dataset.json gives the integers other meanings."""
    found = scan(root)
    first_words = [
        {s.value: s.name.casefold().partition(" ")[0] for s in scheme.structures}
        for scheme in (found.known_scheme, HIPPOCAMPUS)
    ]
    need(
        first_words[0] == first_words[1],
        found.root / "dataset.json",
        f"labels {dict(zip(found.known_scheme.values, found.known_scheme.names, strict=True))}",
        "1 Anterior, 2 Posterior",
        "If this is another Decathlon task, open it as 'decathlon'.",
    )
    return replace(found, name="hippocampus", scheme=HIPPOCAMPUS)


def _description(root: Path) -> dict:
    return read_json(root / "dataset.json", "the Decathlon's description of the task", _TODO)


def _scheme(file: Path, content: dict) -> LabelScheme:
    try:
        names = {int(value): str(name) for value, name in content["labels"].items()}
    except ValueError:
        raise DataError(
            file,
            f"labels {str(content['labels'])[:80]}",
            'integer -> name, as {"0": "background", ...}',
            "Turn the labels round if they are name -> integer (as nnU-Net writes them).",
        ) from None
    names.pop(0, None)
    try:
        return scheme_of(str(content.get("name", file.parent.name)), names)
    except UsageError as error:
        raise DataError(
            file, f"labels that make no scheme ({error})", "distinct names and integers above 0", _TODO
        ) from None


def _case(file: Path, entry: object, modality: object) -> Case:
    if not (isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("image", "label"))):
        raise DataError(
            file, f"the training entry {str(entry)[:80]}", "'image' and 'label', each a relative path", _TODO
        )
    for key in ("image", "label"):
        inside = PurePosixPath(entry[key])
        need(
            not inside.is_absolute() and ".." not in inside.parts,
            file,
            f"the path {entry[key]!r}",
            "a path inside the data set's folder",
            _TODO,
        )
    label = file.parent / entry["label"]
    need(is_nifti(label), file, f"the label {entry['label']!r}", "a .nii.gz or .nii file", _TODO)
    facts = {"patient": stem(label)} | ({"modality": _MODALITIES.get(str(modality), str(modality))} if modality else {})
    return Case(stem(label), label, file.parent / entry["image"], facts)


_PAPER = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022, "
    "doi:10.1038/s41467-022-30695-9"
)
_SHARED: dict[str, Any] = {"home": "http://medicaldecathlon.com", "licence": "CC BY-SA 4.0"}
# The SHA-256 is not the publisher's, who gives none. It was taken from public records of other projects that downloaded
# the archive independently and agree on it, on its size and on the MD5 that MONAI's ``DecathlonDataset`` verifies
# (9d24dba78a72977dbd1d2e110310f31b).
register(
    Card(
        "hippocampus",
        "Decathlon task 4: hippocampus in MR, 260 label maps",
        citation=f"{_PAPER}; Simpson et al., arXiv:1902.09063",
        layout="dataset.json, imagesTr/hippocampus_NNN.nii.gz and labelsTr/hippocampus_NNN.nii.gz",
        folder="Task04_Hippocampus",
        scheme=HIPPOCAMPUS,
        source=Source(
            "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
            "sha256:282d808a3e84e5a52f090d9dd4c0b0057b94a6bd51ad41569aef5ff303287771",
            28_425_216,
        ),
        recognise=recognise_hippocampus,
        scan=scan_hippocampus,
        **_SHARED,
    )
)
register(
    Card(
        "decathlon",
        "another Decathlon task of one channel",
        citation=_PAPER,
        layout="dataset.json, imagesTr/ and labelsTr/",
        recognise=recognise,
        scan=scan,
        **_SHARED,
    )
)
