"""What shapelab does on a GPU: one script for any machine that has one (torch from 2.6 on, no network).

    python benchmarks/gpu.py --check --speed --train --minutes 5 [-o DIR] [--keep DIR]
    python benchmarks/gpu.py --notebooks [NN ...]
    python benchmarks/gpu.py --dry-run

--check       the tests marked `gpu`
--speed       every recipe's trainer in `full` at its real size: seconds a step against the same network in plain eager
              fp32 and MONAI's of equal size, in turns; how busy the GPU is; which share of its bf16 arithmetic or of
              its memory's speed is used; seconds a volume; what else runs on the device, against the CPU
--train       `full` trainings of the recipes that ship, in turn, for --minutes M; called again it goes on from what it
              kept under --keep: curves, weights, checkpoints. Nothing goes to data/weights
--notebooks   the series in `full`, from nothing: no weights but those that its notebooks leave for each other
--dry-run     all of these with few hearts, few steps and coarse grids (`shapelab.profiles.limits`), on the CPU as well.
              It shows that no line of `full` fails, and measures nothing

Results are gpu_check.csv, gpu_speed.csv, gpu_train.csv and gpu_notebooks.csv in -o (benchmarks/results), written after
each row, so that a machine may be taken away; a newer row replaces the older one of the same thing. What fails has its
error in its row and stops nothing else. Exit code 0: all went well; 1: something failed; 2: there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from checkout import ROOT  # before reporting, which imports shapelab
from reporting import facts_of

import shapelab  # noqa: F401  (first: it sets OpenMP's variables before torch is loaded)

import torch  # isort: skip

from shapelab.files import write_csv
from shapelab.profiles import LIMITS

RESULTS, KEEP = ROOT / "benchmarks" / "results", ROOT / "results" / "gpu"
PHASES = ("check", "speed", "train", "notebooks")  # in this order, the most valuable first
#: With this the tests marked `gpu` run on the CPU (tests/gpu/conftest.py).
ON_CPU = {"SHAPELAB_GPU_TESTS": "cpu"}
#: Few phantoms, whose rows `--speed` repeats; all else is as large as `full` is.
FEW = "hearts=2,training=2,shipped=2,validation=1,test=2,train=2,healthy=20,atlases=2"
#: A dry run: enough for a notebook's cells to have something to show, and no more.
SMALL = (
    "coarser=4,hearts=24,training=24,validation=2,test=4,train=12,healthy=4,PH=3,atlases=6,compared=3,prior_hearts=8,"
    "epochs=20,joint_epochs=2,baseline_epochs=4,prior_epochs=2,slices=48,batch=4,patch=12,seeds=1,n_repeats=1,"
    "permutations=9,repeats=1,pick=30,widths=16,merged=16,shipped=2,more=2,watched=1,steps=4,every=2"
)
#: Of a dry run's --speed: networks as wide as they are, since MONAI's is to have as many parameters.
WHOLE = "batch=2,slices=16,widths=999,merged=999"


class Results:
    """One CSV of results, whole after each row. A new row takes the place of the older one that agrees in `key`; each
    has card, versions and date of its own."""

    def __init__(self, file: Path, key: tuple[str, ...]):
        self.file, self.key, self.failed = file, list(key), 0
        self.facts = {**facts_of(), **machine()}
        self.table = pd.read_csv(file) if file.is_file() else pd.DataFrame()

    def add(self, **row) -> None:
        """Write a row, and show it; one with an `error` counts as failed."""
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items() if v != "" and v == v}
        print(" | ".join(f"{k} {v}" for k, v in shown.items()), flush=True)
        self.failed += bool(row.get("error"))
        self.forget(**{name: row[name] for name in self.key})
        new = pd.DataFrame([{**row, **self.facts}])
        self.table = pd.concat([self.table, new], ignore_index=True) if len(self.table) else new
        write_csv(self.table, self.file)

    def forget(self, **of) -> None:
        """Leave out the older rows that agree in these columns, from the next row on."""
        if len(self.table):
            columns = [self.table[name].astype(str) == str(value) for name, value in of.items()]
            self.table = self.table[~pd.concat(columns, axis=1).all(axis=1)]

    @contextmanager
    def attempt(self, **row) -> Iterator[None]:
        """Context in which an exception becomes the row's error, and is over."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.add(**row, error=f"{type(error).__name__}: {error}".split("\n")[0])


