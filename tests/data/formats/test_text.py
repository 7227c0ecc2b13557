"""Text that people write: read as it is meant, and told apart where it is wrong."""

import pytest

from shapelab.data.formats.text import read_json, read_rows, read_table, read_text
from shapelab.errors import DataError


@pytest.fixture
def write(tmp_path):
    def make(content):
        file = tmp_path / "a.txt"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return make


def found(call, file, *more):
    with pytest.raises(DataError) as caught:
        call(file, *more)
    assert caught.value.file == str(file) and caught.value.expected
    return caught.value.found


def test_text(write, tmp_path):
    assert read_text(write("\ufeffa\u00e4\r\nb"), "words") == "a\u00e4\nb"
    assert found(read_text, tmp_path / "none", "words") == "no such file"
    assert found(read_text, write(b"\xff\xfe"), "words").startswith("a file that cannot be read as text ('utf-8'")
    assert found(read_text, tmp_path, "words").startswith("a file that cannot be read as text")


def test_json(write):
    assert read_json(write('{"a": [1, 2]}'), "x") == {"a": [1, 2]}
    assert found(read_json, write("{"), "x").startswith("no valid JSON")
    assert found(read_json, write("[" * 100_000), "x").startswith("no valid JSON")
    assert found(read_json, write("[1]"), "x") == "a JSON list"


def test_rows(write):
    header, rows = read_rows(write('a , b\n\n1," x, y "\n ,\n"2\n3",z\n'), ["b"])
    assert header == ["a", "b"] and rows == [(3, ["1", "x, y"]), (6, ["2\n3", "z"])]
    assert found(read_rows, write("\n \n")) == "an empty file"
    assert found(read_rows, write("a,b\n"), ["c"]) == "in line 1 the columns 'a', 'b'; c missing or twice"
    assert found(read_rows, write("a,b,a\n")) == "in line 1 the columns 'a', 'b', 'a'; a missing or twice"
    assert found(read_rows, write("a,b\n\n1\n")) == "in line 3 1 cells"
    assert found(read_rows, write('a\n"1\n')).startswith("text that cannot be read")


def test_table(write):
    table = read_table(write("age, id,patient,note,score\n40,01,007,None,1.5\nNA,02,007,,2\n"))
    assert table.index.tolist() == ["01", "02"] and table.patient.tolist() == ["007", "007"]
    assert table.age.iloc[0] == 40 and table.age.isna().tolist() == [False, True]
    assert table.note.iloc[0] == "None" and table.note.isna().iloc[1] and table.score.tolist() == [1.5, 2.0]
    assert read_table(write("subject,x\na,1\n")).index.tolist() == ["a"]
    assert read_table(write("a,x\nb,1\n"), index=("a",)).x.tolist() == [1]
    assert found(read_table, write("name,x\na,1\n")) == "the columns 'name', 'x'"
    assert found(read_table, write("id,x\na,1\nNA,2\n")) == "no id in line 3"
