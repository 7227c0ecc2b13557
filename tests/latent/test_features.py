import numpy as np
import pandas as pd
import pytest

from shapelab.errors import DataError, UsageError
from shapelab.latent import FixedFeatures, FoldFeatures, SpaceFeatures
from shapelab.latent.features import IndexFeatures, patient_facts, random_features

PATIENTS = [f"p{i:02d}" for i in range(12)]


def subjects():
    rows = [
        {"patient": p, "phase": phase, "group": "AB"[i % 2], "frame": i + (phase == "ES")}
        for i, p in enumerate(PATIENTS)
        for phase in ("ED", "ES")
    ]
    return pd.DataFrame(rows, index=[f"{r['patient']}_{r['phase']}" for r in rows])


def labels():
    """Each label map holds its own row number, so a space can tell what it was fitted on."""
    return np.arange(24, dtype=np.uint8).reshape(24, 1, 1, 1) * np.ones((1, 2, 2, 2), np.uint8)


class RecordingSpace:
    """Code 0 is the subject's number, code 1 the number of shapes the space was fitted on; remembers them."""

    def __init__(self, log):
        self.log = log

    def __call__(self, shapes, seed):
        self.fitted_on = shapes[:, 0, 0, 0].tolist()
        self.log.append((self.fitted_on, seed))
        return self

    def encode(self, shapes):
        return np.stack([shapes[:, 0, 0, 0], np.full(len(shapes), len(self.fitted_on))], axis=1).astype(np.float32)


def test_space_is_fitted_on_training_patients_only_and_once():
    log = []
    features = SpaceFeatures(labels(), subjects(), lambda x, seed: RecordingSpace(log)(x, seed))
    assert isinstance(features, FoldFeatures) and not features.saw_test_shapes and not features.fixed
    train, test = PATIENTS[:10], PATIENTS[10:]
    both = features.table(train, test, ("ED", "ES"))
    assert log[0][0] == list(range(20))  # ED and ES of the ten, nothing of the other two
    assert list(both.index) == PATIENTS
    assert list(both.columns) == ["ED_z00", "ED_z01", "ES_z00", "ES_z01", "d_z00", "d_z01"]
    assert both.loc["p11"].tolist() == [22, 20, 23, 20, 1, 0]
    features.table(train[::-1], test, ("ED",))  # same patients, other order and phases
    assert len(log) == 1
    features.table(test, train, ("ED",))
    assert log[1][0] == [20, 21, 22, 23] and log[1][1] != log[0][1]


def test_others_may_help_to_fit_but_never_the_test_patients():
    log = []
    features = SpaceFeatures(labels(), subjects(), lambda x, seed: RecordingSpace(log)(x, seed), with_others=True)
    features.table(PATIENTS[:4], PATIENTS[4:6], ("ED",))
    assert log[0][0] == [*range(8), *range(12, 24)]


def test_codes_on_disk_are_used_again_for_the_same_fold_only(tmp_path):
    log = []

    def features(key="linear", seed=0, shapes=None):
        return SpaceFeatures(
            labels() if shapes is None else shapes,
            subjects(),
            lambda x, s: RecordingSpace(log)(x, s),
            seed=seed,
            cache=tmp_path,
            cache_key=key,
        )

    first = features().table(PATIENTS[:6], PATIENTS[6:], ("ED", "ES"))
    again = features().table(PATIENTS[:6], PATIENTS[6:], ("ED", "ES"))
    pd.testing.assert_frame_equal(first, again, check_dtype=False)
    assert len(log) == 1
    features("other").table(PATIENTS[:6], PATIENTS[6:], ("ED",))
    features(seed=1).table(PATIENTS[:6], PATIENTS[6:], ("ED",))
    features(shapes=labels() + 1).table(PATIENTS[:6], PATIENTS[6:], ("ED",))
    features().table(PATIENTS[:7], PATIENTS[7:], ("ED",))
    assert len(log) == 5
    with pytest.raises(UsageError, match="cache without cache_key"):
        SpaceFeatures(labels(), subjects(), RecordingSpace(log), cache=tmp_path)


def test_fixed_features_say_that_they_saw():
    codes = subjects().assign(z00=np.arange(24.0))
    fixed = FixedFeatures(codes)
    assert fixed.saw_test_shapes and not FixedFeatures(codes, saw_test_shapes=False).saw_test_shapes
    table = fixed.table(PATIENTS[:2], PATIENTS[2:3], ("ED", "ES"))
    assert table.loc["p02"].tolist() == [4, 5, 1] and len(table) == 3
    assert list(fixed.facts.columns) == ["group"] and fixed.facts.loc["p03", "group"] == "B"


def test_fixed_features_of_one_row_a_patient():
    codes = pd.DataFrame({"patient": ["b", "a"], "z0": [1.0, 2.0], "group": ["B", "A"]}, index=["s1", "s2"])
    fixed = FixedFeatures(codes)
    assert fixed.facts.loc["a", "group"] == "A"
    assert fixed.table(["a"], ["b"], ("ED",))["z0"].tolist() == [2, 1]
    with pytest.raises(DataError, match=r"more than one row for patient\(s\) \['a'\] \(subjects s1, s2\)"):
        FixedFeatures(codes.assign(patient="a"))


def test_a_patient_in_another_spelling_is_not_torn_apart():
    codes = pd.DataFrame({"Patient": ["a", "a"], "z0": [1.0, 2.0]}, index=["s1", "s2"])
    with pytest.raises(DataError, match="codes: found a column 'Patient'; expected 'patient'"):
        FixedFeatures(codes)


