"""Progress and results of a run on the terminal; plain lines if the output is piped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

from sightx.plugin import Observer, TolerantStream, hookimpl, printable, shell_path

if TYPE_CHECKING:
    from rich.console import Console as Terminal
    from rich.console import RenderableType

    from sightx.builtin.observers.notebook import CellBar
    from sightx.plugin import Epoch, Experiment, RunInfo, Step, ValidationBatch

_PLAIN_WIDTH = 120  # Width of lines if the output is not a terminal.
_MIN_WIDTH_WITH_THROUGHPUT = 100  # A narrower terminal has no room for images/s.


class Console(Observer):
    """Print the data, the progress and the results of a run."""

    name = "console"
    other_names = ("tqdm", "progress", "rich", "ProgressBar")

    def build(self, run: RunInfo) -> object:
        """Return a printer for standard output; a terminal and a notebook have a progress bar."""
        from sightx.builtin.observers import notebook

        stdout = TolerantStream(sys.stdout)  # a run goes on without its terminal
        if notebook.is_notebook():  # its output shows colours, but has no cursor to move
            return ProgressPrinter(run, _terminal(stdout, _PLAIN_WIDTH), notebook.CellBar())
        terminal = _terminal(stdout, None if stdout.isatty() else _PLAIN_WIDTH)
        return ProgressPrinter(run, terminal) if terminal.is_terminal else Printer(run, terminal)


def _terminal(file: object, width: int | None) -> Terminal:
    """Return what prints to a file; in a notebook rich would print to a cell instead."""
    from rich.console import Console as Terminal

    return Terminal(file=cast("TextIO", file), highlight=False, width=width, force_jupyter=False)


class Printer:
    """Print what happens in a run, to a terminal and to `console.log` in the run directory."""

    def __init__(self, run: RunInfo, terminal: Any) -> None:
        self.terminal = terminal
        self._log = run.directory / "console.log"
        self._throughput = terminal.width >= _MIN_WIDTH_WITH_THROUGHPUT
        self._block = "█" if "utf" in terminal.encoding.lower() else "#"

    @hookimpl
    def sightx_run_started(self, experiment: Experiment, run: RunInfo) -> None:
        """Print the experiment, the device, the class counts and the majority baseline."""
        from rich.markup import escape

        from sightx.builtin.observers import tables

        data, device = run.data, run.environment["device"]["name"]
        weights = f"{data['trainable']:,} of {data['weights']:,} weights are trainable"
        self.print(f"[bold]{experiment.name}[/bold] {experiment.id[:6]} on {device}, {weights}")
        self.print(
            f"[dim]{escape(str(run.directory))}[/dim]",
            "",
            tables.histogram(data, self._block),
            escape(tables.baseline(data)),
        )
        if data["skipped"]:
            self.print(f"{len(data['skipped'])} images are left out: see data.json")
        self.print(*map(escape, data.get("unused", ())))
        if resumes := run.environment.get("resumes"):
            self.print(f"resumed after step {resumes[-1]['step']:,}")
        self.print("", tables.header(experiment.training.monitor, throughput=self._throughput))

    @hookimpl
    def sightx_epoch_finished(self, epoch: Epoch) -> None:
        """Print one line."""
        from sightx.builtin.observers import tables

        self.print(tables.row(epoch, throughput=self._throughput))

    @hookimpl
    def sightx_run_finished(self, run: RunInfo, result: dict[str, Any]) -> None:
        """Print the metrics of the final split, the run directory and the next command."""
        from rich.markup import escape

        from sightx.builtin.observers import tables

        if result["status"] == "stopped":
            self.print(escape(f"stopped: {result['reason']}"))
        split = next((split for split in ("test", "validation") if split in result), "")
        if split and (predictions := run.predictions_of(split)) is not None:
            title = f"{split}, from the {result['checkpoint']} checkpoint (epoch {result['epoch']})"
            self.print("", f"[bold]{title}[/bold]", tables.per_class(predictions))
            self.print("", tables.metrics_table(result, split))
        for warning in result.get("warnings", ()):
            self.print(escape(f"warning: {warning}"))
        status = f"{result['status']} after {result['seconds']:.0f} s: {run.directory}"
        self.print("", escape(status))
        if result["status"] == "interrupted":
            saved = "saved; " if run.checkpoints else ""
            self.print(escape(f"{saved}next: sightx resume {shell_path(run.directory)}"))
        elif run.checkpoints and result["status"] != "failed":
            self.print(escape(f"next: sightx predict {shell_path(run.directory)} IMAGE"))

    def print(self, *lines: RenderableType) -> None:
        """Print lines to the terminal and to the log file."""
        with self._log.open("a", encoding="utf-8") as file:
            log = _terminal(file, _PLAIN_WIDTH)
            for line in lines:
                shown = printable(line) if isinstance(line, str) else line
                self.terminal.print(shown, soft_wrap=isinstance(line, str))
                log.print(shown, soft_wrap=isinstance(line, str))


class ProgressPrinter(Printer):
    """Print, and show a progress bar: steps, images per second or validation, time left.

    It is below the last line of a terminal, or at the top of the output of a notebook's `cell`.
    """

    def __init__(self, run: RunInfo, terminal: Any, cell: CellBar | None = None) -> None:
        from rich import progress

        super().__init__(run, terminal)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[unit]}"),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            console=self.terminal,
            transient=True,
            disable=cell is not None,  # then it only computes
        )
        self._task = self._bar.add_task("preprocessing", total=None, rate="", unit="image")
        self._cell = cell
        self._epochs = 0

    @hookimpl
    def sightx_images_prepared(self, done: int, total: int, is_over: bool) -> None:
        """Show how many images are preprocessed."""
        self._bar.update(self._task, completed=done, total=total)
        self._bar.stop() if is_over else self._bar.start()
        self._show_in_cell(is_last=is_over)

    @hookimpl
    def sightx_run_started(self, experiment: Experiment, run: RunInfo) -> None:
        """Print, and start the progress bar."""
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task("", total=None, rate="", unit="step")
        self._show_in_cell()
        super().sightx_run_started(experiment, run)
        self._epochs = experiment.training.epochs
        self._bar.start()

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        """Update the progress bar."""
        speed = self._bar.tasks[-1].speed
        rate = f"{speed * step.samples:,.0f} images/s" if speed else ""
        self._bar.update(
            self._task,
            completed=step.step,
            total=step.steps_per_epoch * self._epochs,
            description=f"epoch {step.epoch}/{self._epochs}",
            rate=rate,
        )
        self._show_in_cell()

    @hookimpl
    def sightx_validation_batch_finished(self, batch: ValidationBatch) -> None:
        """Show how much of the validation split is predicted."""
        done = f"validation {batch.done:,}/{batch.total:,}"
        self._bar.update(self._task, description=f"epoch {batch.epoch}/{self._epochs}", rate=done)
        self._show_in_cell()

    @hookimpl
    def sightx_run_finished(self, run: RunInfo, result: dict[str, Any]) -> None:
        """Stop the progress bar, and print."""
        self._bar.stop()
        self._show_in_cell(is_last=True)
        super().sightx_run_finished(run, result)

    def _show_in_cell(self, *, is_last: bool = False) -> None:
        if self._cell:
            self._cell.show(self._bar.tasks[-1], is_last=is_last)
