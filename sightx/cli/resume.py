"""`sightx resume`: continue a run that was stopped."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import find_run
from sightx.cli.options import launched, overrides, processes, runs_folder
from sightx.cli.run import report, until_interrupted


@click.command("resume", short_help="Continue a run that was stopped.")
@click.argument("run")
@overrides
@runs_folder
@click.option("--allow-data-change", is_flag=True, help="Continue with changed images or labels.")
@click.option("--allow-plugin-change", is_flag=True, help="Continue with changed code of plugins.")
@processes
@click.option("--verify", is_flag=True, help="Train a little, with and without stops, and compare.")
@click.option("--steps", type=click.IntRange(min=6), help="How many steps --verify trains; 50.")
@click.option("--quiet", is_flag=True, help="Print only the run's directory.")
def command(
    run: str,
    overrides: tuple[str, ...],
    runs: Path | None,
    allow_data_change: bool,
    allow_plugin_change: bool,
    processes: int,
    verify: bool,
    steps: int | None,
    quiet: bool,
) -> int:
    """Continue RUN where it stopped; the result is that of the uninterrupted run.

    RUN is an id, a unique part of one, an experiment's name, `last` or a path. Differences from the
    original run are listed; those that would change its results are refused. Of the training only
    training.epochs may change, if the learning rates so far do not depend on it.

    With --verify RUN may also be a spec: its experiment is trained twice in a temporary folder, on
    few samples, without and with stops, and compared to the bit.
    """
    _check_usage(verify, steps, processes)
    if verify:
        return _verify(run, overrides, runs, steps or 50, quiet)
    if (code := launched(processes)) is not None:
        return code
    return _resume(run, overrides, runs, quiet, allow_data_change, allow_plugin_change)


def _resume(
    run: str,
    overrides: tuple[str, ...],
    runs: Path | None,
    quiet: bool,
    allow_data_change: bool,
    allow_plugin_change: bool,
) -> int:
    from sightx import resume
    from sightx.runner.resume import stored_experiment

    stopped, _ = find_run(run, runs)
    resumed = until_interrupted(
        resume,
        stopped,
        experiment=stored_experiment(stopped, overrides),
        changes=overrides,
        allow_data_change=allow_data_change,
        allow_plugin_change=allow_plugin_change,
        quiet=quiet,
    )
    return report(resumed, quiet)


def _check_usage(verify: bool, steps: int | None, processes: int) -> None:
    """Raise UsageError for an option that would have no effect."""
    if steps and not verify:
        raise click.UsageError("--steps says how many steps --verify trains, and needs it")
    if verify and processes > 1:
        raise click.UsageError("--verify trains in one process: leave --processes out")


def _verify(
    run: str, overrides: tuple[str, ...], runs: Path | None, steps: int, quiet: bool
) -> int:
    import sightx
    from sightx.runner.resume import stored_experiment
    from sightx.runner.verify_resume import verify_resume

    spec = Path(run)
    if spec.suffix == ".toml" and spec.is_file():
        experiment = sightx.load(spec, overrides)
    else:
        experiment = stored_experiment(find_run(run, runs)[0], overrides)

    def show(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    check = verify_resume(experiment, experiment.context.project, steps, show, runs)
    if not quiet:
        what = "weights, optimizer, metrics and predictions are equal to the bit"
        click.echo(f"verified: {check.states} checkpoints, {len(check.stops)} stops: {what}")
    return 0
