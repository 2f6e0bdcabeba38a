"""The run directory: its format is written and read here alone."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.data.csv_labels import read_csv
from sightx.errors import Problem, ResourceError, RunError
from sightx.io import atomic, toml
from sightx.records.predictions import Predictions
from sightx.runs import checkpoints
from sightx.spec.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

MAKING = ".making-"
"""What the names of directories begin with that are no runs yet."""

_PREDICTIONS = "predictions"
_METRICS = "metrics.jsonl"
_ROWS = 10_000  # that are written at once
_ABANDONED = 24 * 3600.0  # seconds after which nobody is making a run any more


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
        return toml.read(self.directory / "experiment.toml").data

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

        return pd.DataFrame([json.loads(line) for line in self._epochs()]).drop(
            columns="nonfinite", errors="ignore"
        )

    @property
    def samples(self) -> pd.DataFrame | None:
        """Return path, group, label, split and digest of every sample; None before it is known.

        Every cell is a string.
        """
        path = self.directory / "split.csv"
        return read_csv(path, ["path", "label", "split"]) if path.is_file() else None

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
        self._replace(name, text + "\n")

    def write_experiment(self, experiment: Experiment) -> None:
        """Write the whole experiment, as its spec would say it."""
        self._replace("experiment.toml", toml.dump(experiment.tables()))
        self.__dict__.pop("tables", None)

    def write_split(self, frame: pd.DataFrame, digests: Sequence[str]) -> None:
        """Write which sample is on which side: the file that the split `listed` takes.

        `digests` are those of the images' contents, in the order of the frame.
        """
        with self._written():
            atomic.replace(self.directory / "split.csv", _split_rows(frame, digests))

    def write_epoch(self, figures: Mapping[str, Any]) -> None:
        """Append an epoch to metrics.jsonl, with the names of figures that are not finite."""
        odd = [key for key, value in figures.items() if _finite(value) is None]
        record = {**_finite(figures), **({"nonfinite": odd} if odd else {})}
        with self._written(), (self.directory / _METRICS).open("a") as file:
            new = not file.tell()
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a state is never newer than its figures
            if new:
                atomic.fsync(self.directory)

    def cut_metrics(self, epochs: int) -> None:
        """Keep the rows of so many epochs; a torn line and what came after them goes."""
        rows = [line for line in self._epochs() if json.loads(line)["epoch"] <= epochs]
        self._replace(_METRICS, "".join(line + "\n" for line in rows))

    def write_predictions(self, split: str, predictions: Predictions) -> None:
        """Write a split's predictions, each file in one step."""
        folder = self.directory / _PREDICTIONS
        with self._written(), tempfile.TemporaryDirectory() as name:
            predictions.save(Path(name) / split)
            folder.mkdir(exist_ok=True)  # not in a run that is gone
            for path in sorted(Path(name).iterdir()):
                atomic.replace(folder / path.name, path.read_bytes())
            atomic.fsync(self.directory)

    def forget_result(self) -> None:
        """Remove the result of a run that goes on."""
        with self._written():
            (self.directory / "result.json").unlink(missing_ok=True)

    def log(self, name: str, text: str) -> None:
        """Append to a text file of the run, such as error.log."""
        with self._written(), (self.directory / name).open("a") as file:
            file.write(text)

    def _epochs(self) -> list[str]:
        """Return the whole lines of metrics.jsonl."""
        path = self.directory / _METRICS
        text = path.read_text() if path.is_file() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def _replace(self, name: str, text: str) -> None:
        with self._written():
            atomic.replace(self.directory / name, text.encode())

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Turn what the disk refuses into a ResourceError."""
        with atomic.disk_errors(self.directory / "checkpoints"):
            yield

    def _json(self, name: str) -> dict[str, Any]:
        path = self.directory / name
        return dict(json.loads(path.read_text())) if path.is_file() else {}


def create(root: Path, experiment: Experiment, environment: Mapping[str, Any]) -> Run:
    """Make the directory of a new run, with everything that is known beforehand.

    It gets its name when all of that is written: there is no run without its experiment. What a
    crash has left of others is removed after a day. Raises ResourceError where it cannot be made.
    """
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{experiment.name}-{experiment.id[:6]}"
    try:
        making = root / f"{MAKING}{stem}-{secrets.token_hex(4)}"
        making.mkdir(parents=True)
        _sweep(root)
        run = Run(making)
        (making / "spec.toml").write_text(experiment.context.text)
        run.write_experiment(experiment)
        run.write_json("environment.json", environment)
        named = _named(making, root / stem)
        atomic.fsync(root)
        return Run(named)
    except OSError as error:
        message = f"cannot make a run below {root}: {error.strerror}"
        raise ResourceError(Problem("run-directory", message, "--runs FOLDER")) from error


def open_run(path: str | Path) -> Run:
    """Open a run's directory. Raises RunError where it is none."""
    directory = Path(path)
    if not (directory / "experiment.toml").is_file():
        raise RunError(Problem("no-run", "is no run directory", file=str(path)))
    return Run(directory)


def _sweep(root: Path) -> None:
    for path in root.glob(f"{MAKING}*"):
        with suppress(FileNotFoundError):  # another process sweeps too, or gives it its name
            if time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)


def _named(making: Path, wanted: Path) -> Path:
    """Give a directory a name that nobody else has; runs of one second get a number."""
    number, path = 1, wanted
    while True:
        try:
            if not path.exists():  # an empty directory would give way
                return making.rename(path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")


def _split_rows(frame: pd.DataFrame, digests: Sequence[str]) -> Iterator[bytes]:
    """Yield a CSV of who is on which side, some rows at a time: there may be a million."""
    columns = frame[["path", "group", "label", "split"]]
    for start in range(0, len(frame), _ROWS):
        rows = columns.iloc[start : start + _ROWS]
        rows = rows.assign(sha256=list(digests[start : start + _ROWS]))
        yield rows.to_csv(index=False, header=not start).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
