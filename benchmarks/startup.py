"""Time how long commands take to start, compared with `import torch` in the same run.

    python benchmarks/startup.py [--rounds 9]

Each round runs every command once, so that a slow moment of the machine affects all of them. The
ratios are of medians of wall time. Targets: validate at least 4 times as fast as `import torch`,
list-plugins 6 times.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from rounds import medians, table, wall_time

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    cases = {name: partial(wall_time, command) for name, command in COMMANDS.items()}
    results = medians(cases, parser.parse_args().rounds)
    print(table(results, PEER, "seconds", more_is_better=False))


if __name__ == "__main__":
    main()
