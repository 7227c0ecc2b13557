"""`shapelab predict`: label map in the scan's own grid, affine and header, indices beside it, bad input named."""

import gzip
import json
import warnings

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from shapelab.commands.files import predict as p
from shapelab.commands.files.networks import DEFAULTS
from shapelab.data.grid import RV_SIDE_MM
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.models.acnn import SubPixelConfig, SubPixelNet
from shapelab.models.acnn.baselines import FCN2D
from shapelab.models.native import NativeConfig, NativeNet, NativeSegmenter
from shapelab.models.two_stage import Net1, Net2, TwoStage, TwoStageNet, short_axis_config
from shapelab.spaces import save_network

SMALL = NativeConfig(spacing=2.0, size=32, first=64, second=48, widths=(8, 8))
SPACING = (1.5, 1.5, 10.0)


def heart(shape=(90, 84, 4), scale: float = 1.0) -> np.ndarray:
    x, y = np.meshgrid(np.arange(shape[0]) - 45, np.arange(shape[1]) - 42, indexing="ij")
    plane = np.zeros(shape[:2], np.uint8)
    plane[np.hypot(x + 18, y) < 15 * scale] = 1
    plane[np.hypot(x - 4, y) < 16] = 2
    plane[np.hypot(x - 4, y) < 11 * scale] = 3
    return np.repeat(plane[:, :, None], shape[2], 2)


class Knows:
    """Reads the label from the intensity (100 times the label, and noise): what a perfect model would do."""

    scheme, metadata = CARDIAC, {}

    def predict(self, image, spacing):
        return (np.asarray(image) / 100).round().astype(np.uint8)


def noisy(label: np.ndarray) -> np.ndarray:
    """100 times a label map, and grey values as a scan has them: 10 to 30 more."""
    return (100 * label.astype(int) + np.random.default_rng(0).integers(10, 31, label.shape)).astype(np.int16)


@pytest.fixture
def known(monkeypatch, tmp_path):
    """A model folder whose model knows the truth."""
    NativeSegmenter(NativeNet(SMALL), SMALL).save(tmp_path / "model")
    monkeypatch.setattr(p, "load_segmenter", lambda model: Knows())
    return tmp_path / "model"


def scan(write_nifti, path, scale=1.0, **kwargs):
    return write_nifti(path, noisy(heart(scale=scale)), **{"spacing": SPACING, **kwargs})


def test_label_map_has_the_scans_grid_affine_and_header(write_nifti, known, tmp_path):
    turn = np.array([[0, -1.5, 0, 12.5], [1.2, 0, 6.0, -30], [-0.9, 0, 8.0, 55], [0, 0, 0, 1.0]])
    file = scan(write_nifti, tmp_path / "a.nii.gz", affine=turn)
    image = nibabel.load(file)
    image.header["descrip"] = b"of the scanner"
    image.header.set_slope_inter(1, 0)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header), file)
    p.predict_file(known, file, tmp_path / "out" / "a.nii.gz")
    source, made = nibabel.load(file), nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert np.array_equal(made.affine, source.affine) and made.shape == source.shape
    assert made.get_data_dtype() == np.uint8
    for name in ("pixdim", "sform_code", "qform_code", "srow_x", "quatern_b", "xyzt_units", "descrip"):
        assert np.array_equal(made.header[name], source.header[name]), name
    assert np.array_equal(np.asarray(made.dataobj), heart())


