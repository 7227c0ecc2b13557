"""What an execution of notebooks ended in, in words."""

from pathlib import Path

from shapelab.course.results import Failure, Report, Result


def test_what_is_said_of_a_failure_names_the_cell_if_there_is_one():
    assert str(Failure(3, "ValueError: no")) == "cell 3: ValueError: no"
    assert str(Failure(0, "no notebook")) == "no notebook"  # before the first cell
    assert str(Result(Path("a/00_x.ipynb"), 1.0)) == "00_x.ipynb, passed"
    assert str(Result(Path("a/00_x.ipynb"), 1.0, Failure(3, "no"))) == "00_x.ipynb, cell 3: no"


def test_a_run_has_passed_if_each_notebook_has():
    well, ill = Result(Path("a"), 1.0), Result(Path("b"), 1.0, Failure(1, "no"))
    assert Report((well, well)).passed and not Report((well, ill)).passed
