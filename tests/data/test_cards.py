"""The catalogue, where data is looked for, and what is said when it is not there."""

from pathlib import Path

import pytest

import shapelab
from shapelab.data import catalogue, open_cohort
from shapelab.data.download import SOURCES
from shapelab.errors import DataError, UsageError

CARDS = Path(shapelab.__file__).parents[1] / "data"


def test_names():
    assert list(catalogue()) == [
        "acdc",
        "hippocampus",
        "decathlon",
        "cetus",
        "digital_heart",
        "folder",
        "phantom",
        "phantom-us",
    ]
    assert all(card.name == name for name, card in catalogue().items())
    assert {name for name, card in catalogue().items() if card.fetchable} == set(SOURCES)
    assert all(source.folder == catalogue()[name].folder for name, source in SOURCES.items())


@pytest.mark.skipif(not CARDS.is_dir(), reason="the dataset cards are in the source tree only")
@pytest.mark.parametrize("name", ["acdc", "hippocampus", "cetus", "digital_heart", "folder", "phantom"])
def test_the_written_cards_agree_with_the_catalogue(name):
    text, card = " ".join((CARDS / f"{name}.md").read_text().split()), catalogue()[name]
    assert f'open_cohort("{name}"' in text
    for part in (card.home, card.folder, *card.citation.split("; ")):
        assert part in text
    if card.home:
        assert f"Licence | {card.licence} |" in text


def test_unknown_name_and_option(tmp_path, make_acdc):
    with pytest.raises(UsageError, match="found 'adcd'; expected one of acdc, hippocampus, decathlon, cetus, "):
        open_cohort("adcd")
    root = make_acdc(tmp_path, n=1)
    with pytest.raises(UsageError, match=r"found the options \['scheme'\]; expected some of \['subset'\]"):
        open_cohort("acdc", root, scheme=None)
    with pytest.raises(UsageError, match="found 'warn'; expected 'raise' or 'skip'"):
        open_cohort("acdc", root, on_error="warn")
    with pytest.raises(UsageError, match="on_error"):
        open_cohort("phantom", on_error="warn")


def test_shapelab_data_is_where_it_looks(tmp_path, make_acdc, make_decathlon, monkeypatch):
    make_acdc(tmp_path / "acdc", n=1)
    make_decathlon(tmp_path / "Task04_Hippocampus", n=2)
    monkeypatch.setenv("SHAPELAB_DATA", str(tmp_path))
    assert len(open_cohort("acdc")) == 2 and len(shapelab.open_cohort("hippocampus")) == 2


@pytest.mark.parametrize(
    "name, get", [("acdc", "by hand from https://www.creatis"), ("hippocampus", "`shapelab data fetch hippocampus`")]
)
@pytest.mark.parametrize("where", ["unset", "empty", "no folder", "other files"])
def test_missing_data_is_one_message_with_all_one_needs(tmp_path, monkeypatch, name, get, where):
    monkeypatch.delenv("SHAPELAB_DATA", raising=False)
    root = None
    if where == "empty":
        monkeypatch.setenv("SHAPELAB_DATA", str(tmp_path))
    elif where == "no folder":
        root = tmp_path / "nowhere"
    elif where == "other files":
        root = tmp_path
        (tmp_path / "training").mkdir()
        (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError) as caught:
        open_cohort(name, root)
    message, card = str(caught.value), catalogue()[name]
    for part in (
        card.home,
        card.licence,
        card.layout,
        card.title,
        get,
        f"SHAPELAB_DATA/{card.folder}",
        'open_cohort("phantom")',
    ):
        assert part in message
    if where == "unset":
        assert "no environment variable SHAPELAB_DATA" in message


def test_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"")
    with pytest.raises(DataError, match="a.nii.gz: found a file; expected"):
        open_cohort("folder", tmp_path / "a.nii.gz")


def test_phantom_forwards(monkeypatch):
    phantoms = pytest.importorskip("shapelab.phantoms")
    from shapelab.data.scheme import CARDIAC

    cohort = open_cohort("phantom", n=2, seed=3)
    assert cohort.scheme is CARDIAC and len(cohort.patients) == 2
    assert cohort[0].spacing[2] == 10
    direct = phantoms.heart_cohort(n=2, seed=3, resolution="LR", scheme=CARDIAC)
    assert (cohort[0].label == direct[0].label).all()
    with pytest.raises(UsageError, match=r"found the options \['patients'\]"):
        open_cohort("phantom", patients=3)
    with pytest.raises(UsageError, match="found a root"):
        open_cohort("phantom", root=".")


def test_ultrasound_phantom_forwards():
    from shapelab.data.scheme import LV_CAVITY

    cohort = open_cohort("phantom-us", n=1, seed=3, grid=((16, 16, 16), (9.0, 9.0, 9.0)))
    assert cohort.scheme is LV_CAVITY and cohort.ids == ("us000_ED", "us000_ES")
    with pytest.raises(UsageError, match=r"open_cohort\('phantom-us'\): found the options \['resolution'\]"):
        open_cohort("phantom-us", resolution="LR")
    with pytest.raises(UsageError, match="found a root"):
        open_cohort("phantom-us", root=".")
    with pytest.raises(DataError, match="phantom-us"):
        open_cohort("cetus", root="nowhere")