def test_a_scan_in_any_voxel_order_gives_the_same_volumes_in_its_own_order(write_nifti, known, tmp_path, every_order):
    label = heart()
    tipped = np.eye(4)
    tipped[:3, :3] = Rotation.from_euler("zyx", (20, -30, 25), degrees=True).as_matrix() @ np.diag(SPACING)
    found = []
    for i, (stored, grey, affine) in enumerate([*every_order(label, noisy(label), tipped)][::7]):
        file = write_nifti(tmp_path / f"{i}.nii.gz", np.ascontiguousarray(grey), affine=affine)
        found.append(p.predict_file(known, file, tmp_path / f"o{i}.nii.gz"))
        made = nibabel.load(tmp_path / f"o{i}.nii.gz")
        assert np.array_equal(np.asarray(made.dataobj), stored) and np.array_equal(
            made.affine, nibabel.load(file).affine
        )
    pictures = {(tmp_path / f"o{i}.png").read_bytes() for i in range(len(found))}
    numbers = [{k: v for k, v in one.items() if k not in ("scan", "label_map", "picture")} for one in found]
    assert len(found) == 7 and all(one == numbers[0] for one in numbers)
    assert len(pictures) == 7  # their titles name the files
    assert numbers[0]["assumed"] == ["the first slice is the base: the LV is as wide at either end"]


def test_indices_by_hand(write_nifti, known, tmp_path):
    found = p.predict_file(known, scan(write_nifti, tmp_path / "a.nii.gz"), tmp_path / "o.nii.gz")
    voxel = 1.5 * 1.5 * 10 / 1000
    volumes = {n: (heart() == v).sum() * voxel for n, v in (("RV cavity", 1), ("LV myocardium", 2), ("LV cavity", 3))}
    assert found["volumes_ml"] == {n: pytest.approx(v, abs=0.006) for n, v in volumes.items()}
    assert found["myocardial_mass_g"] == pytest.approx(1.05 * volumes["LV myocardium"], abs=0.006)
    assert json.loads((tmp_path / "o.json").read_text()) == found
    assert found["scan"] == "a.nii.gz" and found["label_map"] == "o.nii.gz" and "es" not in found


def test_ejection_fraction_with_the_scan_at_es(write_nifti, known, tmp_path):
    ed, es = (scan(write_nifti, tmp_path / f"{n}.nii.gz", s) for n, s in (("ed", 1.0), ("es", 0.7)))
    found = p.predict_file(known, ed, tmp_path / "o.nii.gz", es=es)
    a, b = ((heart(scale=s) == 3).sum() * 0.0225 for s in (1.0, 0.7))
    assert found["stroke_volume_ml"]["LV"] == pytest.approx(a - b, abs=0.02)
    assert found["ejection_fraction_percent"]["LV"] == pytest.approx(100 * (a - b) / a, abs=0.05)
    assert set(found["ejection_fraction_percent"]) == {"LV", "RV"}
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "o_es.nii.gz").dataobj), heart(scale=0.7))
    assert found["es"]["label_map"] == "o_es.nii.gz"


def test_nothing_is_overwritten_unless_told(write_nifti, known, tmp_path):
    file = scan(write_nifti, tmp_path / "a.nii.gz")
    p.predict_file(known, file, tmp_path / "o.nii")
    before = (tmp_path / "o.nii").read_bytes()
    with pytest.raises(UsageError, match="already there"):
        p.predict_file(known, file, tmp_path / "o.nii")
    with pytest.raises(UsageError, match="already there"):  # the indices alone would be lost, too
        p.predict_file(known, file, tmp_path / "o.nii.gz")
    p.predict_file(known, file, tmp_path / "o.nii", force=True)
    assert (tmp_path / "o.nii").read_bytes() == before


@pytest.mark.parametrize("output, match", [("o.png", "ends in .nii"), ("a.nii.gz", "is an input")])
def test_wrong_outputs(write_nifti, known, tmp_path, output, match):
    with pytest.raises(UsageError, match=match):
        p.predict_file(known, scan(write_nifti, tmp_path / "a.nii.gz"), tmp_path / output, force=True)


def test_es_output_needs_a_scan_and_another_name(write_nifti, known, tmp_path):
    file = scan(write_nifti, tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match="without an ES scan"):
        p.predict_file(known, file, tmp_path / "o.nii", es_output=tmp_path / "x.nii")
    with pytest.raises(UsageError, match="two names"):
        p.predict_file(known, file, tmp_path / "o.nii", es=file, es_output=tmp_path / "o.nii")


