"""What commands print: lines and rich renderables made from records.

rich is imported only where it is needed, so that a listing does not wait for its import.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sightx.io import system
from sightx.io.files import shell_path
from sightx.records.metric_rows import interval_text, number_text
from sightx.registry.registry import Entry, Plugin, Registry

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sightx.audit.findings import AuditFinding, AuditReport
    from sightx.data.cache.store import CacheEntry
    from sightx.data.dataset import CacheReport
    from sightx.data.preprocess import ProgressCallback
    from sightx.export.dataset_folder import ExportReport
    from sightx.inference.model_folder import Manifest
    from sightx.runner.evaluate import Evaluation
    from sightx.runner.scores import Calibration
    from sightx.runs.directory import Run


_ANSI_CODES = {"loaded": 32, "broken": 31, "bold": 1}
_YELLOW = 33  # of any other style
_NOT_SETTINGS = ("use", "revision", "class", "code")  # keys of a step that are not settings
_PIPED_WIDTH = 160
_MIN_DESCRIPTION = 20  # columns that a description gets on a narrow terminal
_BAR_WIDTH = 40
_SHOWN_EXAMPLES = 3  # of a finding, in the terminal
_SEVERITY_STYLES = {"refuse": "bold red", "warn": "yellow", "note": "cyan"}


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal:
        return console
    return Console(stderr=stderr, highlight=False, width=_PIPED_WIDTH)


@contextmanager
def show_progress(
    quiet: bool, what: str = "preprocessing images"
) -> Iterator[ProgressCallback | None]:
    """Show a progress bar while images are read, on a terminal only."""
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
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("")

    def report(done: int, total: int) -> None:
        if done == 1:
            bar.start()
        bar.update(task, completed=done, total=total)
        if done == total:
            bar.stop()

    try:
        yield report
    finally:
        bar.stop()


def show_audit(report: AuditReport) -> None:
    """Print what was checked and holds, the samples per class and split, and every finding."""
    from sightx.audit.findings import SEVERITIES

    console = _console()
    for statement in report.statements:
        console.print(statement, markup=False, soft_wrap=True)
    if report.classes:
        console.print()
        console.print(_class_table(report))
    for split, values in report.baselines.items():
        listed = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        console.print(
            f"always predicting the largest class: {split} {listed}", markup=False, soft_wrap=True
        )
    for finding in report.findings:
        console.print()
        _print_finding(console, finding)
    counts = ", ".join(f"{report.count(severity)} {severity}" for severity in SEVERITIES)
    console.print(f"\nfindings: {counts}", markup=False)


def _class_table(report: AuditReport) -> Table:
    """Return the samples, groups and expected interval of each class of each split."""
    from rich import box
    from rich.table import Table

    from sightx.errors import printable

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("split")
    table.add_column("class")
    for name in ("samples", "groups", "recall to within"):
        table.add_column(name, justify="right")
    before = ""
    for row in report.classes:
        width = "-" if row.half_width is None else f"+-{row.half_width:.2f}"
        split, name = "" if row.split == before else row.split, printable(row.name)
        table.add_row(split, name, f"{row.samples:,}", f"{row.groups:,}", width)
        before = row.split
    return table


def _print_finding(console: Console, finding: AuditFinding) -> None:
    from rich.text import Text

    from sightx.errors import printable

    style = _SEVERITY_STYLES[finding.severity]
    head = Text.assemble((finding.severity, style), f"[{finding.code}] {finding.path}: ")
    console.print(head.append(printable(finding.message)), soft_wrap=True)
    for label, text in (("threshold", finding.threshold), ("hint", finding.hint)):
        if text:
            console.print(f"  {label}: {printable(text)}", markup=False, soft_wrap=True)
    for example in finding.examples[:_SHOWN_EXAMPLES]:
        note = f" ({example.note})" if example.note else ""
        line = f"  - {' and '.join(example.paths)}{note}"
        console.print(printable(line), markup=False, soft_wrap=True)
    if (more := len(finding.examples) - _SHOWN_EXAMPLES) > 0:
        console.print(f"  - {more} more with --json or --html", markup=False)


def show_cache_report(report: CacheReport) -> None:
    """Print what the pixel cache holds for an experiment, and how long that took."""
    bad = f", {report.bad} cannot be read" if report.bad else ""
    print(f"{report.samples} images{bad}; {report.rows} rows, {system.format_bytes(report.size)}")
    damaged = f" ({report.damaged} because the cached row was damaged)" if report.damaged else ""
    verified = report.rows - report.built
    print(f"{report.built} preprocessed{damaged}, {verified} verified in the cache")
    speed = f", {report.built / report.seconds:.0f} images/s" if report.built else ""
    print(f"{report.seconds:.1f} s{speed}, in {report.folder}")
    if report.min_size:
        print("a JPEG is decoded at {} x {} pixels or more".format(*report.min_size))


def show_export(report: ExportReport, folder: Path) -> None:
    """Print what an exported dataset holds, and the tables with which a spec uses it."""
    from sightx.spec import render

    dataset = {**report.dataset, "root": str(folder.absolute())}
    print(f"{report.samples} images, {system.format_bytes(report.size)}, in {folder}")
    spec = shell_path(folder / "spec.toml")
    print(f"sightx run {spec} trains on them; other specs use them with\n")
    print(render.render_tables({"dataset": dataset}).strip())


def show_model_export(manifest: Manifest, comparisons: Sequence[object], folder: Path) -> None:
    """Print the files of an exported model, and how far its network is from PyTorch."""
    for name, entry in manifest.files.items():
        if "/" not in name:
            print(f"{folder / name}  {system.format_bytes(entry.size)}")
    for comparison in comparisons:
        print(comparison)
    check = f"sightx export --check {shell_path(folder)}"
    print(f"{folder} can be moved; {check} compares its answers anywhere")


def show_cache_entries(root: Path, entries: Sequence[CacheEntry], *, removed: bool = False) -> None:
    """Print the entries of the pixel cache, or those that were removed from it."""
    rows = [("key", "rows", "size", "used", "contents")]
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        size = system.format_bytes(entry.size)
        rows.append((entry.key, str(entry.rows), size, used, _describe_contents(entry)))
    for line in _align(rows) if entries else []:
        print(line)
    total = system.format_bytes(sum(entry.size for entry in entries))
    print(f"{total} removed from {root}" if removed else f"{total} in {root}")


def _describe_contents(entry: CacheEntry) -> str:
    """Return how the rows of an entry were made: resize(size=224), 3 x 224 x 224, scaled."""
    about, folder = entry.about, entry.key.partition("/")[0]
    if contents := about.get("contents"):
        return str(contents)
    if folder != entry.key:
        return "hashes of files" if folder == "files" else "left by a killed process"
    if "preprocess" not in about:
        return "damaged"
    steps = []
    for step in about["preprocess"]:
        settings = {key: value for key, value in step.items() if key not in _NOT_SETTINGS}
        steps.append(f"{step['use']}({', '.join(f'{key}={settings[key]}' for key in settings)})")
    shape = " x ".join(map(str, about["shape"]))
    return f"{' '.join(steps)}, {shape}, {about['decode']}"


def show_prediction(record: Mapping[str, Any], output: TextIO) -> None:
    """Print the record of an image or a patient: its class, and the probability of each class."""
    from rich.console import Console
    from rich.markup import escape

    from sightx.errors import printable
    from sightx.inference.answer_rows import patient_errors

    name = printable(str(record.get("file", record.get("patient"))))
    answer = printable(str(record.get("class", record["outcome"])))
    shares = [f"{one['class']} {one['probability']:.4f}" for one in record.get("probabilities", ())]
    notes = [*shares, *record.get("quality", {}).get("reasons", ())]
    if "error" in record:
        notes = [str(record["error"]["message"])]
    if "patient" in record:
        eyes = {eye: record[eye] for eye in ("left", "right") if eye in record}
        notes = [f"{eye} {one.get('class', one['outcome'])}" for eye, one in eyes.items()]
        notes += patient_errors(record)
    for point in record.get("decision", {}).get("operating_points", ()):
        notes.append(f"{point['name']} {'positive' if point['is_positive'] else 'negative'}")
    line = f"{escape(name)}: [bold]{escape(answer)}[/bold]  {escape(printable('  '.join(notes)))}"
    Console(file=output, highlight=False).print(line, soft_wrap=True)


def show_metrics(run: Run, evaluation: Evaluation) -> None:
    """Print the metrics of a split with intervals and baselines, and the file of predictions."""
    lines = list(_metric_lines(evaluation))
    if evaluation.calibration:
        lines.append(_calibration_line(evaluation.calibration))
    if evaluation.without_tta:
        numbers = "  ".join(
            f"{name.partition('/')[2]} {number_text(value)}"
            for name, value in evaluation.without_tta.items()
            if name.count("/") == 1
        )
        lines.append(f"without test-time augmentation: {numbers}")
    if evaluation.predictions:
        path = run.directory / "predictions" / f"{evaluation.predictions}.csv"
        lines.append(f"predictions: {path}")
    console = _console()
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _metric_lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield a line per number: all of the spec, and of the others those that are not of a class."""
    from sightx.evaluation.binary import NET_BENEFIT

    values, estimates = dict(evaluation.metrics), evaluation.estimates
    split = next(iter(values)).partition("/")[0]
    for name, estimate in estimates.items():
        if "/" not in name or name.startswith(f"{NET_BENEFIT}/"):
            values.setdefault(f"{split}/{name}", estimate.value)
    width = max(map(len, values))
    if estimates:
        yield f"{'':<{width}} {'value':>7}  {'95 % interval':<16}  largest class"
    for name, value in values.items():
        line = f"{name:<{width}} {number_text(value):>7}"
        if one := estimates.get(name.partition("/")[2]):
            limits = one.reason or interval_text(one.low, one.high)
            line += f"  {limits:<16}  {number_text(one.baseline)}"
        yield line


