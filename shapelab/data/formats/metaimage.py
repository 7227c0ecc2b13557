"""Reader of MetaImage (ITK's ``.mhd`` with its ``.raw`` or ``.zraw``, and ``.mha``), safe for files of strangers.

The counterpart of `shapelab.data.formats.nifti`: `read_header`, `read_image` and `read_label` with the same checks and
the same kind of error. What a file must be: an image of three axes, one channel of numbers, binary voxels
(zlib-compressed or not) in the same file (LOCAL) or in one file of the same folder, exactly as many as the header says.
A list or a pattern of files, a path that leaves the folder, text voxels and colour are refused by name.

Orientation. ITK counts millimetres towards the patient's left, posterior and superior (LPS); the affine here is
nibabel's, towards right, anterior and superior (RAS): its first two rows change sign. So a MetaImage reads as the NIfTI
file that ITK makes of it would. The array is never turned: axis k is the k-th of DimSize. ``TransformMatrix`` holds,
one after another, the direction of each axis (the columns of the direction matrix, as ITK reads it).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shapelab.data.formats.nifti import checked_image, checked_label
from shapelab.data.scheme import LabelScheme
from shapelab.errors import DataError

#: ITK's names of element types that are read.
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
SUFFIXES = (".mhd", ".mha")
MOST_HEADER = 64 * 1024  # bytes; a header has some twenty lines
MOST_VOXELS = 2**31  # 1290 x 1290 x 1290
_DAMAGED = "Copy or download the file again."
_DIRECTION = ("TransformMatrix", "Orientation", "Rotation")
_ORIGIN = ("Offset", "Position", "Origin")


@dataclass(frozen=True, eq=False)
class MetaHeader:
    """What a MetaImage header says, checked.

    shape (X, Y, Z) voxels; spacing (3,) as in the file, mm unless its publisher says otherwise; affine (4, 4) voxel
    index -> RAS; dtype of the stored voxels with their byte order; data the file that holds them, from byte `offset`
    """

    file: Path
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: np.ndarray
    dtype: np.dtype
    compressed: bool
    data: Path
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the voxels, not compressed."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_metaimage(path: Path) -> bool:
    """By name alone; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_header(path: str | Path) -> MetaHeader:
    """Read and check the header alone.

    Raises DataError: no such file, not a MetaImage, a key that is missing, out of order, or not supported; voxels
    elsewhere than in this folder.
    """
    path = Path(path)
    keys, end = _keys(path)
    _check_kind(path, keys)
    shape = tuple(_numbers(path, keys, ("DimSize",), 3, whole=True))
    if min(shape) < 2 or math.prod(shape) > MOST_VOXELS:
        raise DataError(
            path, f"DimSize {keys['DimSize']}", f"three sizes from 2, at most {MOST_VOXELS} voxels in all", _DAMAGED
        )
    name = "ElementSpacing" if "ElementSpacing" in keys else "ElementSize"
    spacing = tuple(_numbers(path, keys, (name,), 3))
    if min(spacing) <= 0:
        raise DataError(path, f"{name} {keys[name]}", "three sizes above zero", "Write the file again.")
    kind = keys.get("ElementType", "")
    if kind not in TYPES:
        raise DataError(path, f"ElementType {kind!r}", f"one of {', '.join(TYPES)}", "Convert the file.")
    msb = _boolean(path, keys, "BinaryDataByteOrderMSB", _boolean(path, keys, "ElementByteOrderMSB", False))
    data, offset = _place(path, keys, end)
    return MetaHeader(
        path,
        shape,
        spacing,
        _affine(path, keys, spacing),
        np.dtype(("<", ">")[msb] + TYPES[kind]),
        _boolean(path, keys, "CompressedData", False),
        data,
        offset,
    )


def read_image(path: str | Path) -> np.ndarray:
    """Intensities (X, Y, Z) float32. Raises DataError: as `read_header`; truncated or damaged; NaN or infinite."""
    header = read_header(path)
    return checked_image(header.file, _voxels(header))


def read_label(
    path: str | Path, scheme: LabelScheme | None = None, mapping: Mapping[int, int] | None = None
) -> np.ndarray:
    """Label map (X, Y, Z); arguments and errors as `shapelab.data.formats.nifti.read_label`."""
    header = read_header(path)
    return checked_label(header.file, _voxels(header), scheme, mapping)


