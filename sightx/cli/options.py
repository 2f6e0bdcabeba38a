"""Options that several commands share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightx.io.files import user_path

if TYPE_CHECKING:
    from sightx.errors import SpecError

Command = Callable[..., Any]
_OUTPUT = "sightx.output"
"""Key of the standard output in the context of a command that prints another format than text."""


class UserPath(click.Path):
    """A path on the command line; a `~` that the shell has left becomes the home folder."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, readable=False, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises SpecError for `-`, unless the option takes it."""
        if str(value) == "-" and not self.allow_dash:
            from sightx.errors import Problem, SpecError

            message = f"{param.opts[0] if param else 'a path'} does not take - for a stream"
            raise SpecError(Problem("usage", message, "name a file; ./- is one that is called -"))
        return super().convert(user_path(value), param, ctx)


class SpecPath(UserPath):
    """The path of a spec; the name of a run or of a component in its place is recognised."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises SpecError for a name that means something else than a file."""
        path = super().convert(value, param, ctx)
        if ctx and not path.suffix and not os.path.lexists(path):
            from sightx.errors import Problem, SpecError

            resumes = ctx.command.name == "run"
            if hint := _meaning_of_name(str(path), "resume" if resumes else "show-run"):
                raise SpecError(Problem("usage", f"{str(path)!r} is not a spec", hint))
        return path


def _meaning_of_name(name: str, command: str) -> str:
    """Return the command for the run or the component that a name means, or ""."""
    from sightx.cli.context import find_run_directory, load_project_registry
    from sightx.errors import SightXError

    with suppress(SightXError, OSError):
        find_run_directory(name, None)
        return f"sightx {command} {name}"
    with suppress(SightXError, OSError):
        entries = load_project_registry().entries()
        kinds = [entry.component.kind for entry in entries if entry.component.name == name]
        return f"sightx show-plugin {kinds[0]} {name}" if kinds else ""
    return ""


def overrides(command: Command) -> Command:
    """Add `--set key=value`, which may be repeated."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value of the spec, such as training.epochs=3; may be repeated.",
    )(command)


def engine(command: Command) -> Command:
    """Add `--engine torch|onnx|int8`."""
    return click.option(
        "--engine",
        type=click.Choice(["torch", "onnx", "int8"]),
        default="torch",
        help="What computes an exported model.",
    )(command)


def json_output(command: Command) -> Command:
    """Add `--json`: nothing but what `print_json` prints is on standard output then.

    What a component prints goes to standard error.
    """
    return click.option(
        "--json", "as_json", is_flag=True, callback=keep_output, help="Print JSON."
    )(command)


def keep_output(context: click.Context, _: click.Parameter, value: bool | str) -> bool | str:
    """Keep standard output for `print_output`, if the value of an option asks for a format."""
    if value and value != "text":
        context.meta[_OUTPUT] = sys.stdout
        context.with_resource(redirect_stdout(sys.stderr))
    return value


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print_output(json.dumps(value, indent=1))


def print_output(text: str) -> None:
    """Print the output of a command that was kept for it."""
    click.echo(text, file=click.get_current_context().meta.get(_OUTPUT, sys.stdout))


def runs_folder(command: Command) -> Command:
    """Add `--runs FOLDER`."""
    return click.option(
        "--runs",
        type=UserPath(),
        help="Folder of the runs; runs/ by default.",
    )(command)


def processes(command: Command) -> Command:
    """Add `--processes N`."""
    return click.option(
        "--processes",
        type=click.IntRange(min=1),
        default=1,
        help="Number of processes on this machine that train together.",
    )(command)


def launched(processes: int) -> int | None:
    """Run the whole command in several processes, and return its exit code.

    Return None if this process should run the command: if only one is wanted, or if it is one of
    several that were started.
    """
    from sightx.distributed import rendezvous

    if processes == 1 or rendezvous.world_size() > 1:
        return None
    from sightx.distributed import launch

    return launch.launch(processes, click.get_current_context().find_root().obj)


def check_kind(
    ctx: click.Context,
    parameter: click.Parameter,
    value: str | None,
    others: Collection[str] = (),
) -> str | None:
    """Return the name of a kind, or one of `others`, unchanged. Raises SpecError for another."""
    from sightx.registry.kinds import KINDS

    if value is not None and value not in [*(cls.kind for cls in KINDS), *others]:
        raise unknown_kind(value, others)
    return value


def unknown_kind(name: str, others: Collection[str] = ()) -> SpecError:
    """Return the error for a name that is neither that of a kind nor one of `others`.

    If it is the name of a component, the hint names the kinds that have one.
    """
    from sightx.cli.context import load_project_registry
    from sightx.errors import Problem, SpecError, did_you_mean
    from sightx.registry.kinds import KINDS

    kinds = [*(cls.kind for cls in KINDS), *others]
    hint = did_you_mean(name, kinds)
    if not hint:
        entries = load_project_registry().entries()
        named = {entry.component.kind for entry in entries if entry.component.name == name}
        hint = " or ".join(f"sightx show-plugin {kind} {name}" for kind in sorted(named))
    hint = hint or f"known: {', '.join(kinds)}"
    return SpecError(Problem("usage", f"no kind is called {name!r}", hint))
