"""The catalogue, where data is looked for, and what is said when it is not there."""

import runpy
import sys
from pathlib import Path

import pytest

import shapelab
from shapelab.data import cards, catalogue, check_folder, open_cohort, readers
from shapelab.data.cards import Card, data_sets, register
from shapelab.data.checking import detect
from shapelab.data.scheme import CARDIAC, LV_CAVITY
from shapelab.errors import DataError, UsageError

CARDS = Path(shapelab.__file__).parents[1] / "data"


def test_names():
    assert list(catalogue()) == [
        "acdc",
        "cetus",
        "hippocampus",
        "lpba40",
        "mmwhs",
        "decathlon",
        "folder",
        "phantom",
        "phantom-us",
        "phantom-wh",
    ]
    assert all(card.name == name for name, card in catalogue().items())
    assert {name for name, card in catalogue().items() if card.fetchable} == {"hippocampus"}


@pytest.mark.skipif(not CARDS.is_dir(), reason="the dataset cards are in the source tree only")
def test_the_written_cards_agree_with_the_catalogue():
    written, known = sorted(file.stem for file in CARDS.glob("*.md")), catalogue()
    assert set(written) >= {name for name, card in known.items() if card.folder}
    readme = (CARDS.parent / "README.md").read_text()
    for name in written:
        text, card = " ".join((CARDS / f"{name}.md").read_text().split()), known[name]
        assert f'open_cohort("{name}"' in text
        for part in (card.home, card.folder, *card.citation.split("; ")):
            assert part in text
        if card.home:
            assert f"Licence | {card.licence} |" in text
    for name, card in known.items():
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}` |"))
        assert card.folder in row and card.licence.partition(" (")[0] in row


def test_data_sets_of_a_scheme():
    assert data_sets(CARDIAC) == ("acdc", "folder", "phantom") and data_sets(LV_CAVITY)[0] == "cetus"


def test_unknown_name_and_option(tmp_path, make_acdc):
    wanted = "found 'adcd'; expected one of acdc, cetus, hippocampus, lpba40, mmwhs, decathlon, "
    with pytest.raises(UsageError, match=wanted):
        open_cohort("adcd")
    root = make_acdc(tmp_path, n=1)
    with pytest.raises(UsageError, match=r"found the options \['scheme'\]; expected some of \['subset'\]"):
        open_cohort("acdc", root, scheme=None)
    with pytest.raises(UsageError, match="found 'warn'; expected one of raise, skip"):
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


TOY = '''
"""A data set in one file: nothing else knows of it."""

from shapelab.data.cards import Card, register
from shapelab.data.facts import PHASES
from shapelab.data.reading import Scan, patient_folders
from shapelab.data.scheme import CARDIAC


def recognise(root):
    return bool(patient_folders(root, (), r"toy\\d+"))


def scan(root):
    found = Scan("toy", root, CARDIAC)
    for _, folder in patient_folders(root, (), r"toy\\d+"):
        for phase in PHASES:
            facts = {"patient": folder.name, "phase": phase}
            found.find(f"{folder.name}_{phase}", folder, [f"{phase}_image"], [f"{phase}_label"], facts)
    return found


register(
    Card(
        "toy", "toy hearts", licence="CC0", layout="toyNN/ED_image.nii.gz and ED_label.nii.gz",
        folder="Toy", scheme=CARDIAC,
        recognise=recognise, scan=scan,
    )
)
'''


def make_toy(root, write_nifti, heart):
    for phase in ("ED", "ES"):
        for n in (1, 2, 10):
            write_nifti(root / f"toy{n}" / f"{phase}_label.nii.gz", heart())
            write_nifti(root / f"toy{n}" / f"{phase}_image.nii", heart().astype("int16"))
    return root


@pytest.fixture
def forgotten(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(cards, "REGISTERED", dict(catalogue() and cards.REGISTERED))


def use_toy(root):
    """Everything that reads data sets knows the toy."""
    from shapelab.commands.main import main

    assert "toy" in catalogue() and list(catalogue()).index("toy") < list(catalogue()).index("folder")
    cohort = open_cohort("toy", root.parent)
    assert cohort.ids == tuple(f"toy{n}_{phase}" for n in (1, 2, 10) for phase in ("ED", "ES"))
    assert cohort[0].label.max() == 3 and cohort[0].image.shape == cohort[0].label.shape
    assert "toy" in data_sets(CARDIAC)
    assert detect(root.parent) == [("toy", root)] and check_folder(root).empty
    assert main(["data", "check", str(root)]) == 0
    (root / "toy2" / "ES_label.nii.gz").unlink()
    table = check_folder(root)
    assert table.found.tolist() == [
        "no such file (here: ED_label.nii.gz, ES_image.nii)"
    ] and table.expected.tolist() == ["the label map of 'toy2_ES'"]


def test_a_file_in_the_readers_folder_is_found(tmp_path, monkeypatch, forgotten, write_nifti, tiny_heart):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "toy.py").write_text(TOY)
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path / "elsewhere")])
    try:
        use_toy(make_toy(tmp_path / "sets" / "Toy", write_nifti, tiny_heart))
    finally:
        sys.modules.pop("shapelab.data.readers.toy", None)


def test_a_reader_from_elsewhere_registers_by_being_imported(tmp_path, forgotten, write_nifti, tiny_heart):
    (tmp_path / "my_toy.py").write_text(TOY)
    runpy.run_path(str(tmp_path / "my_toy.py"), run_name="my_toy")
    use_toy(make_toy(tmp_path / "sets" / "Toy", write_nifti, tiny_heart))


def test_what_cannot_be_registered(forgotten):
    with pytest.raises(UsageError, match="with neither or both; expected scan and recognise, or make"):
        register(Card("new", "t", "l", "a"))
    with pytest.raises(UsageError, match="with neither or both"):
        register(Card("new", "t", "l", "a", recognise=bool, scan=len, make=list))
    with pytest.raises(UsageError, match="found the name 'acdc' again"):
        register(Card("acdc", "t", "l", "a", make=make_toy))
