"""shapelab.atlas.cohort: many subjects, any joblib backend, resumed, one that fails."""

import json
import tracemalloc
from dataclasses import replace

import joblib
import nibabel
import numpy as np
import pytest

from shapelab.atlas import (
    FreeFormDeformation,
    RefinementSettings,
    read_refinement,
    refine,
    refine_cohort,
    simulate_low_resolution,
)
from shapelab.data.orientation import canonical
from shapelab.data.scheme import BIVENTRICULAR
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError

FFD = FreeFormDeformation(
    control_mm=20.0, levels=1, iterations=8, bending=(6,), blur_mm=(3,), sampling_mm=(5,), step_mm=(3,)
)
SETTINGS = RefinementSettings(ffd=FFD, n_atlases=1)
AFFINE = np.array([[-2.5, 0, 0, 80], [0, 0, 12, -20], [0, 2.5, 0, 5], [0, 0, 0, 1.0]])  # turned, moved


@pytest.fixture(scope="module")
def subjects(hearts):
    """Two stacks with landmarks in a scanner's mm, one without."""
    made = []
    for i, heart in enumerate(hearts[:3]):
        low = simulate_low_resolution(heart, factor=3, seed=i)
        turn = AFFINE[:3, :3] @ np.diag(1 / np.array(low.spacing))
        landmarks = {n: turn @ p + AFFINE[:3, 3] for n, p in low.landmarks.items()} if i < 2 else None
        made.append(Subject(f"case{i}", BIVENTRICULAR, label=low.label, affine=AFFINE, landmarks=landmarks))
    return made


@pytest.fixture(scope="module")
def atlases(hearts):
    return hearts[3:5]


def empty(subject):
    return subject.with_(label=np.zeros_like(subject.label))


def test_each_is_written_where_it_lies(subjects, atlases, tmp_path):
    table = refine_cohort(subjects, atlases, tmp_path, settings=SETTINGS)
    assert list(table.index) == ["case0", "case1", "case2"] and (table["state"] == "refined").all()
    assert list(table["landmarks"]) == ["given", "given", "label"] and (table["min_jacobian"] > 0).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"case{i}.{e}" for i in range(3) for e in ("json", "nii.gz")]
    image = nibabel.load(tmp_path / "case0.nii.gz")
    # the LV lies at the same mm as in the stack that was given
    given, found = subjects[0].label == 3, np.asarray(image.dataobj) == 3
    places = [a[:3, :3] @ np.argwhere(m).mean(0) + a[:3, 3] for a, m in ((AFFINE, given), (image.affine, found))]
    assert np.abs(places[0] - places[1]).max() < 6
    assert np.allclose(np.linalg.norm(image.affine[:3, :3], axis=0), (2.5, 2.5, 4.0))
    # and it is what `refine` gives in canonical order
    upright, turn = canonical(subjects[2], from_base=True)
    alone = refine(upright.label, None, None, atlases, upright.spacing, settings=SETTINGS)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "case2.nii.gz").dataobj), turn.back(alone.label))


def test_slices_that_nobody_annotated_stand_in_the_row(subjects, atlases, tmp_path):
    label = subjects[0].label.copy()
    middle = int(np.flatnonzero(label.any((0, 1))).mean())
    label[:, :, middle] = 0
    with pytest.warns(UserWarning, match="target: found empty slice"):
        table = refine_cohort([subjects[0].with_(label=label)], atlases, tmp_path, 1, settings=SETTINGS)
    assert table["doubts"].iloc[0].startswith(f"subject case0: found empty slice {middle} (counted from 0)")
    assert json.loads((tmp_path / "case0.json").read_text())["doubts"] == table["doubts"].iloc[0]


