import warnings

import numpy as np
import pandas as pd
import pytest

from shapelab.data import open_cohort
from shapelab.data.cohort import Cohort
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError
from shapelab.metrics.clinical import (
    PLAUSIBLE,
    cardiac_indices,
    doubts,
    ejection_fraction,
    indices_of,
    mass,
    structure_volumes,
    volumes_and_masses,
)


def patient(name, lv, rv, myo, wall=0, phases=("ED", "ES"), scheme=CARDIAC, **facts):
    """Label maps with so many voxels of each structure, 1 ml a voxel; half the cavities at ES."""
    out = []
    for phase in phases:
        f = 1 if phase == "ED" else 0.5
        counts = [int(rv * f), myo, int(lv * f), wall]
        flat = np.repeat([1, 2, 3, 4], counts)
        label = np.zeros(1000, np.uint8)
        label[: len(flat)] = flat
        out.append(
            Subject(
                f"{name}_{phase}",
                scheme,
                label=label.reshape(10, 10, 10),
                affine=np.diag([10, 10, 10, 1]),
                facts={"patient": name, "phase": phase, **facts},
            )
        )
    return out


def test_by_hand():
    c = Cohort(patient("a", 100, 80, 60, group="NOR", height=170.0), "toy", CARDIAC)
    row = cardiac_indices(c).loc["a"]
    assert row[["LVV_ED", "LVV_ES", "RVV_ED", "RVV_ES", "LVEF", "RVEF"]].tolist() == [100, 50, 80, 40, 50, 50]
    assert row["LVM"] == pytest.approx(63.0) and row["group"] == "NOR" and row["height"] == 170.0
    assert "phase" not in row and "RVM" not in row


def test_rv_mass_where_there_is_a_wall():
    c = Cohort(patient("a", 10, 10, 10, wall=40, scheme=BIVENTRICULAR), "toy", BIVENTRICULAR)
    assert cardiac_indices(c).loc["a", "RVM"] == pytest.approx(42.0)


def test_masses_are_those_of_ed():
    thick, thin = (
        patient("a", 100, 80, 60, wall=40, scheme=BIVENTRICULAR),
        patient("a", 100, 80, 30, 20, scheme=BIVENTRICULAR),
    )
    row = cardiac_indices(Cohort([thick[0], thin[1]], "toy", BIVENTRICULAR)).loc["a"]
    assert (row["LVM"], row["RVM"]) == (pytest.approx(63.0), pytest.approx(42.0))


def test_volumes_use_the_spacing():
    label = np.zeros((4, 4, 4), np.uint8)
    label[0, 0, :3] = 3
    volumes = structure_volumes(label, (1.25, 1.25, 10), CARDIAC)
    assert volumes["LV cavity"] == pytest.approx(3 * 15.625 / 1000) and volumes["RV cavity"] == 0


def test_a_report_of_volumes_and_masses():
    label = np.zeros((10, 10, 10), np.uint8)
    label[0], label[1, :5], label[2] = 2, 4, 3
    found = volumes_and_masses(label, (10, 10, 10), BIVENTRICULAR)
    volumes = {"RV cavity": 0.0, "LV myocardium": 100.0, "LV cavity": 100.0, "RV wall": 50.0}
    assert found == {"volumes_ml": volumes, "myocardial_mass_g": 105.0, "rv_mass_g": 52.5}
    assert set(volumes_and_masses(np.minimum(label, 3), (1, 1, 1), CARDIAC)) == {"volumes_ml", "myocardial_mass_g"}


def test_formulas():
    assert ejection_fraction(150.0, 60.0) == 60.0 and mass(100) == 105.0
    with pytest.raises(DataError, match="end-diastolic volume of 0"):
        ejection_fraction(0.0, 1.0)
    ed, es = pd.Series([100.0, 200.0], ["a", "b"]), pd.Series([50.0, 60.0], ["b", "a"])
    assert ejection_fraction(ed, es).to_dict() == {"a": 40, "b": 75}
    with pytest.raises(DataError, match="ejection_fraction: found values for 'a_ES', 'b_ES'"):
        ejection_fraction(ed, es.set_axis(["a_ES", "b_ES"]))


def test_visits_of_a_patient_are_rows_of_their_own():
    first, second = (patient("a", lv, 80, 60, visit=v) for v, lv in ((1, 100), (2, 120)))
    second = [s.with_(id=f"{s.id}_again") for s in second]
    table = cardiac_indices(Cohort([*second, *first, *patient("b", 60, 80, 60, visit=1)], "toy", CARDIAC))
    assert table["LVV_ED"].to_dict() == {"a, visit 2": 120, "a, visit 1": 100, "b, visit 1": 60}
    assert table["patient"].tolist() == ["a", "a", "b"] and table["visit"].tolist() == [2, 1, 1]
    with pytest.raises(DataError, match="'a' .twice"):
        cardiac_indices(Cohort([s.with_(facts={**s.facts, "visit": 1}) for s in [*first, *second]], "toy", CARDIAC))


