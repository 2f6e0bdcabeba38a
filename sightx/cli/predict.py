"""`sightx predict`: predict the classes of images."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightx.cli.context import find_run
from sightx.cli.options import UserPath, runs_folder

if TYPE_CHECKING:
    from sightx import DataError


@click.command("predict", short_help="Predict images with a run.")
@click.argument("run")
@click.argument("files", nargs=-1, required=True, type=UserPath())
@runs_folder
@click.option("--device", default="auto", help="cpu, cuda, mps or auto.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def command(
    run: str, files: tuple[Path, ...], runs: Path | None, device: str, as_json: bool
) -> int:
    """Predict the classes of image FILES with a RUN, in the order in which they are given.

    A folder stands for all images in it and in the folders below it, and a quoted pattern such as
    "scans/**/*.png" for the files that match. A file that cannot be read is reported, the others
    are predicted, and the exit code is 3.

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
    for file in _listed(files):
        try:
            if isinstance(file, DataError):
                raise file
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


def _listed(arguments: tuple[Path, ...]) -> Iterator[Path | DataError]:
    """Yield the files of all arguments, and the error of an argument that has none."""
    from sightx import DataError
    from sightx.errors import one_line
    from sightx.inference.image_files import find_images

    for argument in arguments:
        try:
            images = find_images(argument)
        except DataError as error:
            yield error
            continue
        if images.unused:
            example = f"{len(images.unused)} files are not images, such as {images.unused[0]}"
            click.echo(one_line(f"{argument}: {example}"), err=True)
        yield from images.paths
