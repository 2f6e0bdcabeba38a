"""Print the rows of the performance table that need a CUDA device, each against its peer.

    python benchmarks/gpu.py [--rounds 3] [--steps 300]

Images are random and preprocessed: uint8 rows in the memory of the device, where
`execution.cache = "auto"` puts what fits there, or of the host. SightX trains on them for two
epochs, of which the second is timed; a peer repeats one batch on the device. The peers: a plain
fp32 loop with torch's Adam, and for the frozen network a compiled bf16 loop with channels last and
fused Adam. Targets: 4.4, 6 and 0.95 times the peer, and less than 2 % of the time waiting for data.
One case sets `execution.cuda_graph`; its target is 1.15 times `torch.compile` with
mode="reduce-overhead" in the same trainer.

Before them come the losses of deterministic training, as JSON for `tests/golden/gpu.json`; after
them, the first epoch over JPEGs as in `first_epoch.py`, with a thread or worker per core (target: 4
times ImageFolder and DataLoader).
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from rounds import Case, medians
from step import Workload
from torch import nn

from sightx.builtin import optimizers
from sightx.builtin.models.resnet import ResNet50
from sightx.builtin.models.simple_cnn import SimpleCnn
from sightx.builtin.models.simplenet import SimpleNet
from sightx.data.dataset import PreparedDataset
from sightx.plugin import Epoch, Model
from sightx.records.pixels import PixelRows
from sightx.spec.experiment import Execution
from sightx.training import setup
from sightx.training.trainer import Trainer

ROOT = Path(__file__).parents[1]
DISTINCT = 2048  # images; an epoch repeats them
GRAPH, REDUCE_OVERHEAD = "with a CUDA graph", 'mode="reduce-overhead"'


@dataclass(frozen=True)
class Task:
    """What is trained, and how fast it must be; the peer is a plain loop unless compiled."""

    name: str
    target: float
    model: Model
    size: int
    batch: int
    precision: str
    compile: bool
    compiled_peer: bool = False


TASKS = (
    Task("ResNet50 224 px, batch 32, images/s", 4.4, ResNet50(), 224, 32, "bf16", compile=True),
    Task("SimpleNet 64 px, batch 64, images/s", 6.0, SimpleNet(), 64, 64, "fp32", compile=False),
    Task(
        "only layer4 and head, batch 256, images/s", 0.95,
        ResNet50(trainable=("layer4", "head")), 224, 256, "bf16", compile=True, compiled_peer=True,
    ),
)  # fmt: skip
TINY = (
    Task("a small network", 1.0, SimpleCnn(widths=(4, 8)), 16, 4, "bf16", compile=False),
    Task("the same, half frozen", 1.0, SimpleCnn(trainable=("head",)), 16, 4, "fp32", False, True),
)


class Bench:
    """What one task needs on a device."""

    def __init__(self, task: Task, device: torch.device, steps: int, *, tiny: bool) -> None:
        self.task, self.device, self.steps, self.tiny = task, device, steps, tiny
        distinct = max(min(DISTINCT // task.batch, steps), 1)
        adam = optimizers.Adam(lr=1e-4)
        self.workload = Workload(task.model, adam, task.size, task.batch, distinct, task.precision)
        self.data_waits: list[float] = []

    def dataset(self, *, on_device: bool) -> PreparedDataset:
        """Return a dataset with the rows of an epoch, which repeat a few distinct images."""
        dataset = self.workload.dataset
        pixels = dataset.rows.gather(np.arange(len(dataset.rows)))
        index = np.arange(self.steps * self.task.batch) % len(pixels)
        labels = dataset.table.labels[index]
        frame = pd.DataFrame({"path": labels.astype(str), "label": labels, "group": ""})
        rows = PixelRows.of(pixels.to(self.device) if on_device else pixels)
        empty = np.arange(0)
        return dataclasses.replace(
            dataset,
            table=dataset.table.with_frame(frame),
            rows=rows.take(index),
            splits={"train": np.arange(len(index)), "validation": empty, "test": empty},
        )

    def sightx(self, *, on_device: bool = True, **execution: Any) -> float:
        """Return the images per second of the second epoch."""
        execution = {"cache_features": "off", "compile": self.task.compile} | execution
        update = {
            "training": self.workload.experiment.training.model_copy(update={"epochs": 2}),
            "execution": Execution.model_validate(execution),
        }
        experiment = self.workload.experiment.model_copy(update=update)
        dataset = self.dataset(on_device=on_device)
        trainer = Trainer(experiment, dataset, self.workload.module(), self.device)
        _, last = (event for event in trainer.events() if isinstance(event, Epoch))
        self.data_waits.append(last.data_wait_fraction)
        return last.images_per_second

    def reduce_overhead(self) -> float:
        """Return the images per second with the CUDA graphs of torch.compile."""
        with cuda_graphs_of_torch():
            return self.sightx(compile=True)

    def peer(self) -> float:
        """Return the images per second of a loop that repeats a batch."""
        bare = self.task.compiled_peer
        module = self.workload.module().to(self.device)
        setup.freeze(module, self.task.model.trainable)
        setup.train_mode(module)
        images, targets = (tensor.to(self.device) for tensor in self.workload.batches[0])
        if bare:
            module = module.to(memory_format=torch.channels_last)
            images = images.to(memory_format=torch.channels_last)
        network = torch.compile(module) if bare and not self.tiny else module
        trainable = [weight for weight in module.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(trainable, lr=1e-4, fused=bare or None)
        loss_of = nn.CrossEntropyLoss()
        started = 0.0
        for step in range(self.steps + 10):
            if step == 10:
                self.synchronize()
                started = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bare):
                loss = loss_of(network(images), targets)
            loss.backward()
            optimizer.step()
        self.synchronize()
        return self.steps * len(images) / (time.perf_counter() - started)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextmanager
def cuda_graphs_of_torch() -> Iterator[None]:
    """Let torch.compile replay CUDA graphs, as mode="reduce-overhead" does."""
    compiler = torch.compile

    def with_graphs(module: nn.Module, *, options: dict[str, Any], **arguments: Any) -> Any:
        return compiler(module, options={**options, "triton.cudagraphs": True}, **arguments)

    with mock.patch.object(torch, "compile", with_graphs):
        yield


def measure(bench: Bench, rounds: int) -> list[str]:
    """Return the rows of a task."""
    task = bench.task
    cases: dict[str, Case] = {
        "peer": bench.peer,
        "from the device": bench.sightx,
        GRAPH: partial(bench.sightx, compile=True, cuda_graph=True),
        REDUCE_OVERHEAD: bench.reduce_overhead,
        "from the host's memory": partial(bench.sightx, on_device=False),
    }
    if task.model.trainable:
        cases["with cached features"] = partial(bench.sightx, cache_features="auto")
    results = medians(cases, rounds)
    waited = f"{max(bench.data_waits):.2%}"
    peer, graphs = results.pop("peer"), results[REDUCE_OVERHEAD]
    rows = [(name, result, peer, task.target) for name, result in results.items()]
    rows.append((f"{GRAPH} against {REDUCE_OVERHEAD}", results[GRAPH], graphs, 1.15))
    return [
        f"| {task.name}, {name} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} "
        f"| {target} | {waited} |"
        for name, ours, theirs, target in rows
    ]


def run_script(*words: str) -> None:
    """Run a script of this project in another process, which prints its results here."""
    print(flush=True)
    subprocess.run([sys.executable, *words], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured")
        return
    device = torch.device(arguments.device)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "processor"
    today = datetime.datetime.now(datetime.UTC).date()
    print(f"{name}, torch {torch.__version__}, {today}")
    run_script(str(ROOT / "tests" / "golden" / "gpu_losses.py"), arguments.device)
    print()
    print("| what | SightX | peer | times | target | longest wait for data |")
    print("|---|---|---|---|---|---|")
    for task in TINY if arguments.tiny else TASKS:
        bench = Bench(task, device, arguments.steps, tiny=arguments.tiny)
        print("\n".join(measure(bench, arguments.rounds)), flush=True)
    cores = str(len(os.sched_getaffinity(0)))
    size = (
        ["--rounds", "1", "--images", "8"]
        if arguments.tiny
        else ["--rounds", "3", "--images", "400"]
    )
    run_script(str(ROOT / "benchmarks" / "first_epoch.py"), "--threads", cores, *size)


if __name__ == "__main__":
    main()
