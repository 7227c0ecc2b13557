"""Reader of the files that ITK reads and NIfTI's reader does not: MetaImage (``.mhd`` with its ``.raw`` or ``.zraw``,
and ``.mha``), ``.nrrd``, and pairs ``.hdr``/``.img``; safe for files of strangers.

The counterpart of `shapelab.data.formats.nifti`: `read_header`, `read_image` and `read_label` with the same checks and
the same kind of error. SimpleITK does the reading; it is imported when such a file is opened. But ITK follows any path
that a header names, takes what is missing for a default, and gives voxels of a damaged file without a word. So a
MetaImage is looked at before ITK may open it: an image of three axes, one channel of numbers, binary voxels
(zlib-compressed or not) in the same file (LOCAL) or in one file of the same folder, exactly as many as the header says.
A list or a pattern of files, a path that leaves the folder, text voxels and colour are refused by name; so is a
``.nrrd`` whose voxels lie in another file.

Orientation. ITK counts millimetres towards the patient's left, posterior and superior (LPS); the affine here is
nibabel's, towards right, anterior and superior (RAS): its first two rows change sign. So a MetaImage reads as the NIfTI
file that ITK makes of it would. The array is never turned: axis k is the k-th of DimSize.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shapelab.data.formats.nifti import (
    DAMAGED,
    MOST_COMPRESSION,
    Header,
    cannot_be_read,
    checked_image,
    checked_label,
    need_file,
)
from shapelab.data.scheme import LabelScheme
from shapelab.errors import DataError, need

if TYPE_CHECKING:  # a reader of files that most data sets do not have
    from SimpleITK import ImageFileReader

#: ITK's readers by a file's ending, so that it does not guess from the content.
READERS = {".mhd": "MetaImageIO", ".mha": "MetaImageIO", ".nrrd": "NrrdImageIO", ".hdr": "NiftiImageIO"}
#: ITK's names of element types that are read.
TYPES = ("CHAR", "UCHAR", "SHORT", "USHORT", "INT", "UINT", "LONG_LONG", "ULONG_LONG", "FLOAT", "DOUBLE")
MOST_HEADER = 64 * 1024  # bytes; a header has some twenty lines
MOST_VOXELS = 2**31  # 1290 x 1290 x 1290


_POSITIVE = r"(?=\S*[1-9])(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?"
_TRUTH = ("(?i:true|false|0|1)", "True or False")
_SIZE = (rf"{_POSITIVE}(\s+{_POSITIVE}){{2}}", "three sizes above zero")
#: Key of a MetaImage header -> pattern of its value, and in words what it should be.
RULES = {
    "ObjectType": ("(?i:image)", "Image"),
    "NDims": ("3", "3: one volume; a sequence is read frame by frame"),
    "ElementNumberOfChannels": ("1", "one channel"),
    "BinaryData": ("(?i:true|1)", "True: voxels as text are not read"),
    "BinaryDataByteOrderMSB": _TRUTH,
    "ElementByteOrderMSB": ("(?i:false|0)", "False; ITK goes by BinaryDataByteOrderMSB alone"),
    "CompressedData": _TRUTH,
    "DimSize": (r"[1-9]\d*(\s+[1-9]\d*){2}", "three whole numbers"),
    "ElementSpacing": _SIZE,
    "ElementSize": _SIZE,
    "ElementType": (f"MET_({'|'.join(TYPES)})", f"one of MET_ and {', '.join(TYPES)}"),
    **dict.fromkeys(("TransformMatrix", "Orientation", "Rotation"), (rf"{_NUMBER}(\s+{_NUMBER}){{8}}", "nine numbers")),
    **dict.fromkeys(("Offset", "Position", "Origin"), (rf"{_NUMBER}(\s+{_NUMBER}){{2}}", "three numbers in mm")),
    "HeaderSize": (r"-1|\d{1,9}", "a number of bytes from 0, or -1"),
    "ElementDataFile": (
        r"(?!(?i:list))(?!\.\.?$)[^%/\\]+",
        "LOCAL or the name of one file in the same folder, without a path",
    ),
}
_NEEDED = ("NDims", "DimSize", "ElementType", "ElementSpacing", "ElementDataFile")


def is_metaimage(path: Path) -> bool:
    """By name alone; hidden files are not."""
    return path.suffix.lower() in READERS and not path.name.startswith(".")


def read_header(path: str | Path) -> Header:
    """Read and check the header alone.

    Raises DataError: no such file, not of the format that its ending says, a key that is missing, out of order, or not
    supported; voxels elsewhere than in this folder.
    """
    return _open(Path(path))[0]


def read_image(path: str | Path) -> np.ndarray:
    """Intensities (X, Y, Z) float32. Raises DataError: as `read_header`; truncated or damaged; NaN or infinite."""
    return checked_image(Path(path), _voxels(Path(path)))


def read_label(
    path: str | Path, scheme: LabelScheme | None = None, mapping: Mapping[int, int] | None = None
) -> np.ndarray:
    """Label map (X, Y, Z); arguments and errors as `shapelab.data.formats.nifti.read_label`."""
    return checked_label(Path(path), _voxels(Path(path)), scheme, mapping)


# --------------------------------------------------------------------------------------------------------- header


def _open(path: Path) -> tuple[Header, ImageFileReader, dict[str, str], int]:
    """(checked header, ITK's reader, a MetaImage's keys, the byte after the header)."""
    need_file(path, "an image")
    try:
        with open(path, "rb") as file:
            head = file.read(MOST_HEADER)
    except OSError as error:
        raise cannot_be_read(path, error) from None
    keys: dict[str, str] = {}
    end = 0
    if READERS[path.suffix.lower()] == "MetaImageIO":
        keys, end = _checked_keys(path, head)
    need(
        path.suffix.lower() != ".nrrd" or not re.search(rb"(?im)^\s*data ?file\s*:", head),
        path,
        "a header whose voxels are in another file",
        "both in one file",
        "Write it as one file.",
    )
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(READERS[path.suffix.lower()])
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(path, f"what ITK cannot read ({_reason(error)})", "a header in order", DAMAGED) from None
    return _checked_header(path, reader, SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())), reader, keys, end


def _reason(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1][:120]


def _checked_keys(path: Path, head: bytes) -> tuple[dict[str, str], int]:
    """Key -> value of a MetaImage's header, in order by `RULES`, and the byte after ElementDataFile, its last line."""
    last = re.search(rb"^[ \t]*ElementDataFile[ \t]*=[^\n]*\n?", head, re.MULTILINE)
    if last is None:
        raise DataError(path, "no key 'ElementDataFile'", "a MetaImage header, this key last", DAMAGED)
    keys: dict[str, str] = {}
    for line in map(str.strip, head[: last.end()].decode("latin-1").split("\n")):
        key, equals, value = (part.strip() for part in line.expandtabs().partition("="))
        # what ITK might understand in another way is no header: it parts keys at a colon, too, and cuts long lines
        plain = equals and key.isidentifier() and key not in keys and value.isprintable() and len(line) < 500
        need(plain or not line, path, f"the line {line[:40]!r}", "lines `Key = value`, each key once", DAMAGED)
        keys |= {key: value} if line else {}
    spaced = "ElementSpacing" in keys or "ElementSize" in keys  # ITK would take 1 mm
    for key in _NEEDED:
        need(
            key in keys or (key == "ElementSpacing" and spaced),
            path,
            f"no key {key!r}",
            f"the keys {', '.join(_NEEDED)}",
            DAMAGED,
        )
    for key in filter(keys.__contains__, RULES):
        pattern, expected = RULES[key]
        need(
            re.fullmatch(pattern, keys[key], re.ASCII),
            path,
            f"{key} {keys[key][:80]!r}",
            expected,
            "Write the file again with ITK.",
        )
    skip = keys.get("HeaderSize", "0") if keys["ElementDataFile"].casefold() == "local" else "0"
    need(skip == "0", path, f"HeaderSize {skip} with LOCAL voxels", "no HeaderSize", DAMAGED)
    return keys, last.end()


