"""What a report knows of a run: its predictions, what was fitted, and every number judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sightx.errors import Problem, RunError
from sightx.evaluation.estimates import Estimate, estimate_metrics, majority_predictions
from sightx.evaluation.intervals import Interval, paired_differences
from sightx.inference.recipe import Recipe
from sightx.io.files import shell_path
from sightx.records.predictions import Predictions
from sightx.registry.kinds import Metric
from sightx.run_registry.comparison import aligned_predictions
from sightx.runner.resume import stored_experiment
from sightx.runner.scores import standard_metrics
from sightx.runs import checkpoints
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment


@dataclass(frozen=True)
class Facts:
    """A run whose predictions of a split are judged.

    Attributes:
        run: The run.
        split: The name of the predictions, such as test.
        experiment: The experiment of the run.
        predictions: Those of the split.
        recipe: How the checkpoint that predicted them makes predictions.
        checkpoint: The name of its directory.
        metrics: The metrics of the experiment, the standard ones, and those of a binary decision.
        estimates: Their numbers with intervals and baselines.
        primary: The name of the number that the verdict is about.
        advantage: That number minus the one of always predicting the largest class.
        rivals: That number minus the one of another run on the same samples, by the run's id.
    """

    run: Run
    split: str
    experiment: Experiment
    predictions: Predictions
    recipe: Recipe
    checkpoint: str
    metrics: tuple[Metric, ...]
    estimates: dict[str, Estimate]
    primary: str
    advantage: Interval
    rivals: dict[str, Interval]

    @property
    def groups(self) -> int:
        """Return the number of groups of samples, such as patients."""
        return int(self.predictions.group_positions.max(initial=-1)) + 1

    @property
    def has_groups(self) -> bool:
        """Return whether some samples share a group."""
        return self.groups < len(self.predictions)

    @property
    def is_other_data(self) -> bool:
        """Return whether the predictions are those of data that are not the run's own."""
        return self.split.startswith("data-")

    @property
    def train_counts(self) -> list[int]:
        """Return the samples of each class in the train split."""
        counts: list[int] = self.run.data["counts"]["train"]
        return counts

    def metric_of(self, name: str) -> Metric:
        """Return the metric that computes a number."""
        classes = self.predictions.classes
        return next(metric for metric in self.metrics if name in metric.values(classes))


def read_facts(run: Run, split: str = "", rivals: Sequence[Run] = ()) -> Facts:
    """Return the facts about a run. Raises RunError without predictions of the split.

    Without a split it is test, or validation if test has not been scored. `rivals` are runs to
    compare with; those that were scored on other samples are an error.
    """
    run.require_trained()
    split = split or ("test" if run.predictions_of("test") is not None else "validation")
    if (predictions := run.predictions_of(split)) is None:
        hint = f"sightx evaluate {shell_path(run.directory)} --split {split} writes them"
        message = f"it has no predictions of {split}"
        raise RunError(Problem("no-predictions", message, hint, file=run.id))
    experiment = stored_experiment(run)
    checkpoint = run.predictions_checkpoint(split) or run.checkpoint().name
    recipe = _read_recipe(run, checkpoint, experiment)
    binary = recipe.binary.metrics() if recipe.binary else []
    metrics = (*experiment.metric, *binary, *standard_metrics(experiment, recipe))
    counts = run.data["counts"]["train"]
    estimates = estimate_metrics(predictions, metrics, counts)
    primary = _primary(experiment, estimates)
    metric = next(m for m in metrics if primary in m.values(predictions.classes))
    _, *tables = aligned_predictions([run, *rivals], split)
    majority = majority_predictions(predictions, np.asarray(counts))
    return Facts(
        run, split, experiment, predictions, recipe, checkpoint, metrics, estimates, primary,
        paired_differences(predictions, majority, [metric])[primary],
        {
            other.id: paired_differences(predictions, table, [metric])[primary]
            for other, table in zip(rivals, tables, strict=True)
        },
    )  # fmt: skip


def _read_recipe(run: Run, checkpoint: str, experiment: Experiment) -> Recipe:
    folder = run.directory / "checkpoints" / checkpoint.partition("-exported-")[0]
    content = checkpoints.read_verified(folder)["recipe.json"]
    return Recipe.read(content, experiment.context.registry, str(folder / "recipe.json"))


def _primary(experiment: Experiment, estimates: dict[str, Estimate]) -> str:
    """Return the monitored metric; a default where it is not one of the predictions."""
    name = experiment.training.monitor.partition("/")[2]
    if name in estimates and experiment.training.monitor.startswith("validation/"):
        return name
    return "qwk" if "qwk" in estimates else "balanced-accuracy"
