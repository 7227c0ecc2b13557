"""The one place where a NIfTI file is read, so that every broken one ends in one kind of error.

`nibabel` corrects some headers as it loads them (a zero or negative voxel size becomes 1 or positive, a wrong voxel
offset becomes 352) and fails on others deep inside. Here the header's bytes are looked at as they stand, nothing
is corrected, and whatever is wrong is a `DataError` that names the file. nibabel only decodes the fields.

What a file must be: NIfTI-1 or NIfTI-2 in one file (``.nii`` or ``.nii.gz``), three axes of at least two voxels,
real numbers, voxel sizes above zero in mm that agree with the sform or qform, and as many voxels as the header says.
"""

from __future__ import annotations

import gzip
import math
import os
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from shapelab.data.geometry import MOST_SKEW, skew
from shapelab.data.scheme import LabelScheme
from shapelab.errors import DataError, need

#: Image and label are on one grid if no corner voxel moves by more than this share of the smallest voxel side.
GRID_TOLERANCE = 0.05
#: Voxel sizes of the header and lengths of the affine's columns agree to this share.
SPACING_TOLERANCE = 0.01
#: Deflate cannot shrink anything by more than 1032 : 1, so a header that claims more than this is wrong.
MOST_COMPRESSION = 1100
#: Label values are whole numbers to this share, and to half a step of a header that scales, if its step is small enough
#: to tell them: a program that saves floats as integers writes 3 as 255 steps of .01176, which reads as 2.99999999.
ROUNDED, LARGEST_STEP = 1e-6, 0.1
_HEADER_BYTES = 540  # NIfTI-2's; NIfTI-1 has 348
DAMAGED = "Copy or download the file again."
_LABELLED = "at least one labelled voxel"


@dataclass(frozen=True, eq=False)
class Header:
    """What the header of an image says, checked; of NIfTI and of `shapelab.data.formats.metaimage` alike.

    shape (X, Y, Z) voxels; spacing (3,) as in the file, mm unless its publisher says otherwise; affine (4, 4) voxel
    index -> RAS; dtype, offset, slope and inter are how the voxels are stored: value = stored * slope + inter.
    """

    file: Path
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: np.ndarray
    dtype: np.dtype
    offset: int = 0
    slope: float = 1.0
    inter: float = 0.0

    @property
    def n_bytes(self) -> int:
        """Bytes of the voxels, not compressed."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_nifti(path: Path) -> bool:
    """By name alone. The files macOS adds (``._x.nii.gz``) and other hidden ones are not."""
    return path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """File name without ``.nii`` or ``.nii.gz``."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def find_nifti(folder: Path, name: str) -> Path | None:
    """``folder/name.nii.gz`` or ``folder/name.nii``, whichever is there."""
    return next((p for p in (folder / f"{name}.nii.gz", folder / f"{name}.nii") if p.exists()), None)


def read_header(path: str | Path) -> Header:
    """Read and check the header alone; a few hundred bytes, so it is cheap.

    Raises DataError: no such file, not NIfTI, not three axes, voxel size or affine out of order, not in mm.
    """
    path = Path(path)
    return _parse(path, _content(path, _HEADER_BYTES)[0])


def read_image(path: str | Path) -> np.ndarray:
    """Intensities (X, Y, Z) float32, scaled by the header's slope and intercept.

    Raises DataError: as `read_header`; also truncated or damaged, and NaN or infinite voxels.
    """
    return checked_image(Path(path), _read(Path(path))[1])


def read_label(
    path: str | Path, scheme: LabelScheme | None = None, mapping: Mapping[int, int] | None = None
) -> np.ndarray:
    """Label map (X, Y, Z), uint8, or uint16 where integers over 255 are in use.

    Args:
        scheme: its integers are allowed; None allows any from 0 to 65535
        mapping: the file's integers -> the scheme's, see `LabelScheme.remap`

    Raises DataError: as `read_header`; also truncated or damaged, NaN, values that are not integers, negative,
    over 65535 or outside the scheme, and a label map that is background alone.
    """
    header, voxels = _read(Path(path))
    step = abs(header.slope)
    return checked_label(header.file, voxels, scheme, mapping, step if step <= LARGEST_STEP else 0.0)


def checked_image(file: Path, voxels: np.ndarray) -> np.ndarray:
    """Voxels as float32; DataError naming the file if one is NaN or infinite. Shared with
    `shapelab.data.formats.metaimage`."""
    with np.errstate(all="ignore"):  # what overflows becomes infinite and is reported below
        image = np.ascontiguousarray(voxels, dtype=np.float32)
    _check_finite(file, image)
    return image


