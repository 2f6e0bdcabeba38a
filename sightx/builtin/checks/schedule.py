"""Checks that compare schedulers, averages and stopping policies with the length of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sightx.plugin import Check, Finding

if TYPE_CHECKING:
    from sightx.plugin import Experiment


def _setting(component: object, name: str) -> int:
    """Return a setting that counts epochs; 0 if a component has no such number."""
    value = getattr(component, name, 0)
    return value if isinstance(value, int) else 0


def step_unreached(experiment: Experiment) -> Iterator[Finding]:
    """Find a scheduler whose first step comes after the end of training."""
    step_size, epochs = _setting(experiment.scheduler, "step_size"), experiment.training.epochs
    if step_size >= epochs:
        message = f"a step after {step_size} epochs is never taken in {epochs} epochs"
        hint = f"choose a value below {epochs}, or another scheduler"
        yield Finding("scheduler.step_size", message, hint)


def patience_unreached(experiment: Experiment) -> Iterator[Finding]:
    """Find a patience that cannot run out."""
    epochs = experiment.training.epochs
    for path, part in (("scheduler", experiment.scheduler), ("stopping", experiment.stopping)):
        patience = _setting(part, "patience")
        if patience >= epochs:
            message = f"a patience of {patience} epochs cannot run out in {epochs} epochs"
            yield Finding(f"{path}.patience", message, f"choose a value below {epochs}")


def average_unreached(experiment: Experiment) -> Iterator[Finding]:
    """Find an average that begins after the end of training."""
    start, epochs = _setting(experiment.average, "start_epoch"), experiment.training.epochs
    if start >= epochs:
        message = f"an average that begins after {start} epochs is never taken in {epochs} epochs"
        yield Finding("average.start_epoch", message, f"choose a value below {epochs}")


def one_group(experiment: Experiment) -> Iterator[Finding]:
    """Find a scheduler of parameter groups of which there is only one."""
    scheduler = experiment.scheduler
    if scheduler.needs_groups and not experiment.optimizer.group:
        message = f"{scheduler.name} has no effect on a single parameter group"
        yield Finding("scheduler.use", message, "add [[optimizer.group]], the head first")


def long_warmup(experiment: Experiment) -> Iterator[Finding]:
    """Find a warm-up that is longer than training."""
    warmup, epochs = experiment.scheduler.warmup, experiment.training.epochs
    if warmup > epochs:
        message = f"a warm-up of {warmup:g} epochs is longer than training ({epochs} epochs)"
        yield Finding("scheduler.warmup", message, f"choose at most {epochs}")


def double_warmup(experiment: Experiment) -> Iterator[Finding]:
    """Find a warm-up of a schedule that includes one already."""
    scheduler = experiment.scheduler
    if scheduler.includes_warmup and scheduler.warmup:
        message = f"the schedule of {scheduler.name} includes a warm-up already: they multiply"
        yield Finding("scheduler.warmup", message, "leave scheduler.warmup out")


CHECKS = [
    Check(
        "step-unreached",
        "the learning rate stays constant if the first step comes after training",
        step_unreached,
        severity="warning",
    ),
    Check(
        "patience-unreached",
        "a patience as long as training has no effect",
        patience_unreached,
        severity="warning",
    ),
    Check(
        "average-unreached",
        "the weights are not averaged if that begins after training",
        average_unreached,
        severity="warning",
    ),
    Check(
        "one-group",
        "the scheduler treats parameter groups differently, and there is only one",
        one_group,
        severity="warning",
    ),
    Check("long-warmup", "the learning rate must reach its full value", long_warmup),
    Check(
        "double-warmup",
        "two warm-ups multiply, and the learning rate starts too low",
        double_warmup,
        severity="warning",
    ),
]
