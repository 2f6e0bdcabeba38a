"""Send a run to a tracker, exactly once: a cursor in the run directory says what has arrived.

The run directory holds everything that is sent, so it does not matter when that happens: while the
run trains, or later, if the server was down. Before something is sent, the cursor says what it is;
afterwards, that it has arrived. Sending the same thing again must therefore change nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sightx.io import atomic
from sightx.io.files import file_sha256, read_json, read_json_lines
from sightx.io.locks import file_lock
from sightx.records import CLOCK_KEYS
from sightx.run_registry.summary import Value, flatten_settings
from sightx.runs import lock, sums

FOLDER = "trackers"
"""Folder of cursors in a run directory; SHA256SUMS leaves it out."""
FILES = ("*.toml", "*.json", "*.csv", "*.log", "*.html", "plots/*", "predictions/*.csv")
"""Patterns of the files of a run that are sent by default."""
POLL = 2.0
"""Seconds between two looks at a run that trains."""
PATIENCE = 60.0
"""Seconds for which a server that is down is tried again after a run has ended."""


class TrackerError(Exception):
    """The server of a tracker cannot be reached, or refuses something."""


class EpochMetrics(NamedTuple):
    """The metrics of an epoch that are numbers, its last step, and its time in milliseconds."""

    number: int
    step: int
    time: int
    metrics: Mapping[str, float]


class Tracker(Protocol):
    """A server that keeps runs. Every method may be called twice with the same arguments.

    Methods raise TrackerError if the server does not confirm what was sent.
    """

    name: str
    server: str

    def begin(self, run: ShippedRun) -> str:
        """Return the remote id of a run, which is created if the server does not have it."""

    def send_settings(self, remote: str, settings: Mapping[str, Value]) -> None:
        """Send settings by their dotted keys."""

    def send_epochs(self, remote: str, epochs: Sequence[EpochMetrics]) -> None:
        """Send the metrics of epochs."""

    def send_file(self, remote: str, file: Path, name: str) -> None:
        """Send a file; `name` is its path in the run directory."""

    def set_status(self, remote: str, run: ShippedRun) -> None:
        """Send the status of the run, and its final metrics if it has a result."""


@dataclass(frozen=True)
class ShippedRun:
    """What a tracker is told of a run when it begins or ends."""

    directory: Path
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    result: Mapping[str, Any]
    sessions: Sequence[Mapping[str, Any]]
    is_running: bool

    @classmethod
    def read(cls, directory: Path, *, is_running: bool) -> ShippedRun:
        """Read the files of a run; those that are missing count as empty."""
        environment, data, result = (
            read_json(directory / f"{name}.json") for name in ("environment", "data", "result")
        )
        sessions = read_json(directory / "sessions.json").get("sessions", [])
        return cls(directory, environment, data, result, sessions, is_running)

    @property
    def id(self) -> str:
        """Return the name of the run's directory."""
        return self.directory.name

    @property
    def status(self) -> str:
        """Return the status as list-runs shows it."""
        return str(self.result.get("status") or ("running" if self.is_running else "killed"))

    @property
    def started(self) -> int:
        """Return when the run was started, in milliseconds since 1970."""
        return _milliseconds(self.environment.get("started", ""))

    @property
    def ended(self) -> int:
        """Return when its last session ended, in milliseconds since 1970; 0 if it has not."""
        return _milliseconds(self.sessions[-1].get("ended", "")) if self.sessions else 0

    @property
    def settings(self) -> dict[str, Value]:
        """Return the settings that change results, by their dotted keys."""
        return flatten_settings(self.environment.get("experiment", {}))


@dataclass
class Cursor:
    """What a server has.

    Attributes:
        server: The address of the server.
        remote: The id of the run there; "" before it was created.
        settings: The settings that have arrived.
        epochs: A digest and the time of each epoch that is sent or was sent.
        arrived: How many of those epochs have arrived.
        files: The hash of each file that has arrived.
        status: The status that has arrived.
    """

    server: str
    remote: str = ""
    settings: dict[str, Value] = field(default_factory=dict)
    epochs: list[tuple[str, int]] = field(default_factory=list)
    arrived: int = 0
    files: dict[str, str] = field(default_factory=dict)
    status: str = ""


def ship(directory: Path, tracker: Tracker, files: Sequence[str] = FILES) -> None:
    """Send what the server of a tracker does not have yet. Raises TrackerError.

    `files` are patterns of the files to send when the run has ended.
    """
    with _cursor(directory, tracker) as (cursor, save):
        _ship(directory, tracker, files, cursor, save)


