"""The command `sightx`: find a command, run it, turn failures into lines and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from sightx.errors import Problem, SightXError

# Where each command lives; none is imported before it is asked for.
COMMANDS = {
    "evaluate": "sightx.cli.evaluate",
    "list-plugins": "sightx.cli.list_plugins",
    "predict": "sightx.cli.predict",
    "run": "sightx.cli.run",
    "show": "sightx.cli.show",
    "validate": "sightx.cli.validate",
}


class Commands(click.Group):
    """Import a command when it is called, or when help lists it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        command: click.Command = module.command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="sightx")
def sightx(debug: bool) -> None:
    """Train image classifiers from declarative specs and named plugins."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code that DESIGN gives each failure."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = sightx.main(words, prog_name="sightx", standalone_mode=False)
    except SightXError as error:
        _fail(str(error), error.exit_code, words)
    except click.exceptions.NoArgsIsHelpError as error:
        _fail(error.format_message(), 2, [])
    except click.ClickException as error:
        _fail(str(Problem("usage", error.format_message(), "sightx --help")), 2, [])
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail(str(Problem("interrupted", "stopped before anything was trained")), 130, [])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        line = Problem("internal", f"{type(error).__name__}: {error}", "--debug shows where")
        _fail(str(line), 70, words)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, code: int, words: Sequence[str]) -> None:
    if "--debug" in words:
        traceback.print_exc()
    click.echo(text, err=True)
    sys.exit(code)
