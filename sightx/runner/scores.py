"""The scores of a split: its metrics, with intervals, next to those of the majority class."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sightx.errors import one_line
from sightx.evaluation.binary import BinaryDecision
from sightx.evaluation.calibration import CalibrationError, calibration_error
from sightx.evaluation.estimates import Estimate, estimate_metrics, to_result
from sightx.evaluation.metrics import compute_metrics
from sightx.inference.recipe import Recipe
from sightx.records.predictions import Predictions
from sightx.registry.components import call_declared, validate_component
from sightx.registry.kinds import Metric
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment

_log = logging.getLogger("sightx")


_METRICS = (
    "accuracy", "balanced-accuracy", "precision", "recall", "specificity", "f1", "auc", "log-loss",
    "brier", "ece",
)  # fmt: skip
_ORDERED_METRICS = ("qwk", "rps")


def standard_metrics(experiment: Experiment, recipe: Recipe) -> list[Metric]:
    """Return what predictions are judged by in addition to the metrics of the spec.

    These are the usual metrics that the spec does not have, and the net benefit of a declared
    binary decision.
    """
    present = {metric.name for metric in experiment.metric}
    names = (*_METRICS, *(_ORDERED_METRICS if recipe.ordered else ()))
    registry = experiment.context.registry
    standard = [
        validate_component(Metric, {"use": name}, registry) for name in names if name not in present
    ]
    return [*standard, *([recipe.binary.net_benefit_metric()] if recipe.binary else [])]


class Calibration(NamedTuple):
    """The calibration error before and after postprocessing; `before` is None if they are one."""

    before: CalibrationError | None
    after: CalibrationError


def calibration(predictions: Predictions, recipe: Recipe) -> Calibration | None:
    """Return the calibration error of predictions; None if no label is known."""
    if (after := calibration_error(predictions)) is None:
        return None
    import torch

    outputs = torch.from_numpy(np.asarray(predictions.outputs, dtype=np.float32))
    classes = len(predictions.classes)
    given = call_declared(recipe.loss.probabilities, outputs, classes=classes).numpy()
    if np.array_equal(given, predictions.probabilities):
        return Calibration(None, after)
    return Calibration(calibration_error(predictions.with_probabilities(given)), after)


class Scores(NamedTuple):
    """What `score` computes.

    Attributes:
        values: The loss and each metric, named `split/name`.
        estimates: Each metric by its name, with interval and baseline; {} if they failed.
        without_tta: The values without test-time augmentation; {} if there is none.
    """

    values: dict[str, float]
    estimates: dict[str, Estimate]
    without_tta: dict[str, float]

    def add_to(self, result: dict[str, Any], split: str) -> None:
        """Add everything to the content of result.json."""
        result[split] = self.values
        if self.without_tta:
            result["without_tta"] = result.get("without_tta", {}) | self.without_tta
        for key, entries in to_result(self.estimates, split).items():
            result[key] = result.get(key, {}) | entries
        directions = {f"validation/{k}": one.direction for k, one in self.estimates.items()}
        result["directions"] = directions | result.get("directions", {})


def score(
    scored: tuple[Predictions, float],
    split: str,
    experiment: Experiment,
    binary: BinaryDecision | None,
    run: Run,
    without_tta: tuple[Predictions, float] | None = None,
    *,
    standard: Sequence[Metric] = (),
) -> Scores:
    """Return the scores of the predictions and the loss of a split, and without TTA if there is.

    The run knows what was in its train split. `standard` are metrics that are only estimated. A
    metric that fails only for the draws of a bootstrap is a warning: training is not lost.
    """
    metrics = [*experiment.metric, *(binary.metrics() if binary else ())]

    def values_of(predictions: Predictions, loss: float) -> dict[str, float]:
        return {f"{split}/loss": loss, **compute_metrics(predictions, metrics, split)}

    predictions, _ = scored
    values = values_of(*scored)
    single = values_of(*without_tta) if without_tta else {}
    try:
        counts = run.data["counts"]["train"]
        return Scores(values, estimate_metrics(predictions, [*metrics, *standard], counts), single)
    except Exception as error:
        _log.warning("%s has no intervals: %s", split, one_line(f"{error}"))
        return Scores(values, {}, single)
