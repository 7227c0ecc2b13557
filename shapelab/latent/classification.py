"""Pathology from codes: decision-tree ensembles, cross-validated by patient, beside controls.

After ACNN's experiment on ACDC (codes of ED, or of ED and ES, an ensemble of decision trees, 10-fold cross-validation),
with what a small data set needs: repeats, an interval, a permutation test, and controls.

How each number is made:
    - accuracy: share of patients that are right when held out, mean over the repeats of the cross-validation
    - low, high: 95 % interval; bootstrap over patients of their out-of-fold correctness (each patient's mean over
      repeats). It holds the trained models fixed and says what other patients would do to the number. All right gives
      [1, 1].
    - balanced_accuracy: mean over classes of the share that is right, mean over repeats
    - p: permutation test on the first repeat's folds, labels shuffled among the patients of a fold, so that each fold
      keeps its classes as stratification made them (the folds are as likely under every such shuffle) and no space has
      to be fitted again; (b + 1) / (m + 1) with b of m shuffles at least as accurate. The same model with fewer trees
      (`PERMUTATION_TREES`), for the observed labels as well as the shuffled ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import ClassifierMixin, clone
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from tqdm.auto import tqdm

from shapelab.data.facts import PHASES
from shapelab.data.rows import patients_of
from shapelab.errors import must, need, one_of, whole
from shapelab.latent.codes import one_each
from shapelab.latent.features import FixedFeatures, FoldFeatures, IndexFeatures, random_features
from shapelab.latent.folds import Fold, draw_folds, shuffle_within
from shapelab.latent.importance import held_out_importance
from shapelab.latent.results import KEYS, ClassificationResult

Codes: TypeAlias = pd.DataFrame | FoldFeatures
Model: TypeAlias = str | ClassifierMixin
CONTROLS = ("volumes", "shuffled", "random")
PERMUTATION_TREES = 25
MODELS: dict[str, ClassifierMixin] = {
    "forest": RandomForestClassifier(n_estimators=300, max_features="sqrt"),
    "extra": ExtraTreesClassifier(n_estimators=300, max_features="sqrt"),
    # Shallow trees on random halves of few patients; the histogram kind needs more rows than a fold has.
    "boosting": GradientBoostingClassifier(
        n_estimators=100, max_depth=2, min_samples_leaf=3, subsample=0.8, max_features="sqrt"
    ),
}


@dataclass(frozen=True)
class CrossValidation:
    """How patients are held out, and what is computed besides their predictions.

    Attributes:
        n_splits: of the stratified folds
        n_repeats: of the stratified folds
        permutations: m of the permutation test, whose p is at least 1 / (m + 1): 19 can reach .05 in one row; of k rows
            that are corrected for their number, one alone needs 20 k. 0 leaves the test out (p is NaN)
        seed: of folds, models, shuffles and draws
        n_jobs: processes (small trees are built in Python more than out of it: threads would wait for one another)
        importances: compute them (for all but the shuffled control)
        progress: show a bar
    """

    n_splits: int = 10
    n_repeats: int = 5
    permutations: int = 99
    seed: int = 0
    n_jobs: int = 1
    importances: bool = True
    progress: bool = False

    def __post_init__(self) -> None:
        for name, least in (("n_splits", 2), ("n_repeats", 1), ("permutations", 0)):
            whole(name, getattr(self, name), least)


def classify(
    codes: Codes | Mapping[str, Codes],
    target: str = "group",
    model: Model | Sequence[Model] = "forest",
    phases: str | Sequence[str | Sequence[str]] = ("ED",),
    **options: Any,
) -> pd.DataFrame:
    """Cross-validated classification of patients from codes; the table of `classification_report`, which see.

    >>> classify(codes, "group", phases=[("ED",), ("ED", "ES")], controls=("random", "shuffled"))  # doctest: +SKIP
    """
    return classification_report(codes, target, model, phases, **options).table


def classification_report(
    codes: Codes | Mapping[str, Codes],
    target: str = "group",
    model: Model | Sequence[Model] = "forest",
    phases: str | Sequence[str | Sequence[str]] = ("ED",),
    *,
    groups: Sequence | None = None,
    controls: Sequence[str] = (),
    indices: pd.DataFrame | None = None,
    settings: CrossValidation | None = None,
) -> ClassificationResult:
    """Classify patients from codes by stratified, repeated, patient-level cross-validation.

    The folds are drawn on a table of one row a patient, so a patient's ED and ES are never in different folds, and are
    the same for all features, phases and models: rows can be compared. A function of its arguments and the seed.

    Where a patient has several sides or visits (facts `side`, `visit`), each is a row that is predicted; they stay in
    one fold, a patient counts once (by the mean of its rows), and labels are shuffled as they depend: from patient to
    patient where a patient's are one, within patients where they differ.

    Args:
        codes: a Codes table (taken as `FixedFeatures` whose space saw the test shapes), or `FoldFeatures` (those, or a
            space fitted in each fold), or a dict {name: either} for several
        target: fact to predict
        model: "forest", "extra", "boosting", a scikit-learn classifier, or a list of these
        phases: ("ED",) or ("ED", "ES"), or a list of such
        groups: classes to keep, e.g. ("NOR", "DCM", "HCM"); None: all. The folds are drawn before the others are left
            out, so that a space fitted in a fold (`SpaceFeatures`, with_others) serves for any choice of groups
        controls: among "volumes" (clinical indices instead of codes; needs `indices`), "shuffled" (the first features
            with labels shuffled within the folds, anew in each repeat) and "random" (normal numbers instead of codes,
            as many)
        indices: as `shapelab.metrics.clinical.cardiac_indices` returns them
        settings: of the cross-validation; default: `CrossValidation()`

    Returns:
        `ClassificationResult`; its table has one row per (features, phases, model), with accuracy, low, high,
        balanced_accuracy, p, chance (share of the largest class), n_patients, n_features, n_repeats, saw_test_shapes

    Raises:
        UsageError: unknown target, model, group, control or phase; "volumes" without `indices`
        DataError: a class of fewer than `n_splits` patients (class and counts named), a patient without a phase or
            without a target, or with two rows that no fact tells apart, NaN among the codes, features for different
            patients
    """
    how, named = settings or CrossValidation(), codes if isinstance(codes, Mapping) else {"codes": codes}
    must(named, "classify", "no codes", "a Codes table, or FoldFeatures, or a dict of these")
    sources: dict[str, FoldFeatures] = {
        str(k): FixedFeatures(v) if isinstance(v, pd.DataFrame) else v for k, v in named.items()
    }
    first = next(iter(sources.values()))
    who = patients_of(first.facts)
    everyone, truth = _truth(first.facts, target, None if groups is None else list(groups), how.n_splits)
    ways = list(product(_phase_sets(phases), _models(model).items()))
    folds = draw_folds(everyone, truth, who, (how.n_splits, how.n_repeats), how.seed)
    taking_part = who[truth.index]
    runs = _runs(sources, controls, indices, folds[0][0], how.seed, truth.index)

    keys, rows, predictions, weights = [], [], [], {}
    bar = tqdm(list(product(runs, ways)), desc="classify", leave=False, disable=not how.progress)
    for (name, source, shuffle), (phase_set, (model_name, classifier)) in bar:
        keys.append((name, "+".join(phase_set), model_name))
        tables = _Tables(source, truth.index, phase_set)
        labels = [
            shuffle_within(truth.to_numpy(), parts, np.random.default_rng((how.seed, 7, r)))
            if shuffle
            else truth.to_numpy()
            for r, parts in enumerate(folds)
        ]
        with Parallel(n_jobs=how.n_jobs, max_nbytes=None) as workers:
            held_out = _cross_validate(tables, labels, folds, classifier, how, workers)
            p = _permutation_p(tables, labels[0], folds[0], classifier, how, workers)
        predictions.append(_predictions(held_out, taking_part, labels))
        if how.importances and not shuffle:
            weights[keys[-1]] = _importances(held_out).assign(fixed=source.fixed)
        rows.append(
            {
                **dict[str, Any](zip(KEYS, keys[-1], strict=True)),
                **_scores(predictions[-1], pd.Index(taking_part.unique()), how.seed),
                "p": p,
                "chance": truth.value_counts(normalize=True).max(),
                "n_patients": taking_part.nunique(),
                "n_features": tables(folds[0][0]).shape[1],
                "n_repeats": how.n_repeats,
                "saw_test_shapes": bool(source.saw_test_shapes),
            }
        )
    return ClassificationResult(
        pd.DataFrame(rows),
        _keys_first(keys, predictions),
        _keys_first(list(weights), list(weights.values())),
        tuple(sorted(truth.unique())),
        tuple((fold.seen, fold.held_out) for parts in folds for fold in parts),
    )


# ---- what is asked for, checked --------------------------------------------------------------------------------------


def _truth(facts: pd.DataFrame, target: str, groups: Sequence | None, n_splits: int) -> tuple[pd.Series, pd.Series]:
    """The target of each patient, and of each that takes part, sorted by patient."""
    must(
        target in facts,
        "classify",
        f"target={target!r}",
        f"a fact that is one for each patient: {sorted(map(str, facts.columns))}",
    )
    everyone = truth = facts[target].sort_index()
    gaps = truth.index[truth.isna()]
    more = f" and {len(gaps) - 1} more of {len(truth)}" if len(gaps) > 1 else ""
    need(
        not len(gaps),
        "codes",
        f"no {target!r} for patient {next(iter(gaps), None)!r}{more}",
        "one for every patient",
        "Leave these patients out.",
    )
    if isinstance(truth.dtype, pd.CategoricalDtype):  # whose categories may be of nobody
        everyone = truth = truth.astype(object)
    if groups is not None:
        known = sorted(truth.unique(), key=str)  # classes of mixed types have no order of their own
        must(set(groups) <= set(known), "classify", f"groups={list(groups)}", f"among {known}")
        truth = truth[truth.isin(list(groups))]
    counts = patients_of(facts)[truth.index].groupby(truth).nunique()
    need(len(counts) >= 2, "codes", f"only {target}={counts.index[0]!r}", "at least two classes")
    need(
        counts.min() >= n_splits,
        "codes",
        f"{counts.min()} patients with {target}={counts.idxmin()!r} "
        f"(patients in each class: {counts.sort_index().to_dict()})",
        f"at least n_splits={n_splits}",
        "Use a smaller n_splits, or leave the class out with groups=...",
    )
    return everyone, truth


def _phase_sets(phases: str | Sequence[str | Sequence[str]]) -> list[tuple[str, ...]]:
    phases = [phases] if isinstance(phases, str) else list(phases)
    asked: list[Any] = [phases] if all(p in PHASES for p in phases) else list(phases)
    sets = [tuple(one.split("+")) if isinstance(one, str) else tuple(one) for one in asked]
    known = (("ED",), ("ES",), ("ED", "ES"))
    must(
        sets and all(one in known for one in sets),
        "classify",
        f"phases={phases!r}",
        '("ED",), ("ES",) or ("ED", "ES"), or a list of these',
    )
    return sets


def _models(model: Model | Sequence[Model]) -> dict[str, ClassifierMixin]:
    """Name -> classifier of what was asked for."""
    models = {}
    asked: Sequence[Any] = model if isinstance(model, (list, tuple)) else [model]
    for one in asked:
        if hasattr(one, "predict_proba") and hasattr(one, "fit"):
            models[type(one).__name__] = one
        else:
            models[one] = MODELS[one_of("model (or a classifier with fit and predict_proba)", one, MODELS)]
    return models


def _runs(
    sources: dict[str, FoldFeatures],
    controls: Sequence[str],
    indices: pd.DataFrame | None,
    fold: Fold,
    seed: int,
    patients: pd.Index,
) -> list[tuple[str, FoldFeatures, bool]]:
    """(name, features, whether labels are shuffled) of what was asked for and of the controls."""
    runs: list[tuple[str, FoldFeatures, bool]] = [(name, source, False) for name, source in sources.items()]
    first = runs[0][1]
    for control in controls:
        one_of("classify: control", control, CONTROLS)
    if "volumes" in controls:
        must(
            indices is not None,
            "classify",
            "the control 'volumes' without indices",
            "indices=shapelab.metrics.clinical.cardiac_indices(cohort)",
        )
        assert indices is not None
        runs.append(("volumes + EF", IndexFeatures(indices), False))
    if "shuffled" in controls:
        runs.append(("shuffled labels", first, True))
    if "random" in controls:
        d = first.table(fold.seen, fold.held_out, ("ED",)).shape[1]  # a fold that is needed anyway
        runs.append(("random codes", random_features(first, d, seed), False))
    for name, source, _ in runs:
        missing = patients.difference(source.facts.index)
        need(
            not len(missing),
            name,
            f"nothing for patient(s) {[str(p) for p in missing[:5]]}",
            "the same patients in all features",
            "Leave these patients out, or supply them.",
        )
    return runs


# ---- cross-validation ------------------------------------------------------------------------------------------------


class _Tables:
    """Features of a fold as an array in the order of the rows that take part; a fold's table is asked for once."""

    def __init__(self, source: FoldFeatures, rows: pd.Index, phases: tuple[str, ...]):
        self.source, self.rows, self.phases = source, rows, phases
        self.kept: dict[str | tuple[str, ...], pd.DataFrame] = {}

    def __call__(self, fold: Fold) -> pd.DataFrame:
        key: str | tuple[str, ...] = "any" if self.source.fixed else tuple(fold.held_out)
        if key not in self.kept:
            here = set(patients_of(self.source.facts))  # a source may hold those that take part and no others
            table = self.source.table(
                [p for p in fold.seen if p in here], [p for p in fold.held_out if p in here], self.phases
            )
            one_each(table.index.to_series())
            missing = self.rows.difference(table.index)
            need(not len(missing), "features", f"nothing for {[str(p) for p in missing[:5]]}", "a row for each")
            self.kept[key] = table.loc[self.rows].astype(np.float32)
        return self.kept[key]


