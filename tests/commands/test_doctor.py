"""The doctor: each check tells right from wrong and says how to fix it."""

from __future__ import annotations

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
    """``installed({"torch": "2.7"})``: pretend that just these distributions are here."""

    def pretend(versions: dict[str, str], requires: list[str] | None = None) -> None:
        def version(name: str) -> str:
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        def declared(name: str) -> list[str] | None:
            version(name)
            return requires

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
    assert check.status == doctor.BAD and "3.11 or newer" in check.mend


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
    assert all(check.mend for check in checks.values() if check.status != doctor.OK)


def test_versions_are_compared_as_numbers(installed):
    installed({"torch": "2.13.0+cpu", "nbval": "0.9.13"})
    assert doctor.check_package("torch>=2.6").status == doctor.OK
    check = doctor.check_package('nbval>=0.11; extra == "test"')
    assert (check.status, check.found) == (doctor.NOTE, "0.9.13; expected >=0.11")
    assert check.mend == 'pip install "shapelab[test]" (only for extra == "test")'
    check = doctor.check_package("scipy>=1.14")
    assert check.mend == 'make setup (without a checkout: pip install "scipy>=1.14")'


def test_not_installed_at_all(installed):
    installed({})
    (check,) = doctor.check_packages()
    assert check.status == doctor.BAD and "make setup" in check.mend


def test_openmp_left_to_spin(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert doctor.check_openmp().status == doctor.OK
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    check = doctor.check_openmp()
    assert (check.status, check.mend) == (doctor.NOTE, "export OMP_WAIT_POLICY=passive")


def test_kernel_of_another_python(monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    def spec(argv):
        return lambda self, name: types.SimpleNamespace(argv=argv)

    assert doctor.check_kernel().status == doctor.OK
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", spec([sys.executable, "-m", "ipykernel_launcher"]))
    assert doctor.check_kernel().status == doctor.OK
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", spec(["/elsewhere/bin/python3"]))
    assert doctor.check_kernel().status == doctor.NOTE

    def none(self, name):
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    assert doctor.check_kernel().status == doctor.BAD


def test_no_chromium_is_a_note(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    check = doctor.check_chromium()
    assert check.status == doctor.NOTE and "make browser" in check.mend


def test_a_full_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=5e8))
    check = doctor.check_disk(tmp_path)
    assert (check.status, check.found) == (doctor.BAD, f"0.5 GB at {tmp_path}")


def test_data_folder_not_named_not_there_and_half_full(monkeypatch, tmp_path):
    (unset,) = doctor.check_data(None)
    assert unset.status == doctor.NOTE and "phantoms need none" in unset.mend
    (gone,) = doctor.check_data(tmp_path / "gone")
    assert gone.status == doctor.BAD
    (tmp_path / "acdc").mkdir()
    checks = by_name(doctor.check_data(tmp_path))
    assert checks["data: acdc"].status == doctor.OK
    absent = checks["data: hippocampus"]
    assert absent.status == doctor.NOTE and "shapelab data fetch hippocampus" in absent.mend


def test_a_torch_that_cannot_be_imported():
    def broken():
        raise OSError("libcudart.so.13: cannot open shared object file")

    (check,) = doctor.check_devices(broken)
    assert check.status == doctor.BAD and "libcudart" in check.found


def test_an_unknown_profile(monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "fast")
    check = by_name(doctor.check_devices(lambda: {"machine": "m", "cores": "2"}))["profile"]
    assert check.status == doctor.BAD and "'fast'" in check.found


@pytest.mark.parametrize(
    ("listing", "code", "unused"), [("GPU 0: H200", 0, True), ("", 0, False), ("failed", 9, False)]
)
def test_a_gpu_that_torch_does_not_use(listing, code, unused, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/" + name)
    answer = subprocess.CompletedProcess([], code, stdout=listing)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: answer)
    assert doctor.has_unused_gpu() is unused


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
