"""Growing corruption, the prior's terms, and the sweep over lambda."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from shapelab.data.cohort import Cohort
from shapelab.data.grid import to_grid
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.data.volumes import HeartPairs
from shapelab.errors import DataError, UsageError
from shapelab.experiments.acnn import robustness as robust
from shapelab.experiments.acnn import segmentation as table1
from shapelab.models.acnn import AEConfig, AESpace, Autoencoder, SubPixelConfig

NETWORK = SubPixelConfig(shape=(16, 16, 8), spacing=(9.0, 9.0, 15.0), factor=2, widths=(8, 8, 8, 8), batch=4)


class Truth(nn.Module):
    """Knows the answers: logits of the labels, of the batches in turn, however the stack looks."""

    def __init__(self, labels: np.ndarray, sure: float = 50.0):
        super().__init__()
        self.logits = sure * torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 4).movedim(-1, 1).float()
        self.at = 0

    def forward(self, stack):
        rows = [(self.at + i) % len(self.logits) for i in range(len(stack))]
        self.at += len(stack)
        return self.logits[rows]


@pytest.fixture
def pairs(tiny_heart):
    labels = np.stack([tiny_heart((16, 16, 8), s) for s in (1.0, 0.9, 0.85, 1.1)])
    rng = np.random.default_rng(0)
    images = np.clip(0.3 * labels + rng.normal(0, 0.02, labels.shape), 0, 1).astype(np.float16)
    rows = [{"patient": f"p{i // 2}", "group": "NOR", "phase": ("ED", "ES")[i % 2]} for i in range(4)]
    table = pd.DataFrame(rows, index=[f"{r['patient']}_{r['phase']}" for r in rows])
    return HeartPairs(images, labels, rng.normal(0, 2, (4, 4, 3)).astype(np.float32), table, NETWORK.spacing, 2)


@pytest.fixture
def prior():
    config = AEConfig(shape=(24, 24, 12), spacing=(6.0, 6.0, 10.0), widths=(4, 4, 4), bottleneck=2, code=5)
    torch.manual_seed(0)
    return AESpace(config, model=Autoencoder(config).eval())


def test_corrupted_stacks_are_a_function_of_their_arguments(pairs):
    for kind in robust.CORRUPTIONS:
        one, same = (robust.corrupted_stacks(pairs, kind, 2.0) for _ in range(2))
        assert torch.equal(one, same) and one.shape == (4, 16, 16, 4)
        assert not torch.equal(one, robust.corrupted_stacks(pairs, kind, 2.0, seed=8))
    still = robust.corrupted_stacks(pairs, "motion", 0)
    assert not torch.allclose(still, robust.corrupted_stacks(pairs, "noise", 0))  # that has the breath-holds
    missing = [robust.corrupted_stacks(pairs, "missing", n) for n in (1, 3)]
    empty = [(m == 0).flatten(1, 2).all(1) for m in missing]
    assert [e.sum(1).tolist() for e in empty] == [[1] * 4, [3] * 4]
    assert bool((empty[1] | ~empty[0]).all())  # what is missing at 1 is missing at 3
    with pytest.raises(UsageError, match="kind: found 'shadows'"):
        robust.corrupted_stacks(pairs, "shadows", 1)


def test_robustness_of_one_who_knows_and_of_one_who_says_background(pairs):
    background = Truth(np.zeros_like(pairs.labels))
    table = robust.robustness({"knows": Truth(pairs.labels), "blind": background}, pairs, (0, 4), "motion")
    assert len(table) == 2 * 2 * 3 and set(table["strength"]) == {0.0, 4.0}
    knows, blind = (table[table["method"] == m] for m in ("knows", "blind"))
    assert (knows["dice"] == 1).all() and (knows["hd"] == 0).all() and (knows["plausible"] == 1).all()
    assert (blind["dice"] == 0).all() and (blind["n_missed"] == 4).all() and (blind["plausible"] == 0).all()
    assert blind["hd"].isna().all()
    figure = robust.robustness_figure(table, "LV cavity", trained_at=2.0, title="x")
    assert len(figure.axes) == 3 and len(figure.axes[0].lines) == 3
    assert [list(line.get_ydata()) for line in figure.axes[0].lines[:2]] == [[1, 1], [0, 0]]
    with pytest.raises(UsageError, match="kind: found 'shadows'"):
        robust.robustness({}, pairs, kind="shadows")
    with pytest.raises(UsageError, match="structure: found 'LA'"):
        robust.robustness_figure(table, "LA")
    with pytest.raises(UsageError, match="found corruptions"):
        robust.robustness_figure(pd.concat([table, table.assign(kind="noise")]))


def test_the_priors_terms_by_hand(pairs, prior):
    sure = robust.prior_terms(Truth(pairs.labels), prior, pairs, weight=0.5)
    assert sure["pixel"] == pytest.approx(0, abs=1e-6) and sure["prior"] == pytest.approx(0, abs=1e-6)
    assert sure["soft"] == pytest.approx(0, abs=1e-6)

    # right everywhere, but in doubt: nothing is wrong with the shape, and the whole of the prior term is doubt
    doubt = robust.prior_terms(Truth(pairs.labels, sure=1.0), prior, pairs, weight=0.5)
    assert doubt["hard"] == pytest.approx(0, abs=1e-9) and doubt["soft"] > 0
    assert doubt["prior"] == pytest.approx(doubt["soft"])
    assert doubt["pixel"] == pytest.approx(np.log(np.e + 3) - 1, rel=1e-5)
    assert doubt["share"] == pytest.approx(0.5 * doubt["prior"] / doubt["pixel"])

    maps = nn.functional.one_hot(torch.from_numpy(pairs.labels).long(), 4).movedim(-1, 1).float()
    with torch.no_grad():
        codes = prior.model.encode(nn.functional.interpolate(maps, size=(24, 24, 12), mode="trilinear")).numpy()
    assert doubt["spread"] == pytest.approx(codes.var(0).sum(), rel=1e-3)
    pairwise = [np.square(a - b).sum() for i, a in enumerate(codes) for j, b in enumerate(codes) if i != j]
    assert doubt["between"] == pytest.approx(np.mean(pairwise), rel=1e-3)


def test_real_stacks_are_laid_on_the_grid(tiny_heart):
    label = tiny_heart((48, 48, 10))
    image = label.astype(np.float32) * 50 + 3
    subject = Subject(
        "a",
        CARDIAC,
        label=label,
        image=image,
        affine=np.diag([3.0, 3.0, 10.0, 1]),
        facts={"patient": "a", "phase": "ED"},
    )
    cohort = Cohort([subject], "one", CARDIAC)
    config = SubPixelConfig.profile("quick")
    truth = to_grid(subject, config.grid, align="rigid").label
    knows, blind = Truth(truth[None]), Truth(np.zeros_like(truth[None]))
    table, (stacks, truths, made) = robust.on_real({"knows": knows, "blind": blind}, cohort, config)
    assert stacks.shape == (1, 48, 48, 12) and 0 <= float(stacks.min()) and float(stacks.max()) == 1
    assert (truths[0] == truth).all() and (made["knows"][0] == truth).all()
    assert table.groupby("method")["dice"].mean().to_dict() == {"blind": 0, "knows": 1}
    assert set(table["structure"]) == set(CARDIAC.names) and set(table["phase"]) == {"ED"}


def test_first_patients(pairs):
    assert robust.first_patients(pairs, None) is pairs
    assert robust.first_patients(pairs, 1).table.index.tolist() == ["p0_ED", "p0_ES"]
    with pytest.raises(UsageError, match="hearts: found 3; expected 1 to 2 patients"):
        robust.first_patients(pairs, 3)


@pytest.mark.slow
def test_a_sweep_trains_equally_long_and_goes_on(pairs, prior, monkeypatch, tmp_path):
    monkeypatch.setattr(robust, "phantom_autoencoder_for", lambda *a: prior)
    monkeypatch.setattr(table1, "phantom_autoencoder_for", lambda *a: prior)
    config = table1.SegmentationConfig(training=2, test=2, epochs=1, seeds=(0,), network=NETWORK)
    both = {"training": pairs, "test": pairs}
    options = {"weights": (0.0, 1.0), "hearts": (1, None), "steps": 2, "progress": False}
    table = robust.sweep(both, config, tmp_path, **options)
    assert table[["hearts", "weight", "epochs"]].values.tolist() == [[1, 0, 2], [1, 1, 2], [2, 0, 2], [2, 1, 2]]
    assert table["dice"].between(0, 1).all() and (table["spread"] > 0).all()
    assert table["share"].tolist() == pytest.approx((table["weight"] * table["prior"] / table["pixel"]).tolist())
    histories = {p.parent.name: pd.read_csv(p) for p in tmp_path.glob("*/history.csv")}
    assert "prior" in histories["hearts1-lambda1-seed0"] and "prior" not in histories["hearts1-lambda0-seed0"]

    monkeypatch.setattr(table1, "train_network", None)  # all is there
    again = robust.sweep(both, config, tmp_path, **options)
    pd.testing.assert_frame_equal(again, table, check_exact=False, rtol=1e-3, check_dtype=False)
    figure = robust.sweep_figure(table)
    assert [len(ax.lines) for ax in figure.axes] == [2] * 4
    assert figure.axes[0].get_xticklabels()[0].get_text() == "0"


def test_all_claims_from_trained_networks(pairs, prior, monkeypatch, tmp_path):
    monkeypatch.setattr(robust, "phantom_autoencoder_for", lambda *a: prior)
    monkeypatch.setattr(table1, "phantom_autoencoder_for", lambda *a: prior)
    parts = {"training": pairs, "test": pairs}
    for module in (robust, table1):
        monkeypatch.setattr(module, "load_pairs", lambda *a: parts)
    monkeypatch.setattr(robust, "COMPARED", ("3D-Seg", "ACNN-Seg"))
    monkeypatch.setattr(robust, "CORRUPTIONS", {"motion": (robust.CORRUPTIONS["motion"][0], (0, 4), "mm")})
    monkeypatch.setattr(robust, "SWEEP", {1: ((0.0, 0.1), 1, (0,))})
    asked = {}

    def on_real(models, cohort, network):
        asked.update(models, cohort=cohort)
        return pd.DataFrame({"method": list(models), "phase": "ED", "structure": "RV cavity", "dice": 0.5}), ()

    monkeypatch.setattr(robust, "_acdc", lambda: "real hearts")
    monkeypatch.setattr(robust, "on_real", on_real)
    config = table1.SegmentationConfig(training=2, test=2, epochs=1, seeds=(0,), network=NETWORK)
    options = {"profile": "quick", "output": tmp_path, "progress": False, "config": config}
    with pytest.raises(DataError, match="no such file"):
        robust.run(**options)
    table1.run(methods=["3D-Seg", "ACNN-Seg"], **options)
    tables = robust.run(**options)
    assert set(tables) == {"robustness", "prior_terms", "lambda", "acdc"}
    methods = ["3D-Seg", "ACNN-Seg", "3D-Seg, 1 patients", "ACNN-Seg, 1 patients, λ 0.1"]
    assert list(asked) == [*(f"{m} @ 0" for m in methods), "cohort"]
    assert tables["acdc"]["method"].tolist() == methods and (tables["acdc"]["seed"] == "0").all()
    assert tables["acdc"]["mean"].tolist() == [0.5] * 4 and tables["acdc"]["n"].tolist() == [1] * 4
    assert len(tables["robustness"]) == 2 * 2 * 3 and (tables["robustness"]["n"] == 2).all()  # ED alone
    assert tables["prior_terms"]["method"].tolist() == ["3D-Seg", "ACNN-Seg"]
    assert tables["lambda"]["weight"].tolist() == [0.0, 0.1]
    for name, table in tables.items():
        assert len(pd.read_csv(tmp_path / f"acnn_table1_{name}.csv")) == len(table)
    assert json.loads((tmp_path / "acnn_table1_claims.json").read_text())["hearts"] == 2


def test_without_acdc_there_is_no_table_of_it(monkeypatch):
    monkeypatch.delenv("SHAPELAB_DATA", raising=False)
    assert robust._acdc() is None


def test_segmentations_beside_each_other(pairs):
    stack = robust.corrupted_stacks(pairs, "motion", 3.0)[0]
    made = {"3D-Seg": pairs.labels[1], "truth": pairs.labels[0]}
    figure = robust.segmentation_figure(stack, made, pairs.labels[0], pairs, slices=[2, 4])
    assert len(figure.axes) == 3 * 3  # two short-axis rows and a long-axis one
    assert [ax.get_title() for ax in figure.axes[:3]] == ["LR input", "3D-Seg", "truth"]
    shown = figure.axes[2].images[0].get_array()  # (y, x, colour)
    background = np.asarray(pairs.labels[0, :, :, 2].T == 0)
    assert (shown[background] == 1).all() and (shown[~background] != 1).any(-1).all()


def test_the_prior_is_that_of_the_networks_grid(monkeypatch):
    asked = []
    monkeypatch.setattr(table1, "phantom_autoencoder", lambda profile, progress: asked.append(profile))
    for profile in ("quick", "full", "paper"):
        table1.phantom_autoencoder_for(SubPixelConfig.profile(profile))
    table1.phantom_autoencoder_for(NETWORK)
    assert asked == ["quick", "full", "paper", "quick"]
