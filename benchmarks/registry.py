"""The run registry over 10,000 runs: whole commands, in one go, as `make bench` prints them.

The runs are hard links of one recorded run, each with its own environment.json and result.json.
Commands take turns, so that a machine that slows down slows all of them down. MLflow, if it is
installed, answers the same question over the same numbers in its SQLite store.
"""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDED = next((ROOT / "tests" / "run_registry" / "fixtures").glob("2*"))
RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
ON_BOARD = 1_000
REPEATS = 5
QUESTION = "model.use = simplenet and (accuracy > 0.9 or @candidate)"
MLFLOW = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
wanted = "params.`model.use` = 'simplenet' and metrics.accuracy > 0.9"
found = mlflow.search_runs(filter_string=wanted, order_by=["metrics.accuracy DESC"], max_results=20)
assert len(found) == 20
"""
FIRST = """
import sys
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
client = MlflowClient(sys.argv[1])
run = client.create_run("0").info.run_id
client.log_batch(run, [Metric("accuracy", 0, 0, 0)], [Param("model.use", "simplenet"),
    Param("seed", "0"), Param("optimizer.lr", "0")])
client.set_terminated(run)
"""
NO_INDEX = "list-runs, no index, warm disk"
Times = list[tuple[float, float]]


def make_runs(root: Path, count: int) -> None:
    environment = json.loads((RECORDED / "environment.json").read_bytes())
    result = json.loads((RECORDED / "result.json").read_bytes())
    for number in range(count):
        run = root / f"20260131-{number:06}-little-{number:06x}"
        run.mkdir(parents=True)
        for name in ("experiment.toml", "data.json", "metrics.jsonl"):
            os.link(RECORDED / name, run / name) if on_one_disk(root) else copy(name, run)
        environment["id"] = f"{number:064x}"
        environment["experiment"] |= {"seed": number % 5}
        environment["experiment"]["optimizer"]["lr"] = number % 100 / 1000
        result["validation"]["validation/accuracy"] = number % 1000 / 1000
        (run / "environment.json").write_text(json.dumps(environment))
        (run / "result.json").write_text(json.dumps(result))


def on_one_disk(root: Path) -> bool:
    return root.parent.stat().st_dev == RECORDED.stat().st_dev


def copy(name: str, run: Path) -> None:
    (run / name).write_bytes((RECORDED / name).read_bytes())


def seconds(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return the seconds of a command, and those of the processor: others may use the machine."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu


def show(name: str, times: Times, bar: float) -> tuple[float, float]:
    wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{name:<44} {wall:6.2f} s, {cpu:6.2f} s of the processor   (bar {bar:g} s)", flush=True)
    return wall, cpu


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, index = Path(folder) / "runs", Path(folder) / "index"
        make_runs(root, RUNS)
        time.sleep(2.1)  # the index trusts a directory that has been still for two seconds
        environment = {**os.environ, "SIGHTX_INDEX": str(index), "PYTHONPATH": str(ROOT)}
        base = [sys.executable, "-m", "sightx"]
        place = ["--runs", str(root)]
        listing = [*base, "list-runs", *place]
        names = sorted(path.name for path in root.iterdir())[:2]
        question = "filter by setting and metric, sort"
        commands = {
            "sightx --help, for comparison": ([*base, "--help"], 0.3),
            NO_INDEX: (listing, 4),
            "list-runs, warm": (listing, 0.5),
            question: ([*listing, "--where", QUESTION, "--sort", "accuracy"], 0.5),
            "fold seeds, sort": ([*listing, "--fold", "seed", "--sort", "accuracy"], 2),
            "diff of two runs": ([*base, "diff", *names, *place], 0.5),
            "show-run": ([*base, "show-run", names[0], *place], 0.5),
        }
        uri = fill_mlflow(Path(folder), environment)
        if uri:
            commands["the same question to MLflow"] = ([sys.executable, "-c", MLFLOW, uri], 5)
        seconds(listing, environment)
        times: dict[str, Times] = {name: [] for name in commands}
        for _ in range(REPEATS):
            for name, (command, _) in commands.items():
                fresh = {"SIGHTX_INDEX": tempfile.mkdtemp(dir=folder)} if name == NO_INDEX else {}
                times[name].append(seconds(command, {**environment, **fresh}))
        medians = {name: show(name, times[name], bar) for name, (_, bar) in commands.items()}
        size = sum(path.stat().st_size for path in index.iterdir())
        print(f"{'index':<44} {size / RUNS / 1000:6.2f} kB per run")
        if uri:
            wall, cpu = (
                one / other
                for one, other in zip(
                    medians[question], medians["the same question to MLflow"], strict=True
                )
            )
            print(f"SightX takes {wall:.2f} of MLflow's time, {cpu:.2f} of its CPU (bar 0.2)")
        measure_completion(base, environment, root)
        measure_board(Path(folder), base, environment)


def fill_mlflow(folder: Path, environment: dict[str, str]) -> str:
    """Fill MLflow's own SQLite store: its client writes one run, of which SQL makes copies."""
    try:
        import mlflow  # noqa: F401
    except ImportError:
        print("mlflow is not installed: no comparison")
        return ""
    file = folder / "mlflow.db"
    uri = f"sqlite:///{file}"
    subprocess.run([sys.executable, "-c", FIRST, uri], env=environment, check=True)
    with sqlite3.connect(file) as connection:
        (first,) = connection.execute("SELECT run_uuid FROM runs").fetchone()
        for table in ("runs", "params", "metrics", "latest_metrics", "tags"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            rows = connection.execute(f"SELECT * FROM {table}").fetchall()
            marks = ", ".join("?" * len(columns))
            connection.executemany(
                f"INSERT INTO {table} VALUES({marks})",
                (
                    tuple(copied(dict(zip(columns, row, strict=True)), first, number).values())
                    for number in range(1, RUNS)
                    for row in rows
                ),
            )
    return uri


def copied(row: dict[str, object], first: str, number: int) -> dict[str, object]:
    """Return a row of the first run as that of another one, with its own numbers."""
    row = {k: v.replace(first, f"{number:032x}") if isinstance(v, str) else v
           for k, v in row.items()}  # fmt: skip
    values = {"accuracy": number % 1000 / 1000, "seed": str(number % 5),
              "optimizer.lr": str(number % 100 / 1000)}  # fmt: skip
    if row.get("key") in values:
        row["value"] = values[str(row["key"])]
    return row


def measure_completion(base: list[str], environment: dict[str, str], root: Path) -> None:
    line = f"sightx show-run --runs {root} 2026"
    asked = {**environment, "_SIGHTX_COMPLETE": "bash_complete", "COMP_LINE": line,
             "COMP_POINT": str(len(line))}  # fmt: skip
    seconds(base, asked)
    show("completion of a run", [seconds(base, asked) for _ in range(REPEATS)], 0.15)


def measure_board(folder: Path, base: list[str], environment: dict[str, str]) -> None:
    """Measure the answers of the server, and the first rows in a browser if there is one."""
    root = folder / "board"
    make_runs(root, ON_BOARD)
    time.sleep(2.1)
    environment = {**environment, "PYTHONUNBUFFERED": "1"}
    command = [*base, "board", "--port", "0", "--runs", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        try:
            url = found[0]
            tag = urllib.request.urlopen(f"{url}api/runs").headers["ETag"]
            times: Times = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                urllib.request.urlopen(f"{url}api/runs").read()
                times.append((time.perf_counter() - start, 0))
            show(f"board: list of {ON_BOARD:,} runs", times, 1)
            print(f"{'board: a poll without news':<44} {poll(url, tag)} bytes   (bar 300)")
            measure_browser(url)
        finally:
            server.kill()


def poll(url: str, tag: str) -> int:
    """Return the bytes of an answer without news."""
    host, _, port = url.split("/")[2].partition(":")
    with socket.create_connection((host, int(port))) as connection:
        request = f"GET /api/runs HTTP/1.0\r\nHost: {host}:{port}\r\nIf-None-Match: {tag}\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert b" 304 " in answer
    return len(answer)


def measure_browser(url: str) -> None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("playwright is not installed: no browser")
        return
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        times: Times = []
        for _ in range(REPEATS):
            page = browser.new_page()
            start = time.perf_counter()
            page.goto(url)
            page.wait_for_selector("#runs tbody tr[aria-selected]")
            times.append((time.perf_counter() - start, 0))
            page.close()
        browser.close()
    show("board: first rows in Chromium", times, 1)


if __name__ == "__main__":
    main()
