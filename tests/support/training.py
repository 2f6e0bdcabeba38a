"""A small training problem in memory: pixels, an experiment built in Python, and its trainer."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from sightx.builtin import losses
from sightx.data.dataset import PreparedDataset
from sightx.distributed.collectives import Collectives
from sightx.plugin import Epoch, Model, Step
from sightx.records.pixels import PixelRows
from sightx.records.table import ImageTable
from sightx.spec.experiment import Experiment, Training
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer
from support import experiments

CPU = torch.device("cpu")
SIZE = 6


class Cnn(Model):
    """A network with everything that has a state or draws: batch normalisation and dropout."""

    name = "test-cnn"
    capturable = channels_last = True
    dropout: float = 0.3

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Dropout(self.dropout), nn.Linear(4 * (size[0] - 2) * (size[1] - 2), outputs),
        )  # fmt: skip


class Warm(losses.CrossEntropy):
    """Cross-entropy with a learned temperature."""

    name = "test-warm"

    def build(self, *, class_counts: Any) -> nn.Module:
        return WarmLoss()


class WarmLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(0.1 * torch.randn(3))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        scaled = outputs * self.scale.exp()
        return nn.functional.cross_entropy(scaled, targets, reduction="none")


class NaNOnce(losses.CrossEntropy):
    """A loss that is NaN once, in the seventh micro-batch."""

    name = "test-nan-once"

    def build(self, *, class_counts: Any) -> nn.Module:
        return NaNOnceLoss()


class NaNOnceLoss(nn.CrossEntropyLoss):
    calls = 0

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += outputs.requires_grad  # validation calls it too
        losses = nn.functional.cross_entropy(outputs, targets, reduction="none")
        return losses * float("nan") if self.calls == 7 else losses


class AlwaysDropout(nn.Module):
    """Dropout that evaluation does not switch off."""

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.dropout(values, 0.5, training=True)


def make_dataset() -> PreparedDataset:
    """Return 90 learnable images of three uneven classes: 60 to train, 30 to validate.

    The column `weight` has the texts 1.0, 1.5 and 2.0.
    """
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1, 2], [50, 28, 12])[rng.permutation(90)]
    level = labels.reshape(-1, 1, 1, 1) * 55 + 60
    noise = rng.normal(0, 45, (90, 3, SIZE, SIZE))
    pixels = torch.from_numpy((level + noise).clip(0, 255).astype(np.uint8))
    frame = pd.DataFrame({"path": [f"{i}.png" for i in range(90)], "label": labels, "group": ""})
    frame["weight"] = [str(1 + row % 3 / 2) for row in range(90)]
    table = ImageTable(frame, ("a", "b", "c"), lambda index: b"", columns=("weight",))
    splits = {"train": np.arange(60), "validation": np.arange(60, 90), "test": np.arange(0)}
    return PreparedDataset(table, PixelRows.of(pixels), splits, "0")


def make_experiment(*, training: dict[str, Any] | None = None, **parts: Any) -> Experiment:
    """Return an experiment; keywords replace its parts, `training` holds fields of Training."""
    settings = {"epochs": 3, "batch_size": 16, "monitor": "validation/loss"} | (training or {})
    return experiments.make_experiment(training=Training(**settings), **parts)


def make_trainer(
    experiment: Experiment,
    dataset: PreparedDataset,
    device: torch.device = CPU,
    *,
    module: nn.Module | None = None,
    collectives: Collectives | None = None,
) -> Trainer:
    """Return a trainer of a network, which is the experiment's own if none is given."""
    classes, shape = len(dataset.table.classes), dataset.rows.shape
    module = module or build_module(
        experiment.model, experiment.loss, classes, shape, experiment.seed
    )
    return Trainer(experiment, dataset, module, device, collectives)


def train(trainer: Trainer) -> tuple[list[float], list[Epoch]]:
    """Train to the end; return the loss of every step, and the epochs."""
    events = list(trainer.events())
    losses = [float(event.loss) for event in events if isinstance(event, Step)]
    return losses, [event for event in events if isinstance(event, Epoch)]


def train_until(trainer: Trainer, step: int) -> Trainer:
    """Train until a step of the run is done; return the trainer."""
    for event in trainer.events() if step else ():
        if isinstance(event, Step) and event.step == step:
            break
    return trainer


def resumed(stopped: Trainer, fresh: Trainer) -> Trainer:
    """Return a fresh trainer with the state of a stopped one."""
    fresh.restore(copy.deepcopy(stopped.state()))
    return fresh


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers."""
    return copy.deepcopy(trainer.module.state_dict())


def assert_same_weights(one: Trainer, other: Trainer) -> None:
    """Assert that two networks are equal to the bit."""
    for name, value in one.module.state_dict().items():
        assert torch.equal(value, other.module.state_dict()[name]), name
