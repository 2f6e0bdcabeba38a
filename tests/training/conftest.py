"""A little world without files: pixels in memory, an experiment made in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sightx.builtin import (
    checkpoints,
    losses,
    metrics,
    normalize,
    optimizers,
    preprocess,
    samplers,
    schedulers,
    stopping,
)
from sightx.builtin.datasets.synthetic import SyntheticFundus
from sightx.builtin.models.simplenet import SimpleNet
from sightx.builtin.splits import Stratified
from sightx.data.dataset import PreparedDataset
from sightx.records.pixels import PixelRows
from sightx.records.table import ImageTable
from sightx.spec.experiment import Experiment, Training

SIZE = 6


@pytest.fixture
def samples() -> PreparedDataset:
    """90 learnable images of three uneven classes: 60 to train, 30 to validate."""
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1, 2], [50, 28, 12])[rng.permutation(90)]
    level = labels.reshape(-1, 1, 1, 1) * 55 + 60
    noise = rng.normal(0, 45, (90, 3, SIZE, SIZE))
    pixels = torch.from_numpy((level + noise).clip(0, 255).astype(np.uint8))
    frame = pd.DataFrame({"path": [f"{i}.png" for i in range(90)], "label": labels, "group": ""})
    table = ImageTable(frame, ("a", "b", "c"), lambda index: b"")
    sides = {"train": np.arange(60), "validation": np.arange(60, 90), "test": np.arange(0)}
    return PreparedDataset(table, PixelRows.of(pixels), sides, "0")


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """Make an experiment; keywords replace its parts, `training` holds the runner's settings."""

    def make(*, training: dict[str, Any] | None = None, **parts: Any) -> Experiment:
        settings = {"epochs": 3, "batch_size": 16, "monitor": "validation/loss"}
        whole = {
            "name": "test",
            "dataset": SyntheticFundus(),
            "split": Stratified(),
            "preprocess": (preprocess.Resize(size=SIZE),),
            "normalize": normalize.ImageNet(),
            "sampler": samplers.Shuffle(),
            "model": SimpleNet(hidden=(5,)),
            "loss": losses.CrossEntropy(),
            "optimizer": optimizers.Adam(lr=1e-2),
            "scheduler": schedulers.Constant(),
            "metric": (metrics.Accuracy(),),
            "checkpoint": (checkpoints.Last(),),
            "stopping": stopping.Never(),
            "training": Training(**(settings | (training or {}))),
        }
        return Experiment(**(whole | parts))

    return make
