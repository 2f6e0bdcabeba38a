from __future__ import annotations

from pathlib import Path

import pytest

from sightx.plugin import Observer, hookimpl
from sightx.testing.assertions import run_check
from sightx.testing.checks import observer as checks


class W(Observer):
    """An observer for tests."""

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
                """Do nothing."""

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
    (Hookless(), "add a method with the name of a run hook"),
    (Misspelt(), "sightx_epoch_ended"),
    (Failing(), "observer w failed and is dropped: ZeroDivisionError: at the end"),
    (Meddling(), "an observer must not change the run"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, broken, message) -> None:
    assert_fails(checks.run_is_not_changed, broken, message)


def test_a_correct_observer_passes_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert [run_check(check, W()).ok for check in checks.CHECKS] == [True]
    assert capsys.readouterr().out == ""
