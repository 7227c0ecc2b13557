"""Every broken file ends in a DataError that names it; a good one reads as nibabel reads it."""

import gzip
import shutil

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapelab.data.formats.nifti import check_same_grid, find_nifti, is_nifti, read_header, read_image, read_label, stem
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError


@pytest.fixture
def label_file(tmp_path, write_nifti, tiny_heart):
    return write_nifti(tmp_path / "label.nii.gz", tiny_heart())


def edit_header(path, **fields):
    """Overwrite raw header fields, past everything nibabel would mend. ``pixdim={1: 0}`` sets one element."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = np.frombuffer(content, nibabel.Nifti1Header.template_dtype, count=1)
    for name, value in fields.items():
        if isinstance(value, dict):
            for i, v in value.items():
                header[name][0][i] = v
        else:
            header[name][0] = value
    path.write_bytes(gzip.compress(bytes(content), mtime=0))
    return path


def assert_bad(call, path, found, expected=""):
    with pytest.raises(DataError) as caught:
        call()
    assert caught.value.file == str(path)
    assert found in caught.value.found, caught.value.found
    assert expected in caught.value.expected, caught.value.expected
    assert caught.value.todo
    assert caught.value.__cause__ is None and caught.value.__suppress_context__ == (
        caught.value.__context__ is not None
    )  # no traceback into nibabel or gzip


# ----------------------------------------------------------------------------------------------- good files
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_what_nibabel_reads(tmp_path, kind, name, order):
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 8, 1], [0, 0, 0, 1]])
    array = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    image = kind(array, affine, header=kind.header_class(endianness=order))
    image.header.set_data_dtype(np.dtype(np.float32).newbyteorder(order))
    nibabel.save(image, tmp_path / name)
    oracle = nibabel.load(tmp_path / name)
    header = read_header(tmp_path / name)
    assert header.shape == (5, 6, 7) and np.allclose(header.spacing, (1.5, 2, 8))
    assert np.allclose(header.affine, oracle.affine, atol=1e-6)
    voxels = read_image(tmp_path / name)
    assert voxels.dtype == np.float32 and voxels.flags.c_contiguous and voxels.flags.writeable
    assert np.array_equal(voxels, oracle.get_fdata(dtype=np.float32))


def test_slope_and_intercept_are_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.float64).reshape(2, 3, 4) / 7, np.eye(4))
    image.header.set_data_dtype(np.int16)  # nibabel then scales to fit
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert np.allclose(read_image(tmp_path / "a.nii.gz"), nibabel.load(tmp_path / "a.nii.gz").get_fdata(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_label_is_uint8_whatever_it_was_stored_as(tmp_path, write_nifti, tiny_heart, dtype):
    label = read_label(write_nifti(tmp_path / "a.nii.gz", tiny_heart().astype(dtype)), CARDIAC)
    assert label.dtype == np.uint8 and np.array_equal(label, tiny_heart())


def test_label_integers_over_255_stay_and_can_be_mapped(tmp_path, write_nifti, tiny_heart):
    path = write_nifti(tmp_path / "a.nii.gz", tiny_heart().astype(np.int16) * 200)
    assert sorted(np.unique(read_label(path))) == [0, 200, 400, 600] and read_label(path).dtype == np.uint16
    mapped = read_label(path, CARDIAC, mapping={200: 1, 400: 2, 600: 3})
    assert mapped.dtype == np.uint8 and np.array_equal(mapped, tiny_heart())


def test_names(tmp_path, write_nifti):
    assert stem(tmp_path / "a.b.nii.gz") == "a.b" and stem(tmp_path / "a.nii") == "a"
    assert is_nifti(tmp_path / "a.nii") and not is_nifti(tmp_path / "._a.nii.gz") and not is_nifti(tmp_path / "a.gz")
    assert find_nifti(tmp_path, "a") is None
    path = write_nifti(tmp_path / "a.nii", np.ones((2, 2, 2), np.uint8))
    assert find_nifti(tmp_path, "a") == path


# ------------------------------------------------------------------------------------------ damaged files
@given(cut=st.integers(0, 10**6))
def test_a_file_truncated_anywhere_is_a_data_error(tmp_path_factory, write_nifti, tiny_heart, cut):
    folder = tmp_path_factory.mktemp("cut")
    whole = write_nifti(folder / "whole.nii.gz", tiny_heart()).read_bytes()
    path = folder / "part.nii.gz"
    path.write_bytes(whole[: cut % len(whole)])
    assert_bad(lambda: read_label(path, CARDIAC), path, "")
    assert_bad(lambda: read_image(path), path, "")
    shutil.rmtree(folder)


@given(data=st.data())
def test_a_file_with_wrong_bytes_reads_or_is_a_data_error(tmp_path_factory, write_nifti, tiny_heart, data):
    """Flipped bytes, compressed or not: either the array comes back in the header's shape, or a DataError."""
    folder = tmp_path_factory.mktemp("flip")
    path = write_nifti(folder / data.draw(st.sampled_from(["a.nii", "a.nii.gz"])), tiny_heart((6, 5, 4)))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for read in (read_label, read_image):
        try:
            assert read(path).shape == read_header(path).shape
        except DataError as error:
            assert error.file == str(path)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "content, found",
    [
        (b"", "an empty file"),
        (b"<html>403 Forbidden</html>", "no gzip content"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no gzip content"),
        (gzip.compress(b"hello", mtime=0), "no NIfTI header"),
        (gzip.compress(b"", mtime=0), "no NIfTI header"),
        (gzip.compress(b"\x00" * 1000, mtime=0), "no NIfTI header"),
        (gzip.compress((348).to_bytes(4, "little") + b"\x00" * 1000, mtime=0), "no NIfTI header"),
        (gzip.compress((348).to_bytes(4, "little") + b"\x00" * 90, mtime=0), "a truncated file: 94 bytes of header"),
    ],
)
def test_not_nifti(tmp_path, content, found):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    assert_bad(lambda: read_header(path), path, found)
    assert_bad(lambda: read_label(path), path, found)