# --------------------------------------------------------------------------------------------------------- header


def _keys(path: Path) -> tuple[dict[str, str], int]:
    """Key -> value of the header's lines, and the byte after ElementDataFile's line, which is the last."""
    if not path.is_file():
        raise DataError(
            path,
            "a folder" if path.is_dir() else "no such file",
            "a MetaImage header (.mhd or .mha)",
            "Check the path; was the archive unpacked completely?",
        )
    try:
        with open(path, "rb") as file:
            head = file.read(MOST_HEADER)
    except OSError as error:
        raise DataError(
            path,
            f"a file that cannot be opened ({error.strerror})",
            "a readable file",
            "Check the permissions and the disk.",
        ) from None
    keys: dict[str, str] = {}
    end = 0
    while "ElementDataFile" not in keys:
        line, newline, _ = head[end:].partition(b"\n")
        if not line and not newline:
            raise DataError(
                path, f"no key 'ElementDataFile' in {_some(keys)}", "a MetaImage header, this key last", _DAMAGED
            )
        end += len(line) + len(newline)
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            text = ""
        key, equals, value = (part.strip() for part in text.partition("="))
        if text == "" and line.strip() == b"":
            continue
        if not equals or not key.isidentifier():
            raise DataError(path, f"the line {line[:40]!r}", "lines `Key = value`", "Is this a MetaImage header?")
        if key in keys:
            raise DataError(path, f"the key {key!r} twice", "each key once", _DAMAGED)
        keys[key] = value
    return keys, end


def _some(keys: Mapping[str, str]) -> str:
    return f"the keys {', '.join(list(keys)[:6])}" if keys else "an empty file"


def _check_kind(path: Path, keys: Mapping[str, str]) -> None:
    """One channel of binary voxels on three axes."""
    for key, wanted in (("ObjectType", "Image"), ("NDims", "3"), ("ElementNumberOfChannels", "1")):
        if keys.get(key, wanted if key != "NDims" else "").casefold() != wanted.casefold():
            raise DataError(
                path,
                f"{key} {keys.get(key, 'absent')!r}",
                f"{key} = {wanted}",
                "Give one volume of one channel; a sequence is read frame by frame.",
            )
    if not _boolean(path, keys, "BinaryData", True):
        raise DataError(path, "voxels as text (BinaryData = False)", "binary voxels", "Write the file again with ITK.")
    if "DimSize" not in keys:
        raise DataError(path, "no key 'DimSize'", "the keys NDims, DimSize, ElementType, ElementDataFile", _DAMAGED)
    if "ElementSpacing" not in keys and "ElementSize" not in keys:
        raise DataError(
            path,
            "no key 'ElementSpacing' (or 'ElementSize')",
            "the size of a voxel",
            "Without it no volume and no distance can be given; add the line.",
        )


def _boolean(path: Path, keys: Mapping[str, str], key: str, default: bool) -> bool:
    value = keys.get(key)
    if value is None:
        return default
    if value.casefold() not in ("true", "false", "1", "0"):
        raise DataError(path, f"{key} {value!r}", "True or False", _DAMAGED)
    return value.casefold() in ("true", "1")


def _numbers(
    path: Path,
    keys: Mapping[str, str],
    names: tuple[str, ...],
    n: int,
    whole: bool = False,
    default: list[float] | None = None,
) -> list:
    """The first of the named keys that is there, as n finite numbers."""
    key = next((k for k in names if k in keys), None)
    if key is None:
        return default
    try:
        values = [int(v) if whole else float(v) for v in keys[key].split()]
    except ValueError:
        values = []
    if len(values) != n or not np.isfinite(np.array(values, float)).all():
        raise DataError(path, f"{key} {keys[key][:60]!r}", f"{n} {'whole ' if whole else ''}numbers", _DAMAGED)
    return values


