"""How the methods of the two-stage network's tables are trained and tested, and how that is kept.

    two-stage                    Net1 and Net2, in four steps: both are measured
    3D U-Net                     the paper's baseline on voxels of 2 mm, brought back by B-splines of second order; as
                                 many batches as all four steps have together
    without step 1, 2, 3         the ablation: the batches of the other steps stay as they are
    Net2 alone                   a single stage: Net2 on the image, whole slices, as many batches as all four steps
    end to end                   Table 4: the four steps anew, on all training hearts
    end to end, step 3 alone     likewise, but all batches are of step 3, which trains both networks from scratch
    two-stage, more hearts       three times as many training hearts

One training is a `Training`: method, modality, seed, fold. Each is kept in a folder of its own, so that several
processes may work in one study at once, on other trainings:

    run_one("two-stage", "CT", seed=0, folder="results/two-stage")
    run_share(0, 2, folder="results/two-stage")                     # the first of two processes

Deviations:
    Hearts and folds: see `shapelab.experiments.two_stage.hearts`. Profile `quick` runs one fold and three seeds, where
        the paper runs three folds and names no seed; the ablation, on which the paper prints no number, is of CT, one
        fold, one seed.
    Table 4: "we retrain the networks end-to-end from scratch" may mean the four steps from the first to the last, or
        both networks at once from scratch. "end to end" is the former, since its model "was only trained 12800
        iterations", the number of all four steps; "end to end, step 3 alone" is the latter.
    Batches: the paper names no number for its U-Nets; equal training is ours.
    Curves: of phantoms, a row of the history tells the Dice of hearts that the fold leaves out; of MM-WHS, of the test.
        Nothing is chosen by it: the weights are those of the last batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from shapelab.data.grid import Grid
from shapelab.data.scheme import WHOLE_HEART
from shapelab.data.volumes import Scans
from shapelab.errors import must, one_of, whole
from shapelab.experiments.joint_space.hearts import PHANTOM
from shapelab.experiments.kept_runs import KeptRun, Study, described, kept_network, share, slug
from shapelab.experiments.recipes import Order, recipe
from shapelab.experiments.shipped import shipped
from shapelab.experiments.two_stage import hearts, measures
from shapelab.files import read_csv, write_csv
from shapelab.models.two_stage import (
    TwoStage,
    TwoStageConfig,
    UNet,
    Volume,
    train_two_stage,
    train_unet,
    volumes_of,
)
from shapelab.tensor_files import checksum
from shapelab.training import Config, numbers_of

TWO, UNET = MAIN = ("two-stage", "3D U-Net")
ABLATION = {f"without step {step + 1}": step for step in range(3)}
ALONE, END, JOINTLY, MORE = "Net2 alone", "end to end", "end to end, step 3 alone", "two-stage, more hearts"
METHODS = (*MAIN, *ABLATION, ALONE, END, JOINTLY, MORE)
RETRAINED = (END, JOINTLY)  # Table 4
WITH_ALL = (*RETRAINED, MORE)  # that leave no training heart out
GIVEN = "given label maps"  # beside the networks' own, where it is asked whether they can be hearts
PARTS = ("", "_thin", "_hearts")  # of what is measured, as files end


@dataclass(frozen=True)
class TwoStageExperiment(Config):
    """Numbers of the experiment; the defaults are the quick profile's."""

    training: int = 20  # phantom patients of a modality and seed, as many as the paper's data set has
    more: int = 60  # ... of "two-stage, more hearts"
    shipped: int = 60  # ... of each modality, that the network that ships is learned from
    watched: int = 2  # hearts left out that the curves are of
    test: int = 40  # unseen phantom patients of a modality, of Tables 2 and 3 and again of Table 4
    folds: int = 1  # of four
    seeds: tuple[int, ...] = (0, 1, 2)  # of weights, order, augmentation; of phantoms, the training hearts as well
    methods: tuple[str, ...] = METHODS
    network: TwoStageConfig = field(default_factory=TwoStageConfig)

    PROFILES = {
        "full": {"seeds": (0,), "methods": (*MAIN, END), "network": {}},
        "paper": {"folds": 3, "network": {}},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("training", "more", "shipped", "watched", "test", "folds"):
            whole(f"TwoStageExperiment.{name}", getattr(self, name))
        must(self.folds <= hearts.FOLDS, "TwoStageExperiment.folds", self.folds, f"at most {hearts.FOLDS}")
        must(self.seeds and self.methods, "TwoStageExperiment", "no seeds or no methods", "at least one of both")
        for name in self.methods:
            one_of("TwoStageExperiment.methods", name, METHODS)

    @property
    def grid(self) -> Grid:
        """Of the hearts: the network's voxels over the phantoms' field."""
        return hearts.field(self.network.spacing)


@dataclass(frozen=True)
class Training:
    """One training of the study.

    Attributes:
        method: one of `METHODS`
        modality: "CT" or "MR", which is learned from and tested
        seed: of weights, order, augmentation; of phantoms, the training hearts as well
        fold: which of the training hearts are left out
    """

    method: str
    modality: str = "CT"
    seed: int = 0
    fold: int = 0

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        one_of("modality", self.modality, hearts.MODALITIES)
        whole("seed", self.seed, 0)
        whole("fold", self.fold, 0, hearts.FOLDS - 1)

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{slug(self.method)}-{self.modality.lower()}-fold{self.fold}-seed{self.seed}"

    @property
    def table(self) -> int:
        """Of the paper, whose hearts test it."""
        return 4 if self.method in RETRAINED else {"CT": 2, "MR": 3}[self.modality]


@dataclass(frozen=True)
class Laboratory:
    """Scans, networks and measurements of one data set, kept in a folder.

    Attributes:
        config: numbers
        folder: of what is kept; None: nothing is
        data: one of `hearts.DATA`
        root: folder of the data set
    """

    config: TwoStageExperiment
    folder: Path | None = None
    data: str = "phantom-wh"
    root: str | Path | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        one_of("data", self.data, hearts.DATA)

    def trainings(self, *tables: int) -> list[Training]:
        """All trainings, or those of some tables, in the order of their value."""
        config = self.config
        folds, seeds = range(config.folds), config.seeds
        both = [Training(m, kind, s, f) for kind in hearts.MODALITIES for f in folds for s in seeds for m in MAIN]
        further = [Training(method, seed=seeds[0]) for method in (*ABLATION, ALONE)]
        if self.data == "phantom-wh":
            further += [Training(method, kind, seeds[0]) for method in WITH_ALL for kind in hearts.MODALITIES]
        chosen = [t for t in both + further if t.method in config.methods]
        return [t for t in chosen if not tables or t.table in tables]

    def folder_of(self, training: Training) -> Path | None:
        """Where a training and what was measured of it lie."""
        return None if self.folder is None else self.folder / training.name

    def done(self, training: Training) -> bool:
        """Whether it is trained and measured."""
        folder = self.folder_of(training)
        return folder is not None and all((folder / f"about{part}.json").is_file() for part in PARTS)

    # ----------------------------------------------------------------------------------------------------------- data

    def learned_from(self, training: Training) -> tuple[Scans, Scans | None]:
        """Scans to learn from, and those that the curves are of; None: all are learned from."""
        config, grid = self.config, self.config.grid
        if self.data != "phantom-wh":
            return hearts.fold_of(hearts.real_scans(training.modality, grid, self.root, self.folder), training.fold)
        n = config.more if training.method == MORE else config.training
        scans = hearts.phantom_training(n, training.modality, grid, training.seed, self.folder)
        if training.method in WITH_ALL:
            return scans, None
        learned, left_out = hearts.fold_of(scans, training.fold)
        return learned, left_out[: config.watched]

    def tested_on(self, training: Training) -> Scans:
        """Unseen scans."""
        config = self.config
        if self.data == "phantom-wh":
            return hearts.phantom_test(config.test, training.modality, config.grid, training.table, self.folder)
        test = self.learned_from(training)[1]
        assert test is not None  # real scans are always parted
        return test

    # ------------------------------------------------------------------------------------------------------ trainings

    def config_of(self, training: Training) -> TwoStageConfig:
        """Numbers of its network."""
        network, steps = self.config.network, list(self.config.network.steps)
        if training.method in ABLATION:
            steps[ABLATION[training.method]] = 0
        elif training.method == JOINTLY:
            steps = [0, 0, sum(steps), 0]
        return replace(_with_steps(network, steps), stages=1 if training.method == ALONE else network.stages)

    def network(self, training: Training) -> TwoStage | UNet:
        """Its network: what is kept, or trained now; history.csv lies beside it."""
        scans, watched = self.learned_from(training)
        config, folder, scheme = self.config_of(training), self.folder_of(training), scans.scheme
        validation = None if watched is None else volumes_of(watched)
        data = f"{len(scans)} {self.data} scans in {training.modality}"

        def train(checkpoint: Path | None) -> TwoStage | UNet:
            run, volumes = KeptRun(checkpoint, seed=training.seed, progress=self.progress), volumes_of(scans)
            made: TwoStage | UNet
            if training.method == UNET:
                made, history = train_unet(volumes, config, run, scheme=scheme, validation=validation)
                described(made, "seg", scheme, {"data": data, "seed": training.seed, "final": history.last})
            else:
                made, history = train_two_stage(volumes, config, run, scheme=scheme, validation=validation, data=data)
            if folder is not None:
                write_csv(history.table.reset_index(), folder / "history.csv", digits=7)
            return made

        return kept_network(folder, train, self._key(training, scans))

    def _key(self, training: Training, scans: Scans) -> dict[str, Any]:
        seen = checksum({"images": scans.images, "labels": scans.labels})
        return {**asdict(training), "data": self.data, "network": numbers_of(self.config_of(training)), "scans": seen}

    # --------------------------------------------------------------------------------------------------- measurements

    def measured(self, training: Training) -> dict[str, pd.DataFrame]:
        """Train and measure: part -> table, with the columns training, seed, fold, scan, patient, modality, method (of
        which network: "Net1", "Net2", "Net2 alone", "3D U-Net"); what was done is read.

        "" has the columns of `measures.scored`, "_thin" those of `measures.thin`, "_hearts" those of `measures.judged`
        and seconds (of segmenting the volume).

        DataError where results of another key lie in its folder; UsageError where another process is training it.
        """
        test = self.tested_on(training)
        key = self._key(training, self.learned_from(training)[0])
        key["test"] = checksum({"images": test.images, "labels": test.labels})

        @cache
        def all_parts() -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
            network = self.network(training)
            return self._measure(network, test), self._facts(training, network)

        def make(part: str) -> Callable[[], tuple[dict[str, pd.DataFrame], dict[str, Any]]]:
            return lambda: ({"cases": all_parts()[0][part]}, all_parts()[1])

        study = Study(self.folder_of(training), progress=self.progress)
        about: dict[str, Any] = {"training": training.method, "seed": training.seed, "fold": training.fold}
        return {part: study.kept(key, make(part), part=part)[0]["cases"].assign(**about) for part in PARTS}

    def _measure(self, network: TwoStage | UNet, test: Scans) -> dict[str, pd.DataFrame]:
        """The tables of all parts."""
        found: dict[str, list[pd.DataFrame]] = {part: [] for part in PARTS}
        scheme, spacing = test.scheme, test.grid.spacing
        for scan, volume, label in zip(test.table.index, volumes_of(test), test.labels, strict=True):
            truth, facts = scheme.integers(label), test.table.loc[scan]
            whose: dict[str, Any] = {"scan": scan, "patient": facts["patient"], "modality": facts["modality"]}
            found["_hearts"].append(measures.judged(truth, scheme).assign(method=GIVEN, **whose))
            for method, channels, seconds in _segmented(network, volume):
                made, row = scheme.integers(channels), {**whose, "method": method}
                found[""].append(measures.scored(made, truth, scheme, spacing).assign(**row))
                found["_thin"].append(measures.thin(made, truth, scheme, spacing).assign(**row))
                found["_hearts"].append(measures.judged(made, scheme).assign(seconds=seconds, **row))
        return {part: pd.concat(tables, ignore_index=True) for part, tables in found.items()}

    def _facts(self, training: Training, network: TwoStage | UNet) -> dict[str, Any]:
        """Batches and seconds of the training, those of measuring its curve among them."""
        facts: dict[str, Any] = {"steps": network.config.steps}
        curve = self.curve(training)
        return facts if curve is None else {**facts, "train_seconds": round(float(curve["seconds"].sum()), 1)}

    def curve(self, training: Training) -> pd.DataFrame | None:
        """The history of a training; None: not kept."""
        folder = self.folder_of(training)
        if folder is None or not (folder / "history.csv").is_file():
            return None
        whose = {"training": training.method, "modality": training.modality}
        return read_csv(folder / "history.csv").assign(**whose, seed=training.seed, fold=training.fold)


def _with_steps(network: TwoStageConfig, steps: Iterable[int]) -> TwoStageConfig:
    one, two, three, four = steps
    return replace(network, steps=(one, two, three, four))


def _segmented(network: TwoStage | UNet, volume: Volume) -> Iterator[tuple[str, np.ndarray, float]]:
    """Name in the tables, label map (X, Y, Z) of channel numbers, and seconds, of each of its networks."""
    ways: dict[str, dict[str, int]] = {UNET: {}}
    if isinstance(network, TwoStage):
        ways = {ALONE: {}} if network.config.stages == 1 else {"Net1": {"net": 1}, "Net2": {"net": 2}}
    for method, how in ways.items():
        started = perf_counter()
        made = network.segment(volume, **how)
        yield method, made, perf_counter() - started


def laboratory(
    folder: str | Path | None = None,
    data: str = "phantom-wh",
    root: str | Path | None = None,
    profile: str | None = None,
    config: TwoStageExperiment | None = None,
    progress: bool = False,
) -> Laboratory:
    """The laboratory of a study: `folder` None is results/two-stage, "phantom" is "phantom-wh", `config` None takes the
    numbers of the profile; what is kept lies in <folder>/<data>_<profile>."""
    data = "phantom-wh" if data in PHANTOM else data
    study = Study.of("two-stage", folder, profile, root, progress)
    one_of("data", data, hearts.DATA)
    config = config or TwoStageExperiment.profile(study.profile)
    return Laboratory(config, study.results / f"{data}_{study.profile}", data, root, progress)


def run_one(method: str, modality: str = "CT", seed: int = 0, fold: int = 0, **where: Any) -> pd.DataFrame:
    """Train and measure one method from one seed, in a study's folder; several processes may each run other ones.

    Args:
        method: one of `METHODS`
        modality: see `Training`
        seed: see `Training`
        fold: see `Training`
        where: of `laboratory`: folder, data, root, profile, config, progress

    Returns its agreement, a row a (network, scan, structure). What was done before is read. UsageError where another
    process is training this very one.
    """
    return laboratory(**where).measured(Training(method, modality, seed, fold))[""]


def run_share(part: int, of: int, **where: Any) -> None:
    """Train and measure a share of a study (`shapelab.experiments.kept_runs.share`); `where`: of `laboratory`."""
    share(laboratory(**where), part, of)


@recipe("two-stage", "whole hearts at full resolution in two stages", (*PHANTOM, "mmwhs"), ships="two_stage_wh")
def _ordered(order: Order) -> TwoStage:
    config = TwoStageExperiment.profile(order.profile)
    network, grid, n = config.network, config.grid, order.hearts or config.shipped
    if order.epochs is not None:  # rows of the history, of each step that is not left out
        network = _with_steps(network, (min(steps, order.epochs * network.every) for steps in network.steps))
    volumes: list[Volume] = []
    for modality in hearts.MODALITIES:
        if order.data in PHANTOM:
            scans = hearts.phantom_training(n, modality, grid, order.seed, order.checkpoint)
        else:
            scans = hearts.real_scans(modality, grid, order.root)[: order.hearts]
        volumes += volumes_of(scans)
    data = f"{len(volumes)} {order.data} scans in {' and '.join(hearts.MODALITIES)}"
    made, _ = train_two_stage(volumes, network, order.run, scheme=WHOLE_HEART, data=data)
    made.metadata["modalities"] = list(hearts.MODALITIES)
    return made


def phantom_two_stage(profile: str | None = None, progress: bool = True) -> TwoStage:
    """The two-stage network learned from phantoms in CT and MR (seed 0): shipped weights, or trained now (and kept)."""
    return shipped("two-stage", profile, progress)
