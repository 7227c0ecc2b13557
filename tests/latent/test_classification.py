from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from shapelab.errors import DataError, UsageError
from shapelab.latent import ClassificationResult, CrossValidation, SpaceFeatures, classification_report, classify

SMALL = RandomForestClassifier(n_estimators=10, max_features=None)  # every tree finds the one good column
QUICK = CrossValidation(n_splits=5, n_repeats=2, permutations=0)


def codes_of(n=30, d=4, signal=10.0, groups="ABC", seed=0):
    """n patients, ED and ES; z01 at ED tells the group apart by `signal` standard deviations, the rest is noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        for phase in ("ED", "ES"):
            z = rng.normal(size=d)
            z[1] += signal * (i % len(groups)) * (phase == "ED")
            rows.append(
                {
                    "patient": f"p{i:02d}",
                    "phase": phase,
                    "group": groups[i % len(groups)],
                    **{f"z{k:02d}": z[k] for k in range(d)},
                }
            )
    return pd.DataFrame(rows, index=[f"{r['patient']}_{r['phase']}" for r in rows])


def test_separable_groups_are_all_right():
    table = classify(codes_of(), model=SMALL, settings=replace(QUICK, permutations=19))
    row = table.iloc[0]
    assert (row["accuracy"], row["low"], row["high"], row["balanced_accuracy"]) == (1, 1, 1, 1)
    assert row["p"] == 1 / 20  # no shuffle of 19 is as good: the smallest p there is
    assert (row["n_patients"], row["n_features"], row["phases"]) == (30, 4, "ED")
    assert row["saw_test_shapes"] and row["chance"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("model", ["forest", "extra", "boosting"])
def test_every_named_model_learns(model):
    table = classify(codes_of(groups="AB"), model=model, settings=CrossValidation(3, 1, 0, importances=False))
    assert table["accuracy"].item() > 0.9 and np.isnan(table["p"].item())


def test_controls_without_information_are_at_chance():
    table = classify(
        codes_of(n=48), model=SMALL, controls=("shuffled", "random"), settings=CrossValidation(3, 4, 19)
    ).set_index("features")
    assert list(table.index) == ["codes", "shuffled labels", "random codes"]
    for control in ("shuffled labels", "random codes"):
        row = table.loc[control]
        assert row["low"] <= 1 / 3 <= row["high"] and row["p"] > 0.05
    assert table.loc["codes", "accuracy"] == 1
    assert table["saw_test_shapes"].to_dict() == {"codes": True, "shuffled labels": True, "random codes": False}


def test_several_features_phases_and_models_share_the_folds():
    codes = {"good": codes_of(), "noise": codes_of(signal=0)}
    result = classification_report(
        codes, model=[SMALL, LogisticRegression()], phases=[("ED",), "ED+ES"], settings=QUICK
    )
    assert isinstance(result, ClassificationResult) and len(result.table) == 8
    assert result.table.groupby("phases")["n_features"].unique().map(list).to_dict() == {"ED": [4], "ED+ES": [12]}
    folds = result.predictions.pivot_table(
        index=["repeat", "patient"], columns=["features", "phases", "model"], values="fold"
    )
    assert (folds.nunique(axis=1) == 1).all()
    good = result.table[result.table["features"] == "good"]
    assert (good["accuracy"] > 0.9).all()
    impurity = result.importances.groupby("model")["impurity"]
    assert impurity.count().to_dict() == {"LogisticRegression": 0, "RandomForestClassifier": 32}  # no trees: NaN


def test_numbers_agree_with_the_predictions():
    result = classification_report(codes_of(signal=1.0), model=SMALL, settings=QUICK)
    row, predictions = result.table.iloc[0], result.predictions
    assert len(predictions) == 60 and predictions.groupby(["repeat", "patient"]).size().eq(1).all()
    right = predictions["truth"] == predictions["predicted"]
    assert row["accuracy"] == pytest.approx(right.mean())
    assert row["low"] < row["accuracy"] < row["high"]
    balanced = [balanced_accuracy_score(r["truth"], r["predicted"]) for _, r in predictions.groupby("repeat")]
    assert row["balanced_accuracy"] == pytest.approx(np.mean(balanced))
    confusion = result.confusion()
    assert confusion.to_numpy().sum() == 30 and np.trace(confusion) / 30 == pytest.approx(row["accuracy"])
    np.testing.assert_allclose(result.confusion(normalise=True).sum(axis=1), 1)
    probabilities = predictions[["p_A", "p_B", "p_C"]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.idxmax(axis=1).str[2:] == predictions["predicted"]).all()


def test_same_seed_same_table_in_one_process_or_two():
    codes = codes_of(signal=1.0)
    options = {"model": SMALL, "controls": ("shuffled", "random")}
    how = CrossValidation(n_splits=3, n_repeats=2, permutations=2, seed=3)
    first = classify(codes, settings=how, **options)
    pd.testing.assert_frame_equal(first, classify(codes, settings=replace(how, n_jobs=2), **options))
    pd.testing.assert_frame_equal(first, classify(codes.sample(frac=1, random_state=1), settings=how, **options))
    assert not first.equals(classify(codes, settings=replace(how, seed=4), **options))


class Recording:
    """A space of two codes: how full the map is, and whether this very map was among those it was fitted on."""

    fits: list = []

    def __init__(self, labels, seed):
        self.seen = {one.tobytes() for one in labels}
        Recording.fits.append(self.seen)

    def encode(self, labels):
        return np.array([[one.mean(), one.tobytes() in self.seen] for one in labels], dtype=np.float32)


def test_no_space_ever_saw_a_shape_of_its_test_patients():
    codes = codes_of(n=20, groups="AB")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=(40, 4, 4, 3)).astype(np.uint8)
    Recording.fits = []
    features = SpaceFeatures(labels, codes[["patient", "phase", "group"]], Recording)
    result = classification_report(
        {"space": features},
        model=[SMALL, LogisticRegression()],
        phases=[("ED",), ("ED", "ES")],
        settings=replace(QUICK, permutations=3),
    )
    assert len(Recording.fits) == 10  # 5 folds x 2 repeats, shared by models, phases and permutations
    assert not result.table["saw_test_shapes"].any()
    shapes = {p: [labels[i].tobytes() for i in np.flatnonzero(codes["patient"] == p)] for p in set(codes["patient"])}
    for repeat, seen in zip(np.repeat([0, 1], 5), Recording.fits, strict=True):
        unseen = {p for p, both in shapes.items() if not seen.intersection(both)}
        rows = result.predictions[
            (result.predictions["repeat"] == repeat) & (result.predictions["model"] == "LogisticRegression")
        ]
        held_out = [set(rows.loc[rows["fold"] == f, "patient"]) for f in range(5)]
        assert unseen in held_out  # exactly one fold's patients, both phases of each
    with pytest.raises(UsageError, match="fitted in each fold"):
        from shapelab.latent import important_dimensions

        important_dimensions(result)


def test_volumes_control():
    rng = np.random.default_rng(0)
    codes = codes_of(signal=0)
    patients = sorted(codes["patient"].unique())
    group = codes.groupby("patient")["group"].first()
    indices = pd.DataFrame(
        {c: rng.normal(size=30) for c in ("LVV_ED", "RVV_ED", "LVV_ES", "RVV_ES", "RVEF", "LVM")}, index=patients
    ).assign(LVEF=group.map({"A": 20, "B": 50, "C": 80}), group=group)
    table = classify(codes, model=SMALL, phases=["ED", "ED+ES"], controls=("volumes",), indices=indices, settings=QUICK)
    volumes = table[table["features"] == "volumes + EF"].set_index("phases")
    assert volumes["n_features"].to_dict() == {"ED": 3, "ED+ES": 7}
    assert volumes.loc["ED+ES", "accuracy"] == 1 > volumes.loc["ED", "accuracy"]
    with pytest.raises(DataError, match=r"volumes \+ EF: found nothing for patient\(s\) \['p04'\]"):
        classify(codes, controls=("volumes",), indices=indices.drop("p04"), settings=QUICK)


def test_groups_are_chosen():
    result = classification_report(codes_of(groups="ABCDE"), model=SMALL, groups=["E", "A"], settings=QUICK)
    assert result.classes == ("A", "E") and result.table["n_patients"].item() == 12


def test_somebody_elses_table_of_one_row_a_patient():
    codes = codes_of()
    codes = codes[codes["phase"] == "ED"].drop(columns=["phase", "patient"])
    assert classify(codes, model=SMALL, settings=QUICK)["accuracy"].item() == 1


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"target": "diagnosis"}, UsageError, r"target='diagnosis'; expected .*'group'"),
        ({"model": "svm"}, UsageError, "classifier.*found 'svm'"),
        ({"model": 3}, UsageError, "classifier.*found 3"),
        ({"phases": ("ED", "MID")}, UsageError, "phases="),
        ({"controls": ("volumes",)}, UsageError, "without indices"),
        ({"controls": ("noise",)}, UsageError, "control: found 'noise'"),
        ({"groups": ("A", "Z")}, UsageError, "'Z'"),
        ({"groups": ("A",)}, DataError, "only group='A'"),
        (
            {"settings": CrossValidation(n_splits=11)},
            DataError,
            r"10 patients with group='A' .*\{'A': 10, 'B': 10, 'C': 10\}.*n_splits=11",
        ),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        classify(codes_of(), **{"settings": QUICK, **options})


def test_bad_tables():
    codes = codes_of()
    with pytest.raises(DataError, match=r"no ES row for patient\(s\) \['p07'\]"):
        classify(codes.drop("p07_ES"), phases=("ED", "ES"), settings=QUICK)
    with pytest.raises(DataError, match="NaN or infinity in column 'z02', subject 'p03_ED'"):
        classify(codes.assign(z02=codes["z02"].where(codes.index != "p03_ED")), settings=QUICK)
    with pytest.raises(DataError, match="no 'group' for patient 'p05'"):
        classify(codes.assign(group=codes["group"].where(codes["patient"] != "p05")), settings=QUICK)
    some = codes_of().assign(group=lambda t: t["group"].where(~t["patient"].isin(["p05", "p09"])))
    with pytest.raises(DataError, match="no 'group' for patient 'p05' and 1 more of 30"):
        classify(some, model=SMALL, settings=QUICK)
    with pytest.raises(UsageError, match="no codes"):
        classify({}, settings=QUICK)


def test_folds_are_shared_by_all_choices_of_groups():
    codes = codes_of(groups="ABCDE", n=50)
    every = classification_report(codes, model=SMALL, settings=QUICK)
    some = classification_report(codes, model=SMALL, groups=["E", "A"], settings=QUICK)
    assert every.folds == some.folds and len(every.folds) == QUICK.n_splits * QUICK.n_repeats
    for seen, held_out in every.folds:
        assert not set(seen) & set(held_out) and len(seen) + len(held_out) == 50
    fold_of = every.predictions.drop_duplicates(["repeat", "patient"]).set_index(["repeat", "patient"])["fold"]
    for row in some.predictions.itertuples():
        assert fold_of[row.repeat, row.patient] == row.fold


def test_a_group_too_small_to_stratify_may_be_left_out():
    codes = pd.concat(
        [
            codes_of(groups="AB", n=20),
            codes_of(groups="C", n=2).rename(index=lambda i: f"x{i}").assign(patient=lambda t: "x" + t["patient"]),
        ]
    )
    result = classification_report(codes, model=SMALL, groups=["A", "B"], settings=QUICK)
    assert result.table["n_patients"].iloc[0] == 20


def sides_of(n=20, seed=0):
    """Left and right of n patients, without a phase; z01 tells the patient's group, z02 the side."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(2 * n, 3)), columns=["z00", "z01", "z02"])
    table["patient"], table["side"] = np.repeat([f"p{i:02d}" for i in range(n)], 2), ["L", "R"] * n
    table["group"] = np.repeat(np.array(["A", "B"])[np.arange(n) % 2], 2)
    table["z01"] += 10 * (table["group"] == "A")
    table["z02"] += 10 * (table["side"] == "R")
    return table.set_axis(table["patient"] + "_" + table["side"]).rename_axis("subject")


