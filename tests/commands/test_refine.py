"""`shapelab refine`: arguments are handed on, and what the library refuses is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shapelab.commands import main as cli


def test_refine_prints_the_indices_and_says_what_it_does(monkeypatch, capsys):
    from shapelab.commands.files.refine import Refining

    calls = []

    def refine_file(*names, progress, **arguments):
        calls.append((names, arguments))
        progress("drawing")
        return {"after": {"volumes_ml": {"LV cavity": 120.5}}}

    monkeypatch.setattr("shapelab.commands.files.refine.refine_file", refine_file)
    nothing = {"image": None, "landmarks": None, "atlases": None, "how": Refining(), "force": False}
    assert cli.main(["refine", "a.nii.gz", "-o", "out.nii.gz"]) == 0
    assert calls.pop() == ((Path("a.nii.gz"), Path("out.nii.gz")), nothing)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"after": {"volumes_ml": {"LV cavity": 120.5}}} and err == "shapelab refine: drawing\n"
    options = ["--image", "i.nii", "--landmarks", "l.csv", "--atlases", "hearts", "--scheme", "cardiac", "--force"]
    options += ["--mapping", "500=3,205=2,600=1,420=0", "--n-atlases", "3", "--spacing", "1", "1", "1.5", "--seed", "4"]
    options += ["--align"]
    assert cli.main(["refine", "a.nii.gz", "-o", "out.nii.gz", *options]) == 0
    assert calls[0][1] == {
        "image": Path("i.nii"),
        "landmarks": Path("l.csv"),
        "atlases": Path("hearts"),
        "how": Refining(
            scheme="cardiac",
            mapping={500: 3, 205: 2, 600: 1, 420: 0},
            n_atlases=3,
            fusion="majority",
            align=True,
            out_spacing=(1.0, 1.0, 1.5),
            seed=4,
        ),
        "force": True,
    }


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--scheme", "brain"], "scheme: found 'brain'; expected one of cardiac, biventricular"),
        (["--fusion", "minority"], "fusion: found 'minority'; expected one of majority, non-local. Did you mean"),
        (["--seed", "-1"], "seed: found -1; expected a whole number from 0"),
        (["--spacing", "1", "1", "30"], "out_spacing: found 30.0; expected a number from 0.5 to 20"),
    ],
)
def test_refine_names_what_the_library_refuses(option, message, capsys):
    assert cli.main(["refine", "label.nii.gz", "-o", "x.nii", *option]) == 2
    assert capsys.readouterr().err.startswith(f"shapelab: {message}")


def test_schemes_fusions_and_landmarks_that_the_help_names_are_those_of_the_library():
    from shapelab.atlas.pipeline import FUSIONS
    from shapelab.commands.files.refine import SCHEMES
    from shapelab.data.landmarks import HEART_LANDMARKS

    done = subprocess.run(
        [sys.executable, "-m", "shapelab", "refine", "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "1000"},
        check=True,
    )
    words = " ".join(done.stdout.split())
    assert [name for name in (*HEART_LANDMARKS, *SCHEMES, *FUSIONS) if name not in words] == []


@pytest.mark.slow
def test_a_stack_drawn_on_every_second_slice_from_end_to_end(tmp_path, write_nifti, capsys):
    """What a user sees: the heart's size, a line on standard error, slices in JSON, a row of the doctor."""
    import numpy as np

    from shapelab.data.scheme import CARDIAC
    from shapelab.phantoms import heart_cohort

    label = heart_cohort(1, 4, resolution=(1.5, 1.5, 8), scheme=CARDIAC, phases=["ED"])[0].label
    used = np.flatnonzero(label.any((0, 1)))
    sparse = label.copy()
    sparse[:, :, used[1::2]] = 0
    missing = [int(k) for k in used[1::2] if k < np.flatnonzero(sparse.any((0, 1)))[-1]]
    file = write_nifti(tmp_path / "data" / "sparse.nii.gz", sparse, spacing=(1.5, 1.5, 8))
    assert cli.main(["refine", str(file), "-o", str(tmp_path / "o.nii.gz")]) == 0
    out, err = capsys.readouterr()
    found, listed = json.loads(out), ", ".join(map(str, missing))
    warned = [line for line in err.splitlines() if "warning" in line]
    assert len(warned) == 1 and warned[0].startswith("shapelab: warning: sparse.nii.gz: found empty slices")
    assert found["slices_not_annotated"] == missing and f"found empty slices {listed} " in found["warnings"][0]
    for value, name in zip(CARDIAC.values, CARDIAC.names):
        ml = (label == value).sum() * 18e-3
        assert abs(found["after"]["volumes_ml"][name] / ml - 1) < 0.25 and found["dice_on_slices"][name] > 0.9
    assert cli.main(["data", "check", str(tmp_path / "data")]) == 1
    assert f"empty slices {listed} (counted from 0) between drawn ones" in capsys.readouterr().out
