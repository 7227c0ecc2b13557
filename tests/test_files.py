import pickle

import pytest

from shapelab.errors import DataError
from shapelab.files import atomic_write


def test_a_failing_block_leaves_the_old_file(tmp_path):
    target = tmp_path / "sub" / "table.csv"
    with atomic_write(target) as t:
        t.write_text("old")
        assert t.suffix == ".csv" and t.parent == target.parent
    with pytest.raises(RuntimeError), atomic_write(target) as t:
        t.write_text("half")
        raise RuntimeError("power cut")
    assert target.read_text() == "old" and list(target.parent.iterdir()) == [target]


def test_data_error_says_all_and_crosses_processes():
    error = DataError("scan.nii.gz", "4 axes", "3", "Split it.")
    assert str(error) == "scan.nii.gz: found 4 axes; expected 3. Split it."
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.todo == "Split it."
