"""The command line: a thin layer of arguments over functions of the library.

Exit codes: 0 fine, 1 the data or a result is bad, 2 wrong usage. What a user can cause ends in one message
on standard error, never in a traceback. Each subcommand imports what it needs when it runs, so ``--help`` is
instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from shapelab import __version__
from shapelab.commands.files import add_predict, add_refine, positive
from shapelab.data.facts import GROUPS
from shapelab.errors import ShapelabError, UsageError
from shapelab.profiles import PROFILES

OK, BAD, USAGE = 0, 1, 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (argparse itself exits with 2 on wrong usage)."""
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except UsageError as error:
        print(f"shapelab: {error}", file=sys.stderr)
        return USAGE
    except ShapelabError as error:
        print(f"shapelab: {error}", file=sys.stderr)
        return BAD
    except KeyboardInterrupt:
        print("shapelab: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `shapelab ... | head`: the reader has what it wanted. Standard output goes nowhere from here, so
        # that Python's own flush at exit does not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="shapelab",
        description="Shape priors in medical image segmentation: a course and a laboratory.",
        epilog="Data sets are looked for under the folder named by the environment variable SHAPELAB_DATA.",
    )
    parser.add_argument("--version", action="version", version=f"shapelab {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_data(commands)
    _add_experiment(commands)
    _add_train(commands)
    add_predict(commands)
    add_refine(commands)
    _add_notebooks(commands)
    _add_doctor(commands)
    return parser


# ----------------------------------------------------------------------------------------------------
# shapelab data


def _add_data(commands) -> None:
    data = commands.add_parser("data", help="list, fetch or check data sets")
    actions = data.add_subparsers(title="actions", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="the data sets shapelab reads, and which are here")
    listing.set_defaults(run=_data_list)

    fetch = actions.add_parser("fetch", help="download a data set whose publisher allows it")
    fetch.add_argument("name", metavar="NAME", help="a name from `shapelab data list`")
    fetch.add_argument("--root", type=Path, help="folder of data sets (default: SHAPELAB_DATA)")
    fetch.set_defaults(run=_data_fetch)

    check = actions.add_parser("check", help="read every file of a folder and say what is wrong")
    check.add_argument("folder", type=Path, metavar="FOLDER")
    check.add_argument("--name", help="which data set it is (default: told from the layout)")
    check.set_defaults(run=_data_check)


def _data_list(_arguments) -> int:
    from shapelab import data

    root = _data_root()
    rows = []
    for card in data.catalogue().values():
        rows.append([card.name, card.title, card.licence, _where(card, root), card.home or ""])
    _print_table(["name", "what", "licence", "here", "home"], rows)
    if root is None:
        print("SHAPELAB_DATA is not set: set it to the folder of your data sets. The phantom needs none.")
    return OK


def _where(card, root: Path | None) -> str:
    """Whether a data set is on this machine, in a few words."""
    if not card.folder:
        return "built in" if card.make else "give its folder"
    if root is not None and (root / card.folder).is_dir():
        return "yes"
    return "no (can be fetched)" if card.fetchable else "no"


def _data_fetch(arguments) -> int:
    from shapelab import data

    root = arguments.root or _data_root()
    if root is None:
        raise UsageError("say where to put it: --root DIR, or set SHAPELAB_DATA to the folder of data sets")
    print(f"{arguments.name} is at {data.fetch(arguments.name, root)}")
    return OK


def _data_check(arguments) -> int:
    from shapelab import data

    problems = data.check_folder(arguments.folder, name=arguments.name)
    if problems.empty:
        print(f"{arguments.folder}: nothing wrong")
        return OK
    _print_table(list(problems.columns), problems.astype(str).values.tolist())
    print(f"{arguments.folder}: {len(problems)} problem{'s' * (len(problems) != 1)}", file=sys.stderr)
    return BAD


def _data_root() -> Path | None:
    root = os.environ.get("SHAPELAB_DATA")
    return Path(root).expanduser() if root else None


# ----------------------------------------------------------------------------------------------------
# shapelab experiment


def _add_experiment(commands) -> None:
    experiment = commands.add_parser("experiment", help="reproduce a paper's table")
    names = experiment.add_subparsers(title="experiments", required=True, metavar="NAME")
    pathology = names.add_parser(
        "pathology",
        help="classify disease from shape codes (ACNN, section IV-D)",
        description="Accuracy of disease classification from shape codes, beside PCA codes, volumes + EF, "
        "shuffled labels and random codes, by repeated patient-level cross-validation. Prints the table and "
        "writes it as CSV.",
    )
    add = pathology.add_argument
    add("--data", choices=("acdc", "phantom"), default="phantom", help="default: phantom")
    add("--root", type=Path, metavar="DIR", help="the data set's folder (default: under SHAPELAB_DATA)")
    add("--groups", type=_groups, metavar="A,B,...", help="default: NOR,DCM,HCM and then all five")
    add("--profile", choices=PROFILES, help="default: what fits this machine")
    add("--seed", type=int, default=0, help="default: 0")
    add("-o", "--output", type=Path, metavar="DIR", help="default: results/pathology")
    pathology.set_defaults(run=_pathology)
    _add_paper(
        names,
        "acnn",
        3,
        "tables I to III of the ACNN paper",
        "Table 1: segmentation of cardiac MR, 2: of 3-D ultrasound, 3: super-resolution.",
    )
    _add_paper(
        names,
        "sslln",
        6,
        "tables I to VI of the SSLLN paper",
        "Table 1: high-resolution segmentation, 2: "
        "landmarks, 3: refinement of low resolution, 4: volumes and masses, 5: beside other methods, 6: volumes "
        "and masses in pulmonary hypertension. With --data acdc, real label maps are refined instead.",
    )
    _add_reality(names)


def _add_paper(names, name: str, tables: int, what: str, which: str) -> None:
    paper = names.add_parser(
        name,
        help=what,
        description=f"{which} Trains what the table compares, prints it with the paper's numbers beside ours, and "
        "writes it as CSV. A run that was interrupted goes on where it stopped.",
    )
    add = paper.add_argument
    add("--table", type=int, choices=range(1, tables + 1), required=True)
    add("--data", default="phantom", metavar="NAME", help="phantom (default), or a data set: %(prog)s says which")
    add("--root", type=Path, metavar="DIR", help="the data set's folder (default: under SHAPELAB_DATA)")
    add("--profile", choices=PROFILES, help="default: what fits this machine")
    add("--seeds", type=_seeds, metavar="A,B,...", help="default: the profile's")
    add("-o", "--output", type=Path, metavar="DIR", help=f"default: results/{name}")
    paper.set_defaults(run=_paper, paper=name)


def _add_reality(names) -> None:
    reality = names.add_parser(
        "reality",
        help="a network that learned from phantoms alone, on real ACDC scans",
        description="Segments the short-axis stacks of ACDC with a network that never saw a real heart, and writes "
        "Dice and Hausdorff distance per stack and structure, and pictures of the worst.",
    )
    add = reality.add_argument
    add("--root", type=Path, metavar="DIR", help="ACDC's folder (default: under SHAPELAB_DATA)")
    add("--profile", choices=PROFILES, help="default: what fits this machine")
    add("-o", "--output", type=Path, metavar="DIR", help="default: results/reality")
    reality.set_defaults(run=_reality)


def _groups(text: str) -> list[str]:
    groups = [g.strip().upper() for g in text.split(",") if g.strip()]
    wrong = [g for g in groups if g not in GROUPS]
    if wrong or len(set(groups)) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: name two or more of {', '.join(GROUPS)}, separated by commas")
    return list(dict.fromkeys(groups))


def _pathology(arguments) -> int:
    from shapelab.experiments.acnn import pathology

    table = pathology.run(
        data=arguments.data,
        root=arguments.root,
        groups=arguments.groups,
        profile=arguments.profile,
        seed=arguments.seed,
        output=arguments.output,
        progress=True,
    )
    print(table.to_string())
    print(f"Tables: {arguments.output or Path('results/pathology')}")
    return OK


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r}: name whole numbers from 0, each once, separated by commas")
    return seeds


