"""The files that `shapelab predict` and `shapelab refine` write: their names, checked beforehand, and label maps."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from shapelab.data.formats.nifti import is_nifti, stem
from shapelab.errors import must
from shapelab.files import atomic_write, write_json
from shapelab.show.style import Picture, png_bytes

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from nibabel.filebasedimages import FileBasedImage

T = TypeVar("T")


def beside(path: Path, ending: str) -> Path:
    """``o.nii.gz``, ``_es.nii.gz`` -> ``o_es.nii.gz``: in the same folder, another ending."""
    return path.with_name(stem(path) + ending)


def save_nifti(image: FileBasedImage, file: Path) -> None:
    """Write a nibabel image; whole or not at all."""
    import nibabel

    with atomic_write(file) as temporary:
        nibabel.save(image, temporary)


def as_the_scan(scan: Path, label: np.ndarray) -> Nifti1Image:
    """The label map as an image with the scan's header: affine, codes, units, description stay, numbers are uint8."""
    import nibabel

    source = nibabel.load(scan)
    assert isinstance(source, nibabel.Nifti1Image)  # it was read before
    header = source.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0  # the window of the image means nothing for a label map
    return source.__class__(np.ascontiguousarray(label, dtype=np.uint8), None, header)


def listened(read: Callable[[], T]) -> tuple[T, list[str]]:
    """What a network makes of a scan, and what it warns of meanwhile: that belongs in the report. Each once."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        made = read()
    return made, list(dict.fromkeys(str(warning.message).rstrip(".") for warning in said))


def write_report(found: dict[str, Any], drawn: Picture, output: Path) -> None:
    """Write the picture and what is told of a segmentation beside its label map; its warnings are given as well."""
    picture = beside(output, ".png")
    with atomic_write(picture) as temporary:
        temporary.write_bytes(png_bytes(drawn))
    write_json(found, beside(output, ".json"))
    if found["warnings"]:
        listed = "; ".join(found["warnings"])
        todo = f"Look at {picture} before you use the result."
        warnings.warn(f"{found['scan']}: found {listed}; expected a heart that can be. {todo}", stacklevel=3)


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
