"""How large the library is: statements (every `ast.stmt` but docstrings), lines of code and modules, by room.

    python benchmarks/count_code.py            # the working tree
    python benchmarks/count_code.py 7421e51    # ... beside a commit: before and after

Stubs (`.pyi`) count as modules do. A line of code is one that holds code: no blank, no comment, no docstring.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
NOTHING = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)


def docstrings(tree: ast.AST) -> list[ast.Expr]:
    """The docstrings of a module, its classes and functions."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                found.append(first)
    return found


def count(text: str) -> tuple[int, int]:
    """Statements and lines of code of a module's text."""
    tree = ast.parse(text)
    texts = docstrings(tree)
    statements = sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) - len(texts)
    said = {line for node in texts for line in range(node.lineno, node.end_lineno + 1)}
    tokens = (t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in NOTHING)
    code = {line for t in tokens if t.string for line in range(t.start[0], t.end[0] + 1)}
    return statements, len(code - said)


def git(*words: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def modules(commit: str | None) -> Iterator[tuple[str, str]]:
    """(path, text) of each module and stub under shapelab/, of a commit or of the working tree."""
    if commit is None:
        for path in sorted(p for p in (ROOT / "shapelab").rglob("*.py*") if p.suffix in (".py", ".pyi")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        return
    for name in git("ls-tree", "-r", "--name-only", commit, "shapelab").splitlines():
        if name.endswith((".py", ".pyi")):
            yield name, git("show", f"{commit}:{name}")


def by_room(commit: str | None = None) -> dict[str, Counter]:
    """Room -> statements, lines, modules; what lies loose at the top is the room "top"."""
    rooms: dict[str, Counter] = {}
    for name, text in modules(commit):
        parts = PurePosixPath(name).parts
        statements, lines = count(text)
        room = rooms.setdefault(parts[1] if len(parts) > 2 else "top", Counter())
        room.update(statements=statements, lines=lines, modules=1)
    return rooms


def main(commit: str | None = None) -> None:
    """Print the table."""
    now, then = by_room(), by_room(commit) if commit else {}
    columns = ("statements", "lines", "modules")
    print(f"{'room':<14}" + "".join(f"{('before, ' if commit else '') + c:>22}" for c in columns))
    for room in [*sorted({*now, *then}), "all"]:
        cells = []
        for column in columns:
            sizes = [sum(r[column] for r in rooms.values()) if room == "all" else rooms.get(room, Counter())[column]
                     for rooms in (then, now)]  # fmt: skip
            cells.append(f"{sizes[0]:,} -> {sizes[1]:,}" if commit else f"{sizes[1]:,}")
        print(f"{room:<14}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main(*sys.argv[1:2])
