import numpy as np
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


@pytest.mark.parametrize("phases", [("ED",), ("ED", "ED"), ("ES",)])
def test_a_patient_without_both_phases_is_named(phases):
    subjects = patient("lonely", 10, 10, 10, phases=phases)
    subjects = [s.with_(id=f"{s.id}{i}") for i, s in enumerate(subjects)]
    with pytest.raises(DataError, match="lonely"):
        cardiac_indices(Cohort(subjects, "toy", CARDIAC))


def test_not_a_heart():
    with pytest.raises(UsageError, match="hippocampus"):
        cardiac_indices(Cohort([], "h", HIPPOCAMPUS))


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
