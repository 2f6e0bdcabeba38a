"""The command `sightx`: find a command, run it, and turn failures into lines and exit codes."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from sightx.distributed import rendezvous
from sightx.errors import (
    PluginError,
    Problem,
    ResourceError,
    SightXError,
    SpecError,
    did_you_mean,
)
from sightx.io import atomic, log, streams
from sightx.io.signals import Interrupted, interrupt_once

if TYPE_CHECKING:
    from sightx.cli.plugin_commands import PluginCommands

# `sightx --help` shows the commands in this order; each is in the module of its name.
GROUPS: dict[str, tuple[str, ...]] = {
    "Data and specs": ("init", "validate", "show", "audit", "prepare", "cache", "schema"),
    "Training and scores": ("run", "resume", "evaluate", "report"),
    "Models": ("predict", "export", "serve"),
    "Runs": (
        "list-runs", "show-run", "compare", "diff", "board", "tag", "ship", "archive",
        "import-run", "remove-run",
    ),
    "Plugins": ("list-plugins", "show-plugin", "new-plugin", "test-plugin"),
    "Installation": ("doctor",),
}  # fmt: skip
COMMANDS = {
    name: f"sightx.cli.{name.replace('-', '_')}" for names in GROUPS.values() for name in names
}
_COMPLETE = "_SIGHTX_COMPLETE"  # the variable by which a shell asks for completions
# What other tools call an option, with that of SightX.
_OTHER_OPTIONS = {
    "--config": "name the spec without an option",
    "--spec": "name the spec without an option",
    "--dry-run": "sightx validate --deep SPEC",
    "--data": "--set dataset.root=FOLDER",
    "--data-dir": "--set dataset.root=FOLDER",
    "--root": "--set dataset.root=FOLDER",
    "--model": "--set model.use=NAME",
    "--arch": "--set model.arch=NAME",
    "--optimizer": "--set optimizer.use=NAME",
    "--loss": "--set loss.use=NAME",
    "--scheduler": "--set scheduler.use=NAME",
    "--weights": "--set model.weights=NAME",
    "--pretrained": "--set model.weights=NAME",
    "--checkpoint": "--set model.weights=FILE",
    "--cpu": "--set execution.device=cpu",
    "--gpu": "--set execution.device=cuda",
    "--cuda": "--set execution.device=cuda",
    "--amp": "--set training.precision=bf16",
    "--fp16": "--set training.precision=bf16",
    "--bf16": "--set training.precision=bf16",
    "--weight-decay": "--set optimizer.weight_decay=VALUE",
    "--patience": "--set stopping.use=early --set stopping.patience=VALUE",
    "-b": "--set training.batch_size=VALUE",
    "-o": "--runs FOLDER",
    "-q": "--quiet",
    "-s": "--set KEY=VALUE",
    "--gpus": "--processes N",
    "--nproc": "--processes N",
    "--nproc-per-node": "--processes N",
    "--num-processes": "--processes N",
    "--num-workers": "--set execution.threads=N",
    "--workers": "--set execution.threads=N",
    "--resume": "--continue",
    "--logdir": "--runs FOLDER",
    "--out": "--runs FOLDER",
    "--output": "--runs FOLDER",
    "--output-dir": "--runs FOLDER",
    "--save-dir": "--runs FOLDER",
}
_SETS_EXPERIMENT = re.compile(r"--set (?!dataset\.root|execution\.)")
_RESOURCE_ERRNOS = {
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.ENOSPC, errno.EPERM, errno.EROFS,
}  # fmt: skip


class Commands(click.Group):
    """The commands of SightX, imported when they are called, and those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of SightX's own commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Return a command. Raises SpecError or PluginError if there is none."""
        if cmd_name not in COMMANDS:
            return _plugin_commands(ctx).find(cmd_name)
        module = importlib.import_module(COMMANDS[cmd_name])
        command: click.Command = module.command
        if _COMPLETE in os.environ:
            from sightx.cli import completion

            return completion.add_types(command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an option without its value is an error that names the command."""
        try:
            return super().invoke(ctx)
        except click.BadOptionUsage as error:
            if error.ctx is None and (name := ctx.invoked_subcommand):  # click's parser leaves it
                error.ctx = click.Context(self.get_command(ctx, name) or self, ctx, name)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write SightX's own commands in their groups, then those of plugins."""
        width = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(f"{name:<{width}}", each.get_short_help_str()) for name, each in commands]
            with formatter.section(title):
                formatter.write_dl(rows)
        if rows := _plugin_commands(ctx).help_rows():
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)


