"""`sightx board`: a local page over the runs."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import runs_root
from sightx.cli.options import UserPath, runs_folder
from sightx.errors import counted


@click.command("board", short_help="Show runs and their curves in a browser.")
@click.option("--port", type=click.IntRange(0, 65535), default=7410, show_default=True)
@click.option("--open", "open_browser", is_flag=True, help="Open a browser.")
@click.option(
    "--export", metavar="DIR", type=UserPath(), help="Write the page into a folder and end."
)
@runs_folder
def command(port: int, open_browser: bool, export: Path | None, runs: Path | None) -> None:
    """Show the runs in a page on this machine; Ctrl-C ends it.

    The page changes nothing and needs no network. It filters, sorts and folds runs as list-runs
    does, lays their curves over each other, and follows runs that train. With --export the folder
    is the page for a colleague, who opens its index.html.
    """
    root = runs_root(runs)
    if export:
        from sightx.board.export import export_board

        number = export_board(root, export)
        click.echo(f"{export}: {counted(number, 'run')}; open {export / 'index.html'}")
        return
    from sightx.board.server import Server
    from sightx.io.signals import Interrupted

    with Server(root, port) as server:
        click.echo(f"{server.url} shows {root}; Ctrl-C ends it")
        if open_browser:
            click.launch(server.url)
        try:
            server.serve_forever()
        except (KeyboardInterrupt, Interrupted):
            click.echo()
