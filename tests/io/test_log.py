from __future__ import annotations

import logging
import sys

import pytest

from sightx.io.log import logged_to_stderr

LOG = logging.getLogger("sightx")


def test_a_message_is_printed_once_and_the_logger_is_left_as_it_was(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = (LOG.level, LOG.propagate, list(LOG.handlers))
    with logged_to_stderr():
        for _ in range(2):
            LOG.info("pixels: memory")
        LOG.debug("not for users")
    assert capsys.readouterr() == ("", "pixels: memory\n")
    assert not caplog.messages  # a handler of the root logger would print it again
    assert (LOG.level, LOG.propagate, list(LOG.handlers)) == before


def test_only_the_main_process_prints(capsys: pytest.CaptureFixture[str]) -> None:
    with logged_to_stderr(is_main_process=False):
        LOG.warning("damaged")
    assert capsys.readouterr().err == ""


def test_a_program_without_standard_error_prints_nothing_and_does_not_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch, logged_to_stderr():
        patch.setattr(sys, "stderr", None)
        LOG.warning("damaged")
    assert capsys.readouterr().out == ""