BAD = {
    "cine": (np.zeros((80, 80, 6, 4), np.int16), None, "4D"),
    "flat": (np.full((90, 84, 4), 3, np.int16), SPACING, "same intensity"),
    "isotropic": (np.ones((90, 84, 40), np.int16), (1.5, 1.5, 1.5), "along no axis clearly thicker"),
    "crop": (np.ones((40, 40, 8), np.int16), SPACING, "field of 60 x 60 mm"),
    "micrometre sizes": (np.ones((40, 40, 8), np.int16), (1500, 1500, 10000), "Is the unit mm"),
    "not square": (np.ones((90, 90, 8), np.int16), (1.0, 2.0, 10), "Is the unit mm"),
    "NaN": (np.full((90, 84, 4), np.nan, np.float32), SPACING, "not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_scans_are_named_and_leave_nothing(write_nifti, known, tmp_path, name):
    array, spacing, match = BAD[name]
    affine = np.eye(4) if spacing is None else None
    file = write_nifti(tmp_path / "bad.nii.gz", array, spacing=spacing or (1, 1, 1), affine=affine)
    with pytest.raises(DataError, match=match) as error:
        p.predict_file(known, file, tmp_path / "o.nii.gz")
    assert "bad.nii.gz" in str(error.value)
    assert sorted(q.name for q in tmp_path.iterdir()) == ["bad.nii.gz", "model"]


@pytest.mark.parametrize("name", ["label map", "one value but for a few voxels"])
def test_what_is_no_scan_is_refused(write_nifti, known, tmp_path, name):
    array = heart().astype(np.int16) if name == "label map" else np.full((90, 84, 4), 7, np.int16)
    array[:4, :10, 0] = np.arange(40).reshape(4, 10) if name != "label map" else 0
    file = write_nifti(tmp_path / "bad.nii.gz", array, spacing=SPACING)
    match = "a label map.*Give the scan" if name == "label map" else "one intensity"
    with pytest.raises(DataError, match=match):
        p.predict_file(known, file, tmp_path / "o.nii.gz")
    assert not (tmp_path / "o.nii.gz").exists()


def test_damaged_files_are_named(known, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        p.predict_file(known, tmp_path / "none.nii.gz", tmp_path / "o.nii.gz")
    (tmp_path / "t.nii.gz").write_bytes(gzip.compress(b"not a scan"))
    with pytest.raises(DataError, match=r"t\.nii\.gz"):
        p.predict_file(known, tmp_path / "t.nii.gz", tmp_path / "o.nii.gz")


def test_no_heart_is_an_error(write_nifti, known, tmp_path):
    array = noisy(np.zeros((90, 84, 4)))
    array[0, :50, 0] = np.arange(50)  # more than the few values of a label map
    file = write_nifti(tmp_path / "a.nii.gz", array, spacing=SPACING)
    with pytest.raises(DataError, match="no heart"):
        p.predict_file(known, file, tmp_path / "o.nii.gz")
    assert not (tmp_path / "o.nii.gz").exists()


def test_models_by_name_and_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    NativeSegmenter(NativeNet(SMALL), SMALL).save(tmp_path / "mine")
    assert isinstance(p.load_segmenter("mine"), NativeSegmenter)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "model.json").write_text("[]")
    with pytest.raises(DataError, match="damaged description"):
        p.load_segmenter(tmp_path / "empty")
    (tmp_path / "empty" / "model.json").write_text('{"kind": "unheard of"}')
    with pytest.raises(DataError, match=r"model\.json"):
        NativeSegmenter(NativeNet(SMALL), SMALL).save(tmp_path / p.FINDER)
        p.load_segmenter(tmp_path / "empty")


class Halves(torch.nn.Module):
    """Stands in for a sub-pixel network: LV cavity in the right half of its grid, RV cavity in the left."""

    def __init__(self):
        super().__init__()
        self.config = SubPixelConfig()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        assert x.shape == (1, 1, 48, 48, 12) and 0 <= x.min() and x.max() <= 1
        logits = torch.zeros(1, 4, 48, 48, 24)
        logits[:, 1, :24], logits[:, 3, 24:] = 9, 9
        return logits + self.weight


def test_a_network_on_a_grid_gets_a_turned_heart_and_its_result_comes_back():
    finder = Knows()
    upside = np.ascontiguousarray(heart(shape=(90, 84, 8)).transpose(1, 0, 2))  # the RV lies above the LV: 90 degrees
    made = p.GridSegmenter(Halves(), finder).predict(100.0 * upside, SPACING)
    assert made.shape == upside.shape
    rv, lv = (np.argwhere(made == v) for v in (1, 3))
    assert abs(rv.mean(0)[0] - lv.mean(0)[0]) < 2 and rv[:, 1].max() < lv[:, 1].min()  # above each other in the scan
    # they meet in the middle of the grid: RV_SIDE_MM towards the RV from the LV's centroid
    border = (rv[:, 1].max() + lv[:, 1].min()) / 2 * 1.5
    centre = np.argwhere(upside >= 2).mean(0)[1] * 1.5
    assert border == pytest.approx(centre - RV_SIDE_MM, abs=1.6)


def test_a_network_on_a_grid_sees_the_heart_turned_and_in_thick_slices():
    seen = []

    class Sees(Halves):
        def forward(self, x):
            seen.append(x[0, 0].numpy())
            return super().forward(x)

    upside = np.ascontiguousarray(heart().transpose(1, 0, 2))  # 4 slices of 10 mm, the RV above the LV
    p.GridSegmenter(Sees(), Knows()).predict(100.0 * upside, SPACING)
    rv, lv = (np.argwhere(mask).mean(0)[:2] * 3.0 for mask in (np.abs(seen[0] - 1 / 3) < 0.05, seen[0] > 0.95))
    visible = np.argwhere(upside == 1).mean(0)[1] * 1.5, np.argwhere(upside == 3).mean(0)[1] * 1.5
    assert lv - rv == pytest.approx([visible[1] - visible[0], 0], abs=2)  # mm: straight to the left
    # its slices are of 2 x 5 mm, so that 40 mm of heart fill four of them, about the middle
    assert np.flatnonzero((seen[0] > 0.95).any((0, 1))).tolist() == [4, 5, 6, 7]


def test_sub_pixel_networks_are_read_by_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    NativeSegmenter(NativeNet(SMALL), SMALL).save(tmp_path / p.FINDER)
    config = SubPixelConfig.profile("quick", widths=(2, 2, 2, 2))
    save_network(tmp_path / "seg", SubPixelNet(config))
    assert isinstance(p.load_segmenter("seg"), p.GridSegmenter)
    save_network(tmp_path / "fcn", FCN2D(config))
    assert isinstance(p.load_segmenter("fcn"), p.GridSegmenter)
    save_network(tmp_path / "sr", SubPixelNet(SubPixelConfig.profile("quick", widths=(2, 2, 2, 2), n_out=1)), task="sr")
    with pytest.raises(UsageError, match="segments"):
        p.load_segmenter("sr")


# ------------------------------------------------------------------------------------- what no heart has


def tall(**kwargs) -> np.ndarray:
    return heart(shape=(90, 84, 9), **kwargs)  # of a size that hearts have: LV 74 ml, RV 107 ml


def written(write_nifti, tmp_path, **labels):
    return [write_nifti(tmp_path / f"{n}.nii.gz", noisy(label), spacing=SPACING) for n, label in labels.items()]


def test_of_a_heart_nothing_is_said(write_nifti, known, tmp_path):
    ed, es = written(write_nifti, tmp_path, ed=tall(), es=tall(scale=0.7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert p.predict_file(known, ed, tmp_path / "o.nii.gz", es=es)["warnings"] == []
        assert p.predict_file(known, es, tmp_path / "one.nii.gz")["warnings"] == []


def gone(label, value):
    return np.where(label == value, 0, label).astype(np.uint8)


@pytest.mark.parametrize(
    "ed, es, expected",
    [
        (tall(scale=0.7), tall(), "LVEF -"),
        (tall(), gone(tall(scale=0.7), 1), "ES: no RV cavity"),
        (tall(), gone(tall(scale=0.7), 1), "RVEF 100 % (hearts: 1 to 90; none at ES?)"),
        (gone(tall(), 3), None, "no LV cavity"),
        (tall()[:, :, :2], None, "an LV in 2 slices alone"),
        (np.where(np.arange(9) < 1, tall(), gone(tall(), 1)), None, "an RV in 1 of the LV's 9 slices"),
        (tall(scale=0.3), None, "LVV 7.49 ml (hearts: 8 to 500)"),
    ],
)
def test_what_no_heart_has_is_said_and_written(write_nifti, known, tmp_path, ed, es, expected):
    files = written(write_nifti, tmp_path, ed=ed, **({} if es is None else {"es": es}))
    with pytest.warns(UserWarning, match="Look at .*o.png") as said:
        found = p.predict_file(known, files[0], tmp_path / "o.nii.gz", es=files[1] if es is not None else None)
    assert any(text.startswith(expected) for text in found["warnings"]), found["warnings"]
    assert [w.filename for w in said] == [__file__] and expected in str(said[0].message)
    assert json.loads((tmp_path / "o.json").read_text())["warnings"] == found["warnings"]


def test_scans_of_other_voxel_sizes_are_said(write_nifti, known, tmp_path):
    ed = write_nifti(tmp_path / "ed.nii.gz", noisy(tall()), spacing=SPACING)
    es = write_nifti(tmp_path / "es.nii.gz", noisy(tall(scale=0.7)), spacing=(1.5, 1.5, 8.0))
    with pytest.warns(UserWarning, match="ED and ES of other voxel sizes"):
        p.predict_file(known, ed, tmp_path / "o.nii.gz", es=es)


def test_a_picture_lies_beside_the_result(write_nifti, known, tmp_path):
    ed, es = written(write_nifti, tmp_path, ed=tall(), es=tall(scale=0.7))
    found = p.predict_file(known, ed, tmp_path / "o.nii.gz", es=es)
    with Image.open(tmp_path / found["picture"]) as picture:
        assert picture.format == "PNG" and picture.width > 900
    with pytest.raises(UsageError, match="o.png"):  # it would be lost, too
        (tmp_path / "o.json").unlink()
        p.predict_file(known, ed, tmp_path / "o.nii", es=es, es_output=tmp_path / "other.nii")


# ------------------------------------------------------------------------------------- a two-stage network


def grey_levels(x):
    """Of what either net sees, (N, C, X, Y, Z) in [-1, 1]: the label that `noisy` wrote, (N, X, Y, Z)."""
    return ((x[:, -1] + 1) / 2 * 3.2).round().long().clamp(0, 3)


def logits(labels):
    return 20.0 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)


@pytest.fixture
def two_stage(monkeypatch, tmp_path):
    """A two-stage network, kept as the one that ships, both of whose nets know the truth."""
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(Net1, "forward", lambda self, x: logits(grey_levels(x)))
    monkeypatch.setattr(Net2, "forward", lambda self, x: logits(grey_levels(x)[..., 1:-1]))
    config = short_axis_config("quick", width1=2, width2=2, levels2=2, dilation=(1,), deep=0, margin_mm=6.0, field=80)
    TwoStage(TwoStageNet(config), config, CARDIAC).save(tmp_path / "weights" / DEFAULTS[0])
    return tmp_path / "weights"


def test_without_a_model_the_two_stage_network_segments_a_stack(write_nifti, two_stage, tmp_path):
    ed, es = written(write_nifti, tmp_path, ed=tall(), es=tall(scale=0.7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = p.predict_file(None, ed, tmp_path / "o.nii.gz", es=es)
    assert found["model"] == DEFAULTS[0] and found["warnings"] == []
    for name, truth in {"o.nii.gz": tall(), "o_es.nii.gz": tall(scale=0.7)}.items():
        made = np.asarray(nibabel.load(tmp_path / name).dataobj)
        assert made.shape == truth.shape
        for v in (1, 2, 3):
            assert 2 * ((made == v) & (truth == v)).sum() > 0.94 * ((made == v).sum() + (truth == v).sum())
    assert isinstance(p.load_segmenter(DEFAULTS[0]), TwoStage)


def test_without_its_weights_the_native_network_is_the_default(write_nifti, tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    file = scan(write_nifti, tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match=f"found '{DEFAULTS[1]}'; expected .* where there is none"):
        p.predict_file(None, file, tmp_path / "o.nii.gz")
    NativeSegmenter(NativeNet(SMALL), SMALL).save(tmp_path / DEFAULTS[1])
    monkeypatch.setattr(p, "load_segmenter", lambda folder: Knows() if folder == tmp_path / DEFAULTS[1] else None)
    assert p.predict_file(None, file, tmp_path / "o.nii.gz")["model"] == DEFAULTS[1]
    with pytest.raises(UsageError, match=f"expected none with {DEFAULTS[1]}, a model of short-axis stacks"):
        p.predict_file(None, file, tmp_path / "p.nii.gz", modality="CT")


@pytest.mark.parametrize(
    "net1_finds, expected",
    [(lambda labels: 0 * labels, "Net1 found no heart"), (lambda labels: 3 * (labels == 3), "reaches the border")],
)
def test_what_a_two_stage_network_warns_of_is_in_the_report_once(
    write_nifti, two_stage, tmp_path, monkeypatch, net1_finds, expected
):
    monkeypatch.setattr(Net1, "forward", lambda self, x: logits(net1_finds(grey_levels(x))))
    (file,) = written(write_nifti, tmp_path, ed=tall())
    with pytest.warns(UserWarning) as said:
        found = p.predict_file(None, file, tmp_path / "o.nii.gz")
    (text,) = found["warnings"]
    assert text.startswith("two-stage network: ") and expected in text and not text.endswith(".")
    assert [text in str(warning.message) for warning in said] == [True]
    assert json.loads((tmp_path / "o.json").read_text())["warnings"] == [text]


def test_a_two_stage_network_refuses_and_warns_as_the_native_one(write_nifti, two_stage, tmp_path):
    whole = write_nifti(tmp_path / "whole.nii.gz", BAD["isotropic"][0], spacing=BAD["isotropic"][1])
    with pytest.raises(DataError, match=r"whole\.nii\.gz.*name a model that takes it"):
        p.predict_file(None, whole, tmp_path / "o.nii.gz")
    file = write_nifti(tmp_path / "thick.nii.gz", noisy(tall()), spacing=(1.5, 1.5, 14.0))
    with pytest.warns(UserWarning, match=r"slices of 14 mm; the network learned from 5 to 10 mm"):
        p.predict_file(None, file, tmp_path / "o.nii.gz")


@pytest.mark.slow
@pytest.mark.realdata
def test_real_hearts_are_beyond_doubt_where_the_segmentation_is_good(acdc_root, tmp_path):
    ed, es = (acdc_root / "training" / "patient001" / f"patient001_frame{k}.nii.gz" for k in ("01", "12"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert p.predict_file(p.FINDER, ed, tmp_path / "o.nii.gz", es=es)["warnings"] == []
