import numpy as np
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
