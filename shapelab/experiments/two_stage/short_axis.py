"""Real ACDC in its own voxels: full resolution in two stages, its single-stage twin, and what phantoms save.

    phantoms              two stages, taught by phantom stacks alone: what ships, tested on all real patients
    phantoms, one stage   the same of the twin
    two-stage             begins from the weights of "phantoms" and learns from real patients
    one stage             Net2 alone on whole slices, from "phantoms, one stage", as many batches in all
    two-stage, scratch    as "two-stage", from random weights

Five folds by patient: a fifth is tested, the others are learned from. Few patients: so many of those that fold 0 learns
from, drawn by seed, the fewer among the more, tested on fold 0's. ACDC holds one scan twice, outlined by two people
(`TWINS`): whoever is tested, the other is not learned from.

One training is a `Training`; each is kept in a folder of its own, so that several processes may work at once:

    run_one("two-stage", fold=1, folder="results/two-stage")
    run_share(0, 2, folder="results/two-stage")                   # the first of two processes

A training that begins from phantoms makes these first, or waits while another process does.

Nothing is chosen by real test scans: the weights are those of the last step. Curves are of some test stacks.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from shapelab.data.cohort import Cohort
from shapelab.data.geometry import bounding_box
from shapelab.data.grid import Grid, to_grid
from shapelab.data.orientation import canonical
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import must, need, one_of, whole
from shapelab.experiments.acnn.reality import REAL, TRAINING_SEED, TWINS, phantom_stacks
from shapelab.experiments.joint_space.hearts import FOLDS, patients_in_order
from shapelab.experiments.kept_runs import KeptRun, Study, kept_network, opened, share, slug
from shapelab.experiments.recipes import Order, recipe
from shapelab.experiments.shipped import cardiac_cohort, shipped
from shapelab.files import only_one, read_csv, write_csv
from shapelab.metrics import evaluate, plausibility
from shapelab.models.native import Segmenter, segment
from shapelab.models.two_stage import (
    TwoStage,
    TwoStageConfig,
    Volume,
    short_axis_config,
    train_two_stage,
    volume_of,
)
from shapelab.phantoms.randomise import Randomisation
from shapelab.places import weights_of
from shapelab.profiles import current_profile
from shapelab.spaces.kept import is_kept
from shapelab.tensor_files import checksum
from shapelab.training import Config, Run, numbers_of

SHIPPED = "two_stage_sa"  # its folder under data/weights, before the profile's name
#: Profile -> how long real patients are learned from, and how many stacks a batch has.
REAL_STEPS: dict[str, dict[str, Any]] = {"quick": {"steps": (50, 250, 100, 1500), "batch": (3, 4)}}
FIELD_PX = 176  # of a phantom stack, in plane
MEAN = "mean"  # of the structures, in a row of its own
MEASURES = ("dice", "hd", "hd95", "assd")
ENDS = ("base", "apex")


@dataclass(frozen=True)
class Method:
    """What a name of the tables means.

    Attributes:
        stages: 2, or 1: the twin
        start: the method whose weights it begins from; None: random ones
        real: it learns from real patients, else from phantoms
    """

    stages: int = 2
    start: str | None = None
    real: bool = True


PHANTOMS, PHANTOMS_ONE = "phantoms", "phantoms, one stage"
TWO_STAGE, ONE_STAGE, SCRATCH = "two-stage", "one stage", "two-stage, scratch"
METHODS = {
    TWO_STAGE: Method(start=PHANTOMS),
    ONE_STAGE: Method(1, start=PHANTOMS_ONE),
    SCRATCH: Method(),
    PHANTOMS: Method(real=False),
    PHANTOMS_ONE: Method(1, real=False),
}


@dataclass(frozen=True)
class ShortAxisExperiment(Config):
    """Numbers of the experiment; the defaults are the quick profile's."""

    hearts: int = 300  # phantom patients, ED and ES each, of those of the native network
    taught: tuple[int, int, int, int] | None = None  # batches of each step, of phantoms; None: the profile's
    few: tuple[int, int, int, int] = (50, 200, 100, 600)  # ... of few real patients
    folds: int = FOLDS
    seeds: tuple[int, ...] = (0, 1, 2)  # of few patients, and of weights, order, looks; the folds take the first
    patients: tuple[int, ...] = (5, 10, 20, 60)
    watched: int = 4  # test stacks whose Dice is in the curves
    looks: Randomisation = replace(REAL, missing=0.0)  # of real stacks: they need less of other ones than phantoms do
    network: TwoStageConfig = field(default_factory=lambda: short_axis_config("quick", **REAL_STEPS["quick"]))

    @classmethod
    def profile(cls, name: str | None = None, **changes: Any) -> Self:
        """As `Config.profile`; the network's numbers are those of short-axis stacks."""
        name = current_profile(name)
        return super().profile(name, **{"network": short_axis_config(name, **REAL_STEPS.get(name, {})), **changes})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hearts", "folds", "watched"):
            whole(f"ShortAxisExperiment.{name}", getattr(self, name))
        must(self.folds <= FOLDS, "ShortAxisExperiment.folds", self.folds, f"at most {FOLDS}")
        must(self.seeds and min(self.patients, default=1) > 0, "ShortAxisExperiment", vars(self), "seeds; patients > 0")


