"""benchmarks/gpu.py, rehearsed on the CPU."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shapelab.experiments.recipes import recipes
from shapelab.training import Batches, FitSettings, Run
from shapelab.training.watching import Training

ROOT = Path(__file__).resolve().parents[2]


def gpu(*arguments: str | Path, blocked: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own that sees no GPU; blocked : a folder put before all others on Python's path"""
    own = ("SHAPELAB_PROFILE", "SHAPELAB_WEIGHTS", "SHAPELAB_LIMITS", "SHAPELAB_DATA", "PYTHONPATH")
    clean = {k: v for k, v in os.environ.items() if k not in own}
    clean |= {"CUDA_VISIBLE_DEVICES": ""} | ({"PYTHONPATH": str(blocked)} if blocked else {}) | environment
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=clean, cwd=ROOT)


@pytest.fixture(scope="module", autouse=True)
def committed_results_stay():
    folder = ROOT / "benchmarks" / "results"
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    yield
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_without_a_gpu_it_says_so(tmp_path):
    done = gpu("--check", "-o", tmp_path)
    assert done.returncode == 2 and "finds no CUDA GPU here" in done.stderr and "--dry-run" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_does_not_write_where_results_are_committed():
    done = gpu("--dry-run", "--speed", "-o", ROOT / "benchmarks" / "results")
    assert done.returncode == 2 and "a dry run measures nothing" in done.stderr


NOT_NEEDED = "plotly anywidget ipywidgets jupyterlab IPython nbclient nbconvert nbformat umap trimesh monai SimpleITK"


@pytest.mark.slow  # its parts take about a minute in all
def test_every_phase_runs_where_packages_of_notebooks_are_missing(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in NOT_NEEDED.split():
        (blocked / f"{name}.py").write_text("raise ModuleNotFoundError(f'No module named {__name__!r}', name=__name__)")
    done = gpu("--dry-run", "--speed", "--only", "autoencoder", "3d-seg", "-o", tmp_path, blocked=blocked)
    assert done.returncode == 0, done.stdout + done.stderr
    done = gpu("--dry-run", "--train", "--only", "autoencoder", "-o", tmp_path, blocked=blocked)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow  # two minutes
def test_a_dry_run_goes_through_every_phase(tmp_path):
    asked = ("--check", "--speed", "--train", "--minutes", "60", "--notebooks", "01")
    # the tests of tests/gpu are run anyway, on a pretended GPU: a few of them will do
    done = gpu("--dry-run", *asked, "-o", tmp_path, PYTEST_ADDOPTS="-k test_training")
    assert done.returncode == 0, done.stdout + done.stderr
    tables = {p: pd.read_csv(tmp_path / f"gpu_{p}.csv") for p in ("check", "speed", "train", "notebooks")}
    for table in tables.values():
        assert {"machine", "torch", "driver", "commit", "date"} <= set(table)
        assert "error" not in table or not table["error"].notna().any()
    steps = tables["speed"].query("kind == 'step'")
    assert set(steps["name"]) == set(recipes())  # a later system is there by its recipe alone
    real = steps["note"].fillna("").str.startswith("needs real scans")
    assert set(steps[real]["name"]) == {name for name, r in recipes().items() if r.real}
    assert steps[~real].query("name == 'tl'")["stage"].tolist() == [1, 2]  # its autoencoder was measured before
    numbers = ["seconds", "plain seconds", "plain / ours", "TFLOP/s", "GB/s", "share of peak"]
    assert np.isfinite(steps[~real][numbers].to_numpy(float)).all()
    assert (steps["MONAI seconds"].notna() == steps["network"].isin(["SubPixelNet", "UNet3D"])).all()
    trained = tables["train"].set_index("recipe")
    assert set(trained.index) == {name for name, r in recipes().items() if r.ships}
    assert (trained["state"] == "done").all() and trained["loss"].notna().all()
    for name in trained.index:
        assert (tmp_path / "kept" / "weights" / trained.loc[name, "weights"]).is_dir()
        assert list((tmp_path / "kept" / "curves" / name).glob("training*.csv"))
    assert tables["notebooks"]["notebook"].tolist() == ["01_hearts_and_labels"]


@pytest.mark.slow
def test_a_training_that_is_cut_short_goes_on_and_one_that_is_done_is_left_alone(tmp_path):
    asked = ("--dry-run", "--train", "--only", "autoencoder", "-o", tmp_path)
    assert gpu(*asked, "--minutes", "0.0001").returncode == 0
    (first,) = pd.read_csv(tmp_path / "gpu_train.csv").to_dict("records")
    assert first["state"].startswith("under way") and first["epochs"] == 0
    assert not (tmp_path / "kept" / "weights").exists()
    assert gpu(*asked, "--minutes", "60").returncode == 0
    (second,) = pd.read_csv(tmp_path / "gpu_train.csv").to_dict("records")  # in place of the first
    assert second["state"] == "done" and second["epochs"] == 2
    done = gpu(*asked)
    assert "autoencoder: trained before" in done.stdout and done.returncode == 0


def test_a_failure_is_a_row_and_the_exit_code_and_stops_nothing(tmp_path):
    done = gpu("--dry-run", "--notebooks", "99", "--train", "--only", "none", "-o", tmp_path)
    assert done.returncode == 1
    (row,) = pd.read_csv(tmp_path / "gpu_notebooks.csv").to_dict("records")
    assert "no notebook 99" in row["error"]


# ------------------------------------------------------------------------------------------------ what it measures with


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "path", list(sys.path))  # which the script changes, as it does PYTHONPATH
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    return importlib.import_module


