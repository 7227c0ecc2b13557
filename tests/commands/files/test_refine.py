"""`shapelab refine`: whatever the file's axes are, the result lies where the heart is; bad input by name."""

import json

import nibabel
import numpy as np
import pytest

from shapelab.atlas import Atlas, move_slices, phantom_atlases, pipeline, simulate_low_resolution
from shapelab.commands.files import refine as r
from shapelab.data.landmarks import write_landmarks
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC
from shapelab.errors import DataError, UsageError

SPACING = (2.5, 2.5, 4.0)
ONE = r.Refining(n_atlases=1)
# turned about two axes, moved, left-handed: a scanner's
TURN = np.linalg.qr(np.array([[0.8, -0.5, 0.3], [0.4, 0.8, 0.5], [-0.5, -0.3, 0.8]]))[0]


def moved(spacing) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = TURN @ np.diag(spacing)
    affine[:3, 3] = (20, -30, 40)
    return affine


def in_mm(points) -> np.ndarray:
    """mm of the stack -> mm of the file."""
    return np.asarray(points) @ TURN.T + (20, -30, 40)


@pytest.fixture(scope="module")
def small():
    """Six hearts at 2.5 x 2.5 x 4 mm, landmarks and no images: the last is the target, the others are atlases."""
    return phantom_atlases(6, seed=3, scheme=CARDIAC, images=False, resolution=SPACING)


@pytest.fixture(scope="module")
def stack(small):
    return simulate_low_resolution(small[5], factor=3, shift_mm=1.0, seed=1)


@pytest.fixture
def few(monkeypatch, small):
    """Small atlases stand in for the phantoms at full size."""
    monkeypatch.setattr(r, "phantoms", lambda scheme, seed: small[:5])


@pytest.fixture
def file(write_nifti, stack, tmp_path):
    return write_nifti(tmp_path / "a.nii.gz", stack.label, affine=moved(stack.spacing))


def turned(array, affine, order, flips):
    """The same voxels at the same mm with other axes."""
    image = nibabel.Nifti1Image(array, affine)
    ornt = np.array([[order.index(k), flips[order.index(k)]] for k in range(3)])
    image = image.as_reoriented(ornt)
    return np.asarray(image.dataobj), image.affine


def overlap(output, stack) -> float:
    """Dice of what lies in the file and the truth, by mm."""
    image = nibabel.load(output)
    truth = stack.truth
    places = np.argwhere(np.ones(truth.label.shape)) * truth.spacing + stack.truth_frame.origin
    index = np.linalg.inv(image.affine)
    index = np.rint(in_mm(places) @ index[:3, :3].T + index[:3, 3]).astype(int)
    inside = ((index >= 0) & (index < image.shape)).all(1)
    found = np.zeros(len(index), np.uint8)
    found[inside] = np.asarray(image.dataobj)[tuple(index[inside].T)]
    wanted = truth.label.ravel()
    return min(2 * ((found == v) & (wanted == v)).sum() / ((found == v).sum() + (wanted == v).sum()) for v in (1, 2, 3))


AXES = {
    "as ACDC": ([0, 1, 2], (1, 1, 1)),
    "slices first": ([2, 0, 1], (1, 1, 1)),
    "mirrored": ([0, 1, 2], (-1, 1, 1)),
    "apex first": ([0, 1, 2], (1, 1, -1)),
    "all at once": ([1, 2, 0], (-1, -1, 1)),
}


@pytest.mark.parametrize("name", AXES)
def test_whatever_the_axes_the_result_lies_where_the_heart_is(few, write_nifti, stack, tmp_path, name):
    array, affine = turned(stack.label, moved(stack.spacing), *AXES[name])
    file = write_nifti(tmp_path / "a.nii.gz", array, affine=affine)
    found = r.refine_file(file, tmp_path / "o.nii.gz", how=r.Refining(n_atlases=3))
    assert overlap(tmp_path / "o.nii.gz", stack) > 0.75
    made = nibabel.load(tmp_path / "o.nii.gz").affine
    sizes = np.linalg.norm(made[:3, :3], axis=0)
    assert int(sizes.argmax()) == found["slice_axis"] == AXES[name][0].index(2) and sizes.max() == pytest.approx(4)
    # the file's axes, in their order and direction
    assert np.allclose(made[:3, :3] / sizes, affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), atol=1e-6)
    # in plane (x, y) and not (y, x), each axis from its first end: one swap or one flip is a mirror image
    order, flips = AXES[name]
    in_plane = [k for k in order if k != 2]
    flipped = [f for k, f in zip(order, flips) if k != 2]
    assert found["mirrored"] == ((in_plane != [0, 1]) != (np.prod(flipped) < 0))


