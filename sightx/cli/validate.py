"""`sightx validate`: report every problem of specs."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightx.cli.context import load_project_registry
from sightx.cli.options import SpecPath, keep_output, overrides

if TYPE_CHECKING:
    from sightx.errors import Problem
    from sightx.spec.experiment import Experiment


def _explain(context: click.Context, _: click.Parameter, code: str | None) -> None:
    """Print the entry of a code, which may be that of a plugin's check, and exit."""
    if code is None:
        return
    from sightx.spec.error_codes import explain

    click.echo(explain(code, load_project_registry()))
    context.exit()


@click.command("validate", short_help="Report every problem of specs.")
@click.argument("specs", nargs=-1, required=True, type=SpecPath())
@overrides
@click.option("--deep", is_flag=True, help="Also open the data, and build the model without data.")
@click.option("--strict", is_flag=True, help="Exit with 2 also if there are only warnings.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    callback=keep_output,
    help="Format of the output; text by default.",
)
@click.option(
    "--explain",
    metavar="CODE",
    is_eager=True,
    expose_value=False,
    callback=_explain,
    help="Explain an error code, and exit; `list` shows all codes.",
)
def command(
    specs: tuple[Path, ...], overrides: tuple[str, ...], deep: bool, strict: bool, form: str
) -> int:
    """Check SPECS and report every problem with its position.

    Without --deep no more than the headers of tables is read, and the command takes a fraction of a
    second.
    """
    from sightx.cli.formats import Report, SpecResult, print_report
    from sightx.spec.load import examine

    problems: list[Problem] = []
    results: list[SpecResult] = []
    registry = None
    for spec in specs:
        examined = examine(spec, overrides)
        _print_traceback(examined.cause)
        experiment, spec_problems = examined.experiment, examined.problems
        exit_code = examined.failure.exit_code if examined.failure else 0
        facts: tuple[str, ...] = ()
        if experiment:
            registry = registry or experiment.context.registry
        if experiment and not deep:
            facts = tuple(_missing_data(experiment))
        if experiment and deep and not exit_code:
            deep_problems, facts, exit_code = _examine_deeply(experiment)
            spec_problems += deep_problems
        if strict and spec_problems:
            exit_code = exit_code or 2
        problems += spec_problems
        results.append(SpecResult(str(spec), exit_code, facts))
    stages = ("spec", "data", "device") if deep else ("spec",)
    unique = tuple(dict.fromkeys(problems))
    print_report(Report(unique, tuple(results), stages, registry), form)
    return max(result.exit_code for result in results)


def _missing_data(experiment: Experiment) -> Iterator[str]:
    """Yield a line for each part of the data and the weights that is not on this machine."""
    from sightx.errors import one_line
    from sightx.spec.check_runner import at_position
    from sightx.spec.paths import missing_places

    dataset = experiment.dataset
    places = (*missing_places(dataset, "dataset"), *missing_places(experiment.model, "model"))
    for problem in (*places, *dataset.check_headers()):
        setting = at_position(problem, experiment.context.spec)
        file = f"{problem.place}: " if problem.file else ""
        hint = f"; {problem.hint}" if problem.hint else ""
        yield one_line(f"{setting.place}: {problem.path}: {file}{problem.message}{hint}")


def _examine_deeply(
    experiment: Experiment,
) -> tuple[tuple[Problem, ...], tuple[str, ...], int]:
    """Open the data and build the model; return problems, lines to print, and the exit code."""
    from sightx.errors import SightXError
    from sightx.registry.failures import plugin_failure
    from sightx.runner.initial_weights import InitialWeights, weights_source
    from sightx.spec.check_runner import at_position
    from sightx.training.dry_run import dry_run

    context = experiment.context
    try:
        source = weights_source(context.project.runs, experiment.model.weights)
        weights = InitialWeights.read(source, context.spec)
        result = dry_run(experiment, weights.source, weights.tables)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _print_traceback(error)
        failure = (
            error if isinstance(error, SightXError) else plugin_failure(error, context.registry)
        )
        if failure is None:
            raise
        problems = (p if p.file else at_position(p, context.spec) for p in failure.problems)
        return tuple(problems), (), failure.exit_code
    has_errors = any(problem.severity == "error" for problem in result.problems)
    return tuple(result.problems), tuple(result.lines()), 3 if has_errors else 0


def _print_traceback(error: BaseException | None) -> None:
    """Print where an exception was raised, if `sightx --debug` asks for it."""
    if error is not None and click.get_current_context().find_root().params.get("debug"):
        click.echo("".join(traceback.format_exception(error)), err=True)
