"""A dry run: open the data and build the network on the meta device, without training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sightx.data import dataset, preprocess
from sightx.data.checks import check_missing_files
from sightx.errors import Problem, SpecError, first_line
from sightx.evaluation import metrics
from sightx.records import SPLITS
from sightx.records.table import ImageTable
from sightx.registry import results
from sightx.registry.failures import expected_failure
from sightx.spec import check_runner
from sightx.spec.experiment import Experiment, Training
from sightx.training import setup
from sightx.training.param_groups import build_optimizer
from sightx.training.schedule import Schedule
from sightx.training.step import Criterion
from sightx.training.weights import LoadedWeights, fit_weights
from sightx.training.weights_file import Tables

if TYPE_CHECKING:
    from torch import Tensor

_CPU, _META = torch.device("cpu"), torch.device("meta")
_FEW_VALUES = 1 << 20  # of a batch of images: 85 of 64 x 64 pixels, or 6 of 224 x 224


@dataclass(frozen=True)
class DryRun:
    """What a run would use, computed without decoding an image or allocating a weight.

    `counts` has the number of samples per class of each split. `shape` (B, C, H, W) and `outputs`
    (B, K) are those of a micro-batch. `memory` is in bytes: weights, gradients, optimizer state and
    the activations that the backward pass of a micro-batch needs, in fp32. `loaded` describes what
    the network takes from a file of weights. `problems` are those of the checks of data and device;
    `unused` are lines about what the dataset did not use.
    """

    classes: Sequence[str]
    counts: Mapping[str, Sequence[int]]
    shape: tuple[int, ...]
    outputs: tuple[int, ...]
    weights: int
    trainable: int
    memory: int
    loaded: LoadedWeights | None = None
    problems: Sequence[Problem] = ()
    unused: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Return lines of text about the data, the network and the file of its weights."""
        splits = ", ".join(f"{sum(counts):,} {split}" for split, counts in self.counts.items())
        memory = f"{self.memory / 1e9:.2f} GB for one step"
        return [
            f"data: {splits} samples of {len(self.classes)} classes; no image was decoded",
            *self.unused,
            f"network: {self.shape} to {self.outputs}, "
            f"{self.trainable:,} of {self.weights:,} weights are trained, {memory}",
            *([str(self.loaded)] if self.loaded else []),
        ]


def dry_run(experiment: Experiment, source: str = "none", tables: Tables | None = None) -> DryRun:
    """Open the data and build the network.

    `source` and `tables` are the file of the initial weights and its tables of tensors, if any.

    Raises ResourceError if the device is missing or the folder of the cache has other contents,
    DataError for the first fault of the table or if files are missing, SpecError if the parts of
    the network do not fit together, RunError if the initial weights do not fit.
    """
    device = setup.choose_device(experiment.execution.device)
    if experiment.execution.cache != "off":
        dataset.CacheConfig.of(experiment).cache.require_own()
    table = dataset.load_split_table(experiment.dataset, experiment.split)
    check_missing_files(table, experiment.dataset)
    splits = table.frame["split"].to_numpy()
    counts = {split: table.counts((splits == split).nonzero()[0]) for split in SPLITS}
    shape = preprocess.output_shape(experiment.preprocess, table.shape)
    module = _build(experiment, table, _META)
    model = experiment.model
    head = partial(setup.head_tensors, model, experiment.loss, module, len(table.classes), shape)
    loaded = fit_weights(model, module, source, tables, head).report if tables else None
    settings = experiment.training
    size = min(settings.micro_batch_size or settings.batch_size, settings.batch_size)
    check_batches(experiment, table)
    criterion = Criterion(experiment.loss, counts["train"], _META)
    outputs, memory = _train_step(experiment, module, (size, *shape), criterion)
    sizes = [(weight.numel(), weight.requires_grad) for weight in module.parameters()]
    return DryRun(
        classes=table.classes,
        counts=counts,
        shape=(size, *shape),
        outputs=outputs,
        weights=sum(count for count, _ in sizes),
        trainable=sum(count for count, is_trained in sizes if is_trained),
        memory=memory,
        loaded=loaded,
        unused=table.survey.lines(),
        problems=_problems(experiment, table, device),
    )


def _problems(experiment: Experiment, table: ImageTable, device: torch.device) -> list[Problem]:
    """Return what the checks of data and device find. Raises SpecError for equal names."""
    metrics.metric_directions(experiment.metric, table.classes)
    context = experiment.context
    return [
        *check_runner.run_checks(experiment, context, "data", table=table),
        *check_runner.run_checks(experiment, context, "device", device=device),
    ]


