"""The run directory: every file format of it is written and read here."""

from __future__ import annotations

import errno
import json
import math
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.data.csv_labels import read_csv
from sightx.errors import Problem, ResourceError, RunError
from sightx.io import atomic, toml
from sightx.io.files import user_path
from sightx.records.predictions import Predictions
from sightx.runs import checkpoints, inputs, predictions
from sightx.spec.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

TEMPORARY = ".making-"
"""Prefix of a directory that is not a run yet."""

_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY) + r"\d{8}-\d{6}-.+-[0-9a-f]{6}-[0-9a-f]{8}")
_FIRST_FILES = {"spec.toml", "experiment.toml", "environment.json", inputs.FOLDER}
_METRICS = "metrics.jsonl"
_ROWS_PER_WRITE = 10_000
_ABANDONED_AFTER = 24 * 3600.0  # seconds after which a temporary directory is removed


class Run:
    """One execution of an experiment, and the directory that holds it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        """Return id and status."""
        return f"<Run {self.id}: {self.result.get('status', 'running')}>"

    @property
    def id(self) -> str:
        """Return the name of the run: time, name of the experiment and start of its hash."""
        return self.directory.name

    @cached_property
    def tables(self) -> dict[str, Any]:
        """Return the complete experiment, as the tables of a spec."""
        return toml.read(self.directory / "experiment.toml").data

    @property
    def data(self) -> dict[str, Any]:
        """Return facts about the data: classes, samples per class and split, skipped samples."""
        return self._read_json("data.json")

    @property
    def environment(self) -> dict[str, Any]:
        """Return versions, components and the device."""
        return self._read_json("environment.json")

    @property
    def result(self) -> dict[str, Any]:
        """Return the status and the final metrics; empty until the run has ended."""
        return self._read_json("result.json")

    @property
    def metrics(self) -> pd.DataFrame:
        """Return one row per finished epoch; an incomplete last line is ignored."""
        import pandas as pd

        rows = [json.loads(line) for line in self._metrics_lines()]
        return pd.DataFrame(rows).drop(columns="nonfinite", errors="ignore")

    @property
    def samples(self) -> pd.DataFrame | None:
        """Return path, group, label, split and sha256 per sample, or None if not known yet.

        Every cell is a string.
        """
        path = self.directory / "split.csv"
        return read_csv(path, ["path", "label", "split"]) if path.is_file() else None

    @property
    def checkpoints(self) -> dict[str, str]:
        """Return the directory name of each named checkpoint."""
        return checkpoints.read_names(self.directory / "checkpoints")

    @property
    def preferred_checkpoint(self) -> str:
        """Return the name of the checkpoint to evaluate and to predict with.

        It is the first existing one of the names that environment.json lists: those that checkpoint
        policies give to the best state, then "last". Raises RunError if none exists.
        """
        names = self.checkpoints
        wanted = self.environment.get("preferred_checkpoints", [checkpoints.LAST])
        for name in wanted:
            if name in names:
                return str(name)
        hint = f"sightx resume {self.id} continues it; or name another run"
        raise RunError(Problem("no-checkpoint", "the run has no checkpoint", hint, file=self.id))

    def checkpoint(self, name: str = "") -> Path:
        """Return the directory of a named checkpoint, by default of `preferred_checkpoint`.

        Raises RunError if there is no such checkpoint.
        """
        name = name or self.preferred_checkpoint
        names = self.checkpoints
        if name not in names:
            hint = f"the run has: {', '.join(names) or 'none'}"
            raise RunError(Problem("no-checkpoint", f"no checkpoint {name!r}", hint, file=self.id))
        return self.directory / "checkpoints" / names[name]

    def predictions(self, split: str) -> pd.DataFrame:
        """Return path, group, label and prediction per sample of a split. Raises RunError."""
        return predictions.read_frame(self.directory, split)

    def predictions_of(self, split: str) -> Predictions | None:
        """Return the prediction table of a split, or None if the split has not been scored.

        Raises RunError if its files do not belong together.
        """
        if not predictions.exists(self.directory, split):
            return None
        classes, ordered = tuple(self.data["classes"]), bool(self.data["ordered"])
        return predictions.read(self.directory, split, classes, ordered=ordered)

    def predictions_checkpoint(self, split: str) -> str:
        """Return the directory name of the checkpoint that predicted a split; "" if unknown."""
        return predictions.checkpoint_of(self.directory, split)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Replace a JSON file of the run; numbers that are not finite become null."""
        text = json.dumps(_finite_or_null(value), indent=1, allow_nan=False)
        self._replace(name, [f"{text}\n".encode()])

    def write_experiment(self, experiment: Experiment) -> None:
        """Write the complete experiment, as the tables of a spec; copy the files that it names."""
        with atomic.disk_errors(self.directory):
            tables = inputs.copy_inputs(self.directory, experiment)
        self._replace("experiment.toml", [toml.dump(tables).encode()])
        self.__dict__.pop("tables", None)

    def write_split(self, frame: pd.DataFrame, hashes: Sequence[str]) -> None:
        """Write split.csv, which the split `listed` can read.

        `frame` has path, group, label and split per sample; `hashes` are the SHA-256 of the images'
        contents in the same order.
        """
        self._replace("split.csv", _split_rows(frame, hashes))

    def write_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Append an epoch to metrics.jsonl, with the names of metrics that are not finite."""
        nonfinite = [key for key, value in metrics.items() if _finite_or_null(value) is None]
        record = {**_finite_or_null(metrics), **({"nonfinite": nonfinite} if nonfinite else {})}
        # Synced, so that no checkpoint is newer than its metrics.
        self._append(_METRICS, json.dumps(record, allow_nan=False) + "\n", sync=True)

    def truncate_metrics(self, epochs: int) -> None:
        """Keep the first `epochs` epochs of metrics.jsonl; drop later and incomplete lines."""
        rows = [line for line in self._metrics_lines() if json.loads(line)["epoch"] <= epochs]
        self._replace(_METRICS, ["".join(line + "\n" for line in rows).encode()])

    def write_predictions(self, split: str, table: Predictions, checkpoint: str = "") -> None:
        """Write the prediction table of a split; its files are valid together or not at all.

        `checkpoint` is the name of the checkpoint's directory.
        """
        predictions.write(self.directory, split, table, checkpoint)

    def remove_result(self) -> None:
        """Remove result.json, because the run continues."""
        with atomic.disk_errors(self.directory):
            (self.directory / "result.json").unlink(missing_ok=True)

    def log(self, name: str, text: str) -> None:
        """Append text to a file of the run, such as `error.log`."""
        self._append(name, text)

    def _metrics_lines(self) -> list[str]:
        """Return the complete lines of metrics.jsonl."""
        path = self.directory / _METRICS
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.directory / name
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def _replace(self, name: str, content: Iterable[bytes]) -> None:
        with atomic.disk_errors(self.directory):
            atomic.replace(self.directory / name, content)

    def _append(self, name: str, text: str, *, sync: bool = False) -> None:
        with (
            atomic.disk_errors(self.directory),
            (self.directory / name).open("a", encoding="utf-8") as file,
        ):
            is_new = not file.tell()
            file.write(text)
            if sync:
                file.flush()
                atomic.fsync(file.fileno())
                if is_new:
                    atomic.fsync(self.directory)


class NullRun(Run):
    """The run as ranks other than 0 see it: its directory can be read, and writing does nothing.

    The directory need not exist on this host.
    """

    def __init__(self, directory: Path, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(directory)
        self._result = dict(result or {})

    @property
    def result(self) -> dict[str, Any]:
        """Return the result that rank 0 has reported."""
        return self._result

    def write_experiment(self, experiment: Experiment) -> None:
        """Do nothing."""

    def write_predictions(self, split: str, table: Predictions, checkpoint: str = "") -> None:
        """Do nothing."""

    def remove_result(self) -> None:
        """Do nothing."""

    def _replace(self, name: str, content: Iterable[bytes]) -> None:
        """Do nothing."""

    def _append(self, name: str, text: str, *, sync: bool = False) -> None:
        """Do nothing."""


def create_run(
    root: Path,
    experiment: Experiment,
    environment: Mapping[str, Any],
    spec: str = "",
    files: Mapping[str, str] | None = None,
) -> Run:
    """Create the directory of a new run with everything that is known before it starts.

    It gets its name only when all of that is written: there is no run without its experiment.
    Temporary directories that a crash left behind are removed after a day.

    Args:
        root: The folder of runs.
        experiment: The experiment.
        environment: The contents of environment.json.
        spec: The spec as it was written.
        files: Paths of files to copy in addition to those that the experiment names; the copies
            are recorded in environment.json as `copies`. What is not a file is left out.

    Raises ResourceError if the directory cannot be created.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{experiment.name}-{experiment.id[:6]}"
    try:
        temporary = root / f"{TEMPORARY}{name}-{secrets.token_hex(4)}"
        temporary.mkdir(parents=True)
        _remove_abandoned(root)
        run = Run(temporary)
        (temporary / "spec.toml").write_text(spec, encoding="utf-8")
        run.write_experiment(experiment)
        copies = inputs.copy_files(temporary, files or {})
        run.write_json("environment.json", {**environment, "copies": copies})
        path = _rename_to_free_name(temporary, root / name)
        atomic.fsync(root)
    except OSError as error:
        message = f"cannot create a run below {root}: {error.strerror}"
        hint = "--runs FOLDER names another folder"
        raise ResourceError(Problem("run-directory", message, hint)) from error
    return Run(path)