@pytest.mark.parametrize("phases", [("ED",), ("ED", "ED"), ("ES",)])
def test_a_patient_without_both_phases_is_named(phases):
    subjects = patient("lonely", 10, 10, 10, phases=phases)
    subjects = [s.with_(id=f"{s.id}{i}") for i, s in enumerate(subjects)]
    with pytest.raises(DataError, match="lonely"):
        cardiac_indices(Cohort(subjects, "toy", CARDIAC))


def test_not_a_heart():
    with pytest.raises(UsageError, match="hippocampus"):
        cardiac_indices(Cohort([], "h", HIPPOCAMPUS))


# ------------------------------------------------------------------------------------- what no heart has

ED = {"RV cavity": 160.0, "LV myocardium": 110.0, "LV cavity": 150.0}
ES = {"RV cavity": 70.0, "LV myocardium": 112.0, "LV cavity": 60.0}


def doubts_of(ed=None, es=None):
    ed, es = ED | (ed or {}), ES | (es or {})
    return doubts(indices_of(ed, es), es)


def test_a_heart_is_beyond_doubt_and_each_number_out_of_range_is_not():
    assert doubts_of() == []
    row = indices_of(ED, ES)
    assert row == pytest.approx(
        {"LVV_ED": 150, "LVV_ES": 60, "RVV_ED": 160, "RVV_ES": 70, "LVEF": 60, "RVEF": 56.25, "LVM": 115.5}
    )
    for key in [*row, "LVV", "RVV", "RVM"]:
        low, high, unit = PLAUSIBLE[key]
        for value, said in ((low, 0), (high, 0), (0.99 * low, 1), (1.01 * high, 1)):
            assert len(doubts({key: value})) == said, (key, value)
        assert doubts({key: 2 * high}) == [f"{key} {2 * high:.3g} {unit} (hearts: {low:g} to {high:g})"]


@pytest.mark.parametrize(
    "ed, es, expected",
    [
        ({"LV cavity": 60.0}, {"LV cavity": 150.0}, "LVEF -150 % (hearts: 1 to 90; ED and ES exchanged?)"),
        ({}, {"RV cavity": 0.0}, "RVEF 100 % (hearts: 1 to 90; none at ES?)"),
        ({}, {"RV cavity": 0.0}, "RVV_ES 0 ml (hearts: 6 to 400; not there?)"),
        ({"LV cavity": 0.0}, {}, "LVEF none (hearts: 1 to 90)"),
        ({}, {"LV cavity": 150.0}, "LVEF 0 % (hearts: 1 to 90; one label map twice?)"),
        ({}, {"LV cavity": 12.0}, "LVEF 92 % (hearts: 1 to 90)"),
        ({"LV myocardium": 0.0}, {}, "LVM 0 g (hearts: 25 to 450; not there?)"),
        ({"LV cavity": 1.5e-7}, {}, "LVV_ED 1.5e-07 ml (hearts: 30 to 500; is the unit mm?)"),
        ({"RV cavity": 40.0, "LV cavity": 240.0}, {"RV cavity": 20.0}, "RVV_ED / LVV_ED 0.167 (hearts: 0.2 to 5)"),
        ({}, {"RV cavity": 155.0}, "RV / LV stroke volume 0.0556 (hearts: 0.1 to 10)"),
        ({}, {"LV myocardium": 60.0}, "LVM at ES / at ED 0.545 (hearts: 0.6 to 1.6)"),
        ({"LV cavity": 31.0}, {"LV cavity": 20.0}, ""),
        ({"LV cavity": 31.0, "LV myocardium": 130.0}, {}, "LVM / LVV_ED 4.4 g/ml (hearts: 0.2 to 4)"),
    ],
)
def test_what_no_heart_has_is_said_with_what_it_may_come_from(ed, es, expected):
    found = doubts_of(ed, es)
    assert expected in found if expected else "LVM / LVV_ED" not in str(found)


