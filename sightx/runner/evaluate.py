"""Score a run again, from its directory and its data."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from sightx.data import dataset
from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import BatchLoader
from sightx.data.preprocess import ProgressCallback
from sightx.errors import DataError, Problem, RunError
from sightx.evaluation import metrics
from sightx.inference.predictor import Predictor
from sightx.records.predictions import Predictions
from sightx.runner.resume import stored_experiment
from sightx.runs import lock
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment
from sightx.training.evaluate import Evaluator
from sightx.training.step import Criterion

_log = logging.getLogger("sightx")


def evaluate(
    run: Run, split: str, *, checkpoint: str = "", progress: ProgressCallback | None = None
) -> dict[str, float]:
    """Predict a split of a run's own data, write the predictions, and return the metrics.

    Without the name of a `checkpoint` the run's preferred one is used. If the run directory is
    read-only, the predictions are not kept, which is a warning. Raises DataError if the data are
    not those of the run, RunError if the run is in use or has no such checkpoint.
    """
    writable = os.access(run.directory, os.W_OK)
    with lock.run_lock(run.directory) if writable else nullcontext():
        folder = run.directory if writable else Path(tempfile.gettempdir())
        predictions, values = _score(run, split, checkpoint, progress, folder / "bad-images.csv")
        if writable:
            run.write_predictions(split, predictions)
        else:
            _log.warning("%s is read-only: these predictions are not kept", run.id)
    return values


def _score(
    run: Run, split: str, checkpoint: str, progress: ProgressCallback | None, bad_images: Path
) -> tuple[Predictions, dict[str, float]]:
    """Return the prediction table of a split, and its metrics."""
    experiment = stored_experiment(run)
    predictor = Predictor.load(run.checkpoint(checkpoint), experiment.execution.device)
    data = _load_split(run, experiment, split, progress, bad_images)
    recipe, device = predictor.recipe, predictor.device
    criterion = Criterion(experiment.loss, run.data["counts"]["train"], device)
    loader = BatchLoader(
        data.rows, data.table.labels, (recipe.mean, recipe.std), device, seed=experiment.seed
    )
    evaluator = Evaluator(
        predictor.module, criterion, loader, data.splits[split], experiment.training
    )
    with torch.random.fork_rng():  # the caller's generators stay as they are
        for _ in evaluator:
            pass
    predictions = metrics.apply_postprocess(
        recipe.postprocess, list(recipe.postprocess_states), evaluator.predictions(data.table)
    )
    values = metrics.compute_metrics(predictions, experiment.metric, split)
    return predictions, {f"{split}/loss": evaluator.loss, **values}


def _load_split(
    run: Run,
    experiment: Experiment,
    split: str,
    progress: ProgressCallback | None,
    bad_images: Path,
) -> PreparedDataset:
    """Return the samples that the run had in a split, preprocessed; no other image is read."""
    recorded = run.samples
    if recorded is None:
        message = "split.csv is missing: the samples of the run are unknown"
        raise RunError(Problem("no-run", message, "restore the file", str(run.id)))
    splits = dict(zip(recorded["path"], recorded["split"], strict=True))
    table = experiment.dataset.table()
    frame = table.frame.assign(split=[splits.get(path, "") for path in table.frame["path"]])
    rows = np.flatnonzero((frame["split"] == split).to_numpy())
    expected = int((recorded["split"] == split).sum())
    if len(rows) != expected or not expected:
        message = f"{len(rows)} of the {expected} {split} samples of {run.id} exist"
        raise DataError(Problem("other-data", message, "use the data that it was trained on"))
    return dataset.prepare_dataset(
        experiment,
        table.with_frame(frame).take(rows),
        progress=progress,
        bad_images_csv=bad_images,
    )
