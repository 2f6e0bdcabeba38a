"""Standard output, standard error and the text encoding of this process."""

from __future__ import annotations

import codecs
import io
import locale
import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast
from weakref import WeakSet

_lost: WeakSet[TextIO] = WeakSet()  # streams that failed, and that somebody goes on without


class TolerantStream:
    """A text stream that never raises: what it cannot print is dropped.

    Characters that its encoding lacks are escaped. After the first error of the system nothing is
    printed any more: a lost terminal or a closed pipe does not come back.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Wrap a stream; None, which Python has for a closed one, drops everything."""
        self._stream = stream

    @property
    def encoding(self) -> str:
        """Return the encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal that can be written to."""
        return self._stream is not None and not is_lost(self._stream) and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write a text, and return its length."""
        if self._stream is not None and not is_lost(self._stream):
            with self._note_loss():
                try:
                    self._stream.write(text)
                except UnicodeEncodeError as error:
                    escaped = text.encode(error.encoding, "backslashreplace")
                    self._stream.write(escaped.decode(error.encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        if self._stream is not None and not is_lost(self._stream):
            with self._note_loss():
                self._stream.flush()

    @contextmanager
    def _note_loss(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            if self._stream is not None:
                _lost.add(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_STYLES = (
    r"\x1b\[[0-9;]*m|\x1b\[\?25[hl]|\x1b\[[0-9]*[AK]|\r"  # colours, and those of a progress bar
)
_HARMFUL = r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"  # also reordered text
_PIPED, _TERMINAL = re.compile(_HARMFUL), re.compile(f"({_STYLES})|{_HARMFUL}")


class EscapingStream:
    """A text stream that escapes control characters, which names from data may contain.

    On a terminal, such characters can change the title of the window, the clipboard, or lines that
    were printed before.
    Only a terminal gets colours and what a progress bar needs. The escapes are those of JSON and
    TOML, so that such output stays valid.
    """

    def __init__(self, stream: TextIO) -> None:
        """Wrap a stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, and return its length."""
        pattern = _TERMINAL if self._stream.isatty() else _PIPED
        self._stream.write(pattern.sub(_escaped, text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _escaped(match: re.Match[str]) -> str:
    is_style = match.re is _TERMINAL and match[1]
    return match[0] if is_style else f"\\u{ord(match[0]):04x}"


def is_lost(stream: TextIO) -> bool:
    """Return whether a `TolerantStream` has had an error with a stream."""
    return stream in _lost


def is_closed_pipe(error: BaseException) -> bool:
    """Return whether an exception says that nobody reads the standard output any more.

    rich and click raise SystemExit in place of the error of the system.
    """
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        return True  # rich has connected the output to /dev/null
    return isinstance(error, BrokenPipeError | SystemExit) and _has_no_reader()


def _has_no_reader() -> bool:
    """Return whether the standard output is a pipe without a reader."""
    poll = select.poll()
    with suppress(OSError, ValueError):
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


@contextmanager
def protected_streams() -> Iterator[None]:
    """Let nothing that is printed to standard error raise, and nothing be left at exit.

    Control characters, and what standard output cannot encode, are escaped. A stream that cannot be
    flushed at the end is connected to /dev/null: the interpreter would report it, and change the
    exit code.
    """
    stdout, stderr = sys.stdout, sys.stderr
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="backslashreplace")
    if stdout is not None:
        sys.stdout = cast("TextIO", EscapingStream(stdout))
    if stderr is not None:
        sys.stderr = cast("TextIO", TolerantStream(cast("TextIO", EscapingStream(stderr))))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = stdout, stderr
        for stream in (stdout, stderr):
            _flush_or_discard(stream)


def _flush_or_discard(stream: TextIO | None) -> None:
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def open_missing_streams() -> None:
    """Connect closed standard streams to /dev/null, or the next opened files get their numbers."""
    for descriptor, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))


def ensure_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if the locale has another encoding.

    Names of files, and so of classes, would otherwise depend on the locale. Standard streams keep
    the encoding of the locale, so that a terminal shows what is printed; that of ASCII becomes
    UTF-8, as in Python.
    """
    encoding = codecs.lookup(locale.getencoding()).name
    is_utf8 = {encoding, sys.getfilesystemencoding()} == {"utf-8"}
    if is_utf8 or sys.flags.utf8_mode or os.environ.get("PYTHONUTF8") == "1":
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    if encoding != "ascii":
        environment.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    with suppress(OSError):
        os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606
