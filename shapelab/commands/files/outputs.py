"""The files that `shapelab predict` and `shapelab refine` write: their names, checked beforehand, and label maps."""

from __future__ import annotations

import os
from pathlib import Path

from shapelab.data.formats.nifti import is_nifti, stem
from shapelab.errors import UsageError
from shapelab.files import atomic_write


def beside(path: Path, ending: str) -> Path:
    """``o.nii.gz``, ``_es.nii.gz`` -> ``o_es.nii.gz``: in the same folder, another ending."""
    return path.with_name(stem(path) + ending)


def save_nifti(image, file: Path) -> None:
    """Write a nibabel image; whole or not at all."""
    import nibabel

    with atomic_write(file) as temporary:
        nibabel.save(image, temporary)


def check_outputs(outputs: list[Path], beside: list[Path], inputs: list[Path], force: bool) -> None:
    """UsageError unless the outputs are NIfTI names, distinct, no inputs, in a folder that can be written, and new (or
    `force`); `beside` are the names of what is written with them."""
    for path in outputs:
        if not is_nifti(path):
            raise UsageError(f"output: found {str(path)!r}; expected a name that ends in .nii or .nii.gz")
    for path in (*outputs, *beside):
        if any(path.resolve() == s.resolve() for s in inputs):
            raise UsageError(f"output: found {str(path)!r}, which is an input; expected another name")
        # a folder that is not there is made; the nearest one that is there must let us
        above = next(p for p in path.absolute().parents if p.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise UsageError(
                f"output: found {str(path)!r} below {str(above)!r}, where nothing can be written; "
                "expected a folder of your own"
            )
    if len({p.resolve() for p in outputs}) != len(outputs):
        raise UsageError(f"output: found {str(outputs[0])!r} for ED and ES; expected two names")
    there = [str(p) for p in (*outputs, *beside) if p.exists()]
    if there and not force:
        raise UsageError(
            f"output: found {', '.join(there)} already there; expected a new name, or leave to overwrite (--force)"
        )
