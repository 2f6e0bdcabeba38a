"""The run registry over 10,000 runs: whole commands, in one go, as `make bench` prints them.

The runs are hard links of one recorded run, each with its own environment.json and result.json.
MLflow, if it is installed, answers the same question over the same numbers in its SQLite store.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDED = next((ROOT / "tests" / "run_registry" / "fixtures").glob("2*"))
RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
REPEATS = 3
QUESTION = "model.use = simplenet and (accuracy > 0.9 or @candidate)"
MLFLOW = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
wanted = "params.`model.use` = 'simplenet' and metrics.accuracy > 0.9"
found = mlflow.search_runs(filter_string=wanted, order_by=["metrics.accuracy DESC"], max_results=20)
assert len(found) == 20
"""
FILL = """
import sys, mlflow
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
for number in range(int(sys.argv[2])):
    run = client.create_run("0").info.run_id
    client.log_batch(run, [Metric("accuracy", number % 1000 / 1000, 0, 0)], [
        Param("model.use", "simplenet"), Param("seed", str(number % 5)),
        Param("optimizer.lr", str(number % 100))])
    client.set_terminated(run)
"""


def make_runs(root: Path) -> None:
    environment = json.loads((RECORDED / "environment.json").read_bytes())
    result = json.loads((RECORDED / "result.json").read_bytes())
    for number in range(RUNS):
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


def show(name: str, times: list[tuple[float, float]], bar: float) -> float:
    wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{name:<44} {wall:6.2f} s, {cpu:6.2f} s of the processor   (bar {bar:g} s)", flush=True)
    return wall


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, index = Path(folder) / "runs", Path(folder) / "index"
        make_runs(root)
        time.sleep(2.1)  # the index trusts a directory that has been still for two seconds
        environment = {**os.environ, "SIGHTX_INDEX": str(index), "PYTHONPATH": str(ROOT)}
        base = [sys.executable, "-m", "sightx"]
        listing = [*base, "list-runs", "--runs", str(root)]

        def repeat(name: str, command: list[str], bar: float) -> float:
            return show(name, [seconds(command, environment) for _ in range(REPEATS)], bar)

        repeat("sightx --help, for comparison", [*base, "--help"], 0.3)
        show("list-runs, no index, warm disk", [seconds(listing, environment)], 4)
        size = sum(path.stat().st_size for path in index.iterdir())
        repeat("list-runs, warm", listing, 0.5)
        asked = repeat(
            "filter by setting and metric, sort",
            [*listing, "--where", QUESTION, "--sort", "accuracy"],
            0.5,
        )
        repeat("fold seeds, sort", [*listing, "--fold", "seed", "--sort", "accuracy"], 2)
        names = sorted(path.name for path in root.iterdir())[:2]
        repeat("diff of two runs", [*base, "diff", *names, "--runs", str(root)], 0.5)
        repeat("show-run", [*base, "show-run", names[0], "--runs", str(root)], 0.5)
        print(f"{'index':<44} {size / RUNS / 1000:6.2f} kB per run")
        compare_mlflow(Path(folder), environment, asked)


def compare_mlflow(folder: Path, environment: dict[str, str], asked: float) -> None:
    try:
        import mlflow  # noqa: F401
    except ImportError:
        print("mlflow is not installed: no comparison")
        return
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    subprocess.run([sys.executable, "-c", FILL, uri, str(RUNS)], env=environment, check=True)
    command = [sys.executable, "-c", MLFLOW, uri]
    times = [seconds(command, environment) for _ in range(REPEATS)]
    median = show("the same question to MLflow", times, 5 * asked)
    print(f"SightX takes {asked / median:.2f} of MLflow's time (bar 0.2)")


if __name__ == "__main__":
    main()
