"""What is measured of a joint space: worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shapelab.data.grid import Grid
from shapelab.data.scheme import CARDIAC
from shapelab.experiments.joint_space import measures
from shapelab.experiments.joint_space.measures import codes, retrieval, roughened, scored, twin_ranks, walks
from shapelab.metrics import surface_curvature


class Oracle:
    """A reader that knows every label map: its code is the map itself."""

    reads_labels = decodes = True
    statistics = "instance"

    def __init__(self, scans):
        self.scans = scans

    def _rows(self, images):
        arrays = images.images if hasattr(images, "images") else images
        known = self.scans.images.astype(np.float32).reshape(len(self.scans), -1)
        return [int((known @ image.astype(np.float32).ravel()).argmax()) for image in arrays]

    def encode(self, labels):
        return labels.reshape(len(labels), -1).astype(np.float32)

    def encode_images(self, images):
        return self.encode(self.scans.labels[self._rows(images)])

    def label_maps(self, codes):
        shape = self.scans.grid.shape
        return np.rint(codes).clip(0, self.scans.n_classes - 1).astype(np.uint8).reshape(-1, *shape)

    def reconstruct(self, labels):
        return labels

    def segment(self, images):
        return self.label_maps(self.encode_images(images))


def test_rank_counts_label_maps_that_lie_nearer():
    maps = np.array([[0.0, 0], [3, 0], [0, 8]])
    images = np.array([[1.0, 0], [1, 0], [0, 7]])
    found = retrieval(images, maps, np.array([0, 1, 0]))
    assert found["rank"].tolist() == [1, 2, 2]  # of the last: (0, 8) is 1 away, (0, 0) 7, (3, 0) 7.6
    assert found["rank"].tolist() != retrieval(-images, maps, np.array([0, 1, 0]))["rank"].tolist()
    assert found["own"].tolist() == [1, 2, 7] and found["chance"].tolist() == [1 / 3] * 3
    assert found["others"][0] == pytest.approx((2 + np.sqrt(65)) / 2)
    assert found["others"][1] == pytest.approx((1 + np.sqrt(65)) / 2)


def test_a_rank_of_the_last_map_is_worse_than_of_the_nearest():
    found = retrieval(np.zeros((2, 1)), np.array([[1.0], [2], [3]]), np.array([0, 2]))
    assert found["rank"].tolist() == [1, 3]


def test_twins_are_sought_among_the_other_modality_alone():
    codes = np.array([[0.0], [1.0], [0.1], [5.0]])  # a CT, b CT, a MR, b MR
    patients, kinds = np.array(["a", "b", "a", "b"]), np.array(["CT", "CT", "MR", "MR"])
    # a CT: a MR is .1 away, b MR 5; b CT: a MR .9, b MR 4; a MR: a CT .1; b MR: b CT 4, a CT 5
    assert twin_ranks(codes, patients, kinds).tolist() == [1, 2, 1, 1]
    alone = twin_ranks(codes, np.array(["a", "b", "c", "d"]), kinds)
    assert np.isnan(alone).all()


def test_codes_of_scans_that_share_a_label_map(scans):
    found = codes(Oracle(scans), scans)
    assert (found["rank"] == 1).all() and (found["own"] == 0).all() and (found["twin"] == 1).all()
    distinct = len(np.unique(scans.labels.reshape(len(scans), -1), axis=0))
    assert distinct <= 3 and found["chance"].iloc[0] == pytest.approx(1 / distinct)
    blind = SimpleNamespace(reads_labels=False, encode_images=Oracle(scans).encode_images)
    assert list(codes(blind, scans)) == ["scan", "patient", "modality", "twin"]


def test_scored_by_hand(scans):
    truth = scans.labels.copy()
    truth[0][truth[0] == 1] = 0  # one structure of the first scan is missed
    found = scored(truth, scans).set_index(["scan", "structure"])["dice"]
    first = scans.table.index[0]
    assert found[first, "LV cavity"] == 0 and found[first, "RV cavity"] == 1
    assert found[first, "mean"] == pytest.approx(6 / 7) and found[scans.table.index[1], "mean"] == 1


def test_a_walk_leads_from_ct_to_the_mr_of_another_patient(scans, monkeypatch):
    made, judge = [], measures.plausible
    monkeypatch.setattr(measures, "plausible", lambda maps, scheme: made.append(maps) or judge(maps, scheme))
    found = walks(Oracle(scans), scans, pairs=2, steps=5)
    for maps, (_, pair) in zip(made, found.groupby("pair"), strict=True):
        ends = scans[[pair["source"].iloc[0], pair["target"].iloc[0]]].labels
        assert np.array_equal(maps[[0, -1]], ends)
    assert len(found) == 10 and found["t"][:5].tolist() == [0, 0.25, 0.5, 0.75, 1]
    for source, target in zip(found["source"], found["target"], strict=True):
        assert source.endswith("_CT") and target.endswith("_MR") and source[:10] != target[:10]
    assert found["change"].isna().sum() == 2 and (found["change"].dropna() >= 0).all()


def test_roughening_moves_borders_alone():
    label = np.zeros((1, 9, 9, 9), np.uint8)
    label[0, 2:7, 2:7, 2:7] = 2
    rough = roughened(label)
    assert set(np.unique(rough)) == {0, 2} and (rough != label).any()
    assert (rough[0, 3:6, 3:6, 3:6] == 2).all() and not rough[0, 0].any()  # two voxels from the border: as they were
    assert np.array_equal(rough, roughened(label)) and np.array_equal(roughened(label, share=0), label)


def test_a_rough_ball_is_less_smooth_and_a_shell_is_measured_by_its_outer_surface(short_axis):
    axes = np.meshgrid(*[np.arange(24) - 11.5] * 3, indexing="ij")
    far = np.sqrt(sum(a**2 for a in axes))
    ball = np.zeros((1, 24, 24, 24), np.uint8)
    ball[0][far < 10] = 2
    ball[0][far < 8] = 3
    about = SimpleNamespace(scheme=CARDIAC, grid=Grid((24, 24, 24), (3.0, 3.0, 3.0)))
    smooth, rough = (measures.curvatures(b, about).iloc[0] for b in (ball, roughened(ball)))
    assert smooth["LV myocardium"] == surface_curvature(far < 10, about.grid.spacing)  # not of the shell's two surfaces
    assert smooth["LV cavity"] > smooth["LV myocardium"] and np.isnan(smooth["RV cavity"])
    assert rough["LV cavity"] > smooth["LV cavity"]


def test_smoothness_and_robustness_have_a_row_a_scan(scans):
    oracle = Oracle(scans)
    found = measures.smoothness(oracle, scans).groupby("of")["dice"].mean()
    assert found["output"] == found["given"] == 1 and found["rough"] < 1
    table = measures.robustness(oracle, scans, scans)
    assert (table.groupby(["kind", "strength"]).size() == len(scans)).all()
    clean = table[table["strength"] == 0]
    assert (clean["dice"] == 1).all() and set(table["kind"]) == {
        *measures.CORRUPTIONS,
        measures.CONTRAST,
        measures.GIVEN,
    }
    assert measures.robustness(oracle, scans).query("kind == @measures.CONTRAST")["strength"].tolist() == [0] * 6


def test_both_statistics_are_measured_and_the_usual_one_is_put_back(scans):
    oracle = Oracle(scans)
    found = measures.statistics(oracle, scans)
    assert found["statistics"].value_counts().to_dict() == {"instance": 6, "running": 6}
    assert oracle.statistics == "instance" and (found["rank"] == 1).all()
