"""The kinds of component: the manual for plugin authors.

Subclass one kind, give the class a `name` and fields, and implement the methods that raise
NotImplementedError here; the others have useful defaults. Each method is called with only the
arguments that it declares. Methods called *pure* return the same result whenever they get the same
arguments, keep nothing on `self` and modify no argument: exact resuming depends on it. Checks take
a field `monitor` as the name of a metric, and `patience`, `step_size` and `start_epoch` as numbers
of epochs.

In shapes, N is the number of samples of a table or split and B of a batch, C the number of channels
(3 for RGB), H and W are height and width in pixels, and K is the number of outputs of a network.
"""

from __future__ import annotations

from sightx.registry.components import Component, ParamGroup
from sightx.registry.kinds.data import (
    Augment,
    Dataset,
    Normalize,
    Params,
    Preprocess,
    Sampler,
    Split,
    Statistics,
)
from sightx.registry.kinds.evaluation import (
    Checkpoint,
    Metric,
    Observer,
    Postprocess,
    Quality,
    Stopping,
)
from sightx.registry.kinds.training import Average, Loss, Model, Optimizer, Scheduler

KINDS: tuple[type[Component], ...] = (
    Dataset, Split, Preprocess, Normalize, Augment, Sampler, Model, Loss,
    Optimizer, Scheduler, Average, Postprocess, Quality, Metric, Checkpoint, Stopping, Observer,
)  # fmt: skip

__all__ = [
    "KINDS", "Augment", "Average", "Checkpoint", "Dataset", "Loss", "Metric", "Model", "Normalize",
    "Observer", "Optimizer", "ParamGroup", "Params", "Postprocess", "Preprocess", "Quality",
    "Sampler", "Scheduler", "Split", "Statistics", "Stopping",
]  # fmt: skip