def _fitted(
    classifier: ClassifierMixin, x: np.ndarray, y: np.ndarray, seed: int, trees: int | None = None
) -> ClassifierMixin:
    model = clone(classifier)
    known = model.get_params()
    model.set_params(**{name: seed for name in known if name.split("__")[-1] == "random_state"})
    if trees is not None and "n_estimators" in known:
        model.set_params(n_estimators=min(trees, known["n_estimators"]))
    return model.fit(x, y)


def _cross_validate(
    tables: _Tables,
    labels: Sequence[np.ndarray],
    folds: Sequence[Sequence[Fold]],
    classifier: ClassifierMixin,
    how: CrossValidation,
    workers: Parallel,
) -> list[dict[str, Any]]:
    """One record per (repeat, fold). The tables are made here, one after the other: fitting a space uses all cores."""
    jobs = [
        (classifier, tables(fold), labels[r], fold.train, fold.test, (how.seed, 1, r, f), how.importances)
        for r, parts in enumerate(folds)
        for f, fold in enumerate(parts)
    ]
    return workers(delayed(_held_out)(*job) for job in jobs)


def _held_out(
    classifier: ClassifierMixin,
    table: pd.DataFrame,
    y: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    key: tuple[int, ...],
    importances: bool,
) -> dict[str, Any]:
    """Train on one fold, predict its held-out patients. `key`: (seed, 1, repeat, fold)."""
    x, generator = table.to_numpy(), np.random.default_rng(key)
    model = _fitted(classifier, x[train], y[train], int(generator.integers(2**31)))
    record = {
        "repeat": key[-2],
        "fold": key[-1],
        "test": test,
        "classes": model.classes_,
        "probability": model.predict_proba(x[test]),
        "columns": list(table.columns),
    }
    if importances:
        record["impurity"] = getattr(model, "feature_importances_", np.full(x.shape[1], np.nan))
        record["held_out"] = held_out_importance(model, x[train], x[test], y[test], generator)
    return record


