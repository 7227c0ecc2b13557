import numpy as np
import pandas as pd
import pytest

from shapelab.data.cohort import Cohort
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError
from shapelab.metrics.clinical import cardiac_indices, ejection_fraction, mass, structure_volumes, volumes_and_masses


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
