"""`sightx evaluate`: score a checkpoint of a run on a split of its data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightx.cli.context import find_model
from sightx.cli.options import engine, overrides, runs_folder

if TYPE_CHECKING:
    from sightx.inference.predictor import Engine


@click.command("evaluate", short_help="Score a run on a split of its data.")
@click.argument("run")
@click.option("--split", default="test", type=click.Choice(["train", "validation", "test"]))
@click.option("--allow-data-change", is_flag=True, help="Score changed images or labels.")
@engine
@overrides
@runs_folder
def command(
    run: str,
    split: str,
    allow_data_change: bool,
    engine: Engine,
    overrides: tuple[str, ...],
    runs: Path | None,
) -> None:
    """Score RUN on a split of its own data, and write the predictions to the run.

    Those of another checkpoint, of an exported model, or of data that have changed since, get their
    own name. RUN may be the folder of an exported model of one of the runs.

    RUN is an id, a unique prefix of one, `last` for the newest run, or a path. RUN@NAME names one
    of its checkpoints. --set may change where the data are, as in --set dataset.root=FOLDER, and
    [execution].
    """
    from sightx import console
    from sightx.runner.evaluate import evaluate

    scored, checkpoint, model = find_model(run, runs)
    with console.show_progress(False) as progress:
        evaluation = evaluate(
            scored,
            split,
            checkpoint=checkpoint,
            model=model,
            engine=engine,
            changes=overrides,
            allow_data_change=allow_data_change,
            progress=progress,
        )
    console.show_metrics(scored, evaluation)
