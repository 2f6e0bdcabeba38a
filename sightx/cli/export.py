"""`sightx export`: write a trained model to a folder, or check such a folder."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import find_run
from sightx.cli.options import UserPath, overrides, runs_folder


@click.command("export", short_help="Export the model of a run, or check an exported one.")
@click.argument("run", required=False)
@click.option("--to", "folder", type=UserPath(), help="Folder to write; it must not exist.")
@click.option(
    "--format",
    "export_format",
    type=click.Choice(["onnx", "torch-export", "safetensors"]),
    default="onnx",
    help="What computes the network elsewhere; onnx by default.",
)
@click.option("--int8", is_flag=True, help="Add an ONNX file in 8-bit integers.")
@click.option(
    "--int8-loss",
    type=click.FloatRange(min=0),
    default=0.01,
    help="Loss of the monitored metric, at worst, beyond which --int8 fails; 0.01 by default.",
)
@click.option("--check", type=UserPath(), help="Check the folder of an exported model.")
@overrides
@runs_folder
def command(
    run: str | None,
    folder: Path | None,
    export_format: str,
    int8: bool,
    int8_loss: float,
    check: Path | None,
    overrides: tuple[str, ...],
    runs: Path | None,
) -> None:
    """Write the model of RUN to a folder: weights, network, labels, golden images, model card.

    The exported network is compared with PyTorch on images of the run's validation split; if it
    differs, nothing is written. --int8 adds one in 8-bit integers, whose loss is measured on all of
    that split. `--check FOLDER` repeats the comparison on another machine.

    RUN is an id, a unique part of one, an experiment's name, `last` or a path. RUN@NAME names one
    of its checkpoints. --set may change where the data are, as in --set dataset.root=FOLDER.
    """
    from sightx.errors import Problem, SpecError

    if check and not (run or folder):
        _check(check)
        return
    if check or not (run and folder):
        hint = "sightx export RUN --to FOLDER, or sightx export --check FOLDER"
        raise SpecError(Problem("usage", "give a run and a folder, or a folder to check", hint))
    from sightx import console
    from sightx.export.model import export_model

    exported, checkpoint = find_run(run, runs)
    with console.show_progress(False) as progress:
        export = export_model(
            exported, folder, format=export_format,  # type: ignore[arg-type]
            int8_loss=int8_loss if int8 else None,
            checkpoint=checkpoint, changes=overrides, progress=progress,
        )  # fmt: skip
    console.show_model_export(export.manifest, export.comparisons, folder)


def _check(folder: Path) -> None:
    from sightx.export.check_model import check_model

    for line in check_model(folder):
        click.echo(line)
