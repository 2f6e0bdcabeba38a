"""`sightx run`: execute an experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightx.cli.context import find_run
from sightx.cli.options import (
    SpecPath,
    json_output,
    launched,
    overrides,
    print_json,
    processes,
    runs_folder,
)
from sightx.distributed import rendezvous
from sightx.errors import counted

if TYPE_CHECKING:
    from sightx import Run
    from sightx.runner.repetition import Repetition


@click.command("run", short_help="Train and evaluate a spec.")
@click.argument("spec", type=SpecPath(), required=False)
@overrides
@runs_folder
@click.option(
    "--continue",
    "unfinished",
    is_flag=True,
    help="Resume the newest run of this experiment, if there is one.",
)
@click.option("--again", metavar="RUN", help="Repeat RUN in place of a spec, and compare.")
@click.option("--profile", is_flag=True, help="Trace some steps, and print where the time went.")
@processes
@click.option("--quiet", is_flag=True, help="Print only the run's directory.")
@json_output
def command(
    spec: Path | None,
    overrides: tuple[str, ...],
    runs: Path | None,
    unfinished: bool,
    again: str | None,
    profile: bool,
    processes: int,
    quiet: bool,
    as_json: bool,
) -> int:
    """Train and evaluate SPEC.

    With --again RUN, the experiment of RUN is repeated from its directory alone, with the same
    samples, splits and initial weights; the exit code is 5 unless the two are equal to the bit.
    """
    if (spec is None) == (again is None):
        raise click.UsageError("name a spec, or --again RUN without a spec")
    if again and (overrides or unfinished):
        raise click.UsageError("--again repeats a run as it was: leave --set and --continue out")
    if (code := launched(processes)) is not None:
        return code
    original = find_run(again, runs)[0] if again else None
    options = {"runs": runs, "profile": profile, "quiet": quiet}
    run = _execute(spec, overrides, original, unfinished, options)
    if profile and not rendezvous.rank():
        from sightx import console

        console.show_profile(run)
    code = report(run, quiet and not as_json)
    same = None
    try:
        if original and not code and not rendezvous.rank():
            same = _compare(original, run)
    finally:  # a repeat that is not equal is an error
        if as_json and not rendezvous.rank():
            print_json(_to_json(run, original, same))
    return code


def _to_json(run: Run, original: Run | None, same: Repetition | None) -> dict[str, Any]:
    """Return the run and its result; of a repeat, what is equal to the bit, or null."""
    value: dict[str, Any] = {
        "run": run.id, "directory": str(run.directory), "result": run.result
    }  # fmt: skip
    if original:
        value |= {"repeats": original.id, "reproduced": asdict(same) if same else None}
    return value


def _execute(
    spec: Path | None,
    overrides: tuple[str, ...],
    original: Run | None,
    unfinished: bool,
    options: dict[str, Any],
) -> Run:
    """Run a spec, or repeat a run."""
    import sightx
    from sightx import runner

    if original or not spec:
        return until_interrupted(runner.repeat, original, **options)
    experiment = sightx.load(spec, overrides)
    return until_interrupted(runner.run, experiment, unfinished=unfinished, **options)


def _compare(original: Run, repeat: Run) -> Repetition:
    """Say that a repeat is equal to the bit. Raises RunError for the first difference."""
    from sightx.runner.repetition import compare_repeat

    same = compare_repeat(original, repeat)
    parts = (
        counted(same.epochs, "epoch"),
        f"the tensors of {counted(same.checkpoints, 'checkpoint')}",
        counted(same.predictions, "prediction"),
    )
    click.echo(f"reproduced {original.id} to the bit: {', '.join(parts)}", err=True)
    return same


def until_interrupted(call: Callable[..., Run], *arguments: Any, **options: Any) -> Run:
    """Call `sightx.run` or `sightx.resume`; return the run also if a SIGINT has ended it."""
    from sightx.runner.interrupts import RunInterrupted

    try:
        return call(*arguments, **options)
    except RunInterrupted as interruption:
        return interruption.run


def report(run: Run, quiet: bool) -> int:
    """Return the exit code of a run; print its directory if the command is quiet."""
    if quiet and not rendezvous.rank():
        click.echo(run.directory)
    return 128 + int(run.result["signal"]) if "signal" in run.result else 0
