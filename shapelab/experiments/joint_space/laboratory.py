"""How the methods of the joint space's table are trained and tested, and how that is kept.

    CE-Reg, l1-Reg, 2E-D, E-D, U-Net    the paper's table, at equal image batches
    free decoder                        CE-Reg with a decoder that image batches train too
    E-D, equal time; U-Net, equal time  twice the image batches: about what CE-Reg's label batches take besides
    CE-Reg, labels ahead                label batches alone, a third of the image batches, come first: a better decoder
    CE-Reg, early                       a few image batches: where instance statistics decide
    CE-Reg, maps                        few labelled images, and the label maps of all others (ACDC: and phantoms')

One training is a `Training`: method, seed, fold, and how many patients' images are labelled. Each is kept in a folder
of its own, so that several processes may work in one study at once, on other methods or seeds:

    run_one("CE-Reg", seed=0, folder="results/joint-space")
    run_share(0, 2, folder="results/joint-space")                   # the first of two processes

Deviations:
    Hearts: see `shapelab.experiments.joint_space.hearts`. Profile `quick` runs one fold and three seeds at 6 mm, where
        the paper runs five folds at 1.5 mm and names no seed.
    Curves: a row of the history tells the Dice of the TEST scans. Nothing is chosen by it: the weights are those of
        the last step.
    U-Net, E-D: "the models share equal training": as many image batches, the same learning rate for images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shapelab.data.volumes import Scans
from shapelab.errors import must, one_of, whole
from shapelab.experiments.joint_space import hearts, measures
from shapelab.experiments.joint_space.hearts import PHANTOM
from shapelab.experiments.kept_runs import KeptRun, Study, kept_network, share, slug
from shapelab.experiments.recipes import Order, recipe
from shapelab.experiments.shipped import shipped
from shapelab.files import read_csv, write_csv
from shapelab.models.joint_space import METHODS, JointSpace, JointSpaceConfig, train_joint_space
from shapelab.tensor_files import checksum
from shapelab.training import Config, numbers_of

LONGER = {"E-D, equal time": "E-D", "U-Net, equal time": "U-Net"}
AHEAD, EARLY, MAPS = "CE-Reg, labels ahead", "CE-Reg, early", "CE-Reg, maps"
#: Name in the tables -> method of `shapelab.models.joint_space`.
TRAINED = {**{m: m for m in METHODS}, **LONGER, **dict.fromkeys((AHEAD, EARLY, MAPS), "CE-Reg")}
FEW = ("CE-Reg", MAPS, "E-D", "U-Net")  # that learn from few labelled images
CEILING = ", its own label maps"  # after a method's name: the Dice of D(E(label map)), which images can hardly pass
PARTS = ("", "_codes", "_walks", "_smoothness", "_robustness", "_statistics")  # of what is measured, as files end


@dataclass(frozen=True)
class JointExperiment(Config):
    """Numbers of the experiment; the defaults are the quick profile's."""

    training: int = 20  # phantom patients of each modality, as many as the paper's data set has
    shipped: int = 100  # ... that the network that ships is learned from
    test: int = 20  # unseen phantom patients, each in CT and MR
    folds: int = 1  # of five
    seeds: tuple[int, ...] = (0, 1, 2)  # of weights, order, augmentation; of phantoms, the training hearts as well
    methods: tuple[str, ...] = (*METHODS, *LONGER, AHEAD)
    early: int = 200  # image batches of "CE-Reg, early"
    pairs: int = 10  # walks from scan to scan
    labelled: tuple[int, ...] = (5, 10, 20)  # ACDC: patients with labelled images; all 64 are the table's
    maps: int = 100  # ACDC: phantom patients (two label maps each) beside few labelled images
    network: JointSpaceConfig = field(default_factory=lambda: JointSpaceConfig(steps=2000, every=200))
    short_axis: JointSpaceConfig = field(
        default_factory=lambda: JointSpaceConfig(
            shape=(32, 32, 16), spacing=(4.5, 4.5, 7.5), n_classes=4, steps=1500, every=150
        )
    )

    PROFILES = {
        "full": {"seeds": (0,), "methods": ("CE-Reg", "E-D", "U-Net"), "network": {}, "short_axis": {}},
        "paper": {"folds": 5, "network": {}, "short_axis": {}},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("training", "shipped", "test", "folds", "early", "pairs"):
            whole(f"JointExperiment.{name}", getattr(self, name))
        must(self.folds <= hearts.FOLDS, "JointExperiment.folds", self.folds, f"at most {hearts.FOLDS}")
        must(self.seeds and self.methods, "JointExperiment", "no seeds or no methods", "at least one of both")
        for name in self.methods:
            one_of("JointExperiment.methods", name, TRAINED)


def three_mm(steps: int = 600) -> JointExperiment:
    """Profile `full` for a machine without a GPU: at 3 mm, where a code's cell is 24 mm as the paper's, but over the
    box of `quick`, which holds a phantom's heart (56x48x56 in place of 72x61x84), and fewer image batches."""
    network = JointSpaceConfig.profile("full", shape=(56, 48, 56), steps=steps, every=max(1, steps // 10))
    return JointExperiment.profile("full", network=network)


@dataclass(frozen=True)
class Training:
    """One training of the study.

    Attributes:
        method: a name of `TRAINED`
        seed: of weights, order, augmentation; of phantoms, the training hearts as well
        fold: which hearts are tested
        labelled: patients whose images are learned from; None: all
    """

    method: str
    seed: int = 0
    fold: int = 0
    labelled: int | None = None

    def __post_init__(self) -> None:
        one_of("method", self.method, TRAINED)
        whole("seed", self.seed, 0)
        whole("fold", self.fold, 0, hearts.FOLDS - 1)

    @property
    def name(self) -> str:
        """Of its folder."""
        few = "" if self.labelled is None else f"-{self.labelled}-labelled"
        return f"{slug(self.method)}{few}-fold{self.fold}-seed{self.seed}"


@dataclass(frozen=True)
class Laboratory:
    """Scans, networks and measurements of one data set, kept in a folder.

    Attributes:
        config: numbers
        folder: of what is kept; None: nothing is
        data: one of `hearts.DATA`
        root: folder of the data set
    """

    config: JointExperiment
    folder: Path | None = None
    data: str = "phantom-wh"
    root: str | Path | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        one_of("data", self.data, hearts.DATA)

    @property
    def numbers(self) -> JointSpaceConfig:
        """Of the network, on the grid of these hearts."""
        return self.config.short_axis if self.data == "acdc" else self.config.network

    @cached_property
    def real(self) -> Scans:
        """All scans of a real data set."""
        return hearts.real_scans(self.data, self.numbers.grid, self.root, self.folder)

    def trainings(self) -> list[Training]:
        """All trainings of the table, those that decide first; of real hearts also those with few labelled images."""
        folds, config = range(self.config.folds), self.config
        table = [Training(m, seed, fold) for fold in folds for seed in config.seeds for m in config.methods]
        table.append(Training(EARLY, config.seeds[0]))
        if self.data != "acdc":
            return table
        few = [Training(m, seed, 0, n) for n in config.labelled for seed in config.seeds for m in FEW]
        return table + few + [Training(MAPS, seed) for seed in config.seeds]

    def folder_of(self, training: Training) -> Path | None:
        """Where a training and what was measured of it lie."""
        return None if self.folder is None else self.folder / training.name

    def done(self, training: Training) -> bool:
        """Whether it is trained and measured."""
        folder = self.folder_of(training)
        return folder is not None and all((folder / f"about{part}.json").is_file() for part in self.parts(training))

    # ----------------------------------------------------------------------------------------------------------- data

    def learned_from(self, training: Training) -> tuple[Scans, np.ndarray | None]:
        """Scans, and label maps without images (integers of the scheme; None: no further ones)."""
        config, grid = self.config, self.numbers.grid
        if self.data == "phantom-wh":
            return hearts.phantom_training(config.training, grid, training.seed, training.fold, self.folder), None
        scans = hearts.fold_of(self.real, training.fold)[0]
        others = None
        if training.labelled is not None:
            scans, others = hearts.few_labelled(scans, training.labelled, training.seed)
        if training.method != MAPS:
            return scans, None
        maps = [] if others is None else [others]
        if self.data == "acdc":
            maps.append(hearts.short_axis_maps(config.maps, grid, self.folder))
        return scans, np.concatenate(maps)

    def tested_on(self, fold: int) -> Scans:
        """Unseen scans."""
        if self.data == "phantom-wh":
            return hearts.phantom_test(self.config.test, self.numbers.grid, fold, folder=self.folder)
        return hearts.fold_of(self.real, fold)[1]

    def unseen(self, fold: int) -> Scans | None:
        """The hearts of the test in contrasts that nothing was trained on, where there are any."""
        if self.data != "phantom-wh":
            return None
        return hearts.phantom_test(self.config.test, self.numbers.grid, fold, hearts.UNSEEN, self.folder)

    # ------------------------------------------------------------------------------------------------------ trainings

    def config_of(self, training: Training) -> JointSpaceConfig:
        """Numbers of its network."""
        steps, every = self.numbers.steps, self.numbers.every
        lead = steps // 3 if training.method == AHEAD else self.numbers.label_lead
        if training.method in LONGER:
            steps, every = 2 * steps, 2 * every
        if training.method == EARLY:
            steps, every = self.config.early, min(every, self.config.early)
        return replace(self.numbers, method=TRAINED[training.method], steps=steps, every=every, label_lead=lead)

    def space(self, training: Training) -> JointSpace:
        """Its network: what is kept, or trained now; history.csv lies beside it."""
        scans, shapes = self.learned_from(training)
        config, test = self.config_of(training), self.tested_on(training.fold)
        data = f"{len(scans)} {self.data} scans of {scans.table['patient'].nunique()} patients"

        def train(checkpoint: Path | None) -> JointSpace:
            run = KeptRun(checkpoint, seed=training.seed, progress=self.progress)
            made, history = train_joint_space(scans, config, run, shapes=shapes, validation=test, data=data)
            if checkpoint is not None:
                write_csv(history.table.reset_index(), checkpoint / "history.csv", digits=7)
            return made

        return kept_network(self.folder_of(training), train, self._key(training, config, scans, shapes), checkpoint="")

    def _key(
        self, training: Training, config: JointSpaceConfig, scans: Scans, shapes: np.ndarray | None
    ) -> dict[str, Any]:
        learned = {"images": scans.images, "labels": scans.labels}
        learned |= {} if shapes is None else {"shapes": np.asarray(shapes)}
        return {**asdict(training), "data": self.data, "network": numbers_of(config), "scans": checksum(learned)}

    # --------------------------------------------------------------------------------------------------- measurements

    def parts(self, training: Training) -> tuple[str, ...]:
        """Of `PARTS`, those that are measured of it: with few labelled images Dice and codes alone; walks where codes
        alone tell a shape."""
        if training.labelled is not None or training.method == MAPS:
            return PARTS[:2]
        if training.method == EARLY:
            return "", "_codes", "_statistics"
        return tuple(p for p in PARTS if p != "_walks" or TRAINED[training.method] != "U-Net")

    def measured(self, training: Training) -> dict[str, pd.DataFrame]:
        """Train and measure: part -> table, with the columns method, seed, fold, labelled; what was done is read.

        DataError where results of another key lie in its folder; UsageError where another process is training it.
        """
        scans, shapes = self.learned_from(training)
        test, config = self.tested_on(training.fold), self.config_of(training)
        key = self._key(training, config, scans, shapes)
        key["test"] = checksum({"images": test.images, "labels": test.labels})
        opened: list[JointSpace] = []

        def space() -> JointSpace:
            if not opened:
                opened.append(self.space(training))
            return opened[0]

        def make(part: str) -> Callable[[], tuple[dict[str, pd.DataFrame], dict[str, Any]]]:
            return lambda: ({"cases": self._measure(part, space(), test, training)}, self._facts(training, space()))

        study = Study(self.folder_of(training), progress=self.progress)
        about = asdict(training)
        return {p: study.kept(key, make(p), part=p)[0]["cases"].assign(**about) for p in self.parts(training)}

    def _measure(self, part: str, space: JointSpace, test: Scans, training: Training) -> pd.DataFrame:
        """One table of `measures`."""
        if part == "":
            made = measures.scored(space.segment(test), test).assign(ceiling=np.nan)
            if space.reads_labels:
                rebuilt = space.reconstruct(test.scheme.integers(test.labels))
                made["ceiling"] = measures.scored(rebuilt, test)["dice"]
            return made
        if part == "_robustness":
            return measures.robustness(space, test, self.unseen(training.fold))
        if part == "_walks":
            return measures.walks(space, test, self.config.pairs)
        return getattr(measures, part.removeprefix("_"))(space, test)

    def _facts(self, training: Training, space: JointSpace) -> dict[str, Any]:
        """Parameters, image batches and seconds of the training."""
        facts = {"parameters": sum(p.numel() for p in space.model.parameters()), "steps": space.config.steps}
        curve = self.curve(training)
        return facts if curve is None else {**facts, "train_seconds": round(float(curve["spent"].iloc[-1]), 1)}

    def curve(self, training: Training) -> pd.DataFrame | None:
        """The history of a training with `spent`, seconds without those of validation, summed up; None: not kept."""
        folder = self.folder_of(training)
        if folder is None or not (folder / "history.csv").is_file():
            return None
        table = read_csv(folder / "history.csv")
        spent = (table["seconds"] - table["val seconds"]).cumsum()
        return table.assign(spent=spent, **asdict(training))


def laboratory(
    folder: str | Path | None = None,
    data: str = "phantom-wh",
    root: str | Path | None = None,
    profile: str | None = None,
    config: JointExperiment | None = None,
    progress: bool = False,
) -> Laboratory:
    """The laboratory of a study: `folder` None is results/joint-space, "phantom" is "phantom-wh", `config` None takes
    the numbers of the profile; what is kept lies in <folder>/<data>_<profile>."""
    data = "phantom-wh" if data in PHANTOM else data
    study = Study.of("joint-space", folder, profile, root, progress)
    one_of("data", data, hearts.DATA)
    config = config or JointExperiment.profile(study.profile)
    return Laboratory(config, study.results / f"{data}_{study.profile}", data, root, progress)


def run_one(method: str, seed: int = 0, fold: int = 0, labelled: int | None = None, **where: Any) -> pd.DataFrame:
    """Train and measure one method from one seed, in a study's folder; several processes may each run other ones.

    Args:
        method: a name of `TRAINED`
        seed: see `Training`
        fold: see `Training`
        labelled: see `Training`
        where: of `laboratory`: folder, data, root, profile, config, progress

    Returns its Dice, a row a (scan, structure). What was done before is read. UsageError where another process is
    training this very one.
    """
    return laboratory(**where).measured(Training(method, seed, fold, labelled))[""]


def run_share(part: int, of: int, **where: Any) -> None:
    """Train and measure a share of a study (`shapelab.experiments.kept_runs.share`); `where`: of `laboratory`."""
    share(laboratory(**where), part, of)


@recipe("joint-space", "CT, MR and label maps in one space (CE-Reg)", (*PHANTOM, "mmwhs"), ships="joint_space")
def _ordered(order: Order) -> JointSpace:
    config = JointExperiment.profile(order.profile)
    numbers, n = config.network, order.hearts or config.shipped
    if order.epochs is not None:
        numbers = replace(numbers, steps=order.epochs * numbers.every)
    if order.data in PHANTOM:
        scans = hearts.phantom_training(n, numbers.grid, order.seed, 0, order.checkpoint)
    else:
        scans = hearts.real_scans(order.data, numbers.grid, order.root)
        scans = scans if order.hearts is None else hearts.few_labelled(scans, n, order.seed)[0]
    data = f"{len(scans)} {order.data} scans of {scans.table['patient'].nunique()} patients"
    return train_joint_space(scans, numbers, order.run, data=data)[0]


def phantom_joint_space(profile: str | None = None, progress: bool = True) -> JointSpace:
    """CE-Reg learned from phantoms in CT and MR (seed 0): shipped weights, or trained now (and kept)."""
    return shipped("joint-space", profile, progress)
