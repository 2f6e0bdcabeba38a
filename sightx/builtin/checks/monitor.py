"""Checks of the metrics that components follow, and of the validation split that they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from sightx.plugin import Check, Finding, did_you_mean, split_called

if TYPE_CHECKING:
    from sightx.plugin import Experiment

_ALWAYS_COMPUTED = ("train/loss", "train/accuracy", "validation/loss")


class _Names(Protocol):
    def meant_by(self, kind: str, name: str) -> list[str]:
        """Return the names of the components of a kind that users of other libraries call so."""


def unknown_monitor(experiment: Experiment, registry: _Names) -> Iterator[Finding]:
    """Find monitors that no metric of the experiment computes."""
    classes = experiment.dataset.traits().classes
    known = computed_metrics(experiment, classes or ())
    for path, monitor in monitors(experiment):
        # Metrics of single classes, such as recall/cat, are known only with the classes.
        may_be_of_class = classes is None and any(monitor.startswith(f"{name}/") for name in known)
        if monitor not in known and not may_be_of_class:
            message = f"{monitor!r} is not a metric of this experiment"
            yield Finding(path, message, _hint_for_monitor(experiment, registry, monitor, known))


def _hint_for_monitor(
    experiment: Experiment, registry: _Names, monitor: str, known: list[str]
) -> str:
    """Return what is meant by a name such as val_loss, val/acc or kappa."""
    first, _, rest = monitor.partition("/" if "/" in monitor.partition("_")[0] else "_")
    split, name = (split_called(first), rest) if split_called(first) else ("", monitor)
    split = "train" if split == "train" else "validation"
    metric, *of_class = name.split("/")
    for meant in (metric, metric.replace("_", "-"), *registry.meant_by("metric", metric)):
        for full in (f"{split}/{meant}", f"validation/{meant}"):
            of_classes = [name for name in known if name.startswith(f"{full}/")]
            wanted = "/".join([full, *of_class])
            if wanted in known or (full in known and not of_classes):
                return f"did you mean {wanted!r}?"
    for meant in registry.meant_by("metric", metric):
        if meant not in {metric.name for metric in experiment.metric}:
            what = "it" if monitor == f"validation/{meant}" else f"'validation/{meant}'"
            return f'a [[metric]] with use = "{meant}" computes {what}'
    # Without the split, which all names share: otherwise qwkk would be close to f1.
    names = [one.partition("/")[2] for one in known if one.startswith(f"{split}/")]
    near = did_you_mean(name, names).replace("mean '", f"mean '{split}/")
    return near or f"there are {', '.join([one for one in known if one.count('/') == 1][:12])}"


def empty_monitor(experiment: Experiment) -> Iterator[Finding]:
    """Find components that need a validation split that has no samples."""
    if "validation" in experiment.split.empty():
        for path, need in needs_validation(experiment):
            hint = f"set split.validation = 0.1, or {without_validation(path)}"
            yield Finding(path, f"{need}: the validation split is empty", hint)


def needs_validation(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the key of each component that needs a validation split, and what it cannot do."""
    for path, monitor in monitors(experiment):
        if monitor.startswith("validation/"):
            yield path, f"{monitor!r} is never computed"
    for number, component in enumerate(experiment.postprocess):
        yield f"postprocess.{number}.use", f"{component.name} cannot be fitted"
    if experiment.evaluation.positive is not None:
        yield "evaluation.positive", "thresholds cannot be chosen"


def without_validation(path: str) -> str:
    """Return what to do with a key of `needs_validation` without a validation split."""
    return f'{path} = "train/loss"' if path.endswith("monitor") else "leave it out"


def computed_metrics(experiment: Experiment, classes: tuple[str, ...]) -> list[str]:
    """Return the names of all metrics of an experiment that a component can follow."""
    names = [name for metric in experiment.metric for name in metric.values(classes)]
    return [*_ALWAYS_COMPUTED, *(f"validation/{name}" for name in names)]


def monitors(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the key and the value of each `monitor`."""
    yield "training.monitor", experiment.training.monitor
    parts: list[tuple[str, Any]] = [
        ("scheduler", experiment.scheduler),
        ("stopping", experiment.stopping),
        *((f"checkpoint.{n}", policy) for n, policy in enumerate(experiment.checkpoint)),
    ]
    for path, part in parts:
        monitor = getattr(part, "monitor", None)
        if isinstance(monitor, str) and monitor:
            yield f"{path}.monitor", monitor


CHECKS = [
    Check("unknown-monitor", "a metric that is not computed has no best value", unknown_monitor),
    Check("empty-monitor", "an empty split has no metrics, and nothing to fit", empty_monitor),
]
