"""The recipes: how each network is trained, written once. `shapelab train`, the weights that ship and the experiments
themselves all follow them.

A recipe stands in the module of its experiment and registers itself there:

    @recipe("native", "segmentation of a scan at its own resolution", CARDIAC)
    def _native(order: Order) -> NativeSegmenter: ...
"""

from __future__ import annotations

import json
import pkgutil
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shapelab.data.cards import data_sets, get_card
from shapelab.data.cohort import Cohort
from shapelab.data.scheme import CARDIAC, LabelScheme
from shapelab.errors import must, one_of
from shapelab.experiments.kept_runs import KeptRun, save_trained
from shapelab.files import only_one, write_json
from shapelab.profiles import current_profile
from shapelab.spaces.kept import is_kept
from shapelab.training import Run

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")
Train = TypeVar("Train", bound=Callable[..., Any])
CHECKPOINTS = "training"  # in the output folder, while a training is under way
BEGUN = "training.json"  # beside them: what was asked for
RECIPES: dict[str, Recipe] = {}


@dataclass(frozen=True)
class Order:
    """What a recipe is asked for.

    Attributes:
        model: its name
        output: folder of the trained network; None: nothing is kept, checkpoints neither
        data: data set and its folder
        root: data set and its folder
        profile: numbers; left out: the current one's
        hearts: patients to learn from (None; phantoms: the profile's, real: all)
        epochs: instead of the profile's
        seed: of everything random
    """

    model: str
    output: Path | None = None
    data: str = "phantom"
    root: str | Path | None = None
    profile: str = field(default_factory=current_profile)
    hearts: int | None = None
    epochs: int | None = None
    seed: int = 0
    progress: bool = True

    @property
    def checkpoint(self) -> Path | None:
        """The folder of what is kept while it is trained."""
        return None if self.output is None else self.output / CHECKPOINTS

    @property
    def run(self) -> Run:
        """How it is trained and kept."""
        return KeptRun(self.checkpoint, seed=self.seed, progress=self.progress)

    def numbers(self, config: C, hearts: str = "") -> C:
        """A config with the epochs and hearts (its field of that name; "": it has none) that were asked for."""
        asked = {"epochs": self.epochs, hearts: self.hearts}
        return replace(config, **{name: value for name, value in asked.items() if name and value is not None})

    def cohort(self) -> Cohort:
        """The real hearts it learns from: those with label maps."""
        from shapelab.data import open_cohort

        cohort = open_cohort(self.data, root=self.root).filter(lambda s: s.label_source is not None)
        must(
            cohort.scheme == CARDIAC,
            "data",
            f"{self.data!r} with scheme {cohort.scheme.name!r}",
            f"one with {', '.join(CARDIAC.names)}",
        )
        return cohort if self.hearts is None else cohort.filter(patient=list(cohort.patients[: self.hearts]))


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        what: in words
        data: names of the data sets that it can learn from, or a scheme: all data sets whose label maps are of it
        train: order -> the trained network or space, with `metadata`
        ships: name of its folder under data/weights, before the profile's; "": it does not ship
        half: it ships in 16 bits
        method: its name in the tables of its experiment
        real: phantoms will not do
    """

    what: str
    data: tuple[str, ...] | LabelScheme
    train: Callable[[Order], Any]
    ships: str = ""
    half: bool = True
    method: str = ""
    real: bool = False

    @property
    def learns_from(self) -> tuple[str, ...]:
        """Names of the data sets that it can learn from, those registered lately as well."""
        names = data_sets(self.data) if isinstance(self.data, LabelScheme) else self.data
        return tuple(name for name in names if not (self.real and get_card(name).make))


def recipe(
    name: str, what: str, data: tuple[str, ...] | LabelScheme = ("phantom",), method: str = "", **more: Any
) -> Callable[[Train], Train]:
    """Register a function order -> trained model under a name; one with a `method` is called with it, too.

    Args:
        what: of `Recipe`
        data: of `Recipe`
        method: of `Recipe`
        more: of `Recipe`
    """

    def enter(train: Train) -> Train:
        RECIPES[name] = Recipe(what, data, partial(train, method=method) if method else train, method=method, **more)
        return train

    return enter


def recipes() -> dict[str, Recipe]:
    """Name -> recipe, of all modules of this room."""
    for module in pkgutil.walk_packages([str(Path(__file__).parent)], "shapelab.experiments."):
        import_module(module.name)
    return dict(sorted(RECIPES.items()))


def listing() -> list[tuple[str, str, str]]:
    """(model, what it is, what it can learn from), a row a model."""
    return [(name, r.what, ", ".join(r.learns_from)) for name, r in recipes().items()]


def train(model: str, output: str | Path, resume: bool = False, profile: str | None = None, **order: Any) -> Path:
    """Train a model and write it to a folder.

    Args:
        model: a name from `listing`
        output: folder; while training it holds the checkpoints, from which a killed run resumes
        resume: continue an interrupted run, with a warning where there is none; without it a folder that holds one is
            refused, so that nothing is lost
        profile: numbers; None: what fits this machine
        order: data, root, hearts, epochs, seed, progress: see `Order`

    Raises:
        UsageError: unknown model, data it cannot learn from, a folder that holds something already, or in which another
            training is under way
        DataError: the data; a checkpoint of another run
    """
    known = recipes()
    folder, found = Path(output), known[one_of("model", model, known)]
    asked = Order(model, folder, profile=current_profile(profile), **order)
    one_of("data", asked.data, found.learns_from)
    with only_one("output", folder):
        must(not is_kept(folder), "output", f"a trained network in {output}", "an empty folder")
        _check_interrupted(asked, folder, resume)
        write_json(_told(asked), folder / BEGUN)
        try:
            made = found.train(asked)
        finally:
            if not (folder / CHECKPOINTS).exists():  # it was not begun
                (folder / BEGUN).unlink()
        _save(made, folder, asked, found)
    return folder


def _told(order: Order) -> dict[str, Any]:
    """What an interrupted training is continued with; what else was asked for, its checkpoint knows."""
    return {name: getattr(order, name) for name in ("model", "data", "profile", "seed")}


def _check_interrupted(order: Order, folder: Path, resume: bool) -> None:
    """UsageError where an interrupted training lies in the folder and is not to be continued, or not by this order; a
    warning where one is to be continued and none is there."""
    there = folder / CHECKPOINTS
    if not resume:
        how = "resume=True, on the command line --resume"
        todo = f"an empty folder: continue that run ({how}), or give another folder"
        must(not there.exists(), "output", f"an interrupted training in {folder}", todo)
        return
    if not any(there.rglob("*.safetensors")):
        warnings.warn(
            f"{folder}: found no interrupted training that could be resumed; expected a folder named {CHECKPOINTS!r} "
            "with a checkpoint. This training begins from the start: is it the right folder?",
            stacklevel=3,
        )
        return
    begun = json.loads((folder / BEGUN).read_text()) if (folder / BEGUN).is_file() else {}  # an older one has none
    asked = {name: value for name, value in _told(order).items() if begun.get(name, value) != value}
    found = f"a training of {', '.join(f'{name} {begun[name]}' for name in asked)} in {folder}"
    todo = f"one of {', '.join(f'{name} {value}' for name, value in asked.items())}"
    must(not asked, "output", found, f"{todo}: ask for what it was begun with, or give another folder")


def _save(made: Any, folder: Path, order: Order, found: Recipe) -> None:
    """Write what was trained to the order's folder, and clear what was needed on the way."""
    if found.method:
        made.metadata = {
            "method": found.method,
            "data": order.data,
            "profile": order.profile,
            "seed": order.seed,
            "final": made.metadata["final"],
        }
    save_trained(made, folder)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    (folder / BEGUN).unlink()
