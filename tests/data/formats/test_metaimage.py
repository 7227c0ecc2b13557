"""What ITK reads: as written by hand and as the NIfTI it makes, and every lie of a MetaImage found out."""

from __future__ import annotations

import zlib

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapelab.data.formats import metaimage
from shapelab.data.formats.metaimage import TYPES, is_metaimage, read_header, read_image, read_label
from shapelab.data.scheme import LV_CAVITY
from shapelab.errors import DataError

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
HEADER = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "0 0 0",
    "ElementSpacing": "1 1 2",
    "DimSize": "2 3 4",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "a.raw",
}


def write(folder, array=ARRAY, data=None, **changes):
    """a.mhd and a.raw; a key changed to None is left out."""
    keys = {**HEADER, **changes}
    text = "".join(f"{k} = {v}\n" for k, v in keys.items() if v is not None)
    (folder / "a.mhd").write_text(text)
    (folder / "a.raw").write_bytes(array.tobytes(order="F") if data is None else data)
    return folder / "a.mhd"


def failing(path, call=read_image) -> DataError:
    with pytest.raises(DataError) as caught:
        call(path)
    assert caught.value.found and caught.value.expected
    return caught.value


def test_by_hand(tmp_path):
    path = write(tmp_path, Offset="10 20 30", ElementSpacing="0.5 1 2")
    header = read_header(path)
    assert header.shape == (2, 3, 4) and header.spacing == (0.5, 1, 2) and header.n_bytes == 48
    # LPS -> RAS: the first two rows change sign
    assert header.affine.tolist() == [[-0.5, 0, 0, -10], [0, -1, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]]
    image = read_image(path)
    assert image.dtype == np.float32 and (image == ARRAY).all()


@pytest.mark.parametrize("suffix", [".mhd", ".mha"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_as_simpleitk_and_as_the_nifti_it_makes(tmp_path, suffix, compressed, kind):
    sitk = pytest.importorskip("SimpleITK")
    generator = np.random.default_rng(0)
    array = generator.integers(0, 100, (4, 5, 6)).astype(kind)
    image = sitk.GetImageFromArray(array.T)
    turn = np.linalg.qr(generator.standard_normal((3, 3)))[0]
    image.SetDirection(turn.ravel().tolist())
    image.SetSpacing((0.7, 1.1, 2.0))
    image.SetOrigin((3.0, -4.0, 5.5))
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path), compressed)
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    header = read_header(path)
    assert (read_image(path) == array).all()
    nifti = nibabel.load(tmp_path / "a.nii.gz")
    assert np.allclose(header.affine, nifti.affine, atol=1e-5)
    assert (np.asarray(nifti.dataobj) == array).all()
    for index in ((0, 0, 0), (3, 1, 5)):
        lps = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose((header.affine @ [*index, 1])[:3], np.array([-1, -1, 1]) * lps, atol=1e-4)


def test_big_endian_header_size_and_odd_headers(tmp_path):
    big = ARRAY.astype(">i2").tobytes(order="F")
    assert (read_image(write(tmp_path, data=big, BinaryDataByteOrderMSB="True")) == ARRAY).all()
    other = {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "true", "ElementDataFile": None}
    path = write(tmp_path, data=big, **other)
    path.write_text(path.read_text() + "ElementDataFile = a.raw\n")
    assert failing(path).found == "ElementByteOrderMSB 'true'"  # ITK would read it as if it were not there
    plain = ARRAY.tobytes(order="F")
    for skip, data in (("7", b"7 bytes" + plain), ("-1", b"any length" + plain)):
        assert (read_image(write_with_size(tmp_path, data, skip)) == ARRAY).all()
    path = write(tmp_path, ElementSpacing=None, ElementSize="1 2 3", TransformMatrix=None, Offset=None)
    text = path.read_text().replace("\n", "\r\n").replace("NDims", "\r\nComment = made by hand\r\nNDims")
    lines = text.split("\r\n")
    element = [line for line in lines if line.startswith("ElementSize")]
    lines = [line for line in lines if not line.startswith(("ElementSize", "ElementDataFile"))]
    path.write_bytes("\r\n".join([*filter(None, lines), *element, "ElementDataFile = a.raw", ""]).encode())
    assert read_header(path).spacing == (1, 2, 3) and (read_image(path) == ARRAY).all()


def write_with_size(folder, data, skip):
    """HeaderSize before ElementDataFile, which must be last."""
    path = write(folder, data=data)
    path.write_text(path.read_text().replace("ElementDataFile", f"HeaderSize = {skip}\nElementDataFile"))
    return path


