"""Run the checks of a stage over an experiment."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from sightx.document import Key
from sightx.errors import DataError, PluginError, Problem, ResourceError, SightXError, SpecError
from sightx.registry.checks import Check, Finding, Stage
from sightx.registry.components import call
from sightx.spec.experiment import Experiment

_ERRORS: dict[Stage, type[SightXError]] = {
    "spec": SpecError,
    "data": DataError,
    "device": ResourceError,
}
_log = logging.getLogger("sightx")


def run(experiment: Experiment, stage: Stage, **facts: object) -> list[Problem]:
    """Return what the checks of a stage find; what the experiment allows is left out.

    `facts` are offered beside the experiment: `table` and `device`.
    """
    if experiment.origin is None:
        return []
    return [
        problem
        for check, plugin in experiment.origin.registry.checks
        if check.stage == stage and check.code not in experiment.allow
        for finding in _findings(check, str(plugin), experiment, facts)
        if (problem := _problem(experiment, check, finding))
    ]


def enforce(experiment: Experiment, stage: Stage, **facts: object) -> None:
    """Log the warnings of a stage. Raises SpecError, DataError or ResourceError for its errors."""
    found = run(experiment, stage, **facts)
    for problem in found:
        if problem.severity == "warning":
            _log.warning("%s", problem)
    if errors := [problem for problem in found if problem.severity == "error"]:
        raise _ERRORS[stage](*errors)


def _findings(
    check: Check, plugin: str, experiment: Experiment, facts: dict[str, object]
) -> Iterable[Finding]:
    try:
        return list(call(check.find, experiment=experiment, **facts))
    except SightXError:
        raise
    except Exception as error:
        message = f"the check {check.code!r} of {plugin} failed: {type(error).__name__}: {error}"
        raise PluginError(Problem("broken-plugin", message, "sightx --debug shows where")) from error


def _problem(experiment: Experiment, check: Check, finding: Finding) -> Problem:
    assert experiment.origin is not None
    place = experiment.origin.document.position(_key(finding.path))
    path, message, hint = finding
    problem = Problem(check.code, message, hint, path, severity=check.severity)
    return problem.at(place.file, place.line, place.column)


def _key(path: str) -> Key:
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))
