"""`sightx evaluate`: score a checkpoint of a run on a split of its data."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import find_run
from sightx.cli.options import runs_folder


@click.command("evaluate", short_help="Score a run on a split of its data.")
@click.argument("run")
@click.option("--split", default="test", type=click.Choice(["train", "validation", "test"]))
@runs_folder
def command(run: str, split: str, runs: Path | None) -> None:
    """Score RUN on a split of its own data, and write the predictions to the run.

    RUN is an id, a unique prefix of one, `last` for the newest run, or a path. RUN@NAME names one
    of its checkpoints.
    """
    from sightx import console
    from sightx.runner.evaluate import evaluate

    scored, checkpoint = find_run(run, runs)
    with console.show_progress(False) as progress:
        values = evaluate(scored, split, checkpoint=checkpoint, progress=progress)
    console.show_metrics(scored, split, values)