@dataclass(frozen=True)
class Training:
    """One training of the study.

    Attributes:
        method: a name of `METHODS`
        seed: of weights, order, looks; of few patients, which ones
        fold: which patients are tested
        patients: how many are learned from; None: all of the fold's
    """

    method: str
    seed: int = 0
    fold: int = 0
    patients: int | None = None

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        whole("seed", self.seed, 0)
        whole("fold", self.fold, 0, FOLDS - 1)
        if self.patients is not None:
            whole("patients", self.patients)
        own = self.how.real or (self.fold, self.patients) == (0, None)
        must(own, "Training", self, "no fold and no real patients where phantoms alone are learned from")

    @property
    def how(self) -> Method:
        return METHODS[self.method]

    @property
    def name(self) -> str:
        """Of its folder."""
        few = "" if self.patients is None else f"-{self.patients}-patients"
        fold = f"-fold{self.fold}" if self.how.real else ""
        return f"{slug(self.method)}{few}{fold}-seed{self.seed}"


# ---------------------------------------------------------------------------------------------------------------- data


def fold_of(cohort: Cohort, fold: int) -> tuple[Cohort, Cohort]:
    """Those that are learned from, and a fifth of the patients that is tested, stratified by group. The twin of a
    tested scan is not learned from."""
    tested = np.array_split(patients_in_order(cohort.table), FOLDS)[whole("fold", fold, 0, FOLDS - 1)].tolist()
    aside = {*tested, *(TWINS if set(TWINS) & set(tested) else ())}
    return cohort.filter(lambda s: s.patient not in aside), cohort.filter(lambda s: s.patient in tested)


def few_patients(cohort: Cohort, n: int, seed: int) -> Cohort:
    """n patients drawn by a seed, of each group about its share; those of a smaller n are among those of a larger."""
    order = patients_in_order(cohort.table, seed)
    must(n <= len(order), "patients", n, f"at most {len(order)}, as there are")
    return cohort.filter(patient=order[:n])


