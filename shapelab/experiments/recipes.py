"""The recipes: how each network is trained, written once. `shapelab train`, the weights that ship and the experiments
themselves all follow them.

A recipe stands in the module of its experiment and registers itself there:

    @recipe("native", "segmentation of a scan at its own resolution", CARDIAC)
    def _native(order: Order) -> NativeSegmenter: ...
"""

from __future__ import annotations

import pkgutil
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from shapelab.data.cards import data_sets, get_card
from shapelab.data.cohort import Cohort
from shapelab.data.scheme import CARDIAC, LabelScheme
from shapelab.errors import must, one_of
from shapelab.experiments.kept_runs import save_trained
from shapelab.profiles import current_profile
from shapelab.spaces.kept import is_kept
from shapelab.training import Run

C = TypeVar("C")
CHECKPOINTS = "training"  # in the output folder, while a training is under way
RECIPES: dict[str, Recipe] = {}


@dataclass(frozen=True)
class Order:
    """What a recipe is asked for.

    Attributes:
        model: its name
        output: folder of the trained network; None: nothing is kept, checkpoints neither
        data: data set and its folder
        root: data set and its folder
        profile: numbers; None: the current one
        hearts: patients to learn from (None; phantoms: the profile's, real: all)
        epochs: instead of the profile's
        seed: of everything random
    """

    model: str
    output: Path | None = None
    data: str = "phantom"
    root: str | Path | None = None
    profile: str | None = None
    hearts: int | None = None
    epochs: int | None = None
    seed: int = 0
    progress: bool = True

    def __post_init__(self):
        object.__setattr__(self, "profile", current_profile(self.profile))

    @property
    def checkpoint(self) -> Path | None:
        """The folder of what is kept while it is trained."""
        return None if self.output is None else self.output / CHECKPOINTS

    @property
    def run(self) -> Run:
        """How it is trained and kept."""
        return Run(self.checkpoint, seed=self.seed, progress=self.progress)

    def numbers(self, config: C, hearts: str = "") -> C:
        """A config with the epochs and hearts (its field of that name; "": it has none) that were asked for."""
        asked = {"epochs": self.epochs, hearts: self.hearts}
        return replace(config, **{name: value for name, value in asked.items() if name and value is not None})

    def cohort(self) -> Cohort:
        """The real hearts it learns from: those with label maps."""
        from shapelab.data import open_cohort

        cohort = open_cohort(self.data, root=self.root).filter(lambda s: s.label_source is not None)
        found = f"{self.data!r} with scheme {cohort.scheme.name!r}"
        must(cohort.scheme == CARDIAC, "data", found, f"one with {', '.join(CARDIAC.names)}")
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


def recipe(name: str, what: str, data: tuple[str, ...] | LabelScheme = ("phantom",), method: str = "", **more: Any):
    """Register a function order -> trained model under a name; one with a `method` is called with it, too.

    Args:
        what: of `Recipe`
        data: of `Recipe`
        method: of `Recipe`
        more: of `Recipe`
    """

    def enter(train: Callable[..., Any]) -> Callable[..., Any]:
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


def train(model: str, output: str | Path, resume: bool = False, **order: Any) -> Path:
    """Train a model and write it to a folder.

    Args:
        model: a name from `listing`
        output: folder; while training it holds the checkpoints, from which a killed run goes on
        resume: go on with an interrupted run; without it a folder that holds one is refused, so that nothing is lost
        order: data, root, profile, hearts, epochs, seed, progress: see `Order`

    Raises:
        UsageError: unknown model, data it cannot learn from, a folder that holds something already
        DataError: the data
    """
    known = recipes()
    asked, found = Order(one_of("model", model, known), Path(output), **order), known[model]
    one_of("data", asked.data, found.learns_from)
    must(not is_kept(asked.output), "output", f"a trained network in {output}", "an empty folder")
    interrupted = asked.checkpoint.exists() and not resume
    todo = "an empty folder: go on with it (--resume), or give another folder"
    must(not interrupted, "output", f"an interrupted training in {output}", todo)
    made = found.train(asked)
    if found.method:
        made.metadata = {
            "method": found.method,
            "data": asked.data,
            "profile": asked.profile,
            "seed": asked.seed,
            "final": made.metadata["final"],
        }
    save_trained(made, asked.output)
    shutil.rmtree(asked.checkpoint, ignore_errors=True)
    return asked.output
