"""What a person at a terminal sees of a run; piped, the same as plain lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sightx.plugin import Observer, hookimpl

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sightx.plugin import Epoch, Experiment, Run, Step

_PLAIN_WIDTH = 120  # columns where there is no terminal to ask
_WIDTH_WITH_PACE = 100  # columns from which a row has room for images/s


class Console(Observer):
    """Show what runs, its progress and its figures on the terminal."""

    name = "console"

    def build(self, run: Run) -> object:
        """Return a screen on standard output."""
        from rich.console import Console as Terminal

        width = None if sys.stdout.isatty() else _PLAIN_WIDTH
        terminal = Terminal(file=sys.stdout, highlight=False, width=width)
        return Live(run, terminal) if terminal.is_terminal else Screen(run, terminal)


class Screen:
    """Print a run's records; `console.log` in the run's directory gets the same lines."""

    def __init__(self, run: Run, terminal: Any) -> None:
        self.terminal = terminal
        self._log = run.directory / "console.log"
        self._pace = terminal.width >= _WIDTH_WITH_PACE
        self._block = "█" if "utf" in terminal.encoding.lower() else "#"

    @hookimpl
    def sightx_run_started(self, experiment: Experiment, run: Run) -> None:
        """Say what runs, on what data, and what guessing would reach."""
        from rich.markup import escape

        from sightx.builtin.observers import tables

        data, device = run.data, run.environment["device"]["name"]
        learn = f"{data['trainable']:,} of {data['weights']:,} weights learn"
        self.print(f"[bold]{experiment.name}[/bold] {experiment.id[:6]} on {device}, {learn}")
        self.print(
            f"[dim]{escape(str(run.directory))}[/dim]",
            "",
            tables.histogram(data, self._block),
            escape(tables.baseline(data)),
        )
        if data["skipped"]:
            self.print(f"{len(data['skipped'])} images are left out: see data.json")
        if resumes := run.environment.get("resumes"):
            self.print(f"goes on after step {resumes[-1]['step']:,}")
        self.print("", tables.header(experiment.training.monitor, pace=self._pace))

    @hookimpl
    def sightx_epoch_finished(self, epoch: Epoch) -> None:
        """Print one row."""
        from sightx.builtin.observers import tables

        self.print(tables.row(epoch, pace=self._pace))

    @hookimpl
    def sightx_run_finished(self, run: Run, result: dict[str, Any]) -> None:
        """Print the figures that count, and where everything is."""
        from rich.markup import escape

        from sightx.builtin.observers import tables

        if result["status"] == "stopped":
            self.print(escape(f"stopped: {result['reason']}"))
        side = next((side for side in ("test", "validation") if side in result), "")
        if side and (predictions := run.predictions_of(side)) is not None:
            title = f"{side}, from the {result['checkpoint']} checkpoint (epoch {result['epoch']})"
            self.print("", f"[bold]{title}[/bold]", tables.per_class(predictions))
            self.print(tables.figures(result[side]))
        end = f"{result['status']} after {result['seconds']:.0f} s: {run.directory}"
        self.print("", escape(end))
        if result["status"] == "interrupted":
            saved = "saved; " if run.checkpoints else ""
            self.print(escape(f"{saved}next: sightx resume {run.id}"))
        elif run.checkpoints and result["status"] != "failed":
            self.print(escape(f"next: sightx predict {run.id} IMAGE"))

    def print(self, *lines: RenderableType) -> None:
        """Print on the terminal and into the log."""
        from rich.console import Console as Terminal

        with self._log.open("a") as file:
            log = Terminal(file=file, highlight=False, width=_PLAIN_WIDTH)
            for line in lines:
                self.terminal.print(line, soft_wrap=isinstance(line, str))
                log.print(line, soft_wrap=isinstance(line, str))


class Live(Screen):
    """Keep a bar below what a screen prints: steps, rate, time that remains."""

    def __init__(self, run: Run, terminal: Any) -> None:
        from rich import progress

        super().__init__(run, terminal)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("step"),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            console=self.terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, rate="")
        self._epochs = 0

    @hookimpl
    def sightx_run_started(self, experiment: Experiment, run: Run) -> None:
        """Begin the bar below what the screen says."""
        super().sightx_run_started(experiment, run)
        self._epochs = experiment.training.epochs
        self._bar.start()

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        """Move the bar."""
        speed = self._bar.tasks[self._task].speed
        rate = f"{speed * step.samples:,.0f} images/s" if speed else ""
        self._bar.update(
            self._task,
            completed=step.step,
            total=step.steps_per_epoch * self._epochs,
            description=f"epoch {step.epoch}/{self._epochs}",
            rate=rate,
        )

    @hookimpl
    def sightx_run_finished(self, run: Run, result: dict[str, Any]) -> None:
        """End the bar before the last words."""
        self._bar.stop()
        super().sightx_run_finished(run, result)
