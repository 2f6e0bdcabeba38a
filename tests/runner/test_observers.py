from __future__ import annotations

import inspect
import os
import signal
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import sightx
from sightx import PluginError, SpecError
from sightx.io.signals import Interrupted
from sightx.plugin import Epoch, Observer, RunInfo, hookimpl
from sightx.registry.registry import Plugin, Registry
from sightx.runner.observers import Observers, RunHooks, name_observers

RUN: Any = object()
HOOKS = {
    "sightx_images_prepared": ["run", "done", "total", "is_over"],
    "sightx_run_started": ["experiment", "run"],
    "sightx_epoch_started": ["run", "epoch"],
    "sightx_step_finished": ["run", "step", "lrs", "grad_norm"],
    "sightx_validation_batch_finished": ["run", "batch"],
    "sightx_validation_finished": ["run", "epoch", "predictions"],
    "sightx_epoch_finished": ["run", "epoch"],
    "sightx_checkpoint_written": ["run", "checkpoint"],
    "sightx_run_finished": ["run", "result"],
}


def test_the_run_hooks_are_those_of_the_design_and_their_docstrings_begin_with_when() -> None:
    members = inspect.getmembers(RunHooks, lambda item: hasattr(item, "sightx_spec"))
    arguments = {name: list(inspect.signature(hook).parameters)[1:] for name, hook in members}
    assert arguments == HOOKS
    assert all((hook.__doc__ or "").startswith("When ") for _, hook in members)


def observers_of(
    observers: dict[str, object], warn: Callable[[str], None] = lambda text: None
) -> Observers:
    registered = Observers(RUN, warn)
    registered.register(observers)
    return registered


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


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), CancelledError()])
def test_a_failing_observer_is_dropped_with_a_warning_and_the_others_go_on(
    error: BaseException,
) -> None:
    first, bad, last = Watcher(), Watcher(error), Watcher()
    warnings: list[str] = []
    observers = observers_of({"first": first, "bad": bad, "last": last}, warnings.append)
    observers.call("sightx_epoch_started", epoch=1)
    observers.call("sightx_step_finished", step=None)  # which none implements
    observers.call("sightx_run_finished", result={"status": "finished"})
    both = [("started", 1), ("finished", "finished")]
    assert first.calls == last.calls == both
    assert bad.calls == both[:1]
    reason = f"{type(error).__name__}: {error}, in sightx_epoch_started"
    assert warnings == [f"observer bad failed and is dropped: {reason}"]
    assert observers.dropped == {"bad": reason}
    observers.repeat_dropped()
    assert warnings[1:] == [f"observer bad was dropped and has not seen all of the run: {reason}"]


def test_an_interrupt_is_not_a_failure_of_an_observer() -> None:
    for error in (KeyboardInterrupt(), Interrupted(signal.SIGTERM)):
        observers = observers_of({"one": Watcher(error)})
        with pytest.raises(type(error)):
            observers.call("sightx_epoch_started", epoch=1)


def test_observers_are_called_in_the_order_they_were_given() -> None:
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl
        def sightx_epoch_started(self) -> None:
            order.append(self.name)

    observers = observers_of({name: Named(name) for name in "bca"})
    observers.call("sightx_epoch_started", epoch=1)
    assert order == ["b", "c", "a"]


def test_observers_see_the_preparation_and_its_end_even_if_it_fails() -> None:
    seen: list[tuple[int, int, bool]] = []

    class Preparation:
        @hookimpl
        def sightx_images_prepared(self, done: int, total: int, is_over: bool) -> None:
            seen.append((done, total, is_over))

    observers = observers_of({"one": Preparation()})
    with observers.watched_preparation():
        pass  # every image was in the cache
    assert seen == []
    with suppress(Interrupted), observers.watched_preparation() as watch:
        watch(1, 3)
        watch(2, 3)
        raise Interrupted(signal.SIGTERM)
    assert seen == [(1, 3, False), (2, 3, False), (2, 3, True)]


