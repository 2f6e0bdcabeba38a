"""Standard streams that are closed, lost, or of another encoding."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from typing import TextIO

import pytest

from sightx.io.streams import EscapingStream, TolerantStream, is_lost


class Failing(io.StringIO):
    """A stream whose writes the system refuses."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.calls = number, 0

    def write(self, text: str) -> int:
        self.calls += 1
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC, errno.EBADF])
def test_after_an_error_nothing_is_printed_any_more(number: int) -> None:
    stream = Failing(number)
    tolerant = TolerantStream(stream)
    assert tolerant.write("one") == 3
    assert tolerant.write("two") == 3
    tolerant.flush()
    assert stream.calls == 1
    assert is_lost(stream)
    assert not tolerant.isatty()


def test_what_works_is_passed_on() -> None:
    stream = io.StringIO()
    tolerant = TolerantStream(stream)
    tolerant.write("text")
    tolerant.flush()
    assert stream.getvalue() == "text"
    assert not is_lost(stream)


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    raw = io.BytesIO()
    tolerant = TolerantStream(io.TextIOWrapper(raw, encoding="latin-1"))
    tolerant.write("café 犬\n")
    tolerant.flush()
    assert raw.getvalue() == "café \\u72ac\n".encode("latin-1")


@pytest.mark.parametrize("closed", [True, False])
def test_a_closed_stream_and_none_take_everything(closed: bool) -> None:
    stream: TextIO | None = io.StringIO() if closed else None
    if stream:
        stream.close()
    tolerant = TolerantStream(stream)
    assert tolerant.write("text") == 4
    tolerant.flush()
    assert tolerant.encoding


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_the_number_of_a_closed_stream_is_not_given_to_the_next_file(descriptor: int) -> None:
    script = (
        "import os, sys\n"
        "from sightx.io.streams import open_missing_streams\n"
        "open_missing_streams()\n"
        "number = os.open(os.devnull, os.O_RDONLY)\n"
        "assert None not in (sys.stdin, sys.stdout, sys.stderr)\n"
        "os._exit(number)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, preexec_fn=lambda: os.close(descriptor))
    assert done.returncode > 2


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


ATTACKS = ("\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\x9b2J", "\x1b[2J", "\x1bc", "\b\b", "\x7f",
           "\u202egnp.exe", "\x1b[6n", "\x1b[?1049h", "\0")  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_control_characters_never_reach_a_stream(text: str, kind: type[io.StringIO]) -> None:
    stream = kind()
    assert EscapingStream(stream).write(f"a{text}b\n\t") == len(text) + 4
    written = stream.getvalue()
    assert not re.search(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", written)
    assert json.loads(f'"{written[:-2]}"') == f"a{text}b"


def test_a_terminal_gets_colours_and_a_pipe_does_not() -> None:
    for kind, expected in ((Terminal, "\x1b[1mx\x1b[0m"), (io.StringIO, r"\u001b[1mx\u001b[0m")):
        stream = kind()
        EscapingStream(stream).write("\x1b[1mx\x1b[0m")
        assert stream.getvalue() == expected