def test_indices_by_phase():
    indices = pd.DataFrame(
        {
            "LVV_ED": [1.0, 2],
            "LVV_ES": [3.0, 4],
            "RVV_ED": 5.0,
            "RVV_ES": 6.0,
            "LVEF": 7.0,
            "RVEF": 8.0,
            "LVM": 9.0,
            "group": ["A", "B"],
        },
        index=["a", "b"],
    )
    features = IndexFeatures(indices)
    assert not features.saw_test_shapes and list(features.facts.columns) == ["group"]
    assert list(features.table(["a"], ["b"], ("ED",)).columns) == ["LVV_ED", "RVV_ED", "LVM"]
    assert features.table(["a"], ["b"], ("ED", "ES")).shape == (2, 7)
    assert list(features.table(["b"], ["a"], ("ES",)).columns) == ["LVV_ES", "RVV_ES"]
    with pytest.raises(DataError, match="'LVEF' of patient 'b'"):
        IndexFeatures(indices.assign(LVEF=[1, np.nan]))
    with pytest.raises(UsageError, match="cardiac_indices"):
        IndexFeatures(indices[["group"]])


def test_two_rows_of_a_patient_among_the_indices():
    double = pd.DataFrame({"LVV_ED": [1.0, 2.0, 3.0]}, index=["a", "b", "a"])
    with pytest.raises(DataError, match=r"more than one row for patient\(s\) \['a'\]"):
        IndexFeatures(double)
    sides = IndexFeatures(double.assign(patient=["a", "b", "a"]).set_axis(["a, side L", "b, side L", "a, side R"]))
    assert sides.table(["b"], ["a"], ("ED",))["LVV_ED"].tolist() == [2, 1, 3]


def test_sides_of_a_patient_go_together():
    codes = subjects().assign(z00=np.arange(24.0), side=["L", "R"] * 12, phase="ED")
    for fixed in (FixedFeatures(codes), FixedFeatures(codes.drop(columns="phase"))):
        assert fixed.facts.loc["p03, side R", ["patient", "side"]].tolist() == ["p03", "R"]
        assert fixed.table(["p03"], ["p01"], ("ED",)).iloc[:, 0].tolist() == [6, 7, 2, 3]
    alone = fixed.table(["p00"], [], ("ED",))  # also where the rows asked for are few
    assert list(alone.index) == ["p00, side L", "p00, side R"]
    with pytest.raises(DataError, match=r"nothing for patient\(s\) \['nobody'\]"):
        fixed.table(["p03"], ["nobody"], ("ED",))


def test_random_features_know_nothing_and_repeat():
    fixed = FixedFeatures(subjects().assign(z00=1.0))
    a, b, c = (random_features(fixed, 5, seed).table(PATIENTS, [], ("ED", "ES")) for seed in (0, 0, 1))
    both = FixedFeatures(subjects().assign(z00=1.0, side=["L", "R"] * 12, phase="ED"))
    assert len(random_features(both, 2, 0).table(PATIENTS, [], ("ED", "ES"))) == 24
    assert a.shape == (12, 15) and a.equals(b) and not a.equals(c)
    np.testing.assert_allclose(a["ES_z03"] - a["ED_z03"], a["d_z03"])


def test_patient_facts():
    facts = patient_facts(subjects().assign(age=[60, np.nan] * 12, box=[[1]] * 24))
    assert list(facts.columns) == ["group", "age"] and facts.loc["p00", "age"] == 60
    with pytest.raises(UsageError, match="'patient'"):
        patient_facts(subjects()[["group"]])


def test_what_was_kept_comes_back_as_it_was(tmp_path):
    """A file holds text: patients that are numbers would not be found again."""
    table = subjects().assign(patient=lambda t: t["patient"].str[1:].astype(int), side="L").set_axis(range(24))
    tables = []
    for log in ([], []):
        made = SpaceFeatures(
            labels(), table, lambda x, seed, log=log: RecordingSpace(log)(x, seed), cache=tmp_path, cache_key="numbers"
        )
        tables.append(made.table([0, 1, 2], [3, 4], ("ED",)))
    assert log == [] and list(tables[1].index) == [0, 1, 2, 3, 4]
    pd.testing.assert_frame_equal(*tables, check_dtype=False)


def test_what_is_measured_goes_to_its_label_map():
    def worst_first(space, shapes):
        return pd.DataFrame({"value": shapes[:, 0, 0, 0]}).sort_values("value", ascending=False)

    features = SpaceFeatures(labels(), subjects(), lambda x, s: RecordingSpace([])(x, s), measure=worst_first)
    assert features.measured(PATIENTS[:10], PATIENTS[10:])["value"].tolist() == [20, 21, 22, 23]


def test_bad_arguments():
    with pytest.raises(UsageError, match="24 label maps and 23 rows"):
        SpaceFeatures(labels(), subjects().iloc[:23], None)
    with pytest.raises(UsageError, match="no column 'phase'"):
        SpaceFeatures(labels(), subjects().drop(columns="phase"), None)


def test_what_is_measured_is_of_the_space_fitted_without_the_test_patients(tmp_path):
    def size(space, shapes):
        return pd.DataFrame({"fitted on": len(space.fitted_on), "value": shapes[:, 0, 0, 0]})

    for log in ([], []):  # fitted, then read from the cache
        make = lambda x, seed, log=log: RecordingSpace(log)(x, seed)  # noqa: E731
        features = SpaceFeatures(labels(), subjects(), make, measure=size, cache=tmp_path, cache_key="recording")
        found = features.measured(PATIENTS[:10], PATIENTS[10:])
        assert list(found.index) == ["p10_ED", "p10_ES", "p11_ED", "p11_ES"]
        assert found["fitted on"].tolist() == [20] * 4 and found["value"].tolist() == [20, 21, 22, 23]
    assert log == []
