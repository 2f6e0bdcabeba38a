"""The run directory: its format is written and read here alone."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx import document
from sightx.errors import Problem, ResourceError, RunError
from sightx.evaluation.predictions import Predictions
from sightx.runs import checkpoints
from sightx.spec.experiment import Experiment
from sightx.training.state import State

if TYPE_CHECKING:
    import pandas as pd

_PREDICTIONS = "predictions"


class Run:
    """One execution of an experiment, and the directory that holds it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        """Return id and status."""
        return f"<Run {self.id}: {self.result.get('status', 'running')}>"

    @property
    def id(self) -> str:
        """Return the run's name: time, experiment and the experiment's hash."""
        return self.directory.name

    @cached_property
    def tables(self) -> dict[str, Any]:
        """Return the whole experiment, as its spec would say it."""
        return document.read(self.directory / "experiment.toml").data

    @property
    def data(self) -> dict[str, Any]:
        """Return what is known of the data: classes, counts a side, what was left out."""
        return self._json("data.json")

    @property
    def environment(self) -> dict[str, Any]:
        """Return versions, plugins and the device."""
        return self._json("environment.json")

    @property
    def result(self) -> dict[str, Any]:
        """Return status and final figures; empty while the run is not over."""
        return self._json("result.json")

    @property
    def metrics(self) -> pd.DataFrame:
        """Return one row an epoch; a torn last line is left out."""
        import pandas as pd

        path = self.directory / "metrics.jsonl"
        text = path.read_text() if path.is_file() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()
        return pd.DataFrame([json.loads(line) for line in lines]).drop(
            columns="nonfinite", errors="ignore"
        )

    @property
    def checkpoints(self) -> dict[str, str]:
        """Return which checkpoint each name points to."""
        return checkpoints.read_names(self.directory / "checkpoints")

    def checkpoint(self, name: str = "") -> Path:
        """Return the directory of a named checkpoint; without a name the best, else the last.

        Raises RunError.
        """
        names = self.checkpoints
        chosen = name or next((known for known in ("best", "last") if known in names), "")
        if chosen not in names:
            known = ", ".join(names) or "none"
            message = f"no checkpoint {chosen!r}" if chosen else "has no checkpoint"
            raise RunError(Problem("no-checkpoint", message, f"known: {known}", file=self.id))
        return self.directory / "checkpoints" / names[chosen]

    def predictions(self, split: str) -> pd.DataFrame:
        """Return path, group, label and prediction of a split. Raises RunError."""
        import pandas as pd

        path = self.directory / _PREDICTIONS / f"{split}.csv"
        if not path.is_file():
            message = f"has no predictions of {split!r}"
            raise RunError(Problem("no-predictions", message, file=self.id))
        return pd.read_csv(path, dtype=str, keep_default_na=False)

    def predictions_of(self, split: str) -> Predictions | None:
        """Return a split's predictions with outputs and probabilities, or None without any."""
        folder = self.directory / _PREDICTIONS
        if not (folder / f"{split}.csv").is_file():
            return None
        frame = self.predictions(split)
        classes = tuple(self.data["classes"])
        numbers = {name: number for number, name in enumerate(classes)}
        return Predictions(
            keys=tuple(frame["path"]),
            groups=tuple(frame["group"]),
            labels=np.array([numbers.get(name, -1) for name in frame["label"]]),
            outputs=np.load(folder / f"{split}.outputs.npy"),
            probabilities=np.load(folder / f"{split}.probabilities.npy"),
            decisions=np.array([numbers[name] for name in frame["prediction"]]),
            classes=classes,
            ordered=bool(self.data["ordered"]),
        )

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file of the run in one step; what is not finite becomes null."""
        text = json.dumps(_finite(value), indent=1, allow_nan=False)
        checkpoints.write_file(self.directory / name, text.encode() + b"\n")

    def write_split(self, frame: pd.DataFrame) -> None:
        """Write which sample is on which side: the file that the split `listed` takes."""
        columns = ["path", "group", "label", "split"]
        frame[columns].to_csv(self.directory / "split.csv", index=False)

    def write_epoch(self, figures: Mapping[str, Any]) -> None:
        """Append an epoch to metrics.jsonl, with the names of figures that are not finite."""
        odd = [key for key, value in figures.items() if _finite(value) is None]
        record = {**_finite(figures), **({"nonfinite": odd} if odd else {})}
        with (self.directory / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def write_predictions(self, split: str, predictions: Predictions) -> None:
        """Write a split's predictions."""
        predictions.save(self.directory / _PREDICTIONS / split)

    def write_checkpoint(self, state: State, recipe: Mapping[str, Any], names: list[str]) -> Path:
        """Write a checkpoint and let names point to it."""
        return checkpoints.save(self.directory / "checkpoints", state, recipe, names)

    def log(self, name: str, text: str) -> None:
        """Append to a text file of the run, such as error.log."""
        with (self.directory / name).open("a") as file:
            file.write(text)

    def _json(self, name: str) -> dict[str, Any]:
        path = self.directory / name
        return dict(json.loads(path.read_text())) if path.is_file() else {}


def create(root: Path, experiment: Experiment, environment: Mapping[str, Any]) -> Run:
    """Make the directory of a new run, with everything that is known beforehand.

    Raises ResourceError where it cannot be made.
    """
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{experiment.name}-{experiment.id[:6]}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        run = Run(_exclusive(root, stem))
        origin = experiment.origin
        (run.directory / "spec.toml").write_text(origin.text if origin else "")
        (run.directory / "experiment.toml").write_text(document.dump(experiment.tables()))
        run.write_json("environment.json", environment)
    except OSError as error:
        message = f"cannot make a run below {root}: {error.strerror}"
        raise ResourceError(Problem("run-directory", message, "--runs FOLDER")) from error
    return run


def open_run(path: str | Path) -> Run:
    """Open a run's directory. Raises RunError where it is none."""
    directory = Path(path)
    if not (directory / "experiment.toml").is_file():
        raise RunError(Problem("no-run", "is no run directory", file=str(path)))
    return Run(directory)


def _exclusive(root: Path, stem: str) -> Path:
    """Make a directory that nobody else has; runs of one second get a number."""
    number = 1
    while True:
        path = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
