"""``shapelab course``, on the notebooks of this checkout."""

from pathlib import Path

from shapelab.commands.main import main

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def test_it_lists_the_chapters(capsys):
    assert main(["course"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "00 · Start here" and len(lines) == len(NOTEBOOKS) + 1
    assert lines[-1] == "Copies to work on: shapelab course --copy DIR"


def test_it_says_what_became_of_the_copies_and_what_to_do_now(tmp_path, capsys):
    folder, n = tmp_path / "my course", len(NOTEBOOKS)
    assert main(["course", "--copy", str(folder)]) == 0
    first = NOTEBOOKS[0].name
    now = f"Now: jupyter lab '{folder / first}'"
    assert capsys.readouterr().out.splitlines() == [f"{folder}: {n} new", now]
    assert [p.read_bytes() for p in sorted(folder.glob("*.ipynb"))] == [p.read_bytes() for p in NOTEBOOKS]

    (folder / first).write_text("my answers")
    assert main(["course", "--copy", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}: 1 kept as you changed them, {n - 1} as in the course",
        f"Yours stay: {first} (--force lays the course's out again and renames yours)",
        now,
    ]
    assert main(["course", "--copy", str(folder), "--force"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}: 1 laid out anew, {n - 1} as in the course",
        f"{first} is the course's again; yours is 00_start_here.mine-1.ipynb",
        now,
    ]
    assert (folder / "00_start_here.mine-1.ipynb").read_text() == "my answers"


def test_a_file_in_the_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["course", "--copy", str(tmp_path / "file")]) == 1
    assert "cannot be written to" in capsys.readouterr().err