def _calibration_line(calibration: Calibration) -> str:
    before, after = calibration
    text = f"{after.value:.4f}"
    if before:
        text = f"{before.value:.4f} before postprocessing, {text} after it"
    chance = f"a calibrated model has {after.expected:.4f}, up to {after.limit:.4f}"
    return f"calibration error: {text} ({chance}): {after.verdict}"


def show_profile(run: Run) -> None:
    """Print how the time of the traced steps was spent, and the file of the trace."""
    from sightx.training.profiling import FOLDER, TRACE, Summary

    folder = run.directory / FOLDER
    if (summary := Summary.read(folder)) is None:
        print("profile: the run ended before a step could be traced")
        return
    milliseconds = summary.seconds / summary.steps * 1e3
    print(f"profile of {summary.steps} steps, {milliseconds:.2f} ms per step: {folder / TRACE}")
    other = 1 - sum(summary.parts.values())
    for name, share in (*summary.parts.items(), ("other", other)):
        print(f"  {name:<10} {share:>6.1%} {'#' * round(_BAR_WIDTH * share)}")
    title = f"operators by self time on {summary.device}"
    rows = [(title, "calls/step", "ms/step", "share")]
    for name, calls, seconds in summary.operators:
        per_step = f"{calls / summary.steps:.1f}", f"{seconds / summary.steps * 1e3:.3f}"
        rows.append((_cut(name, 50), *per_step, f"{seconds / summary.seconds:.1%}"))
    for row in rows:
        print(f"  {row[0]:<50} {row[1]:>12} {row[2]:>9} {row[3]:>6}")


