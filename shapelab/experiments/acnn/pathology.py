"""Pathology from shape codes: the last experiment of the ACNN paper (section III-F), with its controls.

The paper: codes of 60 ACDC patients (NOR, DCM, HCM), an ensemble of decision trees, 10-fold cross-validation. Accuracy
with T-L codes .833 (ED) and .916 (ED + ES); with PCA codes of the same size .766 and .866.

Here: 80 of ACDC's training patients, or phantoms; three groups and all five; repeated stratified 10-fold cross-
validation by patient; and beside the autoencoder's codes, PCA codes, volumes + ejection fractions, shuffled labels
and random codes. T-L codes come in two forms: from label maps by the encoder, as the paper collects them, and from
images by the predictor, which an autoencoder cannot do. Deviations from the paper: 80 patients of five groups instead
of 60 of three; label maps have an RV cavity, the paper's hold "LV blood-pool and myocardium"; with ED + ES the
difference of the two codes is a feature, too; which hearts the paper's T-L network learned from is not said, ours are
phantoms; its PCA was fitted to "the same segmentation images" that it describes, ours never is.

No space has seen a test patient: PCA and autoencoder are fitted anew in each fold, on the shapes of all patients
outside it (of any group: disease labels play no part). The autoencoder starts from weights learned on phantoms. A
second autoencoder is those weights as they are, and the T-L network was learned from phantoms, too: they never saw a
real heart. Nothing is chosen by the score: numbers of the model are the profile's, fixed on phantoms.

"From images" says where the codes come from; where the heart lies and how it is turned in the plane still comes from
the label map. "Images alone": position and direction, too, come from the image, by the native segmentation network
(`shapelab.experiments.acnn.reality`), which has seen phantoms only. No observer has touched these codes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shapelab.data.cohort import Cohort
from shapelab.data.grid import images_on_grid, stack_labels
from shapelab.data.rows import in_order
from shapelab.data.scheme import CARDIAC
from shapelab.errors import must
from shapelab.experiments.acnn.reality import phantom_native, predicted_poses
from shapelab.experiments.kept_runs import KeptRun, Study
from shapelab.experiments.shipped import cardiac_cohort, fit_pca, phantom_autoencoder, phantom_tl
from shapelab.experiments.tables import printed
from shapelab.latent.classification import CrossValidation, classification_report
from shapelab.latent.codes import code_array, code_columns, codes_table
from shapelab.latent.features import FixedFeatures, FoldFeatures, SpaceFeatures
from shapelab.latent.results import ClassificationResult
from shapelab.metrics import dice_table
from shapelab.metrics.clinical import cardiac_indices
from shapelab.models.acnn import AESpace, train_autoencoder
from shapelab.spaces.contract import ShapeSpace
from shapelab.training import Config

THREE = ("NOR", "DCM", "HCM")
#: Of the table of accuracies, the first.
COLUMNS = (
    *("groups", "features", "phases", "model", "accuracy", "low", "high"),
    *("balanced_accuracy", "p", "chance", "paper"),
)
PHASES = (("ED",), ("ED", "ES"))


@dataclass(frozen=True)
class PathologyConfig(Config):
    """Numbers of the experiment; the autoencoder's own are `AEConfig`'s."""

    model: str = "forest"  # decided beforehand; the other ensembles are shown beside it
    others: tuple[str, ...] = ("extra", "boosting")
    n_splits: int = 10  # as the paper
    n_repeats: int = 2  # the autoencoder is trained n_splits x n_repeats times
    permutations: int = 99  # smallest p: .01
    epochs: int = 15  # of the autoencoder in each fold, from phantom weights
    phantoms: int = 100  # patients, where the data are phantoms

    PROFILES = dict.fromkeys(("full", "paper"), {"n_repeats": 10, "permutations": 999, "epochs": 100})


@dataclass(frozen=True, eq=False)
class PathologyResult:
    """`table`: accuracies, one row per (groups, features, phases, model); `reconstruction`: Dice of held-out patients,
    one row per (features, structure); `agreement`: how well T-L codes are predicted from images, see `code_agreement`;
    `reports`: groups -> `ClassificationResult` of the main model."""

    table: pd.DataFrame
    reconstruction: pd.DataFrame
    agreement: pd.DataFrame
    reports: dict[str, ClassificationResult]


def run(
    data: str = "phantom",
    root: str | Path | None = None,
    groups: Sequence[str] | None = None,
    profile: str | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run the experiment and write its tables; returns the table of accuracies.

    Args:
        data: "acdc" or "phantom"
        root: folder of the data set; None looks under SHAPELAB_DATA
        groups: those to tell apart; None does NOR, DCM, HCM and then all five
        profile: "quick", "full" or "paper"; None: the current one
        seed: of folds, trees, training, and of the phantom patients
        output: folder for pathology_<data>.csv, ..._reconstruction.csv, ..._agreement.csv (of codes from images and
            from labels), ..._predictions.csv, ....json and the codes of each fold, from which an interrupted run goes
            on; None is ``results/pathology``

    Returns:
        DataFrame: groups, features, phases, model, accuracy, low, high (95 %), balanced_accuracy, p, chance, paper (its
        accuracy, where it has one), n_patients, n_features, n_repeats, saw_test_shapes
    """
    return run_whole(data, groups, seed, root=root, profile=profile, output=output, progress=progress).table


