"""`shapelab train`: one network, from a data set to a folder that the library and `shapelab predict` read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from shapelab.data.cohort import Cohort
from shapelab.data.grid import ALIGN, stack_labels
from shapelab.data.scheme import CARDIAC
from shapelab.errors import UsageError
from shapelab.experiments.shipped import TRAINING, TRAINING_SEED, phantom_shapes
from shapelab.profiles import current_profile
from shapelab.spaces.kept import is_kept
from shapelab.training import Run

CHECKPOINTS = "training"  # in the output folder, while a training is under way


@dataclass(frozen=True)
class Order:
    """What `train` was asked for."""

    model: str
    data: str
    root: str | Path | None
    profile: str
    hearts: int | None
    epochs: int | None
    seed: int
    output: Path
    progress: bool

    @property
    def checkpoint(self) -> Path:
        return self.output / CHECKPOINTS

    @property
    def run(self) -> Run:
        return Run(self.checkpoint, seed=self.seed, progress=self.progress)

    @property
    def about(self) -> str:
        """The data, in words."""
        return f"{self.hearts} phantom patients" if self.data == "phantom" else f"data set {self.data}"

    def cohort(self) -> Cohort:
        """The real hearts it learns from: those with label maps."""
        from shapelab.data import open_cohort

        cohort = open_cohort(self.data, root=self.root).filter(lambda s: s.label_source is not None)
        if cohort.scheme != CARDIAC:
            raise UsageError(
                f"data: found {self.data!r} with scheme {cohort.scheme.name!r}; expected one with "
                f"{', '.join(CARDIAC.names)}"
            )
        return cohort if self.hearts is None else cohort.filter(patient=list(cohort.patients[: self.hearts]))


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: `make` trains and saves into the order's output."""

    what: str
    data: tuple[str, ...]
    make: Callable[[Order], None]


def _autoencoder(order: Order) -> None:
    from shapelab.models.acnn import AEConfig, train_autoencoder

    config = AEConfig.profile(order.profile)
    if order.data == "phantom":
        hearts = order.hearts or TRAINING[order.profile][0]
        labels, _ = phantom_shapes(hearts, config.grid, TRAINING_SEED + order.seed, order.progress)
        order = replace(order, hearts=hearts)
    else:
        labels, _ = stack_labels(order.cohort(), config.grid, align=ALIGN, progress=order.progress)
    space, _ = train_autoencoder(
        labels,
        replace(config, epochs=order.epochs or TRAINING[order.profile][1]),
        order.run,
        data=order.about,
    )
    space.save(order.output)


def _tl(order: Order) -> None:
    from shapelab.data.grid import images_on_grid
    from shapelab.experiments.shipped import RANDOMISED, TL_PATIENTS, phantom_autoencoder, phantom_images
    from shapelab.models.acnn import PredictorConfig, train_tl_network

    config = PredictorConfig.profile(order.profile)
    config = replace(config, epochs=order.epochs) if order.epochs else config
    if order.data == "phantom":
        order = replace(order, hearts=order.hearts or TL_PATIENTS[order.profile])
        seed = TRAINING_SEED + order.seed
        images, labels, _ = phantom_images(order.hearts, config.grid, config.factor, seed, RANDOMISED, order.progress)
    else:
        images, labels, _ = images_on_grid(order.cohort(), config.grid, progress=order.progress)
    space, _ = train_tl_network(
        images,
        labels,
        config,
        order.run,
        autoencoder=phantom_autoencoder(order.profile, order.progress),
        data=order.about,
    )
    space.save(order.output)


def _segmentation(method: str) -> Callable[[Order], None]:
    def make(order: Order) -> None:
        from shapelab.experiments.acnn import segmentation as experiment
        from shapelab.spaces import save_network

        config = experiment.SegmentationConfig.profile(order.profile)
        config = replace(config, training=order.hearts or config.training, epochs=order.epochs or config.epochs)
        pairs = experiment.load_pairs(
            order.data, config, order.root, order.checkpoint, order.progress, parts=("training", "validation")
        )
        network, history = experiment.train_method(method, order.seed, pairs, config, order.checkpoint, order.progress)
        save_network(order.output, network, metadata=_facts(order, method, history))

    return make


def _super_resolution(method: str) -> Callable[[Order], None]:
    def make(order: Order) -> None:
        from shapelab.experiments.acnn import super_resolution as experiment
        from shapelab.spaces import save_network

        config = experiment.SuperResolutionConfig.profile(order.profile)
        config = replace(config, train=order.hearts or config.train, epochs=order.epochs or config.epochs)
        network, history = experiment.train_method(
            method, order.seed, order.data, config, order.checkpoint, order.root, order.profile, order.progress
        )
        save_network(order.output, network, task="sr", metadata=_facts(order, method, history))

    return make


