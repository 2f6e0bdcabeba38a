"""`sightx predict`: predict the classes of images."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from sightx.cli.context import find_weights
from sightx.cli.options import UserPath, engine, runs_folder
from sightx.io.streams import TolerantStream

if TYPE_CHECKING:
    from torch import Tensor

    from sightx import DataError, Predictor
    from sightx.inference.answer_rows import CsvAnswers
    from sightx.inference.pairs import PatientAnswer
    from sightx.inference.predictor import Engine
    from sightx.inference.stream import Answer

STREAM = Path("-")
"""Standard input in the list of images, standard output as the CSV file."""


@click.command("predict", short_help="Predict images with a run.")
@click.argument("run")
@click.argument("files", nargs=-1, type=UserPath(allow_dash=True))
@runs_folder
@click.option("--device", default="auto", help="cpu, cuda, mps or auto.")
@engine
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option(
    "--csv",
    "csv_file",
    type=UserPath(allow_dash=True),
    metavar="FILE",
    help="Write the answers to a CSV file; - is standard output.",
)
@click.option("--pairs", type=UserPath(), help="CSV file: patient, left and right eye.")
@click.option("--explain", type=UserPath(), help="Folder for pictures of where the network looked.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=1,
    help="Images computed at once; with 1, no answer depends on other images.",
)
def command(
    run: str,
    files: tuple[Path, ...],
    runs: Path | None,
    device: str,
    engine: Engine,
    as_json: bool,
    csv_file: Path | None,
    pairs: Path | None,
    explain: Path | None,
    batch_size: int,
) -> int:
    """Predict the classes of image FILES with a RUN, in the order in which they are given.

    A folder stands for all images in it and in the folders below it, a quoted pattern such as
    "scans/**/*.png" for the files that match, a CSV file, such as a table of labels, for the images
    in its rows, and - for the paths on standard input. A file that cannot be read is
    reported, the others are predicted, and the exit code is 3.

    RUN is an id, a unique part of one, an experiment's name, `last` or a path. RUN@NAME names one
    of its checkpoints. It may be the folder of an exported model.
    """
    from sightx import Predictor

    _check_usage(run, files, pairs)
    output = _output(csv_file, as_json)
    folder, title = find_weights(run, runs)
    click.echo(title, err=True)
    with ExitStack() as stack, redirect_stdout(sys.stderr):  # components may print
        predictor = Predictor.load(folder, device, engine=engine)
        answers, total = _answers(predictor, files, pairs, batch_size)
        writer = _Writer(predictor, output, as_json, csv_file, explain, bool(pairs), stack)
        report = stack.enter_context(_progress(output, csv_file, total))
        stack.enter_context(closing(answers))
        for done, answer in enumerate(answers, start=1):
            writer.write(answer)
            if report:
                report(done, total)
    return writer.finish()


def _output(csv_file: Path | None, as_json: bool) -> Any:
    """Return standard output; with a CSV file, which is always completed, it may lose its reader.

    Raises UsageError for two formats on standard output.
    """
    if csv_file == STREAM and as_json:
        raise click.UsageError("standard output takes one format, CSV or JSON")
    return sys.stdout if csv_file in {None, STREAM} else TolerantStream(sys.stdout)


def _check_usage(run: str, files: Sequence[Path], pairs: Path | None) -> None:
    """Raise SpecError unless there are images or pairs, but not both."""
    from sightx.errors import Problem, SpecError
    from sightx.inference.model_folder import is_model_folder
    from sightx.io.files import shell_path, user_path
    from sightx.runs.names import is_run

    if bool(files) != bool(pairs):
        return
    message = "there are no images to predict, or two lists"
    hint = "name images, or one list with --pairs"
    path = user_path(run)
    if not files and os.path.lexists(path) and not (is_run(path) or is_model_folder(path)):
        message, hint = "name a run before the images", f"sightx predict last {shell_path(run)}"
    raise SpecError(Problem("usage", message, hint))


def _answers(
    predictor: Predictor, files: Sequence[Path], pairs: Path | None, batch_size: int
) -> tuple[Generator[Answer | PatientAnswer, None, None], int]:
    """Return the answers, and how many there will be; 0 if standard input decides."""
    from sightx.inference.pairs import predict_pairs, read_pairs
    from sightx.inference.stream import predict_stream

    if pairs:
        eyes = read_pairs(pairs)
        return predict_pairs(predictor, eyes, batch_size=batch_size), len(eyes)
    images = _listed(files)
    total = 0
    if STREAM not in files:
        images = iter(known := list(images))
        total = len(known)
    return predict_stream(predictor, images, batch_size=batch_size), total


def _progress(output: TextIO, csv_file: Path | None, total: int) -> Any:
    """Return the progress bar; there is none where it would mix with the answers."""
    from sightx import console

    is_quiet = not total or (output.isatty() and csv_file in {None, STREAM})
    return console.show_progress(is_quiet, "predicting images")


def _listed(arguments: Sequence[Path]) -> Iterator[Path | DataError]:
    """Yield the files of all arguments, and the error of an argument that has none."""
    from sightx import DataError
    from sightx.errors import counted, one_line
    from sightx.init.image_files import images_of

    for argument in arguments:
        if argument == STREAM:
            yield from (Path(line) for text in sys.stdin if (line := text.rstrip("\r\n")))
            continue
        try:
            images = images_of(argument)
        except DataError as error:
            yield error
            continue
        if images.unused:
            count = len(images.unused)
            verb = "is not an image" if count == 1 else "are not images"
            example = f"{counted(count, 'file')} {verb}, such as {images.unused[0]}"
            click.echo(one_line(f"{argument}: {example}"), err=True)
        yield from images.paths


class _Writer:
    """Print answers, write them to a CSV file, and draw explanations."""

    def __init__(
        self,
        predictor: Predictor,
        output: TextIO,
        as_json: bool,
        csv_file: Path | None,
        explain: Path | None,
        has_patients: bool,
        stack: ExitStack,
    ) -> None:
        from sightx.inference.answer_rows import require_answers
        from sightx.io import atomic

        self._predictor, self._output, self._as_json = predictor, output, as_json
        self._explain, self._csv = explain, None
        self._counts = {"graded": 0, "ungradable": 0, "failed": 0}
        self._codes: set[int] = set()
        if explain:
            explain.mkdir(parents=True, exist_ok=True)
        if csv_file == STREAM:
            self._csv = self._open_csv(output, has_patients)
        elif csv_file:
            stack.enter_context(atomic.disk_errors(csv_file.absolute().parent))
            require_answers(csv_file)
            file = csv_file.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            self._csv = self._open_csv(stack.enter_context(file), has_patients)

    def _open_csv(self, file: TextIO, has_patients: bool) -> CsvAnswers:
        from sightx.inference.answer_rows import CsvAnswers

        recipe = self._predictor.recipe
        points = recipe.binary.chosen_points() if recipe.binary else ()
        names = [point.name for point, _ in points]
        return CsvAnswers(file, recipe.classes, points=names, patients=has_patients)

    def write(self, answer: Answer | PatientAnswer) -> None:
        """Write one answer; errors also go to standard error."""
        from sightx import console
        from sightx.inference.answer_rows import record_of

        record = record_of(answer)
        for image in answer.answers:
            if image.error:
                click.echo(str(image.error), err=True)
                self._codes.add(image.error.exit_code)
            elif self._explain and image.pixels is not None:
                self._draw(image.name, image.pixels, self._explain)
        outcome = record["outcome"]
        self._counts["failed" if outcome == "error" else outcome] += 1
        if self._csv:
            self._csv.write(record)
        if self._as_json:
            click.echo(json.dumps(record), file=self._output)
        elif self._csv is None:
            console.show_prediction(record, self._output)

    def _draw(self, name: str, pixels: Tensor, folder: Path) -> None:
        """Write the picture of one image; it gets a number if there is another of its name."""
        from PIL import Image

        from sightx.io import atomic

        (explanation,) = self._predictor.explain_pixels(pixels[None])
        content = io.BytesIO()
        Image.fromarray(explanation.overlay).save(content, "png")
        atomic.write_new(folder / f"{Path(name).stem}.png", content.getvalue())

    def finish(self) -> int:
        """Print how many images have which outcome, and return the exit code."""
        if sum(self._counts.values()) > 1:
            parts = [f"{count:,} {name}" for name, count in self._counts.items() if count]
            click.echo(", ".join(parts), err=True)
        return min(self._codes, default=0)
