"""Observers of a run: the hooks they may implement, and calling them one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy
from pydantic import ValidationError

from sightx.errors import PluginError, Problem, SpecError
from sightx.registry.components import UnknownComponentError
from sightx.registry.hooks import hookspec
from sightx.registry.kinds import Observer
from sightx.registry.registry import Registry

if TYPE_CHECKING:
    from sightx.records.events import Epoch, Step
    from sightx.records.run import RunInfo
    from sightx.spec.experiment import Experiment

GivenObservers = Mapping[str, object] | Iterable[object]
"""Observers as users give them: objects with hooks, observer components, or registered names."""


class RunHooks:
    """The hooks of a run, called on rank 0 only. An observer watches and changes nothing."""

    @hookspec
    def sightx_run_started(self, experiment: Experiment, run: RunInfo) -> None:
        """When the data are ready, before the first step; `run.data` describes them."""

    @hookspec
    def sightx_epoch_started(self, run: RunInfo, epoch: int) -> None:
        """When an epoch begins; epochs count from 1."""

    @hookspec
    def sightx_step_finished(self, run: RunInfo, step: Step) -> None:
        """When the optimizer has updated the weights; called only if an observer has it."""

    @hookspec
    def sightx_epoch_finished(self, run: RunInfo, epoch: Epoch) -> None:
        """When the metrics of an epoch are on disk."""

    @hookspec
    def sightx_checkpoint_written(self, run: RunInfo, checkpoint: str) -> None:
        """When a checkpoint is safe on disk; `checkpoint` is the name of its directory."""

    @hookspec
    def sightx_run_finished(self, run: RunInfo, result: dict[str, object]) -> None:
        """When the run has ended; its status is finished, stopped, interrupted or failed."""


def name_observers(given: GivenObservers | None, registry: Registry) -> dict[str, object]:
    """Return observers by name, registered names replaced by their components.

    In a list, a component is called by its own name, and any other object by its class. Raises
    SpecError for a name that no plugin, or more than one, provides, or that needs settings.
    """
    if not isinstance(given, Mapping | Iterable | None):
        message, hint = f"observers is {type(given).__name__}", 'give a list, as in ["console"]'
        raise SpecError(Problem("wrong-type", message, hint))
    if isinstance(given, Mapping):
        items = list(given.items())
    elif isinstance(given, str):
        items = [(given, given)]
    else:
        items = [(_default_name(observer), observer) for observer in given or ()]
    observers: dict[str, object] = {}
    for name, observer in items:
        unique, number = name, 1
        while unique in observers:
            number += 1
            unique = f"{name}-{number}"
        observers[unique] = _build_named(observer, registry)
    return observers


def _build_named(observer: object, registry: Registry) -> object:
    """Return the component that a name stands for; any other object stays as it is."""
    if not isinstance(observer, str):
        return observer
    try:
        return registry.find("observer", observer)()
    except UnknownComponentError as error:
        raise SpecError(error.problem) from None
    except ValidationError:
        hint = "give a component with its settings instead of the name"
        message = f"the observer {observer!r} has required settings"
        raise SpecError(Problem("missing-key", message, hint)) from None


def _default_name(observer: object) -> str:
    if isinstance(observer, str):
        return observer
    return observer.name if isinstance(observer, Observer) else type(observer).__name__


class Observers:
    """Call run hooks on observers; one that fails is reported to `warn` and dropped.

    Observer components are built for the run; other objects have the hooks themselves. Raises
    PluginError for an object that implements an unknown hook, or none.
    """

    def __init__(
        self, run: RunInfo, observers: Mapping[str, object], warn: Callable[[str], None]
    ) -> None:
        self._manager = pluggy.PluginManager("sightx")
        self._manager.add_hookspecs(RunHooks)
        self._warn = warn
        for name, observer in observers.items():
            try:
                built = observer.build(run) if isinstance(observer, Observer) else observer
            except Exception as error:
                warn(f"observer {name} is dropped: {type(error).__name__}: {error}")
            else:
                self._register(name, built)

    def _register(self, name: str, observer: object) -> None:
        try:
            self._manager.register(observer, name=name)
            self._manager.check_pending()
            if not self._manager.get_hookcallers(observer):
                raise TypeError("it implements no hook; is @hookimpl missing?")
        except Exception as error:
            reason = " ".join(str(error).split())
            raise PluginError(Problem("broken-observer", f"observer {name!r}: {reason}")) from error

    def call(self, hook: str, **arguments: object) -> None:
        """Call one hook on every observer that implements it, in the order they were given."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        names = {implementation.plugin_name for implementation in implementations}
        observers = self._manager.list_name_plugin() if names else []
        for name, observer in observers:
            if name not in names:
                continue
            others = [other for _, other in observers if other is not observer]
            caller = self._manager.subset_hook_caller(hook, others)
            try:
                caller(**arguments)
            except (Exception, SystemExit) as error:
                reason = f"{type(error).__name__}: {error}"
                self._warn(f"observer {name} failed and is dropped: {reason}")
                self._manager.unregister(observer)
