"""From a file to an `Experiment`, or every problem at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from sightx.errors import PluginError, Problem, SightXError, SpecError, did_you_mean
from sightx.io.toml import Document, Key
from sightx.registry import loading, project
from sightx.registry.components import Settings, Traits, validate_settings
from sightx.registry.kinds import Dataset
from sightx.registry.project import Project
from sightx.registry.registry import Registry
from sightx.registry.validation_errors import explain_errors, format_key, spec_failure
from sightx.spec import beyond, checks, merge
from sightx.spec.experiment import Context, Experiment
from sightx.spec.paths import Table, iter_tables, resolve_paths, stringify_dates

_USES = {
    "normalize": "model",
    "sampler": "shuffle",
    "loss": "cross-entropy",
    "optimizer": "adam",
    "scheduler": "constant",
    "stopping": "never",
}
_ARRAYS = {"checkpoint": ["best"], "observer": ["curves"]}
_SIZE = 224  # what networks for ImageNet were trained on
_METRICS = ["accuracy", "balanced-accuracy", "precision", "recall", "f1"]
_WARNINGS = {"broken-plugin", "unknown-code"}  # what `allow` silences beside checks
_log = logging.getLogger("sightx")


class _Outline(Settings):
    """The part of a spec that decides what a practitioner would choose for the rest."""

    model_config = ConfigDict(extra="ignore")

    dataset: Dataset


@dataclass(frozen=True)
class Examined:
    """Hold what an examination found, in the order of the files.

    `experiment` is None where a problem keeps the spec from being one; `cause` is the exception
    of a plugin behind the problems, if there is one.
    """

    experiment: Experiment | None
    problems: tuple[Problem, ...]
    cause: BaseException | None = None

    @property
    def failure(self) -> SightXError | None:
        """Return the error that all problems which are no warnings make together."""
        errors = [problem for problem in self.problems if problem.severity == "error"]
        return spec_failure(errors) if errors else None


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a spec and make it whole; `overrides` are `key=value`, the last one wins.

    Raises SpecError or PluginError with every problem, each at its place.
    """
    examined = examine(path, overrides)
    experiment, error = examined.experiment, examined.failure
    if experiment is None or error:
        raise error or SpecError(*examined.problems) from examined.cause
    for warning in examined.problems:
        _log.warning("%s", warning)
    return experiment


def examine(
    path: str | Path, overrides: Sequence[str] = (), home: Project | None = None
) -> Examined:
    """Read a spec and return all that is wrong with it; nothing is raised.

    Where the spec is whole, the checks of the stage `spec` have run, too. Broken plugins are
    warnings, and errors where the spec needs them. `home` is the spec's project; left out, the
    one it lies in.
    """
    path, found = Path(path), list[Problem]()
    experiment = cause = context = None
    try:
        spec = _read(path)
        home = home or project.find_project(path.absolute().parent)
        registry = loading.load_registry(home)
        found += registry.warnings()
        whole = merge.merge_documents(home.defaults, spec)
        context = Context(home, registry, whole, spec.text, path.absolute(), tuple(overrides))
        experiment = _resolve(whole, overrides, home, registry)
        experiment = experiment.with_context(context)
        found += _unknown_codes(experiment, context)
        found += [_placed(problem, path) for problem in checks.run_checks(experiment, "spec")]
    except SightXError as error:
        found += [_placed(problem, path) for problem in error.problems]
        cause = error.__cause__
        if context and isinstance(error, SpecError):
            traits = _traits(context.spec.data, context.registry)
            found += beyond.check_beyond_errors(
                context, error.problems, lambda data: _fill(data, traits)
            )
    allowed = experiment.allow if experiment else ()
    kept = [p for p in found if p.severity == "error" or p.code not in allowed]
    return Examined(experiment, tuple(sorted(kept, key=_order)), cause)


def _read(path: Path) -> Document:
    spec = merge.read_with_bases(path)
    if not spec.data:
        problem = Problem("empty", "says nothing", "a spec has a name, [dataset] and [model]")
        raise SpecError(problem.at(str(path)))
    return spec


def _placed(problem: Problem, path: Path) -> Problem:
    """Return a problem that names a file: one that says none is about the spec as a whole."""
    return problem if problem.file else problem.at(str(path))


def _order(problem: Problem) -> tuple[str, int, int]:
    return problem.file, problem.line, problem.column


