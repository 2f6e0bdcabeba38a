"""Checks of the commands that a plugin provides."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from sightx.testing.assertions import ContractCheck, require

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def name_is_words_with_dashes(command: Any) -> None:
    """Require a name of lower-case words and dashes."""
    name = getattr(command, "name", None)
    require(
        isinstance(name, str) and _NAME.fullmatch(name),
        f"the name is {name!r}; write lower-case words with dashes, such as `count-weights`",
    )


def help_is_shown(command: Any) -> None:
    """Require a line of help for `sightx --help`, and `--help`, which must do nothing else."""
    require(hasattr(command, "main"), f"{command!r} is not a click command")
    line = command.get_short_help_str().strip()
    require(line, "there is no help; write a docstring, `sightx --help` shows its first line")
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        code = command.main(["--help"], prog_name=command.name, standalone_mode=False)
    require(not code and "Usage:" in shown.getvalue(), f"--help shows no usage, but returns {code}")


def wrong_options_are_usage_errors(command: Any) -> None:
    """Require that an unknown option is refused before the command does anything."""
    words = ["--no-such-option-of-any-command"]
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            command.main(words, prog_name=command.name, standalone_mode=False)
    except Exception as error:
        is_usage_error = type(error).__name__ in ("NoSuchOption", "UsageError", "NoSuchCommand")
        line = f"{type(error).__name__}: {error}"
        require(is_usage_error, f"an unknown option raises {line}; let click read the options")
        return
    require(False, "an unknown option is accepted; do not set ignore_unknown_options")


CHECKS: tuple[ContractCheck, ...] = (
    name_is_words_with_dashes, help_is_shown, wrong_options_are_usage_errors,
)  # fmt: skip