def machine() -> dict[str, object]:
    """Card, driver and commit."""
    facts: dict[str, object] = {"cuda": torch.version.cuda or "", "driver": said("nvidia-smi", *QUERY)}
    if torch.cuda.is_available():
        facts["memory GB"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    changed = "+changes" if said("git", "-C", str(ROOT), "status", "--porcelain", "-uno") else ""
    return {**facts, "commit": said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") + changed}


QUERY = ("--query-gpu=driver_version", "--format=csv,noheader")


def said(*command: str) -> str:
    """The first line that a program prints; "" where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return ""
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else ""


@contextmanager
def variables(**values: str | Path) -> Iterator[None]:
    """Context with environment variables set, here and in the processes that are started."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: str(value) for name, value in values.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


# ------------------------------------------------------------------------------------------------------------- phases


def need_packages(*names: str) -> None:
    """RuntimeError that names those that are not installed here."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(f"this needs {', '.join(missing)}, which is not installed here")


def check(args: argparse.Namespace, out: Results) -> None:
    """Run the tests marked `gpu`; a row a test that did not pass, and one of all."""
    out.table = out.table[:0]  # tests that failed before
    need_packages("pytest", "hypothesis")
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [str(p) for p in tests if p.parent.name == "gpu" or "mark.gpu" in p.read_text(encoding="utf-8")]
    with tempfile.TemporaryDirectory() as folder, out.attempt(test="all"):
        if not files:
            raise RuntimeError("found no test marked gpu")
        report = Path(folder) / "report.xml"
        # only files with such a test are read: others may need packages that are not here
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        started = time.perf_counter()
        with variables(**({} if torch.cuda.is_available() else ON_CPU)):
            done = subprocess.run([*command, *files], cwd=ROOT)
        if not report.is_file():
            raise RuntimeError(f"pytest ended with code {done.returncode} and wrote no report")
        counts = {"passed": 0, "failed": 0, "skipped": 0}
        for case in ElementTree.parse(report).iter("testcase"):
            wrong = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
            outcome = "passed" if wrong is None else "skipped" if wrong.tag == "skipped" else "failed"
            counts[outcome] += 1
            if wrong is not None:
                why = (wrong.get("message") or wrong.tag).split("\n")[0]
                name = f"{case.get('classname')}::{case.get('name')}"
                out.add(test=name, outcome=outcome, **{"why" if outcome == "skipped" else "error": why})
        none = "" if counts["passed"] else "no test passed"
        out.add(test="all", **counts, seconds=time.perf_counter() - started, error=none)


def speed(args: argparse.Namespace, out: Results) -> None:
    from gpu_speed import Measure

    few = FEW if not args.dry_run else f"{SMALL},{FEW},{WHOLE}"
    with tempfile.TemporaryDirectory() as untrained, variables(**{LIMITS: few, "SHAPELAB_WEIGHTS": untrained}):
        Measure(out, Path(untrained), args.dry_run, args.compile).all(args.only)


def train(args: argparse.Namespace, out: Results) -> None:
    from gpu_train import Trainings

    fewer = {LIMITS: f"{SMALL},hearts=4,training=4,train=4,epochs=2"} if args.dry_run else {}
    with variables(SHAPELAB_WEIGHTS=args.keep / "weights", **fewer):
        Trainings(out, args.keep, small=args.dry_run).all(args.only, 60 * args.minutes)


def notebooks(args: argparse.Namespace, out: Results) -> None:
    """Run the series; a row a notebook with its minutes."""
    out.forget(notebook="all")
    with out.attempt(notebook="all"):
        need_packages("nbclient", "nbformat", "nbconvert", "ipykernel")
        from shapelab.course import runner

        paths = runner.select(runner.find_notebooks(ROOT / "notebooks"), args.notebooks)
        if not args.dry_run and (args.keep / "series").exists():
            raise RuntimeError(f"{args.keep / 'series'} is there already; the series starts from nothing: remove it")
        with variables(SHAPELAB_WEIGHTS=args.keep / "series" / "weights"):
            for path in paths:  # one by one, so that each has its row as soon as it is done
                result = runner.run([path], args.keep / "series", timeout=6 * 3600, profile="full").results[0]
                out.add(notebook=path.stem, minutes=result.seconds / 60, error=str(result.failure or ""))


RUNS = {
    "check": (check, ("test",)),
    "speed": (speed, ("kind", "name", "stage")),
    "train": (train, ("recipe",)),
    "notebooks": (notebooks, ("notebook",)),
}


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for phase in PHASES[:3]:
        parser.add_argument(f"--{phase}", action="store_true")
    parser.add_argument("--notebooks", nargs="*", metavar="NN", help="which; none named: all")
    parser.add_argument("--minutes", type=float, default=5.0, help="of --train")
    parser.add_argument("--only", nargs="+", metavar="RECIPE", default=[], help="of --speed and --train: these recipes")
    parser.add_argument("--compile", action="store_true", help="in --speed: torch.compile as well, a minute a network")
    parser.add_argument("--dry-run", action="store_true", help="small, on any machine; alone it runs every phase")
    parser.add_argument("-o", "--output", type=Path, help="folder of the tables; a dry run's: a temporary one")
    parser.add_argument("--keep", type=Path, help="folder of weights, curves and checkpoints; default: results/gpu")
    args = parser.parse_args(given)
    args.phases = [p for p in PHASES if getattr(args, p) not in (False, None)]
    if not args.phases and args.dry_run:
        args.phases, args.notebooks = list(PHASES), []
    if not args.phases:
        parser.error("nothing to do: name some of --check, --speed, --train, --notebooks, or --dry-run")
    if args.dry_run:
        args.output = args.output or Path(tempfile.mkdtemp(prefix="shapelab-gpu-"))
        if args.output.resolve() == RESULTS:
            parser.error("a dry run measures nothing: its tables do not belong into benchmarks/results")
        args.keep = args.keep or args.output / "kept"
    args.output, args.keep = args.output or RESULTS, args.keep or KEEP
    return args


def main(given: list[str] | None = None) -> int:
    args = arguments(given)
    if not torch.cuda.is_available() and not args.dry_run:
        print(
            f"gpu.py: torch {torch.__version__} finds no CUDA GPU here. Run it on a machine with one (a build of torch "
            "with CUDA, and the driver), or rehearse it with --dry-run.",
            file=sys.stderr,
        )
        return 2
    failed = 0
    small = {LIMITS: SMALL} if args.dry_run else {}
    with variables(SHAPELAB_PROFILE="full", **small):
        for phase in args.phases:
            run, key = RUNS[phase]
            out, started = Results(args.output / f"gpu_{phase}.csv", key), time.perf_counter()
            print(f"== {phase}", flush=True)
            with out.attempt(**dict.fromkeys(key, "all")):
                run(args, out)
            failed += out.failed
            print(f"== {phase}: {(time.perf_counter() - started) / 60:.1f} min, {out.failed} failed: {out.file}\n")
    if args.dry_run:
        print("A dry run: it shows that the path runs, and measures nothing.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