def follow(
    directory: Path,
    tracker: Tracker,
    files: Sequence[str] = FILES,
    *,
    patience: float = PATIENCE,
    poll: float = POLL,
    log: Callable[[str], None] = lambda text: None,
) -> bool:
    """Send a run while it trains, until it has ended; return whether everything has arrived.

    A server that is down is tried again, until `patience` seconds after the run has ended. `log`
    gets a line when it goes down or answers again.
    """
    deadline, problem = 0.0, ""
    with _cursor(directory, tracker) as (cursor, save):
        while True:
            has_ended = not lock.is_locked(directory)
            try:
                _ship(directory, tracker, files, cursor, save)
                new_problem = ""
            except TrackerError as error:
                new_problem = str(error)
            if new_problem != problem:
                problem = new_problem
                log(problem or f"{tracker.server} answers again")
            if has_ended:
                deadline = deadline or time.monotonic() + patience
                if not problem or time.monotonic() > deadline:
                    return not problem
            time.sleep(poll)


@contextmanager
def _cursor(directory: Path, tracker: Tracker) -> Iterator[tuple[Cursor, Callable[[], None]]]:
    """Yield the cursor of a server, and a function that saves it; one process has it at a time."""
    folder = directory / FOLDER
    key = hashlib.sha256(tracker.server.encode()).hexdigest()[:8]
    file = folder / f"{tracker.name}-{key}.json"
    with atomic.disk_errors(directory):
        folder.mkdir(exist_ok=True)
        with file_lock(folder / f".{file.stem}.lock"):
            saved = read_json(file) or {"server": tracker.server}
            cursor = Cursor(**saved)
            cursor.epochs = [(str(digest), int(time)) for digest, time in cursor.epochs]

            def save() -> None:
                atomic.replace(file, f"{json.dumps(asdict(cursor), indent=1)}\n".encode())

            yield cursor, save


def _ship(
    directory: Path,
    tracker: Tracker,
    files: Sequence[str],
    cursor: Cursor,
    save: Callable[[], None],
) -> None:
    run = ShippedRun.read(directory, is_running=lock.is_locked(directory))
    if not cursor.remote:
        cursor.remote = tracker.begin(run)
        save()
    settings = run.settings
    if new := {key: settings[key] for key in settings if settings[key] != cursor.settings.get(key)}:
        tracker.send_settings(cursor.remote, new)
        cursor.settings = settings
        save()
    rows = read_json_lines(directory / "metrics.jsonl")
    epochs = _plan_epochs(run, rows, cursor)
    if epochs:
        save()  # the times: what is sent again must be equal
        tracker.send_epochs(cursor.remote, epochs)
        cursor.arrived = len(cursor.epochs)
        save()
    if not run.is_running:
        _ship_files(directory, tracker, files, cursor, save)
    if run.status != cursor.status:
        tracker.set_status(cursor.remote, run)
        cursor.status = run.status
        save()


def _plan_epochs(
    run: ShippedRun, rows: Sequence[Mapping[str, Any]], cursor: Cursor
) -> list[EpochMetrics]:
    """Return the epochs that have not arrived, and note them in the cursor.

    A run that was resumed repeats epochs that have arrived. They are equal, apart from times,
    unless its data or plugins have changed: then they are sent again.
    """
    ended, times = run.started, []
    for position, row in enumerate(rows):
        ended += round(1000 * float(row.get("seconds") or 0))
        kept = {key: value for key, value in row.items() if key not in CLOCK_KEYS}
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
        if position >= len(cursor.epochs) or cursor.epochs[position][0] != digest:
            del cursor.epochs[position:]
            cursor.epochs.append((digest, ended))
            cursor.arrived = min(cursor.arrived, position)
        times.append(cursor.epochs[position][1])
    return [_epoch(rows[i], times[i]) for i in range(cursor.arrived, len(rows))]


def _epoch(row: Mapping[str, Any], time: int) -> EpochMetrics:
    metrics = {
        key: float(value)
        for key, value in row.items()
        if isinstance(value, int | float) and key not in {"epoch", "step"}
    }
    return EpochMetrics(int(row["epoch"]), int(row.get("step", row["epoch"])), time, metrics)


def _ship_files(
    directory: Path,
    tracker: Tracker,
    patterns: Sequence[str],
    cursor: Cursor,
    save: Callable[[], None],
) -> None:
    for name in sums.summed_files(directory):
        if any(fnmatch(name, p) and name.count("/") == p.count("/") for p in patterns):
            digest = file_sha256(directory / name)
            if cursor.files.get(name) != digest:
                tracker.send_file(cursor.remote, directory / name, name)
                cursor.files[name] = digest
                save()


def _milliseconds(text: str) -> int:
    return round(1000 * datetime.fromisoformat(text).timestamp()) if text else 0
