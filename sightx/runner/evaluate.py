"""Score a run again, from its directory and its data."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sightx.data import dataset
from sightx.data.dataset import PreparedDataset
from sightx.data.preprocess import ProgressCallback
from sightx.errors import DataError, Problem, SpecError, counted, one_line
from sightx.evaluation import metrics
from sightx.evaluation.binary import DecisionCurve
from sightx.evaluation.estimates import Estimate
from sightx.inference.predictor import Engine, Predictor
from sightx.records.predictions import Predictions
from sightx.registry import data_results
from sightx.runner.resume import recorded_samples, stored_experiment
from sightx.runner.scores import Calibration, calibration, score, standard_metrics
from sightx.runs import checkpoints, compatibility, lock, scorings, sums
from sightx.runs.directory import Run, finite_or_null
from sightx.runs.scorings import record_test_scoring
from sightx.spec.experiment import Experiment
from sightx.spec.merge import Overrides, as_overrides
from sightx.training.evaluator import Evaluator
from sightx.training.step import Criterion
from sightx.training.weights import load_strict

_log = logging.getLogger("sightx")


class Evaluation(NamedTuple):
    """The scores of a split.

    `metrics` are the loss and the metrics, `estimates` the metrics with intervals and baselines,
    and `predictions` is the name of the predictions, "" if they could not be kept. `without_tta`
    are the loss and the metrics without test-time augmentation, {} if there is none. `calibration`
    is None without labels, `decision_curve` without a binary decision of two sorts of samples.
    """

    metrics: dict[str, float]
    predictions: str
    estimates: dict[str, Estimate]
    without_tta: dict[str, float]
    calibration: Calibration | None
    decision_curve: DecisionCurve | None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; NaN is null."""
        calibration, curve = self.calibration, self.decision_curve
        errors = calibration._asdict() if calibration else {}
        value: dict[str, Any] = finite_or_null({
            "predictions": self.predictions,
            "metrics": self.metrics,
            "estimates": {name: one._asdict() for name, one in self.estimates.items()},
            "without_tta": self.without_tta,
            "calibration": {name: one._asdict() for name, one in errors.items() if one},
            "decision_curve": {k: v.tolist() for k, v in curve._asdict().items()} if curve else {},
        })  # fmt: skip
        return value


