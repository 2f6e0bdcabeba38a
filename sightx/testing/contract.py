"""Run all checks of a component."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightx.plugin import Check, Component
from sightx.testing.assertions import CheckResult, run_check
from sightx.testing.checks import command, rule
from sightx.testing.checks import component as general
from sightx.testing.examples import builtin_example

Example = Callable[[Path], Mapping[str, Any]]


def contract(
    component: Any, /, *, example: Example | None = None, **settings: Any
) -> list[CheckResult]:
    """Return the results of all checks of a component, a class, a `Check` or a click command.

    A class is instantiated with `settings`. Without them, it is instantiated with the settings that
    `example(folder)` returns, after it has written the data that the component needs into the
    folder; `example` may also be a static method of the class. Without an example, defaults are
    used.
    """
    cls = component if isinstance(component, type) else type(component)
    if not issubclass(cls, Component):
        checks = rule.CHECKS if isinstance(component, Check) else command.CHECKS
        return [run_check(check, component) for check in checks]
    results = [run_check(check, cls) for check in general.CLASS_CHECKS]
    with instantiated(component, example=example, **settings) as (instance, error):
        if instance is None:
            return [*results, CheckResult("settings", False, error)]
        results += [run_check(check, instance) for check in general.SETTINGS_CHECKS]
        # Only the checks of one kind are imported.
        checks = importlib.import_module(f"sightx.testing.checks.{cls.kind}").CHECKS
        with _one_thread():
            return [*results, *(run_check(check, instance) for check in checks)]


def check(component: Any, /, *, example: Example | None = None, **settings: Any) -> None:
    """Raise AssertionError with one line per failed check; the arguments are `contract`'s."""
    results = contract(component, example=example, **settings)
    if failures := [str(result) for result in results if not result.ok]:
        raise AssertionError(f"{_title(component)} breaks its contract:\n" + "\n".join(failures))


def _title(subject: Any) -> str:
    if isinstance(subject, Check):
        return f"check {subject.code!r}"
    is_component = isinstance(subject, (Component, type))
    kind = getattr(subject, "kind", "component") if is_component else "command"
    return f"{kind} {getattr(subject, 'name', '?')!r}"


@contextmanager
def instantiated(
    component: Component | type[Component], /, *, example: Example | None = None, **settings: Any
) -> Iterator[tuple[Component | None, str]]:
    """Instantiate a class; the data of its example exist until the context ends.

    Yields the component and "", or None and one line that says why it cannot be instantiated.
    """
    if isinstance(component, Component):
        yield component, ""
        return
    instance, message = None, ""
    with tempfile.TemporaryDirectory(prefix="sightx-") as folder:
        source = example or getattr(component, "example", None) or builtin_example(component)
        try:
            settings = settings or (dict(source(Path(folder))) if source else {})
            instance = general.instantiate(component, settings)
        except Exception as error:
            message = _explain(component, error)
        yield instance, message


def _explain(cls: type[Component], error: Exception) -> str:
    line = " ".join(f"{type(error).__name__}: {error}".split())
    required = [key for key, info in cls.model_fields.items() if info.is_required()]
    needs = f"it needs {', '.join(required)}; " if required else ""
    return f"{needs}pass settings, or give the class a static method example(folder): {line}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: for images this small, more threads are slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