def test_what_was_written_is_read_back(subjects, atlases, tmp_path):
    refine_cohort(subjects[2:], atlases, tmp_path, settings=SETTINGS)
    label, frame = read_refinement(tmp_path / "case2.nii.gz", subjects[2].affine)
    upright, turn = canonical(subjects[2], from_base=True)
    made = refine(upright.label, None, None, atlases, upright.spacing, settings=SETTINGS)
    assert np.array_equal(label, turn.back(made.label))
    assert sorted(frame.spacing) == pytest.approx(sorted(made.frame.spacing))
    # a voxel of it lies at the same mm, whichever way it is told
    there = AFFINE @ np.diag([*(1 / subjects[2].spacing), 1]) @ frame.matrix
    assert np.allclose(there, nibabel.load(tmp_path / "case2.nii.gz").affine, atol=1e-3)
    with pytest.raises(DataError, match="axes along the target's"):
        read_refinement(tmp_path / "case2.nii.gz", np.eye(4))
    (tmp_path / "half.nii.gz").write_bytes((tmp_path / "case2.nii.gz").read_bytes()[:500])
    with pytest.raises(DataError, match="half.nii.gz: found a file that cannot be read"):
        read_refinement(tmp_path / "half.nii.gz", subjects[2].affine)
    with pytest.raises(DataError, match="nowhere.nii: found a file that cannot be read"):
        read_refinement(tmp_path / "nowhere.nii", subjects[2].affine)


def test_goes_on_where_it_was_interrupted(subjects, atlases, tmp_path):
    first = refine_cohort(subjects[:2], atlases, tmp_path, settings=SETTINGS)
    (tmp_path / "case1.json").unlink()  # as if killed between label map and report
    stamp = (tmp_path / "case0.nii.gz").stat().st_mtime_ns
    table = refine_cohort(subjects[:2], atlases, tmp_path, settings=SETTINGS)
    assert list(table["state"]) == ["kept", "refined"] and (tmp_path / "case0.nii.gz").stat().st_mtime_ns == stamp
    assert (table.drop(columns=["state", "seconds"]) == first.drop(columns=["state", "seconds"])).all(axis=None)
    assert list(refine_cohort(subjects[:1], atlases, tmp_path, overwrite=True, settings=SETTINGS)["state"]) == [
        "refined"
    ]
    with pytest.raises(UsageError, match="other settings or atlases"):
        refine_cohort(subjects[:1], atlases, tmp_path, settings=replace(SETTINGS, n_atlases=2))
    report = tmp_path / "case0.json"
    about = json.loads(report.read_text())
    said = {**json.loads(about["settings"]), "fusion": "majority"}  # the default, told as earlier versions did
    report.write_text(json.dumps({**about, "settings": json.dumps(said)}))
    assert list(refine_cohort(subjects[:1], atlases, tmp_path, settings=SETTINGS)["state"]) == ["kept"]
    with pytest.raises(UsageError, match="other settings or atlases"):
        refine_cohort(subjects[:1], atlases[:1], tmp_path, settings=SETTINGS)
    (tmp_path / "case0.json").write_text("{")
    with pytest.raises(DataError, match="a report that cannot be read"):
        refine_cohort(subjects[:1], atlases, tmp_path, settings=SETTINGS)


def test_another_heart_or_image_or_place_of_one_id_is_not_the_one_that_is_done(subjects, atlases, tmp_path):
    one, label = subjects[2], subjects[2].label
    refine_cohort([one], atlases, tmp_path, settings=SETTINGS)
    fewer = label.copy()
    fewer[:, :, np.flatnonzero(label.any((0, 1)))[0]] = 0
    moved = one.affine + np.diag([0, 0, 0, 0])
    moved[0, 3] += 5
    for other in ({"label": fewer}, {"image": label.astype(np.float32)}, {"affine": moved}):
        with pytest.raises(UsageError, match="case2.json, made from another label map, image or place of case2"):
            refine_cohort([one.with_(**other)], atlases, tmp_path, settings=SETTINGS)
    turned = [replace(atlases[0], landmarks=np.arange(18.0).reshape(6, 3)), *atlases[1:]]
    with pytest.raises(UsageError, match="other settings or atlases"):
        refine_cohort([one], turned, tmp_path, settings=SETTINGS)
    report = tmp_path / "case2.json"
    about = json.loads(report.read_text())
    older = {k: v for k, v in json.loads(about["settings"]).items() if k != "whole atlases"}
    del about["given"]
    report.write_text(json.dumps({**about, "settings": json.dumps(older)}))  # as an earlier shapelab wrote it
    assert list(refine_cohort([one], atlases, tmp_path, settings=SETTINGS)["state"]) == ["kept"]


