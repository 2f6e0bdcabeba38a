"""Run every check that applies to a component."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightx.plugin import Component
from sightx.testing import general
from sightx.testing.demands import Finding, find
from sightx.testing.examples import built_in

Example = Callable[[Path], Mapping[str, Any]]

# Where the checks of each kind are; none is imported before a component of the kind is checked.
_CHECKS = {
    "augment": "pixels:AUGMENT",
    "checkpoint": "policies:CHECKPOINT",
    "dataset": "tables:DATASET",
    "postprocess": "judging:DECIDE",
    "loss": "losses:LOSS",
    "metric": "judging:METRIC",
    "model": "models:MODEL",
    "normalize": "pixels:NORMALIZE",
    "observer": "watching:OBSERVER",
    "optimizer": "optimizing:OPTIMIZER",
    "preprocess": "preparing:PREPARE",
    "sampler": "tables:SAMPLER",
    "scheduler": "policies:SCHEDULER",
    "split": "tables:SPLIT",
    "stopping": "policies:STOPPING",
}


def contract(
    component: Component | type[Component], /, *, example: Example | None = None, **settings: Any
) -> list[Finding]:
    """Return what every check of a component's kind finds.

    A class is made with `settings`; or with what `example(folder)` returns, after it has written
    the data that the component needs into the folder; or with the class's own `example`; or with
    its defaults.
    """
    cls = component if isinstance(component, type) else type(component)
    findings = [find(check, cls) for check in general.CLASS]
    with settled(component, example=example, **settings) as (made, fault):
        if made is None:
            return [*findings, Finding("settings", False, fault)]
        findings += [find(check, made) for check in general.SETTINGS]
        module, _, name = _CHECKS[cls.kind].partition(":")
        checks = getattr(importlib.import_module(f"sightx.testing.{module}"), name)
        with _one_thread():
            return [*findings, *(find(check, made) for check in checks)]


def check(
    component: Component | type[Component], /, *, example: Example | None = None, **settings: Any
) -> None:
    """Raise AssertionError, a line for each promise that the component breaks."""
    found = contract(component, example=example, **settings)
    broken = [str(finding) for finding in found if not finding.ok]
    if broken:
        raise AssertionError(f"{_title(component)}\n" + "\n".join(broken))


@contextmanager
def settled(
    component: Component | type[Component], /, *, example: Example | None = None, **settings: Any
) -> Iterator[tuple[Component | None, str]]:
    """Make a component with settings, and its data while the context lasts.

    Yields the component, or None and the one line that says why it cannot be made.
    """
    if isinstance(component, Component):
        yield component, ""
        return
    made: Component | None
    with tempfile.TemporaryDirectory(prefix="sightx-") as folder:
        source = example or getattr(component, "example", None) or built_in(component)
        try:
            chosen = settings or (source(Path(folder)) if source else {})
            made, fault = _made(component, chosen), ""
        except Exception as error:
            made, fault = None, _way_out(component, error)
        yield made, fault


def _made(cls: type[Component], settings: Mapping[str, Any]) -> Component:
    text = json.dumps(general.plain(settings), default=str)
    context = {"registry": general.Known(tuple(settings.values()))}
    return cls.model_validate_json(text, context=context)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread: on images this small, more only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _way_out(cls: type[Component], error: Exception) -> str:
    line = " ".join(f"{type(error).__name__}: {error}".split())
    required = [key for key, info in cls.model_fields.items() if info.is_required()]
    needs = f"it needs {', '.join(required)}; " if required else ""
    return f"{needs}give settings, or the class a static method example(folder): {line}"


def _title(component: Component | type[Component]) -> str:
    kind = getattr(component, "kind", "component")
    return f"{kind} {getattr(component, 'name', '?')!r} breaks its contract:"