def run_whole(
    data: str = "phantom",
    groups: Sequence[str] | None = None,
    seed: int = 0,
    config: PathologyConfig | None = None,
    poses: Mapping[str, np.ndarray] | None = None,
    refit: bool = True,
    **options: Any,
) -> PathologyResult:
    """As `run`, with everything that came out.

    Args:
        config: instead of the profile's numbers
        poses: subject id -> label map that says where the heart is (see `images_on_grid`), for the codes from images
            alone; None: as the native network learned from phantoms segments them
        refit: False leaves out the spaces that are fitted in each fold, which take most of the time
        options: root, profile, output, progress, as `run`'s
    """
    study = Study.of("pathology", **options)
    profile, progress = study.profile, study.progress
    config = config or PathologyConfig.profile(profile)
    cohort = cardiac_cohort(data, study.root, seed, config.phantoms, images=True)
    group_sets = _group_sets(groups, cohort)
    space, tl = phantom_autoencoder(profile, progress), phantom_tl(profile, progress)
    labels, table = stack_labels(cohort, space, progress=progress)
    images, _, _ = images_on_grid(cohort, tl.grid, progress=progress)
    poses, not_found = (poses, []) if poses is not None else _poses(cohort, profile, progress)
    alone, _, _ = images_on_grid(cohort, tl.grid, poses, progress)
    spaces = _spaces_of_folds(labels, table, space, config, seed, study) if refit else {}
    fixed = {
        "T-L codes, images alone": codes_table(tl.encode_images(alone), table),
        "T-L codes, from images": codes_table(tl.encode_images(images), table),
        "T-L codes, from labels": codes_table(tl.encode(labels), table),
        "AE codes, phantoms only": codes_table(space.encode(labels), table),
    }
    features: dict[str, FoldFeatures] = {**spaces, **{name: FixedFeatures(c, False) for name, c in fixed.items()}}
    reports, tables = _reports(features, group_sets, cardiac_indices(cohort), config, seed, progress)

    rebuilt = {
        "T-L codes, from images": dice_table(tl.segment(images), labels, tl.scheme).add_prefix("dice "),
        "T-L codes, from labels": reconstruction_dice(tl, labels),
        "AE codes, phantoms only": reconstruction_dice(space, labels),
    }
    result = PathologyResult(
        table=_with_paper(tables),
        reconstruction=_held_out_dice(spaces, rebuilt, table.index, reports),
        agreement=code_agreement(fixed["T-L codes, from images"], fixed["T-L codes, from labels"]),
        reports=reports,
    )
    about = {
        "data": data,
        "cohort": repr(cohort),
        "profile": profile,
        "seed": seed,
        "config": asdict(config),
        "autoencoder": asdict(space.config),
        "predictor": asdict(tl.config),
        "poses not found": not_found,
        "phantom weights": space.metadata,
        "T-L weights": tl.metadata,
    }
    written = {
        "": result.table,
        "_reconstruction": result.reconstruction,
        "_agreement": result.agreement.reset_index(),
        "_predictions": pd.concat([r.predictions.assign(groups=g) for g, r in result.reports.items()]),
    }
    study.write(f"pathology_{data}", written, about, digits=6)
    return result