def short_axis_volumes(
    cohort: Cohort, config: TwoStageConfig, about_heart: bool = False, progress: bool = False
) -> list[Volume]:
    """Stacks as the network takes them: canonical order, at the in-plane spacing of `config`, slices as they are, the
    whole image's percentiles 1 and 99 at -1 and 1.

    Args:
        about_heart: to learn from: the field that Net1 sees and a tenth more on each side to move in, with the heart in
            its middle; False: whole images
    """
    found = []
    for subject in tqdm(cohort, desc=cohort.name, disable=not progress, leave=False):
        need(subject.image_source is not None, subject.where, "no image", "one of each stack")
        subject, _ = canonical(subject)
        heart = subject.label is not None and subject.label.any()
        need(heart or not about_heart, subject.where, "nothing labelled", "an outlined heart")
        spacing = np.array([*config.spacing[:2], subject.spacing[2]])
        shape = np.ceil(np.array(subject.shape) * subject.spacing / spacing - 1e-6)
        sample = to_grid(subject, Grid(shape, spacing), centre="volume")
        label = None if sample.label is None else cohort.scheme.channels(sample.label)
        volume = volume_of(np.asarray(sample.image), spacing, label)
        found.append(_about_heart(volume, config.field + 2 * (config.field // 10)) if about_heart else volume)
    return found


def _about_heart(volume: Volume, pixels: int) -> Volume:
    """A square of so many pixels about what is labelled; dark where the image ends."""
    label = np.asarray(volume.label)
    arrays = {"image": volume.image, "label": label}
    for axis, side in enumerate(bounding_box(np.asarray(label.any(2))) or ()):
        start, n = (side.start + side.stop - pixels) // 2, label.shape[axis]
        beyond = np.zeros((3, 2), int)
        beyond[axis] = max(0, -start), max(0, start + pixels - n)
        cut = [slice(None)] * 3
        cut[axis] = slice(max(0, start), max(0, start) + pixels)
        for name, dark in (("image", -1), ("label", 0)):
            arrays[name] = np.pad(arrays[name], beyond, constant_values=dark)[tuple(cut)]
    return Volume(arrays["image"], arrays["label"], volume.spacing)


def phantom_volumes(
    hearts: int, config: TwoStageConfig, seed: int = TRAINING_SEED, progress: bool = False
) -> list[Volume]:
    """Stacks of phantom patients, ED and ES: the hearts that the native network learns from, drawn at the in-plane
    spacing of `config`. Tissues are those of BIVENTRICULAR, as the looks of a training take them."""
    in_plane = config.spacing[0]
    stacks = phantom_stacks(hearts, in_plane, seed, progress, FIELD_PX)
    return [volume_of(image, (in_plane, in_plane, distance), label) for image, label, distance in stacks]


# ------------------------------------------------------------------------------------------------------------ measures


def measured_on(segmenter: Segmenter, cohort: Cohort, progress: bool = False) -> pd.DataFrame:
    """One row a stack and structure, and one of the mean over structures (`MEAN`), in the scan's own voxels.

    Columns: those of `scored`; subject, patient, phase, group; of the stack seconds, violations and plausible
    (`shapelab.metrics.plausibility`).
    """
    parts = []
    for subject in tqdm(cohort, desc=f"on {cohort.name}", disable=not progress, leave=False):
        started = perf_counter()
        prediction, _ = segment(segmenter, subject)
        seconds, found = perf_counter() - started, plausibility(prediction, cohort.scheme)
        about = {"subject": subject.id, "patient": subject.patient, "phase": subject.fact("phase")}
        about |= {"group": subject.fact("group"), "seconds": seconds}
        about |= {name: found[name] for name in ("violations", "plausible")}
        parts.append(scored(prediction, subject).assign(**about))
    return pd.concat(parts, ignore_index=True)


def scored(prediction: np.ndarray, subject: Subject) -> pd.DataFrame:
    """A label map in the subject's own voxels against the subject's own.

    Columns: structure; dice; hd, hd95, assd (mm, inf where it was missed); volume, volume_truth (ml); missed;
    dice_base, dice_apex: Dice in the first and the last slice, from base to apex, in which the observer drew anything
    (NaN where neither map has the structure there). `MEAN`: of the measures, volumes NaN, missed if any is.
    """
    scheme, label = subject.scheme, subject.label
    assert label is not None  # the cohort's hearts are outlined
    found = evaluate(prediction, label, subject.spacing, labels=list(scheme.values))
    whole_stack, turn = canonical(subject.with_(image=None, label=label), from_base=True)
    truth, made = np.asarray(whole_stack.label), turn.canonical(prediction)
    drawn = np.flatnonzero(truth.any((0, 1)))
    rows = []
    for structure in scheme.structures:
        row = {"structure": structure.name, **found.loc[structure.value].drop("jaccard")}
        for end, z in zip(ENDS, (drawn[0], drawn[-1]), strict=True):
            a, b = (m[:, :, z] == structure.value for m in (made, truth))
            row[f"dice_{end}"] = 2 * (a & b).sum() / (a.sum() + b.sum()) if (a | b).any() else np.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    means = table[[*MEASURES, *(f"dice_{end}" for end in ENDS)]].astype(float).mean()
    return pd.concat(
        [table, pd.DataFrame([{"structure": MEAN, **means, "missed": table["missed"].any()}])], ignore_index=True
    )


# ---------------------------------------------------------------------------------------------------------- laboratory


@dataclass(frozen=True)
class Laboratory:
    """Patients, networks and measurements, kept in a folder.

    Attributes:
        config: numbers
        folder: of what is kept; None: nothing is
        root: folder of ACDC
        profile: whose weights ship
    """

    config: ShortAxisExperiment
    folder: Path | None = None
    root: str | Path | None = None
    profile: str = "quick"
    progress: bool = False

    @cached_property
    def cohort(self) -> Cohort:
        """ED and ES of all patients."""
        return cardiac_cohort("acdc", self.root)

    @cached_property
    def volumes(self) -> dict[str, Volume]:
        """Subject -> its stack, as a network learns from it."""
        made = short_axis_volumes(self.cohort, self.config.network, about_heart=True, progress=self.progress)
        return dict(zip(self.cohort.ids, made, strict=True))

    def trainings(self) -> list[Training]:
        """All trainings, those of most value first: what phantoms teach, the folds of both methods, then few patients
        with and without it (one seed, then the others), and at last the folds from scratch."""
        folds, (first, *others) = range(self.config.folds), self.config.seeds
        few = [
            Training(method, seed, 0, n)
            for seed in (first, *others)
            for n in self.config.patients
            for method in (TWO_STAGE, SCRATCH)
        ]
        now = 2 * len(self.config.patients)
        scratch = [Training(SCRATCH, first, fold) for fold in folds]
        return [
            *(Training(method, first) for method in (PHANTOMS, PHANTOMS_ONE)),
            *(Training(method, first, fold) for method in (TWO_STAGE, ONE_STAGE) for fold in folds),
            *(*few[:now], scratch[0], *few[now:], *scratch[1:]),
        ]

    def folder_of(self, training: Training) -> Path | None:
        """Where a training and what was measured of it lie."""
        return None if self.folder is None else self.folder / training.name

    def done(self, training: Training) -> bool:
        """Whether it is trained and measured."""
        folder = self.folder_of(training)
        return folder is not None and (folder / "about.json").is_file()

    def learned_from(self, training: Training) -> Cohort:
        """Real patients."""
        train, _ = fold_of(self.cohort, training.fold)
        return train if training.patients is None else few_patients(train, training.patients, training.seed)

    def tested_on(self, training: Training) -> Cohort:
        """Patients that it has not seen: of what phantoms taught, all."""
        return fold_of(self.cohort, training.fold)[1] if training.how.real else self.cohort

    def config_of(self, training: Training) -> TwoStageConfig:
        """Numbers of its network; the twin takes as many batches in all."""
        network = self.config.network
        numbers: dict[str, Any] = {"steps": network.steps, "looks": self.config.looks}
        if not training.how.real:
            usual = short_axis_config(self.profile)
            numbers = {"steps": self.config.taught or usual.steps, "batch": usual.batch}
        elif training.patients is not None:
            numbers["steps"] = self.config.few
        return replace(network, stages=training.how.stages, **numbers)

    def network(self, training: Training) -> TwoStage:
        """What is kept, or trained now; history.csv lies beside it."""
        folder = self.folder_of(training)
        alone = nullcontext() if folder is None else only_one("training", folder, wait=not training.how.real)
        with alone:
            return kept_network(folder, lambda at: self._trained(training, at), self._key(training))

    def _trained(self, training: Training, checkpoint: Path | None) -> TwoStage:
        config = self.config_of(training)
        run = KeptRun(checkpoint, seed=training.seed, progress=self.progress)
        if not training.how.real:
            ships = weights_of(f"{SHIPPED}_{self.profile}")
            about = {"data": _about_phantoms(self.config.hearts), "seed": training.seed}
            if is_kept(ships) and (made := opened(ships)).config == config and about.items() <= made.metadata.items():
                return made
            made, history = _from_phantoms(self.config.hearts, config, run)
        else:
            learned, watched = self.learned_from(training), self.tested_on(training)[: self.config.watched]
            train, test = ([self.volumes[name] for name in part.ids] for part in (learned, watched))
            begun = None if training.how.start is None else self.network(self._start(training))
            more: dict[str, Any] = {"scheme": CARDIAC, "start": begun, "validation": test, "data": repr(learned)}
            made, history = train_two_stage(train, config, run, **more)
        if checkpoint is not None:
            write_csv(history.table.reset_index(), checkpoint.parent / "history.csv", digits=7)
        return made

    def _start(self, training: Training) -> Training:
        assert training.how.start is not None
        return Training(training.how.start, self.config.seeds[0])

    def _key(self, training: Training) -> dict[str, Any]:
        key: dict[str, Any] = {**asdict(training), "network": numbers_of(self.config_of(training))}
        if not training.how.real:
            return {**key, "hearts": self.config.hearts, "phantoms": TRAINING_SEED}
        names, parts = self.learned_from(training).ids, ("image", "label")
        key["scans"] = checksum({f"{n} {part}": getattr(self.volumes[n], part) for n in names for part in parts})
        return {**key, "start": None if training.how.start is None else self._key(self._start(training))}

    def measured(self, training: Training) -> pd.DataFrame:
        """Train and measure: `measured_on` with the columns method, seed, fold, patients; what was done is read.

        DataError where results of another key lie in its folder; UsageError where another process is training it.
        """
        test = self.tested_on(training)

        def make() -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
            made = self.network(training)
            facts: dict[str, Any] = {"parameters": sum(p.numel() for p in made.net.parameters())}
            if (curve := self.curve(training)) is not None:
                facts["train_seconds"] = round(float(curve["spent"].iloc[-1]), 1)
            return {"cases": measured_on(made, test, self.progress)}, facts

        key = {**self._key(training), "test": list(test.ids)}
        cases, _ = Study(self.folder_of(training), progress=self.progress).kept(key, make)
        return cases["cases"].assign(**asdict(training))

    def curve(self, training: Training) -> pd.DataFrame | None:
        """The history of a training with `spent`, seconds without those of validation, summed up; None: not kept."""
        folder = self.folder_of(training)
        if folder is None or not (folder / "history.csv").is_file():
            return None
        table = read_csv(folder / "history.csv")
        watching = table["val seconds"].fillna(0) if "val seconds" in table else 0
        return table.assign(spent=(table["seconds"] - watching).cumsum(), **asdict(training))


def laboratory(
    folder: str | Path | None = None,
    root: str | Path | None = None,
    profile: str | None = None,
    config: ShortAxisExperiment | None = None,
    progress: bool = False,
) -> Laboratory:
    """The laboratory of a study: `folder` None is results/two-stage, `config` None takes the numbers of the profile;
    what is kept lies in <folder>/acdc_<profile>."""
    study = Study.of("two-stage", folder, profile, root, progress)
    config = config or ShortAxisExperiment.profile(study.profile)
    return Laboratory(config, study.results / f"acdc_{study.profile}", root, study.profile, progress)


def run_one(method: str, seed: int = 0, fold: int = 0, patients: int | None = None, **where: Any) -> pd.DataFrame:
    """Train and measure one method, in a study's folder; several processes may each run other ones.

    Args:
        method: a name of `METHODS`
        seed: see `Training`
        fold: see `Training`
        patients: see `Training`
        where: of `laboratory`: folder, root, profile, config, progress

    Returns its cases, see `measured_on`. What was done before is read. UsageError where another process is training
    this very one.
    """
    return laboratory(**where).measured(Training(method, seed, fold, patients))


def run_share(part: int, of: int, **where: Any) -> None:
    """Train and measure a share of a study (`shapelab.experiments.kept_runs.share`); `where`: of `laboratory`."""
    share(laboratory(**where), part, of)


# ------------------------------------------------------------------------------------------------------------- recipe


def _about_phantoms(hearts: int) -> str:
    return f"{hearts} phantom hearts, ED and ES, seed {TRAINING_SEED}"


def _from_phantoms(hearts: int, config: TwoStageConfig, run: Run) -> tuple[TwoStage, Any]:
    volumes = phantom_volumes(hearts, config, progress=run.progress)
    return train_two_stage(volumes, config, run, scheme=CARDIAC, data=_about_phantoms(hearts))


@recipe("two-stage-sa", "short-axis stacks at full resolution, in two stages", CARDIAC, ships=SHIPPED)
def _ordered(order: Order) -> TwoStage:
    must(order.epochs is None, "epochs", order.epochs, "none: the two-stage network counts batches")
    here = Laboratory(ShortAxisExperiment.profile(order.profile), None, order.root, order.profile, order.progress)
    if order.data == "phantom":
        config = here.config_of(Training(PHANTOMS))
        return _from_phantoms(order.hearts or here.config.hearts, config, order.run)[0]
    config, cohort = here.config_of(Training(TWO_STAGE)), order.cohort()
    start = phantom_short_axis(order.profile, order.progress)
    volumes = short_axis_volumes(cohort, config, about_heart=True, progress=order.progress)
    return train_two_stage(volumes, config, order.run, scheme=CARDIAC, start=start, data=repr(cohort))[0]


def phantom_short_axis(profile: str | None = None, progress: bool = True) -> TwoStage:
    """The two-stage network for short-axis stacks learned from phantoms (seed 0): shipped weights, or trained now (and
    kept)."""
    return shipped("two-stage-sa", profile, progress)
