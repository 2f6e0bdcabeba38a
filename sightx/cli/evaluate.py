"""`sightx evaluate`: score a checkpoint of a run on a split of its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightx.cli.context import find_model, load_project_registry
from sightx.cli.options import (
    UserPath,
    engine,
    json_output,
    overrides,
    print_json,
    runs_folder,
)

if TYPE_CHECKING:
    from sightx import Run
    from sightx.inference.predictor import Engine


@click.command("evaluate", short_help="Score a run on a split of its data.")
@click.argument("run")
@click.option("--split", default="test", type=click.Choice(["train", "validation", "test"]))
@click.option(
    "--data",
    type=UserPath(exists=True),
    metavar="CSV|FOLDER",
    help="Score all images of other data instead.",
)
@click.option("--allow-data-change", is_flag=True, help="Score changed images or labels.")
@engine
@overrides
@json_output
@runs_folder
def command(
    run: str,
    split: str,
    data: Path | None,
    allow_data_change: bool,
    engine: Engine,
    overrides: tuple[str, ...],
    as_json: bool,
    runs: Path | None,
) -> None:
    """Score RUN on a split of its own data, and write the predictions to the run.

    Those of another checkpoint, of an exported model, or of data that have changed since, get their
    own name. RUN may be the folder of an exported model of one of the runs.

    --data scores all images of a CSV file of labels, or of a folder, which are read as `sightx
    init` reads them. Labels are names of the run's classes, or their positions, counted from 0.

    RUN is an id, a unique part of one, an experiment's name, `last` or a path. RUN@NAME names one
    of its checkpoints. --set may change where the data are (dataset.root=FOLDER) and [execution];
    with --data, dataset.exclude, on_bad_image and bad_images_at_most of that data and [execution].
    """
    from sightx import console
    from sightx.runner.evaluate import evaluate
    from sightx.runner.evaluate_data import evaluate_data

    scored, checkpoint, model = find_model(run, runs)
    settings = _read_settings(data, scored) if data else None
    with console.show_progress(as_json) as progress:
        options: Any = {"checkpoint": checkpoint, "model": model, "engine": engine,
                        "changes": overrides, "progress": progress}  # fmt: skip
        evaluation = (
            evaluate(scored, split, allow_data_change=allow_data_change, **options)
            if settings is None
            else evaluate_data(scored, settings, **options)
        )
    if as_json:
        print_json({"run": scored.id, "split": "" if data else split, **evaluation.to_json()})
    else:
        console.show_metrics(scored, evaluation)


def _read_settings(data: Path, run: Run) -> Mapping[str, Any]:
    """Return the table [dataset] for other data that a run is scored on."""
    from sightx.init.inspect_data import inspect_data

    classes = run.data.get("classes", ())
    return inspect_data(data, load_project_registry(), scored_classes=classes).dataset
