"""Build what a trainer needs: the device, the network, frozen parts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from sightx.data.dataset import PreparedDataset
from sightx.distributed.collectives import Collectives
from sightx.errors import DataError, Problem, ResourceError, SpecError, wrong_type
from sightx.registry import results
from sightx.registry.components import call_declared
from sightx.registry.kinds import Loss, Model
from sightx.seeds import seed_of
from sightx.spec.experiment import DEVICE_PATTERN


def choose_device(name: str, key: str = "execution.device") -> torch.device:
    """Return the device with this name; `auto` takes cuda, then mps, then the CPU.

    `key` is the setting that errors name, "" for none.

    Raises SpecError for what is not the name of a device, ResourceError if the machine does not
    have it.
    """
    if not isinstance(name, str) or not re.fullmatch(DEVICE_PATTERN, name):
        raise wrong_type("device", name, "auto, cpu, cuda, cuda:1 or mps")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind in available if available[kind]), "cpu"))
    device = torch.device(name)
    index_exists = (device.index or 0) < max(torch.cuda.device_count(), 1)
    if not available.get(device.type, True) or not index_exists:
        message = f"this machine has no device {name}"
        hint = "auto takes the best one that it has"
        raise ResourceError(Problem("no-device", message, hint, key))
    return device


def build_module(
    model: Model, loss: Loss, classes: int, shape: tuple[int, int, int], seed: int
) -> nn.Module:
    """Return the network with fresh weights, drawn on the CPU so that all devices start equal.

    Args:
        model: The component that builds the network.
        loss: Says how many outputs the network has for `classes` classes.
        classes: The number of classes.
        shape: The shape (C, H, W) of an image.
        seed: The seed of the experiment.

    Raises SpecError if the model cannot take images of this shape.
    """
    channels, height, width = shape
    outputs = results.network_width(loss, classes)
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it is
            torch.default_generator.manual_seed(seed_of(seed, "weights"))
            size = (height, width)
            return results.network(model, channels=channels, outputs=outputs, size=size)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise SpecError(Problem("cannot-build", f"{model.name}: {error}", path="model")) from error


def head_tensors(
    model: Model, loss: Loss, module: nn.Module, classes: int, shape: tuple[int, int, int]
) -> list[str]:
    """Return the names of the tensors of a network's head: those that depend on the classes.

    They are the tensors of `Model.head_parts`, or those whose shapes differ in a network with one
    more output. The other arguments are those of `build_module`.

    Raises PluginError for a part that the network does not have.
    """
    state = module.state_dict()
    parts = call_declared(model.head_parts, module=module)
    if parts is None:
        channels, height, width = shape
        outputs, size = results.network_width(loss, classes) + 1, (height, width)
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            wider = results.network(model, channels=channels, outputs=outputs, size=size)
        shapes = {name: tensor.shape for name, tensor in wider.state_dict().items()}
        return [name for name, tensor in state.items() if shapes.get(name) != tensor.shape]
    for part in parts:
        if not any(matches(name, part) for name in state):
            hint = f"parts: {', '.join(name for name, _ in module.named_children())}"
            raise results.wrong_result(
                model.head_parts, f"names {part!r}, which is not a part", hint
            )
    return [name for name in state if any(matches(name, part) for part in parts)]


def to_channels_last(module: nn.Module, model: Model, device: torch.device, precision: str) -> None:
    """Store convolution weights channels last, if the model allows it and that computes faster.

    Measured to be faster on a CPU in either precision, and on CUDA with bf16.
    """
    is_faster = device.type == "cpu" or (device.type == "cuda" and precision == "bf16")
    if model.channels_last and is_faster:
        for weight in module.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def freeze(module: nn.Module, trainable: Sequence[str]) -> None:
    """Freeze all parameters but those of the named parts; an empty list freezes nothing.

    Raises SpecError for a name that matches no parameter.
    """
    for pattern in trainable:
        if not any(matches(name, pattern) for name, _ in module.named_parameters()):
            parts = ", ".join(name for name, _ in module.named_children())
            message = f"no part is called {pattern!r}"
            raise SpecError(Problem("unknown-part", message, f"parts: {parts}", "model.trainable"))
    for name, weight in module.named_parameters():
        weight.requires_grad_(not trainable or any(matches(name, p) for p in trainable))


def matches(name: str, pattern: str) -> bool:
    """Return whether a parameter belongs to the part `pattern`, or matches it as a glob pattern."""
    return name == pattern or name.startswith(pattern + ".") or fnmatchcase(name, pattern)


def train_mode(module: nn.Module) -> None:
    """Put a network into training mode, except the parts whose parameters are all frozen.

    So a frozen batch normalisation keeps its running statistics.
    """
    module.train()
    for part in module.modules():
        weights = list(part.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            part.eval()


def check_same_data(collectives: Collectives, data: PreparedDataset) -> None:
    """Raise DataError on a rank whose samples, splits, labels or order differ from rank 0's."""
    if collectives.world_size == 1:
        return
    digest = hashlib.sha256(json.dumps(data.table.classes).encode())
    columns = (data.table.frame[name].astype(str) for name in ("path", "split", "label"))
    for row in zip(*columns, data.hashes, strict=True):
        digest.update("\0".join(row).encode("utf-8", "surrogateescape"))
    if collectives.broadcast_object(digest.hexdigest()) != digest.hexdigest():
        message = "its samples, their splits, labels or order differ from those of rank 0"
        hint = "give all hosts the same data and, to resume, the same run directory"
        raise DataError(Problem("other-data", message, hint))
    collectives.barrier()  # rank 0 changes the run only after all ranks have agreed
