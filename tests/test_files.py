import json
import pickle
import subprocess
import sys
import threading
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from shapelab.errors import DataError, UsageError
from shapelab.files import atomic_write, cached, only_one, read_csv, write_csv, write_json


def test_a_failing_block_leaves_the_old_file(tmp_path):
    target = tmp_path / "sub" / "table.csv"
    with atomic_write(target) as t:
        t.write_text("old")
        assert t.suffix == ".csv" and t.parent == target.parent
    with pytest.raises(RuntimeError), atomic_write(target) as t:
        t.write_text("half")
        raise RuntimeError("power cut")
    assert target.read_text() == "old" and list(target.parent.iterdir()) == [target]


def test_a_table_has_no_index_and_five_digits(tmp_path):
    write_csv(pd.DataFrame({"a": [1 / 3, 1e-7], "b": [2, 3]}, index=[7, 8]), tmp_path / "new" / "t.csv")
    assert (tmp_path / "new" / "t.csv").read_text() == "a,b\n0.33333,2\n1e-07,3\n"


def test_numbers_come_back_to_the_last_digit(tmp_path):
    table = pd.DataFrame({"x": np.random.default_rng(0).normal(size=1000), "name": "a, b"})
    table.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "t.csv"), table, check_exact=True)
    assert read_csv(StringIO("x\n0.1234567890123456789\n"), index_col="x").index[0] == 0.1234567890123456789


def test_data_error_says_all_and_crosses_processes():
    error = DataError("scan.nii.gz", "4 axes", "3", "Split it.")
    assert str(error) == "scan.nii.gz: found 4 axes; expected 3. Split it."
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.todo == "Split it."


def test_json_is_written_whole(tmp_path):
    write_json({"a": [1, 2.5]}, tmp_path / "t.json")
    assert (tmp_path / "t.json").read_text() == '{\n "a": [\n  1,\n  2.5\n ]\n}\n'
    with pytest.raises(TypeError):
        write_json({"a": object()}, tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == {"a": [1, 2.5]}


def test_a_folder_is_one_process_alone_until_it_ends_or_is_killed(tmp_path):
    code = (
        "import os, sys, signal\nfrom shapelab.files import only_one\n"
        "with only_one('output', sys.argv[1]):\n    print('in', flush=True)\n    sys.stdin.readline()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    folder = tmp_path / "out"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], **pipes) as other:
        assert other.stdout.readline() == "in\n"
        with (
            pytest.raises(UsageError, match=f"output: found a run that is under way in {folder}"),
            only_one("output", folder),
        ):
            pass
        other.communicate("die\n")
    with only_one("output", folder):
        assert folder.is_dir()
    assert list(folder.iterdir()) == []  # it was there before
    with only_one("output", tmp_path / "new" / "er"):
        pass
    assert not (tmp_path / "new" / "er").exists()


def test_another_process_is_waited_for_where_that_is_asked(tmp_path):
    ended = []

    def other():
        with only_one("output", tmp_path):
            inside.set()
            go_on.wait(10)
            ended.append("other")

    inside, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    threading.Timer(0.1, go_on.set).start()
    with only_one("output", tmp_path, wait=True):
        assert ended == ["other"]
    thread.join()


def test_what_is_kept_under_its_key_is_not_made_again(tmp_path):
    calls = []

    def make(value):
        calls.append(value)
        return {"a": np.array([value])}, pd.DataFrame({"x": [value]}, index=["p"])

    file = tmp_path / "c.npz"
    for key, value, wanted in (("k", 1, 1), ("k", 2, 1), ("other", 3, 3), ("other", 4, 3)):
        arrays, table = cached(file, key, lambda value=value: make(value))
        assert arrays["a"].tolist() == [wanted] and table.loc["p", "x"] == wanted
    assert calls == [1, 3]
    for _ in range(2):
        cached(None, "k", lambda: make(5))
    assert calls == [1, 3, 5, 5]