def _poses(cohort: Cohort, profile: str, progress: bool) -> tuple[dict[str, np.ndarray], list[str]]:
    """Label maps that the native network makes of the images; and the subjects in which it misses a structure, which
    get their own label map instead."""
    poses = predicted_poses(phantom_native(profile, progress), cohort, progress)
    missing = [s for s in cohort if not np.isin(CARDIAC.values, poses[s.id]).all()]
    own = {s.id: s.label for s in missing}
    return {**poses, **{name: label for name, label in own.items() if label is not None}}, list(own)


def _reports(
    features: Mapping[str, FoldFeatures],
    group_sets: Mapping[str, tuple[str, ...]],
    indices: pd.DataFrame,
    config: PathologyConfig,
    seed: int,
    progress: bool,
) -> tuple[dict[str, ClassificationResult], pd.DataFrame]:
    """Groups -> report of the main model; and the tables of all models as one."""
    controls = ("volumes", "shuffled", "random")
    main = CrossValidation(config.n_splits, config.n_repeats, config.permutations, seed, n_jobs=-1, progress=progress)
    reports: dict[str, ClassificationResult] = {}
    tables = []
    for name, kept in group_sets.items():
        others = list(config.others), replace(main, permutations=0, importances=False)
        for models, how in ((config.model, main), others):
            if models:
                one = classification_report(
                    features,
                    "group",
                    models,
                    list(PHASES),
                    groups=kept,
                    controls=controls,
                    indices=indices,
                    settings=how,
                )
                reports.setdefault(name, one)
                tables.append(one.table.assign(groups=name))
    return reports, pd.concat(tables, ignore_index=True)


def _spaces_of_folds(
    labels: np.ndarray, table: pd.DataFrame, space: AESpace, config: PathologyConfig, seed: int, study: Study
) -> dict[str, SpaceFeatures]:
    """The two spaces that are fitted anew in each fold."""
    anew = partial(SpaceFeatures, labels, table, seed=seed, with_others=True, measure=reconstruction_dice)
    cache = study.results / "folds"
    return {
        "AE codes": anew(
            _fine_tuning(space, config, cache, study.progress),
            cache=cache,
            cache_key=f"AE|{study.profile}|{config.epochs}|{space.metadata}",
        ),
        "PCA codes": anew(lambda shapes, _: fit_pca(shapes, space.grid, space.n_codes)),
    }


def _group_sets(groups: Sequence[str] | None, cohort: Cohort) -> dict[str, tuple[str, ...]]:
    """Name -> groups. The name is what the table shows."""
    present = tuple(dict.fromkeys(cohort.table["group"].dropna()))
    sets = [THREE, present] if set(THREE) < set(present) else [present]
    if groups is not None:
        known = set(groups) <= set(present) and len(set(groups)) > 1
        must(known, "groups", list(groups), f"two or more of {sorted(present)}")
        sets = [tuple(groups)]
    return {"/".join(s): s for s in sets}


