"""Which states of a run are kept, each a pure function of the epochs so far."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from sightx.plugin import Checkpoint

if TYPE_CHECKING:
    from sightx.plugin import History


class Best(Checkpoint):
    """Keep the state whose monitored figure is best.

    Of equals the earliest stays; an epoch without a figure is never kept.
    """

    name = "best"

    monitor: str | None = None
    """The figure to follow, such as `validation/loss`; left out, the experiment's."""

    def keep(self, history: History) -> Collection[str]:
        """Return "best" if the last epoch beats all before it."""
        last = len(history.epochs) - 1
        return {"best"} if history.series(self.monitor).best == last else set()


class Every(Checkpoint):
    """Keep a state every few epochs."""

    name = "every"

    epochs: PositiveInt = 1
    """Epochs between two states that are kept."""

    def keep(self, history: History) -> Collection[str]:
        """Return a name with the number of the epoch, counted from 1: "epoch-0005"."""
        done = len(history.epochs)
        return {f"epoch-{done:04d}"} if done and done % self.epochs == 0 else set()


class Last(Checkpoint):
    """Keep the latest state."""

    name = "last"

    def keep(self, history: History) -> Collection[str]:
        """Return "last"."""
        return {"last"}