@pytest.fixture
def speed(script):
    return script("gpu_speed")


def test_a_newer_row_replaces_that_of_the_same_thing_and_the_file_is_whole_after_each(script, tmp_path):
    file = tmp_path / "results.csv"
    for seconds in (1.0, 2.0):  # two runs of the script
        out = script("gpu").Results(file, ("name", "stage"))
        out.add(name="a", stage=1, seconds=seconds)
        out.add(name="a", stage=2, seconds=10 * seconds)
        with out.attempt(name="b", stage=0):
            raise ValueError("no room\nmore words")
        assert out.failed == 1
        table = pd.read_csv(file)
        assert table[["name", "stage"]].to_numpy().tolist() == [["a", 1], ["a", 2], ["b", 0]]
        assert table["seconds"].tolist()[:2] == [seconds, 10 * seconds]
        assert table["error"].tolist()[2] == "ValueError: no room"
    out.forget(name="a")
    out.add(name="c", stage=0)
    assert pd.read_csv(file)["name"].tolist() == ["b", "c"]


@pytest.mark.parametrize("numbers", [False, True])
def test_few_rows_are_repeated_to_steps_of_the_real_batch(speed, numbers):
    few = Batches(np.arange(3) + (0 if numbers else 10), batch_size=4)
    training = Training(None, None, few.rows if numbers else few, 9, FitSettings(), None, None, Run())
    epoch = list(speed.first_epoch(speed.repeated(training, 5)))
    assert speed.batches_of(training) is few and [len(batch) for batch in epoch] == [4] * 5
    assert {int(v) for batch in epoch for v in batch} == ({0, 1, 2} if numbers else {10, 11, 12})


def test_bytes_are_those_that_operators_read_and_write(speed):
    a, b = torch.zeros(10, 10), torch.zeros(10, 10)
    with speed.Traffic() as traffic:
        (a + b).view(100).narrow(0, 0, 50)  # views move nothing
    assert traffic.bytes == 3 * 100 * 4
    with speed.Traffic() as traffic:
        a @ b
    assert traffic.bytes == 3 * 100 * 4


def test_plain_is_contiguous_and_leaves_the_weights_as_they_were(speed):
    network = torch.nn.Conv3d(4, 6, 3).to(memory_format=torch.channels_last_3d)
    before, place = network.weight.detach().clone(), network.weight.data_ptr()
    with speed.plain_torch(network):
        assert network.weight.is_contiguous() and torch.equal(network.weight, before)
        assert torch.zeros(1, 2, 3, 4, 5).contiguous(memory_format=torch.channels_last_3d).is_contiguous()
        assert not torch.backends.cudnn.allow_tf32
        network.weight.data += 1
    assert network.weight.data_ptr() == place and torch.equal(network.weight, before)
    assert torch.backends.cudnn.allow_tf32
    assert network.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not torch.zeros(1, 2, 3, 4, 5).contiguous(memory_format=torch.channels_last_3d).is_contiguous()
