"""Execute the notebook series: ``shapelab notebooks``, which is what ``make run`` calls.

Each notebook runs in a kernel of its own, top to bottom. One that fails does not stop the others; its executed copy
and page are written up to the cell that failed. Every file is written whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shapelab.course import notebooks as tools
from shapelab.course.results import Failure, Report, Result
from shapelab.errors import ShapelabError, UsageError
from shapelab.profiles import current_profile

if TYPE_CHECKING:
    from nbformat import NotebookNode

KERNEL_START_SECONDS = 180  # a cold disk and two cores: the first import of torch alone may take half a minute


# ---------------------------------------------------------------------------------------------- which notebooks


def notebook_folder(folder: Path | None = None) -> Path:
    """`folder`, else ``notebooks`` in the working folder, else the one beside the package (a checkout).

    Raises ShapelabError where there is none.
    """
    candidates = [folder] if folder else [Path("notebooks"), Path(__file__).resolve().parents[2] / "notebooks"]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise ShapelabError(f"{candidates[0]}: no such folder; run this at the root of a checkout, or give --folder DIR")


def find_notebooks(folder: Path) -> list[Path]:
    """The numbered notebooks of a folder, in order; raises ShapelabError if there are none."""
    paths = sorted(path for path in Path(folder).glob("*.ipynb") if tools.number_of(path))
    if not paths:
        raise ShapelabError(f"{folder}: found no notebooks; expected files named NN_name.ipynb")
    return paths


def select(paths: Sequence[Path], numbers: Sequence[str]) -> list[Path]:
    """Those of `paths` that `numbers` name ("3", "03" or "03_shape_autoencoder"), in order; all if it is empty.

    Raises UsageError, naming what there is, if one is unknown.
    """
    wanted = {Path(n).stem if tools.number_of(Path(n)) else n.zfill(2): n for n in numbers}
    unknown = [n for key, n in wanted.items() if not any(key in (p.stem, tools.number_of(p)) for p in paths)]
    if unknown:
        there = ", ".join(path.stem for path in paths)
        raise UsageError(f"there is no notebook {', '.join(unknown)}; there are: {there}")
    return [p for p in paths if not wanted or p.stem in wanted or tools.number_of(p) in wanted]


# ---------------------------------------------------------------------------------------------- one notebook


def code_cells(notebook: NotebookNode) -> list[int]:
    """Positions of the cells that a kernel executes; the n-th of them is ``In [n]``."""
    return [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]


@dataclass
class Execution:
    """One notebook on its way through a kernel; `execute` in a thread of its own, `cancel` from any other."""

    path: Path
    timeout: float
    environment: Mapping[str, str]
    on_cell: Callable[[int, int], None] = lambda done, total: None
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _task: asyncio.Task | None = None
    _client: object = None

    def execute(self) -> tuple[NotebookNode, Failure | None]:
        """Run all cells up to the first that fails; the notebook comes back with its outputs so far.

        Raises ShapelabError if the file is no notebook, and asyncio.CancelledError after `cancel`.
        """
        from nbclient import NotebookClient

        notebook = tools.read_notebook(self.path)
        executed = code_cells(notebook)
        current = 0

        def started(cell, cell_index):
            nonlocal current
            if cell_index in executed:
                current = executed.index(cell_index) + 1
                self.on_cell(current - 1, len(executed))

        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        client = NotebookClient(
            notebook,
            timeout=self.timeout,
            startup_timeout=KERNEL_START_SECONDS,
            kernel_name="python3",
            store_widget_state=False,
            extra_arguments=["--log-level=ERROR"],  # not: a kernel talks TCP, on this machine, unencrypted
            resources={"metadata": {"path": str(self.path.resolve().parent)}},
            on_cell_start=started,
        )
        try:
            asyncio.run(self._drive(client))
        except Exception as error:
            return notebook, Failure(current, describe(error, self.timeout))
        self.on_cell(len(executed), len(executed))
        return notebook, None

    async def _drive(self, client) -> None:
        self._client, self._loop = client, asyncio.get_running_loop()
        self._task = asyncio.current_task()
        if self._cancelled.is_set():
            raise asyncio.CancelledError
        await client.async_execute(env=dict(self.environment))

    def cancel(self) -> None:
        """Kill the kernel and end `execute` at once."""
        self._cancelled.set()
        if self._task is not None:
            self._client.shutdown_kernel = "immediate"
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:  # the loop has closed: it ended by itself meanwhile
                pass


def describe(error: Exception, timeout: float) -> str:
    """What went wrong in a cell, in one line."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue.strip()}".split("\n")[0].rstrip(": ")
    if isinstance(error, CellTimeoutError):
        return f"took more than {timeout:g} s (--timeout)"
    if isinstance(error, DeadKernelError):
        return "the kernel died (out of memory?)"
    return f"{type(error).__name__}: {error}".split("\n")[0]


# ---------------------------------------------------------------------------------------------- all of them