def test_a_mirrored_file_gives_the_same_heart(few, write_nifti, stack, tmp_path):
    affine = moved(stack.spacing)
    for name, flips in (("a", (1, 1, 1)), ("b", (-1, 1, 1))):
        array, there = turned(stack.label, affine, [0, 1, 2], flips)
        r.refine_file(write_nifti(tmp_path / f"{name}.nii", array, affine=there), tmp_path / f"{name}_out.nii", how=ONE)
    a, b = (nibabel.load(tmp_path / f"{name}_out.nii") for name in "ab")
    assert np.array_equal(np.asarray(a.dataobj), np.asarray(b.dataobj)[::-1])


def test_report_by_hand(few, file, stack, tmp_path):
    said = []
    found = r.refine_file(
        file, tmp_path / "new" / "o.nii", how=r.Refining(n_atlases=2, out_spacing=(3, 3, 3)), progress=said.append
    )
    assert json.loads((tmp_path / "new" / "o.json").read_text()) == found
    assert (tmp_path / "new" / "o.png").read_bytes().startswith(b"\x89PNG") and len(said) == 3
    image = nibabel.load(tmp_path / "new" / "o.nii")
    made = np.asarray(image.dataobj)
    assert made.dtype == np.uint8 and np.allclose(np.linalg.norm(image.affine[:3, :3], axis=0), 3)
    for name, value in (("RV cavity", 1), ("LV myocardium", 2), ("LV cavity", 3)):
        before = (stack.label == value).sum() * 2.5 * 2.5 * 12 / 1000
        after = (made == value).sum() * 27 / 1000
        assert found["before"]["volumes_ml"][name] == pytest.approx(before, abs=0.006)
        assert found["after"]["volumes_ml"][name] == pytest.approx(after, abs=0.006)
    assert found["after"]["myocardial_mass_g"] == pytest.approx(1.05 * (made == 2).sum() * 0.027, abs=0.01)
    assert found["scheme"] == "cardiac" and "rv_mass_g" not in found["after"]
    assert found["spacing_mm"] == {"before": [2.5, 2.5, 12.0], "after": [3.0, 3.0, 3.0]}
    assert len(found["atlases"]) == 2 and found["atlases_offered"] == 5
    assert [a["nmi"] for a in found["atlases"]] == sorted((a["nmi"] for a in found["atlases"]), reverse=True)
    assert found["min_jacobian"] > 0 and found["folded_share"] == 0 and found["fusion"] == "majority"
    assert min(found["dice_on_slices"].values()) > 0.8
    assert set(found["seconds"]) == {"atlases", "affine", "selection", "deformation", "warp", "fusion"}


def test_slices_that_nobody_annotated(few, write_nifti, stack, tmp_path):
    """Drawn on every second slice, and stored with the slices along the first axis: said, and about the same heart."""
    sparse = stack.label.copy()
    used = np.flatnonzero(sparse.any((0, 1)))
    missing = used[1:-1:2].tolist()
    sparse[:, :, missing] = 0
    whole = r.refine_file(
        write_nifti(tmp_path / "w.nii.gz", stack.label, affine=moved(stack.spacing)), tmp_path / "v.nii"
    )
    assert whole["slices_not_annotated"] == [] and whole["warnings"] == []
    array, affine = turned(sparse, moved(stack.spacing), *AXES["slices first"])
    file = write_nifti(tmp_path / "a.nii.gz", array, affine=affine)
    with pytest.warns(UserWarning, match="a.nii.gz: found empty slice"):
        found = r.refine_file(file, tmp_path / "o.nii.gz")
    assert found["slices_not_annotated"] == missing and found["slice_axis"] == 0
    assert len(found["warnings"]) == 1 and found["warnings"][0].startswith("a.nii.gz: found empty slice")
    assert json.loads((tmp_path / "o.json").read_text()) == found
    for name in CARDIAC.names:
        for when in ("before", "after"):
            assert abs(found[when]["volumes_ml"][name] / whole[when]["volumes_ml"][name] - 1) < 0.25, (when, name)
        assert found["dice_on_slices"][name] > 0.8


def test_a_result_far_from_what_was_given_is_said(few, file, stack, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "LEAST_DICE", 1.0)
    with pytest.warns(UserWarning, match=r"a.nii.gz: found LV cavity with Dice [01].\d+ on the slices given") as seen:
        found = r.refine_file(file, tmp_path / "o.nii.gz", how=ONE)
    assert len(found["warnings"]) == len(seen) == 3


