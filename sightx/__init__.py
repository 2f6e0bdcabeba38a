"""SightX: declarative specs, named plugins, runs that can be judged again."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sightx.errors import (
    DataError,
    NonFiniteError,
    PluginError,
    Problem,
    ResourceError,
    RunError,
    SightXError,
    SpecError,
)
from sightx.registry.checks import Check, Finding
from sightx.registry.components import (
    Component,
    File,
    Group,
    Location,
    Place,
    Settings,
    Shape,
    Traits,
    Weights,
)
from sightx.registry.hookspecs import hookimpl
from sightx.registry.kinds import (
    Augment,
    Checkpoint,
    Dataset,
    Decide,
    Loss,
    Metric,
    Model,
    Normalize,
    Observer,
    Optimizer,
    Prepare,
    Sampler,
    Scheduler,
    Split,
    Stopping,
)

if TYPE_CHECKING:
    from sightx.data.augmentation import to_device
    from sightx.data.labels import labelled_folder, table_from_csv
    from sightx.data.packs import table_from_pack
    from sightx.data.rows import Rows
    from sightx.data.shards import table_from_shards
    from sightx.data.table import ImageTable, file_reader
    from sightx.evaluation.plots import confusion as confusion_plot
    from sightx.evaluation.plots import curves as curves_plot
    from sightx.evaluation.predictions import Predictions
    from sightx.inference.predictor import Predictor
    from sightx.runner import resume, run, table
    from sightx.runs.directory import Run, open_run
    from sightx.seeds import generator, seed_of
    from sightx.spec.experiment import Experiment
    from sightx.spec.resolve import load
    from sightx.training.events import Epoch, Step, ValidationBatch
    from sightx.training.history import History, Series

# Where each heavy name lives; `module:name` where it has another name there.
_LAZY = {
    "Epoch": "sightx.training.events",
    "Experiment": "sightx.spec.experiment",
    "History": "sightx.training.history",
    "ImageTable": "sightx.data.table",
    "Predictions": "sightx.evaluation.predictions",
    "Predictor": "sightx.inference.predictor",
    "Rows": "sightx.data.rows",
    "Run": "sightx.runs.directory",
    "Series": "sightx.training.history",
    "Step": "sightx.training.events",
    "ValidationBatch": "sightx.training.events",
    "confusion_plot": "sightx.evaluation.plots:confusion",
    "curves_plot": "sightx.evaluation.plots:curves",
    "file_reader": "sightx.data.table",
    "generator": "sightx.seeds",
    "labelled_folder": "sightx.data.labels",
    "load": "sightx.spec.resolve",
    "open_run": "sightx.runs.directory",
    "resume": "sightx.runner",
    "run": "sightx.runner",
    "seed_of": "sightx.seeds",
    "table": "sightx.runner",
    "table_from_csv": "sightx.data.labels",
    "table_from_pack": "sightx.data.packs",
    "table_from_shards": "sightx.data.shards",
    "to_device": "sightx.data.augmentation",
}

__all__ = [
    "Augment",
    "Check",
    "Checkpoint",
    "Component",
    "DataError",
    "Dataset",
    "Decide",
    "Epoch",
    "Experiment",
    "File",
    "Finding",
    "Group",
    "History",
    "ImageTable",
    "Location",
    "Loss",
    "Metric",
    "Model",
    "NonFiniteError",
    "Normalize",
    "Observer",
    "Optimizer",
    "Place",
    "PluginError",
    "Predictions",
    "Predictor",
    "Prepare",
    "Problem",
    "ResourceError",
    "Rows",
    "Run",
    "RunError",
    "Sampler",
    "Scheduler",
    "Series",
    "Settings",
    "Shape",
    "SightXError",
    "SpecError",
    "Split",
    "Step",
    "Stopping",
    "Traits",
    "ValidationBatch",
    "Weights",
    "confusion_plot",
    "curves_plot",
    "file_reader",
    "generator",
    "hookimpl",
    "labelled_folder",
    "load",
    "open_run",
    "resume",
    "run",
    "seed_of",
    "table",
    "table_from_csv",
    "table_from_pack",
    "table_from_shards",
    "to_device",
]


def __getattr__(name: str) -> Any:
    """Import what is heavy only when it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'sightx' has no attribute {name!r}")
    module, _, other = _LAZY[name].partition(":")
    return getattr(importlib.import_module(module), other or name)
