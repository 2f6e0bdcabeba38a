from __future__ import annotations

import inspect
from typing import Any

import pytest

from sightx import PluginError, SpecError
from sightx.plugin import Observer, RunInfo, hookimpl
from sightx.registry.registry import Plugin, Registry
from sightx.runner.observers import Observers, RunHooks, name_observers

RUN: Any = object()
HOOKS = {
    "sightx_run_started": ["experiment", "run"],
    "sightx_epoch_started": ["run", "epoch"],
    "sightx_step_finished": ["run", "step"],
    "sightx_epoch_finished": ["run", "epoch"],
    "sightx_checkpoint_written": ["run", "checkpoint"],
    "sightx_run_finished": ["run", "result"],
}


def test_the_run_hooks_are_those_of_the_design_and_their_docstrings_begin_with_when() -> None:
    members = inspect.getmembers(RunHooks, lambda item: hasattr(item, "sightx_spec"))
    arguments = {name: list(inspect.signature(hook).parameters)[1:] for name, hook in members}
    assert arguments == HOOKS
    assert all((hook.__doc__ or "").startswith("When ") for _, hook in members)


class Watcher:
    """Observer that remembers its calls, and may fail."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.error = error

    @hookimpl
    def sightx_epoch_started(self, epoch: int) -> None:
        self.calls.append(("started", epoch))
        if self.error:
            raise self.error

    @hookimpl
    def sightx_run_finished(self, result: dict[str, object]) -> None:
        self.calls.append(("finished", result["status"]))


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)])
def test_a_failing_observer_is_dropped_with_a_warning_and_the_others_go_on(
    error: BaseException,
) -> None:
    first, bad, last = Watcher(), Watcher(error), Watcher()
    warnings: list[str] = []
    observers = Observers(RUN, {"first": first, "bad": bad, "last": last}, warnings.append)
    observers.call("sightx_epoch_started", run=None, epoch=1)
    observers.call("sightx_step_finished", run=None, step=None)  # which none implements
    observers.call("sightx_run_finished", run=None, result={"status": "finished"})
    both = [("started", 1), ("finished", "finished")]
    assert first.calls == last.calls == both
    assert bad.calls == both[:1]
    reason = f"{type(error).__name__}: {error}"
    assert warnings == [f"observer bad failed and is dropped: {reason}"]


def test_an_interrupt_is_not_a_failure_of_an_observer() -> None:
    observers = Observers(RUN, {"one": Watcher(KeyboardInterrupt())}, print)
    with pytest.raises(KeyboardInterrupt):
        observers.call("sightx_epoch_started", run=None, epoch=1)


def test_observers_are_called_in_the_order_they_were_given() -> None:
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl
        def sightx_epoch_started(self) -> None:
            order.append(self.name)

    observers = Observers(RUN, {name: Named(name) for name in "bca"}, print)
    observers.call("sightx_epoch_started", run=None, epoch=1)
    assert order == ["b", "c", "a"]


class Component(Observer):
    """An observer component."""

    name = "test-component"
    broken: bool = False

    def build(self, run: RunInfo) -> object:
        if self.broken:
            raise RuntimeError("no server")
        assert run is RUN
        return Watcher()


class Needing(Component):
    """An observer component with a required setting."""

    name = "test-needing"
    url: str


def test_a_component_is_built_for_the_run_and_dropped_if_that_fails() -> None:
    warnings: list[str] = []
    observers = {"good": Component(), "bad": Component(broken=True)}
    Observers(RUN, observers, warnings.append)
    assert warnings == ["observer bad is dropped: RuntimeError: no server"]


def test_the_name_of_an_observer_must_be_known_and_need_no_settings() -> None:
    registry = Registry()
    registry.add(Plugin("mine", "mine"), [Component, Needing])
    assert name_observers(["test-component"], registry) == {"test-component": Component()}
    with pytest.raises(SpecError, match=r"no observer is called 'test-componemt'; did you mean"):
        name_observers(["test-componemt"], registry)
    with pytest.raises(SpecError, match=r"the observer 'test-needing' has required settings; give"):
        name_observers(["test-needing"], registry)


def test_observers_in_a_list_get_names() -> None:
    plain, component = Watcher(), Component()
    named = name_observers([plain, component, Watcher()], Registry())
    assert list(named) == ["Watcher", "test-component", "Watcher-2"]
    assert (named["Watcher"], named["test-component"]) == (plain, component)
    assert name_observers({"a": plain}, Registry()) == {"a": plain}
    assert name_observers(None, Registry()) == {}


class UnknownHook(Watcher):
    @hookimpl
    def sightx_epoch_begun(self, epoch: int) -> None: ...


class UnknownArgument(Watcher):
    @hookimpl
    def sightx_epoch_finished(self, epoch: int, loss: float) -> None: ...


class Unmarked:
    def sightx_epoch_started(self, epoch: int) -> None: ...


@pytest.mark.parametrize(
    ("observer", "reason"),
    [
        (UnknownHook(), "unknown hook 'sightx_epoch_begun'"),
        (UnknownArgument(), "loss"),
        (Unmarked(), "it implements no hook; is @hookimpl missing?"),
        (object(), "it implements no hook"),
    ],
)
def test_an_observer_without_a_valid_hook_is_refused(observer: object, reason: str) -> None:
    with pytest.raises(PluginError, match=r"error\[broken-observer\] observer 'x': ") as caught:
        Observers(RUN, {"x": observer}, print)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
