"""Rules of the house, held over the whole tree."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import shapelab

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "shapelab"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 500  # of a module
MAX_FUNCTION = 60  # lines of a function, docstring aside
MAX_PARAMETERS = 8
OF_NO_MODULE = {
    *("benchmarks", "browser", "gpu"),
    *("test_contributing.py", "test_docstrings.py", "test_house.py", "test_installed.py", "test_notebooks.py"),
    "test_readme.py",
}

# A room imports only from rooms above it.
ORDER = [
    ("types", "doors"),
    ("errors",),
    ("files", "places", "profiles", "device"),
    ("tensor_files",),
    ("augment",),
    ("data",),
    ("phantoms",),
    ("metrics",),
    ("training",),
    ("spaces",),
    ("models",),
    ("atlas",),
    ("latent",),
    ("show",),
    ("experiments",),
    ("course",),
    ("commands",),
    ("__main__",),
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
# open_cohort("phantom") is the one door back: opened when asked for, inside a function
DOORS = {("data", "phantoms")}

FORBIDDEN_IMPORTS = {
    "medpy": "GPL",
    "pingouin": "GPL",
    "panoptica": "pins old versions",
    "itkwidgets": "needs an old ipywidgets",
    "lightning": "hides the lesson",
    "pytorch_lightning": "hides the lesson",
    "hydra": "hides the lesson",
    "pickle": "weights and tables are safetensors, JSON and CSV",
    "dill": "as pickle",
    "monai": "an oracle of the tests",
    "playwright": "a tool of the tests",
}


def tracked_files() -> list[Path]:
    """The files that are committed or about to be; all but hidden folders where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        files = (p for p in ROOT.rglob("*") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts))
        return sorted(p for p in files if p.is_file())
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def imports_of(path: Path, names: bool = False) -> list[tuple[str, bool]]:
    """Modules that a file imports, each with whether a function does it; those for type checkers are left out.

    names : also module.name for each name, since that may be a module
    """
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                visit(child, inside)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: imports are absolute"
            # `from shapelab import data` imports shapelab.data
            inner = [f"{node.module}.{a.name}" for a in node.names] if names or node.module == "shapelab" else []
            found.extend((name, inside) for name in [*inner, *([] if node.module == "shapelab" else [node.module])])
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "shapelab" and len(parts) > 1 else None


# ------------------------------------------------------------------------------------------------ importing


def in_python(code: str, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_openmp_is_told_to_wait_quietly_before_torch_is_loaded():
    code = "import shapelab, os, sys; print(*[os.environ.get(n) for n in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')])"
    assert in_python(code) == "0 passive"
    # any room, not only the root: Python runs the root's first lines before every one of them
    code = "import shapelab.device, os; print(os.environ['GOMP_SPINCOUNT'], os.environ['OMP_WAIT_POLICY'])"
    assert in_python(code) == "0 passive"


def test_a_user_who_sets_openmp_is_obeyed():
    assert in_python("import shapelab, os; print(os.environ['GOMP_SPINCOUNT'])", GOMP_SPINCOUNT="7") == "7"


def test_nothing_comes_before_the_openmp_variables():
    body = ast.parse((PACKAGE / "__init__.py").read_text()).body
    kinds = [ast.unparse(node).split("(")[0] for node in body[1:4]]
    assert kinds == ["import os as _os", "_os.environ.setdefault", "_os.environ.setdefault"]


def test_import_loads_nothing_heavy():
    heavy = {"torch", "numpy", "numba", "umap", "pandas", "matplotlib", "sklearn"}
    assert in_python(f"import shapelab, sys; print(sorted({heavy} & set(sys.modules)))") == "[]"


@pytest.mark.parametrize("name", ["open_cohort", "Subject", "Cohort", "LabelScheme", "Grid", "ShapelabError"])
def test_the_names_others_call_are_there(name):
    assert getattr(shapelab, name) is getattr(shapelab, name)
    assert name in dir(shapelab)


def test_rooms_open_when_asked_for():
    assert shapelab.latent.__name__ == "shapelab.latent"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = shapelab.nonsense


# ------------------------------------------------------------------------------------------------ packaging


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert project["version"] == shapelab.__version__ == cited[1].strip('"')


def pins() -> dict[str, str]:
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonical(name): version for name, version in pairs}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_has_a_floor_and_a_pin_above_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins()
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        name, floor = requirement.split(">=")
        assert numbers(pinned[canonical(name)]) >= numbers(floor), requirement


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version))


def test_pins_are_exact_and_belong_to_no_machine():
    text = (ROOT / "constraints.txt").read_text()
    assert pins()["torch"] == "2.13.0"
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []


def test_the_licence_is_whole():
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence


# ------------------------------------------------------------------------------------------------ the code


@every_module
def test_a_room_imports_only_from_rooms_above_it(path):
    parts = path.relative_to(PACKAGE).parts
    room = parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert room in LEVEL, f"a new room: say in {name_of(Path(__file__))} where it stands"
    for module, inside in imports_of(path):
        other = room_of(module)
        if other is None or other == room or other.startswith("__"):
            continue
        assert other in LEVEL, f"{name_of(path)} imports {module}, which is in no room"
        if (room, other) in DOORS:
            assert inside, f"{name_of(path)}: {module} is imported when asked for, inside a function"
            continue
        assert LEVEL[other] < LEVEL[room], f"{name_of(path)} ({room}) imports {module}, which is not above it"


