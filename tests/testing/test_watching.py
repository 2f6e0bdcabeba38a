from __future__ import annotations

from pathlib import Path

import pytest

from sightx.plugin import Observer, hookimpl
from sightx.testing.demands import find
from sightx.testing.watching import OBSERVER, watches_a_run


class W(Observer):
    """Watch as a test says."""

    name = "w"

    def build(self, run):
        return Counting()


class Counting:
    """Count epochs."""

    @hookimpl
    def sightx_epoch_finished(self, epoch) -> None:
        print("an epoch")


class Hookless(W):
    def build(self, run):
        return object()


class Misspelt(W):
    def build(self, run):
        class Wrong:
            @hookimpl
            def sightx_epoch_ended(self, epoch) -> None:
                """Hear nothing."""

        return Wrong()


class Failing(W):
    def build(self, run):
        class Dividing:
            @hookimpl
            def sightx_run_finished(self, result) -> None:
                raise ZeroDivisionError("at the end")

        return Dividing()


class Meddling(W):
    def build(self, run):
        class Writing:
            @hookimpl
            def sightx_run_finished(self, run) -> None:
                path = Path(run.directory, "metrics.jsonl")
                path.write_text(path.read_text().replace('"epoch": 2', '"epoch": 3'))

        return Writing()


BROKEN = [
    (Hookless(), "give it a method of a run hook's name"),
    (Misspelt(), "sightx_epoch_ended"),
    (Failing(), "observer w failed and is dropped: ZeroDivisionError: at the end"),
    (Meddling(), "an observer may only watch"),
]


@pytest.mark.parametrize(("broken", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_promise_is_found(caught, broken, words) -> None:
    caught(watches_a_run, broken, words)


def test_a_whole_observer_passes_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert [find(check, W()).ok for check in OBSERVER] == [True]
    assert capsys.readouterr().out == ""
