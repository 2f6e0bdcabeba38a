"""Time what a user waits for before anything happens, against `import torch` in the same run.

    python benchmarks/startup.py [--rounds 9]

Each round runs every command once, in turn, so that a slow moment of the machine hits all alike;
the ratios are of medians of wall time. Bars: validate at most 0.25 of the peer, list-plugins 0.167.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEER = "import torch"
SIGHTX = [sys.executable, "-m", "sightx"]
COMMANDS = {
    PEER: [sys.executable, "-c", "import torch"],
    "validate eyepacs": [*SIGHTX, "validate", "specs/eyepacs_resnet50.toml"],
    "list-plugins": [*SIGHTX, "list-plugins"],
    "show eyepacs": [*SIGHTX, "show", "specs/eyepacs_resnet50.toml"],
    "schema": [*SIGHTX, "schema"],
    "--help": [*SIGHTX, "--help"],
    "import sightx": [sys.executable, "-c", "import sightx"],
    "python alone": [sys.executable, "-c", "pass"],
}


def measure(rounds: int) -> dict[str, list[float]]:
    """Return wall seconds of each command, one number a round; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    seconds = measure(parser.parse_args().rounds)
    peer = statistics.median(seconds[PEER])
    print(f"{'command':<20} {'median s':>9} {'ratio to import torch':>22}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:<20} {median:>9.3f} {median / peer:>22.3f}")


if __name__ == "__main__":
    main()