def open_run(path: str | Path) -> Run:
    """Open a run directory. Raises RunError if the path is not one."""
    directory = user_path(path)
    if not (directory / "experiment.toml").is_file():
        hint = "a run directory holds experiment.toml"
        raise RunError(Problem("no-run", "not a run directory", hint, file=str(path)))
    return Run(directory)


def _remove_abandoned(root: Path) -> None:
    """Remove what killed processes have left: directories with our names and nothing else."""
    for path in root.glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):  # another process has removed or renamed it
            is_old = time.time() - path.lstat().st_mtime > _ABANDONED_AFTER
            if is_old and _TEMPORARY_NAME.fullmatch(path.name) and path.is_dir():
                names = {child.name.removeprefix(atomic.TEMPORARY) for child in path.iterdir()}
                if names <= _FIRST_FILES and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)


def _rename_to_free_name(temporary: Path, wanted: Path) -> Path:
    """Rename a directory to `wanted`, with a number added if several runs start in one second."""
    number, path = 1, wanted
    while True:
        try:
            if not path.exists():  # renaming would replace an empty directory
                return temporary.rename(path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")


def _split_rows(frame: pd.DataFrame, hashes: Sequence[str]) -> Iterator[bytes]:
    """Yield split.csv in parts: there may be a million rows."""
    columns = frame[["path", "group", "label", "split"]]
    for start in range(0, len(frame), _ROWS_PER_WRITE):
        rows = columns.iloc[start : start + _ROWS_PER_WRITE]
        rows = rows.assign(sha256=list(hashes[start : start + _ROWS_PER_WRITE]))
        yield rows.to_csv(index=False, header=not start).encode()


def _finite_or_null(value: Any) -> Any:
    """Replace floats that are not finite by None, in nested mappings and lists."""
    if isinstance(value, Mapping):
        return {key: _finite_or_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
