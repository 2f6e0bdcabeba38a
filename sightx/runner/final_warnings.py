"""The warnings that result.json and the console repeat at the end of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sightx.records.history import History
from sightx.records.table import ImageTable
from sightx.spec import check_runner
from sightx.spec.experiment import Context, Experiment

_MAX_NAMES = 5  # metrics and epochs that a warning lists
_LOSS = "validation/loss"


def final_warnings(
    experiment: Experiment,
    context: Context,
    table: ImageTable,
    validation_counts: Sequence[int],
    history: History,
    best_name: str,
) -> list[str]:
    """Return what a user should know when a run ends.

    These are the warnings of the data checks, the metrics that no epoch has a value of, and the
    epochs that tie for the checkpoint `best_name`. `validation_counts` are samples per class.
    """
    problems = check_runner.run_checks(experiment, context, "data", table=table)
    warnings = [problem.message for problem in problems if problem.severity == "warning"]
    counts = zip(table.classes, validation_counts, strict=True)
    absent = {name for name, count in counts if not count}
    warnings += _undefined_metrics(history, absent)
    warnings += _tied_epochs(experiment, history, best_name)
    return warnings


def _undefined_metrics(history: History, absent: set[str]) -> Iterator[str]:
    """Yield a warning of metrics without a value, except those of classes without samples."""
    epochs = history.epochs
    undefined = [
        name
        for name in (epochs[-1] if epochs else ())
        if not any(math.isfinite(epoch.get(name, math.nan)) for epoch in epochs)
        and name.split("/", 2)[-1] not in absent
    ]
    if undefined:
        yield f"no epoch has a value of {', '.join(undefined[:_MAX_NAMES])}"


def _tied_epochs(experiment: Experiment, history: History, best_name: str) -> Iterator[str]:
    """Yield a warning of epochs with the best value of the metric that a policy monitors."""
    policies = [policy for policy in experiment.checkpoint if policy.best_name == best_name]
    if not policies or "monitor" not in type(policies[0]).model_fields:
        return
    name = getattr(policies[0], "monitor", None) or history.monitor
    tied = history.series(name).tied
    if len(tied) < 2:
        return
    numbers = [str(position + 1) for position in tied]
    listed = f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    if len(numbers) > _MAX_NAMES:
        listed = f"{', '.join(numbers[:_MAX_NAMES])} and {len(numbers) - _MAX_NAMES} more"
    value = history.epochs[tied[0]][name]
    text = f"epochs {listed} have the same {name} {value:.4f}: the earliest is kept"
    losses = {history.epochs[position].get(_LOSS, math.nan) for position in tied}
    separates = name != _LOSS and len(losses) == len(tied)
    yield f"{text}; monitor {_LOSS} to tell them apart" if separates else text
