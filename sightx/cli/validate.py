"""`sightx validate`: find every problem of every spec."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from sightx.cli.options import overrides

if TYPE_CHECKING:
    from sightx.errors import Problem
    from sightx.registry.registry import Registry
    from sightx.spec.experiment import Experiment

_STAGES = {False: ("spec",), True: ("spec", "data", "device")}  # without and with --deep
_COLOURS = {"error": "red", "warning": "yellow"}


class _Verdict(NamedTuple):
    """What was found in one spec, and the exit code that it asks for."""

    spec: Path
    problems: tuple[Problem, ...]
    code: int
    registry: Registry | None
    outlook: tuple[str, ...] = ()


def _explain(context: click.Context, _: click.Parameter, code: str | None) -> None:
    """Print what a code means, and end; codes of the project's own checks are known, too."""
    if code is None:
        return
    from sightx.registry import loading, project
    from sightx.spec.error_codes import explain

    click.echo(explain(code, loading.load_registry(project.find_project(Path.cwd()))))
    context.exit()


@click.command("validate", short_help="Find every problem of specs.")
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@overrides
@click.option("--deep", is_flag=True, help="Open the data, assemble the model on no device.")
@click.option("--strict", is_flag=True, help="Let warnings fail, too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    help="How to print what was found; text by default.",
)
@click.option(
    "--explain",
    metavar="CODE",
    is_eager=True,
    expose_value=False,
    callback=_explain,
    help="Say what a code means and what to do; `list` shows all.",
)
def command(
    specs: tuple[Path, ...], overrides: tuple[str, ...], deep: bool, strict: bool, form: str
) -> int:
    """Check SPECS; without --deep no data is opened and nothing heavy imported."""
    verdicts = [_judge(spec, overrides, deep, strict) for spec in specs]
    problems = tuple(dict.fromkeys(p for verdict in verdicts for p in verdict.problems))
    if form == "text":
        _print(problems, verdicts, _STAGES[deep])
    else:
        _print_for_programs(form, problems, verdicts, _STAGES[deep])
    return max(verdict.code for verdict in verdicts)


def _judge(spec: Path, overrides: tuple[str, ...], deep: bool, strict: bool) -> _Verdict:
    """Find all problems of a spec."""
    from sightx.spec.load import examine

    examined = examine(spec, overrides)
    _trace(examined.cause)
    experiment, problems = examined.experiment, examined.problems
    code = examined.failure.exit_code if examined.failure else 0
    lines: tuple[str, ...] = ()
    if deep and experiment and not code:
        found, lines, code = _look(experiment)
        problems += found
    if strict and problems:
        code = code or 2
    registry = experiment.context.registry if experiment else None
    return _Verdict(spec, problems, code, registry, lines)


def _look(experiment: Experiment) -> tuple[tuple[Problem, ...], tuple[str, ...], int]:
    """Open the data and assemble the model; return problems, what there is, the exit code."""
    from sightx.errors import SightXError
    from sightx.registry.blame import plugin_failure
    from sightx.spec.checks import at_position
    from sightx.training.dry_run import dry_run

    context = experiment.context
    try:
        outlook = dry_run(experiment)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _trace(error)
        failure = (
            error if isinstance(error, SightXError) else plugin_failure(error, context.registry)
        )
        if failure is None:
            raise
        found = (p if p.file else at_position(p, context.spec) for p in failure.problems)
        return tuple(found), (), failure.exit_code
    wrong = any(problem.severity == "error" for problem in outlook.problems)
    return tuple(outlook.problems), tuple(outlook.lines()), 3 if wrong else 0


def _trace(error: BaseException | None) -> None:
    """Show where an exception arose, if `sightx --debug` asks for it."""
    if error is not None and click.get_current_context().find_root().params.get("debug"):
        click.echo("".join(traceback.format_exception(error)), err=True)


def _print(
    problems: tuple[Problem, ...], verdicts: list[_Verdict], stages: tuple[str, ...]
) -> None:
    """Print a line for each problem, on a terminal with its source; and which specs are valid."""
    colour = False if "NO_COLOR" in os.environ else None
    for problem in problems:
        line = str(problem)
        if sys.stderr.isatty():
            from sightx.cli.formats import excerpt

            label = f"{problem.severity}[{problem.code}]"
            styled = click.style(label, fg=_COLOURS[problem.severity], bold=True)
            source = [click.style(f"    {row}", dim=True) for row in excerpt(problem)]
            line = "\n".join([line.replace(label, styled, 1), *source])
        click.echo(line, err=True, color=colour)
    for verdict in verdicts:
        if not verdict.code:
            name = "".join(c if c.isprintable() else "?" for c in str(verdict.spec))
            more = "" if len(stages) > 1 else "; --deep opens the data and builds the model"
            click.echo(f"{name}: valid (stage {', '.join(stages)}{more})")
            for row in verdict.outlook:
                click.echo(f"  {row}")


def _print_for_programs(
    form: str, problems: tuple[Problem, ...], verdicts: list[_Verdict], stages: tuple[str, ...]
) -> None:
    from sightx.cli.formats import FORMATS, Report, Status

    def status(verdict: _Verdict) -> Status:
        return "invalid" if verdict.code else "valid"

    registry = next((verdict.registry for verdict in verdicts if verdict.registry), None)
    specs = tuple((str(verdict.spec), status(verdict)) for verdict in verdicts)
    click.echo(FORMATS[form](Report(problems, specs, stages, registry)))