def test_landmarks_in_mm_of_the_affine(few, file, stack, tmp_path):
    points = {n: in_mm(p) for n, p in stack.landmarks.items()}
    write_landmarks(tmp_path / "lm.csv", dict(list(points.items())[:5]))
    found = r.refine_file(file, tmp_path / "o.nii", landmarks=tmp_path / "lm.csv", how=r.Refining(n_atlases=2))
    assert found["landmarks"] == {"from": "lm.csv", "used": list(points)[:5]}
    assert overlap(tmp_path / "o.nii", stack) > 0.75


def lps(points):
    return {n: p * (-1, -1, 1) for n, p in points.items()}


BAD_LANDMARKS = {
    "voxels": (
        lambda p: {n: np.linalg.inv(TURN) @ (q - (20, -30, 40)) / (2.5, 2.5, 12) + 500 for n, q in p.items()},
        "not in voxels",
    ),
    "LPS": (lps, "LPS"),
    "unknown": (lambda p: {**p, "Apex": p["apex"]}, r"landmarks \['Apex'\].*mitral valve centre"),
    "three": (lambda p: dict(list(p.items())[:3]), "four or more"),
    "in one place": (lambda p: dict.fromkeys(p, p["apex"]), "in one place"),
    "in one plane": (lambda p: {n: q - TURN[:, 0] * (TURN[:, 0] @ (q - p["apex"])) for n, q in p.items()}, "one plane"),
}


@pytest.mark.parametrize("name", BAD_LANDMARKS)
def test_bad_landmarks_are_named(few, file, stack, tmp_path, name):
    change, match = BAD_LANDMARKS[name]
    write_landmarks(tmp_path / "lm.csv", change({n: in_mm(p) for n, p in stack.landmarks.items()}))
    with pytest.raises(DataError, match=match) as error:
        r.refine_file(file, tmp_path / "o.nii", landmarks=tmp_path / "lm.csv")
    assert "lm.csv" in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "lm.csv"]


def only(label, slices):
    kept = np.zeros_like(label)
    kept[:, :, slices] = label[:, :, slices]
    return kept


def middle(label) -> int:
    return int(np.median(np.flatnonzero((label == 3).any((0, 1)))))


