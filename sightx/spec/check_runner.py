"""Run the checks of a stage on an experiment."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from sightx.errors import DataError, PluginError, Problem, ResourceError, SightXError, SpecError
from sightx.io.toml import Document
from sightx.registry.components import call_declared
from sightx.registry.declarations import check_declarations
from sightx.registry.failures import explained_plugin_failures, plugin_failure
from sightx.registry.hooks import Check, Finding, Stage
from sightx.registry.registry import Plugin
from sightx.registry.validation_errors import PLUGIN_CODES, parse_key
from sightx.spec.experiment import Context, Experiment, iter_components

_ERRORS: dict[Stage, type[SightXError]] = {
    "spec": SpecError,
    "data": DataError,
    "device": ResourceError,
    "audit": DataError,
}
_log = logging.getLogger("sightx")


class CheckResult(NamedTuple):
    """A problem that a check found, and the rows of the table that show it."""

    problem: Problem
    rows: Sequence[int] = ()


def run_checks(
    experiment: Experiment, context: Context, stage: Stage, **facts: object
) -> list[Problem]:
    """Return the problems that the checks of a stage find, without the warnings of `allow`.

    `facts` are offered to the checks: `table` at the stage data, `device` at the stage device.
    """
    return [result.problem for result in check_results(experiment, context, stage, **facts)]


def check_results(
    experiment: Experiment, context: Context, stage: Stage, **facts: object
) -> list[CheckResult]:
    """Return the same as `run_checks`, each problem with the rows that show it."""
    if stage == "spec" and (faults := _declaration_faults(experiment, context)):
        return faults  # the checks could only fail
    facts = {"experiment": experiment, "registry": context.registry, **facts}
    return [
        result
        for check, plugin in context.registry.checks
        if check.stage == stage
        and not (check.severity == "warning" and check.code in experiment.allow)
        for result in _run_check(check, plugin, context, facts)
    ]


def enforce_checks(experiment: Experiment, context: Context, stage: Stage, **facts: object) -> None:
    """Run the checks of a stage and log their warnings.

    Raises SpecError, DataError or ResourceError for their errors, PluginError for a check that
    fails.
    """
    problems = run_checks(experiment, context, stage, **facts)
    for problem in problems:
        if problem.severity == "warning":
            _log.warning("%s", problem)
    if errors := [problem for problem in problems if problem.severity == "error"]:
        is_broken = any(problem.code in PLUGIN_CODES for problem in errors)
        raise (PluginError if is_broken else _ERRORS[stage])(*errors)


@contextmanager
def locate_problems(context: Context) -> Iterator[None]:
    """Add positions in the spec to the problems of an error of the body that names only keys."""
    try:
        yield
    except SightXError as error:
        problems = error.problems
        error.problems = tuple(p if p.file else at_position(p, context.spec) for p in problems)
        raise


def _declaration_faults(experiment: Experiment, context: Context) -> list[CheckResult]:
    """Return the problems of what components declare."""
    # A name that cannot be printed is not the fault of a metric, whose numbers have it.
    classes = tuple(filter(str.isprintable, experiment.dataset.traits().classes or ()))
    try:
        with explained_plugin_failures(context.registry):
            check_declarations(iter_components(experiment), classes)
    except SightXError as error:
        return [
            CheckResult(problem if problem.file else at_position(problem, context.spec))
            for problem in error.problems
        ]
    return []


def _run_check(
    check: Check, plugin: Plugin, context: Context, facts: dict[str, object]
) -> list[CheckResult]:
    """Return one check's problems; a check that fails is a problem of its plugin.

    It is as severe as the check: a spec does not need a warning.
    """
    try:
        found = [Finding(*finding) for finding in call_declared(check.find, **facts)]
        return [CheckResult(_problem(check, finding, context), finding.rows) for finding in found]
    except SightXError as error:
        return [CheckResult(problem) for problem in error.problems]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if failure := plugin_failure(error, context.registry):
            problems = [replace(problem, severity=check.severity) for problem in failure.problems]
            return [CheckResult(problem) for problem in problems]
        message = f"the check {check.code!r} of {plugin} failed: {type(error).__name__}: {error}"
        hint = "sightx list-plugins shows where it is from"
        problem = Problem("broken-plugin", message, hint, severity=check.severity)
        return [CheckResult(_at_line(problem, error, check))]


def _at_line(problem: Problem, error: BaseException, check: Check) -> Problem:
    """Return a problem with the innermost line of the check's file that an error passed."""
    code = getattr(inspect.unwrap(check.find), "__code__", None)
    file = getattr(code, "co_filename", "")
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return problem.at(file, lines[-1] or 0) if lines else problem


def _problem(check: Check, finding: Finding, context: Context) -> Problem:
    message, hint, path = finding.message, finding.hint, finding.path
    problem = Problem(check.code, message, hint, path, severity=check.severity)
    return at_position(problem, context.spec)


def at_position(problem: Problem, spec: Document) -> Problem:
    """Return a problem with the position of its key in a spec, if the spec is a file."""
    position = spec.position(parse_key(problem.path))
    return problem.at(position.file, position.line, position.column) if position.file else problem
