"""A run as observers see it: they read everything, and write only files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from sightx.runs.directory import OWN_FILES, Run

if TYPE_CHECKING:
    import pandas as pd

    from sightx.records.predictions import Predictions


class RunView:
    """Show a run as a `RunInfo`; everything else of it stays hidden."""

    def __init__(self, run: Run) -> None:
        self.__run = run

    def __repr__(self) -> str:
        """Return id and status."""
        return repr(self.__run)

    @property
    def id(self) -> str:
        """Return the name of the run: time, name of the experiment and start of its hash."""
        return self.__run.id

    @property
    def directory(self) -> Path:
        """Return the run directory."""
        return self.__run.directory

    @property
    def data(self) -> Mapping[str, Any]:
        """Return the contents of data.json: classes, samples per class and split, ..."""
        return self.__run.data

    @property
    def environment(self) -> Mapping[str, Any]:
        """Return the contents of environment.json: versions, device, components, ..."""
        return self.__run.environment

    @property
    def result(self) -> Mapping[str, Any]:
        """Return the status and the final metrics; empty until the run has ended."""
        return self.__run.result

    @property
    def metrics(self) -> pd.DataFrame:
        """Return one row per finished epoch."""
        return self.__run.metrics

    @property
    def samples(self) -> pd.DataFrame | None:
        """Return path, group, label, split and sha256 per sample, or None if not known yet."""
        return self.__run.samples

    @property
    def checkpoints(self) -> Mapping[str, str]:
        """Return the directory name of each named checkpoint."""
        return self.__run.checkpoints

    def checkpoint(self, name: str = "") -> Path:
        """Return the directory of a named checkpoint, by default of the one to predict with.

        Raises RunError if there is no such checkpoint.
        """
        return self.__run.checkpoint(name)

    def predictions_of(self, split: str) -> Predictions | None:
        """Return the prediction table of a split, or None if the split has not been scored.

        Raises RunError for a name that is neither a split nor that of another table of the run.
        """
        return self.__run.predictions_of(split)

    def log(self, name: str, text: str) -> None:
        """Append text to a file in the run directory, such as `alerts.jsonl`.

        Raises ValueError for a file that the run itself writes, and for one in another folder.
        """
        if not name or PurePath(name).name != name or name in OWN_FILES:
            raise ValueError(f"log() cannot write {name!r}: name a file of your own, in no folder")
        self.__run.log(name, text)