def test_memory_does_not_grow_with_the_cohort(subjects, atlases, tmp_path):
    def peak(n: int) -> int:
        """Bytes of the arrays of `n` subjects' refinement at their most; a subject's arrays are made when asked for."""
        label = subjects[2].label
        many = [Subject(f"s{i}", BIVENTRICULAR, label=label.copy, affine=AFFINE) for i in range(n)]
        tracemalloc.start()
        refine_cohort(many, atlases, tmp_path / str(n), n_jobs=1, settings=SETTINGS)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is made once: compiled code, caches
    # had the four more left but their thick label maps behind, it would be twice this; their results, six times
    assert peak(6) < peak(2) + 2 * subjects[2].label.nbytes


def test_one_that_fails_is_named_and_the_others_go_on(subjects, atlases, tmp_path):
    broken = [empty(subjects[0]), subjects[1]]
    table = refine_cohort(broken, atlases, tmp_path, on_error="skip", settings=SETTINGS)
    assert list(table["state"]) == ["failed", "refined"]
    assert "without labels" in table.loc["case0", "error"] and not (tmp_path / "case0.nii.gz").exists()
    with pytest.raises(DataError, match="subject case0: found DataError: .*without labels"):
        refine_cohort(broken, atlases, tmp_path, settings=SETTINGS)
    # and when it is corrected it is done
    table = refine_cohort(subjects[:2], atlases, tmp_path, settings=SETTINGS)
    assert list(table["state"]) == ["refined", "kept"]


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_any_backend_of_joblib(subjects, atlases, tmp_path, backend):
    one = refine_cohort(subjects[:2], atlases, tmp_path / "one", settings=SETTINGS)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        two = refine_cohort(subjects[:2], atlases, tmp_path / "two", settings=SETTINGS)
    assert (one.drop(columns="seconds") == two.drop(columns="seconds")).all(axis=None)
    for name in one["file"]:
        labels = [np.asarray(nibabel.load(tmp_path / d / name).dataobj) for d in ("one", "two")]
        assert np.array_equal(*labels)


@pytest.mark.slow
def test_on_a_local_dask_cluster(subjects, atlases, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs dask[distributed]")
    broken = [subjects[0], empty(subjects[1])]
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        table = refine_cohort(broken, atlases, tmp_path, on_error="skip", settings=SETTINGS)
        assert list(table["state"]) == ["refined", "failed"]
        with pytest.raises(DataError, match="subject case1"):
            refine_cohort(broken, atlases, tmp_path, settings=SETTINGS)
    assert json.loads((tmp_path / "case0.json").read_text())["state"] == "refined"


def test_wrong_arguments(subjects, atlases, tmp_path):
    with pytest.raises(UsageError, match="on_error: found 'stop'"):
        refine_cohort(subjects, atlases, tmp_path, on_error="stop")
    with pytest.raises(UsageError, match="file names"):
        refine_cohort([subjects[0].with_(id="../a")], atlases, tmp_path)
    with pytest.raises(DataError, match="1 ids more than once"):
        refine_cohort([subjects[0], subjects[0]], atlases, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_one_heart_stored_in_any_order_is_refined_the_same_way(subjects, atlases, tmp_path, every_order):
    """A few of the 48: each as the first, in its own order."""
    one = subjects[0]
    stored = [*every_order(one.label, one.label, one.affine)][::7]
    many = [one.with_(id=f"s{i}", label=label, affine=affine) for i, (label, _, affine) in enumerate(stored)]
    table = refine_cohort(many, atlases, tmp_path, settings=SETTINGS)
    assert (table["state"] == "refined").all()
    images = [nibabel.as_closest_canonical(nibabel.load(tmp_path / f"{s.id}.nii.gz")) for s in many]
    for image, subject in zip(images, many):
        assert nibabel.aff2axcodes(nibabel.load(tmp_path / f"{subject.id}.nii.gz").affine) == nibabel.aff2axcodes(
            subject.affine
        )
        assert np.array_equal(np.asarray(image.dataobj), np.asarray(images[0].dataobj))
        assert np.allclose(image.affine, images[0].affine, atol=1e-3)