def test_absent_file_folder_and_wrong_ending(tmp_path, write_nifti):
    assert_bad(lambda: read_header(tmp_path / "no.nii.gz"), tmp_path / "no.nii.gz", "no such file")
    (tmp_path / "d.nii.gz").mkdir()
    assert_bad(lambda: read_header(tmp_path / "d.nii.gz"), tmp_path / "d.nii.gz", "a folder")
    zipped = write_nifti(tmp_path / "a.nii.gz", np.ones((2, 2, 2), np.uint8))
    renamed = zipped.rename(tmp_path / "a.nii")
    assert_bad(lambda: read_header(renamed), renamed, "gzip content", "plain NIfTI in a .nii")


def test_truncated_gzip_is_called_so(label_file):
    label_file.write_bytes(label_file.read_bytes()[:-200])
    assert_bad(lambda: read_label(label_file), label_file, "a truncated gzip file")


def test_checksum_is_verified(label_file):
    content = bytearray(label_file.read_bytes())
    content[-6] ^= 1  # in the CRC
    label_file.write_bytes(content)
    assert_bad(lambda: read_label(label_file), label_file, "a damaged gzip file (CRC check failed")


def test_too_few_and_too_many_voxels(tmp_path, write_nifti, tiny_heart):
    plain = write_nifti(tmp_path / "a.nii", tiny_heart())
    content = plain.read_bytes()
    plain.write_bytes(content[:-10])
    assert_bad(lambda: read_label(plain), plain, "a truncated file: 2390 bytes of voxels", "2400, for 24 x 20 x 5")
    plain.write_bytes(content + b"\0")
    assert_bad(lambda: read_label(plain), plain, "bytes after the last voxel")


def test_header_that_announces_too_much_needs_no_memory(label_file):
    edit_header(label_file, dim={1: 32000, 2: 32000, 3: 32000})
    assert_bad(lambda: read_label(label_file), label_file, "announces 32768000000352 bytes")


# ------------------------------------------------------------------------------------------------- headers
@pytest.mark.parametrize(
    "shape, found",
    [
        ((6, 5), "a 2D array, 6 x 5"),
        ((6, 5, 1), "a 2D array, 6 x 5 x 1"),
        ((6,), "a 1D array, 6"),
        ((6, 5, 4, 3), "a 4D array, 6 x 5 x 4 x 3"),
        ((6, 5, 4, 1), "a 4D array, 6 x 5 x 4 x 1"),
        ((6, 5, 4, 1, 3), "a 5D array, 6 x 5 x 4 x 1 x 3"),
    ],
)
def test_other_than_three_axes(tmp_path, write_nifti, shape, found):
    path = write_nifti(tmp_path / "a.nii.gz", np.ones(shape, np.uint8))
    for read in (read_header, read_label, read_image):
        assert_bad(lambda read=read: read(path), path, found, "three axes")