def evaluate(
    run: Run,
    split: str,
    *,
    checkpoint: str = "",
    model: Path | None = None,
    engine: Engine = "torch",
    changes: Overrides = (),
    allow_data_change: bool = False,
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Predict a split of a run's own data, write the predictions, and return the metrics.

    The run's own predictions of the split are replaced only by those of the same checkpoint and the
    same data; others get a name with both. A read-only run keeps none, which is a warning. Raises
    SightXError if the experiment or the data are not those of the run, or if it is in use.

    Args:
        split: The split: train, validation or test.
        checkpoint: The name of a checkpoint; "" means the run's preferred one.
        model: The folder of an exported model of the run, which then predicts instead.
        engine: What computes an exported model.
        changes: Overrides of where the data are and of `[execution]`, as for `sightx.load`.
        allow_data_change: Score samples whose images or labels have changed since the run.
        progress: Called with (done, total) while images are preprocessed.
    """
    experiment, writable = changed_experiment(run, changes), os.access(run.directory, os.W_OK)
    with lock.run_lock(run.directory) if writable else nullcontext():
        device = experiment.execution.device
        predictor = Predictor.load(model or run.checkpoint(checkpoint), device, engine=engine)
        data = _load_split(run, experiment, split, progress)
        other_data = "" if _check_data(run, split, data, allow_data_change) else data.id
        predictions, evaluation = score_split(run, experiment, split, predictor, data)
        if not writable:
            _log.warning("%s is read-only: these predictions are not kept", run.id)
            return evaluation
        suffix = f"-exported-{engine}" if model else ""
        name = _write(run, split, predictions, predictor, suffix, other_data)
        _record(run, split, predictor, data)
        return evaluation._replace(predictions=name)


def _write(
    run: Run,
    split: str,
    predictions: Predictions,
    predictor: Predictor,
    suffix: str,
    other_data: str,
) -> str:
    """Write predictions, and return their name; `suffix` tells an exported model from the run."""
    scored = predictor.model.checkpoint + suffix
    name = _name(run, split, scored, other_data)
    run.write_predictions(name, predictions, scored)
    return name


def _record(run: Run, split: str, predictor: Predictor, data: PreparedDataset) -> None:
    """Record a scoring of the test split, and the hashes of the files that have changed."""
    checkpoint = predictor.model.checkpoint
    if split == "test":
        rows, samples = data.split_id(split), data.splits[split]
        record_test_scoring(run, "evaluate", checkpoint, rows, len(samples))
    sums.update_sums(run.directory, ["predictions", "bad-images.csv", scorings.FILE])


def _name(run: Run, split: str, checkpoint: str, data_id: str) -> str:
    """Return the name of predictions: the split, if they are those of the run itself."""
    own = run.predictions_checkpoint(split) or run.checkpoint().name
    if checkpoint == own and not data_id:
        return split
    return f"{split}@{checkpoint}" + (f"-data-{data_id[:8]}" if data_id else "")


def _check_data(run: Run, split: str, data: PreparedDataset, allowed: bool) -> bool:
    """Return whether the samples of a split are those of the run; warn of a difference.

    Raises DataError if the classes differ, or unless `allowed` an image or a label.
    """
    facts, recorded = run.data, recorded_samples(run)
    recorded = recorded[recorded["split"] == split]
    skipped = [path for path in recorded["path"] if path in data.table.skipped]
    _report_skipped(run, {path: data.table.skipped[path] for path in skipped}, split)
    known = recorded[~recorded["path"].isin(skipped)]
    names = ["path", "label", *data.table.columns]
    samples = data.table.frame[names].astype(str).assign(sha256=list(data.hashes))
    classes = compatibility.compare_classes(facts["classes"], data.table.classes)
    differences = [
        *classes,
        *compatibility.compare_samples(known, samples, (), allowed=allowed),
        *compatibility.compare_packs(facts.get("packed", {}), data.packed, allowed=allowed),
    ]
    hint = "use the data that it was trained on"
    if not classes:
        hint += ", or score these with --allow-data-change"
    for difference in differences:
        if difference.verdict == "refused":
            message = one_line(f"{run.id}: {difference.description}")
            raise DataError(Problem("other-data", message, hint))
        _log.warning("%s: %s", run.id, difference)
    return not differences and not skipped


def _report_skipped(run: Run, skipped: Mapping[str, str], split: str) -> None:
    """Say which images are not scored: those that the run skipped, and those since then."""
    if before := run.data.get("skipped", {}):
        counts = counted(len(before), "image")
        _log.info("%s, as when the run began", describe_skipped(f"{counts} of the dataset", before))
    if skipped:
        text = describe_skipped(f"{counted(len(skipped), f'{split} sample')} of {run.id}", skipped)
        _log.warning("%s: the metrics are those of the others", text)


def describe_skipped(images: str, reasons: Mapping[str, str]) -> str:
    """Return that some images are skipped, with the first of them and its reason."""
    first, reason = next(iter(reasons.items()))
    verb = "is" if len(reasons) == 1 else "are"
    return one_line(f"{images} {verb} skipped, first {first} ({reason})")


def changed_experiment(run: Run, overrides: Overrides) -> Experiment:
    """Return a run's experiment with changes that leave it the same experiment.

    Raises SpecError for other changes.
    """
    changes = as_overrides(overrides)
    experiment = stored_experiment(run, changes)
    if changes and experiment.id != stored_experiment(run).id:
        message = f"{', '.join(changes)} would define another experiment"
        hint = "only where the data are and [execution] may change; sightx run starts another one"
        raise SpecError(Problem("usage", message, hint))
    return experiment


def score_split(
    run: Run, experiment: Experiment, split: str, predictor: Predictor, data: PreparedDataset
) -> tuple[Predictions, Evaluation]:
    """Return the predictions of a split of some data by a checkpoint of a run, and their scores.

    The predictions have no name yet.
    """
    recipe = predictor.recipe
    scored = predict_split(run, experiment, split, predictor, data)
    single = None
    if predictor.network is not predictor.module:
        single = predict_split(run, experiment, split, predictor, data, predictor.module)
    standard, predictions = standard_metrics(experiment, recipe), scored[0]
    scores = score(scored, split, experiment, recipe.binary, run, single, standard=standard)
    curve = recipe.binary.curve(predictions) if recipe.binary else None
    return predictions, Evaluation(
        scores.values, "", scores.estimates, scores.without_tta, calibration(predictions, recipe),
        curve,
    )  # fmt: skip


def predict_split(
    run: Run,
    experiment: Experiment,
    split: str,
    predictor: Predictor,
    data: PreparedDataset,
    network: nn.Module | None = None,
) -> tuple[Predictions, float]:
    """Return the predictions and the mean loss of a split; `network` replaces the predictor's."""
    recipe, device = predictor.recipe, predictor.device
    counts = run.data["counts"]["train"]
    criterion = Criterion(experiment.loss, counts, device, table=data.table)
    if criterion.module.state_dict():
        checkpoint = run.directory / "checkpoints" / predictor.model.checkpoint
        state = checkpoints.load(checkpoint)
        load_strict(criterion.module, state.loss, file=str(checkpoint))
    loader = predictor.loader(data.rows, data.table.labels, experiment.seed)
    evaluator = Evaluator(
        network or predictor.network, criterion, loader, data.splits[split], experiment.training
    )
    with torch.random.fork_rng():  # the caller's generators stay as they are
        for _ in evaluator:
            pass
    predictions = metrics.apply_postprocess(
        recipe.postprocess, list(recipe.postprocess_states), evaluator.predictions(data.table)
    )
    return predictions, evaluator.loss


def load_run_split(
    run: Run,
    split: str,
    changes: Overrides = (),
    progress: ProgressCallback | None = None,
) -> PreparedDataset:
    """Return the samples that the run had in a split, preprocessed; no other image is read.

    `changes` are those of `evaluate`. Raises SpecError or DataError.
    """
    experiment = changed_experiment(run, changes)
    return _load_split(run, experiment, split, progress)


def _load_split(
    run: Run, experiment: Experiment, split: str, progress: ProgressCallback | None
) -> PreparedDataset:
    """Return the samples of a split for `load_run_split`."""
    recorded = recorded_samples(run)
    splits = dict(zip(recorded["path"], recorded["split"], strict=True))
    table = data_results.image_table(experiment.dataset)
    frame = table.frame.assign(split=[splits.get(path, "") for path in table.frame["path"]])
    rows = np.flatnonzero((frame["split"] == split).to_numpy())
    expected = int((recorded["split"] == split).sum())
    if len(rows) != expected or not expected:
        message = f"{len(rows)} of the {expected} {split} samples of {run.id} exist"
        raise DataError(Problem("other-data", message, "use the data that it was trained on"))
    samples = table.with_frame(frame).take(rows)
    writable = os.access(run.directory, os.W_OK)
    folder = run.directory if writable else Path(tempfile.gettempdir())
    return dataset.prepare_dataset(
        experiment,
        dataset.align_classes(samples, run.data["classes"]),
        progress=progress,
        bad_images_csv=folder / "bad-images.csv",
    )
