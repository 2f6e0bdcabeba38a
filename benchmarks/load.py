"""Compare how OpenMP's threads wait for work, on a quiet and on a busy machine: two minutes.

    python benchmarks/load.py [--rounds 3] [--busy 4]

A process trains a small network for three seconds and counts the steps: with threads that spin
(OpenMP's default), that sleep, and with the policy that SightX chooses when it starts; first alone,
then next to `--busy` processes that compute all the time. Targets for SightX's choice: at least 4
times as many steps as spinning on the busy machine, at most 3 % fewer on the quiet one. The quiet
half means something only if nothing else runs: look at `uptime`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rounds import ROOT, medians, table

SPINNING = {"GOMP_SPINCOUNT": "300000"}  # libgomp's default
SLEEPING = {"OMP_WAIT_POLICY": "passive"}
SECONDS = 3.0


def count_steps(seconds: float) -> float:
    """Return how many steps per second a small network trains."""
    import sightx  # noqa: F401 - chooses the policy before torch is imported

    import torch  # isort: skip
    from torch import nn

    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 5),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters())
    images, labels = torch.randn(16, 3, 48, 48), torch.randint(0, 5, (16,))
    started, steps = time.perf_counter(), -3  # three steps warm up
    while steps < 0 or time.perf_counter() - started < seconds:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        steps += 1
        if steps == 0:
            started = time.perf_counter()
    return steps / (time.perf_counter() - started)


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


def steps_per_second(variables: dict[str, str]) -> float:
    """Return what `count_steps` returns in a new process."""
    names = ("OMP_", "GOMP_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    done = subprocess.run(
        [sys.executable, __file__, "--worker"], check=True, capture_output=True, text=True,
        env={**inherited, "PYTHONPATH": str(ROOT), **variables},
    )  # fmt: skip
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(count_steps(SECONDS))
        return
    cases = {
        "spinning": partial(steps_per_second, SPINNING),
        "sleeping": partial(steps_per_second, SLEEPING),
        "SightX": partial(steps_per_second, {}),
    }
    for processes, rounds in ((0, arguments.rounds), (arguments.busy, 1)):
        load = Path("/proc/loadavg").read_text(encoding="utf-8").split()[0]
        with busy(processes):
            results = medians(cases, rounds)
        title = f"steps/s, {processes} busy"
        print(f"load average before: {load}")
        print(table(results, "spinning", title, more_is_better=True), flush=True)


if __name__ == "__main__":
    main()
