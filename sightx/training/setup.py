"""Build what a trainer needs: device, network, frozen parts, groups of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from sightx.errors import PluginError, Problem, ResourceError, SpecError
from sightx.registry.components import Component, call_declared
from sightx.registry.kinds import Loss, Model, Optimizer
from sightx.seeds import seed_of

# Modules of torch that never draw, and the exceptions there.
_STILL = (
    "activation", "batchnorm", "container", "conv", "flatten", "linear", "normalization",
    "padding", "pooling",
)  # fmt: skip
_DRAWING = (nn.RReLU, nn.MultiheadAttention, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` takes cuda, then mps, then the processor.

    Raises ResourceError where the machine has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, found in there.items() if found), "cpu"))
    device = torch.device(name)
    if not there.get(device.type, True) or (device.index or 0) >= max(torch.cuda.device_count(), 1):
        message = f"this machine has no {name}"
        raise ResourceError(Problem("no-device", message, 'device = "auto"', "execution.device"))
    return device


def build_module(
    model: Model, loss: Loss, classes: int, shape: tuple[int, int, int], seed: int
) -> nn.Module:
    """Return the network with fresh weights, drawn on the CPU so that every device starts equal.

    Raises SpecError where the settings and the shape do not go together.
    """
    channels, height, width = shape
    try:
        with torch.random.fork_rng(devices=[]):  # whoever calls keeps their own draws
            torch.default_generator.manual_seed(seed_of(seed, "weights"))
            module: nn.Module = call_declared(
                model.build, channels=channels, outputs=loss.outputs(classes), size=(height, width)
            )
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise SpecError(Problem("cannot-build", f"{model.name}: {error}", path="model")) from error
    if not isinstance(module, nn.Module):
        message = f"the model {model.name} built {module!r}, no torch module"
        raise PluginError(Problem("broken-plugin", message, "build returns the network", "model"))
    return module


def to_channels_last(module: nn.Module, device: torch.device, precision: str) -> None:
    """Let convolutions keep channels last in memory, where that computes faster.

    Measured: on a processor in either precision, on CUDA with bf16. Only networks whose parts are
    all known to bear it are changed: a stranger's `view` would fail on such activations.
    """
    faster = device.type == "cpu" or (device.type == "cuda" and precision == "bf16")
    if faster and all(_bears_channels_last(type(part)) for part in module.modules()):
        for weight in module.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def uses_rng(module: nn.Module, *components: Component) -> bool:
    """Say whether a forward pass, or a component, may draw from torch's generators.

    Not if all parts are known never to, and all components are SightX's own.
    """
    own = all(type(each).__module__.startswith("sightx.builtin.") for each in components)
    return not (own and all(_is_still(part) for part in module.modules()))


def _is_still(part: nn.Module) -> bool:
    package, _, name = type(part).__module__.rpartition(".")
    known = package == "torch.nn.modules" and name in _STILL and not isinstance(part, _DRAWING)
    changed = part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
    return (known or (package, name) == ("torchvision.models", "resnet")) and not changed


def _bears_channels_last(part: type[nn.Module]) -> bool:
    return part.__module__.startswith(("torch.nn.modules.", "torchvision.", "sightx.builtin."))


def freeze(module: nn.Module, trainable: Sequence[str]) -> None:
    """Let only the weights of the named parts learn; no name lets all of them.

    Raises SpecError for a name that matches nothing.
    """
    for pattern in trainable:
        if not any(matches_pattern(name, pattern) for name, _ in module.named_parameters()):
            parts = ", ".join(name for name, _ in module.named_children())
            message = f"no part is called {pattern!r}"
            raise SpecError(Problem("unknown-part", message, f"parts: {parts}", "model.trainable"))
    for name, weight in module.named_parameters():
        weight.requires_grad_(not trainable or any(matches_pattern(name, p) for p in trainable))


def matches_pattern(name: str, pattern: str) -> bool:
    """Say whether a weight's name is a part's, or fits a pattern."""
    return name == pattern or name.startswith(pattern + ".") or fnmatchcase(name, pattern)


def train_mode(module: nn.Module) -> None:
    """Put a network into training mode, but parts without any learning weight into evaluation.

    So a frozen batch normalisation keeps its statistics, and frozen dropout lets all pass.
    """
    module.train()
    for part in module.modules():
        weights = list(part.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            part.eval()


def param_groups(module: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the learning weights in the groups that the optimizer names; empty ones are dropped.

    Raises SpecError for a group that matches nothing.
    """
    wanted = [(group.match, group.lr) for group in optimizer.group] + [(("*",), optimizer.lr)]
    found: list[dict[str, Any]] = [
        {"params": [], "lr": lr, "name": " ".join(patterns)} for patterns, lr in wanted
    ]
    for name, weight in _learning(module):
        home = next(
            group
            for group, (patterns, _) in zip(found, wanted, strict=True)
            if any(matches_pattern(name, pattern) for pattern in patterns)
        )
        home["params"].append(weight)
    for group in found[:-1]:
        if not group["params"]:
            message = f"no learning weight matches {group['name']!r}"
            raise SpecError(Problem("empty-group", message, "", "optimizer.group"))
    return [group for group in found if group["params"]]


def _learning(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, weight) for name, weight in module.named_parameters() if weight.requires_grad)