def run(
    paths: Sequence[Path],
    output: Path | None = Path("results"),
    jobs: int = 1,
    timeout: float = 600,
    profile: str | None = None,
) -> Report:
    """Execute notebooks and say what became of them, with a progress bar where there is a terminal.

    Parameters
    ----------
    paths : the notebooks
    output : folder for ``index.html`` and, under ``notebooks/``, executed copies and pages. None executes in place: a
        notebook that passes is rewritten, normalised for a commit; one that fails is left as it was
    jobs : notebooks at a time
    timeout : seconds that one cell may take
    profile : see `shapelab.profiles`

    Raises
    ------
    KeyboardInterrupt : on Ctrl-C, after every kernel has ended
    """
    from shapelab.course import pages

    profile = current_profile(profile)
    environment = kernel_environment(profile, jobs)
    results: dict[Path, Result] = {}
    with _progress(len(paths), jobs) as progress:

        def work(execution: Execution) -> None:
            progress.begin(execution.path)
            result = _one(execution, output, profile)
            results[result.path] = result
            progress.end(result)

        executions = [
            Execution(path, timeout, environment, lambda done, n, path=path: progress.cell(path, done, n))
            for path in paths
        ]
        _in_threads(work, executions, jobs)
    ordered = tuple(results[path] for path in paths)
    index = pages.write_index(output) if output is not None else None
    report = Report(ordered, index)
    _conclude(report)
    return report


def kernel_environment(profile: str, jobs: int) -> dict[str, str]:
    """The environment of the kernels: this one, the profile, and a fair share of the cores for each."""
    environment = dict(os.environ, SHAPELAB_PROFILE=profile)
    # a figure as its JSON alone: the page that shows it loads plotly's script once, from a file beside it
    environment.setdefault("PLOTLY_RENDERER", "plotly_mimetype")
    environment.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    if jobs > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // jobs)))
    return environment


def _one(execution: Execution, output: Path | None, profile: str) -> Result:
    """Execute one notebook and write what belongs to it; what goes wrong in either is its failure."""
    from shapelab.course import pages

    path, start = execution.path, time.monotonic()
    notebook, failure, files = None, None, ()
    try:
        notebook, failure = execution.execute()
        tools.normalise(notebook)
        if output is not None:
            files = pages.write_notebook_pages(notebook, path.stem, output)
        elif failure is None:
            tools.write_notebook(notebook, path)
            files = (path,)
    except (ShapelabError, OSError) as error:
        failure = Failure(0, str(error))
    seconds = time.monotonic() - start
    if output is not None:
        pages.write_record(notebook, path.stem, output, profile, seconds, failure)
    return Result(path, seconds, failure, files)


def _in_threads(work: Callable[[Execution], None], executions: Sequence[Execution], jobs: int) -> None:
    """Call `work` on each, `jobs` at a time; on Ctrl-C cancel all, wait for their kernels to end, and pass it on."""
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="notebook") as pool:
        futures: list[Future] = [pool.submit(work, execution) for execution in executions]
        try:
            wait(futures)
        except KeyboardInterrupt:
            for future, execution in zip(futures, executions):
                future.cancel()
                execution.cancel()
            raise
    for future in futures:
        future.result()  # a mistake of ours in a thread is not passed over


def _conclude(report: Report) -> None:
    """What was made and where; the failures last, where the eye falls."""
    width = max(len(result.path.name) for result in report.results)
    print()
    for result in report.results:
        word = "ok    " if result.failure is None else "FAILED"
        made = next((str(f) for f in result.files if f.suffix == ".html"), str(result.files[0]) if result.files else "")
        print(f"{word}  {result.path.name:<{width}}  {result.seconds:6.1f} s  {made}")
    failed = [result for result in report.results if result.failure]
    total = sum(result.seconds for result in report.results)
    print(f"\n{len(report.results) - len(failed)} of {len(report.results)} notebooks passed, {total:.0f} s in all.")
    if report.index is not None:
        print(f"Executed copies and pages: {report.index.parent / 'notebooks'}")
        print(f"Start reading at:          {report.index}")
    sys.stdout.flush()
    for result in failed:
        print(f"shapelab: failed: {result}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------- progress


class _Lines:
    """Progress where there is no terminal: a line when a notebook ends."""

    def __init__(self, total: int):
        self.total, self.ended, self.lock = total, 0, threading.Lock()

    def begin(self, path: Path) -> None:
        pass

    def cell(self, path: Path, done: int, total: int) -> None:
        pass

    def end(self, result: Result) -> None:
        with self.lock:
            self.ended += 1
            word = "ok" if result.failure is None else "FAILED"
            print(f"[{self.ended}/{self.total}] {result.path.name}: {word}, {result.seconds:.1f} s", flush=True)


class _Bars:
    """Progress in a terminal: a bar for the series, and one for the cells of each notebook that runs."""

    def __init__(self, bars, total: int):
        self.bars, self.tasks = bars, {}
        self.series = bars.add_task("notebooks", total=total)

    def begin(self, path: Path) -> None:
        self.tasks[path] = self.bars.add_task(path.stem, total=None)

    def cell(self, path: Path, done: int, total: int) -> None:
        self.bars.update(self.tasks[path], completed=done, total=total)

    def end(self, result: Result) -> None:
        self.bars.remove_task(self.tasks.pop(result.path))
        self.bars.advance(self.series)
        if result.failure:
            self.bars.console.print(f"FAILED {result}", style="red", markup=False, highlight=False)


@contextmanager
def _progress(total: int, jobs: int) -> Iterator[_Lines | _Bars]:
    if not sys.stdout.isatty():
        print(f"{total} notebook{'s' * (total != 1)}, {jobs} at a time", flush=True)
        yield _Lines(total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns) as bars:
        yield _Bars(bars, total)
