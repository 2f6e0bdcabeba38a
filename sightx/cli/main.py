"""The command `sightx`: find a command, run it, turn failures into lines and exit codes."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click

from sightx.distributed import rendezvous
from sightx.errors import PluginError, Problem, ResourceError, SightXError, SpecError
from sightx.io.signals import Interrupted

if TYPE_CHECKING:
    from sightx.cli.plugin_commands import Strangers

# Where each command lives; none is imported before it is asked for.
COMMANDS = {
    "evaluate": "sightx.cli.evaluate",
    "init": "sightx.cli.init",
    "list-plugins": "sightx.cli.list_plugins",
    "predict": "sightx.cli.predict",
    "prepare": "sightx.cli.prepare",
    "resume": "sightx.cli.resume",
    "run": "sightx.cli.run",
    "schema": "sightx.cli.schema",
    "new-plugin": "sightx.cli.new_plugin",
    "show": "sightx.cli.show",
    "show-plugin": "sightx.cli.show_plugin",
    "cache": "sightx.cli.cache",
    "test-plugin": "sightx.cli.test_plugin",
    "validate": "sightx.cli.validate",
}
_SCARCE = {
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.ENOSPC, errno.EPERM, errno.EROFS,
}  # fmt: skip


class Commands(click.Group):
    """Import a command when it is called, or when help lists it.

    Plugins are asked only for what is not ours, and in help.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of our own commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Return a command. Raises SpecError or PluginError where there is none to be had."""
        if cmd_name not in COMMANDS:
            return _strangers(ctx).get(cmd_name)
        module = importlib.import_module(COMMANDS[cmd_name])
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write our commands, then those of plugins."""
        super().format_commands(ctx, formatter)
        if rows := _strangers(ctx).help():
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)


def _strangers(ctx: click.Context) -> Strangers:
    """Return what plugins bring, asked once for each call of the command line."""
    from sightx.cli.plugin_commands import Strangers

    found: Strangers = ctx.find_root().meta.setdefault(__name__, Strangers(COMMANDS))
    return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="sightx")
def sightx(debug: bool) -> None:
    """Train image classifiers from declarative specs and named plugins."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code that DESIGN gives each failure."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if rendezvous.world_size() > 1:  # torch's own words about a peer that has gone
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        with _warnings_shown():
            code = sightx.main(words, prog_name="sightx", standalone_mode=False, obj=words)
    except (click.exceptions.Abort, KeyboardInterrupt, Interrupted) as asked:
        if isinstance(asked, Interrupted) and rendezvous.world_size() > 1:
            _leave(asked)
        click.echo(str(Problem("interrupted", "stopped before anything was saved")), err=True)
        sys.exit(128 + getattr(asked, "number", signal.SIGINT))
    except BaseException as error:  # a plugin may call sys.exit: that is no success
        if "--debug" in words:
            traceback.print_exc()
        if rendezvous.world_size() > 1:
            _leave(error)
        failure = _expected(error)
        click.echo(str(failure), err=True)
        sys.exit(failure.exit_code)
    code = code if isinstance(code, int) else 0
    rendezvous.write_exit_code(code)
    sys.exit(code)


def _leave(error: BaseException) -> NoReturn:
    """End as one of several processes: the one that failed first shows why."""
    from sightx.distributed.failures import (
        first_failure,
        is_peer_lost_error,
        is_shown_by_other_rank,
    )

    known = isinstance(error, Interrupted) or is_peer_lost_error(error)
    ended = first_failure(error if known else _expected(error))
    if isinstance(ended, Interrupted):
        code = 128 + ended.number
    else:
        code = ended.exit_code
        if not is_shown_by_other_rank(ended):
            click.echo(str(ended), err=True)
    rendezvous.write_exit_code(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the group may wait for ever for a peer that has gone


def _expected(error: BaseException) -> SightXError:
    """Return the failure that an exception stands for; what nobody expected is a bug of ours."""
    if isinstance(error, SightXError):
        return error
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "sightx"
        message = error.format_message().rstrip(".")
        return SpecError(Problem("usage", message, f"{command} --help"))
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, SystemExit):
        return PluginError(
            Problem("broken-plugin", f"a plugin ended it: {message}", "--debug shows where")
        )
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _SCARCE:
        return ResourceError(Problem("resource", message))
    return SightXError(Problem("internal", message, "--debug shows where"))


class _Lines(logging.Handler):
    """Print each message once, to stderr."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message that was not there yet."""
        line = record.getMessage()
        if line not in self._shown and not rendezvous.rank():
            self._shown.add(line)
            click.echo(line, err=True)


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Show what SightX logs while a command runs."""
    log, lines = logging.getLogger("sightx"), _Lines()
    before = log.level
    log.addHandler(lines)
    log.propagate = False  # whatever a plugin may have set up, a line is shown once
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(lines)
        log.propagate = True
        log.setLevel(before)