def _plugin_commands(ctx: click.Context) -> PluginCommands:
    """Return the commands of plugins, loaded once per call of the command line."""
    from sightx.cli.plugin_commands import PluginCommands

    root = ctx.find_root()
    commands: PluginCommands = root.meta.setdefault(__name__, PluginCommands(COMMANDS))
    return commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="sightx")
def sightx(debug: bool) -> None:
    """Train image classifiers from declarative specs and named plugins."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the exit code of its failure, 0 if there is none."""
    if _COMPLETE in os.environ:
        from sightx.cli import completion

        sys.exit(completion.complete(sightx, _COMPLETE))
    if arguments is None:
        streams.ensure_utf8()
        streams.open_missing_streams()
    words = _with_debug_first(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if rendezvous.world_size() > 1:  # torch would log that it has lost a peer
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with interrupt_once(), streams.protected_streams():
        code = _call(words)
    rendezvous.write_exit_code(code)
    sys.exit(code)


def _with_debug_first(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command line; --debug may be anywhere before `--`."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    options = [word for word in words[:end] if word == "--debug"]
    others = [word for word in words[:end] if word != "--debug"]
    return [*options[:1], *(others or ["--help"] * bool(options)), *words[end:]]


def _call(words: list[str]) -> int:
    """Run the command line; print a failure, and return the exit code."""
    try:
        Path.cwd()  # libraries fail in other ways where it was removed
        with _log_to_stderr("--debug" in words):
            code = sightx.main(words, prog_name="sightx", standalone_mode=False, obj=words)
            if not streams.is_lost(sys.stdout):
                sys.stdout.flush()  # an error here is a failure of the command
    except (click.exceptions.Abort, KeyboardInterrupt, Interrupted) as interruption:
        if isinstance(interruption, Interrupted) and rendezvous.world_size() > 1:
            _exit_rank(interruption)
        click.echo(str(Problem("interrupted", "stopped before anything was saved")), err=True)
        return 128 + getattr(interruption, "number", signal.SIGINT)
    except BaseException as error:  # also SystemExit: a plugin's sys.exit(0) is not a success
        if streams.is_closed_pipe(error):
            return 128 + signal.SIGPIPE
        if "--debug" in words:
            traceback.print_exc()
        if rendezvous.world_size() > 1:
            _exit_rank(error)
        failure = _as_failure(error)
        click.echo(str(failure), err=True)
        return failure.exit_code
    return code if isinstance(code, int) else 0


def _exit_rank(error: BaseException) -> NoReturn:
    """Exit as one of several processes; only the process that failed first prints its failure."""
    from sightx.distributed.failures import (
        first_failure,
        is_peer_lost_error,
        is_shown_by_other_rank,
    )

    is_known = isinstance(error, Interrupted) or is_peer_lost_error(error)
    first = first_failure(error if is_known else _as_failure(error))
    if isinstance(first, Interrupted):
        code = 128 + first.number
    else:
        code = first.exit_code
        if not is_shown_by_other_rank(first):
            click.echo(str(first), err=True)
    rendezvous.write_exit_code(code)
    with suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the process group may wait for a lost peer forever


def _as_failure(error: BaseException) -> SightXError:
    """Return an exception as the failure to print; an unexpected one is a bug in SightX."""
    from sightx.registry.failures import expected_failure

    message = f"{type(error).__name__}: {error}"
    if isinstance(error, click.ClickException):
        return _as_usage_error(error)
    if isinstance(error, SystemExit):
        return PluginError(
            Problem(
                "broken-plugin",
                f"a plugin ended the process: {message}",
                "--debug shows where",
            )
        )
    if isinstance(error, FileNotFoundError) and (problem := _missing_folder()):
        return ResourceError(problem)
    if isinstance(error, OSError) and error.errno in atomic.DISK_FULL:
        where = f": {error.filename}" if error.filename else " below the output"
        return ResourceError(
            Problem("disk-write", f"disk full{where}", "free space, then try again")
        )
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _RESOURCE_ERRNOS:
        return ResourceError(Problem("resource", message))
    return expected_failure(error) or SightXError(
        Problem("internal", message, "--debug shows where")
    )


def _as_usage_error(error: click.ClickException) -> SpecError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "sightx"
    message, hint = error.format_message().rstrip("."), f"{command} --help"
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and context:
        known = getattr(context.command, "commands", {})
        message = f"{command} needs a command" + (f": {', '.join(known)}" if known else "")
    if isinstance(error, click.NoSuchOption) and context:
        message = f"{command} has no option {error.option_name}"
        hint = _hint_for_option(error.option_name, context.command) or hint
    if assignment := re.search(r"extra arguments? \(([\w.-]+=\S*)", message):
        hint = f"--set {assignment[1].rstrip(')')}"
    return SpecError(Problem("usage", message, hint))


def _hint_for_option(option: str, command: click.Command) -> str:
    """Return the option that is meant, or the setting of a spec; "" if none is close."""
    from sightx.registry.suggestions import other_settings
    from sightx.spec.sections import settings_called

    known = [name for parameter in command.params for name in parameter.opts if name[:2] == "--"]
    name = option.lstrip("-").replace("-", "_")
    same, similar = settings_called(name), settings_called(*other_settings(name))
    own = _OTHER_OPTIONS.get(option, "")
    settings = [" or ".join(f"--set {key}=VALUE" for key in keys) for keys in (same, similar)]
    for hint in (settings[0], own, settings[1]):
        is_known = hint.split()[:1] in (["name"], ["sightx"]) or hint.partition(" ")[0] in known
        # `evaluate` scores the experiment as it is, elsewhere.
        if is_known and (command.name != "evaluate" or not _SETS_EXPERIMENT.match(hint)):
            return hint
    return did_you_mean(option, known)


def _missing_folder() -> Problem | None:
    """Return what is wrong with the working directory or the temporary folder, None if nothing."""
    import tempfile

    try:
        Path.cwd()
    except OSError:
        hint = "cd to a folder that exists"
        return Problem("resource", "the working directory was removed", hint)
    try:
        tempfile.gettempdir()
    except OSError:
        hint = "set TMPDIR to a folder that can be written"
        return Problem("resource", "there is no usable temporary folder", hint)
    return None


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning that the user's own code issues as one line; hide those of libraries."""
    import sysconfig

    paths = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    libraries = [*filter(None, paths), str(Path(__file__).parents[1])]
    if not any(Path(filename).is_relative_to(folder) for folder in libraries):
        text = f"{category.__name__}: {message}"
        problem = Problem("python-warning", text, severity="warning")
        click.echo(str(problem.at(filename, lineno)), err=True)


@contextmanager
def _log_to_stderr(debug: bool) -> Iterator[None]:
    """Print what SightX logs while a command runs; with `debug` also what libraries warn of."""
    show_warning = warnings.showwarning
    if not debug:
        warnings.showwarning = _show_warning
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # fonts and cache folders
    try:
        with log.logged_to_stderr(is_main_process=not rendezvous.rank()):
            yield
    finally:
        warnings.showwarning = show_warning
