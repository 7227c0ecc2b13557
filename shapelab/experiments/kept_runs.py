"""What all experiments do alike with their folder: results are kept under their key, tables written with their facts.

A run that was stopped resumes from what is kept, and never mixes it with another run's. So the names of files, the
keys, and the order of what stands in them are not changed lightly: folders made years ago are read by them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from torch import nn

from shapelab import __version__
from shapelab.data.scheme import LabelScheme
from shapelab.device import describe
from shapelab.errors import UsageError, must, need, whole
from shapelab.files import read_csv, write_csv, write_json
from shapelab.places import shipped_folder
from shapelab.profiles import current_profile
from shapelab.spaces.kept import KeptNetwork, is_kept, open_kept
from shapelab.tensor_files import checksum
from shapelab.training.identity import differences
from shapelab.training.loop import CHECKPOINT, Run
from shapelab.types import Network

Tables = Mapping[str, pd.DataFrame | None]
ANY = "not noted"  # by keys of an earlier shapelab
#: Profile -> `weights_key` of the autoencoder and of the T-L network that shipped when keys did not name them yet.
BEFORE = {"quick": ("f8a32509", "1adbe3d8")}


def plain(value: Any) -> Any:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(value))


def slug(method: str) -> str:
    """A method's name as that of a folder: "SSLLN-LR+SR, aligned" is sslln-lr-sr-aligned."""
    return re.sub("[ +,]+", "-", method.lower())


def stamped(about: Mapping[str, Any]) -> dict[str, Any]:
    """Facts about results, and what made them: version, machine, date."""
    return {**about, "shapelab": __version__, **describe(), "date": date.today().isoformat()}


def seeds_of(seeds: Sequence[int] | None, usual: Sequence[int]) -> tuple[int, ...]:
    """The seeds that are asked for; None: the usual ones. UsageError unless they are one or more, each once."""
    chosen = tuple(int(s) for s in (usual if seeds is None else seeds))
    must(0 < len(chosen) == len(set(chosen)), "seeds", list(chosen), "one or more, each once")
    return chosen


class KeptRun(Run):
    """A run in a folder that an experiment or a command chose, where nobody can pass `resume`."""

    ADVICE = "Ask for what it was begun with, give another output folder, or delete that file to begin anew."