def checked_label(
    file: Path,
    voxels: np.ndarray,
    scheme: LabelScheme | None = None,
    mapping: Mapping[int, int] | None = None,
    step: float = 0.0,
) -> np.ndarray:
    """Voxels as a label map, checked as `read_label` says. Shared with `shapelab.data.formats.metaimage`.

    `step` is of the header's scale, if it is small: values are whole numbers to half of it.
    """
    if voxels.dtype.kind == "f":  # fine as long as it holds integers, or what a header's scale made of them
        _check_finite(file, voxels)
        nearest = np.rint(voxels)
        broken = voxels[np.abs(voxels - nearest) > ROUNDED * np.maximum(np.abs(nearest), 1) + 0.501 * step]
        if len(broken):
            raise DataError(
                file,
                f"label values that are not integers, such as {broken[0]:.6g} ({len(broken)} voxels)",
                "integers",
                "Is this an image or a probability map? Resample label maps with nearest neighbour.",
            )
        voxels = nearest
    low, high = voxels.min(), voxels.max()
    need(
        0 <= low and high <= 65535,
        file,
        f"label value {int(low if low < 0 else high)}",
        "integers from 0 to 65535",
        "Is this the image rather than the label map?",
    )
    label = np.ascontiguousarray(voxels, dtype=np.uint8 if high < 256 else np.uint16)
    need(high, file, "an empty label map: every voxel is 0", _LABELLED, "Leave this subject out, or outline it.")
    return label if scheme is None else in_scheme(file, label, scheme, mapping)


def in_scheme(file: Path, label: np.ndarray, scheme: LabelScheme, mapping: Mapping[int, int] | None) -> np.ndarray:
    """A label map as its file has it, in integers of the scheme; DataError naming the file where they are others."""
    if mapping is None:
        scheme.check(label, file)
        return label
    label = scheme.remap(label, mapping, file)
    need(label.any(), file, "an empty label map: the mapping takes every voxel to 0", _LABELLED, "Check the mapping.")
    return label


def check_same_grid(label: Header, image: Header) -> None:
    """Raise DataError unless image and label have one shape and one affine (to `GRID_TOLERANCE` of a voxel)."""
    todo = "Resample one onto the other's grid, or find the pair that belongs together."
    found, expected = f"a label map of {_by(label.shape)} voxels", f"{_by(image.shape)}, as its image {image.file.name}"
    need(label.shape == image.shape, label.file, found, f"{expected} has", todo)
    moved, allowed = _apart(label.affine, image.affine, label.shape), GRID_TOLERANCE * min(image.spacing)
    need(
        moved <= allowed,
        label.file,
        f"a label map whose affine puts a corner {moved:.3g} mm from where its image {image.file.name} has it",
        f"one affine for both (to {allowed:.2g} mm)",
        todo,
    )


def _check_finite(file: Path, array: np.ndarray) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        what = "NaN" if np.isnan(array[first]) else "infinite"
        raise DataError(
            file,
            f"{int((~finite).sum())} voxel(s) that are not finite, the first ({what}) at {first}",
            "finite numbers",
            "Find out where they come from and write the file again.",
        )


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(int(n)) for n in shape)


def need_file(path: Path, what: str) -> None:
    """DataError unless there is a file at `path`; what: "a NIfTI file", or what else it should be."""
    need(
        path.is_file(),
        path,
        "a folder" if path.is_dir() else "no such file",
        what,
        "Check the path; was the archive unpacked completely?",
    )


def cannot_be_read(path: Path, error: OSError) -> DataError:
    """The error for a file that the system does not give."""
    return DataError(
        path,
        f"a file that cannot be read ({error.strerror or error})",
        "a readable file",
        "Check the permissions and the disk.",
    )


