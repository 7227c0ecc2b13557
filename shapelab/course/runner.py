"""Execute the notebook series: ``shapelab notebooks``, which is what ``make run`` calls.

Each notebook runs in a kernel of its own, top to bottom. One that fails does not stop the others; its executed copy
and page are written up to the cell that failed. Every file is written whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shapelab.course import notebooks as tools
from shapelab.course.results import Failure, Report, Result
from shapelab.errors import ShapelabError, must
from shapelab.profiles import current_profile

if TYPE_CHECKING:
    from nbformat import NotebookNode

KERNEL_START_SECONDS = 180  # a cold disk and two cores: the first import of torch alone may take half a minute
BUDGET_SECONDS = 40  # a notebook in the quick profile on two cores, in the mean of the series


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
    must(
        not unknown,
        "notebooks",
        f"no notebook {', '.join(unknown)}",
        f"some of {', '.join(path.stem for path in paths)}",
    )
    return [p for p in paths if not wanted or p.stem in wanted or tools.number_of(p) in wanted]


# ---------------------------------------------------------------------------------------------- one notebook


@dataclass(frozen=True)
class Series:
    """How the notebooks of one run are executed; `output`, `timeout` and `profile` as `run` takes them.

    Attributes:
        environment: of the kernels
    """

    output: Path | None
    timeout: float
    profile: str
    environment: Mapping[str, str]

    async def one(self, path: Path) -> Result:
        """Execute one notebook and write what belongs to it; what goes wrong in either is its failure."""
        from shapelab.course import pages

        notebook, start = None, time.monotonic()
        try:
            notebook = tools.read_notebook(path)
            failure = await self.execute(notebook, path)
            tools.normalise(notebook)
            if self.output is not None:
                pages.write_notebook_pages(notebook, path.stem, self.output)
            elif failure is None:
                tools.write_notebook(notebook, path)
        except (ShapelabError, OSError) as error:
            failure = Failure(0, str(error))
        result = Result(path, time.monotonic() - start, failure)
        if self.output is not None:
            pages.write_record(notebook, result, self.output, self.profile)
        return result

    async def execute(self, notebook: NotebookNode, path: Path) -> Failure | None:
        """Run all cells of `notebook`, in place, up to the first that fails."""
        from nbclient import NotebookClient
        from tqdm import tqdm

        codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for cell in codes:
            cell.outputs, cell.execution_count = [], None
        total = sum(bool(cell.source.strip()) for cell in codes)
        with tqdm(total=total, desc=path.stem, leave=False, disable=None) as bar:
            client = NotebookClient(
                notebook,
                timeout=self.timeout,
                startup_timeout=KERNEL_START_SECONDS,
                kernel_name="python3",
                store_widget_state=False,
                extra_arguments=["--log-level=ERROR"],  # not: a kernel talks TCP, on this machine, unencrypted
                resources={"metadata": {"path": str(path.resolve().parent)}},
                on_cell_executed=lambda **_: bar.update(),
            )
            work = asyncio.ensure_future(client.async_execute(env=dict(self.environment)))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:  # a kernel that is asked gently says so in a traceback of its own
                client.shutdown_kernel = "immediate"
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                raise
            except Exception as error:
                return Failure(client.code_cells_executed, describe(error, self.timeout))
        return None


def describe(error: Exception, timeout: float) -> str:
    """What went wrong in a cell, in one line."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue.strip()}".split("\n")[0].rstrip(": ")
    known = {
        CellTimeoutError: f"took more than {timeout:g} s (--timeout)",
        DeadKernelError: "the kernel died (out of memory?)",
    }
    return known.get(type(error), f"{type(error).__name__}: {error}".split("\n")[0])


# ---------------------------------------------------------------------------------------------- all of them


def run(
    paths: Sequence[Path],
    output: Path | None = Path("results"),
    jobs: int = 1,
    timeout: float = 600,
    profile: str | None = None,
) -> Report:
    """Execute notebooks and say what became of them, with a progress bar where there is a terminal.

    Args:
        paths: the notebooks
        output: folder for ``index.html``, ``seconds.csv`` (notebook, seconds, status) and, under ``notebooks/``,
            executed copies and pages. None executes in place: a notebook that passes is rewritten, normalised for a
            commit; one that fails is left as it was
        jobs: notebooks at a time
        timeout: seconds that one cell may take
        profile: see `shapelab.profiles`

    Raises:
        KeyboardInterrupt: on Ctrl-C, after every kernel has ended
    """
    from tqdm import tqdm

    from shapelab.course import pages

    profile = current_profile(profile)
    series, gate = Series(output, timeout, profile, kernel_environment(profile, jobs)), asyncio.Semaphore(jobs)
    bar = tqdm(total=len(paths), desc="notebooks", disable=None)
    done: dict[Path, Result] = {}

    async def one(path: Path) -> None:
        async with gate:
            done[path] = result = await series.one(path)
        bar.update()
        word = "FAILED" if result.failure else "ok"
        tqdm.write(f"[{len(done)}/{len(paths)}] {path.name}: {word}, {result.seconds:.1f} s")
        sys.stdout.flush()

    async def all_of_them() -> None:
        ended = await asyncio.gather(*map(one, paths), return_exceptions=True)
        for error in filter(None, ended):  # a mistake of ours stops no other notebook, and is not passed over
            raise error

    with bar:
        _beside_the_main_thread(all_of_them())
    report = Report(tuple(done[path] for path in paths), None if output is None else pages.write_index(output))
    _conclude(report)
    return report


def _beside_the_main_thread(job: Coroutine[Any, Any, None]) -> None:
    """Run `job` in a thread: in the main one nbclient would take Ctrl-C for a kernel that died. On Ctrl-C the job is
    cancelled, which ends its kernels, and KeyboardInterrupt passed on."""
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as pool:
        loop = runner.get_loop()
        task = loop.create_task(job)
        future = pool.submit(loop.run_until_complete, task)
        try:
            future.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(task.cancel)
            raise


def kernel_environment(profile: str, jobs: int) -> dict[str, str]:
    """The environment of the kernels: this one, the profile, and a fair share of the cores for each."""
    environment = {
        # a figure as its JSON alone: the page that shows it loads plotly's script once, from a file beside it
        "PLOTLY_RENDERER": "plotly_mimetype",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **os.environ,
        "SHAPELAB_PROFILE": profile,
    }
    if jobs > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // jobs)))
    return environment


def _conclude(report: Report) -> None:
    """What was made and where; the failures last, where the eye falls."""
    n, failed = len(report.results), [result for result in report.results if result.failure]
    total = sum(result.seconds for result in report.results)
    print(
        f"\n{n - len(failed)} of {n} notebooks passed, {total:.0f} s in all, "
        f"{total / n:.0f} s in the mean (budget: {BUDGET_SECONDS} s in the quick profile)."
    )
    if report.index is not None:
        print(
            f"Executed copies and pages: {report.index.parent / 'notebooks'}",
            f"Seconds of each:           {report.index.parent / 'seconds.csv'}",
            f"Start reading at:          {report.index}",
            sep="\n",
        )
    sys.stdout.flush()
    for result in failed:
        print(f"shapelab: failed: {result}", file=sys.stderr)