@pytest.mark.parametrize(
    "fields, found",
    [
        ({"pixdim": {1: 0}}, "voxel size 0 x 1.5 x 10"),
        ({"pixdim": {3: -10}}, "voxel size 1.5 x 1.5 x -10"),
        ({"pixdim": {2: np.nan}}, "voxel size 1.5 x nan x 10"),
        ({"pixdim": {2: np.inf}}, "voxel size 1.5 x inf x 10"),
        ({"pixdim": {3: 8}}, "an affine (sform) with voxels of 1.5 x 1.5 x 10 mm"),
        ({"xyzt_units": 1}, "voxel sizes in metre"),
        ({"xyzt_units": 3}, "voxel sizes in micrometre"),
        ({"srow_x": [0, 0, 0, 0]}, "an affine (sform) that cannot be inverted"),
        ({"srow_y": {1: np.nan}}, "an affine (sform) that cannot be inverted"),
        ({"srow_y": [1.5, 0, 0, 0]}, "an affine (sform) that cannot be inverted"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 3}, "a qform that is not a rotation"),
        ({"dim": {0: 0}}, "0 axes"),
        ({"dim": {0: 9}}, "9 axes"),
        ({"dim": {2: 0}}, "an array of 24 x 0 x 5 voxels"),
        ({"dim": {2: -4}}, "an array of 24 x -4 x 5 voxels"),
        ({"datatype": 32}, "voxels of type complex64"),
        ({"datatype": 128}, "voxels of type"),
        ({"datatype": 77}, "voxels of type code 77"),
        ({"vox_offset": 0}, "voxels that start at byte 0"),
        ({"vox_offset": np.nan}, "voxels that start at byte nan"),
        ({"scl_slope": np.inf}, "scl_slope inf"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "scl_inter nan"),
        ({"magic": b"ni1"}, "in a second file"),
        ({"magic": b"xyz"}, "no NIfTI header"),
    ],
)
def test_header_out_of_order(label_file, fields, found):
    edit_header(label_file, **fields)
    for read in (read_header, read_label, read_image):
        assert_bad(lambda read=read: read(label_file), label_file, found)


def test_nibabel_would_have_corrected_a_zero_voxel_size(label_file):
    """Why the raw header is looked at: nibabel loads this without a word to the caller."""
    edit_header(label_file, pixdim={1: 0}, sform_code=0, qform_code=0)
    assert nibabel.load(label_file).header.get_zooms()[0] == 1
    assert_bad(lambda: read_header(label_file), label_file, "voxel size 0 x 1.5 x 10")


def test_a_qform_that_says_something_else_is_said_and_the_sform_taken(label_file, recwarn):
    before = read_header(label_file).affine
    assert not recwarn
    edit_header(label_file, qform_code=1, quatern_b=1, quatern_c=0, quatern_d=0)  # turned over about the first axis
    with pytest.warns(
        UserWarning, match=r"label.nii.gz: found an sform \(code \d\) and a qform .* mm apart.*the sform"
    ):
        header = read_header(label_file)
    assert np.array_equal(header.affine, before) and np.array_equal(before, nibabel.load(label_file).affine)
    edit_header(label_file, sform_code=0)
    turned = read_header(label_file).affine
    assert np.allclose(np.sign(np.diag(turned)), (1, -1, -1, 1)) and np.allclose(
        turned, nibabel.load(label_file).affine
    )


def test_a_broken_qform_beside_a_good_sform_does_no_harm(label_file, recwarn):
    edit_header(label_file, qform_code=1, quatern_b=3)
    assert read_header(label_file).affine[0, 0] == 1.5 and not recwarn


def test_without_any_form_the_axes_are_taken_as_the_standard_has_them(label_file):
    edit_header(label_file, sform_code=0, qform_code=0)
    with pytest.warns(UserWarning, match="label.nii.gz: found no sform and no qform.*first axis to the right"):
        affine = read_header(label_file).affine
    assert np.array_equal(affine, np.diag([1.5, 1.5, 10, 1]))  # method 1 of the standard; nibabel turns the first axis


# -------------------------------------------------------------------------------------------------- voxels
@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_image_not_finite(tmp_path, write_nifti, value, word):
    image = np.zeros((4, 5, 6), np.float32)
    image[1, 2, 3] = image[3, 2, 1] = value
    path = write_nifti(tmp_path / "a.nii.gz", image)
    assert_bad(lambda: read_image(path), path, f"2 voxel(s) that are not finite, the first ({word}) at (1, 2, 3)")
    assert_bad(lambda: read_label(path), path, "2 voxel(s) that are not finite")


def test_image_beyond_float32_is_not_made_infinite_in_silence(tmp_path, write_nifti):
    path = write_nifti(tmp_path / "a.nii.gz", np.full((2, 2, 2), 1e300))
    assert_bad(lambda: read_image(path), path, "8 voxel(s) that are not finite")


@pytest.mark.parametrize(
    "value, found",
    [
        (4, "label values [4]"),
        (9.0, "label values [9]"),
        (1.5, "label values that are not integers, such as 1.5 (1 "),
        (-1, "label value -1"),
        (70000.0, "label value 70000"),
        (1e15, "label value 999999986991104"),  # as float32
        (np.int32(70000), "label value 70000"),
        (np.int32(-3), "label value -3"),
    ],
)
def test_label_values(tmp_path, write_nifti, tiny_heart, value, found):
    label = tiny_heart().astype(np.int32 if isinstance(value, np.int32) else np.float32)
    label[0, 0, 0] = value
    path = write_nifti(tmp_path / "a.nii.gz", label)
    assert_bad(lambda: read_label(path, CARDIAC), path, found)


