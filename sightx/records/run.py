"""A run as observers see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from sightx.records.predictions import Predictions


class RunInfo(Protocol):
    """The run that an observer watches: everything that is known of it, and a log to write to."""

    @property
    def id(self) -> str:
        """Return the name of the run: time, name of the experiment and start of its hash."""

    @property
    def directory(self) -> Path:
        """Return the run directory."""

    @property
    def data(self) -> Mapping[str, Any]:
        """Return the contents of data.json: classes, samples per class and split, ..."""

    @property
    def environment(self) -> Mapping[str, Any]:
        """Return the contents of environment.json: versions, device, components, ..."""

    @property
    def result(self) -> Mapping[str, Any]:
        """Return the status and the final metrics; empty until the run has ended."""

    @property
    def metrics(self) -> pd.DataFrame:
        """Return one row per finished epoch."""

    @property
    def samples(self) -> pd.DataFrame | None:
        """Return path, group, label, split and sha256 per sample, or None if not known yet."""

    @property
    def checkpoints(self) -> Mapping[str, str]:
        """Return the directory name of each named checkpoint."""

    def checkpoint(self, name: str = "") -> Path:
        """Return the directory of a named checkpoint, by default of the one to predict with."""

    def predictions_of(self, split: str) -> Predictions | None:
        """Return the prediction table of a split, or None if the split has not been scored.

        Raises RunError for a name that is neither a split nor that of another table of the run.
        """

    def log(self, name: str, text: str) -> None:
        """Append text to a file of your own in the run directory, such as `alerts.jsonl`."""
