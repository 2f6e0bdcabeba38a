"""`sightx list-runs`: list, filter, sort and fold runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightx.cli.context import runs_root
from sightx.cli.options import json_output, print_json, runs_folder
from sightx.cli.tables import cell_text, print_table
from sightx.errors import counted, printable, without_codes

if TYPE_CHECKING:
    from sightx.run_registry.listing import Listing, Row


@click.command("list-runs", short_help="List, filter, sort and fold runs.")
@click.argument("conditions", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--where", default="", metavar="EXPR", help="Show only runs that match.")
@click.option("--sort", default="", metavar="KEY", help="Metrics: the best first; -KEY: reversed.")
@click.option("--columns", default="", metavar="KEYS", help="Keys to show, with commas.")
@click.option("--all-columns", is_flag=True, help="Show every key.")
@click.option("--fold", default="", metavar="KEYS", help="Fold runs that differ only in these.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--all", "show_all", is_flag=True, help="Show all runs.")
@click.option("--rebuild", is_flag=True, help="Build the index anew.")
@json_output
@runs_folder
@click.pass_context
def command(
    context: click.Context,
    conditions: tuple[str, ...],
    where: str,
    sort: str,
    columns: str,
    all_columns: bool,
    fold: str,
    limit: int,
    show_all: bool,
    rebuild: bool,
    as_json: bool,
    runs: Path | None,
) -> None:
    """List runs, the newest first, with the columns in which they differ.

    A filter is the WHERE of SQL with bare keys: --where 'model.use = resnet50 and (qwk > 0.5 or
    @candidate)'. The last part of a key is enough if it is unique.
    """
    from sightx.run_registry.filters import find_key
    from sightx.run_registry.listing import Query, query_runs

    is_default = context.get_parameter_source("limit") is click.core.ParameterSource.DEFAULT
    unlimited = show_all or (as_json and is_default)
    folded = tuple(_names(fold))
    query = Query(conditions, where, sort, folded, None if unlimited else limit, rebuild)
    listing = query_runs(runs_root(runs), query)
    chosen = [find_key(name, list(listing.keys), "--columns") for name in _names(columns)]
    if as_json:
        rows = [row.to_json(chosen or None) for row in listing.rows]
        print_json(rows)
    else:
        _print(listing, chosen, runs_root(runs), all_columns=all_columns)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _print(listing: Listing, chosen: Sequence[str], root: Path, *, all_columns: bool) -> None:
    """Print a table of the runs in a folder, and what it leaves out."""
    from sightx.run_registry.listing import differing_columns

    rows, folder = listing.rows, printable(str(root))
    if not rows and listing.runs:
        click.echo(f"none of {counted(listing.runs, 'run')} in {folder} matches")
    elif not rows:
        click.echo(f"there are no runs in {folder}; --runs FOLDER looks in another folder")
    if not rows:
        return
    columns = list(chosen) or differing_columns(rows, listing.sort)
    if all_columns:
        columns = list(dict.fromkeys(key for row in rows for key in (*row.values, *row.spreads)))
    columns = [key for key in columns if key != "id"]
    table = [[_name(row), *(_cell(row, key) for key in columns)] for row in rows]
    # `epoch` counts the trained epochs; the metrics beside it are those of the chosen checkpoint.
    header = ["epochs" if key == "epoch" else key for key in columns]
    hidden = print_table(["run", *header], table, fit=not (chosen or all_columns))
    left_out = f"; {hidden} more columns differ (--columns, --json)" if hidden else ""
    click.echo(
        f"{len(rows)} of {listing.matching:,} matching, {counted(listing.runs, 'run')} in {folder}"
        f"{left_out}"
    )


def _name(row: Row) -> str:
    """Return the id of a run, or the number of runs in a group and one of them."""
    return row.ids[0] if not row.spreads else f"{len(row.ids)} x {row.ids[0]}"


def _cell(row: Row, key: str) -> str:
    if spread := row.spreads.get(key):
        mean = cell_text(key, spread.mean)
        if spread.deviation is None or key == "seconds":
            return mean
        return f"{mean} ± {cell_text(key, spread.deviation)}"
    if key == "epoch" and row.values.get("status") in {"running", "killed", "interrupted"}:
        return f"{row.values.get('epoch', 0)}/{row.values.get('training.epochs', '?')}"
    if key == "error":
        return without_codes(cell_text(key, row.values.get(key)))
    return cell_text(key, row.values.get(key))