def _fine_tuning(
    space: AESpace, config: PathologyConfig, cache: Path, progress: bool
) -> Callable[[np.ndarray, int], AESpace]:
    """make_space for `SpaceFeatures`: the phantom space, trained on with the shapes of one fold's patients."""

    def make(shapes: np.ndarray, seed: int) -> AESpace:
        checkpoint = cache / f"training-{seed:08x}"
        settings = replace(space.config, epochs=config.epochs)
        fitted, _ = train_autoencoder(
            shapes, settings, KeptRun(checkpoint, seed=seed, progress=progress), scheme=space.scheme, init=space
        )
        shutil.rmtree(checkpoint, ignore_errors=True)  # the fold's codes are kept; its weights are 11 MB
        return fitted

    return make


def reconstruction_dice(space: ShapeSpace, labels: np.ndarray) -> pd.DataFrame:
    """Dice of each label map (N, X, Y, Z) with its reconstruction; columns ``dice <structure>``."""
    made = [
        space.scheme.integers(space.decode(space.encode(labels[i : i + 16])).argmax(1))
        for i in range(0, len(labels), 16)
    ]
    return dice_table(np.concatenate(made), labels, space.scheme).add_prefix("dice ")


def code_agreement(images: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """How well the codes read from images are those of the label maps, one row a dimension.

    Args:
        images: Codes tables of the same subjects, matched by their ids
        labels: see `images`

    Returns:
        DataFrame, index = code column; r (Pearson), explained (1 - mean squared error / variance of the labels' code;
        less than r^2 where scale or mean is off), sd of both, share (of the variance of all the labels' codes)
    """
    images = in_order("code_agreement", images, labels.index)
    read, true = code_array(images).astype(float), code_array(labels).astype(float)
    alike = code_columns(images) == code_columns(labels) and len(read) >= 3
    must(alike, "code_agreement", f"codes {read.shape} and {true.shape}", "the same, of 3 or more")
    variance = true.var(0)
    product = ((read - read.mean(0)) * (true - true.mean(0))).mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "r": product / np.sqrt(read.var(0) * variance),
            "explained": 1 - np.square(read - true).mean(0) / variance,
            "sd images": read.std(0),
            "sd labels": true.std(0),
            "share": variance / variance.sum(),
        }
    return pd.DataFrame(columns, index=pd.Index(code_columns(labels), name="column"))


def _held_out_dice(
    spaces: Mapping[str, SpaceFeatures],
    rebuilt: Mapping[str, pd.DataFrame],
    index: pd.Index,
    reports: dict[str, ClassificationResult],
) -> pd.DataFrame:
    """Mean and sd over held-out subjects of the Dice on the grid, each space fitted without them.

    Args:
        rebuilt: features -> Dice of each subject (`index`), columns ``dice <structure>``, of spaces that never saw them
    """
    folds = next(reversed(reports.values())).folds  # of the largest set of groups
    rows = {name: pd.concat([one.measured(train, test) for train, test in folds]) for name, one in spaces.items()}
    parts = []
    for name, frame in (rows | {name: dice.set_axis(index) for name, dice in rebuilt.items()}).items():
        dice = frame[[c for c in frame if str(c).startswith("dice ")]]
        dice = dice.rename(columns=lambda c: c.removeprefix("dice ")).groupby(frame.index).mean()
        parts.append(
            pd.DataFrame(
                {
                    "features": name,
                    "structure": dice.columns,
                    "dice": dice.mean().to_numpy(),
                    "sd": dice.std().to_numpy(),
                    "n": len(dice),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _with_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Put the paper's accuracy beside ours where it has one: three groups, 60 patients. Its codes are those of a T-L
    network's encoder; an autoencoder's without a predictor stand beside them here."""
    paper = printed("acnn", "III-F").rename(columns={"method": "features", "what": "phases", "mean": "paper"})
    table = table.merge(paper[["features", "phases", "paper"]], how="left", on=["features", "phases"])
    table["paper"] = table["paper"].where(table["groups"].map(lambda g: set(g.split("/")) == set(THREE)))
    return table[[*COLUMNS, *(c for c in table if c not in COLUMNS)]]
