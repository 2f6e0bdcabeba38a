"""The hooks of a plugin, and the checks that a plugin can provide."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple

import pluggy

from sightx.errors import suggest
from sightx.registry.components import Component

if TYPE_CHECKING:
    import click

hookspec = pluggy.HookspecMarker("sightx")
hookimpl = pluggy.HookimplMarker("sightx")

Stage = Literal["spec", "data", "device", "audit"]
STAGES: tuple[Stage, ...] = ("spec", "data", "device", "audit")


class Finding(NamedTuple):
    """A problem that a check found: the dotted key, the message, and a hint how to fix it.

    `rows` are positions in the table of samples that show it, which `sightx audit` lists.
    """

    path: str
    message: str
    hint: str = ""
    rows: Sequence[int] = ()


@dataclass(frozen=True)
class Check:
    """A rule about an experiment.

    Attributes:
        code: Name of the rule in messages and in `allow`: lower-case words with dashes.
        reason: Why the rule exists, in one line; `sightx validate --explain` shows it.
        find: Returns or yields the findings. It is called with only the arguments that it declares:
            `experiment` and `registry`; at the stages data and audit also `table`, an ImageTable;
            at the stage device `device`, a torch.device; at the stage audit `images`, a data frame
            of the properties of each row's image, which docs/audit.md lists.
        stage: When the check runs: with the spec alone, with the data open, with the device, or
            in `sightx audit`, after all images were read.
        severity: A warning is shown, and a spec can turn it off with `allow`; an error stops.
    """

    code: str
    reason: str
    find: Callable[..., Iterable[Finding]]
    stage: Stage = "spec"
    severity: Literal["error", "warning"] = "error"


class PluginHooks:
    """The hooks of a plugin; a plugin implements at least one of them."""

    @hookspec
    def sightx_components(self) -> Iterable[type[Component]]:  # type: ignore[empty-body]
        """When the registry is filled: return the component classes of the plugin."""

    @hookspec
    def sightx_checks(self) -> Iterable[Check]:  # type: ignore[empty-body]
        """When the registry is filled: return the checks of the plugin."""

    @hookspec
    def sightx_commands(self) -> Iterable[click.Command]:  # type: ignore[empty-body]
        """When a command is unknown, or help lists all commands: return those of the plugin."""


def register(manager: pluggy.PluginManager, plugin: object, name: str, hooks: type) -> None:
    """Register a plugin, or an observer, that implements some of the methods of `hooks`.

    Raises TypeError, with one line, for an unknown hook or argument, and if there is no hook.
    """
    options = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
    marked = {name: given.get("specname") or name for name, given in options.items() if given}
    if not marked:
        helper = "; a module that only helps a plugin has a name that begins with _"
        is_module = isinstance(plugin, ModuleType)
        raise TypeError(f"it has no hook; is @hookimpl missing?{helper if is_module else ''}")
    known = [hook for hook in vars(hooks) if hook.startswith("sightx_")]
    for method, hook in marked.items():
        if hook not in known:
            raise TypeError(f"unknown hook {hook!r}; {suggest(hook, known)}")
        offered = list(inspect.signature(getattr(hooks, hook)).parameters)[1:]
        for argument in inspect.signature(getattr(plugin, method)).parameters.values():
            is_named = argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
            if is_named and argument.default is argument.empty and argument.name not in offered:
                hint = f"its arguments are: {', '.join(offered) or 'none'}"
                raise TypeError(f"{hook}() has no argument {argument.name!r}; {hint}")
    manager.register(plugin, name=name)
