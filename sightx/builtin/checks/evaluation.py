"""Checks of what the validation and the test split can measure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sightx.plugin import Check, Finding, did_you_mean

from .monitor import computed_metrics, monitors, needs_validation, without_validation

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import Experiment, ImageTable, Metric, Predictions

    Array = np.ndarray[Any, Any]

_SAMPLES_PER_CLASS = 4  # of the predictions that metrics are tried on
_MAX_NAMES = 5  # that a message lists


def no_validation(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find components that need a validation split if the data have none."""
    if "validation" in set(table.frame["split"]):
        return
    setting = "split.validation = 0.1" if hasattr(experiment.split, "validation") else "a split"
    for path, need in needs_validation(experiment):
        hint = f"set {setting}, or {without_validation(path)}"
        yield Finding(path, f"{need}: the validation split is empty", hint)


def unknown_class_monitor(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find monitors of a class that the data do not have."""
    if experiment.dataset.traits().classes is not None:
        return  # unknown_monitor has found them without the data
    known = computed_metrics(experiment, table.classes)
    for path, monitor in monitors(experiment):
        if monitor not in known:
            hint = did_you_mean(monitor, known) or f"classes: {_join(table.classes)}"
            yield Finding(path, f"{monitor!r} is not a metric of this experiment", hint)


def unknown_positive(experiment: Experiment) -> Iterator[Finding]:
    """Find positive classes that the dataset does not have."""
    if (classes := experiment.dataset.traits().classes) is not None:
        yield from _positive_findings(experiment, classes)


def unknown_positive_class(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find positive classes that the data do not have."""
    if experiment.dataset.traits().classes is None:
        yield from _positive_findings(experiment, table.classes)


def _positive_findings(experiment: Experiment, classes: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the declaration of a binary decision."""
    positive, path = experiment.evaluation.positive, "evaluation.positive"
    if positive is None:
        return
    unknown = [name for name in positive if name not in classes]
    for name in unknown:
        hint = did_you_mean(name, classes) or f"classes: {_join(classes)}"
        yield Finding(path, f"there is no class {name!r}", hint)
    if not unknown and len(set(positive)) in (0, len(classes)):
        amount = "all" if positive else "none"
        message = f"{amount} of the classes are positive: there is nothing to decide"
        yield Finding(path, message, f"name some of {_join(classes)}, or leave it out")


def class_without_samples(table: ImageTable) -> Iterator[Finding]:
    """Find classes that are trained, but have no samples in a split that measures."""
    trained = set(table.classes) - set(_absent_classes(table, "train"))
    splits = set(table.frame["split"])
    for split in ("validation", "test"):
        if split not in splits:
            continue
        if missing := [name for name in _absent_classes(table, split) if name in trained]:
            message = (
                f"the {split} split has no samples of {_join(list(map(repr, missing)))}: "
                "nothing measures how well they are told apart"
            )
            yield Finding("split", message, "add some, or divide the data otherwise")


def undefined_metric(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find metrics that have no value for a split, whatever the network predicts."""
    for split in ("validation", "test"):
        undefined = {
            f"{split}/{name}"
            for metric in experiment.metric
            for name in _undefined_values(metric, experiment, table, split)
        }
        absent = _absent_classes(table, split)
        followed = [pair for pair in monitors(experiment) if pair[1] in undefined]
        for path, monitor in followed:
            message = f"{monitor!r} never has a value for these data: no epoch can be the best"
            yield Finding(path, message, "monitor another metric, or add samples to the split")
        undefined -= {monitor for _, monitor in followed}
        # Those of a class without samples follow from what `class_without_samples` says.
        others = [name for name in sorted(undefined) if name.split("/", 2)[-1] not in absent]
        if others:
            message = f"never a value for these data: {_join(others)}"
            yield Finding("metric", message, "add samples of other classes to the split")


def _absent_classes(table: ImageTable, split: str) -> list[str]:
    """Return the classes without samples in a split."""
    counts = table.counts((table.frame["split"] == split).to_numpy().nonzero()[0])
    return [name for name, count in zip(table.classes, counts, strict=True) if not count]


def _undefined_values(
    metric: Metric, experiment: Experiment, table: ImageTable, split: str
) -> list[str]:
    """Return the numbers of a metric that are NaN if all predictions are right.

    A number that differs between wrong predictions is defined all the same. A metric that fails on
    the tried predictions is reported when the run computes it.
    """
    tried: list[dict[str, float]] = []
    with suppress(Exception):
        for item in _predictions(experiment, table, split):
            tried.append({name: float(value) for name, value in metric.compute(item).items()})
    if not tried:
        return []
    right, *wrong = tried
    return [
        name
        for name, value in right.items()
        if math.isnan(value)
        and len({values[name] for values in wrong if math.isfinite(values.get(name, math.nan))}) < 2
    ]


def _predictions(experiment: Experiment, table: ImageTable, split: str) -> list[Predictions]:
    """Return predictions for a few samples of each class in a split: right ones, then wrong ones.

    There are none for an empty split.
    """
    import numpy as np

    rows = np.flatnonzero((table.frame["split"] == split).to_numpy())
    labels = table.labels[rows]
    present = [np.flatnonzero(labels == label)[:_SAMPLES_PER_CLASS] for label in np.unique(labels)]
    if not present:
        return []
    chosen = np.concatenate(present)
    rows, labels = rows[chosen], labels[chosen]
    number, size = np.arange(len(labels)), len(table.classes)
    decided = [labels, (labels + 1) % size, (labels + number) % size, labels * 0 + labels[0]]
    columns = table.extra_columns(rows)
    return [
        replace(_predict(experiment, table, labels, decisions), columns=columns)
        for decisions in decided
    ]


def _predict(
    experiment: Experiment, table: ImageTable, labels: Array, decisions: Array
) -> Predictions:
    """Return predictions with these decisions; no two samples are equally certain."""
    import numpy as np

    from sightx.plugin import Predictions

    count, size = len(labels), len(table.classes)
    certainty = np.linspace(0.7, 0.9, count)
    probabilities = np.repeat((1 - certainty)[:, None] / max(size - 1, 1), size, axis=1)
    probabilities[np.arange(count), decisions] = certainty
    outputs = np.zeros((count, experiment.loss.outputs(size)))
    if outputs.shape == probabilities.shape:
        outputs = np.log(probabilities)
    names = tuple(map(str, range(count)))
    return Predictions(
        names, ("",) * count, labels, outputs, probabilities, decisions, table.classes,
        table.ordered,
    )  # fmt: skip


def _join(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


CHECKS = [
    Check(
        "no-validation",
        "a component that follows or is fitted on the validation split needs samples in it",
        no_validation,
        "data",
    ),
    Check(
        "unknown-class-monitor",
        "a metric of a class that the data do not have is never computed",
        unknown_class_monitor,
        "data",
    ),
    Check(
        "unknown-positive",
        "the positive classes of a binary decision are some of the classes of the dataset",
        unknown_positive,
    ),
    Check(
        "unknown-positive-class",
        "the positive classes of a binary decision are some of the classes in the data",
        unknown_positive_class,
        "data",
    ),
    Check(
        "class-without-samples",
        "a class that validation or test lacks is not measured",
        class_without_samples,
        "data",
        "warning",
    ),
    Check(
        "undefined-metric",
        "a metric without a value measures nothing, and a policy that follows it does nothing",
        undefined_metric,
        "data",
        "warning",
    ),
]
