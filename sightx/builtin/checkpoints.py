"""Rules for which checkpoints to keep: pure functions of the history."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from sightx.plugin import Checkpoint

if TYPE_CHECKING:
    from sightx.plugin import History


class Best(Checkpoint):
    """Keep the checkpoint with the best monitored metric.

    Of equal values the earliest wins; an epoch whose metric is NaN is never kept.
    """

    name = "best"
    other_names = ("ModelCheckpoint", "save_best", "save_best_only", "top-k")
    best_name = "best"

    monitor: str | None = None
    """Metric to monitor, such as `validation/loss`; by default `training.monitor`."""

    def keep(self, history: History) -> Collection[str]:
        """Return "best" if the last epoch is better than all earlier ones."""
        last = len(history.epochs) - 1
        return {"best"} if history.series(self.monitor).best == last else set()


class Every(Checkpoint):
    """Keep a checkpoint every few epochs."""

    name = "every"
    other_names = ("all", "periodic", "save_every")

    epochs: PositiveInt = 1
    """Number of epochs between two checkpoints."""

    def keep(self, history: History) -> Collection[str]:
        """Return a name with the number of the epoch, from 1: "epoch-0005"."""
        finished = len(history.epochs)
        return {f"epoch-{finished:04d}"} if finished and finished % self.epochs == 0 else set()


class Last(Checkpoint):
    """Keep the latest checkpoint."""

    name = "last"
    other_names = ("latest", "save_last")

    def keep(self, history: History) -> Collection[str]:
        """Return "last" after every epoch."""
        return {"last"}
