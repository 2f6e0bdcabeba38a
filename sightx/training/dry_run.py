"""What a run would find and need: the data opened, the network assembled on the meta device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from sightx.data import dataset, preprocess
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
    """Say what was found without decoding an image or holding a weight.

    `counts` has a number a class for each side; `shape` and `outputs` are those of one
    micro-batch; `memory` is in bytes, for weights, gradients, the optimizer's state and what the
    backward pass keeps of a micro-batch, in fp32; `problems` are what the checks of the stages data
    and device found.
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
        """Return it in two lines: the data, the network."""
        sides = ", ".join(f"{sum(counts):,} {side}" for side, counts in self.counts.items())
        needs = f"{self.memory / 1e9:.2f} GB for one step"
        return [
            f"data: {sides} samples of {len(self.classes)} classes; no image was decoded",
            f"network: {self.shape} to {self.outputs}, "
            f"{self.trainable:,} of {self.weights:,} weights learn, {needs}",
        ]


def dry_run(experiment: Experiment) -> DryRun:
    """Open the data and assemble the network.

    Raises ResourceError without the device, DataError for the first fault of the table or where
    files are missing, SpecError where the parts of the network do not go together.
    """
    device = setup.choose_device(experiment.execution.device)
    table = dataset.load_split_table(experiment.dataset, experiment.split)
    dataset.check_missing_files(table, experiment.dataset)
    split = table.frame["split"].to_numpy()
    counts = {side: table.counts((split == side).nonzero()[0]) for side in SPLITS}
    shape = preprocess.output_shape(experiment.preprocess, table.shape)
    with _META:
        module = setup.build_module(
            experiment.model, experiment.loss, len(table.classes), shape, experiment.seed
        )
        setup.freeze(module, experiment.model.trainable)
        settings = experiment.training
        batch = (min(settings.micro_batch_size or settings.batch_size, settings.batch_size), *shape)
    outputs, memory = _step(experiment, module, batch)
    sizes = [(weight.numel(), weight.requires_grad) for weight in module.parameters()]
    return DryRun(
        classes=table.classes,
        counts=counts,
        shape=batch,
        outputs=outputs,
        weights=sum(size for size, _ in sizes),
        trainable=sum(size for size, learns in sizes if learns),
        memory=memory,
        problems=(
            *checks.run_checks(experiment, "data", table=table),
            *checks.run_checks(experiment, "device", device=device),
        ),
    )


def _step(
    experiment: Experiment, module: nn.Module, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], int]:
    """Make one step without data; return the shape of the outputs and the bytes it needs."""
    optimizer = experiment.optimizer.build(setup.param_groups(module, experiment.optimizer))
    setup.train_mode(module)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = _bytes(tensor)
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
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
    activations = sum(size for key, size in kept.items() if key not in weights)
    total = sum(weights.values()) + gradients + state + activations
    return tuple(outputs.shape), total


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
