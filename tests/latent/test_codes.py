import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapelab.data.cohort import Cohort
from shapelab.data.grid import Grid, stack_labels
from shapelab.data.scheme import CARDIAC, HIPPOCAMPUS
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError
from shapelab.latent import code_columns, encode_cohort, pair_phases, read_codes, write_codes
from shapelab.latent.codes import code_array, codes_table, dimension_of, patient_rows
from shapelab.spaces import PCASpace


def table(n=6, d=3, seed=0):
    """n patients, ED and ES each; code k of row i is 10 i + k, plus 100 at ES."""
    rows = [
        {
            "patient": f"p{i}",
            "phase": phase,
            "group": "NOR" if i % 2 else "DCM",
            "height": 170.0 + i,
            **{f"z{k:02d}": 10.0 * i + k + 100 * (phase == "ES") for k in range(d)},
        }
        for i in range(n)
        for phase in ("ED", "ES")
    ]
    return pd.DataFrame(rows, index=pd.Index([f"{r['patient']}_{r['phase']}" for r in rows], name="subject"))


def hearts(n=6):
    rng = np.random.default_rng(0)
    x = np.indices((30, 30, 6)).transpose(1, 2, 3, 0) * [2, 2, 5]
    subjects = []
    for i in range(n):
        label = np.zeros((30, 30, 6), np.uint8)
        label[np.linalg.norm(x - [14, 30, 12], axis=-1) < 10] = 1
        d = np.linalg.norm(x - [36, 30, 12], axis=-1)
        label[d < rng.uniform(14, 20)] = 2
        label[d < rng.uniform(8, 12)] = 3
        subjects.append(
            Subject(
                f"p{i}_ED",
                CARDIAC,
                label,
                affine=np.diag([2, 2, 5, 1]),
                facts={"patient": f"p{i}", "phase": "ED", "group": "NOR"},
            )
        )
    return Cohort(subjects, "spheres", CARDIAC)


def test_encode_cohort():
    cohort, grid = hearts(), Grid((32, 32, 8), (2, 2, 5))
    labels, _ = stack_labels(cohort, grid, align="rigid")
    space = PCASpace(3, grid=grid, scheme=CARDIAC).fit(labels)
    codes = encode_cohort(space, cohort)
    assert list(codes.index) == [f"p{i}_ED" for i in range(6)] and codes.index.name == "subject"
    assert code_columns(codes) == ["z00", "z01", "z02"]
    assert {"patient", "phase", "group", "outside"} < set(codes.columns)
    np.testing.assert_array_equal(codes[code_columns(codes)].to_numpy(), space.encode(labels))
    with pytest.raises(UsageError, match="scheme 'cardiac short axis'; expected the space's, 'hippocampus'"):
        encode_cohort(PCASpace(3, grid=grid, scheme=HIPPOCAMPUS), cohort)


def test_code_columns():
    codes = table().assign(zoom=1, z="a")
    assert code_columns(codes) == ["z00", "z01", "z02"]
    assert [dimension_of(c) for c in ("z07", "ED_z07", "ES_z12", "d_z003")] == [7, 7, 12, 3]
    with pytest.raises(UsageError, match="found columns"):
        code_columns(codes[["zoom", "z"]])
    with pytest.raises(UsageError, match="'volume'"):
        dimension_of("volume")


def test_code_columns_are_in_the_order_of_the_dimensions():
    paired = pair_phases(table())
    shuffled = paired[["ED_z02", "group", "d_z01", "ED_z00", "d_z00", "ED_z01", "d_z02", "ES_z01", "ES_z00", "ES_z02"]]
    assert code_columns(shuffled) == [f"{p}_z{k:02d}" for p in ("ED", "d", "ES") for k in range(3)]
    many = pd.DataFrame(np.zeros((1, 101)), columns=[f"z{k}" for k in range(101)])
    assert code_columns(many[sorted(many)]) == list(many)
    for twice in ("z00", "z0"):
        with pytest.raises(UsageError, match="of one dimension"):
            code_columns(pd.concat([table(), table()[["z00"]].set_axis([twice], axis=1)], axis=1))


def test_codes_and_facts_are_brought_together_by_name():
    codes = table()
    facts, numbers = codes[["patient", "phase"]], codes[["z00", "z01", "z02"]]
    shuffled = numbers.sample(frac=1, random_state=3)[["z02", "z00", "z01"]]
    pd.testing.assert_frame_equal(codes_table(shuffled, facts), codes_table(numbers.to_numpy(), facts))
    with pytest.raises(DataError, match="codes_table: found values for 0, 1"):
        codes_table(numbers.reset_index(drop=True), facts)


