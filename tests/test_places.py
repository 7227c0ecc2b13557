"""Where things lie, in a checkout and in an installed package; and that numba finds a place for what it compiles."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shapelab import places

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("SHAPELAB_WEIGHTS", "SHAPELAB_CACHE", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def built(tmp_path, monkeypatch):
    """An installed package that ships weights "a", and a cache folder; SHAPELAB_CACHE names it."""
    package = tmp_path / "site" / "shapelab"
    (package / "shipped_files" / "data" / "weights" / "a").mkdir(parents=True)
    (tmp_path / "site" / "pyproject.toml").touch()  # somebody else's, as careless packages leave it there
    monkeypatch.setattr(places, "PACKAGE", package)
    monkeypatch.setenv("SHAPELAB_CACHE", str(tmp_path / "cache"))
    return package


def test_in_a_checkout_all_is_in_its_own_folders():
    assert not places.installed()
    assert places.shipped_folder("notebooks") == ROOT / "notebooks"
    assert places.weights_folders() == [ROOT / "data" / "weights"]
    assert places.weights_of("acnn_ae_quick").is_dir()
    assert places.weights_of("new") == ROOT / "data" / "weights" / "new"


def test_installed_what_ships_is_in_the_package_and_what_is_trained_in_the_cache(built, tmp_path):
    ships, trained = built / "shipped_files" / "data" / "weights", tmp_path / "cache" / "weights"
    assert places.installed() and places.weights_folders() == [ships, trained]
    assert places.shipped_folder("benchmarks/results") == built / "shipped_files" / "benchmarks" / "results"
    assert places.weights_of("b") == trained / "b"  # to be written there
    for name in ("a", "b"):
        (trained / name).mkdir(parents=True)
    assert places.weights_of("b") == trained / "b"
    assert places.weights_of("a") == ships / "a"  # what was trained once does not hide what ships


def test_a_bare_copy_of_the_package_keeps_nothing_beside_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "PACKAGE", tmp_path / "shapelab")
    monkeypatch.setenv("SHAPELAB_CACHE", str(tmp_path / "cache"))
    assert places.installed() and places.weights_of("new") == tmp_path / "cache" / "weights" / "new"


def test_a_named_folder_of_weights_is_the_only_one(built, tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path / "mine"))
    assert places.weights_folders() == [tmp_path / "mine"] and places.weights_of("a") == tmp_path / "mine" / "a"
    monkeypatch.setenv("SHAPELAB_WEIGHTS", "~/mine")
    assert places.weights_folders() == [Path.home() / "mine"]


@pytest.mark.skipif(sys.platform != "linux", reason="the variable is Linux's")
def test_the_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert places.cache_folder() == tmp_path / "shapelab"
    monkeypatch.setenv("SHAPELAB_CACHE", "~/other")
    assert places.cache_folder() == Path.home() / "other"


def test_numba_keeps_what_it_compiles_beside_the_code_of_a_checkout(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    places.choose_numba_cache()
    assert "NUMBA_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("loaded", [False, True])
def test_numba_keeps_it_in_the_users_cache_where_shapelab_is_installed(built, tmp_path, monkeypatch, loaded):
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    if not loaded:
        monkeypatch.delitem(sys.modules, "numba")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")  # taken back afterwards
    places.choose_numba_cache()
    folder = tmp_path / "cache" / "numba"
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder) and folder.is_dir()
    assert numba.config.CACHE_DIR == (str(folder) if loaded else "")


def test_a_user_who_names_numbas_folder_is_obeyed(built, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    places.choose_numba_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == "mine" and not (tmp_path / "cache").exists()


def test_a_package_that_cannot_write_beside_itself_and_no_home(tmp_path, unprivileged):
    """A container, a shared installation: numba compiles into a temporary folder, which goes when the process ends."""
    if unprivileged is None:
        pytest.skip("root may write anywhere, and setpriv cannot take that right away here")
    copy = shutil.copytree(places.PACKAGE, tmp_path / "copy" / "shapelab", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (path for path in [copy, *copy.rglob("*")] if path.is_dir()):
        folder.chmod(0o555)
    (tmp_path / "temporary").mkdir()
    hidden = ("SHAPELAB_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | {
        "HOME": "/proc/none",
        "TMPDIR": str(tmp_path / "temporary"),
        "PYTHONPATH": str(copy.parent),
    }
    code = "import os, shapelab, numba, shapelab.metrics.surface; print(shapelab.__file__, numba.config.CACHE_DIR)"
    done = subprocess.run(
        [*unprivileged, sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    file, cache = done.stdout.split()
    assert Path(file).parent == copy and Path(cache).parent == tmp_path / "temporary"
    assert not any((tmp_path / "temporary").iterdir()) and not any(copy.rglob("*.nbi"))