def test_one_warning_names_the_hearts_and_the_table_keeps_and_names_them():
    good, bad, gone = patient("a", 150, 160, 110), patient("b", 140, 150, 100), patient("c", 140, 150, 100)
    exchanged = [s.with_(facts={**s.facts, "phase": {"ED": "ES", "ES": "ED"}[s.facts["phase"]]}) for s in bad]
    empty = [gone[0], gone[1].with_(label=np.where(gone[1].label == 1, 0, gone[1].label))]
    with pytest.warns(UserWarning) as said:
        table = cardiac_indices(Cohort([*good, *exchanged, *empty], "toy", CARDIAC))
    (text,) = {str(w.message) for w in said}
    assert len(said) == 1 and said[0].filename == __file__
    assert (
        "in 2 of 3 patients (b: LVEF -100 %" in text and "ED and ES exchanged?" in text and "| c: RVV_ES 0 ml" in text
    )
    assert table["LVEF"].tolist() == [50, -100, 50] and table.index.tolist() == ["a", "b", "c"]
    assert table.loc["a", "doubtful"] == "" and "RVEF 100 %" in table.loc["c", "doubtful"]


def test_without_doubt_there_is_neither_a_warning_nor_a_column():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "doubtful" not in cardiac_indices(Cohort(patient("a", 150, 160, 110), "toy", CARDIAC))


def test_an_ed_cavity_of_0_keeps_the_patient_in_the_table():
    none = [s.with_(label=np.where(s.label == 3, 0, s.label)) for s in patient("a", 150, 160, 110)]
    with pytest.warns(UserWarning, match="a: LVV_ED 0 ml"):
        row = cardiac_indices(Cohort(none, "toy", CARDIAC)).loc["a"]
    assert np.isnan(row["LVEF"]) and row["RVEF"] == 50


def test_sizes_in_another_unit_and_phases_of_other_voxels_are_said():
    ed, es = patient("a", 150, 160, 110)
    with pytest.warns(UserWarning, match="LVV_ED 0.15 ml .hearts: 30 to 500; is the unit mm"):  # in cm
        cardiac_indices(Cohort([s.with_(affine=np.diag([1, 1, 1, 1])) for s in (ed, es)], "toy", CARDIAC))
    with pytest.raises(DataError, match="Is the unit mm"):
        cardiac_indices(Cohort([s.with_(affine=np.diag([0.01, 0.01, 0.01, 1])) for s in (ed, es)], "toy", CARDIAC))
    with pytest.warns(UserWarning, match=r"voxels of \[10. 10. 10.\] mm at ED, \[10. 10. 11.\] at ES"):
        cardiac_indices(Cohort([ed, es.with_(affine=np.diag([10, 10, 11, 1]))], "toy", CARDIAC))


def test_of_many_in_doubt_the_first_have_the_reason_and_all_are_named():
    cohort = Cohort([s for i in range(7) for s in patient(f"p{i}", 10, 160, 110)], "toy", CARDIAC)
    with pytest.warns(UserWarning, match=r"7 of 7 patients.* \| p4: LVV.* \| and p5, p6\); expected"):
        assert cardiac_indices(cohort)["doubtful"].str.contains("LVV_ED 10 ml").all()


@pytest.mark.realdata
def test_acdc_patients_are_beyond_doubt_by_their_own_label_maps(acdc_root):
    with pytest.warns(UserWarning) as said:
        table = cardiac_indices(open_cohort("acdc", root=acdc_root))
    # one of 80: an RV that ejects 3 ml where the LV ejects 53
    assert len(said) == 1 and table.index[table["doubtful"] != ""].tolist() == ["patient098"]


def test_slices_that_nobody_annotated_are_not_background():
    """A cylinder of 9 slices of 9 voxels of 1 ml, at ED drawn on every second one: 81 ml at ED and at ES."""
    label = np.zeros((5, 5, 12), np.uint8)
    label[1:4, 1:4, 1:10] = 3
    sparse = label.copy()
    sparse[:, :, 2:10:2] = 0
    assert structure_volumes(sparse, (10, 10, 10), CARDIAC)["LV cavity"] == 45
    with pytest.warns(UserWarning, match="x.nii: found empty slices 2, 4, 6, 8"):
        assert volumes_and_masses(sparse, (10, 10, 10), CARDIAC, "x.nii")["volumes_ml"]["LV cavity"] == 81
    label[0, 0, 1] = sparse[0, 0, 1] = 1  # an RV, whose ejection fraction is asked for
    phases = (("ED", sparse), ("ES", label))
    hearts = [
        Subject(f"a_{p}", CARDIAC, label=m, affine=np.diag([10, 10, 10, 1]), facts={"patient": "a", "phase": p})
        for p, m in phases
    ]
    with pytest.warns(UserWarning, match="subject a_ED: found empty slices 2, 4, 6, 8"):
        row = cardiac_indices(Cohort(hearts, "toy", CARDIAC)).loc["a"]
    assert row[["LVV_ED", "LVV_ES", "LVEF"]].tolist() == [81, 81, 0]
