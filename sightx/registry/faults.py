"""What can be wrong with what a plugin brings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sightx.registry.checks import STAGES, Check
from sightx.registry.components import Component
from sightx.registry.kinds import KINDS

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # no colon, dot or leading digit: `use`, `--set`
_CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def component_fault(brought: Sequence[Any]) -> str:
    """Return the first fault of what a plugin calls its components, or an empty string."""
    return next(filter(None, map(_fault, brought)), "") or _twice(brought)


def check_fault(brought: Sequence[Any], taken: Mapping[str, str]) -> str:
    """Return the first fault of what a plugin calls its checks; `taken` are the codes' owners."""
    return next(filter(None, (_check_fault(check, taken) for check in brought)), "")


def _fault(component: Any) -> str:
    """Return what is wrong with an object that a plugin calls a component."""
    if not (isinstance(component, type) and issubclass(component, Component)):
        return f"{component!r} is no component class"
    title, fields = component.__name__, component.__pydantic_fields__
    kinds = [cls.kind for cls in KINDS if issubclass(component, cls)]
    if (kind := getattr(component, "kind", None)) not in kinds:
        return f"{title} is of no kind"
    if taken := [key for key in ("name", "kind", "revision", "use") if key in fields]:
        return f"{title} makes {taken[0]!r} a field: write it without a type"
    name = getattr(component, "name", None)
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        return f"{title} needs a name of letters, digits, - and _, not {name!r}"
    return _incomplete(component, f"the {kind} {name!r}")


def _incomplete(component: type[Component], title: str) -> str:
    if type(component.revision) is not int or component.revision < 1:
        return f"{title} needs a revision of 1 or more"
    return "" if (component.__doc__ or "").strip() else f"{title} has no docstring"


def _twice(components: Sequence[type[Component]]) -> str:
    """Return which name is given to two of these components, if any."""
    counts = Counter(f"{component.kind} {component.name!r}" for component in components)
    return next((f"two components are the {name}" for name, n in counts.items() if n > 1), "")


def _check_fault(check: Any, taken: Mapping[str, object]) -> str:
    """Return what is wrong with what a plugin calls a check; `taken` are the codes' owners."""
    if type(check) is not Check:
        return f"{check!r} is no check"
    if not (isinstance(check.code, str) and _CODE.fullmatch(check.code)):
        return f"{check.code!r} is no code: lower-case words with dashes"
    if check.code in taken:
        return f"the code {check.code!r} is that of a check of {taken[check.code]}"
    if check.stage not in STAGES:
        return f"the check {check.code!r} has the stage {check.stage!r}: {', '.join(STAGES)}"
    if check.severity not in ("error", "warning"):
        return f"the check {check.code!r} has the severity {check.severity!r}: error, warning"
    return "" if callable(check.find) else f"the check {check.code!r} finds nothing"
