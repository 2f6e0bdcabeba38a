"""Experiments built in Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

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
from sightx.builtin.datasets.synthetic_fundus import SyntheticFundus
from sightx.builtin.models.simplenet import SimpleNet
from sightx.builtin.splits import Given, Stratified
from sightx.data.dataset import PreparedDataset, load_split_table, prepare_dataset
from sightx.records.table import ImageTable
from sightx.registry.kinds import Dataset, Split
from sightx.spec.experiment import Experiment


def make_experiment(**parts: Any) -> Experiment:
    """Return an experiment that trains a tiny network; keywords replace its parts."""
    defaults = {
        "name": "test",
        "dataset": SyntheticFundus(),
        "split": Stratified(),
        "preprocess": (preprocess.Resize(size=6),),
        "normalize": normalize.ImageNet(),
        "sampler": samplers.Shuffle(),
        "model": SimpleNet(hidden=(5,)),
        "loss": losses.CrossEntropy(),
        "optimizer": optimizers.Adam(lr=1e-2),
        "scheduler": schedulers.Constant(),
        "metric": (metrics.Accuracy(),),
        "checkpoint": (checkpoints.Last(),),
        "stopping": stopping.Never(),
    }
    return Experiment(**(defaults | parts))


def labelled(labels: Sequence[int]) -> ImageTable:
    """Return a table of samples with these labels and without images."""
    columns = {"path": [f"{row}.png" for row in range(len(labels))], "label": labels, "group": ""}
    classes = tuple(f"class {label}" for label in range(max(labels) + 1))
    return ImageTable(pd.DataFrame(columns), classes, lambda row: b"")


def prepared(
    dataset: Dataset, bad_images_csv: Path, split: Split | None = None, size: int = 4, **parts: Any
) -> PreparedDataset:
    """Load a dataset, split it as it says itself, and resize its images to `size`."""
    chain = (preprocess.Resize(size=size),)
    experiment = make_experiment(dataset=dataset, split=split or Given(), preprocess=chain, **parts)
    table = load_split_table(dataset, experiment.split)
    return prepare_dataset(experiment, table, bad_images_csv=bad_images_csv)