def _paper(arguments) -> int:
    from importlib import import_module

    output = arguments.output or Path("results") / arguments.paper
    import_module(f"shapelab.experiments.{arguments.paper}").run(
        table=arguments.table,
        data=arguments.data,
        root=arguments.root,
        profile=arguments.profile,
        seeds=arguments.seeds,
        output=output,
    )
    print(f"Tables: {output}")
    return OK


def _reality(arguments) -> int:
    from shapelab.experiments.acnn import reality

    output = arguments.output or Path("results/reality")
    table = reality.run(root=arguments.root, profile=arguments.profile, output=output)
    print(reality.summary(table).to_string())
    print(f"Tables: {output}")
    return OK


# ----------------------------------------------------------------------------------------------------
# shapelab train (shapelab predict and refine: cli_files)


def _add_train(commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a network and keep it",
        description="Train one of the networks and write it to a folder that the library and `shapelab predict` read. "
        "`shapelab train list` says which there are.",
    )
    add = train.add_argument
    add("model", metavar="MODEL", help="a name from `shapelab train list`")
    add("--data", default="phantom", metavar="NAME", help="phantom (default), or a data set the model can learn from")
    add("--root", type=Path, metavar="DIR", help="the data set's folder (default: under SHAPELAB_DATA)")
    add("--profile", choices=PROFILES, help="default: what fits this machine")
    add("--hearts", type=positive, metavar="N", help="phantom patients (default: the profile's)")
    add("--epochs", type=positive, metavar="N", help="default: the profile's")
    add("--seed", type=int, default=0, help="default: 0")
    add("--resume", action="store_true", help="go on with a run that was interrupted")
    add("-o", "--output", type=Path, metavar="DIR", help="where the trained network goes")
    train.set_defaults(run=_train)


