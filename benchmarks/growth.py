"""Measure time and memory of a run without decoding, while the table grows tenfold, twice.

    python benchmarks/growth.py [--most 1000000] [--profile]

Each run trains a linear model for one epoch on a synthetic table of 10,000, 100,000 or 1,000,000
rows; their 4 x 4 pixels cost nothing to read. It loads the table, splits it, builds the cache,
trains, evaluates, and writes predictions and the result. The same run is then repeated with its
pixels in the cache. Each run is a separate process, and is compared with the smaller run. Targets:
ten times the rows take at most ten times the time; 1,000,000 rows add less than 400 MB to the
memory of a run of 100 rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = (10_000, 100_000, 1_000_000)
PLUGIN = '''
from sightx.plugin import Dataset, Model, Traits, hookimpl


class Many(Dataset):
    """Rows of 4 x 4 pixels, which contain the number of the row."""

    name = "many"
    rows: int = 100

    def traits(self):
        return Traits(classes=("a", "b", "c", "d"))

    def table(self):
        import numpy as np
        import pandas as pd

        from sightx.plugin import ImageTable

        numbers = np.arange(self.rows)
        paths = [f"part-{number % 997:03}/image-{number:08}.jpg" for number in range(self.rows)]
        frame = pd.DataFrame({"path": paths, "label": numbers * 7919 % 1009 % 4, "group": ""})

        def read(index):
            image = np.zeros((4, 4, 3), np.uint8)
            image.reshape(-1)[:8] = np.frombuffer(int(index).to_bytes(8, "little"), np.uint8)
            return image

        return ImageTable(frame, ("a", "b", "c", "d"), read)


class Linear(Model):
    """One linear layer."""

    name = "one-linear"

    def build(self, *, channels, outputs, size):
        from torch import nn

        return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], outputs))


@hookimpl
def sightx_components():
    return [Many, Linear]
'''

SPEC = """
name = "growth"
[dataset]
use = "many"
rows = 100
[[preprocess]]
use = "center-crop"
size = 4
[normalize]
use = "values"
mean = [0.5, 0.5, 0.5]
deviation = [0.5, 0.5, 0.5]
[model]
use = "one-linear"
[training]
epochs = 1
batch_size = 1000
"""

CHILD = """
import cProfile, json, resource, sys, time
import sightx
experiment = sightx.load("spec.toml", [f"dataset.rows={sys.argv[1]}"])
profile = cProfile.Profile()
if "--profile" in sys.argv:
    profile.enable()
started = time.perf_counter()
sightx.run(experiment)
seconds = time.perf_counter() - started
profile.disable()
if "--profile" in sys.argv:
    profile.dump_stats(sys.argv[-1] + f"/growth-{sys.argv[1]}.prof")
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6]))
"""


def run_in_child(folder: Path, rows: int, *options: str) -> tuple[float, float]:
    """Return the seconds and the megabytes of a run."""
    environment = {**os.environ, "SIGHTX_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", CHILD, str(rows), *options]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--profile", action="store_true", help="write growth-N.prof to this folder")
    arguments = parser.parse_args()
    options = ["--profile", str(Path.cwd())] if arguments.profile else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plugins").mkdir()
        (folder / "plugins" / "growing.py").write_text(PLUGIN)
        (folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
        (folder / "spec.toml").write_text(SPEC)
        run_in_child(folder, 100)  # Python compiles its modules in the first run
        _, base = run_in_child(folder, 100)
        print(f"{'rows':>9} {'run':<6} {'seconds':>8} {'times':>6} {'MB more':>8}")
        previous: dict[str, float] = {}
        for rows in (size for size in SIZES if size <= arguments.most):
            for run in ("first", "again"):
                seconds, megabytes = run_in_child(folder, rows, *options)
                times = f"{seconds / previous[run]:.1f}" if run in previous else "-"
                more = megabytes - base
                print(f"{rows:>9,} {run:<6} {seconds:>8.2f} {times:>6} {more:>8.0f}", flush=True)
                previous[run] = seconds


if __name__ == "__main__":
    main()