def _unknown_codes(experiment: Experiment, context: Context) -> Iterator[Problem]:
    """Yield a warning for each entry of `allow` that can silence nothing."""
    rules = [check for check, _ in context.registry.checks]
    known = sorted({check.code for check in rules if check.severity == "warning"} | _WARNINGS)
    for number, code in enumerate(experiment.allow):
        if code not in known:
            place = context.spec.position(("allow", number))
            hint = did_you_mean(code, known) or "sightx validate --explain list shows all codes"
            message, path = f"{code!r} is the code of no check", f"allow.{number}"
            if code in {check.code for check in rules}:
                message = f"{code!r} is the code of an error, which nothing silences"
            problem = Problem("unknown-code", message, hint, path, severity="warning")
            yield problem.at(place.file, place.line, place.column)


def _resolve(
    spec: Document, overrides: Sequence[str], home: Project, registry: Registry
) -> Experiment:
    # What the rest is left to depends on the dataset; and overrides may change what was left out.
    first = [override for override in overrides if merge.override_section(override) == "dataset"]
    found = merge.apply_overrides(spec, first)
    traits = _traits(spec.data, registry)
    _fill(spec.data, traits)
    found += merge.apply_overrides(
        spec, [override for override in overrides if override not in first]
    )
    _complete(spec, traits, home)
    found += [_date(spec, key, text) for key, text in stringify_dates(spec.data)]
    resolve_paths(Experiment, spec, registry, home)
    return _validate(spec, registry, found)


def _traits(data: Table, registry: Registry) -> Traits:
    """Return what the dataset declares, or nothing where its table is not valid."""
    try:
        dataset = validate_settings(_Outline, data, registry).dataset
    except (ValidationError, SightXError):
        return Traits()
    try:
        if isinstance(traits := dataset.traits(), Traits):
            return traits
        raise TypeError(f"traits() gave {traits!r}, no Traits")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = f"the dataset {dataset.name!r} failed: {type(error).__name__}: {error}"
        hint = "sightx --debug shows its traceback"
        raise PluginError(Problem("broken-plugin", message, hint)) from error


def _fill(data: Table, traits: Traits) -> None:
    """Fill sections that are left out with what a practitioner would choose for such data."""
    split = "given" if traits.has_split else "grouped" if traits.has_groups else "stratified"
    for section, use in {"split": split, **_USES}.items():
        data.setdefault(section, {"use": use})
    data.setdefault("preprocess", [] if traits.shape else [{"use": "resize", "size": _SIZE}])
    metrics = [*_METRICS, "qwk"] if traits.ordered else _METRICS
    for section, names in {**_ARRAYS, "metric": metrics}.items():
        data.setdefault(section, [{"use": name} for name in names])


def _complete(spec: Document, traits: Traits, home: Project) -> None:
    """Add what is always there: a monitor and its metric, accuracy, the last state, watchers."""
    training = spec.data.setdefault("training", {})
    if isinstance(training, dict) and "monitor" not in training:
        monitor = "qwk" if traits.ordered else "balanced-accuracy"
        training["monitor"] = f"validation/{monitor}"
        _ensure(spec, "metric", monitor)
    _ensure(spec, "metric", "accuracy")
    _ensure(spec, "checkpoint", "last")
    for name, place in home.observers.items():
        if _ensure(spec, "observer", name):
            spec.positions["observer", len(spec.data["observer"]) - 1] = place


def _ensure(spec: Document, section: str, use: str) -> bool:
    """Add a component to an array unless it is there, whoever brings it; say whether it was."""
    items: Any = spec.data[section]
    if not isinstance(items, list):
        return False
    uses = [str(item.get("use")) for item in items if isinstance(item, dict)]
    if use in {name for each in uses for name in (each, each.rpartition(":")[2])}:
        return False
    items.append({"use": use})
    return True


def _date(spec: Document, key: Key, text: str) -> Problem:
    place = spec.position(key)
    problem = Problem("wrong-type", f"{text} is a date", "put it in quotes", format_key(key))
    return problem.at(place.file, place.line, place.column)


def _validate(spec: Document, registry: Registry, found: list[Problem]) -> Experiment:
    """Return the experiment, unless something was found already or is found now."""
    experiment, known = None, {problem.path for problem in found} - {""}
    try:
        experiment = validate_settings(Experiment, spec.data, registry)
    except ValidationError as error:
        classes = {key: cls for key, cls, _ in iter_tables(Experiment, spec.data, registry)}
        wrong = explain_errors(error, spec.position, classes.get)
        found = found + [problem for problem in wrong if problem.path not in known]
    if experiment is None or found:
        causes = [plugin.cause for plugin in registry.broken]
        raise spec_failure(found) from next(iter(causes), None)
    return experiment