def test_codes_table_checks_its_parts():
    facts = table()[["patient"]]
    with pytest.raises(UsageError, match="expected \\(12, d\\)"):
        codes_table(np.zeros((3, 2)), facts)
    with pytest.raises(UsageError, match="facts named \\['z01'\\]"):
        codes_table(np.zeros((12, 2)), facts.assign(z01=0))
    assert code_columns(codes_table(np.zeros((12, 101)), facts))[-1] == "z100"


def test_pair_phases_by_hand():
    paired = pair_phases(table().sample(frac=1, random_state=0))
    assert list(paired.index) == [f"p{i}" for i in range(6)]
    row = paired.loc["p2"]
    assert (row["ED_z01"], row["ES_z01"], row["d_z01"]) == (21, 121, 100)
    assert row["group"] == "DCM" and row["height"] == 172
    assert "phase" not in paired and len(code_columns(paired)) == 9
    assert len(code_columns(pair_phases(table(), difference=False))) == 6
    assert code_columns(patient_rows(table(), ("ES",))) == ["ES_z00", "ES_z01", "ES_z02"]


def test_facts_that_differ_between_phases_are_dropped():
    codes = table().assign(frame=range(12), note=np.nan)
    assert "frame" not in pair_phases(codes) and "note" in pair_phases(codes)


def test_a_fact_known_of_one_phase_alone_is_the_patients():
    codes = table()
    gaps = codes.assign(group=codes["group"].where(codes.index != "p2_ES"), age=[60.0, np.nan] * 6)
    paired = pair_phases(gaps)
    assert paired["group"].tolist() == ["DCM", "NOR"] * 3 and paired["age"].tolist() == [60.0] * 6


def sides():
    """Left and right of each patient; the codes of the right are 1000 more."""
    code = ["z00", "z01", "z02"]
    left, right = (table().assign(side=side).rename(lambda i, s=side: f"{i}_{s}") for side in "LR")
    return pd.concat([left, right.assign(**right[code] + 1000)])


def test_sides_and_visits_are_rows_of_their_own():
    paired = pair_phases(sides().sample(frac=1, random_state=1))
    assert list(paired.index) == [f"p{i}, side {s}" for i in range(6) for s in "LR"]
    assert (
        paired["patient"].tolist() == [f"p{i}" for i in range(6) for _ in "LR"]
        and paired["side"].tolist() == list("LR") * 6
    )
    assert paired.loc["p2, side R", ["ED_z01", "ES_z01", "d_z01"]].tolist() == [1021, 1121, 100]
    visits = pair_phases(sides().rename(columns={"side": "visit"}).replace({"visit": {"L": 1, "R": 2}}))
    assert list(visits.index)[:2] == ["p0, visit 1", "p0, visit 2"]


def test_the_message_names_what_is_really_double():
    codes = sides()
    double = r"more than one ED row for patient\(s\) \['p0', 'p1', .*\(subjects p0_ED_L, .*a fact side or visit"
    with pytest.raises(DataError, match=double):
        pair_phases(codes.drop(columns="side"))
    with pytest.raises(
        DataError, match=r"more than one ED row for patient\(s\) \['p1, side L'\] \(subjects p1_ED_L, again\)"
    ):
        pair_phases(pd.concat([codes, codes.loc[["p1_ED_L"]].rename({"p1_ED_L": "again"})]))
    with pytest.raises(DataError, match="no 'side' for subject 'p0_ED_R'"):
        pair_phases(codes.assign(side=codes["side"].where(codes.index != "p0_ED_R")))
    with pytest.raises(DataError, match=r"no ED row for patient\(s\) \['p0', .*\(phases: L, R\)"):
        pair_phases(codes.drop(columns="side").assign(phase=codes["side"]))


def test_pair_phases_names_the_patient():
    codes = table()
    with pytest.raises(DataError, match=r"no ES row for patient\(s\) \['p3'\]"):
        pair_phases(codes.drop("p3_ES"))
    with pytest.raises(DataError, match=r"more than one ED row for patient\(s\) \['p1'\]"):
        pair_phases(pd.concat([codes, codes.loc[["p1_ED"]].rename({"p1_ED": "p1_ED2"})]))
    with pytest.raises(UsageError, match="no column 'phase'"):
        pair_phases(codes.drop(columns="phase"))


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-1e6, 1e6, width=32)))
def test_write_and_read_give_the_same_codes(tmp_path_factory, values):
    facts = pd.DataFrame(
        {"patient": [f"00{i}" for i in range(len(values))]}, index=[f"00{i}_ED" for i in range(len(values))]
    )
    codes = codes_table(values, facts)
    again = read_codes(write_codes(codes, tmp_path_factory.mktemp("codes") / "codes.csv"), required=("patient",))
    np.testing.assert_array_equal(again[code_columns(again)].to_numpy().astype(np.float32), values)
    assert list(again.index) == list(codes.index) and list(again["patient"]) == list(codes["patient"])


