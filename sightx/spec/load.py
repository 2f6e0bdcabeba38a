"""Load a spec: from a file to an `Experiment`, or to every problem at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError

from sightx.errors import Problem, SightXError, SpecError, did_you_mean
from sightx.io.files import shell_path, user_path
from sightx.io.toml import Document, Key
from sightx.registry.components import (
    Component,
    table_class,
    to_plain,
    validate_component,
    validate_settings,
)
from sightx.registry.kinds import Dataset
from sightx.registry.loading import load_registry
from sightx.registry.project import Project, find_project
from sightx.registry.registry import Registry
from sightx.registry.suggestions import setting_hint, value_keys
from sightx.registry.validation_errors import (
    ClassAt,
    explain_errors,
    format_key,
    parse_key,
    spec_failure,
)
from sightx.spec import merge
from sightx.spec.check_runner import at_position, run_checks
from sightx.spec.experiment import DEFAULT_OBSERVERS, Context, Experiment
from sightx.spec.merge import Table
from sightx.spec.paths import iter_tables, resolve_paths, stringify_dates, undecodable_texts

# `allow` also turns these off, and errors of copies into warnings.
_OTHER_WARNINGS = {"broken-plugin", "conflicting-copies", "copies-across-splits", "unknown-code"}
# A table with one of these problems cannot be validated without it.
_NEED_WHOLE_TABLE = {"missing-key", "missing-use", "unknown-name", "name-clash", "broken-plugin"}
_log = logging.getLogger("sightx")


@dataclass(frozen=True)
class Examined:
    """The result of examining a spec.

    Attributes:
        experiment: The experiment; None if the spec is not valid.
        problems: All problems, sorted by position.
        cause: The exception of a plugin behind the problems, if there is one.
    """

    experiment: Experiment | None
    problems: tuple[Problem, ...]
    cause: BaseException | None = None

    @property
    def failure(self) -> SightXError | None:
        """Return the error for all problems that are not warnings; None if there are none."""
        errors = [problem for problem in self.problems if problem.severity == "error"]
        return spec_failure(errors) if errors else None


def load(path: str | Path, overrides: merge.Overrides = ()) -> Experiment:
    """Return the experiment of a spec.

    `overrides` are `key=value` strings, the last of which wins, or a mapping of keys to values.

    Warnings are logged. Raises SpecError or PluginError with every problem, each at its position.
    """
    examined = examine(path, merge.as_overrides(overrides))
    experiment, failure = examined.experiment, examined.failure
    if experiment is None or failure:
        raise failure or SpecError(*examined.problems) from examined.cause
    for warning in examined.problems:
        _log.warning("%s", warning)
    return experiment


def examine(
    path: str | Path, overrides: Sequence[str] = (), project: Project | None = None
) -> Examined:
    """Read a spec and return everything that is wrong with it, without raising an error.

    A broken plugin is a warning, and an error if the spec needs it.

    Args:
        path: The spec.
        overrides: `key=value`, as for `load`.
        project: The project of the spec; None for the one that its folder belongs to.
    """
    path, problems = user_path(path), list[Problem]()
    experiment = cause = context = None
    try:
        document = _read(path)
        project = project or find_project(path.absolute().parent)
        registry = load_registry(project)
        problems += registry.warnings()
        text, document = document.text, merge.merge_documents(project.defaults, document)
        context = Context(project, registry, document, text, path.absolute(), tuple(overrides))
        experiment = _resolve(context).with_context(context)
        for note in context.notes:
            _log.warning("%s", note)
        problems += _check_allow(experiment, context)
        problems += _in_file(run_checks(experiment, context, "spec"), path)
    except SightXError as error:
        problems += _in_file(error.problems, path)
        cause = error.__cause__
        if context and isinstance(error, SpecError):
            problems += _check_valid_parts(context, error.problems)
    allowed = experiment.allow if experiment else ()
    shown = [p for p in problems if p.severity == "error" or p.code not in allowed]
    return Examined(experiment, tuple(sorted(shown, key=_position)), cause)


def _read(path: Path) -> Document:
    """Return a spec merged over its bases. Raises SpecError if there is none."""
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises without permission
        hint = f"sightx init {shell_path(path)} writes a spec for a folder of images"
        raise SpecError(Problem("unreadable", "is a folder, not a spec", hint))
    document = merge.read_with_bases(path)
    if not document.data:
        hint = "a spec has a name, [dataset] and [model]"
        raise SpecError(Problem("empty", "says nothing", hint))
    return document


def _in_file(problems: Iterable[Problem], path: Path) -> list[Problem]:
    """Return problems with a file: one without is about the spec as a whole."""
    return [problem if problem.file else problem.at(str(path)) for problem in problems]


def _position(problem: Problem) -> tuple[str, int, int]:
    return problem.file, problem.line, problem.column


def _resolve(context: Context) -> Experiment:
    """Return the experiment of a merged document, which is modified."""
    document, registry = context.spec, context.registry
    default_section = partial(_default_section, document, registry)
    # Overrides of the dataset come first, because defaults of other sections depend on it.
    overrides = sorted(context.overrides, key=lambda o: merge.override_section(o) != "dataset")
    _add_default_observers(document)
    _add_project_observers(document, context.project, default_section)
    problems = merge.apply_overrides(document, overrides, default_section, context.notes)
    _add_project_observers(document, context.project, default_section)  # again after observer = []
    for key, date in stringify_dates(document.data):
        message, path = f"{date} is a date", format_key(key)
        problem = Problem("wrong-type", message, "put it in quotes", path)
        problems.append(at_position(problem, document))
    resolve_paths(Experiment, document, registry, context.project)
    for key, text in undecodable_texts(document.data):
        message, hint = f"{text!r} is not UTF-8", "rename the folder or the file"
        problem = Problem("invalid-value", message, hint, format_key(key))
        raise SpecError(at_position(problem, document))
    return _validate(document, registry, problems)


def _default_section(document: Document, registry: Registry, section: str) -> Any:
    """Return the default of a section that names components, None for any other section."""
    field = Experiment.model_fields.get(section)
    cls = table_class(field.annotation) if field else None
    if not field or field.is_required() or not (cls and issubclass(cls, Component)):
        return None
    validated = {}
    table = document.data.get("dataset")
    if isinstance(table, dict):
        with suppress(ValueError, SightXError):  # reported when the experiment is validated
            validated["dataset"] = validate_component(Dataset, table, registry)
    return to_plain(field.get_default(call_default_factory=True, validated_data=validated))


def _add_default_observers(document: Document) -> None:
    """Add the default observers to those of a spec, so that overrides can change them."""
    observers = document.data.get("observer")
    if isinstance(observers, list) and observers:
        names = _observer_names(observers)
        observers += [dict(table) for table in DEFAULT_OBSERVERS if table["use"] not in names]


def _add_project_observers(
    document: Document, project: Project, default_section: merge.DefaultSection
) -> None:
    """Add the observers of the project, unless the spec has them."""
    if not project.observers:
        return
    observers = document.data.setdefault("observer", default_section("observer"))
    if not isinstance(observers, list):
        return  # it is reported when the experiment is validated
    names = _observer_names(observers)
    for name, position in project.observers.items():
        if name not in names:
            key = ("observer", len(observers))
            document.positions.update({key: position, (*key, "use"): position})
            observers.append({"use": name})


def _observer_names(observers: list[Any]) -> set[str]:
    """Return what `use` says in tables of observers, with and without the owner."""
    uses = {str(item.get("use")) for item in observers if isinstance(item, dict)}
    return uses | {use.rpartition(":")[2] for use in uses}


def _validate(document: Document, registry: Registry, problems: list[Problem]) -> Experiment:
    """Return the experiment. Raises SpecError or PluginError for these and for new problems."""
    experiment = None
    try:
        experiment = validate_settings(Experiment, document.data, registry)
    except ValidationError as error:
        tables = iter_tables(Experiment, document.data, registry)
        classes = {key: cls for key, cls, _ in tables}
        known = {problem.path for problem in problems} - {""}
        invalid = explain_errors(error, document.position, classes.get)
        problems = problems + [
            _with_component_hint(problem, document.data, registry, classes.get)
            for problem in invalid
            if problem.path not in known
        ]
    if experiment is None or problems:
        cause = next((plugin.cause for plugin in registry.broken), None)
        raise spec_failure(problems) from cause
    return experiment


def _with_component_hint(
    problem: Problem, data: Any, registry: Registry, class_at: ClassAt
) -> Problem:
    """Return a problem whose hint says that a value is the name of a component.

    It is proposed for a text in place of a table, and for a name in another library, such as that
    of a network; other values are only spelt like a component. The hint of an unknown key says
    which component, or whose setting, the key means.
    """
    key, value = parse_key(problem.path), data
    is_clear = problem.hint.startswith(("did you mean", "it is a"))
    if problem.code == "unknown-key" and not is_clear and key[-1] not in Experiment.model_fields:
        section = str(key[0]) if len(key) > 1 else ""
        hint = setting_hint(registry.components(), section, str(key[-1]), _header)
        return replace(problem, hint=hint or problem.hint)
    for part in key:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return problem
    if not isinstance(value, str) or value not in registry.names(str(key[0])):
        return problem
    use = f'use = "{value}"'
    if problem.code == "wrong-type" and problem.hint.startswith("write ["):
        return replace(problem, hint=f"{problem.hint} and {use}")
    cls = class_at(key[:-1])
    is_name = cls is not None and issubclass(cls, Component) and key[-1] in [*value_keys(cls)]
    return replace(problem, hint=f"did you mean {use}?") if is_name else problem


def _header(kind: str) -> str:
    """Return how a spec writes the table of a kind: `[optimizer]` or `[[augment]]`."""
    is_array = get_origin(Experiment.model_fields[kind].annotation) is tuple
    return f"[[{kind}]]" if is_array else f"[{kind}]"


def _check_allow(experiment: Experiment, context: Context) -> Iterator[Problem]:
    """Yield a warning for each entry of `allow` that is not the code of a warning."""
    checks = [check for check, _ in context.registry.checks]
    warnings = {check.code for check in checks if check.severity == "warning"} | _OTHER_WARNINGS
    errors = {check.code for check in checks} - warnings
    for number, code in enumerate(experiment.allow):
        if code not in warnings:
            hint = did_you_mean(code, sorted(warnings))
            hint = hint or "sightx validate --explain list shows all codes"
            message = f"{code!r} is not the code of a check"
            if code in errors:
                message = f"{code!r} is the code of an error, which cannot be allowed"
            problem = Problem("unknown-code", message, hint, f"allow.{number}", severity="warning")
            yield at_position(problem, context.spec)


def _check_valid_parts(context: Context, problems: Iterable[Problem]) -> list[Problem]:
    """Return what the checks of the stage spec find in a spec with errors.

    Wrong values are removed, so that defaults take their place; then whole sections with errors.
    Findings about what was removed, or about sections that the spec leaves out, are not returned.
    """
    data: Table = deepcopy(context.spec.data)
    removed = [_remove(data, parse_key(problem.path), problem.code) for problem in problems]
    for _ in range(2):
        data.setdefault("model", {"use": "simplenet"})  # some model; its findings are not returned
        try:
            experiment = validate_settings(Experiment, data, context.registry)
            break
        except ValidationError as error:
            invalid = {detail["loc"][0] for detail in error.errors()}
            removed += [(section,) for section in invalid]
            data = {key: value for key, value in data.items() if key not in invalid}
        except SightXError:
            return []
    else:
        return []
    return [
        problem
        for problem in run_checks(experiment, context, "spec")
        if (key := parse_key(problem.path))[:1] in context.spec.positions
        and not any(key[: len(removed_key)] == removed_key for removed_key in removed)
    ]


def _remove(data: Any, key: Key, code: str) -> Key:
    """Remove a wrong value, or the section around it; return the key of what is removed."""
    if code in _NEED_WHOLE_TABLE or len(key) < 2:
        data.pop(key[0], None)
        return key[:1]
    for part in key[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return key  # a table around it is removed already
    if isinstance(data, dict):
        data.pop(key[-1], None)
    elif isinstance(data, list) and isinstance(key[-1], int):
        data.clear()  # the other items would move to other indices
    return key
