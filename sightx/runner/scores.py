"""The scores of a split: its metrics, with intervals, next to those of the majority class."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from sightx.errors import one_line
from sightx.evaluation.binary import BinaryDecision
from sightx.evaluation.estimates import Estimate, estimate_metrics, to_result
from sightx.evaluation.metrics import compute_metrics
from sightx.records.predictions import Predictions
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment

_log = logging.getLogger("sightx")


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
) -> Scores:
    """Return the scores of the predictions and the loss of a split, and without TTA if there is.

    The run knows what was in its train split. A metric that fails only for the draws of a bootstrap
    is a warning: training is not lost.
    """
    metrics = [*experiment.metric, *(binary.metrics() if binary else ())]

    def values_of(predictions: Predictions, loss: float) -> dict[str, float]:
        return {f"{split}/loss": loss, **compute_metrics(predictions, metrics, split)}

    predictions, _ = scored
    values = values_of(*scored)
    single = values_of(*without_tta) if without_tta else {}
    try:
        counts = run.data["counts"]["train"]
        return Scores(values, estimate_metrics(predictions, metrics, counts), single)
    except Exception as error:
        _log.warning("%s has no intervals: %s", split, one_line(f"{error}"))
        return Scores(values, {}, single)
