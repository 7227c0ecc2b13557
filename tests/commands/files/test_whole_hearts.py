"""`shapelab predict` with a network of whole hearts, a joint space or a two-stage network: the heart is found, labelled
in the scan's own voxels, and refused where the scan is none for it."""

import json
import warnings

import nibabel
import numpy as np
import pytest
import torch

from shapelab.commands.files import predict as p
from shapelab.commands.files.networks import find_network, networks
from shapelab.data.scheme import CARDIAC, WHOLE_HEART
from shapelab.errors import DataError, UsageError
from shapelab.models.joint_space import JointNetwork, JointSpace, JointSpaceConfig
from shapelab.models.two_stage import Net1, Net2, TwoStage, TwoStageConfig, TwoStageNet

CONFIG = JointSpaceConfig(shape=(16, 16, 16), spacing=(9.0, 9.0, 9.0), widths=(2, 2), convs=(1, 1))
HEART = np.array([95.0, 70.0, 60.0])  # mm from the first voxel
SPACING = (4.0, 3.0, 5.0)


def kept(folder, modalities=("CT", "MR"), scheme=WHOLE_HEART, **metadata):
    config = JointSpaceConfig(**{**vars(CONFIG), "n_classes": scheme.n_classes})
    space = JointSpace(config, scheme, JointNetwork(config))
    space.set_training_codes(np.zeros((2, config.code), np.float32))
    space.metadata = {"modalities": list(modalities), "data": "test hearts", **metadata}
    return space.save(folder)


def reads_grey(self, images, batch=16):
    """Probabilities of one who knows: the brightest is the LV cavity, the middle its wall."""
    low, high = images.min(), images.max()
    share = (images - low) / max(high - low, 1e-6)
    channels = np.where(share > 0.75, 1, np.where(share > 0.25, 2, 0))
    return (channels[:, None] == np.arange(8)[:, None, None, None]).astype(np.float32)


@pytest.fixture
def knows(monkeypatch, tmp_path):
    """A folder with a joint space that knows the truth."""
    monkeypatch.setattr(JointSpace, "probabilities", reads_grey)
    return kept(tmp_path / "joint", middle=[7.5, 7.5, 7.5])


def truth(shape=(48, 56, 36), heart=HEART, radii=(18, 30)):
    """A ball of 18 mm in one of 30 mm, away from the middle of the scan."""
    away = np.stack(np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, SPACING)], indexing="ij"), -1) - heart
    far = np.linalg.norm(away, axis=-1)
    return np.select([far < r for r in radii], [1, 2]).astype(np.uint8)


def scan(write_nifti, path, least=-800, label=None, **options):
    label = truth() if label is None else label
    grey = np.array([least, 1200 + least, 600 + least])[label] + np.random.default_rng(0).integers(0, 40, label.shape)
    return write_nifti(path, grey.astype(np.int16), **{"spacing": SPACING, **options})


def dice(a, b):
    return [2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()) for k in (1, 2)]


