"""The course laid out in a folder: what the student changed is never lost, and the rest is brought up to date."""

import json

import pytest

from shapelab.course import copies
from shapelab.course.copies import KEPT, MOVED, NEW, SAME, UPDATED, lay_out
from shapelab.errors import ShapelabError, UsageError

NAMES = ("00_a.ipynb", "01_b.ipynb", "02_c.ipynb")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The folder of a course of three notebooks."""
    folder = tmp_path / "course"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f"{name}, first edition")
    (folder / "sanitize.cfg").write_text("no notebook")
    monkeypatch.setattr(copies, "shipped_folder", lambda name: {"notebooks": folder}[name])
    return folder


@pytest.fixture
def mine(tmp_path):
    return tmp_path / "my" / "copies"


def states(done):
    return [state for state, _ in done.values()]


def test_all_notebooks_are_laid_out_and_nothing_else(course, mine):
    done = lay_out(mine)
    assert done == {name: (NEW, mine / name) for name in NAMES}
    assert sorted(p.name for p in mine.iterdir()) == [copies.RECORD, *NAMES]
    assert all((mine / name).read_bytes() == (course / name).read_bytes() for name in NAMES)
    assert states(lay_out(mine)) == [SAME] * 3


def test_what_the_student_changed_is_kept_and_the_rest_brought_up_to_date(course, mine):
    lay_out(mine)
    (mine / NAMES[0]).write_text("my answers")
    (mine / "my_own.ipynb").write_text("mine")
    for name in NAMES[:2]:
        (course / name).write_text(f"{name}, second edition")
    (course / "03_d.ipynb").write_text("a new chapter")
    for _ in range(2):  # the second time as well: what was laid out lately is no change of the student's
        done = lay_out(mine)
        assert (mine / NAMES[0]).read_text() == "my answers" and done[NAMES[0]] == (KEPT, mine / NAMES[0])
        assert (mine / NAMES[1]).read_text() == "01_b.ipynb, second edition"
        assert (mine / "03_d.ipynb").read_text() == "a new chapter" and (mine / "my_own.ipynb").read_text() == "mine"
    assert states(done) == [KEPT, SAME, SAME, SAME]


def test_a_notebook_that_was_updated_says_so(course, mine):
    lay_out(mine)
    (course / NAMES[2]).write_text("third edition")
    assert states(lay_out(mine)) == [SAME, SAME, UPDATED]
    (course / NAMES[2]).write_text("fourth edition")
    assert states(lay_out(mine)) == [SAME, SAME, UPDATED]


def test_force_lays_out_anew_and_keeps_each_of_the_students_versions(course, mine):
    lay_out(mine)
    for n in (1, 2):
        (mine / NAMES[1]).write_text(f"my answers {n}")
        done = lay_out(mine, force=True)
        assert states(done) == [SAME, MOVED, SAME]
        assert done[NAMES[1]][1] == mine / f"01_b.mine-{n}.ipynb"
        assert (mine / NAMES[1]).read_text() == "01_b.ipynb, first edition"
    assert [(mine / f"01_b.mine-{n}.ipynb").read_text() for n in (1, 2)] == ["my answers 1", "my answers 2"]


@pytest.mark.parametrize("record", [None, "{", "[1]", "{}"])
def test_without_a_record_every_other_file_is_the_students(course, mine, record):
    lay_out(mine)
    (mine / NAMES[0]).write_text("an older edition, or my answers: who knows")
    if record is None:
        (mine / copies.RECORD).unlink()
    else:
        (mine / copies.RECORD).write_text(record)
    assert states(lay_out(mine)) == [KEPT, SAME, SAME]
    assert set(json.loads((mine / copies.RECORD).read_text())) == set(NAMES[1:])


def test_the_courses_own_folder_is_refused(course):
    with pytest.raises(UsageError, match="course, the course's own; expected another one"):
        lay_out(course / ".." / "course")


def test_a_folder_that_cannot_be_written_to(course, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ShapelabError, match="file/x: found that it cannot be written to .*; expected a folder for"):
        lay_out(tmp_path / "file" / "x")
