"""Score a finished run again, from its directory and its data."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from sightx.data import dataset
from sightx.data.csv_labels import read_csv
from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import BatchLoader
from sightx.data.preparation import CacheConfig
from sightx.data.preprocess import ProgressCallback
from sightx.errors import DataError, Problem, SpecError
from sightx.evaluation import metrics
from sightx.inference.predictor import Predictor
from sightx.records.predictions import Predictions
from sightx.runs import lock
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment
from sightx.spec.load import examine
from sightx.training.criterion import Criterion
from sightx.training.evaluate import Evaluator

_log = logging.getLogger("sightx")


def evaluate(
    run: Run, side: str, *, checkpoint: str = "", progress: ProgressCallback | None = None
) -> dict[str, float]:
    """Predict a side of a run's own split, write the predictions, and return the figures.

    Of a run that cannot be written only the figures are had, and a warning says so. Raises
    DataError where the data are not what the run was trained on, RunError where it is in use.
    """
    writable = os.access(run.directory, os.W_OK)
    with lock.run_lock(run.directory) if writable else nullcontext():
        faults = (run.directory if writable else Path(tempfile.gettempdir())) / "bad-images.csv"
        predictions, found = _scored(run, side, checkpoint, progress, faults)
        if writable:
            run.write_predictions(side, predictions)
        else:
            _log.warning("%s cannot be written: these predictions are not kept", run.id)
    return found


def _scored(
    run: Run, side: str, checkpoint: str, progress: ProgressCallback | None, faults: Path
) -> tuple[Predictions, dict[str, float]]:
    experiment = _stored(run)
    predictor = Predictor.load(run.checkpoint(checkpoint), experiment.execution.device)
    data = _side(run, experiment, side, progress, faults)
    recipe = predictor.recipe
    objective = Criterion(experiment.loss, run.data["counts"]["train"], predictor.device)
    batches = BatchLoader(
        data.rows, data.table.labels, (recipe.mean, recipe.deviation), predictor.device,
        seed=experiment.seed,
    )  # fmt: skip
    scores = Evaluator(predictor.module, objective, batches, data.splits[side], experiment.training)
    for _ in scores:
        pass
    raw = scores.predictions(data.table)
    predictions = metrics.apply_postprocess(recipe.postprocess, list(recipe.decisions), raw)
    found = metrics.compute_metrics(predictions, experiment.metric, side)
    return predictions, {f"{side}/loss": scores.loss, **found}


def _stored(run: Run) -> Experiment:
    """Return a run's experiment; rules that came after it do not judge it."""
    examined = examine(run.directory / "experiment.toml")
    if examined.experiment is None:
        raise examined.failure or SpecError(*examined.problems)
    return examined.experiment


def _side(
    run: Run, experiment: Experiment, side: str, progress: ProgressCallback | None, faults: Path
) -> PreparedDataset:
    """Return the samples that the run had on a side, prepared; no other image is read."""
    listed = read_csv(run.directory / "split.csv", ["path", "split"])
    table = experiment.dataset.table()
    sides = dict(zip(listed["path"], listed["split"], strict=True))
    frame = table.frame.assign(split=[sides.get(path, "") for path in table.frame["path"]])
    rows = np.flatnonzero((frame["split"] == side).to_numpy())
    wanted = sum(found == side for found in sides.values())
    if len(rows) != wanted or not wanted:
        message = f"{len(rows)} of the {wanted} {side} samples of {run.id} are there"
        raise DataError(Problem("other-data", message, "give the data it was trained on"))
    return dataset.prepare_dataset(
        table.with_frame(frame).take(rows),
        experiment.dataset,
        experiment.preprocess,
        storage=CacheConfig.of(experiment),
        threads=experiment.execution.threads,
        progress=progress,
        faults=faults,
    )