def test_a_heart_away_from_the_middle_is_found_and_labelled_in_the_scans_voxels(write_nifti, knows, tmp_path):
    turned = np.array([[0, -3.0, 0, 12.5], [-4.0, 0, 0, -30], [0, 0, 5.0, 55], [0, 0, 0, 1.0]])  # another voxel order
    file = scan(write_nifti, tmp_path / "ct.nii.gz", affine=turned)
    with pytest.warns(UserWarning, match="no RV cavity"):
        told = p.predict_file(knows, file, tmp_path / "out.nii.gz")
    source, made = nibabel.load(file), nibabel.load(tmp_path / "out.nii.gz")
    assert np.array_equal(made.affine, source.affine) and made.shape == source.shape
    assert made.get_data_dtype() == np.uint8
    assert min(dice(np.asarray(made.dataobj), truth())) > 0.85
    ball = 4 / 3 * np.pi * 18**3 / 1000
    assert told["volumes_ml"]["LV cavity"] == pytest.approx(ball, rel=0.15)
    assert told["modality"] == "CT" and any("modality CT" in text for text in told["assumed"])
    assert json.loads((tmp_path / "out.json").read_text()) == told
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_one_heart_in_any_voxel_order_has_the_same_volumes(write_nifti, knows, tmp_path):
    volumes = []
    for name, way in {"a": np.s_[:, :, :], "b": np.s_[::-1, :, ::-1]}.items():
        affine = np.diag([*SPACING, 1.0])
        for axis, step in enumerate(way):
            if step.step == -1:
                affine[:3, 3] += affine[:3, axis] * (truth().shape[axis] - 1)
                affine[:3, axis] *= -1
        scan(write_nifti, tmp_path / f"{name}.nii.gz", label=truth()[way], affine=affine)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            volumes.append(p.predict_file(knows, tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"))
    assert volumes[0]["volumes_ml"]["LV cavity"] == pytest.approx(volumes[1]["volumes_ml"]["LV cavity"], rel=0.02)


@pytest.mark.filterwarnings("ignore:.*found no RV cavity")
def test_the_modality_is_told_or_guessed_and_must_be_one_that_was_learned(write_nifti, knows, tmp_path):
    mr, ct = scan(write_nifti, tmp_path / "mr.nii.gz", least=20), scan(write_nifti, tmp_path / "ct.nii.gz")
    assert p.predict_file(knows, mr, tmp_path / "a.nii.gz")["modality"] == "MR"
    told = p.predict_file(knows, mr, tmp_path / "b.nii.gz", modality="CT", centre=(24, 23, 12))
    assert (told["modality"], told["assumed"]) == ("CT", [])
    with pytest.raises(DataError, match="images of US; expected of CT or MR"):
        p.predict_file(knows, mr, tmp_path / "c.nii.gz", modality="US")
    only_mr = kept(tmp_path / "mr", modalities=["MR"])
    with pytest.raises(DataError, match="images of CT; expected of MR"):
        p.predict_file(only_mr, ct, tmp_path / "c.nii.gz")
    assert not (tmp_path / "c.nii.gz").exists()


def test_what_is_no_scan_of_a_whole_heart_is_refused(write_nifti, knows, tmp_path):
    out = tmp_path / "out.nii.gz"
    with pytest.raises(DataError, match=r"a field of 192 x 168 x 60 mm"):
        p.predict_file(knows, scan(write_nifti, tmp_path / "a.nii.gz", label=truth()[..., :12]), out)
    with pytest.raises(DataError, match="label map"):
        p.predict_file(knows, write_nifti(tmp_path / "b.nii.gz", truth(), spacing=SPACING), out)
    whole = scan(write_nifti, tmp_path / "c.nii.gz")
    with pytest.raises(UsageError, match=r"centre: found \(99, 0, 0\); expected a voxel"):
        p.predict_file(knows, whole, out, centre=(99, 0, 0))
    with pytest.raises(UsageError, match="es: found an ES scan"):
        p.predict_file(knows, whole, out, es=whole)


def test_a_scan_in_which_nothing_is_labelled_is_an_error(write_nifti, knows, monkeypatch, tmp_path):
    monkeypatch.setattr(
        JointSpace, "probabilities", lambda self, x: np.eye(8)[None, 0, :, None, None, None] + 0 * x[:, None]
    )
    with pytest.raises(DataError, match="no heart .*--centre"):
        p.predict_file(knows, scan(write_nifti, tmp_path / "a.nii.gz"), tmp_path / "out.nii.gz")


def test_the_list_says_what_it_takes(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    kept(tmp_path / "whole", data="20 phantom hearts")
    kept(tmp_path / "short", scheme=CARDIAC)
    found = {network.name: network for network in networks()}
    assert found["whole"].takes.startswith("CT or MR of a whole heart, 144 x 144 x 144 mm")
    assert found["whole"].modalities == ("CT", "MR") and "real scans" in found["whole"].caution
    assert "short-axis hearts" in found["short"].refused
    with pytest.raises(UsageError, match="short-axis hearts"):
        find_network("short")


def test_a_model_of_short_axis_stacks_takes_neither(tmp_path):
    with pytest.raises(UsageError, match="modality or centre"):
        p.predict_file("acnn_seg_native_quick", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", modality="MR")


# ------------------------------------------------------------------------------------- a two-stage network

FINE = TwoStageConfig(
    spacing=(3.0, 3.0, 3.0), factor=(2, 2, 2), width1=2, width2=2, levels2=2, dilation=(1,), slices=3, margin_mm=6.0
)


def near(x: float = 60.0):
    """A heart in a smaller scan, so that it is more than the hundredth that is cut off above: x mm along the first."""
    return truth((40, 36, 24), (x, 54.0, 60.0), (24, 36))


def knowing(x):
    """Logits of one who knows, of what either net sees, (N, C, X, Y, Z)."""
    share = (x[:, -1] + 1) / 2
    labels = torch.where(share > 0.75, 1, torch.where(share > 0.25, 2, 0))
    return 20.0 * torch.nn.functional.one_hot(labels, 8).movedim(-1, 1)


@pytest.fixture
def two_stage(monkeypatch, tmp_path):
    """A folder with a two-stage network of whole hearts, both of whose nets know the truth."""
    monkeypatch.setattr(Net1, "forward", lambda self, x: knowing(x))
    monkeypatch.setattr(Net2, "forward", lambda self, x: knowing(x)[..., 1:-1])
    made = TwoStage(TwoStageNet(FINE), FINE, WHOLE_HEART, {"modalities": ["CT", "MR"], "data": "test hearts"})
    return made.save(tmp_path / "two-stage")


def test_a_two_stage_network_reads_the_whole_scan(write_nifti, two_stage, monkeypatch, tmp_path):
    corners = []
    monkeypatch.setattr(Net1, "forward", lambda self, x: corners.append(float(x[0, 0, 0, 0, 0])) or knowing(x))
    turned = np.array([[0, -3.0, 0, 12.5], [-4.0, 0, 0, -30], [0, 0, 5.0, 55], [0, 0, 0, 1.0]])  # another voxel order
    file = scan(write_nifti, tmp_path / "ct.nii.gz", label=near(), affine=turned)
    with pytest.warns(UserWarning, match="no RV cavity"):
        told = p.predict_file(two_stage, file, tmp_path / "out.nii.gz")
    source, made = nibabel.load(file), nibabel.load(tmp_path / "out.nii.gz")
    assert np.array_equal(made.affine, source.affine) and made.get_data_dtype() == np.uint8
    assert min(dice(np.asarray(made.dataobj), near())) > 0.9
    assert told["volumes_ml"]["LV cavity"] == pytest.approx(4 / 3 * np.pi * 24**3 / 1000, rel=0.1)
    assert (told["model"], told["modality"], told["scheme"]) == ("two-stage", "CT", WHOLE_HEART.name)
    assert corners == [pytest.approx(-1, abs=0.01)]  # outside the scan it is as dark as air
    assert len(told["warnings"]) == 1 and [text[:11] for text in told["assumed"]] == ["modality CT"]
    assert json.loads((tmp_path / "out.json").read_text()) == told and (tmp_path / "out.png").is_file()


def test_what_does_not_suit_a_two_stage_network_is_refused_or_told(write_nifti, two_stage, monkeypatch, tmp_path):
    out, mr = tmp_path / "out.nii.gz", scan(write_nifti, tmp_path / "mr.nii.gz", least=20, label=near())
    with pytest.raises(UsageError, match="centre: found a voxel; expected none with a two-stage network"):
        p.predict_file(two_stage, mr, out, centre=(1, 1, 1))
    with pytest.raises(DataError, match=r"mr\.nii\.gz: found images of US; expected of CT or MR"):
        p.predict_file(two_stage, mr, out, modality="US")
    with pytest.raises(UsageError, match="es: found an ES scan"):
        p.predict_file(two_stage, mr, out, es=mr)
    cut = scan(write_nifti, tmp_path / "cut.nii.gz", label=near(x=10.0))
    with pytest.warns(UserWarning, match="% of the heart at the border of the scan"):
        p.predict_file(two_stage, cut, tmp_path / "cut_label.nii.gz")
    monkeypatch.setattr(Net1, "forward", lambda self, x: 0 * knowing(x))
    with pytest.warns(UserWarning, match="Net1 found no heart"):
        told = p.predict_file(two_stage, mr, out)
    assert [text.partition(":")[0] for text in told["warnings"]][0] == "two-stage network" and told["modality"] == "MR"
    monkeypatch.setattr(Net2, "forward", lambda self, x: 0 * knowing(x)[..., 1:-1])
    with pytest.raises(DataError, match=r"mr\.nii\.gz: found no heart"):
        p.predict_file(two_stage, mr, tmp_path / "none.nii.gz")
    assert not (tmp_path / "none.nii.gz").exists()
