from __future__ import annotations

from typing import Any

import pytest

from sightx import PluginError
from sightx.plugin import hookimpl
from sightx.runner.observers import Observers


class Watcher:
    def __init__(self, error: BaseException | None = None) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.error = error

    @hookimpl
    def sightx_epoch_started(self, epoch: int) -> None:
        self.heard.append(("started", epoch))
        if self.error:
            raise self.error

    @hookimpl
    def sightx_run_finished(self, result: dict[str, object]) -> None:
        self.heard.append(("finished", result["status"]))


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)])
def test_a_failing_observer_is_dropped_with_a_warning_and_the_others_go_on(
    error: BaseException,
) -> None:
    first, bad, last = Watcher(), Watcher(error), Watcher()
    warnings: list[str] = []
    observers = Observers({"first": first, "bad": bad, "last": last}, warnings.append)
    observers.tell("sightx_epoch_started", run=None, epoch=1)
    observers.tell("sightx_run_finished", run=None, result={"status": "finished"})
    everything = [("started", 1), ("finished", "finished")]
    assert first.heard == last.heard == everything
    assert bad.heard == everything[:1]
    said = f"{type(error).__name__}: {error}"
    assert warnings == [f"observer bad failed and is dropped: {said}"]


def test_a_hook_is_listened_to_only_if_somebody_does() -> None:
    observers = Observers({"one": Watcher()}, print)
    assert observers.listens("sightx_epoch_started")
    assert not observers.listens("sightx_step_finished")
    assert not Observers({}, print).listens("sightx_epoch_started")


def test_an_interrupt_is_nobodys_failure() -> None:
    observers = Observers({"one": Watcher(KeyboardInterrupt())}, print)
    with pytest.raises(KeyboardInterrupt):
        observers.tell("sightx_epoch_started", run=None, epoch=1)


class Misspelt(Watcher):
    @hookimpl
    def sightx_epoch_begun(self, epoch: int) -> None: ...


class Wrong(Watcher):
    @hookimpl
    def sightx_epoch_finished(self, epoch: int, loss: float) -> None: ...


class Unmarked:
    def sightx_epoch_started(self, epoch: int) -> None: ...


@pytest.mark.parametrize(
    ("observer", "said"),
    [
        (Misspelt(), "unknown hook 'sightx_epoch_begun'"),
        (Wrong(), "loss"),
        (Unmarked(), "it has no hook; is @hookimpl missing?"),
        (object(), "it has no hook"),
    ],
)
def test_an_observer_that_would_hear_nothing_is_refused(observer: object, said: str) -> None:
    with pytest.raises(PluginError, match=r"error\[broken-observer\] observer 'x': ") as caught:
        Observers({"x": observer}, print)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
