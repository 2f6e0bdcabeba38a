"""What commands print: lines and rich renderables made from records.

rich is imported only where a terminal is drawn on: a listing must not wait for it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.io import system
from sightx.registry.registry import Entry, Plugin, Registry

if TYPE_CHECKING:
    from rich.console import Console

    from sightx.data.cache.store import CacheEntry as Stored
    from sightx.data.preprocess import ProgressCallback as Report
    from sightx.data.stock import CacheReport
    from sightx.export.delivery import ExportReport
    from sightx.inference.predictor import Prediction
    from sightx.runs.directory import Run


_COLOURS = {"loaded": 32, "broken": 31, "bold": 1}  # as ANSI numbers them; any other is yellow
_NO_SETTINGS = ("use", "revision", "class", "code")  # of what describes a step of a chain
_LEAST = 20  # columns that a description keeps, however narrow the terminal


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=160)


@contextmanager
def preparing(quiet: bool) -> Iterator[Report | None]:
    """Show a bar while images are prepared; on a terminal only."""
    console = _console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

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


def show_stock(stock: CacheReport) -> None:
    """Print what the store holds for an experiment, and what that took."""
    bad = f", {stock.bad} cannot be read" if stock.bad else ""
    print(f"{stock.samples} images{bad}; {stock.rows} rows, {system.format_bytes(stock.size)}")
    mended = f" ({stock.damaged} were damaged)" if stock.damaged else ""
    speed = f", {stock.made / stock.seconds:.0f} images/s" if stock.made else ""
    print(f"{stock.made} made{mended}, {stock.rows - stock.made} were there and are whole")
    print(f"{stock.seconds:.1f} s{speed}, in {stock.folder}")
    if stock.least:
        print("a JPEG keeps {} x {} pixels or more when it is decoded".format(*stock.least))


def show_written(written: ExportReport, folder: Path) -> None:
    """Print what a dataset that was written holds, and how a spec names it."""
    from sightx.spec import render

    print(f"{written.samples} images, {system.format_bytes(written.size)}, in {folder}")
    print(f"sightx run {folder / 'spec.toml'} trains on them; any other spec says\n")
    print(
        render.render_plain(
            {"dataset": {**written.dataset, "root": str(folder.absolute())}}
        ).strip()
    )


def show_shelves(root: Path, entries: Sequence[Stored], *, removed: bool = False) -> None:
    """Print the shelves of a store, or those that were removed from it."""
    rows = [("key", "rows", "size", "used", "what")]
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        size = system.format_bytes(entry.size)
        rows.append((entry.key, str(entry.rows), size, used, _chain(entry.about)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if entries else []:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    total = system.format_bytes(sum(entry.size for entry in entries))
    print(f"{total} removed from {root}" if removed else f"{total} in {root}")


def _chain(about: Mapping[str, Any]) -> str:
    """Return how a shelf's rows were prepared: resize(size=224), 3 x 224 x 224, scaled."""
    if "preprocess" not in about:
        return "damaged"
    steps = []
    for step in about["preprocess"]:
        said = {key: value for key, value in step.items() if key not in _NO_SETTINGS}
        steps.append(f"{step['use']}({', '.join(f'{key}={said[key]}' for key in said)})")
    shape = " x ".join(map(str, about["shape"]))
    return f"{' '.join(steps)}, {shape}, {about['decode']}"


def show_prediction(name: str, prediction: Prediction) -> None:
    """Print a file, its class, and all probabilities in the order of the classes."""
    from rich.markup import escape

    shares = "  ".join(f"{key} {value:.4f}" for key, value in prediction.probabilities.items())
    line = f"{escape(name)}: [bold]{escape(prediction.decision)}[/bold]  {escape(shares)}"
    _console().print(line, soft_wrap=True)


def show_figures(run: Run, side: str, figures: Mapping[str, float]) -> None:
    """Print the figures of one side."""
    console = _console()
    for name, value in figures.items():
        console.print(f"{name:<32} {value:.4f}", soft_wrap=True, markup=False)
    path = run.directory / "predictions" / f"{side}.csv"
    if path.is_file():  # not in a run that cannot be written
        console.print(f"predictions: {path}", soft_wrap=True, markup=False)


def show_profile(run: Run) -> None:
    """Print where the time of the traced steps went, and where the trace lies."""
    from sightx.training.profiling import FOLDER, TRACE, Summary

    folder = run.directory / FOLDER
    if (summary := Summary.read(folder)) is None:
        print("profile: the run ended before a step could be traced")
        return
    each = summary.seconds / summary.steps
    print(f"profile of {summary.steps} steps, {each * 1e3:.2f} ms each: {folder / TRACE}")
    rest = 1 - sum(summary.parts.values())
    for name, share in (*summary.parts.items(), ("the rest", rest)):
        print(f"  {name:<10} {share:>6.1%} {'#' * round(40 * share)}")
    title = f"most time of their own on {summary.device}"
    rows = [(title, "calls a step", "ms a step", "share")]
    for name, calls, seconds in summary.operators:
        figures = f"{calls / summary.steps:.1f}", f"{seconds / summary.steps * 1e3:.3f}"
        rows.append((_cut(name, 50), *figures, f"{seconds / summary.seconds:.1%}"))
    for row in rows:
        print(f"  {row[0]:<50} {row[1]:>12} {row[2]:>9} {row[3]:>6}")


def show_registry(registry: Registry, kind: str | None, *, verbose: bool = False) -> None:
    """Print components by kind, names that two plugins give, then the state of every plugin.

    On a terminal descriptions are cut to its width; piped, every line is whole.
    """
    entries = registry.entries(kind)
    rows = [("kind", "name", "what it is", "plugin")]
    for before, entry in zip([None, *entries], entries, strict=False):
        first = entry.component.kind if _kind(before) != entry.component.kind else ""
        mark = " (clash)" if registry.clashes(entry) else ""
        owner = f"{entry.plugin}  {entry.place}" if verbose else str(entry.plugin)
        rows.append((first, entry.component.name + mark, entry.summary, owner))
    for number, line in enumerate(_aligned(rows)):
        print(_painted(line, "bold") if number == 0 else line)
    clashes = [entry for entry in entries if registry.clashes(entry)]
    for entry in clashes:
        use = f"{entry.plugin.distribution or entry.plugin.name}:{entry.component.name}"
        head = f"{entry.component.kind} {entry.component.name!r} is brought by"
        print(f'{_painted("clash", "broken")} {head} {entry}; use = "{use}" names it')
    print()
    for plugin in registry.plugins:
        print(_state(plugin))


def _kind(entry: Entry | None) -> str:
    return entry.component.kind if entry else ""


def _state(plugin: Plugin) -> str:
    reason = "".join(f": {text}" for text in (plugin.error, plugin.note) if text)
    return f"{_painted(plugin.state, plugin.state)} {plugin} from {_short(plugin.place)}{reason}"


def _short(place: str) -> str:
    """Return a path relative to the working directory where it lies below; piped, as it is."""
    below = os.path.isabs(place) and Path(place).is_relative_to(Path.cwd())  # noqa: PTH117
    return os.path.relpath(place) if below and sys.stdout.isatty() else place


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """Yield rows as lines with columns under one another; the third gives way to a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sys.stdout.isatty():
        taken = sum(widths) - widths[2] + 2 * (len(widths) - 1)
        widths[2] = min(widths[2], max(_LEAST, shutil.get_terminal_size().columns - taken))
    for row in rows:
        cells = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _painted(text: str, style: str) -> str:
    """Return text in a colour, on a terminal that wants one."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{_COLOURS.get(style, 33)}m{text}\x1b[0m"
