"""Score a run on other data than its own, such as photographs of another hospital."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightx.data import dataset
from sightx.data.classes import class_positions
from sightx.data.dataset import PreparedDataset
from sightx.data.preprocess import ProgressCallback
from sightx.errors import DataError, Problem, SpecError, counted
from sightx.inference.predictor import Engine, Predictor
from sightx.inference.recipe import Recipe
from sightx.records.faults import allow_empty_classes
from sightx.records.predictions import Predictions
from sightx.records.table import ImageTable
from sightx.registry.components import validate_component
from sightx.registry.kinds import Dataset
from sightx.runner.evaluate import (
    Evaluation,
    changed_experiment,
    describe_skipped,
    score_split,
)
from sightx.runner.resume import stored_experiment
from sightx.runs import lock, sums
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment
from sightx.spec.merge import Overrides, as_overrides, override_section

_log = logging.getLogger("sightx")
SPLIT = "test"
"""The split that all samples of other data are in."""
DATA_SETTINGS = ("exclude", "on_bad_image", "bad_images_at_most")
"""The settings of a dataset that `changes` may give to other data."""
BAD_IMAGES = "bad-images-of-data.csv"
"""The list of bad images of other data, in the run."""


def evaluate_data(
    run: Run,
    settings: Mapping[str, Any],
    *,
    checkpoint: str = "",
    model: Path | None = None,
    engine: Engine = "torch",
    changes: Overrides = (),
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Predict all samples of other data, write the predictions to the run, and return the metrics.

    Nothing is fitted: classes, preprocessing, thresholds and temperature are those of the run.
    Images that the run was trained on are a warning.

    Args:
        settings: The table `[dataset]` of the data, as `sightx init` writes it.
        checkpoint: The name of a checkpoint; "" means the run's preferred one.
        model: The folder of an exported model of the run, which then predicts instead.
        engine: What computes an exported model.
        changes: Overrides of `[execution]`, and of `DATA_SETTINGS`, which apply to these data.
        progress: Called with (done, total) while images are preprocessed.

    Bad images are listed in `BAD_IMAGES` of the run, or in the folder of temporary files if it is
    read-only. Raises DataError if a label is not a class of the run, or as a run would.
    """
    experiment, own = _with_changes(run, as_overrides(changes))
    writable = os.access(run.directory, os.W_OK)
    with lock.run_lock(run.directory) if writable else nullcontext():
        device = experiment.execution.device
        predictor = Predictor.load(model or run.checkpoint(checkpoint), device, engine=engine)
        experiment = _with_dataset(experiment, {**settings, **own}, predictor)
        folder = run.directory if writable else Path(tempfile.gettempdir())
        data = _prepare(experiment, predictor.recipe, progress, folder / BAD_IMAGES)
        _warn_of_images(run, data)
        predictions, evaluation = score_split(run, experiment, SPLIT, predictor, data)
        if not writable:
            _log.warning("%s is read-only: these predictions are not kept", run.id)
            return evaluation
        return evaluation._replace(predictions=_write(run, data, predictor, predictions))


def _write(run: Run, data: PreparedDataset, predictor: Predictor, predictions: Predictions) -> str:
    """Write the predictions of other data, and return their name."""
    name = f"data-{data.id[:8]}@{predictor.model.checkpoint}"
    run.write_predictions(name, predictions, predictor.model.checkpoint)
    sums.update_sums(run.directory, ["predictions", BAD_IMAGES])
    return name


def _with_changes(run: Run, changes: Sequence[str]) -> tuple[Experiment, dict[str, Any]]:
    """Return a run's experiment with changes, and those that are settings of other data.

    Raises SpecError for other settings of a dataset: the run's own data are not read.
    """
    names = {f"dataset.{key}": key for key in DATA_SETTINGS}
    own = [change for change in changes if change.partition("=")[0] in names]
    others = [change for change in changes if change not in own]
    for change in others:
        if override_section(change) == "dataset":
            key = change.partition("=")[0]
            message = f"{key} is a setting of the run's own data, which are not read"
            hint = f"only {', '.join(names)} and [execution] may change"
            raise SpecError(Problem("usage", message, hint))
    # Every dataset has these settings, so the run's own one reads the values as those of a spec.
    values = stored_experiment(run, own).dataset
    keys = [names[change.partition("=")[0]] for change in own]
    return changed_experiment(run, others), {key: getattr(values, key) for key in keys}


def _with_dataset(
    experiment: Experiment, settings: Mapping[str, Any], predictor: Predictor
) -> Experiment:
    """Return an experiment with another dataset, preprocessed as the run's images were."""
    recipe, registry = predictor.recipe, experiment.context.registry
    try:
        other = validate_component(Dataset, {**settings, "decode": recipe.decode}, registry)
    except ValueError as error:
        raise SpecError(Problem("usage", f"the data cannot be read: {error}")) from error
    return experiment.model_copy(update={"dataset": other, "preprocess": recipe.preprocess})


def _prepare(
    experiment: Experiment,
    recipe: Recipe,
    progress: ProgressCallback | None,
    bad_images_csv: Path,
) -> PreparedDataset:
    """Return all samples as one split, preprocessed."""
    table = allow_empty_classes(lambda: dataset.load_table(experiment.dataset))
    table = _in_classes(table, recipe.classes)
    table = replace(table, ordered=recipe.ordered)
    table = table.with_frame(table.frame.assign(split=SPLIT))
    return dataset.prepare_dataset(
        experiment, table, progress=progress, bad_images_csv=bad_images_csv
    )


def _in_classes(table: ImageTable, classes: Sequence[str]) -> ImageTable:
    """Return a table with labels as positions in the classes of a run.

    Labels are found by name; if they are numbers and the classes are not, they are positions.
    """
    names = table.classes
    if not class_positions(names, classes) and all(name.isdigit() for name in names):
        places = [int(name) for name in names]
        if max(places) < len(classes):
            table = replace(table, classes=tuple(classes[place] for place in places))
    aligned = dataset.align_classes(table, classes)
    if aligned.classes == tuple(classes):
        return aligned
    unknown = sorted(set(table.classes) - set(class_positions(table.classes, classes)))
    message = f"the run has no class {unknown[0]!r}; it has {', '.join(classes)}"
    hint = "rename the labels, or leave these rows out"
    raise DataError(Problem("class-unknown", message, hint, file=table.source))


def _warn_of_images(run: Run, data: PreparedDataset) -> None:
    """Warn of images that are left out, and of those that the run was trained on or fitted to."""
    if skipped := data.table.skipped:
        text = describe_skipped(f"{counted(len(skipped), 'image')} of the data", skipped)
        _log.warning("%s: the metrics are those of the others", text)
    if (samples := run.samples) is None or "sha256" not in samples:
        return
    seen = set(samples["sha256"][samples["split"].isin(["train", "validation"])])
    if count := sum(digest in seen for digest in data.hashes):
        message = "%d of %d images were in the train or validation split of %s"
        _log.warning(message, count, len(data.hashes), run.id)