def _content(path: Path, most: int) -> tuple[bytes, int]:
    """At most so many of the uncompressed bytes of a ``.nii`` or ``.nii.gz``, and the size of the file.

    Every failure on the way is a DataError. Where `most` is more than there is, the checksum is checked, too.
    """
    need_file(path, "a NIfTI file")
    try:
        with open(path, "rb") as file:
            begins = file.read(24)
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            need(begins, path, "an empty file (0 bytes)", "a NIfTI file", DAMAGED)
            zipped = begins[:2] == b"\x1f\x8b"
            need(
                zipped == (path.suffix == ".gz"),
                path,
                ("gzip content" if zipped else f"no gzip content (it begins with {begins!r})"),
                "plain NIfTI in a .nii, gzip in a .nii.gz",
                ("Give it the right name." if zipped else f"{DAMAGED} A text there is often an error page."),
            )
            return (gzip.GzipFile(fileobj=file) if zipped else file).read(most), size
    except EOFError:
        raise DataError(
            path, f"a truncated gzip file ({path.stat().st_size} bytes)", "a complete one", DAMAGED
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(path, f"a damaged gzip file ({error})", "an intact one", DAMAGED) from None
    except OSError as error:
        raise cannot_be_read(path, error) from None


def _read(path: Path) -> tuple[Header, np.ndarray]:
    """Header, and voxels (X, Y, Z), scaled; as stored if there is nothing to scale. The file is read to its end."""
    head, size = _content(path, _HEADER_BYTES)
    header = _parse(path, head)
    wanted = header.offset + header.n_bytes
    need(
        wanted <= MOST_COMPRESSION * size,
        path,
        f"a header that announces {wanted} bytes in a file of {size}",
        "as many voxels as the header says",
        DAMAGED,
    )
    content = _content(path, wanted + 1)[0]
    need(
        len(content) >= wanted,
        path,
        f"a truncated file: {max(len(content) - header.offset, 0)} bytes of voxels",
        f"{header.n_bytes}, for {_by(header.shape)} voxels of {header.dtype}",
        DAMAGED,
    )
    need(
        len(content) == wanted,
        path,
        "bytes after the last voxel",
        f"{_by(header.shape)} voxels and nothing more",
        "The shape in the header is not that of the array; write the file again.",
    )
    voxels = np.frombuffer(content, header.dtype, offset=header.offset).reshape(header.shape, order="F")
    voxels = voxels.astype(header.dtype.newbyteorder("="), order="C")
    if header.slope == 1 and header.inter == 0:
        return header, voxels
    with np.errstate(all="ignore"):
        return header, voxels * np.float64(header.slope) + header.inter


def _parse(path: Path, head: bytes) -> Header:
    raw = _decode(path, head)
    shape = _shape(path, raw)
    try:
        dtype = raw.get_data_dtype()
    except (HeaderDataError, KeyError):
        dtype = None
    need(
        dtype is not None and dtype.kind in "iuf",
        path,
        f"voxels of type {dtype or 'code ' + str(int(raw['datatype']))}",
        "real numbers",
        "Convert the file; colour and complex images are not read.",
    )
    spacing = _spacing(path, raw)
    affine = _affine(path, raw, spacing)
    offset, least = float(raw["vox_offset"]), len(raw.binaryblock) + 4  # 4 bytes say whether extensions follow
    need(
        np.isfinite(offset) and offset >= least and offset == int(offset),
        path,
        f"voxels that start at byte {offset:g}",
        f"at byte {least} or later",
        DAMAGED,
    )
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if np.isnan(slope) or slope == 0:  # the standard's and nibabel's way to say: not scaled
        slope, inter = 1.0, 0.0
    need(
        np.isfinite([slope, inter]).all(),
        path,
        f"scl_slope {slope:g} and scl_inter {inter:g} in the header",
        "finite numbers",
        DAMAGED,
    )
    return Header(path, shape, spacing, affine, dtype, int(offset), slope, inter)


def _decode(path: Path, head: bytes) -> Nifti1Header:
    """Header object from the bytes as they stand (``check=False``: nibabel must not correct them)."""
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    for size, kind, magic in ((348, Nifti1Header, b"n+1"), (540, Nifti2Header, b"n+2")):
        if size not in sizes:
            continue
        need(len(head) >= size, path, f"a truncated file: {len(head)} bytes of header", f"{size}", DAMAGED)
        order = "<" if int.from_bytes(head[:4], "little") == size else ">"
        raw = kind(head[:size], endianness=order, check=False)
        found = bytes(raw["magic"])[:3]
        if found == magic:
            return raw
        need(
            found not in (b"ni1", b"ni2"),
            path,
            "a header whose voxels are in a second file (.img)",
            "header and voxels in one file",
            "Convert the pair with nibabel or dcm2niix.",
        )
    raise DataError(
        path,
        f"no NIfTI header (it begins with {head[:16]!r})",
        "a NIfTI-1 or NIfTI-2 file",
        "Convert the file to NIfTI, or download it again.",
    )


def _shape(path: Path, raw: Nifti1Header) -> tuple[int, int, int]:
    n = int(raw["dim"][0])
    need(1 <= n <= 7, path, f"{n} axes in the header", "3", DAMAGED)
    shape = tuple(int(k) for k in raw["dim"][1 : n + 1])
    need(min(shape) >= 1, path, f"an array of {_by(shape)} voxels", "at least two along each of three axes", DAMAGED)
    need(
        n <= 3,
        path,
        f"a {n}D array, {_by(shape)}",
        "three axes (X, Y, Z)",
        (
            "Drop the last axis, for instance with nibabel.squeeze_image."
            if set(shape[3:]) == {1}
            else "Give one time point or one channel; a cine (4D) is not a label map or a single image."
        ),
    )
    need(
        n == 3 and min(shape) > 1,
        path,
        f"a {'2D' if n == 3 else f'{n}D'} array, {_by(shape)}",
        "three axes (X, Y, Z) of at least two voxels",
        "Stack the slices into one volume.",
    )
    x, y, z = shape
    return x, y, z


def _spacing(path: Path, raw: Nifti1Header) -> tuple[float, float, float]:
    x, y, z = spacing = tuple(float(s) for s in raw["pixdim"][1:4])
    need(
        np.isfinite(spacing).all() and min(spacing) > 0,
        path,
        f"voxel size {' x '.join(f'{s:g}' for s in spacing)} in the header",
        "three sizes above zero, in mm",
        "Write the file again with the scan's voxel size.",
    )
    unit = {1: "metre", 3: "micrometre"}.get(int(raw["xyzt_units"]) & 7)
    need(unit is None, path, f"voxel sizes in {unit}", "mm", "Write the file again in mm.")
    return x, y, z


def _affine(path: Path, raw: Nifti1Header, spacing: tuple[float, float, float]) -> np.ndarray:
    """The sform, else the qform, else (as the standard's method 1 has it) the voxel sizes alone; checked against these.

    Warns where nothing says how the axes lie, and where sform and qform say two things.
    """
    forms = [name for name in ("sform", "qform") if int(raw[f"{name}_code"]) > 0]
    code = forms[0] if forms else "header"
    todo = "Write the file again with the scan's affine."
    with np.errstate(all="ignore"):  # numbers from a damaged header may overflow on the way to the check
        try:
            affine = np.asarray(raw.get_best_affine() if forms else np.diag([*spacing, 1.0]), dtype=np.float64)
        except (HeaderDataError, ValueError, np.linalg.LinAlgError):
            raise DataError(path, "a qform that is not a rotation", "a unit quaternion", todo) from None
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        invertible = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-6 * lengths.prod()
        off = np.abs(lengths / spacing - 1).max()
    need(
        invertible,
        path,
        f"an affine ({code}) that cannot be inverted: {affine[:3].tolist()}",
        "an invertible one, in mm",
        todo,
    )
    lean = skew(affine)
    need(
        lean <= MOST_SKEW,
        path,
        f"an affine ({code}) whose axes are not at right angles ({np.degrees(np.arccos(lean)):.1f} degrees)",
        "axes at right angles: voxels are boxes here, and volumes and distances would be wrong",
        "Resample the volume onto axes at right angles (a tilted gantry: dcm2niix does it), or mend the affine.",
    )
    sizes = [" x ".join(f"{s:.4g}" for s in v) for v in (lengths, spacing)]
    need(
        off <= SPACING_TOLERANCE,
        path,
        f"an affine ({code}) with voxels of {sizes[0]} mm",
        f"{sizes[1]} mm, as the header's voxel size says",
        todo,
    )
    if not forms:
        warnings.warn(
            f"{path}: found no sform and no qform; expected one that says how the axes lie. Taken: first axis to the "
            "right, second to the front, third upwards.",
            stacklevel=4,
        )
    elif len(forms) == 2 and (apart := _apart(affine, _qform(raw), _shape(path, raw))) > GRID_TOLERANCE * min(spacing):
        warnings.warn(
            f"{path}: found an sform (code {int(raw['sform_code'])}) and a qform (code {int(raw['qform_code'])}) that "
            f"put a corner {apart:.3g} mm apart; expected one place. Taken: the sform, as nibabel and ITK do.",
            stacklevel=4,
        )
    return affine


def _qform(raw: Nifti1Header) -> np.ndarray:
    """The qform beside an sform; NaN, which is apart from nothing, where it is broken and nobody needs it."""
    with np.errstate(all="ignore"):
        try:
            return np.asarray(raw.get_qform(), dtype=np.float64)
        except (HeaderDataError, ValueError, np.linalg.LinAlgError):
            return np.full((4, 4), np.nan)


def _apart(affine: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """How far (mm) two affines put a corner voxel of an array from each other, at most."""
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    difference = affine - other
    return float(np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1).max())
