"""Write the loss of every step into the run directory, to the last bit."""

from __future__ import annotations

from collections.abc import Iterable

from sightx.plugin import Component, Observer, RunInfo, Step, hookimpl


class RecordLosses(Observer):
    """Append one line per step to losses.txt: the loss as a hexadecimal float."""

    name = "record-losses"

    def build(self, run: RunInfo) -> RecordLosses:
        """Return the observer itself: it has no state."""
        return self

    @hookimpl
    def sightx_step_finished(self, run: RunInfo, step: Step) -> None:
        """Write the loss of a step; reading it waits for the device, which is fine here."""
        with (run.directory / "losses.txt").open("a") as file:
            file.write(f"{float(step.loss).hex()}\n")


@hookimpl
def sightx_components() -> Iterable[type[Component]]:
    """Return the one observer of this plugin."""
    return [RecordLosses]
