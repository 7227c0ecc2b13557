"""Reader of the Medical Segmentation Decathlon's tasks (Antonelli et al., Nature Communications 13:4128, 2022).

Layout::

    Task04_Hippocampus/dataset.json         labels {"0": "background", "1": "Anterior", ...}, training: image + label
                       imagesTr/hippocampus_001.nii.gz
                       labelsTr/hippocampus_001.nii.gz
                       imagesTs/...         without labels; not read

Any single-channel task can be read; one with several channels (brain tumour, prostate) is 4D and refused by name.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from shapelab.data.formats.nifti import is_nifti, stem
from shapelab.data.reading import OKABE_ITO, Case, Problem, Scan
from shapelab.data.scheme import HIPPOCAMPUS, LabelScheme, Structure
from shapelab.errors import DataError, UsageError

_TODO = "Restore dataset.json from the publisher's archive."
#: Names as the other readers give them.
_MODALITIES = {"MRI": "MR", "CT": "CT"}


def recognise(root: Path) -> bool:
    """Whether there is a dataset.json in `root`."""
    return (Path(root) / "dataset.json").is_file()


def is_hippocampus(root: Path) -> bool:
    """Whether the dataset.json in `root` calls itself the hippocampus task; False if it cannot be read."""
    try:
        return str(_read_json(Path(root) / "dataset.json").get("name")).casefold() == "hippocampus"
    except DataError:
        return Path(root).name.endswith("_Hippocampus")


def scan(root: str | Path) -> Scan:
    """Read dataset.json and find the training pairs.

    The scheme has the integers and names of dataset.json. Facts of a subject: patient (its id), modality.

    Raises DataError: dataset.json cannot be read, or lacks what names the labels and the cases.
    """
    root = Path(root)
    file = root / "dataset.json"
    content = _read_json(file)
    for key, kind in (("labels", dict), ("training", list)):
        if key not in content:
            raise DataError(file, f"no key {key!r}", "the keys 'labels' and 'training'", _TODO)
        if not isinstance(content[key], kind) or not content[key]:
            raise DataError(file, f"{key} = {str(content[key])[:60]}", f"a {kind.__name__} that is not empty", _TODO)
    scheme = _scheme(file, content)
    channels = content.get("modality") or {}
    modality = next(iter(channels.values()), None) if isinstance(channels, dict) else None
    cases, problems, seen = [], [], set()
    for entry in content["training"]:
        try:
            case = _case(file, entry, modality)
            if case.id in seen:
                raise DataError(file, f"the case {case.id!r} more than once", "each case once", _TODO)
        except DataError as error:
            problems.append(Problem("layout", error))
            continue
        seen.add(case.id)
        wrong = [
            Problem(
                "layout",
                DataError(
                    path,
                    "no such file",
                    f"the {what} of {case.id!r}, listed in dataset.json",
                    "Unpack the publisher's archive again.",
                ),
            )
            for what, path in (("label map", case.label), ("image", case.image))
            if not path.is_file()
        ]
        problems += wrong
        if not wrong:
            cases.append(case)
    return Scan("decathlon", root, scheme, tuple(cases), tuple(problems), tuple(_notes(root, content, seen)))


def scan_hippocampus(root: str | Path) -> Scan:
    """`scan` of task 4 with the scheme `HIPPOCAMPUS`; DataError if dataset.json gives the integers other meanings."""
    found = scan(root)
    names = {s.value: s.name.casefold() for s in found.scheme.structures}
    if names.keys() != set(HIPPOCAMPUS.values) or not all(
        s.name.startswith(names[s.value].split()[0]) for s in HIPPOCAMPUS.structures
    ):
        raise DataError(
            found.root / "dataset.json",
            f"labels {names}",
            "1 Anterior, 2 Posterior",
            "If this is another Decathlon task, open it as 'decathlon'.",
        )
    return Scan("hippocampus", found.root, HIPPOCAMPUS, found.cases, found.problems, found.notes)


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(file, "no such file", "the Decathlon's description of the task", _TODO) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(file, f"a file that cannot be read as text ({error})", "JSON", _TODO) from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(file, f"no valid JSON ({error})", "JSON", _TODO) from None
    if not isinstance(content, dict):
        raise DataError(file, f"a JSON {type(content).__name__}", "a JSON object", _TODO)
    return content


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
        return LabelScheme(
            str(content.get("name", file.parent.name)),
            tuple(
                Structure(value, name, OKABE_ITO[i % len(OKABE_ITO)])
                for i, (value, name) in enumerate(sorted(names.items()))
            ),
        )
    except UsageError as error:
        raise DataError(
            file, f"labels that make no scheme ({error})", "distinct names and integers above 0", _TODO
        ) from None


def _case(file: Path, entry: object, modality: object) -> Case:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
        raise DataError(
            file, f"the training entry {str(entry)[:80]}", "'image' and 'label', each a relative path", _TODO
        )
    paths = {}
    for key in ("image", "label"):
        inside = PurePosixPath(entry[key])
        if inside.is_absolute() or ".." in inside.parts:
            raise DataError(file, f"the path {entry[key]!r}", "a path inside the data set's folder", _TODO)
        paths[key] = file.parent / inside
    if not is_nifti(paths["label"]):
        raise DataError(file, f"the label {entry['label']!r}", "a .nii.gz or .nii file", _TODO)
    name = stem(paths["label"])
    facts = {"patient": name} | ({"modality": _MODALITIES.get(str(modality), str(modality))} if modality else {})
    return Case(name, paths["label"], paths["image"], facts)


def _notes(root: Path, content: dict, listed: set[str]) -> list[Problem]:
    """For the doctor: a count that does not fit, label maps that nobody lists."""
    notes = []
    file, n = root / "dataset.json", len(content["training"])
    if content.get("numTraining", n) != n:
        notes.append(
            Problem(
                "layout",
                DataError(
                    file,
                    f"numTraining {content['numTraining']} and {n} training entries",
                    "one number",
                    "Has somebody removed cases? Correct numTraining.",
                ),
            )
        )
    folder = root / "labelsTr"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_nifti(path) and stem(path) not in listed:
            notes.append(
                Problem(
                    "layout",
                    DataError(
                        path,
                        "a label map that dataset.json does not list",
                        "one entry each",
                        "Add it to dataset.json, or remove it.",
                    ),
                )
            )
    return notes
