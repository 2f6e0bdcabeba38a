"""A run arrives exactly once, wherever the shipper or the server fails."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sightx.io.files import file_sha256
from sightx.run_registry.summary import Value
from sightx.runs import lock
from sightx.trackers import shipper
from sightx.trackers.shipper import EpochMetrics, ShippedRun, TrackerError
from support.run_folders import write_run


class Server:
    """A server in memory that keeps equal metrics once, as MLflow does, and fails at one call."""

    name, server = "memory", "memory://"

    def __init__(self, fails_at: int = 0, *, applies: bool = False) -> None:
        self.calls, self._fails_at, self._applies = 0, fails_at, applies
        self.runs: list[str] = []
        self.settings: dict[str, Value] = {}
        self.points: set[tuple[str, int, int, float]] = set()
        self.files: dict[str, str] = {}
        self.status = ""

    def _call(self) -> None:
        """Fail before the call is applied, or after it was."""
        self.calls += 1
        if self.calls == self._fails_at and not self._applies:
            raise TrackerError("it is down")

    def _confirm(self) -> None:
        if self.calls == self._fails_at and self._applies:
            raise TrackerError("it went down before it answered")

    def begin(self, run: ShippedRun) -> str:
        self._call()
        if run.id not in self.runs:
            self.runs.append(run.id)
        self._confirm()
        return "7"

    def send_settings(self, remote: str, settings: Mapping[str, Value]) -> None:
        self._call()
        self.settings |= settings
        self._confirm()

    def send_epochs(self, remote: str, epochs: Sequence[EpochMetrics]) -> None:
        self._call()
        self.points |= {(k, e.step, e.time, v) for e in epochs for k, v in e.metrics.items()}
        self._confirm()

    def send_file(self, remote: str, file: Path, name: str) -> None:
        self._call()
        self.files[name] = file_sha256(file)
        self._confirm()

    def set_status(self, remote: str, run: ShippedRun) -> None:
        self._call()
        self.status = run.status
        self._confirm()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs", "a", {"seed": 3}, whole=True)


def rows_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def write_rows(run: Path, rows: Sequence[Mapping[str, float]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_everything_of_a_run_arrives_and_nothing_is_sent_again(run: Path) -> None:
    server = Server()
    shipper.ship(run, server)
    rows = rows_of(run)
    assert {p[:2] + p[3:] for p in server.points if p[0] == "train/loss"} == {
        ("train/loss", row["step"], row["train/loss"]) for row in rows
    }
    assert server.settings["seed"] == 3
    assert server.files["result.json"] == file_sha256(run / "result.json")
    assert not any(name.startswith(("checkpoints", "trackers")) for name in server.files)
    assert server.status == "finished"
    calls = server.calls
    shipper.ship(run, server)
    assert server.calls == calls


@pytest.mark.parametrize("applies", [False, True], ids=["not-sent", "not-confirmed"])
def test_a_failure_at_any_call_changes_nothing_in_the_end(
    run: Path, tmp_path: Path, applies: bool
) -> None:
    straight = Server()
    shipper.ship(run, straight)
    for number in range(1, straight.calls + 1):
        (cursor,) = (run / "trackers").glob("memory-*.json")
        cursor.unlink()
        server = Server(number, applies=applies)
        with pytest.raises(TrackerError):
            shipper.ship(run, server)
        shipper.ship(run, server)
        for name in ("runs", "settings", "points", "files", "status"):
            assert getattr(server, name) == getattr(straight, name), f"call {number}"


def test_a_resumed_run_goes_on_where_it_was(run: Path) -> None:
    server, result = Server(), (run / "result.json").read_bytes()
    (run / "result.json").unlink()
    rows = rows_of(run)
    with lock.run_lock(run):
        shipper.ship(run, server)
    assert server.status == "running"
    assert not server.files
    sent = set(server.points)
    write_rows(run, rows[:1])  # as a resumed run cuts them; it repeats the others
    shipper.ship(run, server)
    assert server.status == "killed"
    write_rows(run, [rows[0], *({**row, "seconds": 1e3} for row in rows[1:])])
    (run / "result.json").write_bytes(result)
    shipper.ship(run, server)
    assert server.points == sent
    assert server.status == "finished"
    write_rows(run, [*rows[:-1], {**rows[-1], "train/loss": 9.0}])  # as other data would
    shipper.ship(run, server)
    assert ("train/loss", 9.0) in {(key, value) for key, _, _, value in server.points - sent}


def test_a_server_that_is_down_is_tried_until_the_run_has_ended(run: Path) -> None:
    lines: list[str] = []
    assert not shipper.follow(run, Server(1), patience=-1, poll=0, log=lines.append)
    assert lines == ["it is down"]
    server = Server(2)
    assert shipper.follow(run, server, patience=60, poll=0, log=lines.append)
    assert lines[1:] == ["it is down", "memory:// answers again"]
    assert server.status == "finished"