def _train(arguments) -> int:
    from shapelab.experiments import recipes as training

    if arguments.model == "list":
        _print_table(["model", "what", "data"], training.listing())
        return OK
    if arguments.output is None:
        raise UsageError("say where to put the trained network: -o DIR")
    folder = training.train(
        arguments.model,
        arguments.output,
        data=arguments.data,
        root=arguments.root,
        profile=arguments.profile,
        hearts=arguments.hearts,
        epochs=arguments.epochs,
        seed=arguments.seed,
        resume=arguments.resume,
    )
    print(f"Trained: {folder}")
    return OK


# ----------------------------------------------------------------------------------------------------
# shapelab notebooks


def _add_notebooks(commands) -> None:
    notebooks = commands.add_parser(
        "notebooks",
        help="execute the notebook series and write it as web pages",
        description="Execute notebooks, each in a kernel of its own, and write executed copies, web pages and "
        "one index page. A notebook that fails does not stop the others; the exit code is then 1.",
    )
    add = notebooks.add_argument
    add("numbers", nargs="*", metavar="NN", help="which notebooks, e.g. 00 03 (default: all)")
    add("--list", action="store_true", help="only say which notebooks there are")
    add("-o", "--output", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    add("--jobs", type=positive, default=1, metavar="N", help="notebooks at a time (default: 1)")
    add("--timeout", type=positive, default=600, metavar="S", help="seconds a cell may take (default: 600)")
    add("--profile", choices=PROFILES, help="default: what fits this machine")
    add("--folder", type=Path, metavar="DIR", help="folder of the notebooks (default: notebooks)")
    # for those who write notebooks (see CONTRIBUTING.md)
    add("--sync", action="store_true", help=argparse.SUPPRESS)
    add("--in-place", action="store_true", help=argparse.SUPPRESS)
    notebooks.set_defaults(run=_notebooks)


def _notebooks(arguments) -> int:
    from shapelab.course import runner

    folder = runner.notebook_folder(arguments.folder)
    if arguments.sync:
        from shapelab.course import notebooks as notebooks_tools

        for path in notebooks_tools.sync_folder(folder, arguments.numbers):
            print(f"wrote {path}")
        return OK
    paths = runner.select(runner.find_notebooks(folder), arguments.numbers)
    if arguments.list:
        for path in paths:
            print(path)
        return OK
    report = runner.run(
        paths,
        output=None if arguments.in_place else arguments.output,
        jobs=arguments.jobs,
        timeout=arguments.timeout,
        profile=arguments.profile,
    )
    return OK if report.passed else BAD


# ----------------------------------------------------------------------------------------------------
# shapelab doctor


def _add_doctor(commands) -> None:
    doctor = commands.add_parser("doctor", help="versions, devices, what is missing and how to mend it")
    doctor.set_defaults(run=_doctor)


def _doctor(_arguments) -> int:
    from shapelab.commands import doctor

    checks = doctor.examine()
    rows = [[c.status, c.what, c.found, c.mend] for c in checks]
    _print_table(["", "what", "found", "how to mend it"], rows)
    bad = [c.what for c in checks if c.status == doctor.BAD]
    if bad:
        print(f"shapelab: needs mending: {', '.join(bad)}", file=sys.stderr)
    return BAD if bad else OK


def _print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output: ruled and folded in a terminal, one whole line a row in a file or a pipe."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(*cells)]
        for row in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in cells[1:]:
        table.add_row(*map(Text, row))  # Text, not str: a file named "[red]" is a name and no mark-up
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
