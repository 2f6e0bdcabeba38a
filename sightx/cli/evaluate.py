"""`sightx evaluate`: score a run's checkpoint on one side of its data."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.options import runs_folder


@click.command("evaluate", short_help="Score a run on one side of its data.")
@click.argument("run")
@click.option("--split", default="test", type=click.Choice(["train", "validation", "test"]))
@runs_folder
def command(run: str, split: str, runs: Path | None) -> None:
    """Score RUN on a split of its own data; the predictions go to the run."""
    from sightx import console
    from sightx.registry import project
    from sightx.runner.evaluate import evaluate
    from sightx.runs.lookup import find_run

    found, checkpoint = find_run(runs or project.find_project(Path.cwd()).runs, run)
    with console.preparing(False) as progress:
        figures = evaluate(found, split, checkpoint=checkpoint, progress=progress)
    console.show_figures(found, split, figures)