def test_local_voxels_follow_the_header(tmp_path):
    path = write(tmp_path, ElementDataFile="LOCAL")
    path.write_bytes(path.read_bytes() + ARRAY.tobytes(order="F"))
    assert (read_image(path) == ARRAY).all()
    path.write_bytes(path.read_bytes()[:-1])
    assert "truncated" in failing(path).found


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"ObjectType": "Mesh"}, "ObjectType 'Mesh'"),
        ({"NDims": "4"}, "NDims '4'"),
        ({"NDims": None}, "no key 'NDims'"),
        ({"ElementDataFile": None}, "no key 'ElementDataFile'"),
        ({"BinaryData": "False"}, "BinaryData 'False'"),
        ({"CompressedData": "perhaps"}, "CompressedData 'perhaps'"),
        ({"DimSize": "2 3"}, "DimSize '2 3'"),
        ({"DimSize": "2 3 x"}, "DimSize '2 3 x'"),
        ({"DimSize": None}, "no key"),
        ({"DimSize": "2 3 -4"}, "DimSize '2 3 -4'"),
        ({"DimSize": "90000 90000 90000"}, "DimSize 90000"),
        ({"DimSize": "2 3 4.5"}, "DimSize"),
        ({"ElementSpacing": "1 1 0"}, "ElementSpacing '1 1 0'"),
        ({"ElementSpacing": "1 1 nan"}, "ElementSpacing"),
        ({"ElementSpacing": None}, "no key 'ElementSpacing'"),
        ({"ElementType": "MET_OTHER"}, "ElementType 'MET_OTHER'"),
        ({"ElementType": None}, "no key 'ElementType'"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 0"}, "voxels of (1.0, 1.0, 2.0) mm along axes that are no rotation"),
        ({"TransformMatrix": "1 0 0"}, "TransformMatrix '1 0 0'"),
        ({"Offset": "0 inf 0"}, "Offset"),
        ({"ElementDataFile": "LIST"}, "ElementDataFile 'LIST'"),
        ({"ElementDataFile": "a%02d.raw"}, "ElementDataFile"),
        ({"ElementDataFile": "../a.raw"}, "ElementDataFile '../a.raw'"),
        ({"ElementDataFile": "/etc/passwd"}, "Element"),
        ({"ElementDataFile": "..\\a.raw"}, "ElementDataFile"),
        ({"ElementDataFile": ".."}, "ElementDataFile"),
        ({"ElementDataFile": ""}, "ElementDataFile ''"),
    ],
)
def test_header_that_cannot_be_read(tmp_path, changes, found):
    path = write(tmp_path, **changes)
    error = failing(path)
    assert error.file == str(path) and error.found.startswith(found)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\x89PNG\r\n",
        b"<html>not found</html>\n",
        b"NDims = 3\nNDims = 3\n",
        b"\n" * 99999,
        b"ObjectType = Image\n\xff\xfe = 1\n",
    ],
)
def test_no_header(tmp_path, content):
    (tmp_path / "a.mhd").write_bytes(content)
    assert failing(tmp_path / "a.mhd", read_header).file == str(tmp_path / "a.mhd")


def test_voxels_that_are_not_as_the_header_says(tmp_path):
    plain = ARRAY.tobytes(order="F")
    raw = str(tmp_path / "a.raw")
    error = failing(write(tmp_path, data=plain[:-2]))
    assert (error.file, error.found) == (raw, "a truncated file: 46 bytes of voxels")
    assert error.expected == "48, for 2 x 3 x 4 voxels of int16"
    assert failing(write(tmp_path, data=plain + b"\0")).found == "bytes after the last voxel"
    assert failing(write_with_size(tmp_path, plain[:-4], "-1")).found.startswith("a truncated file")
    path = write(tmp_path)
    (tmp_path / "a.raw").unlink()
    assert failing(path).found == "no such file"
    read_header(path)  # the header itself is in order
    assert failing(tmp_path, read_header).found == "a folder"
    assert failing(tmp_path / "b.mhd", read_header).found == "no such file"
    nan = np.full((2, 3, 4), np.nan, np.float32)
    assert "not finite" in failing(write(tmp_path, nan, ElementType="MET_FLOAT")).found


