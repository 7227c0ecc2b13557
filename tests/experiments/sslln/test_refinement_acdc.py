"""Atlas refinement of real hearts: which hearts, what is measured, that it resumes, that a failure is reported."""

import json

import numpy as np
import pandas as pd
import pytest

from shapelab.atlas import Frame, FreeFormDeformation, phantom_atlases, simulate_low_resolution
from shapelab.data.cohort import Cohort
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import UsageError
from shapelab.experiments.sslln import refinement_acdc as refinement
from shapelab.metrics import dice

FAST = {
    "n_atlases": 2,
    "out_spacing": (2.5, 2.5, 4.0),
    "ffd": FreeFormDeformation(
        control_mm=20.0, levels=1, iterations=20, bending=(6,), blur_mm=(3,), sampling_mm=(5,), step_mm=(3,)
    ),
}


@pytest.fixture(scope="module")
def atlases():
    return phantom_atlases(4, 3, scheme=CARDIAC, images=False, resolution=(2.5, 2.5, 4.0))


@pytest.fixture(scope="module")
def cohort(atlases):
    """Two stacks of 12 mm slices, and one without an RV, of which no landmarks can be told."""
    subjects = []
    for i, heart in enumerate(atlases[:2]):
        low = simulate_low_resolution(heart, factor=3, shift_mm=0, first=i)
        subjects.append(subject(i, low.label, low.spacing, "NOR" if i else "DCM"))
    left = np.where(low.label == 1, 0, low.label).astype(np.uint8)
    return Cohort([*subjects, subject(2, left, low.spacing, "DCM")], "stacks", CARDIAC)


def subject(i, label, spacing, group):
    facts = {"patient": f"patient{i}", "phase": "ED", "group": group}
    return Subject(f"patient{i}_ED", CARDIAC, label=label, affine=np.diag([*spacing, 1.0]), facts=facts)


@pytest.fixture(scope="module")
def done(cohort, atlases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refinement")
    table = refinement.run(cohort=cohort, atlases=atlases[2:], output=folder, profile="full", progress=False, **FAST)
    return folder, table


def test_a_row_a_heart_with_what_was_asked(done):
    _, table = done
    good = table[table["error"] == ""]
    assert list(table["subject"]) == ["patient0_ED", "patient1_ED", "patient2_ED"] and len(good) == 2
    assert "DataError" in table.at[2, "error"] and "septum" in table.at[2, "error"]
    for name in CARDIAC.names:
        assert (good[f"dice refined {name}"] > 0.8).all() and (good[f"dice nearest {name}"] == 1).all()
        assert (good[f"hd nearest {name}"] == 0).all() and (good[f"hd refined {name}"] < 30).all()
    for name in refinement.SURFACES:
        assert (good[f"curvature refined {name}"] < good[f"curvature nearest {name}"]).all()
    assert (good["folded"] == 0).all() and (good["min_jacobian"] > 0).all() and good["atlases"].str.len().min() > 0


def test_the_tables_are_written_and_a_second_run_takes_what_is_there(done, cohort, atlases):
    folder, table = done
    about = json.loads((folder / "refinement_acdc.json").read_text())
    assert about["settings"]["n_atlases"] == 2 and about["date"] and about["torch"]
    assert len(pd.read_csv(folder / "refinement_acdc.csv")) == 3
    parts = pd.read_csv(folder / "refinement_acdc_summary.csv")
    assert {"dice", "hd", "curvature", "volume change, %", "min_jacobian", "seconds"} <= set(parts["measure"])
    assert (parts["n"] == 2).all()
    before = {p: p.stat().st_mtime_ns for p in (folder / "labels").iterdir()}
    again = refinement.run(cohort=cohort, atlases=atlases[2:], output=folder, profile="full", progress=False, **FAST)
    assert {p: p.stat().st_mtime_ns for p in (folder / "labels").iterdir()} == before
    pd.testing.assert_frame_equal(again, table)
    with pytest.raises(UsageError, match="made with other settings"):
        refinement.run(cohort=cohort, atlases=atlases[2:], output=folder, progress=False, **FAST | {"n_atlases": 1})


def test_measure_of_a_stack_that_is_its_own_refinement(cohort):
    one = cohort[0].load()
    frame = Frame(one.label.shape, tuple(one.spacing))
    row = refinement.measure(one, one.label, frame)
    assert all(row[f"dice {w} {n}"] == 1 and row[f"hd {w} {n}"] == 0 for w in refinement.WAYS for n in CARDIAC.names)
    assert all(row[f"volume given {n}"] == row[f"volume refined {n}"] for n in CARDIAC.names)
    assert row["slice_mm"] == 12 and row["pixel_mm"] == 2.5 and row["slices"] == one.label.any((0, 1)).sum()
    moved = np.roll(one.label, 2, 0)
    row = refinement.measure(one, moved, frame)
    assert row["dice refined LV cavity"] == dice(moved, one.label, CARDIAC)["LV cavity"] < 1
    assert row["hd refined LV cavity"] == 5.0  # two pixels


def test_which_hearts(cohort):
    assert refinement.chosen_hearts(cohort, None) is cohort
    assert refinement.chosen_hearts(cohort, 2).ids == ("patient0_ED", "patient1_ED")  # one of each group
    for which in (["patient2"], "patient2", (p for p in ["patient2"]), np.array(["patient2"]), pd.Series(["patient2"])):
        assert refinement.chosen_hearts(cohort, which).ids == ("patient2_ED",)
    assert refinement.chosen_hearts(cohort, np.int64(2)).ids == ("patient0_ED", "patient1_ED")
    with pytest.raises(UsageError, match="found 0"):
        refinement.chosen_hearts(cohort, 0)
    with pytest.raises(UsageError, match="patient9"):
        refinement.chosen_hearts(cohort, ["patient9"])
    twice = Cohort([cohort[0], cohort[0].with_(id="patient0_ES")], "two", CARDIAC)
    with pytest.raises(UsageError, match="more than one heart"):
        refinement.chosen_hearts(twice, None)


def test_summary_by_hand():
    table = pd.DataFrame(
        {
            "subject": ["a", "b"],
            "dice refined LV cavity": [0.9, 0.8],
            "hd refined LV cavity": [1, 5],
            "volume given LV cavity": [100, 50],
            "volume refined LV cavity": [110, 40],
        }
    )
    found = refinement.summary(table).set_index("measure")
    assert found.loc["dice", ["mean", "worst", "worst_subject"]].tolist() == [pytest.approx(0.85), 0.8, "b"]
    assert found.loc["hd", ["mean", "worst"]].tolist() == [3, 5]
    change = found.loc["volume change, %"]
    assert change["mean"] == pytest.approx(-5) and change["worst"] == pytest.approx(-20)


def test_a_picture_has_three_hearts_a_row(done, cohort):
    folder, _ = done
    fig = refinement.pictures([cohort[0]], folder / "labels")
    assert len(fig.axes) >= 3
