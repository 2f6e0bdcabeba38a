"""Everything that a plugin author imports.

- Kinds to subclass: Dataset, Split, Preprocess, Normalize, Augment, Sampler, Model, Loss,
  Optimizer, Scheduler, Average, Postprocess, Quality, Metric, Checkpoint, Stopping, Observer.
- Types of fields, arguments and results: Settings, ParamGroup, File, Place, Location, Weights and
  WEIGHTS_SUFFIXES, Shape, Traits, Statistics, Params, Direction.
- `hookimpl`, which marks hooks; Check and Finding, for checks; errors, each with a Problem.
- Records that methods get or return: ImageTable, Survey, PixelRows, Predictions, History, Series,
  Epoch, Step, ValidationBatch, Experiment, RunInfo.
- Helpers: Surveyor, Faults, random generators and seeds, files and tables, parameter groups, other
  components, hints for misspelt names, plots, the table of final metrics.

Built-in components import only this module, like those of any other plugin. Importing it loads
neither torch nor pandas: heavy names are imported on first use.
"""

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
    counted,
    did_you_mean,
    printable,
    suggest,
)
from sightx.records import OWN_COLUMNS, SPLITS, split_called
from sightx.records.history import Direction
from sightx.records.metric_rows import metric_rows, number_text
from sightx.registry.components import (
    WEIGHTS_SUFFIXES,
    Component,
    File,
    Location,
    ParamGroup,
    Place,
    Settings,
    Shape,
    Traits,
    Weights,
    call_declared,
    to_plain,
)
from sightx.registry.hooks import Check, Finding, hookimpl
from sightx.registry.introspection import field_descriptions
from sightx.registry.kinds import (
    Augment,
    Average,
    Checkpoint,
    Dataset,
    Loss,
    Metric,
    Model,
    Normalize,
    Observer,
    Optimizer,
    Params,
    Postprocess,
    Preprocess,
    Quality,
    Sampler,
    Scheduler,
    Split,
    Statistics,
    Stopping,
)

if TYPE_CHECKING:
    from sightx.audit.image_properties import image_properties
    from sightx.audit.quality import QUALITY_DIRECTIONS, measure_quality
    from sightx.data.classes import (
        class_name,
        class_positions,
        find_classes,
        likely_order,
        require_order,
    )
    from sightx.data.csv_labels import require_folder
    from sightx.data.csv_reader import header_problems, read_csv
    from sightx.data.csv_table import table_from_csv
    from sightx.data.decode.formats import is_image_name, read_format
    from sightx.data.loader.augment import to_device
    from sightx.data.torch_adapter import as_torch_dataset, table_from_torch
    from sightx.evaluation.formulas import (
        jackknife_interval,
        mean_interval,
        roc_auc_interval,
        wilson,
    )
    from sightx.evaluation.plots import plot_confusion_matrix, plot_curves
    from sightx.evaluation.roc import roc_auc, weighted_roc_auc
    from sightx.export.pack import table_from_pack
    from sightx.export.shards import table_from_shards
    from sightx.io.files import file_reader, shell_path
    from sightx.io.locks import file_lock
    from sightx.io.streams import TolerantStream
    from sightx.records.events import Epoch, Step, ValidationBatch
    from sightx.records.faults import Faults, IncompleteTableError
    from sightx.records.history import History, Series
    from sightx.records.pixels import PixelRows
    from sightx.records.predictions import Predictions
    from sightx.records.run import RunInfo
    from sightx.records.survey import Survey, Surveyor
    from sightx.records.table import ImageTable
    from sightx.reporting.report import write_report
    from sightx.run_registry.summary import flatten_settings
    from sightx.seeds import generator, seed_of
    from sightx.spec.experiment import Experiment
    from sightx.training.param_groups import split_param_groups