def test_compressed_voxels_that_are_damaged(tmp_path):
    zipped = zlib.compress(ARRAY.tobytes(order="F"))
    assert (read_image(write(tmp_path, data=zipped, CompressedData="True")) == ARRAY).all()
    for data, found in (
        (zipped[:-9], "a truncated"),
        (zipped[:-1], "a truncated zlib stream"),
        (b"no zlib", "damaged"),
        (zipped[:-4] + b"abcd", "damaged"),
        (zipped + b"more", "bytes after the compressed voxels"),
        (zlib.compress(ARRAY.tobytes() + b"\0"), "bytes after the last voxel"),
        (zlib.compress(bytes(10**7)), "bytes after the last voxel"),
    ):  # a bomb goes no further
        assert failing(write(tmp_path, data=data, CompressedData="True")).found.startswith(found)


def test_label_map(tmp_path):
    label = (ARRAY > 12).astype(np.uint8)
    path = write(tmp_path, label, ElementType="MET_UCHAR")
    assert (read_label(path, LV_CAVITY) == label).all()
    path = write(tmp_path, label * 255, ElementType="MET_UCHAR")
    assert (read_label(path, LV_CAVITY, {255: 1}) == label).all()
    assert "label values [255]" in failing(path, lambda p: read_label(p, LV_CAVITY)).found
    assert "empty" in failing(write(tmp_path, 0 * label, ElementType="MET_UCHAR"), read_label).found
    assert "-1" in failing(write(tmp_path, ARRAY - 1), read_label).found


def test_other_formats_that_itk_reads(tmp_path):
    """nrrd and hdr/img by hand: bytes written here, not by ITK."""
    space = "space: left-posterior-superior\nspace directions: (0.5,0,0) (0,1,0) (0,0,2)\nspace origin: (10,20,30)"
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\n{space}\nendian: little\nencoding: raw\n"
    nrrd = tmp_path / "a.nrrd"
    nrrd.write_bytes(f"{head}\n".encode() + ARRAY.tobytes(order="F"))
    assert read_header(nrrd).affine.tolist() == [[-0.5, 0, 0, -10], [0, -1, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]]
    assert (read_image(nrrd) == ARRAY).all() and (read_label(nrrd) == ARRAY).all()
    nrrd.write_bytes(f"{head}data file: a.raw\n\n".encode())
    assert failing(nrrd).found == "a header whose voxels are in another file"
    nrrd.write_bytes(f"{head}\n".encode() + ARRAY.tobytes(order="F")[:-1])
    assert failing(nrrd).found.startswith("voxels that ITK cannot read")
    nrrd.write_bytes(f"{head}\n".replace("2 3 4", "900 900 900").encode())
    assert failing(nrrd).found == "a header that announces 1458000000 bytes"
    affine = np.array([[-0.5, 0, 0, -10], [0, -1, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Pair(ARRAY, affine), tmp_path / "b.img")
    assert np.allclose(read_header(tmp_path / "b.hdr").affine, affine)
    assert (read_image(tmp_path / "b.hdr") == ARRAY).all()
    (tmp_path / "b.img").unlink()
    assert failing(tmp_path / "b.hdr").found
    (tmp_path / "c.nrrd").write_bytes(b"NDims = 3\n")  # the ending says which of ITK's readers is asked
    assert failing(tmp_path / "c.nrrd").found.startswith("what ITK cannot read")


@pytest.mark.parametrize(
    "line",
    [
        "ElementDataFile: /etc/passwd = x",
        "Comment = a\rElementDataFile = /etc/passwd",
        f"Comment = {'x' * 600}",
        "ElementDataFile : /etc/passwd",
    ],
)
def test_what_itk_would_understand_in_another_way(tmp_path, line):
    """ITK ends a key at a colon as well, and cuts lines: nothing may come past the guard by that."""
    path = write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"NDims", line.encode() + b"\nNDims"))
    assert failing(path, read_header).found.startswith("the line")


@given(st.binary(max_size=300))
def test_no_bytes_end_in_anything_but_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.mhd"
    path.write_bytes(b"NDims = 3\nDimSize = 2 2 2\n" + content)
    with pytest.raises(DataError):
        read_image(path)


def test_names(tmp_path):
    assert is_metaimage(tmp_path / "a.MHD") and is_metaimage(tmp_path / "a.mha")
    assert not is_metaimage(tmp_path / "a.raw") and not is_metaimage(tmp_path / "._a.mhd")
    assert set(TYPES) >= {"UCHAR", "SHORT", "FLOAT"} and metaimage.MOST_HEADER == 65536
