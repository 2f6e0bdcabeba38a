"""What commands print: rich renderables made from records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sightx.registry.registry import Registry

if TYPE_CHECKING:
    from sightx.data.pixels import Progress as Report
    from sightx.inference.predictor import Prediction
    from sightx.runs.directory import Run


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=160)


@contextmanager
def preparing(quiet: bool) -> Iterator[Report | None]:
    """Show a bar while images are prepared; on a terminal only."""
    console = _console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("preparing images"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("")

    def report(done: int, of: int) -> None:
        if done == 1:
            bar.start()
        bar.update(task, completed=done, total=of)
        if done == of:
            bar.stop()

    try:
        yield report
    finally:
        bar.stop()


def show_prediction(name: str, prediction: Prediction) -> None:
    """Print a file, its class, and all probabilities in the order of the classes."""
    shares = "  ".join(f"{key} {value:.4f}" for key, value in prediction.probabilities.items())
    _console().print(f"{name}: [bold]{prediction.decision}[/bold]  {shares}", soft_wrap=True)


def show_figures(run: Run, side: str, figures: Mapping[str, float]) -> None:
    """Print the figures of one side."""
    console = _console()
    for name, value in figures.items():
        console.print(f"{name:<32} {value:.4f}", soft_wrap=True)
    console.print(f"predictions: {run.directory / 'predictions' / f'{side}.csv'}", soft_wrap=True)


def show_registry(registry: Registry, kind: str | None) -> None:
    """Print components by kind, then the plugins that brought them."""
    console = _console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("kind", "name", "what it is", "plugin"):
        table.add_column(head, overflow="fold" if head == "what it is" else "ellipsis")
    before = ""
    for entry in registry.entries(kind):
        first = entry.component.kind if entry.component.kind != before else ""
        before = entry.component.kind
        table.add_row(first, entry.component.name, entry.summary, entry.plugin.name)
    console.print(table)
    console.print()
    for plugin in registry.plugins:
        colour = {"loaded": "green", "broken": "red"}.get(plugin.state, "yellow")
        error = f": {plugin.error}" if plugin.error else ""
        console.print(
            f"[{colour}]{plugin.state}[/{colour}] {plugin} from {plugin.place}{error}",
            soft_wrap=True,
        )