def test_what_an_observer_writes_into_records_reaches_nobody_else() -> None:
    seen: list[object] = []

    class Writing:
        @hookimpl
        def sightx_epoch_finished(self, epoch: Any) -> None:
            seen.append(dict(epoch.metrics))
            epoch.metrics["validation/loss"] = 0.0

        @hookimpl
        def sightx_run_finished(self, result: Any) -> None:
            seen.append(result["test"]["accuracy"])
            result["test"]["accuracy"] = 1.0

    observers = observers_of({"a": Writing(), "b": Writing()})
    metrics, result = {"validation/loss": 0.7}, {"test": {"accuracy": 0.5}}
    epoch = Epoch(1, 1, 1, metrics, 0.0, 0.1, "validation/loss", True)
    observers.call("sightx_epoch_finished", epoch=epoch)
    observers.call("sightx_run_finished", result=result)
    assert seen == [metrics, metrics, 0.5, 0.5]
    assert (metrics, result) == ({"validation/loss": 0.7}, {"test": {"accuracy": 0.5}})


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
    observers_of(observers, warnings.append)
    assert warnings == ["observer bad failed and is dropped: RuntimeError: no server, in build"]


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
        (UnknownHook(), "unknown hook 'sightx_epoch_begun'; did you mean 'sightx_epoch_"),
        (UnknownArgument(), "sightx_epoch_finished() has no argument 'loss'; its arguments are: "),
        (Unmarked(), "it has no hook; is @hookimpl missing?"),
        (object(), "it has no hook"),
    ],
)
def test_an_observer_without_a_valid_hook_is_refused(observer: object, reason: str) -> None:
    with pytest.raises(PluginError, match=r"error\[broken-observer\] observer 'x': ") as caught:
        observers_of({"x": observer})
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert " object at 0x" not in str(caught.value)


class Meddler:
    """Observer that changes what the whole process uses."""

    @hookimpl
    def sightx_epoch_started(self) -> None:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.use_deterministic_algorithms(not torch.are_deterministic_algorithms_enabled())
        os.chdir("/")
        signal.signal(signal.SIGTERM, lambda *_: None)


def test_what_an_observer_changes_in_the_process_is_put_back() -> None:
    def state() -> tuple[object, ...]:
        return (
            torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(), Path.cwd(),
            signal.getsignal(signal.SIGTERM),
        )  # fmt: skip

    before = state()
    observers_of({"one": Meddler()}).call("sightx_epoch_started", epoch=1)
    assert state() == before


def test_an_observer_declares_the_arguments_that_it_wants() -> None:
    class Norm:
        @hookimpl
        def sightx_step_finished(self, grad_norm: Any) -> None: ...

    observers = observers_of({"one": Norm()})
    assert observers.has_listener("sightx_step_finished", "grad_norm")
    assert not observers.has_listener("sightx_step_finished", "lrs")
    assert not observers.has_listener("sightx_epoch_finished")
    assert not Observers(RUN, print).has_listener("sightx_step_finished")


class FailingAt(Observer):
    """An observer that fails in one place."""

    name = "test-failing-at"
    place: str

    def build(self, run: RunInfo) -> object:
        if self.place == "build":
            raise ConnectionError("refused")
        place = self.place

        class Failing:
            @hookimpl
            def sightx_epoch_finished(self, run: RunInfo) -> None:
                if place == "epoch":
                    run.log("metrics.jsonl", "{}")

            @hookimpl
            def sightx_run_finished(self, result: dict[str, Any]) -> None:
                result["status"] = "changed"
                if place == "end":
                    raise TimeoutError("no answer")

        return Failing()


def test_dropped_observers_are_named_in_the_result_and_at_the_end_and_change_nothing(
    spec: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = sightx.run(spec, runs=tmp_path / "plain")
    caplog.clear()
    given = {place: FailingAt(place=place) for place in ("build", "epoch", "end")}
    watched = sightx.run(spec, observers={**given, "meddler": Meddler()}, runs=tmp_path / "watched")
    assert watched.status == "finished"
    assert watched.result["test"] == plain.result["test"]
    losses = [run.metrics["train/loss"].tolist() for run in (plain, watched)]
    assert losses[0] == losses[1]
    reasons = {
        "build": "ConnectionError: refused, in build",
        "epoch": "ValueError: log() cannot write 'metrics.jsonl': name a file of your own, "
        "in no folder, in sightx_epoch_finished",
        "end": "TimeoutError: no answer, in sightx_run_finished",
    }
    assert watched.result["observers"] == {k: f"dropped: {v}" for k, v in reasons.items()}
    last = [
        f"observer {name} was dropped and has not seen all of the run: {reason}"
        for name, reason in reasons.items()
    ]
    assert [record.getMessage() for record in caplog.records][-3:] == last
    log = (watched.directory / "console.log").read_text().splitlines()
    assert log[-3:] == last
