"""Observers of a run: the hooks they may implement, and calling them one by one."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
from pydantic import ValidationError

from sightx.errors import PluginError, Problem, SpecError, wrong_type
from sightx.io.signals import Interrupted, restore_handlers
from sightx.records.events import Epoch
from sightx.registry.components import UnknownComponentError
from sightx.registry.hooks import hookspec, register
from sightx.registry.kinds import Observer
from sightx.registry.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from sightx.records.events import Step, ValidationBatch
    from sightx.records.predictions import Predictions
    from sightx.records.run import RunInfo
    from sightx.spec.experiment import Experiment

GivenObservers = Mapping[str, object] | Iterable[object]
"""Observers as users give them: objects with hooks, observer components, or registered names."""


class RunHooks:
    """The hooks of a run, called on rank 0 only. An observer watches and changes nothing."""

    @hookspec
    def sightx_images_prepared(self, run: RunInfo, done: int, total: int, is_over: bool) -> None:
        """When `done` of `total` images that were not in the cache are preprocessed.

        `is_over` is True in the last call, which also follows an error or a signal.
        """

    @hookspec
    def sightx_run_started(self, experiment: Experiment, run: RunInfo) -> None:
        """When the data are ready, before the first step; `run.data` describes them."""

    @hookspec
    def sightx_epoch_started(self, run: RunInfo, epoch: int) -> None:
        """When an epoch begins; epochs count from 1."""

    @hookspec
    def sightx_step_finished(
        self, run: RunInfo, step: Step, lrs: Mapping[str, float], grad_norm: Tensor
    ) -> None:
        """When the optimizer has updated the weights.

        `lrs` are the learning rates of the parameter groups by name. `grad_norm` is the norm of the
        gradient before clipping, a scalar on the device. Both are computed only if an observer
        declares them.
        """

    @hookspec
    def sightx_validation_batch_finished(self, run: RunInfo, batch: ValidationBatch) -> None:
        """When a batch of the validation split is predicted; `batch` says how many are done."""

    @hookspec
    def sightx_validation_finished(
        self, run: RunInfo, epoch: Epoch, predictions: Predictions
    ) -> None:
        """When the validation split of an epoch is scored, before `sightx_epoch_finished`.

        `predictions` are postprocessed; their arrays are read-only.
        """

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
        raise wrong_type("observers", given, 'a list, as in ["console"]')
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


def with_console(observers: Mapping[str, object], registry: Registry) -> dict[str, object]:
    """Return observers and the console, which is added last unless it is one of them."""
    console = registry.find("observer", "console")()
    if any(isinstance(observer, type(console)) for observer in observers.values()):
        return dict(observers)
    return {**observers, "console": console}


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

    `dropped` maps the names of dropped observers to what failed, and in which hook.
    """

    def __init__(self, run: RunInfo, warn: Callable[[str], None]) -> None:
        self._manager = pluggy.PluginManager("sightx")
        self._manager.add_hookspecs(RunHooks)
        self._run, self._warn = run, warn
        self._callers: dict[str, list[tuple[str, pluggy.HookCaller]]] = {}
        self.dropped: dict[str, str] = {}

    def register(self, observers: Mapping[str, object]) -> None:
        """Add observers: components, which are built for the run, and objects with hooks.

        They are called in this order, those that read files last. Raises PluginError for an object
        that implements an unknown hook, or none.
        """
        for name, observer in sorted(observers.items(), key=_reads_files):
            if isinstance(observer, Observer) and not observer.enabled:
                continue
            try:
                with _process_state_kept():
                    built = (
                        observer.build(self._run) if isinstance(observer, Observer) else observer
                    )
            except BaseException as error:
                self._drop(name, "build", error)
            else:
                self._register(name, built)
        self._find_callers()

    def _register(self, name: str, observer: object) -> None:
        try:
            register(self._manager, observer, name, RunHooks)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise PluginError(Problem("broken-observer", f"observer {name!r}: {reason}")) from error

    def call(self, hook: str, **arguments: object) -> None:
        """Call one hook on every observer that implements it, in the order they were given."""
        for name, caller in self._callers.get(hook, ()):
            copies = {key: _copy(value) for key, value in arguments.items()}
            try:
                with _process_state_kept():
                    caller(run=self._run, **copies)
            except BaseException as error:
                self._drop(name, hook, error)
                self._manager.unregister(name=name)
                self._find_callers()

    @contextmanager
    def watched_preparation(self) -> Iterator[Callable[[int, int], None]]:
        """Yield a function of (done, total) that tells the observers, who also learn of the end."""
        last: tuple[int, int] | None = None

        def watch(done: int, total: int) -> None:
            nonlocal last
            last = done, total
            self.call("sightx_images_prepared", done=done, total=total, is_over=False)

        try:
            yield watch
        finally:
            if last:
                done, total = last
                self.call("sightx_images_prepared", done=done, total=total, is_over=True)

    def has_listener(self, hook: str, argument: str = "") -> bool:
        """Return whether an observer implements a hook, and declares an argument of it."""
        if not self._callers.get(hook):
            return False
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        return not argument or any(argument in item.argnames for item in implementations)

    def repeat_dropped(self) -> None:
        """Warn again, at the end of a run, of observers that have not seen all of it."""
        for name, reason in self.dropped.items():
            self._warn(f"observer {name} was dropped and has not seen all of the run: {reason}")

    def _drop(self, name: str, hook: str, error: BaseException) -> None:
        """Record that an observer failed; raise again what ends the run."""
        if isinstance(error, KeyboardInterrupt | Interrupted):
            raise error
        reason = f"{type(error).__name__}: {error}"
        self.dropped[name] = f"{reason}, in {hook}"
        self._warn(f"observer {name} failed and is dropped: {self.dropped[name]}")

    def _find_callers(self) -> None:
        """Find who implements each hook, so that a hook without observers costs nothing."""
        observers = self._manager.list_name_plugin()
        for hook in filter(lambda name: name.startswith("sightx_"), vars(RunHooks)):
            implementations = getattr(self._manager.hook, hook).get_hookimpls()
            names = {implementation.plugin_name for implementation in implementations}
            self._callers[hook] = [
                (name, self._manager.subset_hook_caller(hook, _without(observers, name)))
                for name, _ in observers
                if name in names
            ]


def _copy(argument: object) -> object:
    """Return an argument of a hook with mappings of its own, which an observer may change."""
    if isinstance(argument, Epoch):
        return replace(argument, metrics=dict(argument.metrics))
    return copy.deepcopy(argument) if isinstance(argument, dict) else argument


def _reads_files(item: tuple[str, object]) -> bool:
    """Return whether an observer is called after those that do not: sorting keeps their order."""
    return isinstance(item[1], Observer) and item[1].reads_files


def _without(observers: Iterable[tuple[str, object]], name: str) -> list[object]:
    return [observer for other, observer in observers if other != name]


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Restore the state of the process that an observer changed: the run depends on it."""
    import torch

    state: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (_working_folder, os.chdir),
    ]
    before = [read() for read, _ in state]
    try:
        # A first signal sets the default handler itself, which must stay.
        with restore_handlers(unless=signal.SIG_DFL):
            yield
    finally:
        for (read, restore), value in zip(state, before, strict=True):
            if value != read():
                restore(value)


def _working_folder() -> Path:
    """Return the working directory; "." if it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return Path()