@dataclass(frozen=True)
class Study:
    """What an experiment was asked for: the folder of its results (None: nothing is kept), the profile of its
    numbers (resolved here, once), the folder of its data, and whether to show bars."""

    folder: Path | None
    profile: str = "quick"
    root: str | Path | None = None
    progress: bool = True

    @classmethod
    def of(
        cls,
        name: str,
        output: str | Path | None = None,
        profile: str | None = None,
        root: str | Path | None = None,
        progress: bool = True,
    ) -> Study:
        """`output` None: results/<name>; `profile` None: the current one."""
        return cls(Path(f"results/{name}" if output is None else output), current_profile(profile), root, progress)

    @property
    def results(self) -> Path:
        """The folder of its results; UsageError where nothing is kept."""
        if self.folder is None:
            raise UsageError("Study: found no folder; expected one, in which its tables are written")
        return self.folder

    def write(self, name: str, tables: Tables, about: Mapping[str, Any], digits: int = 5, facts: str = "") -> None:
        """Write <name><suffix>.csv for each suffix of `tables`, then the facts, with version, machine and date, as
        <name><facts>.json."""
        for suffix, table in _there(tables).items():
            write_csv(table, self.results / f"{name}{suffix}.csv", digits)
        write_json(stamped(about), self.results / f"{name}{facts}.json")

    def kept(
        self,
        key: Mapping[str, Any],
        make: Callable[[], tuple[Tables, Mapping[str, Any]]],
        part: str = "",
        before: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
        """Tables and facts that were kept under this very key; or what `make` returns, kept now.

        Args:
            key: what the results depend on, as JSON can hold it
            make: () -> ({"cases": table, perhaps "landmarks": table}, more facts); None: there is no such table
            part: end of the files' names: about<part>.json, cases<part>.csv, landmarks<part>.csv
            before: what keys of an earlier shapelab, which lack these fields, meant by it; None: unknown

        Returns the tables, and the facts with the key in them. DataError where results of another key lie here.
        """
        wanted = plain(key)
        if self.folder is None:
            made, facts = make()
            return _there(made), dict(facts)
        about_file = self.folder / f"about{part}.json"
        files = {name: self.folder / f"{name}{part}.csv" for name in ("cases", "landmarks")}
        if about_file.is_file() and files["cases"].is_file():
            about = json.loads(about_file.read_text())
            check_key(about_file, {**plain(before or {}), **about}, wanted, "results")
            return {name: read_csv(file) for name, file in files.items() if file.is_file()}, about
        made, facts = make()
        tables = _there(made)
        for name, table in tables.items():
            write_csv(table, files[name])
        about = stamped({**wanted, **facts})
        write_json(about, about_file)
        return tables, about


def check_key(file: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """DataError unless what lies in a folder was made under the key that is wanted. A field that is `ANY` in what was
    found is taken for the one wanted."""
    known = {name: found.get(name) for name in wanted if found.get(name) != ANY}
    differing = [*differences(known, {name: wanted[name] for name in known})]
    told = "; ".join(f"{d.where} is {d.found} there and {d.asked} here" for d in differing)
    need(not differing, file, f"{what} of another run", f"those of {wanted}", f"{told}. Use another output folder.")


def weights_key(made: Any) -> str | None:
    """What a key says of a trained network, or space of one, that results were made with; None: there is none."""
    return None if made is None else checksum(getattr(made, "model", made).state_dict())


def _there(tables: Tables) -> dict[str, pd.DataFrame]:
    """Those that are not None."""
    return {name: table for name, table in tables.items() if table is not None}


def kept_network(
    folder: Path | None,
    train: Callable[[Path | None], Any],
    key: Mapping[str, Any],
    checkpoint: str = "training",
) -> Any:
    """The network, or space, that lies in <folder>/network; or the one that `train` returns, kept there.

    Args:
        key: what it depends on, as JSON can hold it, kept beside it. An earlier shapelab kept none: such a network is
            taken as it is
        train: (folder of its checkpoint) -> a space, or a network with `task`, `scheme` and `metadata` set on it. A
            killed training resumes from <folder>/<checkpoint>, which is cleared afterwards. Without a folder nothing is
            kept.

    DataError where the network of another key lies here.
    """
    if folder is None:
        return train(None)
    about = folder / "network" / "key.json"
    if is_kept(folder / "network"):
        if about.is_file():
            check_key(about, json.loads(about.read_text()), plain(key), "a network")
        return opened(folder / "network")
    network = train(folder / checkpoint)
    write_json(plain(key), about)
    save_trained(network, folder / "network")
    if checkpoint:
        shutil.rmtree(folder / checkpoint, ignore_errors=True)
    else:  # the folder itself, in which the results lie
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return network


class Studied(Protocol):
    """A laboratory: trainings in the order of their value, each of which it trains and measures."""

    def trainings(self) -> list[Any]: ...

    def measured(self, training: Any) -> Any: ...


def share(here: Studied, part: int, of: int) -> None:
    """Train and measure every `of`-th training of a study, from number `part` (0, ...) on: one of `of` processes."""
    for training in here.trainings()[whole("part", part, 0, of - 1) :: of]:
        here.measured(training)


def described(network: Network, task: str, scheme: LabelScheme, metadata: Mapping[str, Any]) -> Network:
    """A network with what is said of it set on it, as those that are read have it."""
    vars(network).update(task=task, scheme=scheme, metadata=metadata)  # to a checker a module's attributes are tensors
    return network


def save_trained(made: Any, folder: str | Path, half: bool = False) -> Path:
    """Write a space, or a network with the `task`, `scheme` and `metadata` that are set on it; `half`: in 16 bits."""
    if isinstance(made, nn.Module):
        made = KeptNetwork(made, *(getattr(made, name) for name in ("task", "scheme", "metadata")))
    return made.save(folder, half)


def opened(folder: str | Path) -> Any:
    """What `save_trained` wrote: the space or the network."""
    kept = open_kept(folder)
    return kept.network if isinstance(kept, KeptNetwork) else kept


def measured(name: str) -> pd.DataFrame:
    """A table of benchmarks/results, as it was measured on the machine that its JSON names: "acnn_table1_phantom", ...

    DataError if there is none.
    """
    file = shipped_folder("benchmarks/results") / f"{name}.csv"
    need(file.is_file(), file, "no such file", "a measured table", "Run the experiment: shapelab experiment acnn.")
    return read_csv(file)
