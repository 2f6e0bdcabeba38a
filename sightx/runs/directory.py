"""The run directory: every file format of it is written and read here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.data.csv_reader import read_csv
from sightx.errors import Problem, RunError, wrong_type
from sightx.io import atomic, toml
from sightx.io.csv_cells import csv_bytes
from sightx.io.files import argument_path, file_sha256, shell_path
from sightx.records.origins import is_imported
from sightx.records.predictions import Predictions
from sightx.runs import checkpoints, inputs, lock, predictions
from sightx.runs.names import failure_without_state
from sightx.spec.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

_SPLIT, _SPLIT_HASH = "split.csv", "split.sha256"
_METRICS = "metrics.jsonl"
OWN_FILES = frozenset({
    "SHA256SUMS", "about.json", "data.json", "environment.json", "experiment.toml", "lock.json",
    _METRICS, "origins.json", "result.json", "sessions.json", "spec.toml", _SPLIT, _SPLIT_HASH,
    "test-scorings.jsonl", "weights.json",
})  # fmt: skip
"""Files of a run directory that only SightX writes."""
_ROWS_PER_WRITE = 10_000


class Run:
    """One execution of an experiment, and the directory that holds it."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = argument_path(directory)

    def __repr__(self) -> str:
        """Return id and status."""
        return f"<Run {self.id}: {self.status}>"

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
        return self.read_json("data.json")

    @property
    def environment(self) -> dict[str, Any]:
        """Return versions, components and the device."""
        return self.read_json("environment.json")

    @property
    def result(self) -> dict[str, Any]:
        """Return the status and the final metrics; empty until the run has ended."""
        return self.read_json("result.json")

    @property
    def status(self) -> str:
        """Return finished, stopped, interrupted, failed, running, killed or unknown.

        A run without a result is running if a process holds it, and was killed otherwise; unknown
        is a run whose result.json is damaged.
        """
        try:
            status = str(self.result.get("status", ""))
        except RunError:
            return "unknown"
        return status or ("running" if lock.is_locked(self.directory) else "killed")

    @property
    def metrics(self) -> pd.DataFrame:
        """Return one row per finished epoch; an incomplete last line is ignored.

        Raises RunError if another line is damaged.
        """
        import pandas as pd

        rows = [row for _, row in self.read_lines(_METRICS)]
        return pd.DataFrame(rows).drop(columns="nonfinite", errors="ignore")

    @property
    def samples(self) -> pd.DataFrame | None:
        """Return path, group, label, split and sha256 per sample, or None if not known yet.

        Every cell is a string. Raises RunError if the file is not the one that the run wrote.
        """
        path = self.directory / _SPLIT
        if not path.is_file():
            return None
        known, digest = self._split_hashes(), file_sha256(path)
        if known and digest not in known:
            message = "it has been changed since the run wrote it"
            hint = 'restore it; a new run can use your file: split.use = "listed"'
            raise RunError(Problem("bad-run", message, hint, file=str(path)))
        return read_csv(path, ["path", "label", "split"])

    @property
    def checkpoints(self) -> dict[str, str]:
        """Return the directory name of each named checkpoint."""
        return checkpoints.read_names(self.directory / "checkpoints")

    @property
    def is_imported(self) -> bool:
        """Return whether the run is a table of metrics from elsewhere."""
        return is_imported(self.environment)

    def require_trained(self) -> None:
        """Raise RunError if the run was imported, or failed before its first checkpoint."""
        self.require_experiment()
        if reason := failure_without_state(self.directory):
            message = f"the run failed before its first checkpoint: {reason}"
            hint = "fix that, then sightx run SPEC; a copy of the spec is "
            hint += shell_path(self.directory / "spec.toml")
            raise RunError(Problem("no-checkpoint", message, hint, file=self.id))

    def require_experiment(self) -> None:
        """Raise RunError if the run was imported, and so has an experiment of metrics only."""
        if self.is_imported:
            message = "it was imported, and has neither checkpoints nor predictions"
            hint = "sightx show-run and sightx compare show its metrics"
            raise RunError(Problem("imported-run", message, hint, file=self.id))

    @property
    def preferred_checkpoint(self) -> str:
        """Return the name of the checkpoint to evaluate and to predict with.

        It is the first existing one of the names that environment.json lists: those that checkpoint
        policies give to the best state, then "last". Raises RunError if none exists.
        """
        self.require_trained()
        names = self.checkpoints
        wanted = self.environment.get("preferred_checkpoints", [checkpoints.LAST])
        for name in wanted:
            if name in names:
                return str(name)
        hint = f"sightx resume {shell_path(self.directory)} continues it; or name another run"
        raise RunError(Problem("no-checkpoint", "the run has no checkpoint", hint, file=self.id))

    def checkpoint(self, name: str = "") -> Path:
        """Return the directory of a named checkpoint, by default of `preferred_checkpoint`.

        The name of its directory, such as `step-00001234`, names it too, and does not move to
        another one. Raises RunError if there is no such checkpoint.
        """
        if not isinstance(name, str):
            raise wrong_type("name", name, "the name of a checkpoint")
        self.require_trained()
        name = name or self.preferred_checkpoint
        names = self.checkpoints
        if name not in names and name not in names.values():
            hint = f"the run has: {', '.join(names) or 'none'}"
            raise RunError(Problem("no-checkpoint", f"no checkpoint {name!r}", hint, file=self.id))
        return self.directory / "checkpoints" / names.get(name, name)

    def predictions(self, split: str) -> pd.DataFrame:
        """Return path, group, label and prediction per sample of a split. Raises RunError."""
        return predictions.read_frame(self.directory, split)

    def predictions_of(self, split: str) -> Predictions | None:
        """Return the prediction table of a split, or None if the split has not been scored.

        `split` is train, validation or test, or the name of another table of the run, such as
        `test@step-00001234`. Raises RunError for another name, and if the files of the table do
        not belong together.
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
        text = json.dumps(finite_or_null(value), indent=1, allow_nan=False)
        self._replace(name, [f"{text}\n".encode()])

    def write_experiment(self, experiment: Experiment) -> None:
        """Write the complete experiment, as the tables of a spec; copy the files that it names."""
        with atomic.run_disk_errors(self.directory):
            tables = inputs.copy_inputs(self.directory, experiment)
        self._replace("experiment.toml", [toml.dump(tables).encode()])
        self.__dict__.pop("tables", None)

    def write_split(
        self, frame: pd.DataFrame, hashes: Sequence[str], columns: Sequence[str] = ()
    ) -> None:
        """Write split.csv, which the split `listed` can read.

        `frame` has path, group, label, split and extra `columns` per sample; `hashes` are the
        SHA-256 of the images' contents in the same order.
        """
        frame = frame[["path", "group", "label", "split", *columns]]
        digest = hashlib.sha256()
        for rows in _split_rows(frame, hashes):
            digest.update(rows)
        new = f"{digest.hexdigest()}  {_SPLIT}\n"
        # Until the file is replaced, the old one is valid too.
        old = [f"{known}  {_SPLIT}\n" for known in self._split_hashes()]
        self._replace(_SPLIT_HASH, [line.encode() for line in (new, *old)])
        self._replace(_SPLIT, _split_rows(frame, hashes))
        self._replace(_SPLIT_HASH, [new.encode()])

    def write_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Append an epoch to metrics.jsonl, with the names of metrics that are not finite."""
        nonfinite = [key for key, value in metrics.items() if finite_or_null(value) is None]
        record = {**finite_or_null(metrics), **({"nonfinite": nonfinite} if nonfinite else {})}
        # Synced, so that no checkpoint is newer than its metrics.
        self._append(_METRICS, json.dumps(record, allow_nan=False) + "\n", sync=True)

    def truncate_metrics(self, epochs: int) -> None:
        """Keep the first `epochs` epochs of metrics.jsonl; drop later and incomplete lines."""
        kept = [(line, row) for line, row in self.read_lines(_METRICS) if row["epoch"] <= epochs]
        if [row["epoch"] for _, row in kept] != list(range(1, epochs + 1)):
            message = f"{_METRICS} lacks some of the {epochs} epochs that the run has finished"
            hint = "restore the file, or start a new run"
            raise RunError(Problem("bad-run", message, hint, file=self.id))
        self._replace(_METRICS, ["".join(line + "\n" for line, _ in kept).encode()])

    def write_predictions(self, split: str, table: Predictions, checkpoint: str = "") -> None:
        """Write the prediction table of a split; its files are valid together or not at all.

        `checkpoint` is the name of the checkpoint's directory.
        """
        predictions.write(self.directory, split, table, checkpoint)

    @contextmanager
    def remove_result(self) -> Iterator[None]:
        """Remove result.json, because the run continues; restore it if the body fails."""
        file = self.directory / "result.json"
        hidden = file.with_name(f"{atomic.TEMPORARY}old-{file.name}")
        with atomic.run_disk_errors(self.directory):
            if file.is_file():
                file.rename(hidden)
        try:
            yield
        except BaseException:
            if hidden.is_file():
                hidden.rename(file)
            raise
        hidden.unlink(missing_ok=True)

    def log(self, name: str, text: str) -> None:
        """Append text to a file of the run, such as `error.log`."""
        self._append(name, text)

    def _split_hashes(self) -> list[str]:
        """Return the hashes that split.csv may have, as `sha256sum` writes them; [] if unknown."""
        path = self.directory / _SPLIT_HASH
        return (
            [line[:64] for line in path.read_text(encoding="utf-8").splitlines()]
            if path.is_file()
            else []
        )

    def read_lines(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the complete lines of a file of JSON lines, and what they mean. Raises RunError."""
        path = self.directory / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
            yield line, self._parse(line, path, number)

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file of the run, {} without the file. Raises RunError."""
        path = self.directory / name
        return self._parse(path.read_bytes(), path) if path.is_file() else {}

    def _parse(self, text: str | bytes, path: Path, line: int = 0) -> dict[str, Any]:
        """Return the JSON object in a file or a line of it. Raises RunError."""
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError) as error:
            message = f"is damaged: {error}"
            hint = "restore the file, or use another run"
            if path == self.directory / "result.json":
                command = f"sightx resume {shell_path(self.directory)}"
                hint = f"delete the file; {command} writes it again"
            raise RunError(Problem("bad-run", message, hint).at(str(path), line)) from error

    def _replace(self, name: str, content: Iterable[bytes]) -> None:
        with atomic.run_disk_errors(self.directory):
            atomic.replace(self.directory / name, content)

    def _append(self, name: str, text: str, *, sync: bool = False) -> None:
        with (
            atomic.run_disk_errors(self.directory),
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

    @contextmanager
    def remove_result(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def _replace(self, name: str, content: Iterable[bytes]) -> None:
        """Do nothing."""

    def _append(self, name: str, text: str, *, sync: bool = False) -> None:
        """Do nothing."""


def open_directory(path: str | Path) -> Run:
    """Open a run directory. Raises RunError if the path is not one."""
    directory = argument_path(path)
    if not (directory / "experiment.toml").is_file():
        hint = "a run directory holds experiment.toml"
        raise RunError(Problem("no-run", "not a run directory", hint, file=str(path)))
    return Run(directory)


def _split_rows(frame: pd.DataFrame, hashes: Sequence[str]) -> Iterator[bytes]:
    """Yield split.csv in parts: there may be a million rows."""
    for start in range(0, len(frame), _ROWS_PER_WRITE):
        rows = frame.iloc[start : start + _ROWS_PER_WRITE]
        rows = rows.assign(sha256=list(hashes[start : start + _ROWS_PER_WRITE]))
        yield csv_bytes(rows, header=not start)


def finite_or_null(value: Any) -> Any:
    """Replace floats that are not finite by None, in nested mappings and lists."""
    if isinstance(value, Mapping):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
