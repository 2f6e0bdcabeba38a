"""`sightx cache`: list and prune the pixel cache."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.options import json_output, print_json


@click.command("cache", short_help="List or prune the pixel cache.")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--prune", is_flag=True, help="Remove what no process uses at the moment.")
@click.option("--unused", type=click.FloatRange(min=0), metavar="DAYS",
              help="Remove only what was not used for so many days.")  # fmt: skip
@json_output
def command(keys: tuple[str, ...], prune: bool, unused: float | None, as_json: bool) -> None:
    """List the preprocessed pixels in the cache, or with --prune remove them: all, or each KEY.

    Nothing is lost: the next run preprocesses again what it needs.
    """
    from sightx import console
    from sightx.data.cache.store import PixelCache, cache_folder
    from sightx.registry import project

    if (keys or unused is not None) and not prune:
        raise click.UsageError("KEY and --unused go with --prune")
    cache = PixelCache(cache_folder(project.find_project(Path.cwd())))
    entries = cache.prune(keys, (unused or 0.0) * 86400) if prune else cache.entries()
    if as_json:
        print_json([entry._asdict() for entry in entries])
    else:
        console.show_cache_entries(cache.root, entries, removed=prune)
