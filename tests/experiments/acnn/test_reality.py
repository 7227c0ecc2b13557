"""From phantom to reality: the data it learns from, the prior on native slices, tables and pictures."""

import numpy as np
import pandas as pd
import pytest
import torch

from shapelab.data.cohort import Cohort
from shapelab.data.grid import Grid, to_grid
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import UsageError
from shapelab.experiments.acnn import reality
from shapelab.models.native import NativeConfig, NativeNet, NativeSegmenter

SMALL = NativeConfig(spacing=2.0, size=32, first=64, second=48, widths=(8, 8), slices=20, hearts=1)


def subject(name="patient001_ED", angle=0.0, image=True, patient="patient001", phase="ED"):
    """A round LV in its wall with the RV in the direction `angle`, (60, 64, 6) at 2 x 2 x 10 mm."""
    x, y = np.meshgrid(np.arange(60) - 33, np.arange(64) - 30, indexing="ij")
    c, s = 13 * np.cos(angle), 13 * np.sin(angle)
    plane = np.zeros((60, 64), np.uint8)
    plane[np.hypot(x - c, y - s) < 10] = 1
    plane[np.hypot(x, y) < 11] = 2
    plane[np.hypot(x, y) < 7] = 3
    label = np.repeat(plane[:, :, None], 6, 2)
    label[:, :, 0] = 0
    pixels = np.array([0, 60, 30, 90], np.float32)[label] if image else None
    return Subject(
        name,
        CARDIAC,
        label=label,
        image=pixels,
        affine=np.diag([2.0, 2.0, 10.0, 1.0]),
        facts={"patient": patient, "phase": phase, "group": "NOR"},
    )


def two() -> Cohort:
    other = subject("patient004_ES", patient="patient004", phase="ES")
    return Cohort([subject("patient001_ED"), other], "two", CARDIAC)


class Perfect:
    scheme = CARDIAC

    def __init__(self, spoil=()):
        self.spoil = spoil

    def predict(self, image, spacing):
        label = np.searchsorted([0, 30, 60, 90], image).astype(np.uint8)
        label = np.array([0, 2, 1, 3], np.uint8)[label]
        for value in self.spoil:
            label[label == value] = 0
        return label


@pytest.fixture(scope="module")
def slices():
    return reality.phantom_slices(1, NativeConfig(), seed=3)


def test_phantom_slices_lie_on_one_grid(slices):
    assert slices.images.shape == slices.tissues.shape == (len(slices), 144, 144)
    assert len(slices.distances) == 2 and set(slices.tissues.ravel()) == {0, 1, 2, 3, 4}
    found = np.argwhere(slices.tissues.any(0))
    assert found.min() > 12 and found.max() < 132  # the heart in the middle, all of it
    blood, wall = (slices.images[slices.tissues == v].mean() for v in (3, 2))
    assert blood > 1.6 * wall


def test_phantom_slices_are_the_cohorts_hearts(slices):
    """Volumes agree with the same patient's stack in its own voxels (another in-plane spacing alone)."""
    from shapelab.phantoms import heart_cohort

    for k, s in enumerate(heart_cohort(1, seed=3, resolution="LR", scheme=CARDIAC)):
        mine = slices.tissues[slices.stack == k]
        assert len(mine) - s.shape[2] in (0, 1, 2) and slices.distances[k] == s.spacing[2]  # some are added above
        assert not mine[: len(mine) - s.shape[2]].any()
        for value in (1, 2, 3):
            volume = (s.label == value).sum() * s.spacing[0] * s.spacing[1]
            assert (mine == value).sum() * 1.6**2 == pytest.approx(volume, rel=0.03)


def test_real_slices_are_about_the_heart():
    data = reality.real_slices(Cohort([subject()], "one", CARDIAC), SMALL)
    assert data.images.shape == (6, 144, 144)
    found = np.argwhere(data.tissues.any(0))
    assert np.allclose((found.min(0) + found.max(0)) / 2, 71.5, atol=1)
    assert (data.tissues == 3).sum() == pytest.approx((subject().label == 3).sum(), rel=0.1)  # half a pixel off


def test_the_prior_lays_a_stack_as_the_grid_does():
    grid = Grid((48, 48, 24), (3.0, 3.0, 5.0))
    s = subject(angle=2.2)

    prior = reality.StackPrior.__new__(reality.StackPrior)
    prior.grid, prior.spacing = grid, 2.0
    labels = torch.from_numpy(s.label).permute(2, 0, 1)
    where = prior.place(labels, 10.0)
    onehot = (torch.from_numpy(s.label)[None] == torch.arange(1, 4)[:, None, None, None]).float()
    laid = torch.nn.functional.grid_sample(onehot[None], where, align_corners=False)[0]
    expected = to_grid(s, grid, align="rigid").label
    made = torch.cat([1 - laid.sum(0, keepdim=True), laid]).argmax(0).numpy()
    for value in (1, 2, 3):
        both = 2 * ((made == value) & (expected == value)).sum()
        assert both / ((made == value).sum() + (expected == value).sum()) > 0.93


