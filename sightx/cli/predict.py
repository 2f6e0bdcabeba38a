"""`sightx predict`: predict the classes of images."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from sightx.cli.context import find_run
from sightx.cli.options import UserPath, runs_folder


@click.command("predict", short_help="Predict images with a run.")
@click.argument("run")
@click.argument("files", nargs=-1, required=True, type=UserPath())
@runs_folder
@click.option("--device", default="auto", help="cpu, cuda, mps or auto.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def command(
    run: str, files: tuple[Path, ...], runs: Path | None, device: str, as_json: bool
) -> int:
    """Predict the classes of image FILES with a RUN.

    RUN is an id, a unique prefix of one, `last` for the newest run, or a path. RUN@NAME names one
    of its checkpoints.
    """
    from sightx import DataError, Predictor, console

    trained, checkpoint = find_run(run, runs)
    folder = trained.checkpoint(checkpoint)
    click.echo(f"{trained.id}, {folder.name} ({trained.status})", err=True)
    with redirect_stdout(sys.stderr):  # what a component prints is not a prediction
        predictor = Predictor.load(folder, device)
    code = 0
    for file in files:
        try:
            with redirect_stdout(sys.stderr):
                prediction = predictor.predict(file)
        except DataError as error:  # the other files are still predicted
            click.echo(str(error), err=True)
            code = error.exit_code
            continue
        if as_json:
            record = {"file": str(file), "run": trained.id, "class": prediction.decision}
            click.echo(json.dumps({**record, "probabilities": prediction.probabilities}))
        else:
            console.show_prediction(str(file), prediction)
    return code
