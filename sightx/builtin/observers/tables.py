"""Tables and rows that the console shows, made from a run's records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from sightx.plugin import Epoch

if TYPE_CHECKING:
    from sightx.plugin import Predictions

_BAR = 20  # cells of the longest bar
_COLUMNS = "{:>5} {:>10} {:>9} {:>9} {:>8} {:>5}"  # with the rest, 80 columns


def histogram(data: Mapping[str, Any], block: str = "█") -> Table:
    """Return a row a class: how many on each side, and the share of all."""
    counts: dict[str, list[int]] = data["counts"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for side in counts:
        table.add_column(side, justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    rows = list(zip(*counts.values(), strict=True))
    samples = sum(map(sum, rows))
    for name, row in zip(data["classes"], rows, strict=True):
        total = sum(row)
        share = total / max(samples, 1)
        bar = block * max(round(_BAR * share), 1 if total else 0)
        table.add_row(escape(name), *(f"{n:,}" for n in row), f"{share:.1%}", f"[cyan]{bar}[/cyan]")
    return table


def baseline(data: Mapping[str, Any]) -> str:
    """Return what always answering the largest class would reach on the sides to judge by."""
    counts = data["counts"]
    train = counts["train"]
    largest = train.index(max(train))
    sides = [(side, row) for side, row in counts.items() if side != "train" and sum(row)]
    reached = ", ".join(f"{row[largest] / sum(row):.1%} of {side}" for side, row in sides)
    return f"always answering {data['classes'][largest]!r} is right for {reached or 'no side'}"


def header(monitor: str, *, pace: bool = False) -> str:
    """Return the heads of the columns of `row`."""
    names = ("epoch", "train loss", "val. loss", "train acc", "val. acc", "gap")
    name = monitor.rpartition("/")[2]
    short = {"balanced-accuracy": "bal. acc"}.get(name, name[:8])
    extra = "" if monitor == "validation/accuracy" else f" {short:>8}"
    extra += f" {'rate':>7} {'time':>6}" + (f" {'images/s':>9} {'wait':>5}" if pace else "")
    return f"[bold]{_COLUMNS.format(*names)}{escape(extra)}[/bold]"


def row(epoch: Epoch, *, pace: bool = False) -> str:
    """Return one epoch as a line: losses, accuracies, their gap, the monitored figure.

    With `pace`, which takes 16 more columns, how fast training was and how much it waited for data.
    """
    value = epoch.metrics
    train, validation = (
        value.get(f"{side}/accuracy", math.nan) for side in ("train", "validation")
    )
    cells = _COLUMNS.format(
        epoch.number,
        _number(value["train/loss"]),
        _number(value.get("validation/loss", math.nan)),
        _percent(train),
        _percent(validation),
        "" if math.isnan(validation) else f"{100 * (train - validation):+.1f}",
    )
    if epoch.monitor != "validation/accuracy":
        cells += f" {_number(value.get(epoch.monitor, math.nan)):>8}"
    cells += f" {epoch.lr:>7.2g} {epoch.seconds:>5.1f}s"
    if pace:
        cells += f" {epoch.images_per_second:>9,.0f} {epoch.data_wait_fraction:>5.0%}"
    return cells + (" [green]best[/green]" if epoch.is_best else "")


def per_class(predictions: Predictions) -> Table:
    """Return a row a class: samples, precision, recall, F1; a dash where one is not defined."""
    import numpy as np

    counts = predictions.confusion()
    hits, present, decided = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 of 0 is NaN
        columns = hits / decided, hits / present, 2 * hits / (present + decided), present
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for head in ("samples", "precision", "recall", "F1"):
        table.add_column(head, justify="right")
    for name, precision, recall, f1, count in zip(predictions.classes, *columns, strict=True):
        figures = (_percent(value) for value in (precision, recall, f1))
        table.add_row(escape(name), f"{count:,}", *figures)
    return table


def figures(result: Mapping[str, float | None]) -> str:
    """Return the figures of a side that speak of all classes, on one line."""
    shown = {
        name.partition("/")[2]: value for name, value in result.items() if name.count("/") == 1
    }
    return "  ".join(
        f"{name} {_number(math.nan if value is None else value)}" for name, value in shown.items()
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"
