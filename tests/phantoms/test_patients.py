import numpy as np
import pandas as pd
import pytest

from shapelab.errors import UsageError
from shapelab.phantoms import build_heart, draw_factors
from shapelab.phantoms.patients import Mix, anatomy, cached_hearts, some_of
from shapelab.phantoms.whole_heart_population import WHOLE_GROUPS


def test_groups_take_turns_and_a_patient_keeps_its_number():
    mix = Mix(("NOR", "RV"))
    assert [mix.patient(7, i) for i in range(4)] == [
        (7, 0, "NOR", 0),
        (7, 1, "RV", 0),
        (7, 2, "NOR", 1),
        (7, 3, "RV", 1),
    ]
    assert mix.patient(np.int64(7), np.int64(3)) == mix.patient(7, 3)
    assert Mix().patient(0, 6) == (0, 6, "DCM", 1)
    assert Mix(WHOLE_GROUPS, known=WHOLE_GROUPS).patient(0, 9) == (0, 9, "PH", 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": "NOR"}, "groups: found 'NOR'; expected some of"),
        ({"groups": ()}, "groups: found"),
        ({"groups": ("NOR", "ARV")}, "ARV"),
        ({"groups": ("NOR", "RV"), "known": WHOLE_GROUPS}, "expected some of .*'LAE'"),
        ({"phases": ("ED", "MID")}, "phases: found"),
        ({"phases": ["ED", "ED"]}, "each once"),
    ],
)
def test_unknown_groups_and_phases_are_named(options, words):
    with pytest.raises(UsageError, match=words):
        Mix(**options)


def test_the_anatomy_is_that_of_the_drawn_factors():
    who = Mix().patient(3, 1)
    factors, hearts = anatomy(who)
    assert factors == draw_factors(3, 1, "DCM", 0)
    assert (hearts["ES"].surfaces.endo == build_heart(factors)["ES"].surfaces.endo).all()
    assert anatomy(who)[1] is hearts  # kept


def test_many_hearts_are_drawn_once_and_kept(tmp_path):
    drawn = []

    def draw(who, phase):
        drawn.append((who[1], phase))
        return {"number": np.array([who[1]]), "late": np.array(phase == "ES")}, {"size": 2.5 * who[1]}

    who = [Mix().patient(0, i) for i in (0, 3)]
    file = tmp_path / "hearts.npz"
    arrays, table = cached_hearts(who, ("ED", "ES"), draw, file, "two of them")
    assert drawn == [(0, "ED"), (0, "ES"), (3, "ED"), (3, "ES")]
    assert arrays["number"].tolist() == [[0], [0], [3], [3]] and arrays["late"].tolist() == [False, True, False, True]
    assert table.index.tolist() == ["phantom000_ED", "phantom000_ES", "phantom003_ED", "phantom003_ES"]
    assert table.columns.tolist() == ["patient", "group", "phase", "size"]
    assert table.iloc[3].tolist() == ["phantom003", "MINF", "ES", 7.5]
    again, same = cached_hearts(who, ("ED", "ES"), draw, file, "two of them")
    assert len(drawn) == 4 and np.array_equal(again["number"], arrays["number"])
    pd.testing.assert_frame_equal(same, table)
    cached_hearts(who[:1], ("ED",), draw, file, "another key")
    assert len(drawn) == 5
    _, table = cached_hearts(who[:1], ("CT", "ES"), draw, seen="modality")
    assert table.columns.tolist() == ["patient", "group", "modality", "size"]
    assert table["modality"].tolist() == ["CT", "ES"]


def test_some_of_known_names():
    some_of("modalities", ("CT", "CT"), ("CT", "MR"))
    for values, words in (("CT", "found 'CT'"), ((), "found"), (("CT", "US"), r"some of \['CT', 'MR'\]")):
        with pytest.raises(UsageError, match=f"modalities: .*{words}"):
            some_of("modalities", values, ("CT", "MR"))
    with pytest.raises(UsageError, match="modalities: .* each once"):
        some_of("modalities", ("CT", "CT"), ("CT", "MR"), once=True)
