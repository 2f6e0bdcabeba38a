"""`sightx prepare`: do ahead of a run what it would do before its first step."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.options import overrides

_NEW = click.Path(path_type=Path, file_okay=False)


@click.command("prepare", short_help="Prepare the images of a spec ahead of a run.")
@click.argument("spec", type=click.Path(path_type=Path, readable=False))
@overrides
@click.option(
    "--faults",
    type=click.Path(path_type=Path, dir_okay=False),
    default="bad-images.csv",
    show_default=True,
    help="Where images that cannot be read are listed, if there are any.",
)
@click.option("--pack", metavar="DIR", type=_NEW, help="Write the pixels: a dataset by itself.")
@click.option("--shards", metavar="DIR", type=_NEW, help="Write the images as tar files: likewise.")
@click.option(
    "--shard-size",
    metavar="BYTES",
    type=click.IntRange(min=1),
    default=1_000_000_000,
    show_default=True,
    help="How large a tar file may be.",
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
    """Read and prepare every image of SPEC, and keep the pixels for all specs that want the same.

    Pixels that are there already are verified, and made again where they are damaged. What --pack
    or --shards writes is a dataset for which SPEC's own is not needed, with a spec that trains on
    it.
    """
    import sightx
    from sightx import console
    from sightx.data import stock
    from sightx.export import packing, shard_writer

    if pack and shards:
        raise click.UsageError("give --pack or --shards, not both")
    experiment, faults = sightx.load(spec, overrides), faults.absolute()
    with console.show_progress(quiet) as progress:
        if not (folder := pack or shards):
            found = stock.warm_cache(experiment, faults, progress)
        elif pack:
            written = packing.write_pack(experiment, pack, faults, progress=progress)
        else:
            written = shard_writer.write_shards(
                experiment, folder, faults, shard_size=shard_size, progress=progress
            )
    if quiet:
        return
    if folder:
        console.show_export(written, folder)
    else:
        console.show_cache_report(found)