def _permutation_p(
    tables: _Tables,
    labels: np.ndarray,
    folds: Sequence[Fold],
    classifier: ClassifierMixin,
    how: CrossValidation,
    workers: Parallel,
) -> float:
    """Share of shuffles of the labels that are classified as well; NaN without any."""
    if how.permutations == 0:
        return float("nan")
    parts = [(fold.train, fold.test, tables(fold).to_numpy()) for fold in folds]
    shuffles = [shuffle_within(labels, folds, np.random.default_rng((how.seed, 3, i))) for i in range(how.permutations)]
    observed, *null = workers(
        delayed(_count_right)(classifier, parts, y, (how.seed, 2, i)) for i, y in enumerate([labels, *shuffles])
    )
    return (sum(a >= observed for a in null) + 1) / (how.permutations + 1)


def _count_right(
    classifier: ClassifierMixin,
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    y: np.ndarray,
    key: tuple[int, ...],
) -> int:
    """Patients that are right when held out, with few trees; `parts`: (train, test, features) of each fold."""
    right = 0
    for f, (train, test, x) in enumerate(parts):
        model = _fitted(
            classifier, x[train], y[train], int(np.random.default_rng((*key, f)).integers(2**31)), PERMUTATION_TREES
        )
        right += int((model.predict(x[test]) == y[test]).sum())
    return right