def _native(prior: bool) -> Callable[[Order], None]:
    def make(order: Order) -> None:
        from shapelab.experiments.acnn import reality

        options = {"checkpoint": order.checkpoint, "progress": order.progress}
        if order.epochs is not None:
            raise UsageError("epochs: the native network counts training images, not epochs; leave it out")
        if order.data == "phantom":
            changes = {} if order.hearts is None else {"hearts": order.hearts}
            segmenter = reality.train_phantom_native(order.profile, **options, **changes)
        else:
            segmenter = reality.train_on_real(order.cohort(), order.profile, prior, order.seed, **options)
        segmenter.save(order.output)

    return make


def _sslln(method: str) -> Callable[[Order], None]:
    def make(order: Order) -> None:
        from shapelab.experiments.sslln.laboratory import Laboratory, SSLLNExperiment
        from shapelab.spaces import save_network

        numbers = SSLLNExperiment.profile(order.profile)
        network = replace(numbers.network, epochs=order.epochs or numbers.network.epochs)
        numbers = replace(numbers, training=order.hearts or numbers.training, network=network)
        trained = Laboratory(numbers, order.checkpoint, order.seed, order.progress).network(method)
        save_network(order.output, trained, scheme=trained.scheme, metadata=trained.metadata)

    return make


def _facts(order: Order, method: str, history) -> dict:
    return {"method": method, "data": order.data, "profile": order.profile, "seed": order.seed, "final": history.last}


PAIRS, SCANS = ("phantom", "digital_heart"), ("phantom", "acdc", "folder")
RECIPES: dict[str, Recipe] = {
    "autoencoder": Recipe("shape autoencoder (Table V)", SCANS, _autoencoder),
    "tl": Recipe("T-L network (Table IV): codes from images", SCANS, _tl),
    "native": Recipe("segmentation of a scan at its own resolution", SCANS, _native(False)),
    "native-acnn": Recipe("the same with the shape prior (eq. 1)", ("acdc", "folder"), _native(True)),
    "3d-seg": Recipe("sub-pixel segmentation (Fig. 2)", PAIRS, _segmentation("3D-Seg")),
    "3d-seg-maug": Recipe("the same with motion augmentation", PAIRS, _segmentation("3D-Seg-MAug")),
    "acnn-seg": Recipe("sub-pixel segmentation with the shape prior (eq. 1)", PAIRS, _segmentation("ACNN-Seg")),
    "acnn-seg-maug": Recipe("the same with motion augmentation", PAIRS, _segmentation("ACNN-Seg-MAug")),
    "2d-fcn": Recipe("slice by slice (Table I)", PAIRS, _segmentation("2D-FCN")),
    "3d-unet": Recipe("3D U-Net on the upsampled stack (Table I)", PAIRS, _segmentation("3D-UNet")),
    "ae-seg": Recipe("cascade with an autoencoder (Table I)", PAIRS, _segmentation("AE-Seg")),
    "ae-seg-m": Recipe("the same, larger", PAIRS, _segmentation("AE-Seg-M")),
    "sr": Recipe("sub-pixel super-resolution (Fig. 2)", PAIRS, _super_resolution("SR")),
    "acnn-sr": Recipe("the same with the shape prior (eq. 2)", PAIRS, _super_resolution("ACNN-SR")),
    "sslln-hr": Recipe("labels and landmarks of high-resolution volumes", ("phantom",), _sslln("SSLLN-HR")),
    "sslln-lr": Recipe("the same of thick slices", ("phantom",), _sslln("SSLLN-LR")),
    "sr-cnn": Recipe("upsampling first (Table III)", PAIRS, _super_resolution("SR-CNN")),
}


def listing() -> list[tuple[str, str, str]]:
    """(model, what it is, what it can learn from), a row a model."""
    return [(name, r.what, ", ".join(r.data)) for name, r in RECIPES.items()]


def train(
    model: str,
    output: str | Path,
    data: str = "phantom",
    root: str | Path | None = None,
    profile: str | None = None,
    hearts: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Train a model of `RECIPES` and write it to `output`.

    Parameters
    ----------
    model : a name from `listing`
    output : folder; while training it holds the checkpoints, from which a killed run goes on
    data, root : data set and its folder
    profile : numbers; None: what fits this machine
    hearts : patients to learn from (phantoms: the profile's if None; real: all)
    epochs : instead of the profile's
    seed : of everything random
    resume : go on with an interrupted run; without it a folder that holds one is refused, so that nothing is lost

    Raises
    ------
    UsageError : unknown model, data it cannot learn from, a folder that holds something already
    DataError : the data
    """
    if model not in RECIPES:
        raise UsageError(f"model: found {model!r}; expected one of {', '.join(RECIPES)}")
    recipe = RECIPES[model]
    if data not in recipe.data:
        raise UsageError(f"data: found {data!r}; {model} learns from {' or '.join(recipe.data)}")
    output = Path(output)
    if is_kept(output):
        raise UsageError(f"output: found a trained network in {output}; expected an empty folder")
    if (output / CHECKPOINTS).exists() and not resume:
        raise UsageError(
            f"output: found an interrupted training in {output}; go on with it (--resume), or give another folder"
        )
    recipe.make(Order(model, data, root, current_profile(profile), hearts, epochs, int(seed), output, progress))
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    return output
