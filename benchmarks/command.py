"""Time the whole command `sightx run`, including start-up, against a plain script.

    python benchmarks/command.py [--root FOLDER] [--rounds 9]
    python benchmarks/command.py --task cifar10 --root FOLDER --rounds 2 [--epochs 1]

The tasks are `catfish` (`catfish_simplenet.toml` against `plain_catfish.py`, 20 epochs of 64x64
images, which are drawn without FOLDER) and `cifar10` (`cifar10_resnet9.toml` against
`plain_cifar10.py`, 14 epochs). FOLDER holds train, test and, for catfish, val, with one folder per
class. The scripts use ImageFolder and DataLoader. SightX is timed with an empty pixel cache, as in
a first run, and with a full one, as in every later run. Targets: 2 times as fast as the script for
catfish, at least as fast for cifar10.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rounds import medians, table, wall_time

HERE = Path(__file__).parent
PEER = "plain script"
IMAGES = {"train": 1000, "val": 200, "test": 250}
TASKS = {
    "catfish": ("plain_catfish.py", "catfish_simplenet.toml", 20),
    "cifar10": ("plain_cifar10.py", "cifar10_resnet9.toml", 14),
}  # the script, the spec, epochs


def draw_images(folder: Path) -> Path:
    """Draw images of two classes, with a bright upper or lower half, and noise."""
    rng = np.random.default_rng(0)
    for split, count in IMAGES.items():
        for kind, name in enumerate(("cat", "fish")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count // 2):
                pixels = rng.integers(0, 160, (64, 64, 3), dtype=np.uint8)
                pixels[32 * kind : 32 * kind + 32] += 60
                Image.fromarray(pixels).save(folder / split / name / f"{number}.jpg", quality=90)
    return folder


def run(command: list[str], cache: Path, folder: Path, *, clear: bool) -> float:
    """Return the seconds of a command."""
    if clear:
        shutil.rmtree(cache, ignore_errors=True)
    return wall_time(command, folder, SIGHTX_CACHE=str(cache))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=TASKS, default="catfish")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    script, spec_name, epochs = TASKS[arguments.task]
    if arguments.task != "catfish" and not arguments.root:
        parser.error(f"{arguments.task} needs --root")
    epochs = str(arguments.epochs or epochs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = (arguments.root or draw_images(folder / "data")).resolve()
        plain = [sys.executable, str(HERE / script), str(root), "--epochs", epochs]
        spec = str(HERE.parent / "specs" / spec_name)
        sightx = [
            sys.executable, "-m", "sightx", "run", spec,
            "--set", f"dataset.root={root}", "--set", f"training.epochs={epochs}",
        ]  # fmt: skip
        time_of = partial(run, cache=folder / "cache", folder=folder)
        cases = {
            PEER: partial(time_of, plain, clear=False),
            "sightx run, empty cache": partial(time_of, sightx, clear=True),
            "sightx run, full cache": partial(time_of, sightx, clear=False),
        }
        results = medians(cases, arguments.rounds)
    print(table(results, PEER, "seconds", more_is_better=False))


if __name__ == "__main__":
    main()