def _predictions(held_out: list[dict], who: pd.Series, labels: Sequence[np.ndarray]) -> pd.DataFrame:
    """One row a held-out prediction; `who`: the patient of each row that takes part. Where patients have several rows,
    the column `row` says which."""
    several = {} if list(who) == list(who.index) else {"row": who.index}
    parts = [
        pd.DataFrame(
            {
                "repeat": one["repeat"],
                "fold": one["fold"],
                "patient": who.to_numpy()[one["test"]],
                **{name: rows[one["test"]] for name, rows in several.items()},
                "truth": labels[one["repeat"]][one["test"]],
                "predicted": one["classes"][one["probability"].argmax(axis=1)],
                **{f"p_{c}": column for c, column in zip(one["classes"], one["probability"].T)},
            }
        )
        for one in held_out
    ]
    return pd.concat(parts, ignore_index=True)


def _scores(predicted: pd.DataFrame, patients: pd.Index, seed: int, draws: int = 2000) -> dict[str, float]:
    right = (predicted["truth"] == predicted["predicted"]).groupby(predicted["patient"]).mean().loc[patients].to_numpy()
    chosen = np.random.default_rng((seed, 4)).integers(len(right), size=(draws, len(right)))
    low, high = np.quantile(right[chosen].mean(axis=1), [0.025, 0.975])
    balanced = [balanced_accuracy_score(rows["truth"], rows["predicted"]) for _, rows in predicted.groupby("repeat")]
    return {
        "accuracy": float(right.mean()),
        "low": float(low),
        "high": float(high),
        "balanced_accuracy": float(np.mean(balanced)),
    }


def _importances(held_out: list[dict]) -> pd.DataFrame:
    """Mean over folds; a column that a fold's space does not have counts as zero there."""
    columns = list(dict.fromkeys(c for one in held_out for c in one["columns"]))
    means = {
        kind: sum(pd.Series(one[kind], index=one["columns"]).reindex(columns, fill_value=0.0) for one in held_out)
        / len(held_out)
        for kind in ("impurity", "held_out")
    }
    return pd.DataFrame(means).rename_axis("column").reset_index()


def _keys_first(keys: list[tuple[str, str, str]], frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The tables as one, the features, phases and model of each in its first columns."""
    if not frames:
        return pd.DataFrame(columns=KEYS)
    return pd.concat(frames, keys=keys, names=KEYS).reset_index(KEYS).reset_index(drop=True)