def test_read_accepts_id_as_index(tmp_path):
    (tmp_path / "c.csv").write_text("id,z0,z1,group\n007,1,2,A\n008,3,4,B\n")
    codes = read_codes(tmp_path / "c.csv", required=["group"])
    assert list(codes.index) == ["007", "008"] and code_array(codes).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "an empty file"),
        ("name,z00\na,1\n", "a column 'subject'"),
        ("subject,f1,group\na,1,A\n", "code columns z00"),
        ("subject,z00\na,1\n", "no column 'group'"),
        ("subject,z00,group\na,1,\nb,2,B\n", "no 'group' for subject 'a'"),
        ("subject,z00,group\na,1,A\nb,,B\n", "NaN or infinity in column 'z00', subject 'b'"),
        ("subject,z00,group\na,1,A\nb,inf,B\n", "NaN or infinity in column 'z00', subject 'b'"),
        ("subject,z00,group\na,1,A\nb,large,B\n", "'large' in column 'z00', subject 'b'"),
        ("subject,z00,group\na,1,A\na,2,B\n", r"the ids \['a'\] more than once"),
        ("subject,z00,group\n,1,A\n", "no id in line 2"),
        ("subject,z00,group\n", "no row"),
        ("subject,z00,Group\na,1,A\n", "a column 'Group'; expected 'group'"),
    ],
)
def test_bad_csv_is_named(tmp_path, text, message):
    path = tmp_path / "codes.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_codes(path, required=["group"])
    assert error.value.file == str(path)


def test_missing_csv(tmp_path):
    with pytest.raises(DataError, match="nothing.csv"):
        read_codes(tmp_path / "nothing.csv")


def test_codes_with_gaps_are_not_written(tmp_path):
    with pytest.raises(DataError, match="NaN"):
        write_codes(table().assign(z00=np.nan), tmp_path / "c.csv")
    assert not (tmp_path / "c.csv").exists()


@pytest.mark.parametrize("align", ["none", "rigid"])
def test_a_space_lays_new_hearts_as_its_own_were_laid(align, tmp_path):
    cohort, grid = hearts(), Grid((32, 32, 8), (2, 2, 5))
    labels, _ = stack_labels(cohort, grid, align=align, whole_walls=True)
    space = PCASpace(3, grid=grid, scheme=CARDIAC).fit(labels)
    for one in (space, PCASpace.load(space.save(tmp_path / "space"))):
        codes = encode_cohort(one, cohort)
        np.testing.assert_allclose(code_array(codes), one.encode(labels), atol=1e-5)
    other = {"none": "rigid", "rigid": "none"}[align]
    with pytest.raises(UsageError, match=f"found .*{other}.* laid with .*{align}"):
        encode_cohort(space, cohort, align=other)
    assert encode_cohort(space, cohort, align=align, centre="auto").equals(encode_cohort(space, cohort))
    with pytest.warns(UserWarning, match=f"found them laid with .*{other}.*lay them with stack_labels"):
        space.encode(stack_labels(cohort, grid, align=other)[0])


def test_a_space_that_does_not_remember_says_what_it_assumes():
    cohort, grid = hearts(), Grid((32, 32, 8), (2, 2, 5))
    labels = {align: stack_labels(cohort, grid, align=align)[0] for align in ("none", "rigid")}
    space = PCASpace(3, grid=grid, scheme=CARDIAC).fit(np.asarray(labels["none"]))
    with pytest.warns(UserWarning, match="PCASpace: found no word .*align='rigid'"):
        codes = encode_cohort(space, cohort)
    np.testing.assert_array_equal(code_array(codes), space.encode(np.asarray(labels["rigid"])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = encode_cohort(space, cohort, align="none")
    np.testing.assert_array_equal(code_array(codes), space.encode(np.asarray(labels["none"])))


def test_one_cohort_stored_in_any_order_has_the_same_codes(every_order):
    cohort, grid = hearts(), Grid((32, 32, 8), (2, 2, 5))
    space = PCASpace(3, grid=grid, scheme=CARDIAC).fit(stack_labels(cohort, grid, align="rigid")[0])
    codes = encode_cohort(space, cohort)
    for i in (0, 11, 26, 37, 47):
        stored = [[*every_order(s.label, s.label, s.affine)][i] for s in cohort]
        turned = Cohort(
            [s.with_(label=label, affine=affine) for s, (label, _, affine) in zip(cohort, stored, strict=True)],
            "turned",
            CARDIAC,
        )
        pd.testing.assert_frame_equal(encode_cohort(space, turned), codes)