@pytest.mark.parametrize("target", ["group", "side"])
def test_two_rows_of_a_patient_stay_in_one_fold(target):
    how = CrossValidation(5, 2, 19)
    result = classification_report(sides_of(), target, SMALL, settings=how, controls=("shuffled", "random"))
    table = result.table.set_index("features")
    assert table.loc["codes", ["accuracy", "n_patients", "p"]].tolist() == [1.0, 20, 0.05]
    assert table.loc["random codes", "p"] > 0.05 and (table["chance"] == 0.5).all()
    rows = result.select("predictions")
    assert len(rows) == 80 and (rows.groupby(["repeat", "patient"])["fold"].nunique() == 1).all()
    assert (rows["row"] == rows["patient"] + ", side " + np.where(rows["row"].str.endswith("L"), "L", "R")).all()
    truth = sides_of().set_index(["patient", "side"])[target] if target == "group" else None
    for name, found in zip(rows["row"], rows["truth"]):
        patient, side = name.split(", side ")
        assert found == (side if truth is None else truth[patient, side])
    one = classify(sides_of().query("side == 'L'"), model=SMALL, settings=QUICK)
    assert one["n_patients"].item() == 20  # a row a patient: the side does not matter


def test_two_rows_that_nothing_tells_apart_are_named():
    with pytest.raises(DataError, match=r"more than one row for patient\(s\) \['p00'.*\(subjects p00_L, p00_R"):
        classify(sides_of().drop(columns="side"), model=SMALL, settings=QUICK)


def test_categories_and_groups_of_nobody():
    codes = codes_of(groups="ABC")
    wanted = classify(codes, model=SMALL, groups=["A", "B"], settings=QUICK)
    categorical = codes.assign(
        group=pd.Categorical(codes["group"], list("ABCD")),
        patient=pd.Categorical(codes["patient"], [*codes["patient"].unique(), "p99"]),
    )
    for groups in (["A", "B"], {"A": 1, "B": 2}.keys(), (g for g in "AB"), pd.Series(["A", "B"])):
        pd.testing.assert_frame_equal(classify(categorical, model=SMALL, groups=groups, settings=QUICK), wanted)


def test_the_order_of_the_rows_does_not_matter():
    codes = codes_of(signal=1.0)
    indices = codes.groupby("patient")[["z00"]].first().set_axis(["LVV_ED"], axis=1)
    options = {"model": SMALL, "controls": ("volumes",), "settings": QUICK}
    wanted = classify(codes, indices=indices, **options)
    shuffled = classify(codes.sample(frac=1, random_state=2), indices=indices.sample(frac=1, random_state=3), **options)
    pd.testing.assert_frame_equal(shuffled, wanted)
