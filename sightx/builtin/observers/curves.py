"""Plots of a run in its folder `plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt

from sightx.plugin import Observer, hookimpl

if TYPE_CHECKING:
    from sightx.plugin import Epoch, Predictions, RunInfo

SPLITS = ("train", "validation", "test")


class Curves(Observer):
    """Plot losses, accuracies and confusion matrices.

    Writes plots/curves.png, and plots/confusion-<split>.png for each split with labelled
    predictions, into the run directory.
    """

    name = "curves"

    every: NonNegativeInt = 0
    """Plot curves and the validation confusion every so many epochs; 0: only at the end."""

    def build(self, run: RunInfo) -> object:
        """Return an object that plots."""
        return _Plotter(self.every)


class _Plotter:
    """Remember the best epoch, and plot."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.monitor = "validation/accuracy"
        self.best: int | None = None

    @hookimpl
    def sightx_epoch_finished(self, run: RunInfo, epoch: Epoch) -> None:
        self.monitor = epoch.monitor
        if epoch.is_best:
            self.best = epoch.number
        if self.every and epoch.number % self.every == 0:
            self._plot_curves(run)

    @hookimpl
    def sightx_validation_finished(
        self, run: RunInfo, epoch: Epoch, predictions: Predictions
    ) -> None:
        if self.every and epoch.number % self.every == 0:
            _plot_confusion(run, predictions, "validation", f"validation, epoch {epoch.number}")

    @hookimpl
    def sightx_run_finished(self, run: RunInfo, result: dict[str, object]) -> None:
        self._plot_curves(run)
        for split in SPLITS:
            predictions = run.predictions_of(split)
            if predictions is not None:
                _plot_confusion(run, predictions, split, split)

    def _plot_curves(self, run: RunInfo) -> None:
        from sightx.plugin import plot_curves

        epochs: list[Any] = run.metrics.select_dtypes("number").to_dict("records")
        if epochs:
            path = run.directory / "plots" / "curves.png"
            plot_curves(epochs, path, monitor=self.monitor, best=self._best_position(epochs))

    def _best_position(self, epochs: list[dict[str, Any]]) -> int | None:
        """Return the best epoch's position; after a resume it may be one that was not observed."""
        from sightx.plugin import History

        for position, epoch in enumerate(epochs):
            if epoch["epoch"] == self.best:
                return position
        return History(self.monitor, {}, tuple(epochs)).series().best


def _plot_confusion(run: RunInfo, predictions: Predictions, split: str, title: str) -> None:
    """Plot the confusion matrix of a split, if any label is known."""
    from sightx.plugin import plot_confusion_matrix

    if (predictions.labels >= 0).any():
        path = run.directory / "plots" / f"confusion-{split}.png"
        plot_confusion_matrix(predictions, path, title=title)
