"""`sightx resume`: let a run go on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightx.cli.options import launched, overrides, processes, runs_folder
from sightx.cli.run import report, watching
from sightx.distributed import rendezvous

if TYPE_CHECKING:
    from sightx import Run


@click.command("resume", short_help="Go on with a run that stopped.")
@click.argument("run")
@overrides
@runs_folder
@click.option("--allow-data-change", is_flag=True, help="Go on with other images or labels.")
@click.option("--allow-plugin-change", is_flag=True, help="Go on with other code of plugins.")
@processes
@click.option("--prove", is_flag=True, help="Train a little, with and without stops, and compare.")
@click.option("--steps", type=click.IntRange(min=6), help="How many steps --prove trains; 50.")
@click.option("--quiet", is_flag=True, help="Print only the run's directory.")
def command(
    run: str,
    overrides: tuple[str, ...],
    runs: Path | None,
    allow_data_change: bool,
    allow_plugin_change: bool,
    processes: int,
    prove: bool,
    steps: int | None,
    quiet: bool,
) -> int:
    """Let RUN go on where it stopped; it ends as if it never had. `last` is the newest run.

    What is not as it was is said, and refused where the run would no longer be the same: only
    training.epochs may be more, where the learning rate does not depend on it.

    With --prove RUN may be a spec, too, and is left alone: its experiment is trained twice in a
    temporary folder, on few samples, once with stops, and compared to the bit.
    """
    _refuse_useless(prove, steps, processes)
    if prove:
        return _prove(run, overrides, runs, steps or 50, quiet)
    if (code := launched(processes)) is not None:
        return code
    from sightx import console, resume
    from sightx.runner.resume import stored_experiment

    found = _found(run, runs)
    experiment = stored_experiment(found, overrides)
    with console.preparing(quiet or rendezvous.rank() > 0) as progress:
        resume(
            found,
            experiment=experiment,
            changes=overrides,
            allow_data_change=allow_data_change,
            allow_plugin_change=allow_plugin_change,
            observers=watching(experiment, quiet),
            progress=progress,
        )
    return report(found, quiet)


def _refuse_useless(prove: bool, steps: int | None, processes: int) -> None:
    """Raise UsageError for an option that would change nothing."""
    if steps and not prove:
        raise click.UsageError("--steps says how many steps --prove trains, and needs it")
    if prove and processes > 1:
        raise click.UsageError("--prove trains in one process: leave --processes out")


def _found(run: str, runs: Path | None) -> Run:
    """Return the run that a name means."""
    from sightx.registry import project
    from sightx.runs import lookup

    root = runs or project.find_project(Path.cwd()).runs
    known = lookup.list_runs(root) if run == "last" else []
    return known[-1] if known else lookup.find_run(root, run)[0]


def _prove(run: str, overrides: tuple[str, ...], runs: Path | None, steps: int, quiet: bool) -> int:
    import sightx
    from sightx.runner.resume import stored_experiment
    from sightx.runner.verify_resume import verify_resume

    spec = Path(run)
    if spec.suffix == ".toml" and spec.is_file():
        experiment = sightx.load(spec, overrides)
    else:
        experiment = stored_experiment(_found(run, runs), overrides)
    told = (lambda said: None) if quiet else (lambda said: click.echo(said, err=True))
    proof = verify_resume(experiment, steps, told, runs)
    if not quiet:
        what = "weights, optimizer, metrics and predictions are equal to the bit"
        click.echo(f"proved: {proof.steps} states, {len(proof.stops)} stops: {what}")
    return 0