# The module of each name that is imported on first use.
_LAZY = {
    "QUALITY_DIRECTIONS": "sightx.audit.quality",
    "Epoch": "sightx.records.events",
    "Experiment": "sightx.spec.experiment",
    "Faults": "sightx.records.faults",
    "History": "sightx.records.history",
    "ImageTable": "sightx.records.table",
    "IncompleteTableError": "sightx.records.faults",
    "PixelRows": "sightx.records.pixels",
    "Predictions": "sightx.records.predictions",
    "RunInfo": "sightx.records.run",
    "Series": "sightx.records.history",
    "Step": "sightx.records.events",
    "Survey": "sightx.records.survey",
    "Surveyor": "sightx.records.survey",
    "TolerantStream": "sightx.io.streams",
    "ValidationBatch": "sightx.records.events",
    "as_torch_dataset": "sightx.data.torch_adapter",
    "class_name": "sightx.data.classes",
    "class_positions": "sightx.data.classes",
    "file_lock": "sightx.io.locks",
    "flatten_settings": "sightx.run_registry.summary",
    "file_reader": "sightx.io.files",
    "find_classes": "sightx.data.classes",
    "generator": "sightx.seeds",
    "header_problems": "sightx.data.csv_reader",
    "image_properties": "sightx.audit.image_properties",
    "is_image_name": "sightx.data.decode.formats",
    "jackknife_interval": "sightx.evaluation.formulas",
    "likely_order": "sightx.data.classes",
    "measure_quality": "sightx.audit.quality",
    "mean_interval": "sightx.evaluation.formulas",
    "plot_confusion_matrix": "sightx.evaluation.plots",
    "plot_curves": "sightx.evaluation.plots",
    "read_csv": "sightx.data.csv_reader",
    "read_format": "sightx.data.decode.formats",
    "require_folder": "sightx.data.csv_labels",
    "require_order": "sightx.data.classes",
    "roc_auc": "sightx.evaluation.roc",
    "roc_auc_interval": "sightx.evaluation.formulas",
    "seed_of": "sightx.seeds",
    "shell_path": "sightx.io.files",
    "split_param_groups": "sightx.training.param_groups",
    "table_from_csv": "sightx.data.csv_table",
    "table_from_pack": "sightx.export.pack",
    "table_from_shards": "sightx.export.shards",
    "table_from_torch": "sightx.data.torch_adapter",
    "to_device": "sightx.data.loader.augment",
    "weighted_roc_auc": "sightx.evaluation.roc",
    "wilson": "sightx.evaluation.formulas",
    "write_report": "sightx.reporting.report",
}

__all__ = [
    "OWN_COLUMNS",
    "QUALITY_DIRECTIONS",
    "SPLITS",
    "WEIGHTS_SUFFIXES",
    "Augment",
    "Average",
    "Check",
    "Checkpoint",
    "Component",
    "DataError",
    "Dataset",
    "Direction",
    "Epoch",
    "Experiment",
    "Faults",
    "File",
    "Finding",
    "History",
    "ImageTable",
    "IncompleteTableError",
    "Location",
    "Loss",
    "Metric",
    "Model",
    "NonFiniteError",
    "Normalize",
    "Observer",
    "Optimizer",
    "ParamGroup",
    "Params",
    "PixelRows",
    "Place",
    "PluginError",
    "Postprocess",
    "Predictions",
    "Preprocess",
    "Problem",
    "Quality",
    "ResourceError",
    "RunError",
    "RunInfo",
    "Sampler",
    "Scheduler",
    "Series",
    "Settings",
    "Shape",
    "SightXError",
    "SpecError",
    "Split",
    "Statistics",
    "Step",
    "Stopping",
    "Survey",
    "Surveyor",
    "TolerantStream",
    "Traits",
    "ValidationBatch",
    "Weights",
    "as_torch_dataset",
    "call_declared",
    "class_name",
    "class_positions",
    "counted",
    "did_you_mean",
    "field_descriptions",
    "file_lock",
    "file_reader",
    "find_classes",
    "flatten_settings",
    "generator",
    "header_problems",
    "hookimpl",
    "image_properties",
    "is_image_name",
    "jackknife_interval",
    "likely_order",
    "mean_interval",
    "measure_quality",
    "metric_rows",
    "number_text",
    "plot_confusion_matrix",
    "plot_curves",
    "printable",
    "read_csv",
    "read_format",
    "require_folder",
    "require_order",
    "roc_auc",
    "roc_auc_interval",
    "seed_of",
    "shell_path",
    "split_called",
    "split_param_groups",
    "suggest",
    "table_from_csv",
    "table_from_pack",
    "table_from_shards",
    "table_from_torch",
    "to_device",
    "to_plain",
    "weighted_roc_auc",
    "wilson",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a heavy name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'sightx.plugin' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """List all public names, also those that are imported on first use."""
    return sorted(__all__)