def test_no_circle_inside_a_room():
    """Modules of one room can be put in an order in which each imports only from those before it."""
    of = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in MODULES if p.name != "__init__.py"}
    needs = {name: {m for m, _ in imports_of(path, names=True) if m in of} - {name} for name, path in of.items()}
    while ready := [name for name, others in needs.items() if not others]:
        needs = {name: others - set(ready) for name, others in needs.items() if name not in ready}
    assert needs == {}


@every_module
def test_no_import_of_what_the_design_rules_out(path):
    found = {module.split(".")[0] for module, _ in imports_of(path)}
    assert {name: why for name, why in FORBIDDEN_IMPORTS.items() if name in found} == {}


@every_module
def test_weights_are_not_pickled(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("torch.save", "torch.load", "joblib.dump", "joblib.load"), node.lineno


@every_module
def test_a_module_fits_in_a_head(path):
    n = len(path.read_text(encoding="utf-8").splitlines())
    assert n <= MAX_LINES, f"{name_of(path)} has {n} lines"


@every_module
def test_a_module_and_its_public_names_say_what_they_are(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, f"{name_of(path)} has no docstring"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@every_module
def test_nothing_is_left_undone(path):
    words = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error"]) + r")\b")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"{n}: {line.strip()}" for n, line in enumerate(lines, 1) if words.search(line)] == []


# ------------------------------------------------------------------------------------------------ functions and names


def functions_of(path: Path) -> Iterator[tuple[ast.FunctionDef, bool]]:
    """Functions of a file, each with whether it is a method."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield child, isinstance(node, ast.ClassDef)


def parameters_of(function: ast.FunctionDef, method: bool) -> list[str]:
    """Names of a function's parameters; `self` and `cls` are none."""
    a = function.args
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if x is not None]
    return names[1:] if method and names[:1] in (["self"], ["cls"]) else names


@every_module
def test_what_travels_together_is_one_value(path):
    found = {function.name: parameters_of(function, method) for function, method in functions_of(path)}
    assert {name: names for name, names in found.items() if len(names) > MAX_PARAMETERS} == {}


@every_module
def test_a_function_fits_on_a_screen(path):
    sizes = {}
    for function, _ in functions_of(path):
        first, text = function.body[0], ast.get_docstring(function)
        start = first.end_lineno + 1 if text is not None else function.lineno
        head = first.lineno - function.lineno if text is not None else 0
        sizes[function.name] = function.end_lineno - start + 1 + head
    assert {name: n for name, n in sizes.items() if n > MAX_FUNCTION} == {}, f"at most {MAX_FUNCTION} lines"


@every_module
def test_private_names_stay_in_their_file(path):
    """No `_name` of another file, neither imported nor reached through a module or an object that is not `self`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shapelab"):
            found += [a.name for a in node.names if re.fullmatch(r"_[^_].*", a.name)]
        if isinstance(node, ast.Attribute) and re.fullmatch(r"_[^_].*", node.attr) and isinstance(node.value, ast.Name):
            found += [ast.unparse(node)] if node.value.id not in ("self", "cls") else []
    assert found == []


def test_tests_mirror_the_tree():
    """tests/x/test_y.py is about shapelab/x/y.py, or about the room shapelab/x/y; and each module has such a file."""
    tests = {p.relative_to(ROOT / "tests") for p in (ROOT / "tests").rglob("test_*.py")}
    about = {t: PACKAGE / t.parent / t.stem.removeprefix("test_") for t in tests if t.parts[0] not in OF_NO_MODULE}
    assert sorted(str(t) for t, m in about.items() if not (m.is_dir() or m.with_suffix(".py").is_file())) == []
    modules = [p.relative_to(PACKAGE) for p in MODULES if p.name != "__init__.py"]
    assert [str(m) for m in modules if m.with_name(f"test_{m.name}") not in tests] == []


def test_mistakes_that_the_tests_must_notice_can_still_be_made():
    """Each of benchmarks/mutations.py changes text that stands in its module once (which test notices, it says)."""
    spec = importlib.util.spec_from_file_location("mutations", ROOT / "benchmarks" / "mutations.py")
    mutations = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mutations)
    assert [m for m in mutations.MUTATIONS if (PACKAGE / m[0]).read_text(encoding="utf-8").count(m[1]) != 1] == []
    assert all((ROOT / mutations.tests_of(module)).is_file() for module, _, _ in mutations.MUTATIONS)


# ------------------------------------------------------------------------------------------------ all files


def test_no_file_names_the_host_of_a_package_registry():
    hosts = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "deb" + ".debian.org"]
    hosts += ["conda" + ".anaconda.org", "download." + "pytorch.org", "proxy." + "golang.org", "crates" + ".io"]
    named = []
    for path in tracked_files():
        content = path.read_bytes()
        named += [f"{name_of(path)}: {host}" for host in hosts if host.encode() in content]
    assert named == []


def test_no_data_set_and_nothing_large_is_committed():
    files = tracked_files()
    assert [name_of(p) for p in files if p.name.endswith((".nii", ".nii.gz", ".pkl", ".pt", ".pth"))] == []
    assert [name_of(p) for p in files if p.stat().st_size > 5_000_000] == []