def test_empty_label(tmp_path, write_nifti, tiny_heart):
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), np.uint8))
    assert_bad(lambda: read_label(path, CARDIAC), path, "an empty label map: every voxel is 0")
    assert_bad(lambda: read_label(path), path, "an empty label map")
    path = write_nifti(tmp_path / "b.nii.gz", tiny_heart())
    assert_bad(lambda: read_label(path, CARDIAC, {1: 0, 2: 0, 3: 0}), path, "an empty label map: the mapping")
    assert_bad(lambda: read_label(path, CARDIAC, {1: 1, 2: 2}), path, "label values [3]")


# --------------------------------------------------------------------------------------------------- pairs
def pair(tmp_path, write_nifti, **image):
    label = write_nifti(tmp_path / "x_gt.nii.gz", np.ones((4, 5, 6), np.uint8))
    array = np.ones(image.pop("shape", (4, 5, 6)), np.float32)
    return read_header(label), read_header(write_nifti(tmp_path / "x.nii.gz", array, **image))


def test_pair_of_one_grid_with_rounding(tmp_path, write_nifti):
    affine = np.diag([1.5, 1.5, 10, 1])
    affine[:3, 3] = 0.02  # 0.035 mm in all, 2.3 % of the smallest voxel side
    check_same_grid(*pair(tmp_path, write_nifti, affine=affine))


@pytest.mark.parametrize(
    "image, found, expected",
    [
        ({"shape": (4, 5, 7)}, "a label map of 4 x 5 x 6 voxels", "4 x 5 x 7, as its image x.nii.gz has"),
        ({"spacing": (1.6, 1.6, 10)}, "a label map whose affine puts a corner 0.5 mm from", "0.08 mm"),
        ({"affine": np.diag([-1.5, 1.5, 10, 1])}, "a corner 9 mm from", "0.075 mm"),
        ({"affine": np.diag([1.5, 1.5, 10, 1]) + np.eye(4, k=3)}, "a corner 1 mm", "one affine"),
    ],
)
def test_pair_of_two_grids(tmp_path, write_nifti, image, found, expected):
    label, other = pair(tmp_path, write_nifti, **image)
    assert_bad(lambda: check_same_grid(label, other), label.file, found, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("most", [1, 3, 4, 7, 11])
def test_labels_that_a_header_scales_are_read_as_they_were(tmp_path, tiny_heart, dtype, most):
    """What `get_fdata`, an edit and `set_data_dtype` write: labels in steps of the header's scale."""
    label = np.minimum(tiny_heart(), most)
    label[:2, 0, 0] = most, most // 2
    image = nibabel.Nifti1Image(label.astype(np.float64), np.diag([1.5, 1.5, 10, 1]))
    image.set_data_dtype(dtype)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert read_header(tmp_path / "a.nii.gz").slope < 0.1
    assert np.array_equal(read_label(tmp_path / "a.nii.gz"), label)


def test_an_image_that_a_header_scales_is_no_label_map(tmp_path):
    image = nibabel.Nifti1Image(np.linspace(0, 3, 5 * 5 * 4).reshape(5, 5, 4), np.diag([1.5, 1.5, 10, 1]))
    image.set_data_dtype(np.uint8)
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match="not integers"):
        read_label(tmp_path / "a.nii.gz")
    halves = nibabel.Nifti1Image(np.arange(100).reshape(5, 5, 4) / 2, np.diag([1.5, 1.5, 10, 1]))
    halves.header.set_slope_inter(0.5, 0)  # a step that does not tell labels from what lies between them
    nibabel.save(halves, tmp_path / "b.nii.gz")
    with pytest.raises(DataError, match="not integers"):
        read_label(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("lean, refused", [(0.005, False), (0.0099, False), (0.011, True), (0.9, True)])
def test_axes_that_are_not_at_right_angles_are_refused(tmp_path, tiny_heart, lean, refused):
    affine = np.diag([1.5, 1.5, 10, 1])
    affine[0, 1], affine[1, 1] = 1.5 * lean, 1.5 * np.sqrt(1 - lean**2)  # as long as the header says
    nibabel.save(nibabel.Nifti1Image(tiny_heart(), affine), tmp_path / "a.nii.gz")
    if refused:
        with pytest.raises(DataError, match=rf"not at right angles \({np.degrees(np.arccos(lean)):.1f} degrees\)"):
            read_header(tmp_path / "a.nii.gz")
    else:
        assert np.array_equal(read_label(tmp_path / "a.nii.gz"), tiny_heart())
