"""The doctor: each check tells right from wrong and says how to fix it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

from shapelab.commands import doctor
from shapelab.commands import main as cli


@pytest.fixture
def installed(monkeypatch):
    """``installed({"torch": "2.7"})``: pretend that just these distributions are here.

    requires : what shapelab needs; other : package -> what that needs
    """

    def pretend(versions: dict[str, str], requires: list[str] | None = None, **other: list[str]) -> None:
        def version(name: str) -> str:
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        def declared(name: str) -> list[str] | None:
            version(name)
            return requires if name == "shapelab" else other.get(name)

        monkeypatch.setattr(doctor.metadata, "version", version)
        monkeypatch.setattr(doctor.metadata, "requires", declared)

    return pretend


def by_name(checks) -> dict[str, doctor.Check]:
    return {check.what: check for check in checks}


def test_this_environment_is_well():
    checks = doctor.examine(root=None)
    assert [c for c in checks if c.status == doctor.BAD] == []
    names = by_name(checks)
    assert {"Python", "torch", "numpy", "pytest", "OpenMP", "Jupyter kernel", "device", "profile"} <= set(names)


def test_python_too_old(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    check = doctor.check_python()
    assert check.status == doctor.BAD and "3.11 or newer" in check.fix


def test_packages_missing_too_old_and_only_for_tests(installed):
    requires = ["torch>=2.6", "numpy>=2.0", "scipy>=1.14", "rich", 'nbval>=0.11; extra == "test"']
    installed({"shapelab": "0.1.0", "torch": "2.13.0+cpu", "numpy": "1.26.4", "rich": "1"}, requires)
    checks = by_name(doctor.check_packages())
    assert {name: check.status for name, check in checks.items()} == {
        "shapelab": doctor.OK,
        "torch": doctor.OK,
        "numpy": doctor.BAD,
        "scipy": doctor.BAD,
        "rich": doctor.OK,
        "nbval": doctor.NOTE,
    }
    assert checks["numpy"].found == "1.26.4; expected >=2.0"
    assert checks["scipy"].found == "not installed"
    assert checks["numpy"].fix == f"{sys.executable} -m pip install 'numpy>=2.0'"
    assert checks["nbval"].fix == f"{sys.executable} -m pip install 'shapelab[test]' (only for extra == \"test\")"
    assert all(check.fix for check in checks.values() if check.status != doctor.OK)


def test_a_package_beside_one_that_it_breaks_with(installed):
    installed({"nbconvert": "7.16.4", "mistune": "3.1.0", "umap-learn": "0.5.7", "scikit-learn": "1.7.2"})
    (check,) = doctor.check_combinations()
    assert (check.status, check.what) == (doctor.BAD, "nbconvert")
    assert check.found == "7.16.4, with mistune 3.1.0 no page of a notebook can be written"
    assert check.fix == f"{sys.executable} -m pip install 'nbconvert>=7.16.5'"
    installed({"nbconvert": "7.16.5", "mistune": "3.1.0", "umap-learn": "0.5.7", "scikit-learn": "1.8.0"})
    (check,) = doctor.check_combinations()
    assert (check.what, check.fix) == ("umap-learn", f"{sys.executable} -m pip install 'umap-learn>=0.5.8'")
    installed({"nbconvert": "7.16.4", "mistune": "3.0.2", "umap-learn": "0.5.8", "scikit-learn": "1.8.0"})
    assert doctor.check_combinations() == []


def test_floors_keep_bad_pairs_out():
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for old, bad, *_ in doctor.BAD_PAIRS:
        assert f'"{old}{bad.replace("<", ">=")}"' in declared


def test_a_package_that_another_cannot_work_with(installed):
    versions = {"shapelab": "0.1.0", "numba": "0.61.0", "numpy": "2.4.6"}
    needs = ["llvmlite>=0.44", "numpy<2.2,>=1.24", 'ipython; extra == "test"', 'wmi; sys_platform == "never"']
    installed(versions, ["numba>=0.61", "numpy>=2.5"], numba=needs, numpy=None)
    first, second = doctor.check_combinations()  # not shapelab's own numpy>=2.5
    assert (first.status, first.what, first.found) == (doctor.BAD, "numba", "0.61.0 needs llvmlite>=0.44; found none")
    assert second.found == "0.61.0 needs numpy<2.2,>=1.24; found 2.4.6"
    assert first.fix == second.fix == f"{sys.executable} -m pip install --upgrade numba"


def test_needs_are_followed_to_the_end_and_round_circles(installed):
    versions = {"shapelab": "0.1.0", "a": "1", "b": "2rc1", "c": "3"}
    installed(versions, ["a"], a=["b>=2rc1"], b=["a", "c"], c=["b<2", "a<2"])
    (check,) = doctor.check_combinations()
    assert (check.what, check.found) == ("c", "3 needs b<2; found 2rc1")
    installed({})
    assert doctor.check_combinations() == []


def test_versions_are_compared_as_numbers(installed):
    installed({"torch": "2.13.0+cpu", "nbval": "0.9.13"})
    assert doctor.check_package("torch>=2.6").status == doctor.OK
    check = doctor.check_package('nbval>=0.11; extra == "test"')
    assert (check.status, check.found) == (doctor.NOTE, "0.9.13; expected >=0.11")
    assert check.fix == f"{sys.executable} -m pip install 'shapelab[test]' (only for extra == \"test\")"
    check = doctor.check_package("scipy>=1.14")
    assert check.fix == f"{sys.executable} -m pip install 'scipy>=1.14'"


def test_not_installed_at_all(installed):
    installed({})
    (check,) = doctor.check_packages()
    assert check.status == doctor.BAD and f"make setup (or: {sys.executable} -m pip install -e .)" == check.fix


def test_openmp_left_to_spin(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert doctor.check_openmp().status == doctor.OK
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    check = doctor.check_openmp()
    assert (check.status, check.fix) == (doctor.NOTE, "export OMP_WAIT_POLICY=passive")


def test_kernel_of_another_python(monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    def spec(argv):
        return lambda self, name: types.SimpleNamespace(argv=argv)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", spec([sys.executable, "-m", "ipykernel_launcher"]))
    assert doctor.check_kernel().status == doctor.OK

    def none(self, name):
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    check = doctor.check_kernel()
    assert check.status == doctor.BAD
    assert check.fix == f"{sys.executable} -m pip install --force-reinstall ipykernel"


def write_kernel(home: Path, python: str) -> None:
    (home / "kernels" / "python3").mkdir(parents=True)
    text = json.dumps({"argv": [python, "-f", "{connection_file}"], "display_name": "Python 3", "language": "python"})
    (home / "kernels" / "python3" / "kernel.json").write_text(text)


def test_the_way_to_mend_the_kernel_of_another_python_does_so(monkeypatch, tmp_path):
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    assert doctor.check_kernel().status == doctor.OK
    write_kernel(tmp_path / "hub", "/hub/bin/python")
    write_kernel(tmp_path / "my own" / "share" / "jupyter", "python")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "hub"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "my own"))
    check = doctor.check_kernel()
    assert check.status == doctor.NOTE
    assert check.found == f"JupyterLab starts another Python: /hub/bin/python, as {tmp_path}/hub/kernels/python3 says"
    assert check.fix.startswith("export JUPYTER_PATH=")
    path = subprocess.run(["sh", "-c", f"{check.fix} && echo $JUPYTER_PATH"], capture_output=True, text=True).stdout
    assert path == f"{tmp_path}/my own/share/jupyter:{tmp_path}/hub\n"
    monkeypatch.setenv("JUPYTER_PATH", path.strip())
    assert doctor.check_kernel().status == doctor.OK


@pytest.mark.parametrize("there", [False, True])
def test_a_kernel_is_installed_where_this_python_has_none_of_its_own(there, monkeypatch, tmp_path):
    write_kernel(tmp_path / "hub", "/hub/bin/python")
    if there:
        write_kernel(tmp_path / "own" / "share" / "jupyter", "/gone/bin/python")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "hub"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "own"))
    fix = doctor.check_kernel().fix
    assert fix.startswith(f"{sys.executable} -m ipykernel install --sys-prefix && export JUPYTER_PATH={tmp_path}/own/")


def test_no_chromium_is_a_note(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    check = doctor.check_chromium()
    assert check.status == doctor.NOTE and "make browser" in check.fix


def test_a_full_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=5e8))
    check = doctor.check_disk(tmp_path)
    assert (check.status, check.found) == (doctor.BAD, f"0.5 GB at {tmp_path}")


def test_data_folder_not_named_not_there_and_half_full(monkeypatch, tmp_path):
    (unset,) = doctor.check_data(None)
    assert unset.status == doctor.NOTE and "phantoms need none" in unset.fix
    (gone,) = doctor.check_data(tmp_path / "gone")
    assert gone.status == doctor.BAD
    (tmp_path / "acdc").mkdir()
    checks = by_name(doctor.check_data(tmp_path))
    assert checks["data: acdc"].status == doctor.OK
    absent = checks["data: hippocampus"]
    assert absent.status == doctor.NOTE and "shapelab data fetch hippocampus" in absent.fix


def test_a_torch_that_cannot_be_imported():
    def broken():
        raise OSError("libcudart.so.13: cannot open shared object file")

    (check,) = doctor.check_devices(broken)
    assert check.status == doctor.BAD and "libcudart" in check.found
    assert check.fix == f"{sys.executable} -m pip install --force-reinstall torch"


def test_an_unknown_profile(monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "fast")
    check = by_name(doctor.check_devices(lambda: {"machine": "m", "cores": "2"}))["profile"]
    assert check.status == doctor.BAD and "'fast'" in check.found


@pytest.mark.parametrize(("listing", "code", "listed"), [("GPU 0: A", 0, True), ("", 0, False), ("failed", 9, False)])
def test_whether_the_driver_lists_a_gpu(listing, code, listed, monkeypatch):
    answer = subprocess.CompletedProcess([], code, stdout=listing)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: answer)
    assert doctor.driver_lists_gpu() is listed


def test_without_a_driver_there_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.driver_lists_gpu() is False


@pytest.mark.parametrize(
    ("built", "usable", "listed", "status", "said"),
    [
        ("13.0", True, True, None, None),
        (None, False, False, None, None),
        ("13.0", False, False, doctor.OK, "is built for CUDA 13.0 and finds no driver: it runs on the CPU"),
        ("13.0", False, True, doctor.NOTE, "update the GPU's driver"),
        (None, False, True, doctor.NOTE, "-m pip install --force-reinstall torch"),
    ],
)
def test_torch_and_the_gpu(built, usable, listed, status, said, monkeypatch):
    import torch

    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(doctor, "driver_lists_gpu", lambda: listed)
    checks = doctor.check_gpu()
    assert [check.status for check in checks] == ([status] if status else [])
    assert all(said in f"{check.found} {check.fix}" for check in checks)


def test_command_exits_with_1_if_something_needs_fixing(monkeypatch, capsys):
    checks = [doctor.Check(doctor.OK, "Python", "3.11"), doctor.Check(doctor.BAD, "numpy", "gone", "make setup")]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    assert cli.main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "make setup" in captured.out
    assert captured.err == "shapelab: needs fixing: numpy\n"
    monkeypatch.setattr(doctor, "examine", lambda: checks[:1])
    assert cli.main(["doctor"]) == 0


def test_root_comes_from_the_environment(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setenv("SHAPELAB_DATA", os.fspath(tmp_path))
    monkeypatch.setattr(doctor, "check_data", lambda root: seen.append(root) or [])
    doctor.examine()
    doctor.examine(Path("other"))
    assert seen == [tmp_path, Path("other")]
