"""Time epochs with spinning and with sleeping OpenMP threads, on a quiet and on a busy machine.

    python benchmarks/load.py [--rounds 5] [--busy 4]

Each round trains the same small experiment four times: spinning (OpenMP's default) and sleeping
(SightX's), first alone, then next to `--busy` processes that compute all the time. The number is
the median seconds of an epoch. Targets: sleeping is at least 4 times as fast under load, and takes
at most 3 % longer on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rounds import medians, table, wall_time

SPINNING = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "300000"}  # libgomp's default
SLEEPING = {"OMP_WAIT_POLICY": "passive"}
COMMAND = [
    *(sys.executable, "-m", "sightx", "run", "specs/quickstart.toml", "--quiet"),
    *("--set", "training.epochs=4", "--set", "dataset.patients=600"),
]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Run processes that compute until the block ends."""
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def epoch_seconds(processes: int, variables: dict[str, str]) -> float:
    with tempfile.TemporaryDirectory() as folder, busy(processes):
        wall_time([*COMMAND, "--runs", folder], **variables)
        (metrics,) = Path(folder).glob("*/metrics.jsonl")
        seconds = [json.loads(line)["seconds"] for line in metrics.read_text().splitlines()]
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", type=int, default=2 * (os.cpu_count() or 1))
    arguments = parser.parse_args()
    for title, processes in (("quiet", 0), (f"{arguments.busy} busy processes", arguments.busy)):
        cases = {
            "spinning": partial(epoch_seconds, processes, SPINNING),
            "sleeping": partial(epoch_seconds, processes, SLEEPING),
        }
        results = medians(cases, arguments.rounds)
        print(table(results, "spinning", f"seconds, {title}", more_is_better=False))


if __name__ == "__main__":
    main()