def _checked_header(path: Path, reader: ImageFileReader, kind: str) -> Header:
    """The header that ITK read, in RAS; kind: ITK's words for the type of a voxel."""
    number = re.fullmatch(r"(\d+)-bit (unsigned|signed|float).*", kind)
    if number is None or reader.GetNumberOfComponents() != 1:
        raise DataError(
            path,
            f"voxels of type {kind}",
            "one channel of real numbers",
            "Convert the file; colour and complex images are not read.",
        )
    shape, spacing = tuple(reader.GetSize()), tuple(reader.GetSpacing())
    need(
        len(shape) == 3 and min(shape) >= 2 and math.prod(shape) <= MOST_VOXELS,
        path,
        f"DimSize {' '.join(map(str, shape))}",
        f"three sizes from 2, at most {MOST_VOXELS} voxels in all",
        DAMAGED,
    )
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    need(
        np.allclose(direction.T @ direction, np.eye(3), atol=1e-3) and all(0 < s < math.inf for s in spacing),
        path,
        f"voxels of {spacing} mm along axes that are no rotation: {direction.round(4).tolist()}",
        "three sizes above zero, three unit vectors at right angles",
        "Write the file again with the scan's orientation.",
    )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * spacing, reader.GetOrigin()
    dtype = np.dtype({"unsigned": "u", "signed": "i", "float": "f"}[number[2]] + str(int(number[1]) // 8))
    return Header(path, shape, spacing, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, dtype)


# --------------------------------------------------------------------------------------------------------- voxels


def _voxels(path: Path) -> np.ndarray:
    """Voxels (X, Y, Z) as stored."""
    header, reader, keys, end = _open(path)
    if keys:
        local = keys["ElementDataFile"].casefold() == "local"
        data = path if local else path.with_name(keys["ElementDataFile"])
        compressed = keys.get("CompressedData", "false").casefold() in ("true", "1")
        _check_stored(header, data, end if local else int(keys.get("HeaderSize", 0)), compressed)
    files = (file for file in {path, path.with_suffix(".img"), path.with_suffix(".img.gz")} if file.is_file())
    need(
        keys or header.n_bytes <= MOST_COMPRESSION * sum(file.stat().st_size for file in files),
        path,
        f"a header that announces {header.n_bytes} bytes",
        "no more than the file holds",
        DAMAGED,
    )
    import SimpleITK

    try:
        return np.ascontiguousarray(SimpleITK.GetArrayFromImage(reader.Execute()).T)
    except RuntimeError as error:
        raise DataError(path, f"voxels that ITK cannot read ({_reason(error)})", "intact ones", DAMAGED) from None


def _check_stored(header: Header, data: Path, offset: int, compressed: bool) -> None:
    """DataError unless a file holds, from byte `offset` on, exactly the voxels that the header announces."""
    wanted = header.n_bytes
    expected = f"{wanted}, for {' x '.join(map(str, header.shape))} voxels of {header.dtype.name}"
    need(
        data.is_file(),
        data,
        "no such file",
        f"the voxels that {header.file.name} names",
        "Copy both files of the pair.",
    )
    try:
        with open(data, "rb") as file:
            n = file.seek(0, 2) - max(offset, 0)
            file.seek(max(offset, 0))
            # compressed voxels cannot be longer than this; one byte more than needed shows a header that lies
            content = file.read(wanted + wanted // 1000 + 1024) if compressed else b""
    except OSError as error:
        raise cannot_be_read(data, error) from None
    stream = zlib.decompressobj()
    if compressed:
        try:
            n = len(stream.decompress(content, wanted + 1))  # so that no bomb goes off
        except zlib.error as error:
            raise DataError(data, f"damaged compressed voxels ({error})", "a zlib stream", DAMAGED) from None
    need(n >= wanted, data, f"a truncated file: {max(n, 0)} bytes of voxels", expected, DAMAGED)
    need(
        n == wanted or (offset == -1 and not compressed),
        data,
        "bytes after the last voxel",
        expected,
        f"DimSize or ElementType in {header.file.name} is not that of the voxels.",
    )
    need(stream.eof or not compressed, data, "a truncated zlib stream", "a complete one", DAMAGED)
    need(not stream.unused_data, data, "bytes after the compressed voxels", "the voxels and nothing more", DAMAGED)