def _affine(path: Path, keys: Mapping[str, str], spacing: tuple[float, float, float]) -> np.ndarray:
    """Voxel index -> RAS from ITK's LPS direction and origin."""
    direction = np.array(_numbers(path, keys, _DIRECTION, 9, default=list(np.eye(3).ravel()))).reshape(3, 3).T
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        raise DataError(
            path,
            f"a TransformMatrix that is no rotation: {direction.T.round(4).tolist()}",
            "three unit vectors at right angles",
            "Write the file again with the scan's orientation.",
        )
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(spacing)
    affine[:3, 3] = _numbers(path, keys, _ORIGIN, 3, default=[0.0, 0.0, 0.0])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _place(path: Path, keys: Mapping[str, str], end: int) -> tuple[Path, int]:
    """File and first byte of the voxels; only this file, or one beside it."""
    name = keys["ElementDataFile"]
    skip = _numbers(path, keys, ("HeaderSize",), 1, whole=True, default=[0])[0]
    if name.casefold() == "local":
        if skip not in (0, end):
            raise DataError(path, f"HeaderSize {skip} with LOCAL voxels", "no HeaderSize", _DAMAGED)
        return path, end
    if not name or name.casefold() == "list" or "%" in name:
        raise DataError(
            path,
            f"ElementDataFile {name!r}",
            "LOCAL or the name of one file",
            "Voxels in several files are not read; write them into one.",
        )
    if name != Path(name).name or "\\" in name or name in (".", "..") or "\0" in name:
        raise DataError(
            path,
            f"ElementDataFile {name[:80]!r}",
            "a file in the same folder, named without a path",
            "Put the voxels beside the header.",
        )
    if skip < -1:
        raise DataError(path, f"HeaderSize {skip}", "a number of bytes from 0, or -1", _DAMAGED)
    return path.with_name(name), skip


# --------------------------------------------------------------------------------------------------------- voxels


def _voxels(header: MetaHeader) -> np.ndarray:
    """Voxels (X, Y, Z) as stored, in the machine's byte order."""
    data, wanted = header.data, header.n_bytes
    if not data.is_file():
        raise DataError(
            data, "no such file", f"the voxels that {header.file.name} names", "Copy both files of the pair."
        )
    try:
        with open(data, "rb") as file:
            size = file.seek(0, 2)
            start = size - wanted if header.offset == -1 and not header.compressed else max(header.offset, 0)
            file.seek(max(start, 0))
            # one byte more than needed shows a header that lies; compressed voxels cannot be longer than this
            most = wanted + 1 if not header.compressed else wanted + wanted // 1000 + 1024
            content = file.read(most) if start >= 0 else b""
    except OSError as error:
        raise DataError(
            data,
            f"a file that cannot be read ({error.strerror})",
            "a readable file",
            "Check the permissions and the disk.",
        ) from None
    if header.compressed:
        content = _unzipped(header, content, wanted)
    expected = f"{wanted}, for {' x '.join(map(str, header.shape))} voxels of {header.dtype.name}"
    if len(content) < wanted:
        there = len(content) if header.compressed or start >= 0 else size
        raise DataError(data, f"a truncated file: {there} bytes of voxels", expected, _DAMAGED)
    if len(content) > wanted:
        raise DataError(
            data,
            "bytes after the last voxel",
            expected,
            f"DimSize or ElementType in {header.file.name} is not that of the voxels.",
        )
    voxels = np.frombuffer(content, header.dtype).reshape(header.shape, order="F")
    return voxels.astype(header.dtype.newbyteorder("="), order="C")


def _unzipped(header: MetaHeader, content: bytes, wanted: int) -> bytes:
    """zlib stream -> at most one byte more than wanted, so that no bomb goes off."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(content, wanted + 1)
    except zlib.error as error:
        raise DataError(header.data, f"damaged compressed voxels ({error})", "a zlib stream", _DAMAGED) from None
    if len(out) == wanted and not stream.eof:
        try:  # the stream's checksum may be left to read
            out += stream.decompress(stream.unconsumed_tail, 1)
        except zlib.error as error:
            raise DataError(header.data, f"damaged compressed voxels ({error})", "a zlib stream", _DAMAGED) from None
        if not stream.eof and len(out) == wanted:
            raise DataError(header.data, "a truncated zlib stream", "a complete one", _DAMAGED)
    if stream.unused_data and len(out) == wanted:
        raise DataError(header.data, "bytes after the compressed voxels", "the voxels and nothing more", _DAMAGED)
    return out
