"""Time how long training waits for a checkpoint of 45 MB, compared with torch.save and fsync.

    python benchmarks/save.py [--rounds 9] [--megabytes 45] [--folder FOLDER]

The peer writes one file in the foreground, without hashes, names or a second checkpoint to fall
back on, and a kill during the write leaves a damaged file. `caller waits` is how long
`AsyncCheckpointer.save` takes; `slower steps` trains a small network during the write, and counts
the seconds more than those of the steps alone. Target: the caller waits at most 0.15 s.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rounds import medians, table

from sightx.runs import checkpoints
from sightx.runs.async_checkpointer import AsyncCheckpointer
from sightx.training.state import State

PEER = "torch.save + fsync"
STEPS = 60


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def steps() -> None:
    """Train for about half a second."""
    module = torch.nn.Sequential(
        torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 5)
    )
    optimizer, batch = torch.optim.SGD(module.parameters(), 0.1), torch.ones(256, 512)
    for _ in range(STEPS):
        optimizer.zero_grad()
        module(batch).square().mean().backward()
        optimizer.step()


def cases(folder: Path, megabytes: int) -> dict[str, Callable[[], float]]:
    weights = {f"layer{i}": torch.randn(250_000) for i in range(megabytes)}
    writer, numbers = AsyncCheckpointer(folder / "checkpoints"), count(1)

    def state() -> State:
        return State(weights, {}, {"step": next(numbers)})

    def peer() -> None:
        with (folder / "peer.pt").open("wb") as file:
            torch.save(weights, file)
            file.flush()
            os.fsync(file.fileno())

    def caller_waits() -> float:
        seconds = timed(lambda: writer.save(state(), {}, ["last"]))
        writer.wait()
        return seconds

    def slower_steps() -> float:
        def both() -> None:
            writer.save(state(), {}, ["last"])
            steps()

        seconds = timed(both)
        writer.wait()
        return max(seconds - timed(steps), 1e-4)

    return {
        PEER: lambda: timed(peer),
        "checkpoints.save, in the foreground": lambda: timed(
            lambda: checkpoints.save(folder / "checkpoints", state(), {}, ["last"])
        ),
        "AsyncCheckpointer.save, caller waits": caller_waits,
        "AsyncCheckpointer.save, slower steps": slower_steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--megabytes", type=int, default=45)
    parser.add_argument("--folder", help="a folder on the disk to measure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory(dir=options.folder) as folder:
        results = medians(cases(Path(folder), options.megabytes), options.rounds)
    print(table(results, PEER, "seconds", more_is_better=False))


if __name__ == "__main__":
    main()
