"""The refinement of a cohort: many subjects at a time, each written as soon as it is done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from shapelab.atlas.atlas import Atlas, arrays_of
from shapelab.atlas.frame import Frame
from shapelab.atlas.pipeline import Refinement, RefinementSettings, refine
from shapelab.data.orientation import canonical
from shapelab.data.subject import Subject
from shapelab.errors import DataError, must, need, one_of
from shapelab.files import atomic_write, write_json
from shapelab.training.identity import fingerprint

#: What else a key says of the atlases (images, landmarks): reports of an earlier shapelab lack it, and what was given.
YOUNGER = "whole atlases"

if TYPE_CHECKING:
    from nibabel import Nifti1Image


def refine_cohort(
    subjects: Iterable[Subject],
    atlases: Sequence[Atlas],
    folder: str | Path,
    n_jobs: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    overwrite: bool = False,
    images: bool = True,
    settings: RefinementSettings | None = None,
) -> pd.DataFrame:
    """Refine every subject of a cohort and write each result into a folder.

    ``ID.nii.gz`` is the refined label map, in mm of the subject's affine; ``ID.json`` says how it came about and is
    written last: a subject that has both is done, and is left alone when the same call is made again. Only one
    subject a job is in memory, and nothing but a row of the table is returned.

    Args:
        subjects: a Cohort or any subjects; landmarks where they have them (see `shapelab.data.landmarks`)
        atlases: high-resolution hearts of the same scheme
        folder: where results go; on a cluster one that all hosts see
        n_jobs: of joblib; None takes what ``joblib.parallel_config`` says, as in ``parallel_config(backend="dask")``
        on_error: "raise": the first subject that fails stops all, named. "skip": the others go on, the row says why
        overwrite: do again what is done already
        images: use the subjects' images, where they have one
        settings: of `refine`

    Returns:
        DataFrame, a row a subject (index `subject`, in their order); state ("refined", "kept" from an earlier call,
        "failed"), error, file, atlases, landmarks, fusion, nmi (of the best atlas), min_jacobian, folded, seconds,
        doubts (slices that nobody annotated, a result far from what was given, see `Refinement.doubts`; "" without
        any), and "dice X" of each structure: the agreement with the given label on its own slices

    Raises:
        DataError: naming the subject that failed, with on_error "raise"; two subjects of one id
        UsageError: a folder that holds results of other settings, atlases or hearts; ids that are no file names
    """
    one_of("on_error", on_error, ("raise", "skip"))
    folder, subjects, settings = Path(folder), list(subjects), settings or RefinementSettings()
    ids = [s.id for s in subjects]
    odd = [name for name in ids if not name or Path(name).name != name or name.startswith(".")]
    must(not odd, "refine_cohort", f"the ids {odd[:5]}", "some that can be file names")
    need(
        len(set(ids)) == len(ids),
        "refine_cohort",
        f"{len(ids) - len(set(ids))} ids more than once",
        "a distinct id each",
    )
    key = _key(atlases, settings, images)
    done = {} if overwrite else {s.id: row for s in subjects if (row := _done(folder, s, key)) is not None}
    jobs = [s for s in subjects if s.id not in done]
    fixed = list(atlases), folder, on_error, images, key, settings
    rows = Parallel(n_jobs=n_jobs)(delayed(_one)(s, *fixed) for s in jobs)
    found = {**done, **dict(zip([s.id for s in jobs], rows))}
    return pd.DataFrame([found[name] for name in ids], index=pd.Index(ids, name="subject", dtype=object))


def write_refinement(file: str | Path, result: Refinement, affine: np.ndarray, axes: np.ndarray | None = None) -> None:
    """Write a refined label map as NIfTI (``.nii`` or ``.nii.gz``), whole or not at all.

    Args:
        affine: (4, 4) of the target, voxel index -> mm: the refined voxels lie in the same mm
        axes: see `refinement_image`
    """
    import nibabel

    with atomic_write(file) as temporary:
        nibabel.save(refinement_image(result, affine, axes), temporary)


def refinement_image(result: Refinement, affine: np.ndarray, axes: np.ndarray | None = None) -> Nifti1Image:
    """A refined label map as a nibabel image in the mm of the target.

    Args:
        affine: (4, 4) of the target, voxel index -> mm
        axes: (3, 2) as nibabel's orientations have it: where each of the target's axes goes, 1 or -1 its direction, for
            a target whose axes were put in another order; default: they stay
    """
    import nibabel

    # mm along the target's axes -> its voxel index -> mm of its affine
    matrix = np.asarray(affine) @ np.diag([*(1 / np.array(result.target_frame.spacing)), 1.0]) @ result.frame.matrix
    image = nibabel.Nifti1Image(np.ascontiguousarray(result.label), matrix)
    image = image if axes is None else image.as_reoriented(axes)
    image.header.set_xyzt_units("mm")
    return image


def read_refinement(file: str | Path, affine: np.ndarray) -> tuple[np.ndarray, Frame]:
    """What `write_refinement` wrote: the label map and its frame, in mm of the target.

    Args:
        affine: (4, 4) of the target, as it was written with

    Raises DataError: a file that cannot be read, or whose voxels do not lie along those of the target.
    """
    import nibabel

    try:
        image = nibabel.Nifti1Image.from_filename(file)
        label = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(file, f"a file that cannot be read ({error})", "a refined label map") from None
    affine = np.asarray(affine, np.float64)
    matrix = np.diag([*np.linalg.norm(affine[:3, :3], axis=0), 1.0]) @ np.linalg.inv(affine) @ image.affine
    along = np.diag(matrix)[:3]
    need(
        label.ndim == 3 and np.allclose(matrix[:3, :3], np.diag(along), atol=1e-3) and (along > 0).all(),
        file,
        f"voxels at {matrix[:3].round(3).tolist()} of the target's mm",
        "axes along the target's",
    )
    # the header keeps single precision: spacing and multiples of it are rounded back
    spacing = np.round(along, 4)
    return label, Frame(label.shape, spacing, np.round(matrix[:3, 3] / spacing) * spacing)


def _one(
    subject: Subject,
    atlases: Sequence[Atlas],
    folder: Path,
    on_error: str,
    images: bool,
    key: str,
    settings: RefinementSettings,
) -> dict[str, Any]:
    """Read, refine, write one subject; its row."""
    try:
        upright, turn = canonical(subject, from_base=True)
        label, image, spacing, landmarks = arrays_of(upright)
        result = refine(
            label, image if images else None, landmarks, atlases, spacing, subject.scheme, settings, threads=1
        )
        file = folder / f"{subject.id}.nii.gz"
        write_refinement(file, result, upright.affine, turn.inverse)
        row = {
            "state": "refined",
            "error": "",
            "file": file.name,
            "atlases": " ".join(a.id for a in result.atlases),
            "landmarks": result.landmarks,
            "fusion": result.fusion,
            "nmi": round(float(result.scores.max()), 4),
            "min_jacobian": round(result.min_jacobian, 4),
            "folded": result.folded,
            "seconds": round(sum(result.seconds.values()), 2),
            "doubts": " ".join(result.doubts(subject.where, turn.slices_in_file(result.unseen))),
            **{f"dice {name}": round(float(v), 4) for name, v in result.agreement().items()},
        }
        write_json({"settings": key, "given": _given(subject), **row}, folder / f"{subject.id}.json")
        return row
    except Exception as error:  # whatever it is, the message says which subject it was
        said = f"{type(error).__name__}: {error}"
        if on_error == "raise":
            raise DataError(
                f"subject {subject.id}",
                said,
                "a subject that can be refined",
                "Correct it, or leave such subjects out with on_error='skip'.",
            ) from error
        return {"state": "failed", "error": said}


def _key(atlases: Sequence[Atlas], settings: RefinementSettings, images: bool) -> str:
    """What a result depends on besides its subject, as text: the atlases, the deformation, and what is not as usual."""
    digest = hashlib.blake2b(digest_size=8)
    for a in atlases:
        digest.update(f"{a.id} {a.label.shape} {a.spacing} {a.image is None}".encode())
        digest.update(np.ascontiguousarray(a.label).data)
    found = {"atlases": digest.hexdigest(), "images": images, **dataclasses.asdict(settings)}
    found[YOUNGER] = _digest(list(atlases))
    return json.dumps(_unusual(found), sort_keys=True)


def _unusual(settings: dict[str, Any]) -> dict[str, Any]:
    """What is not as usual, as JSON holds it; the deformation is always reported."""
    given, usual = json.loads(json.dumps((settings, dataclasses.asdict(RefinementSettings()))))
    return {name: value for name, value in given.items() if name == "ffd" or value != usual.get(name)}


def _digest(thing: Any) -> str:
    """A short text that is another for another thing."""
    return hashlib.blake2b(json.dumps(fingerprint(thing)).encode(), digest_size=8).hexdigest()


def _given(subject: Subject) -> str:
    """What a result depends on of its subject."""
    return _digest({"affine": subject.affine, "arrays": arrays_of(subject)})


def _done(folder: Path, subject: Subject, key: str) -> dict[str, Any] | None:
    """The row of a subject that an earlier call has refined; None if there is none."""
    report, label = folder / f"{subject.id}.json", folder / f"{subject.id}.nii.gz"
    if not (report.is_file() and label.is_file()):
        return None
    try:
        row = json.loads(report.read_text())
        there, wanted = _unusual(json.loads(row.pop("settings"))), json.loads(key)
        there.setdefault(YOUNGER, wanted[YOUNGER])
        given = row.pop("given", None)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DataError(
            report,
            "a report that cannot be read",
            "JSON as refine_cohort writes it",
            "Delete it: the subject is then refined again.",
        ) from None
    todo = "an empty folder, or overwrite=True"
    must(there == wanted, "folder", f"{report}, made with other settings or atlases", todo)
    same = given is None or given == _given(subject)
    must(same, "folder", f"{report}, made from another label map, image or place of {subject.id}", todo)
    return {**row, "state": "kept"}
