"""A dry run: open the data and build the network on the meta device, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from sightx.data import dataset, preprocess
from sightx.data.checks import check_missing_files
from sightx.errors import Problem, SpecError
from sightx.records import SPLITS
from sightx.spec import checks
from sightx.spec.experiment import Experiment
from sightx.training import setup

if TYPE_CHECKING:
    from torch import Tensor

_META = torch.device("meta")


@dataclass(frozen=True)
class DryRun:
    """What a run would use, computed without decoding an image or allocating a weight.

    `counts` has the number of samples per class of each split. `shape` (B, C, H, W) and `outputs`
    (B, K) are those of a micro-batch. `memory` is in bytes: weights, gradients, optimizer state and
    the activations that the backward pass of a micro-batch needs, in fp32. `problems` are those of
    the checks of data and device.
    """

    classes: Sequence[str]
    counts: Mapping[str, Sequence[int]]
    shape: tuple[int, ...]
    outputs: tuple[int, ...]
    weights: int
    trainable: int
    memory: int
    problems: Sequence[Problem] = ()

    def lines(self) -> list[str]:
        """Return two lines of text: one about the data, one about the network."""
        splits = ", ".join(f"{sum(counts):,} {split}" for split, counts in self.counts.items())
        memory = f"{self.memory / 1e9:.2f} GB for one step"
        return [
            f"data: {splits} samples of {len(self.classes)} classes; no image was decoded",
            f"network: {self.shape} to {self.outputs}, "
            f"{self.trainable:,} of {self.weights:,} weights are trained, {memory}",
        ]


def dry_run(experiment: Experiment) -> DryRun:
    """Open the data and build the network.

    Raises ResourceError if the device is missing, DataError for the first fault of the table or if
    files are missing, SpecError if the parts of the network do not fit together.
    """
    device = setup.choose_device(experiment.execution.device)
    table = dataset.load_split_table(experiment.dataset, experiment.split)
    check_missing_files(table, experiment.dataset)
    splits = table.frame["split"].to_numpy()
    counts = {split: table.counts((splits == split).nonzero()[0]) for split in SPLITS}
    shape = preprocess.output_shape(experiment.preprocess, table.shape)
    with _META:
        module = setup.build_module(
            experiment.model, experiment.loss, len(table.classes), shape, experiment.seed
        )
        setup.freeze(module, experiment.model.trainable)
    settings = experiment.training
    size = min(settings.micro_batch_size or settings.batch_size, settings.batch_size)
    outputs, memory = _train_step(experiment, module, (size, *shape))
    sizes = [(weight.numel(), weight.requires_grad) for weight in module.parameters()]
    return DryRun(
        classes=table.classes,
        counts=counts,
        shape=(size, *shape),
        outputs=outputs,
        weights=sum(count for count, _ in sizes),
        trainable=sum(count for count, is_trained in sizes if is_trained),
        memory=memory,
        problems=(
            *checks.run_checks(experiment, experiment.context, "data", table=table),
            *checks.run_checks(experiment, experiment.context, "device", device=device),
        ),
    )


def _train_step(
    experiment: Experiment, module: nn.Module, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], int]:
    """Train one step on the meta device; return the shape of the outputs and the bytes needed."""
    optimizer = experiment.optimizer.build(setup.param_groups(module, experiment.optimizer))
    setup.train_mode(module)
    saved: dict[int, int] = {}  # bytes by storage

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = _bytes(tensor)
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            outputs: Tensor = module(torch.empty(shape, device=_META))
    except (RuntimeError, ValueError) as error:
        message = f"cannot take images of {shape[1:]}: {str(error).splitlines()[0]}"
        raise SpecError(Problem("cannot-build", message, path="model")) from error
    outputs.sum().backward()  # type: ignore[no-untyped-call]
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
    total = sum(weights.values()) + gradients + state + activations
    return tuple(outputs.shape), total


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
