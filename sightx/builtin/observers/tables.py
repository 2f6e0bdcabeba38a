"""Tables and lines of the console observer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from sightx.plugin import Epoch, metric_rows, number_text, printable

if TYPE_CHECKING:
    from sightx.plugin import Predictions

_BAR_WIDTH = 20  # Columns of the longest bar.
_SHOWN = ("train/loss", "validation/loss", "train/accuracy", "validation/accuracy")
_COLUMNS = "{:>5} {:>10} {:>9} {:>9} {:>8} {:>5}"  # With the other columns, 80 characters.


def histogram(data: Mapping[str, Any], block: str = "█") -> Table:
    """Return a row per class: its number of samples in each split, and its share of all."""
    counts: dict[str, list[int]] = data["counts"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for split in counts:
        table.add_column(split, justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    rows = list(zip(*counts.values(), strict=True))
    samples = sum(map(sum, rows))
    for name, row in zip(data["classes"], rows, strict=True):
        total = sum(row)
        share = total / max(samples, 1)
        bar = block * max(round(_BAR_WIDTH * share), 1 if total else 0)
        table.add_row(
            escape(printable(name)), *(f"{n:,}" for n in row), f"{share:.1%}", f"[cyan]{bar}[/cyan]"
        )
    return table


def baseline(data: Mapping[str, Any]) -> str:
    """Return the accuracy of always predicting the largest class of the train split."""
    counts = data["counts"]
    train = counts["train"]
    largest = train.index(max(train))
    accuracies = [
        f"{split} {row[largest] / sum(row):.1%}"
        for split, row in counts.items()
        if split != "train" and sum(row)
    ]
    name = data["classes"][largest]
    return f"accuracy of always predicting {name!r}: {', '.join(accuracies) or 'no samples'}"


def header(monitor: str, *, throughput: bool = False) -> str:
    """Return the headings of the columns of `row`."""
    names = ("epoch", "train loss", "val. loss", "train acc", "val. acc", "gap")
    name = monitor.rpartition("/")[2]
    short = {"balanced-accuracy": "bal. acc"}.get(name, name[:8])
    extra = "" if monitor in _SHOWN else f" {short:>8}"
    extra += f" {'lr':>7} {'time':>6}" + (f" {'images/s':>9} {'wait':>5}" if throughput else "")
    return f"[bold]{_COLUMNS.format(*names)}{escape(extra)}[/bold]"


def row(epoch: Epoch, *, throughput: bool = False) -> str:
    """Return one line per epoch: losses, accuracies, their gap, and a metric that is monitored.

    With `throughput`, 16 more characters show the images per second and the share of the time that
    training waited for data.
    """
    metrics = epoch.metrics
    train, validation = (
        metrics.get(f"{split}/accuracy", math.nan) for split in ("train", "validation")
    )
    cells = _COLUMNS.format(
        epoch.number,
        number_text(metrics["train/loss"]),
        number_text(metrics.get("validation/loss", math.nan)),
        _percent(train),
        _percent(validation),
        "" if math.isnan(validation) else f"{100 * (train - validation):+.1f}",
    )
    if epoch.monitor not in _SHOWN:
        cells += f" {number_text(metrics.get(epoch.monitor, math.nan)):>8}"
    cells += f" {epoch.lr:>7.2g} {epoch.seconds:>5.1f}s"
    if throughput:
        cells += f" {epoch.images_per_second:>9,.0f} {epoch.data_wait_fraction:>5.0%}"
    return cells + (" [green]best[/green]" if epoch.is_best else "")


def per_class(predictions: Predictions) -> Table:
    """Return a row per class: samples, precision, recall and F1; a dash if undefined."""
    import numpy as np

    counts = predictions.confusion()
    hits, present, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN.
        columns = hits / predicted, hits / present, 2 * hits / (present + predicted), present
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for heading in ("samples", "precision", "recall", "F1"):
        table.add_column(heading, justify="right")
    for name, *values, count in zip(predictions.classes, *columns, strict=True):
        table.add_row(escape(printable(name)), f"{count:,}", *map(_percent, values))
    return table


def metrics_table(result: Mapping[str, Any], split: str) -> Table:
    """Return the table of the final metrics of a split."""
    header, *rows = metric_rows(result, split)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(header):
        table.add_column(heading, justify="right" if number else "left")
    for name, *cells in rows:
        table.add_row(escape(name), *cells)
    return table


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"