def check_batches(experiment: Experiment, table: ImageTable) -> None:
    """Raise SpecError if the network cannot train on a batch that this table's samples make.

    Raises PluginError if its outputs are not (B, K), also in evaluation, or have no gradient.

    Each size of a micro-batch is tried, a large one on the meta device. An error there counts only
    if it occurs on the CPU too, because some networks need values.
    """
    train = np.flatnonzero((table.frame["split"] == "train").to_numpy())
    count = len(Schedule(experiment, table, train).order(0))
    shape = preprocess.output_shape(experiment.preprocess, table.shape)
    build = cache(partial(_build, experiment, table))
    width = results.network_width(experiment.loss, len(table.classes))
    for size in micro_batch_sizes(count, experiment.training):
        images, expected = (size, *shape), (size, width)
        # Small batches are computed: the first use of the meta device imports torch's compiler.
        device = _CPU if math.prod(images) <= _FEW_VALUES else _META
        outputs, error = _forward(module := build(device), images, device)
        if error and device == _META:
            device = _CPU
            outputs, error = _forward(module := build(device), images, device)
        if error and not expected_failure(error):
            raise _batch_error(experiment.training, count, images, error)
        if not error:
            is_trained = any(weight.requires_grad for weight in module.parameters())
            model = experiment.model
            results.check_network_outputs(model, outputs, expected, has_gradient=is_trained)
            outputs, error = _forward(module.eval(), images, device)
            setup.train_mode(module)
            if not error:
                results.check_network_outputs(model, outputs, expected, mode="eval")


def _build(experiment: Experiment, table: ImageTable, device: torch.device) -> nn.Module:
    """Return a new network in training mode; on the meta device it takes no memory."""
    shape = preprocess.output_shape(experiment.preprocess, table.shape)
    with device:
        module = setup.build_module(
            experiment.model, experiment.loss, len(table.classes), shape, experiment.seed
        )
    setup.freeze(module, experiment.model.trainable)
    setup.train_mode(module)
    return module


def micro_batch_sizes(count: int, settings: Training) -> list[int]:
    """Return the sizes of the micro-batches of an epoch of `count` samples, the largest first."""
    sizes = set()
    for batch in {min(settings.batch_size, count), count % settings.batch_size} - {0}:
        micro = min(settings.micro_batch_size or batch, batch)
        sizes |= {micro, batch % micro} - {0}
    return sorted(sizes, reverse=True)


def _forward(
    module: nn.Module, shape: tuple[int, ...], device: torch.device
) -> tuple[Any, Exception | None]:
    """Return what a network returns for images (B, C, H, W), and what it raises."""
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            return module(torch.zeros(shape, device=device)), None
    except Exception as error:
        return None, error


def _batch_error(
    settings: Training, count: int, shape: tuple[int, ...], error: Exception
) -> SpecError:
    reason = str(error).partition("\n")[0]
    message = f"cannot train on a batch of {shape}: {reason}"
    hint = "preprocess to larger images, or choose another model"
    if shape[0] == 1 and (size := _size_without_single_sample(count, settings)):
        message = f"cannot train on the one sample that remains of {count}: {reason}"
        hint = f"training.batch_size = {size} leaves no single sample"
    return SpecError(Problem("cannot-train", message, hint, "model"))


def _size_without_single_sample(count: int, settings: Training) -> int:
    """Return the nearest batch size with which no micro-batch has one sample; 0 if none has."""
    sizes = sorted(range(2, count + 1), key=lambda size: abs(size - settings.batch_size))
    for size in sizes:
        if 1 not in micro_batch_sizes(count, settings.model_copy(update={"batch_size": size})):
            return size
    return 0


def _train_step(
    experiment: Experiment, module: nn.Module, shape: tuple[int, ...], criterion: Criterion
) -> tuple[tuple[int, ...], int]:
    """Train one step on the meta device; return the shape of the outputs and the bytes needed."""
    optimizer = build_optimizer(
        module, experiment.optimizer, experiment.model, criterion.parameters
    )
    saved: dict[int, int] = {}  # bytes by storage

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = _bytes(tensor)
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            outputs: Tensor = module(torch.empty(shape, device=_META))
    except (RuntimeError, ValueError) as error:
        message = f"cannot take images of {shape[1:]}: {first_line(error)}"
        hint = "preprocess to larger images, or choose another model"
        raise SpecError(Problem("cannot-build", message, hint, path="model")) from error
    outputs.sum().backward()  # type: ignore[no-untyped-call]
    if experiment.optimizer.passes > 1:
        optimizer.step(lambda: 0.0)  # the gradient stays as it is
    else:
        optimizer.step()
    weights = {weight.untyped_storage()._cdata: _bytes(weight) for weight in module.parameters()}
    gradients = sum(_bytes(w.grad) for w in module.parameters() if w.grad is not None)
    state = sum(
        _bytes(value)
        for values in optimizer.state.values()
        for value in values.values()
        if isinstance(value, torch.Tensor)
    )
    activations = sum(size for key, size in saved.items() if key not in weights)
    copies = 1 + (experiment.average is not None)
    total = copies * sum(weights.values()) + gradients + state + activations
    return tuple(outputs.shape), total


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