@pytest.mark.slow
def test_the_prior_is_zero_for_the_truth_and_sends_a_gradient_else():
    from shapelab.experiments.shipped import phantom_autoencoder

    prior = reality.StackPrior(phantom_autoencoder("quick", progress=False), 2.0, weight=1.0)
    labels = torch.from_numpy(subject(angle=3.0).label).permute(2, 0, 1)
    sure = 20 * torch.nn.functional.one_hot(labels.long(), 4).permute(0, 3, 1, 2).float()
    wrong = sure.roll(6, 2).requires_grad_()
    # soft probabilities along edges on one side, their argmax on the other: near zero, not zero
    assert float(prior(sure, labels, 10.0)) < 0.2 * float(prior(wrong, labels, 10.0).detach())
    prior(wrong, labels, 10.0).backward()
    assert wrong.grad.abs().sum() > 0
    no_rv = torch.where(labels == 1, 0, labels)
    assert float(prior(sure, no_rv, 10.0)) == 0


def test_which_patients_were_looked_at():
    seen = [p for p in (f"patient{n:03d}" for n in range(1, 101)) if reality.looked_at(p)]
    assert len(seen) == 26 and {"patient004", "patient074", "patient076"} <= set(seen)


def test_measured_and_summed_up_by_hand():
    cohort = two()
    table = reality.measure(Perfect(), cohort, "perfect", progress=False)
    assert len(table) == 6 and (table["dice"] == 1).all() and (table["hd"] == 0).all()
    worse = reality.measure(Perfect(spoil=(1,)), cohort, "no RV", progress=False)
    assert worse.set_index(["subject", "structure"]).loc[("patient001_ED", "RV cavity"), "dice"] == 0
    found = reality.summary(pd.concat([table, worse])).set_index(["method", "part", "structure"])
    assert found.loc[("perfect", "all", "LV cavity"), "n"] == 2
    assert found.loc[("perfect", "never looked at", "LV cavity"), "n"] == 1
    assert found.loc[("no RV", "all", "RV cavity"), ["dice", "missed"]].tolist() == [0, 2]
    assert np.isnan(found.loc[("no RV", "all", "RV cavity"), "hd"])  # no distance to what was not found


def test_run_writes_its_tables(tmp_path, monkeypatch, make_acdc):
    root = make_acdc(tmp_path / "acdc", n=2, shape=(40, 36, 5))
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path / "weights"))
    torch.manual_seed(0)
    folder = tmp_path / "weights" / "acnn_seg_native_quick"
    NativeSegmenter(NativeNet(SMALL), SMALL, metadata={"data": "none"}).save(folder)
    table = reality.run(root=root, profile="quick", output=tmp_path / "out", progress=False)
    assert len(table) == 12 and table["dice"].between(0, 1).all()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "reality_acdc.csv",
        "reality_acdc_summary.csv",
        "reality_acdc.json",
    }
    assert len(pd.read_csv(tmp_path / "out" / "reality_acdc.csv")) == 12
    with pytest.raises(UsageError, match="expected one of phantom, acdc"):
        reality.run(root=root, profile="quick", output=tmp_path / "out", progress=False, data="mr")


def test_twins_are_not_parted():
    patients = [f"patient{n:03d}" for n in (70, 71, 72, 73, 74, 75, 76, 77)]
    cohort = Cohort([subject(f"{p}_ED", patient=p) for p in patients], "eight", CARDIAC)
    for seed in range(6):
        train, test = reality.split(cohort, seed)
        twins = set(reality.TWINS)
        assert not (twins & set(test.patients) and twins & set(train.patients))
        assert not set(train.patients) & set(test.patients) and len(test.patients) == 2


@pytest.mark.slow
def test_weights_are_trained_and_kept_where_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(NativeConfig, "profile", classmethod(lambda cls, name=None, **changes: SMALL))
    monkeypatch.setattr(reality, "FIELD_PX", 96)
    made = reality.phantom_native("quick", progress=False)
    assert made.metadata["data"].startswith("1 phantom hearts") and (tmp_path / "acnn_seg_native_quick").is_dir()
    again = reality.phantom_native("quick", progress=False)
    for a, b in zip(made.network.parameters(), again.network.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)  # kept as fp16
