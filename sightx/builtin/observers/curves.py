"""Pictures of a run in its `plots` folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt

from sightx.plugin import Observer, hookimpl

if TYPE_CHECKING:
    from sightx.plugin import Epoch, Run

SPLITS = ("train", "validation", "test")


class Curves(Observer):
    """Draw losses, accuracies and confusion matrices into plots/.

    Writes `curves.png`, and `confusion-<split>.png` for each split that has predictions.
    """

    name = "curves"

    every: NonNegativeInt = 0
    """Draw the curves after each so many epochs too; 0: only when the run ends."""

    def build(self, run: Run) -> object:
        """Return what draws."""
        return _Drawer(self.every)


class _Drawer:
    """Remember which epoch is the best, and draw."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.monitor = "validation/accuracy"
        self.best: int | None = None

    @hookimpl
    def sightx_epoch_finished(self, run: Run, epoch: Epoch) -> None:
        self.monitor = epoch.monitor
        if epoch.is_best:
            self.best = epoch.number
        if self.every and epoch.number % self.every == 0:
            self._draw_curves(run)

    @hookimpl
    def sightx_run_finished(self, run: Run, result: dict[str, object]) -> None:
        from sightx.plugin import confusion_plot

        self._draw_curves(run)
        for split in SPLITS:
            predictions = run.predictions_of(split)
            if predictions is not None and (predictions.labels >= 0).any():
                path = run.directory / "plots" / f"confusion-{split}.png"
                confusion_plot(predictions, path, title=split)

    def _draw_curves(self, run: Run) -> None:
        from sightx.plugin import curves_plot

        epochs: list[Any] = run.metrics.select_dtypes("number").to_dict("records")
        if epochs:
            path = run.directory / "plots" / "curves.png"
            curves_plot(epochs, path, monitor=self.monitor, best=self._position(epochs))

    def _position(self, epochs: list[dict[str, Any]]) -> int | None:
        """Return where the best epoch is; a resumed run has not heard of those before it."""
        from sightx.plugin import History

        for position, epoch in enumerate(epochs):
            if epoch["epoch"] == self.best:
                return position
        return History(self.monitor, {}, tuple(epochs)).series().best