BAD_LABELS = {
    "empty": (lambda a: 0 * a, "empty label map"),
    "4-D": (lambda a: np.stack([a, a], -1), "4D"),
    "two slices": (lambda a: only(a, [middle(a), middle(a) + 1]), "an LV in 2 slices; expected at least 3"),
    "no RV": (lambda a: np.where(a == 1, 0, a), r"label values \[2, 3\].*--mapping"),
    "MM-WHS": (lambda a: np.array([0, 600, 205, 500], np.uint16)[a], r"\[205, 500, 600\].*--mapping"),
    "other order": (lambda a: np.array([0, 3, 2, 1], np.uint8)[a], "--mapping 1=3,2=2,3=1"),
    "probabilities": (lambda a: a.astype(np.float32) / 3, "not integers"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_bad_label_maps_are_named_and_leave_nothing(few, write_nifti, stack, tmp_path, name):
    change, match = BAD_LABELS[name]
    file = write_nifti(tmp_path / "bad.nii.gz", change(stack.label), affine=moved(stack.spacing))
    with pytest.raises(DataError, match=match) as error:
        r.refine_file(file, tmp_path / "o.nii.gz")
    assert "bad.nii.gz" in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.nii.gz"]


def test_damaged_and_missing_files(few, file, write_nifti, stack, tmp_path):
    with pytest.raises(DataError, match="none.nii.*no such file"):
        r.refine_file(tmp_path / "none.nii", tmp_path / "o.nii")
    with pytest.raises(DataError, match="none.csv"):
        r.refine_file(file, tmp_path / "o.nii", landmarks=tmp_path / "none.csv")
    other = write_nifti(tmp_path / "image.nii", np.ones((30, 30, 9), np.float32), affine=moved(stack.spacing))
    with pytest.raises(DataError, match=r"as its image image\.nii has"):
        r.refine_file(file, tmp_path / "o.nii", image=other)
    with pytest.raises(DataError, match="no-folder"):
        r.refine_file(file, tmp_path / "o.nii", atlases=tmp_path / "no-folder")
    (tmp_path / "cut.nii.gz").write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match=r"cut\.nii\.gz"):
        r.refine_file(tmp_path / "cut.nii.gz", tmp_path / "o.nii")


def test_wrong_arguments(few, file, tmp_path):
    (tmp_path / "o.png").write_text("mine")
    for arguments, match in (
        ({"output": "o.png"}, "ends in .nii"),
        ({"output": "a.nii.gz", "force": True}, "is an input"),
        ({"output": "o.nii"}, r"o\.png already there"),
        ({"output": "a.nii.gz/o.nii"}, "nothing can be written"),
        ({"how": r.Refining(mapping={1: 9})}, "mapping"),
    ):
        output = tmp_path / arguments.pop("output", "p.nii")
        with pytest.raises(UsageError, match=match):
            r.refine_file(file, output, **arguments)
    for arguments, match in (
        ({"scheme": "hippocampus"}, "expected one of"),
        ({"fusion": "sum"}, "fusion: found 'sum'"),
        ({"n_atlases": 0}, "n_atlases"),
        ({"seed": -1}, "seed"),
        ({"out_spacing": (1, 1)}, "three voxel sizes"),
        ({"out_spacing": (0, 1, 1)}, "three voxel sizes"),
        ({"out_spacing": (1, 1, 30)}, "from 0.5 to 20"),
    ):
        with pytest.raises(UsageError, match=match):
            r.Refining(**arguments)
    with pytest.raises(DataError, match=r"label values \[1, 2, 3\]"):
        r.refine_file(file, tmp_path / "p.nii", how=r.Refining(scheme="biventricular"))
    assert (tmp_path / "o.png").read_text() == "mine"
    r.refine_file(file, tmp_path / "o.nii", how=ONE, force=True)
    assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")


def test_ones_own_atlases_with_images_and_landmarks(write_nifti, stack, tmp_path):
    grey = np.array([0.2, 0.9, 0.4, 0.85, 0.5], np.float32)
    folder = tmp_path / "atlases"
    for heart in phantom_atlases(2, seed=5, images=False, resolution=SPACING):  # with an RV wall
        label, affine = turned(heart.label, moved(heart.spacing), [2, 1, 0], (1, 1, -1))
        write_nifti(folder / "labels" / f"{heart.id}.nii.gz", label, affine=affine)
        write_nifti(folder / "images" / f"{heart.id}.nii.gz", grey[label], affine=affine)
        write_landmarks(folder / "landmarks" / f"{heart.id}.csv", {n: in_mm(p) for n, p in heart.landmarks.items()})
    made = r.read_atlases(folder, CARDIAC)
    assert [a.id for a in made] == ["phantom000_ED", "phantom001_ED"] and made[0].spacing == pytest.approx(SPACING)
    assert set(np.unique(made[0].label)) == {0, 1, 2, 3} and made[0].image.shape == made[0].label.shape
    assert 4 in r.read_atlases(folder, BIVENTRICULAR)[0].label
    # the LV's centre lies between apex and mitral valve, in mm of the turned array
    centre = np.argwhere(made[0].label == 3).mean(0) * made[0].spacing
    ends = (made[0].landmarks["apex"] + made[0].landmarks["mitral valve centre"]) / 2
    assert np.linalg.norm(centre - ends) < 20
    file = write_nifti(
        tmp_path / "a.nii.gz", np.array([0, 30, 20, 10], np.uint8)[stack.label], affine=moved(stack.spacing)
    )
    image = write_nifti(tmp_path / "i.nii.gz", grey[stack.label], affine=moved(stack.spacing))
    found = r.refine_file(
        file,
        tmp_path / "o.nii",
        image=image,
        atlases=folder,
        how=r.Refining(fusion="non-local", mapping={30: 1, 20: 2, 10: 3}),
    )
    assert (found["fusion"], found["atlases_from"], found["image"]) == ("non-local", "atlases", "i.nii.gz")
    assert overlap(tmp_path / "o.nii", stack) > 0.7


def test_slices_are_brought_into_line_when_asked(few, write_nifti, stack, tmp_path):
    moved_by = np.zeros((stack.label.shape[2], 2))
    moved_by[stack.label.shape[2] // 2] = 10.0, 0.0
    label = move_slices(stack.label, moved_by, stack.spacing)
    file = write_nifti(tmp_path / "a.nii.gz", label, affine=moved(stack.spacing))
    image = write_nifti(tmp_path / "i.nii.gz", 50.0 * label.astype(np.float32), affine=moved(stack.spacing))
    plain = r.refine_file(file, tmp_path / "p.nii", how=ONE)
    found = r.refine_file(file, tmp_path / "o.nii", image=image, how=r.Refining(n_atlases=1, align=True))
    steps = np.array(found["slices_moved_mm"])
    assert plain["slices_moved_mm"] is None and steps.shape == moved_by.shape
    worst = np.abs(steps).sum(1).argmax()
    assert worst in np.flatnonzero(moved_by.any(1)) or worst == len(steps) - 1 - np.flatnonzero(moved_by.any(1))[0]
    assert np.abs(steps[worst]).max() > 5


def test_phantoms_are_at_both_phases_and_by_seed(monkeypatch):
    asked = []
    monkeypatch.setattr(r, "phantom_atlases", lambda *a, **k: asked.append((a, k)) or [k["phase"]])
    assert r.phantoms(CARDIAC, 7) == ["ED", "ES"]
    assert [a for a, _ in asked] == [(20, 7)] * 2 and not any(k["images"] for _, k in asked)


def test_four_structures(write_nifti, monkeypatch, tmp_path):
    hearts = phantom_atlases(3, seed=3, images=False, resolution=SPACING)
    monkeypatch.setattr(r, "phantoms", lambda scheme, seed: hearts[:2] if scheme == BIVENTRICULAR else None)
    low = simulate_low_resolution(hearts[2], factor=3)
    file = write_nifti(tmp_path / "a.nii", low.label, spacing=low.spacing)
    found = r.refine_file(file, tmp_path / "o.nii", how=ONE)
    assert found["scheme"] == "biventricular" and found["after"]["rv_mass_g"] > 0
    assert found["after"]["rv_mass_g"] == pytest.approx(1.05 * found["after"]["volumes_ml"]["RV wall"], abs=0.02)
    # the wall of the RV can be left out
    found = r.read_case(file, mapping={1: 1, 2: 2, 3: 3, 4: 0})
    assert found.subject.scheme == CARDIAC


def test_atlases_that_know_other_landmarks(file, small, stack, tmp_path):
    case = r.read_case(file, landmarks=_written(stack, tmp_path))
    other = Atlas(small[0].label, small[0].spacing, {"tip": np.zeros(3)}, None, CARDIAC, "other")
    with pytest.raises(DataError, match=r"lm\.csv.*of atlas other: \['tip'\]"):
        r.choose(case, [other], 1, "lm.csv")


def _written(stack, folder):
    write_landmarks(folder / "lm.csv", {n: in_mm(p) for n, p in stack.landmarks.items()})
    return folder / "lm.csv"


@pytest.mark.slow
@pytest.mark.realdata
def test_a_real_heart(acdc_root, tmp_path):
    folder = acdc_root / "training" / "patient001"
    found = r.refine_file(
        folder / "patient001_frame01_gt.nii.gz", tmp_path / "o.nii.gz", image=folder / "patient001_frame01.nii.gz"
    )
    assert not found["mirrored"] and min(found["dice_on_slices"].values()) > 0.9 and found["folded_share"] == 0
    for name, ml in found["before"]["volumes_ml"].items():
        assert abs(found["after"]["volumes_ml"][name] / ml - 1) < 0.15


def test_a_heart_of_impossible_size_is_said(few, write_nifti, stack, tmp_path):
    file = write_nifti(tmp_path / "giant.nii.gz", stack.label, affine=moved(2.2 * np.array(stack.spacing)))
    with pytest.warns(UserWarning, match="giant.nii.gz: found LVV .* ml .hearts: .*Is the unit mm"):
        found = r.refine_file(file, tmp_path / "o.nii.gz", how=ONE)
    assert any(text.startswith("giant.nii.gz: found LVV") for text in found["warnings"])


@pytest.mark.slow
def test_one_file_stored_in_any_order_is_refined_the_same_way(few, write_nifti, stack, tmp_path, every_order):
    """A few of the 48: one heart in each file's own order, the same numbers and the same mm."""
    results = []
    for i, (label, _, affine) in enumerate([*every_order(stack.label, stack.label, moved(stack.spacing))][::7]):
        file = write_nifti(tmp_path / f"{i}.nii.gz", np.ascontiguousarray(label), affine=affine)
        found = r.refine_file(file, tmp_path / f"{i}_out.nii.gz", how=ONE)
        image = nibabel.load(tmp_path / f"{i}_out.nii.gz")
        assert nibabel.aff2axcodes(image.affine) == nibabel.aff2axcodes(affine)
        upright = nibabel.as_closest_canonical(image)
        numbers = {k: found[k] for k in ("before", "after", "dice_on_slices", "atlases", "warnings")}
        results.append((numbers, np.asarray(upright.dataobj), upright.affine))
    for numbers, label, affine in results[1:]:
        assert numbers == results[0][0] and np.array_equal(label, results[0][1])
        assert np.allclose(affine, results[0][2], atol=1e-3)