def show_registry(registry: Registry, kind: str | None, *, verbose: bool = False) -> None:
    """Print components by kind, names that two plugins provide, and the state of every plugin.

    On a terminal, descriptions are cut to its width.
    """
    entries = registry.entries(kind)
    rows = [("kind", "name", "description", "plugin")]
    for before, entry in zip([None, *entries], entries, strict=False):
        is_first = before is None or before.component.kind != entry.component.kind
        kind_cell = entry.component.kind if is_first else ""
        mark = " (clash)" if registry.clashes(entry) else ""
        owner = f"{entry.plugin}  {entry.place}" if verbose else str(entry.plugin)
        rows.append((kind_cell, entry.component.name + mark, entry.summary, owner))
    for number, line in enumerate(_align(rows, flexible=2)):
        print(_paint(line, "bold") if number == 0 else line)
    for entry in filter(registry.clashes, entries):
        print(f"{_paint('clash', 'broken')} {_describe_clash(entry)}")
    print()
    for plugin in registry.plugins:
        print(_describe_plugin(plugin))


def _describe_clash(entry: Entry) -> str:
    use = f"{entry.plugin.distribution or entry.plugin.name}:{entry.component.name}"
    what = f"{entry.component.kind} {entry.component.name!r}"
    return f'{what} is provided by {entry}; use = "{use}" names it'


def _describe_plugin(plugin: Plugin) -> str:
    reason = "".join(f": {text}" for text in (plugin.error, plugin.note) if text)
    place = plugin.place
    is_below = os.path.isabs(place) and Path(place).is_relative_to(Path.cwd())  # noqa: PTH117
    if is_below and sys.stdout.isatty():  # piped, paths are complete
        place = os.path.relpath(place)
    return f"{_paint(plugin.state, plugin.state)} {plugin} from {place}{reason}"


def _align(rows: Sequence[tuple[str, ...]], flexible: int | None = None) -> Iterable[str]:
    """Yield rows as lines with aligned columns; one may be cut to the width of the terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if flexible is not None and sys.stdout.isatty():
        others = sum(widths) - widths[flexible] + 2 * (len(widths) - 1)
        room = max(_MIN_DESCRIPTION, shutil.get_terminal_size().columns - others)
        widths[flexible] = min(widths[flexible], room)
    for row in rows:
        cells = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _paint(text: str, style: str) -> str:
    """Return text in the colour of a style, on a terminal that shows colours."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{_ANSI_CODES.get(style, _YELLOW)}m{text}\x1b[0m"
