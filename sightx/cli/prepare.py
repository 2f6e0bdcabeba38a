"""`sightx prepare`: build the pixel cache ahead of a run, or export the images."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.options import SpecPath, overrides

_NEW = SpecPath(file_okay=False)


@click.command("prepare", short_help="Preprocess the images of a spec ahead of a run.")
@click.argument("spec", type=SpecPath())
@overrides
@click.option(
    "--faults",
    type=SpecPath(dir_okay=False),
    default="bad-images.csv",
    show_default=True,
    help="Write a list of images that cannot be read, if there are any.",
)
@click.option("--pack", metavar="DIR", type=_NEW, help="Export the pixels as a dataset.")
@click.option("--shards", metavar="DIR", type=_NEW, help="Export the images as tar files.")
@click.option(
    "--shard-size",
    metavar="BYTES",
    type=click.IntRange(min=1),
    default=1_000_000_000,
    show_default=True,
    help="Largest size of a tar file.",
)
@click.option("--quiet", is_flag=True, help="Print nothing.")
def command(
    spec: Path,
    overrides: tuple[str, ...],
    faults: Path,
    pack: Path | None,
    shards: Path | None,
    shard_size: int,
    quiet: bool,
) -> None:
    """Preprocess every image of SPEC, and cache the pixels for all specs that need the same ones.

    Cached pixels are verified, and built again if they are damaged. --pack and --shards write a
    dataset that does not need SPEC's own, and a spec that trains on it.
    """
    import sightx
    from sightx import console
    from sightx.data.dataset import warm_cache
    from sightx.export.pack import write_pack
    from sightx.export.shards import write_shards

    if pack and shards:
        raise click.UsageError("give --pack or --shards, not both")
    experiment, faults = sightx.load(spec, overrides), faults.absolute()
    with console.show_progress(quiet) as progress:
        if not (folder := pack or shards):
            report = warm_cache(experiment, faults, progress)
        elif pack:
            export = write_pack(experiment, pack, faults, progress=progress)
        else:
            export = write_shards(
                experiment, folder, faults, shard_size=shard_size, progress=progress
            )
    if quiet:
        return
    if folder:
        console.show_export(export, folder)
    else:
        console.show_cache_report(report)
