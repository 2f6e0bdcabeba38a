"""Time a step against a bare loop in plain torch, and against Lightning, in the same run.

    python benchmarks/step.py [--rounds 9] [--steps 1500] [--only overhead|resnet50]

`overhead`: a 48-84-50-2 perceptron, batch 32, all in memory. The bare loop takes float batches
from a list and steps torch's fused Adam; SightX gathers uint8 rows, normalises, seeds the
generators, checks the loss and counts correct answers. Lightning's `barebones` trainer takes the
bare loop's batches and Adam; it is left out if it is not installed (`pip install "sightx[bench]"`).
Targets: at most 30 us over the bare loop, and at most 0.55 times Lightning's step.

`resnet50`: a training step in bf16 on the processor, images of 224 px, batch 8, against a plain
fp32 loop over the same network with torch's Adam. Target: 1.8 times as fast.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from functools import partial
from importlib.util import find_spec
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import torch
from rounds import Case, medians, table
from torch import nn

from sightx import Experiment
from sightx.builtin import (
    checkpoints,
    losses,
    metrics,
    normalize,
    optimizers,
    preprocess,
    samplers,
    schedulers,
    splits,
    stopping,
)
from sightx.builtin.datasets.synthetic_fundus import SyntheticFundus
from sightx.builtin.models.resnet import ResNet50
from sightx.builtin.models.simplenet import SimpleNet
from sightx.data.dataset import PreparedDataset
from sightx.plugin import ImageTable, Model, Optimizer, Step
from sightx.records.pixels import PixelRows
from sightx.spec.experiment import Training
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer

CPU = torch.device("cpu")
BARE, SIGHTX, LIGHTNING = "bare loop, fused Adam", "SightX", "Lightning barebones"
PLAIN = "plain fp32 loop"


class Workload:
    """Random images of two classes in memory, an experiment on them, and float batches of them."""

    def __init__(
        self, model: Model, optimizer: Optimizer, size: int, batch: int, steps: int, precision: Any
    ) -> None:
        self.steps, count = steps, batch * steps
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, count)
        pixels = torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))
        frame = pd.DataFrame({"path": labels.astype(str), "label": labels, "group": ""})
        empty = np.arange(0)
        self.dataset = PreparedDataset(
            table=ImageTable(frame, ("a", "b"), lambda _: b""),
            rows=PixelRows.of(pixels),
            splits={"train": np.arange(count), "validation": empty, "test": empty},
            id="",
        )
        self.experiment = Experiment(
            name="step",
            dataset=SyntheticFundus(),
            split=splits.Stratified(),
            preprocess=(preprocess.Resize(size=size),),
            normalize=normalize.ImageNet(),
            sampler=samplers.Shuffle(),
            model=model,
            loss=losses.CrossEntropy(),
            optimizer=optimizer,
            scheduler=schedulers.Constant(),
            metric=(metrics.Accuracy(),),
            checkpoint=(checkpoints.Last(),),
            stopping=stopping.Never(),
            training=Training(
                epochs=1, batch_size=batch, monitor="train/loss", precision=precision
            ),
        )
        first = slice(0, min(count, 100 * batch))  # they are repeated
        images = (pixels[first].float() / 255 - 0.45) / 0.225
        targets = torch.from_numpy(labels[first])
        self.batches = list(zip(images.split(batch), targets.split(batch), strict=True))

    def module(self) -> nn.Module:
        """Return the network with fresh weights."""
        shape = self.dataset.rows.shape
        return build_module(self.experiment.model, self.experiment.loss, 2, shape, 0)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield a float batch for every step."""
        for step in range(self.steps):
            yield self.batches[step % len(self.batches)]


def seconds_per_step(times: list[float]) -> float:
    """Return the median over blocks of 50 steps, or over single steps if there are few."""
    block = 50 if len(times) > 500 else 1
    return float(np.median(np.diff(times[::block]))) / block


def sightx(workload: Workload) -> float:
    trainer = Trainer(workload.experiment, workload.dataset, workload.module(), CPU)
    return seconds_per_step([time.perf_counter() for e in trainer.events() if isinstance(e, Step)])


def bare(workload: Workload, fused: bool) -> float:
    module, loss_of, times = workload.module(), nn.CrossEntropyLoss(), []
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=fused)
    for images, targets in workload:
        optimizer.zero_grad()
        loss = loss_of(module(images), targets)
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter())
    return seconds_per_step(times)


def lightning(workload: Workload) -> float:
    import lightning as pl

    times: list[float] = []

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss_of = workload.module(), nn.CrossEntropyLoss()

        def training_step(self, batch: Any) -> torch.Tensor:
            times.append(time.perf_counter())
            return self.loss_of(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"), redirect_stderr(StringIO()):
        trainer = pl.Trainer(barebones=True, max_epochs=1, accelerator="cpu")
        trainer.fit(Net(), workload)
    return seconds_per_step(times)


def serve(case: str, steps: int) -> None:
    """Print the seconds of a step for every line on standard input."""
    workload = Workload(SimpleNet(hidden=(84, 50)), optimizers.Adam(), 4, 32, steps, "fp32")
    cases: dict[str, Case] = {
        BARE: partial(bare, workload, True),
        SIGHTX: partial(sightx, workload),
        LIGHTNING: partial(lightning, workload),
    }
    for _ in sys.stdin:
        print(cases[case](), flush=True)


@contextmanager
def case_in_process(case: str, steps: int) -> Iterator[Case]:
    """Measure a case in its own process: Lightning slows torch down for a whole process."""
    command = [sys.executable, __file__, "--serve", case, "--steps", str(steps)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:

        def measure() -> float:
            assert process.stdin
            assert process.stdout
            print(file=process.stdin, flush=True)
            return float(process.stdout.readline())

        yield measure


def overhead(rounds: int, steps: int) -> None:
    names = [BARE, SIGHTX, *([LIGHTNING] if find_spec("lightning") else [])]
    with ExitStack() as stack:
        cases = {name: stack.enter_context(case_in_process(name, steps)) for name in names}
        results = {name: 1e6 * value for name, value in medians(cases, rounds).items()}
    print("a step of a 48-84-50-2 perceptron, batch 32, all in memory")
    print(table(results, BARE, "us per step", more_is_better=False))
    print(f"SightX adds {results[SIGHTX] - results[BARE]:.1f} us (target: 30)")
    if LIGHTNING in results:
        ratio = results[SIGHTX] / results[LIGHTNING]
        print(f"SightX takes {ratio:.3f} of Lightning barebones (target: 0.55)")
    else:
        print("Lightning is not installed: skipped")


def resnet50(rounds: int) -> None:
    def workload(precision: str) -> Workload:
        return Workload(ResNet50(), optimizers.Adam(), 224, 8, 4, precision)

    slow, fast = workload("fp32"), workload("bf16")
    cases: dict[str, Case] = {
        PLAIN: partial(bare, slow, False),
        "SightX fp32": partial(sightx, slow),
        "SightX bf16": partial(sightx, fast),
    }
    results = {name: 8 / value for name, value in medians(cases, rounds).items()}
    print(f"ResNet50, batch 8, {torch.get_num_threads()} threads")
    print(table(results, PLAIN, "images/s", more_is_better=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", choices=["overhead", "resnet50"])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.steps)
        return
    if arguments.only != "resnet50":
        overhead(arguments.rounds, arguments.steps)
    if arguments.only != "overhead":
        resnet50(max(arguments.rounds // 3, 1))


if __name__ == "__main__":
    main()
