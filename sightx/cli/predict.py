"""`sightx predict`: say what images show."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sightx.cli.options import runs_folder


@click.command("predict", short_help="Predict images with a run.")
@click.argument("run")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@runs_folder
@click.option("--device", default="auto", help="cpu, cuda, mps or auto.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(
    run: str, files: tuple[Path, ...], runs: Path | None, device: str, as_json: bool
) -> int:
    """Predict FILES with a RUN: an id, a unique prefix, `last`, or RUN@last for a checkpoint."""
    from sightx import DataError, Predictor, console
    from sightx.registry import project
    from sightx.runs.lookup import find_run

    found, checkpoint = find_run(runs or project.find_project(Path.cwd()).runs, run)
    folder = found.checkpoint(checkpoint)
    click.echo(f"{found.id}, {folder.name} ({found.result.get('status', 'running')})", err=True)
    predictor = Predictor.load(folder, device)
    code = 0
    for file in files:
        try:
            prediction = predictor.predict(file)
        except DataError as error:  # the others are wanted all the same
            click.echo(str(error), err=True)
            code = error.exit_code
            continue
        if as_json:
            record = {"file": str(file), "run": found.id, "class": prediction.decision}
            click.echo(json.dumps({**record, "probabilities": prediction.probabilities}))
        else:
            console.show_prediction(str(file), prediction)
    return code
