import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapelab.data.cohort import Cohort
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError


def cohort(n=12, groups=("NOR", "DCM", "HCM")):
    def broken():
        raise AssertionError("no array may be read")

    return Cohort(
        [
            Subject(
                f"p{i}_{phase}",
                CARDIAC,
                label=broken,
                facts={"patient": f"p{i}", "phase": phase, "group": groups[i % len(groups)]},
            )
            for i in range(n)
            for phase in ("ED", "ES")
        ],
        "toy",
        CARDIAC,
    )


def test_table_has_a_row_a_subject_and_reads_nothing():
    c = cohort()
    assert list(c.table.columns) == ["patient", "phase", "group"] and len(c.table) == 24
    assert c.table.index.name == "subject" and c.table.loc["p3_ES", "group"] == "NOR"
    assert c.patients == tuple(f"p{i}" for i in range(12))


def test_indexing():
    c = cohort()
    assert c[0].id == "p0_ED" and c["p1_ES"].id == "p1_ES" and c[-1].id == "p11_ES"
    assert c[2:4].ids == ("p1_ED", "p1_ES") and c[["p2_ED", "p0_ED"]].ids == ("p2_ED", "p0_ED")
    assert "p1_ES" in c and "nobody" not in c and len(c[:2] + c[2:4]) == 4


def test_filter():
    c = cohort()
    assert len(c.filter(phase="ED")) == 12
    assert len(c.filter(phase="ED", group=["NOR", "DCM"])) == 8
    assert c.filter(lambda s: s.patient == "p5").ids == ("p5_ED", "p5_ES")
    assert c.filter(patient="p5").ids == ("p5_ED", "p5_ES")
    with pytest.raises(UsageError, match="fact: found 'sex'; expected one of"):
        c.filter(sex="F")


def test_what_is_taken_goes_by_name_or_by_position():
    c = cohort()
    healthy = c.table["group"] == "NOR"
    expected = tuple(s.id for s in c if s.facts["group"] == "NOR")
    ways = [healthy, healthy.sample(frac=1, random_state=3), healthy.to_numpy(), healthy.tolist(), dict(healthy)]
    for mask in ways:
        assert c[mask].ids == c.filter(mask).ids == expected
    assert c[healthy].filter(phase="ES").ids == c.filter(healthy, phase="ES").ids == expected[1::2]
    for some in (["p2_ED", "p0_ED"], pd.Index(["p2_ED", "p0_ED"]), pd.Series(["p2_ED", "p0_ED"], index=["p1_ES", 4])):
        assert c[some].ids == ("p2_ED", "p0_ED")
    for some in ([4, 0], np.array([4, 0]), pd.Series([4, 0], index=["p7_ED", "p9_ED"]), (i for i in (4, 0)), [-20, 0]):
        assert c[some].ids == ("p2_ED", "p0_ED")
    assert c[{"p2_ED", "p0_ED"}].ids == ("p0_ED", "p2_ED")  # a set has no order: the cohort's
    assert c[:2][[True, False]].ids == ("p0_ED",) and c[[]].ids == ()


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ([True, False], UsageError, "a mask of 2 for 24 rows"),
        (True, UsageError, "found True; expected a mask, positions, or names"),
        (
            pd.Series([True] * 24),
            DataError,
            r"values for 0, 1, 2, 3, 4, ... \(24 in all\); expected one for each of 'p0_ED'",
        ),
        (pd.Index([0, 1]), UsageError, "the names 0, 1; expected some of 'p0_ED'"),
        ([24], UsageError, r"the positions \[24\] of 24 rows"),
        ([0.0], UsageError, "floating values"),
        (pd.DataFrame({"a": [1]}), UsageError, "2 axes"),
    ],
)
def test_what_names_nobody_is_refused(key, error, message):
    with pytest.raises(error, match=message):
        cohort()[key]


def test_an_id_is_text():
    c = cohort()
    assert c[3] in c
    with pytest.raises(UsageError, match="in: found 3; expected an id"):
        _ = 3 in c


def test_filter_by_several_values_whatever_holds_them():
    c = cohort()
    for several in (["NOR"], np.array(["NOR"]), pd.Series(["NOR"], index=[9]), {"NOR": 1}.keys(), (g for g in ["NOR"])):
        assert len(c.filter(group=several)) == 8
    numbered = Cohort([s.with_(facts={**s.facts, "patient": int(s.patient[1:])}) for s in c], "numbered", CARDIAC)
    assert numbered.filter(patient=7).ids == numbered.filter(patient="7").ids == ("p7_ED", "p7_ES")
    assert numbered.table["patient"].tolist()[:3] == ["0", "0", "1"]
    with pytest.warns(UserWarning, match=r"nobody with group in \[True, False\]; expected some of 'DCM', 'HCM', 'NOR'"):
        assert not len(c.filter(group=[True, False]))


def with_gaps(lacking, fact="group", value=None):
    return Cohort(
        [s.with_(facts={**s.facts, fact: value}) if s.id in lacking else s for s in cohort()], "gaps", CARDIAC
    )


@pytest.mark.parametrize("value", [None, float("nan"), pd.NA])
def test_a_fact_that_is_not_known(value):
    c = with_gaps(["p1_ED", "p1_ES", "p3_ES"], value=value)
    assert c.filter(group=None).ids == c.filter(group=np.nan).ids == ("p1_ED", "p1_ES", "p3_ES")
    parts = c.split(test=0.25, seed=1)
    assert sorted(s.id for part in parts for s in part) == sorted(c.ids)
    assert not set(parts[0].patients) & set(parts[1].patients)
    with pytest.raises(DataError, match=r"no 'group' for 3 subject\(s\), \['p1_ED', 'p1_ES', 'p3_ES'\]"):
        c.split(by="group", stratify=None)
    alone = with_gaps(
        ["p1_ED", "p1_ES"], "patient", value
    )  # nobody's patient: each a patient of its own, not one "nan"
    assert {"p1_ED", "p1_ES"} <= set(alone.patients) and len(alone.patients) == 13


@given(st.integers(6, 40), st.integers(0, 100), st.sampled_from([0.2, 0.25, 0.5]))
def test_split_never_tears_a_patient_apart_and_keeps_the_shares(n, seed, test):
    c = cohort(n * 3)
    train, held = c.split(test=test, seed=seed)
    assert not set(train.patients) & set(held.patients)
    assert len(train) + len(held) == len(c)
    counts = held.filter(phase="ED").table.group.value_counts()
    assert (counts == round(test * n)).all() and len(counts) == 3
    again = c.split(test=test, seed=seed)
    assert again[1].ids == held.ids


def test_split_differs_by_seed():
    assert len({cohort(30).split(seed=s)[1].ids for s in range(5)}) > 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"test": 1.5}, UsageError, "test=1.5"),
        ({"stratify": "sex"}, UsageError, "stratify: found 'sex'"),
        ({"by": "family"}, UsageError, "by: found 'family'"),
        ({"test": 0.01}, DataError, "enough for both parts"),
        ({"stratify": "phase"}, DataError, "several values of 'phase'"),
    ],
)
def test_bad_splits(arguments, error, message):
    with pytest.raises(error, match=message):
        cohort().split(**arguments)


def test_bad_cohorts():
    s = Subject("a", CARDIAC, label=np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match=r"ids \['a'\] more than once"):
        Cohort([s, s], "twice", CARDIAC)
    with pytest.raises(DataError, match="label scheme 'cardiac short axis'"):
        Cohort([s], "mixed", BIVENTRICULAR)
    with pytest.raises(UsageError, match="found no subject 'b'"):
        Cohort([s], "one", CARDIAC)["b"]
