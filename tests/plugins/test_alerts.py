"""The observer in real runs, and with a real HTTP server."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import sightx
from sightx import Run
from sightx.plugin import Epoch, Observer
from sightx.registry import loading
from sightx.registry import project as projects
from sightx.runner.observers import Observers
from sightx.testing import check

ROOT = Path(__file__).parents[2]
Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def component() -> type[Observer]:
    """The class in the registry of this project."""
    cls = loading.load_registry(projects.find_project(ROOT)).find("observer", "alerts")
    assert issubclass(cls, Observer)
    return cls


class Server(ThreadingHTTPServer):
    """Keep what is posted; answer with `status` after `wait` seconds."""

    status, wait = 200, 0.0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: Records = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append({**json.loads(body), "path": self.path})
        assert self.headers["Content-Type"] == "application/json"
        time.sleep(self.server.wait)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        running.block_on_close = False
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def watch_run(component, tmp_path) -> Callable[..., tuple[Run, Observers]]:
    """Return a run and its observers, which include one `alerts`."""

    def start(**settings: object) -> tuple[Run, Observers]:
        run = Run(tmp_path / "run")
        run.directory.mkdir()
        warnings: list[str] = []
        observers = Observers(run, warnings.append)
        observers.register({"alerts": component(**settings)})
        observers.warnings = warnings
        return run, observers

    return start


def epoch(number: int, loss: float = 1.0, *, best: bool = True, rate: float = 0.1, **other: float):
    metrics = {"validation/loss": loss, **other}
    return Epoch(number, 9, number, metrics, 0.1, rate, "validation/loss", best)


def pass_epochs(observers: Observers, *epochs: Epoch) -> None:
    for epoch in epochs:
        observers.call("sightx_epoch_finished", epoch=epoch)


def end(observers: Observers, **result: object) -> None:
    observers.call("sightx_run_finished", result=result)


def written(run: Run) -> Records:
    path = run.directory / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def events_of(run: Run) -> list[tuple[str, int]]:
    return [(record["event"], record["epoch"]) for record in written(run)]


def test_a_real_run_posts_the_records_that_it_writes(
    spec: Path, project: Path, server: Server
) -> None:
    sets = [f'observer=[{{use="alerts", url="{server.url}", patience=1}}]', "optimizer.lr=1e-12",
            "training.epochs=3", "training.monitor='validation/accuracy'"]  # fmt: skip
    run = sightx.run(sightx.load(spec, sets), runs=project / "runs")
    assert events_of(run) == [("no-progress", 2), ("finished", 3)]
    assert [record | {"path": "/hook"} for record in written(run)] == server.posted
    first = written(run)[0]
    assert list(first) == ["time", "run", "event", "epoch", "text"]
    assert first["run"] == run.id
    assert first["text"] == f"{run.id}: validation/accuracy has not improved for 1 epochs"
    assert abs(datetime.fromisoformat(first["time"]).timestamp() - time.time()) < 60


def test_the_alert_of_a_failed_run_has_the_error(spec: Path, project: Path) -> None:
    sets = ['observer=[{use="alerts"}]', "optimizer.use='sgd'", "optimizer.lr=1e30"]
    with pytest.raises(sightx.SightXError):
        sightx.run(sightx.load(spec, sets), runs=project / "runs")
    (directory,) = (project / "runs").iterdir()
    last = written(Run(directory))[-1]
    assert last["event"] == "failed"
    assert Run(directory).result["error"] in last["text"]


def test_no_progress_is_reported_once_until_there_is_progress(watch_run) -> None:
    run, observers = watch_run(patience=2)
    bests = [True, False, False, False, True, False, False]
    pass_epochs(observers, *(epoch(n, best=best) for n, best in enumerate(bests, start=1)))
    assert events_of(run) == [("no-progress", 3), ("no-progress", 7)]
    assert observers.warnings == []


def test_patience_zero_turns_alerts_of_no_progress_off(watch_run) -> None:
    run, observers = watch_run(patience=0)
    pass_epochs(observers, *(epoch(n, best=False) for n in range(1, 9)))
    assert events_of(run) == []


def test_only_losses_and_the_monitored_metric_have_to_be_finite(watch_run) -> None:
    run, observers = watch_run()
    infinite = {"train/loss": math.inf}
    pass_epochs(observers, epoch(1, **{"validation/f1": math.nan}), epoch(2, math.nan),
                epoch(3, math.nan, **infinite), epoch(4), epoch(5, math.nan))  # fmt: skip
    assert events_of(run) == [("not-finite", n) for n in (2, 3, 5)]
    assert [record["text"].rpartition(": ")[2] for record in written(run)] == [
        "validation/loss", "train/loss", "validation/loss",
    ]  # fmt: skip


def test_a_learning_rate_that_falls_by_half_is_reported(watch_run) -> None:
    run, observers = watch_run()
    rates = [0.1, 0.09, 0.045, 0.04, 0.0, 0.0]
    pass_epochs(observers, *(epoch(n, rate=rate) for n, rate in enumerate(rates, start=1)))
    assert events_of(run) == [("rate-fell", 3), ("rate-fell", 5)]
    assert "from 0.09 to 0.045" in written(run)[0]["text"]


@pytest.mark.parametrize("status", ["finished", "stopped", "interrupted", "failed"])
def test_the_end_of_a_run_is_reported_with_its_reason(watch_run, status: str) -> None:
    run, observers = watch_run()
    end(observers, status=status, reason="no better for 5 epochs")
    assert events_of(run) == [(status, 0)]
    assert written(run)[0]["text"] == f"run: {status}: no better for 5 epochs"


def test_only_the_selected_events_are_reported(watch_run, server: Server) -> None:
    run, observers = watch_run(events=("failed",), url=server.url, patience=1)
    pass_epochs(observers, epoch(1), epoch(2, math.nan, best=False, rate=0.001))
    end(observers, status="finished")
    assert (events_of(run), server.posted) == ([], [])


def test_the_url_may_come_from_the_environment(watch_run, server: Server, monkeypatch) -> None:
    monkeypatch.setenv("SX_TEST_HOOK", server.url)
    run, observers = watch_run(url="$SX_TEST_HOOK")
    end(observers, status="finished")
    assert [record["event"] for record in server.posted] == ["finished"]
    assert events_of(run) == [("finished", 0)]


@pytest.mark.parametrize("value", [None, "file:///etc/passwd", "nonsense"])
def test_a_variable_without_a_url_is_recorded(watch_run, monkeypatch, value: str | None) -> None:
    if value:
        monkeypatch.setenv("SX_TEST_HOOK", value)
    run, observers = watch_run(url="$SX_TEST_HOOK")
    end(observers, status="finished")
    assert [record["event"] for record in written(run)] == ["finished", "webhook-failed"]
    assert written(run)[1]["text"] == "run: the variable $SX_TEST_HOOK has no URL"


def test_every_error_of_the_server_is_recorded_and_the_run_continues(
    watch_run, server: Server
) -> None:
    server.status = 500
    run, observers = watch_run(url=server.url, patience=1)
    pass_epochs(observers, epoch(1), epoch(2, best=False))
    server.status = 204
    end(observers, status="finished")
    assert events_of(run) == [("no-progress", 2), ("webhook-failed", 2), ("finished", 2)]
    assert "HTTP Error 500" in written(run)[1]["text"]
    assert [record["event"] for record in server.posted] == ["no-progress", "finished"]
    assert observers.warnings == []


def test_a_refused_connection_is_recorded_without_the_url(watch_run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run, observers = watch_run(url=f"http://127.0.0.1:{port}/secret")
    end(observers, status="finished")
    assert [record["event"] for record in written(run)] == ["finished", "webhook-failed"]
    assert "refused" in written(run)[1]["text"]
    assert "secret" not in (run.directory / "alerts.jsonl").read_text()


def test_a_server_that_does_not_answer_delays_only_for_the_timeout(
    watch_run, server: Server
) -> None:
    server.wait = 3.0
    run, observers = watch_run(url=server.url, timeout=0.2)
    started = time.perf_counter()
    end(observers, status="finished")
    assert time.perf_counter() - started < 1.5
    assert written(run)[1]["event"] == "webhook-failed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "file:///etc/passwd"}, {"url": "ftp://a/b"}, {"url": "example.org"},
        {"url": "https://"}, {"url": "http://a b"}, {"patience": -1}, {"drop": 1.0},
        {"timeout": 0}, {"timeout": 600.0}, {"events": ("doom",)},
    ],
)  # fmt: skip
def test_settings_have_bounds(component, wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        component(**wrong)


def test_the_contract(component) -> None:
    check(component)


def test_a_shipped_spec_uses_the_observer() -> None:
    experiment = sightx.load(ROOT / "specs" / "three_class_early_stopping.toml")
    assert [observer.name for observer in experiment.observer] == ["curves", "alerts", "report"]
    assert type(experiment.observer[1]).__module__ == "alerts"
    assert experiment.observer[1].url == ""
