"""The files that `shapelab predict` and `shapelab refine` write: their names, checked beforehand, and label maps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from shapelab.data.formats.nifti import is_nifti, stem
from shapelab.errors import must
from shapelab.files import atomic_write

if TYPE_CHECKING:
    from nibabel.filebasedimages import FileBasedImage


def beside(path: Path, ending: str) -> Path:
    """``o.nii.gz``, ``_es.nii.gz`` -> ``o_es.nii.gz``: in the same folder, another ending."""
    return path.with_name(stem(path) + ending)


def save_nifti(image: FileBasedImage, file: Path) -> None:
    """Write a nibabel image; whole or not at all."""
    import nibabel

    with atomic_write(file) as temporary:
        nibabel.save(image, temporary)


def check_outputs(outputs: list[Path], beside: list[Path], inputs: list[Path], force: bool) -> None:
    """UsageError unless the outputs are NIfTI names, distinct, no inputs, in a folder that can be written, and new (or
    `force`); `beside` are the names of what is written with them."""
    for path in outputs:
        must(is_nifti(path), "output", repr(str(path)), "a name that ends in .nii or .nii.gz")
    for path in (*outputs, *beside):
        must(
            path.resolve() not in [s.resolve() for s in inputs],
            "output",
            f"{str(path)!r}, which is an input",
            "another name",
        )
        # a folder that is not there is made; the nearest one that is there must let us
        above = next(p for p in path.absolute().parents if p.exists())
        must(
            above.is_dir() and os.access(above, os.W_OK),
            "output",
            f"{str(path)!r} below {str(above)!r}, where nothing can be written",
            "a folder of your own",
        )
    must(
        len({p.resolve() for p in outputs}) == len(outputs),
        "output",
        f"{str(outputs[0])!r} for ED and ES",
        "two names",
    )
    there = [str(p) for p in (*outputs, *beside) if p.exists()]
    must(
        force or not there,
        "output",
        f"{', '.join(there)} already there",
        "a new name, or leave to overwrite (--force)",
    )
