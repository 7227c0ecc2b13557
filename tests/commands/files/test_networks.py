"""Which networks suit what: read from descriptions, checked, listed; what is no scan is refused."""

from pathlib import Path

import numpy as np
import pytest

from shapelab.commands.files.networks import (
    Network,
    check_scan,
    default_model,
    described,
    find_network,
    networks,
)
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, WHOLE_HEART
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError
from shapelab.models.acnn import SubPixelConfig, SubPixelNet
from shapelab.models.native import NativeConfig, NativeNet, NativeSegmenter
from shapelab.models.two_stage import TwoStage, TwoStageConfig, TwoStageNet, short_axis_config
from shapelab.spaces import save_network

SMALL = NativeConfig(spacing=2.0, size=32, first=64, second=48, widths=(8, 8))
SHIPPED = Path(__file__).resolve().parents[3] / "data" / "weights"
ABLE = [
    "acnn_fcn_quick",
    "acnn_seg_native_quick",
    "acnn_seg_prior_quick",
    "acnn_seg_quick",
    "joint_space_quick",
]
REFUSED = {
    "acnn_sr_quick": "super-resolution",
    "acnn_sr_prior_quick": "super-resolution",
    "acnn_srcnn_quick": "super-resolution",
    "acnn_ae_quick": "is a shape space",
    "acnn_ae_us_quick": "is a shape space",
    "acnn_tl_quick": "is a T-L network",
    "sslln_hr_quick": "RV wall in whole volumes",
    "sslln_lr_quick": "RV wall in whole volumes",
    "sslln_gaps_quick": "RV wall in whole volumes",
    "sslln_fcn_quick": "RV wall in whole volumes",
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of weights with one network, and the way to it."""
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    NativeSegmenter(NativeNet(SMALL), SMALL, metadata={"data": "my hearts"}).save(tmp_path / "mine")
    return tmp_path


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(SHIPPED))


def test_of_what_ships_five_can_segment_a_scan_and_the_others_say_why_not(shipped):
    found = {n.name: n for n in networks()}
    assert [name for name, n in found.items() if not n.refused] == ABLE
    assert {name for name in found if name not in ABLE} == set(REFUSED)
    for name, why in REFUSED.items():
        with pytest.raises(UsageError, match=f"'{name}', which .*{why}.*'acnn_seg_native_quick'"):
            find_network(name)


def test_what_a_network_suits_is_read_from_its_description(shipped, mine):
    native = described(SHIPPED / "acnn_seg_native_quick")
    assert native.slices_mm == (5, 10) and native.in_plane_mm == 1.6 and native.caution == ""
    assert native.learned_from == "500 phantom hearts, ED and ES, seed 30000"
    assert "short-axis" in native.takes and "256 mm" in native.takes  # 160 pixels of 1.6 mm
    grid = described(SHIPPED / "acnn_seg_quick")
    assert grid.slices_mm == (0, 10) and grid.in_plane_mm == 3 and "144 x 144 x 120 mm" in grid.takes
    assert "Dice" in grid.caution
    own = find_network("mine")
    assert own.segments == "RV cavity, LV myocardium, LV cavity" and own.learned_from == "my hearts"
    save_network(mine / "real", SubPixelNet(SubPixelConfig(widths=(2, 2, 2, 2))), metadata={"data": "acdc"})
    assert find_network(mine / "real").caution == ""


def test_networks_by_name_and_folder(mine, monkeypatch):
    assert find_network("mine").folder == find_network(mine / "mine").folder == mine / "mine"
    with pytest.raises(UsageError, match=r"expected a folder .* \['mine'\]"):
        find_network("yours")
    (mine / "empty").mkdir()
    with pytest.raises(DataError, match=r"no model\.json"):
        find_network(mine / "empty")
    (mine / "empty" / "model.json").write_text("[]")
    with pytest.raises(DataError, match="damaged description"):
        find_network("empty")
    assert [n.name for n in networks() if n.refused.startswith("cannot be read")] == ["empty"]
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(mine / "none"))
    with pytest.raises(UsageError, match="where there is none"):
        find_network("mine")


def test_other_structures_and_other_numbers_are_refused(mine):
    config = SubPixelConfig(widths=(2, 2, 2, 2), n_out=5)
    save_network(mine / "walls", SubPixelNet(config), scheme=BIVENTRICULAR)
    with pytest.raises(UsageError, match="RV wall"):
        find_network("walls")


def two_stage(config, scheme, **metadata):
    return TwoStage(TwoStageNet(config), config, scheme, metadata)


TINY = {"width1": 2, "width2": 2, "levels2": 2, "dilation": (1,), "deep": 0}


def test_two_stage_networks_take_what_their_scheme_says(mine):
    stacks = short_axis_config("quick", **TINY, spacing=(1.25, 1.25, 0.0))
    two_stage(stacks, CARDIAC, data="20 phantom hearts").save(mine / "stacks")
    found = find_network("stacks")
    assert (found.slices_mm, found.in_plane_mm, found.modalities, found.caution) == ((5, 10), 1.25, (), "")
    assert found.takes.startswith("cardiac MR, short-axis stack") and "at 1.25 mm in plane, 200 mm" in found.takes
    hearts = TwoStageConfig(**TINY, spacing=(2.0, 2.0, 3.0))
    two_stage(hearts, WHOLE_HEART, data="phantom-wh", modalities=["CT"]).save(mine / "hearts")
    found = find_network("hearts")
    assert (found.in_plane_mm, found.modalities) == (2, ("CT",)) and "real scans" in found.caution
    assert found.takes == "CT of a whole heart, anywhere in the scan, at 2 mm" and "pulmonary artery" in found.segments
    two_stage(hearts, WHOLE_HEART).save(mine / "silent")
    two_stage(short_axis_config("quick", **TINY, n_classes=5), BIVENTRICULAR).save(mine / "walls")
    for name, why in {"silent": "modalities", "walls": "labels .*RV wall"}.items():
        with pytest.raises(UsageError, match=f"'{name}', which .*{why}.*'hearts', 'mine', 'stacks'"):
            find_network(name)


def test_the_default_is_the_first_whose_weights_are_there(mine):
    two, native = "two_stage_sa_quick", "acnn_seg_native_quick"
    assert default_model() == native  # nothing is there: the error names what ships at any rate
    NativeSegmenter(NativeNet(SMALL), SMALL).save(mine / native)
    assert default_model() == native
    (mine / two).mkdir()
    assert default_model() == native  # a folder without a description
    stacks = short_axis_config("quick", **TINY)
    two_stage(stacks, CARDIAC).save(mine / two)
    assert default_model() == two and not find_network(two).modalities


NET = Network("n", Path("n"), slices_mm=(5, 10), in_plane_mm=1.6)
SIZE = np.array([1.5, 1.5, 8.0])


def grey(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(np.float32)


def scan(image: np.ndarray, size: np.ndarray) -> Subject:
    return Subject("a", CARDIAC, image=image, affine=np.diag([*size, 1]))


def test_a_scan_that_suits_is_passed_and_one_that_does_not_is_told():
    assert check_scan(scan(grey(20, 20, 5), SIZE), NET) == []
    for thick, said in ((3.8, 1), (3.9, 0), (13, 0), (13.1, 1)):  # 5 / 1.3 = 3.85
        assert len(check_scan(scan(grey(20, 20, 5), np.array([1.5, 1.5, thick])), NET)) == said, thick
    (text,) = check_scan(scan(grey(20, 20, 5), np.array([3.3, 3.3, 8])), NET)
    assert text == "3.3 mm in plane; the network sees 1.6 mm"
    (text,) = check_scan(scan(grey(20, 20, 5) - 500, SIZE), NET)
    assert text.startswith("intensities down to -500: CT")
    cautious = Network("n", Path("n"), caution="is new")
    assert check_scan(scan(grey(20, 20, 5), SIZE), cautious) == ["the network is new"]


def parcels(n: int) -> np.ndarray:
    """A label map of n regions, boxes of 4 x 4 x 1 voxels: of the neighbours in one, 3 of 4 pairs are alike."""
    return np.kron(np.arange(n).reshape(-1, 10, 1), np.ones((20, 4, 3)))


@pytest.mark.parametrize(
    "image",
    [
        np.kron(np.array([[0, 1], [2, 3]])[..., None], np.ones((8, 8, 4))),
        np.kron(np.array([[0, 0.25], [0.5, 1]])[..., None], np.ones((8, 8, 4))),  # scaled by its header
        np.kron(np.array([[0, 205], [500, 600]])[..., None], np.ones((8, 8, 4))),
        parcels(200),
    ],
)
def test_a_label_map_is_no_scan(image):
    with pytest.raises(DataError, match="different values .*: a label map"):
        check_scan(scan(image.astype(np.float32), SIZE), NET)


def test_an_image_of_one_value_is_no_scan():
    image = np.full((40, 40, 8), 5, np.float32)
    image[0, :40, 0] = np.arange(40)
    with pytest.raises(DataError, match=r"one intensity \(5\) in 98 %"):
        check_scan(scan(image, SIZE), NET)
    with pytest.raises(DataError, match="a label map"):
        check_scan(scan(np.zeros((4, 4, 4), np.float32), SIZE), NET)
