"""Run the checks of a stage over an experiment."""

from __future__ import annotations

import logging

from sightx.errors import DataError, PluginError, Problem, ResourceError, SightXError, SpecError
from sightx.io.toml import Document
from sightx.registry.blame import plugin_failure
from sightx.registry.checks import Check, Finding, Stage
from sightx.registry.components import call_declared
from sightx.registry.registry import Plugin
from sightx.registry.validation_errors import parse_key
from sightx.spec.experiment import Experiment

_ERRORS: dict[Stage, type[SightXError]] = {
    "spec": SpecError,
    "data": DataError,
    "device": ResourceError,
}
_BROKEN = "broken-plugin"
_log = logging.getLogger("sightx")


def run_checks(experiment: Experiment, stage: Stage, **facts: object) -> list[Problem]:
    """Return what the checks of a stage find; warnings that the experiment allows are left out.

    `facts` are offered beside the experiment: `table` and `device`.
    """
    context = experiment.context
    return [
        problem
        for check, plugin in context.registry.checks
        if check.stage == stage
        and not (check.severity == "warning" and check.code in experiment.allow)
        for problem in _found(check, plugin, experiment, context.spec, facts)
    ]


def enforce_checks(experiment: Experiment, stage: Stage, **facts: object) -> None:
    """Log the warnings of a stage.

    Raises SpecError, DataError or ResourceError for its errors, PluginError for a check that fails.
    """
    found = run_checks(experiment, stage, **facts)
    for problem in found:
        if problem.severity == "warning":
            _log.warning("%s", problem)
    if errors := [problem for problem in found if problem.severity == "error"]:
        broken = any(problem.code == _BROKEN for problem in errors)
        raise (PluginError if broken else _ERRORS[stage])(*errors)


def _found(
    check: Check, plugin: Plugin, experiment: Experiment, spec: Document, facts: dict[str, object]
) -> list[Problem]:
    """Return one check's problems; one that fails is a problem of its plugin alone."""
    try:
        findings = call_declared(check.find, experiment=experiment, **facts)
        return [_problem(check, finding, spec) for finding in findings]
    except SightXError as error:
        return list(error.problems)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if failure := plugin_failure(error, experiment.context.registry):
            return list(failure.problems)
        message = f"the check {check.code!r} of {plugin} failed: {type(error).__name__}: {error}"
        return [Problem(_BROKEN, message, "sightx list-plugins shows where it is from")]


def at_position(problem: Problem, spec: Document) -> Problem:
    """Return a problem at the place of its key in a spec."""
    place = spec.position(parse_key(problem.path))
    return problem.at(place.file, place.line, place.column)


def _problem(check: Check, finding: Finding, spec: Document) -> Problem:
    path, message, hint = finding
    return at_position(Problem(check.code, message, hint, path, severity=check.severity), spec)
