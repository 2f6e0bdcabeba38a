"""Time the whole `catfish_simplenet` command, start-up included, against the plain script.

    python benchmarks/command.py --root FOLDER [--rounds 9]

FOLDER holds train, val and test with a folder a class; without one, 64x64 pictures are drawn. The
peer is `plain_catfish.py`: ImageFolder, DataLoader, 20 epochs. SightX is timed with an empty store,
as in a first run, and with a full one, as in every later run. Bar: 2 times as fast.
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
from rounds import medians, table, wall

HERE = Path(__file__).parent
PEER = "plain script"
SIDES = {"train": 1000, "val": 200, "test": 250}


def drawn(folder: Path) -> Path:
    """Draw two kinds of pictures: bright above or bright below, with noise."""
    rng = np.random.default_rng(0)
    for side, count in SIDES.items():
        for kind, name in enumerate(("cat", "fish")):
            (folder / side / name).mkdir(parents=True)
            for number in range(count // 2):
                pixels = rng.integers(0, 160, (64, 64, 3), dtype=np.uint8)
                pixels[32 * kind : 32 * kind + 32] += 60
                Image.fromarray(pixels).save(folder / side / name / f"{number}.jpg", quality=90)
    return folder


def run(command: list[str], store: Path, folder: Path, *, clear: bool) -> float:
    """Return the wall seconds of a command in a folder of its own."""
    if clear:
        shutil.rmtree(store, ignore_errors=True)
    return wall(command, folder, SIGHTX_CACHE=str(store))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = (arguments.root or drawn(folder / "data")).resolve()
        plain = [sys.executable, str(HERE / "plain_catfish.py"), str(root)]
        spec = str(HERE.parent / "specs" / "catfish_simplenet.toml")
        ours = [sys.executable, "-m", "sightx", "run", spec, "--set", f"dataset.root={root}"]
        time_of = partial(run, store=folder / "store", folder=folder)
        cases = {
            PEER: partial(time_of, plain, clear=False),
            "sightx run, empty store": partial(time_of, ours, clear=True),
            "sightx run, full store": partial(time_of, ours, clear=False),
        }
        figures = medians(cases, arguments.rounds)
    print(table(figures, PEER, "seconds", more_is_better=False))


if __name__ == "__main__":
    main()
