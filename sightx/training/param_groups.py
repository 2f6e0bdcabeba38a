"""Parameter groups: which parameters share a learning rate, and how deep their layers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import nn

from sightx.errors import Problem, SpecError
from sightx.registry import results
from sightx.registry.kinds import Model, Optimizer
from sightx.training.setup import matches

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LOSS_GROUP = "loss"
_CONTAINERS = (nn.Sequential, nn.ModuleList)


def build_optimizer(
    module: nn.Module,
    optimizer: Optimizer,
    model: Model,
    loss_parameters: Mapping[str, nn.Parameter] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """Return the optimizer of the trainable parameters of a network that `model` has built.

    It trains those of the loss too, which belong to the last layer. Raises SpecError for a group of
    `optimizer` that matches no trainable parameter.
    """
    layers = layer_depths(module, model)
    layers |= dict.fromkeys(loss_parameters, max(layers.values(), default=0))
    groups = param_groups(module, optimizer, loss_parameters)
    return results.torch_optimizer(optimizer, groups, layers)


def spec_groups(optimizer: Optimizer) -> list[str]:
    """Return the names of the parameter groups that a spec names, and of that of all others."""
    return [*(" ".join(group.match) for group in optimizer.group), "*"]


def param_groups(
    module: nn.Module,
    optimizer: Optimizer,
    loss_parameters: Mapping[str, nn.Parameter] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the trainable parameters in the optimizer's groups, each in the first that matches.

    The last two groups have those of the loss and of the network that no group matches, and the
    optimizer's lr. Raises SpecError for a group that matches no trainable parameter.
    """
    patterns = [(group.match, group.lr) for group in optimizer.group]
    patterns += [((_LOSS_GROUP,), optimizer.lr)] if loss_parameters else []
    patterns += [(("*",), optimizer.lr)]
    groups: list[dict[str, Any]] = [
        {"params": [], "param_names": [], "lr": lr, "name": " ".join(match)}
        for match, lr in patterns
    ]
    for name, weight in [*module.named_parameters(), *loss_parameters.items()]:
        if weight.requires_grad:
            first = next(
                group
                for group, (match, _) in zip(groups, patterns, strict=True)
                if any(matches(name, pattern) for pattern in match)
            )
            first["params"].append(weight)
            first["param_names"].append(name)
    for group in groups[: len(optimizer.group)]:
        if not group["params"]:
            message = f"no trainable parameter matches {group['name']!r}"
            raise SpecError(Problem("empty-group", message, "", "optimizer.group"))
    if not any(group["params"] for group in groups):
        message = "the network has no parameter that is trained"
        raise SpecError(Problem("empty-group", message, "build one with weights", "model"))
    return [group for group in groups if group["params"]]


def split_param_groups(
    groups: Sequence[Mapping[str, Any]],
    layers: Mapping[str, int],
    *,
    layer_decay: float = 1.0,
    decay_norms_and_biases: bool = True,
) -> list[dict[str, Any]]:
    """Return parameter groups, split where parameters get their own learning rate or weight decay.

    Args:
        groups: Groups with the keys `params`, `param_names` and `lr`; other keys are kept.
        layers: The depth of the layer of each parameter, by name; 0 is the first layer.
        layer_decay: The learning rate of a layer is that of the next one times this factor
            (K. Clark et al., ELECTRA, ICLR 2020); that of the last layer stays.
        decay_norms_and_biases: If false, parameters with at most one dimension, and biases, get
            the weight decay 0 (as timm's `filter_bias_and_bn`).
    """
    if layer_decay == 1 and decay_norms_and_biases:
        return [dict(group) for group in groups]
    last = max(layers.values(), default=0)
    split: list[dict[str, Any]] = []
    for group in groups:
        parts: dict[tuple[int, bool], list[tuple[str, Tensor]]] = {}
        for name, weight in zip(group["param_names"], group["params"], strict=True):
            distance = last - layers[name] if layer_decay != 1 else 0
            has_decay = decay_norms_and_biases or (weight.ndim > 1 and not name.endswith(".bias"))
            parts.setdefault((distance, has_decay), []).append((name, weight))
        for (distance, has_decay), named in sorted(parts.items(), key=itemgetter(0), reverse=True):
            names, weights = map(list, zip(*named, strict=True))
            lr = group["lr"] * layer_decay**distance
            part = {**group, "params": weights, "param_names": names, "lr": lr}
            split.append(part if has_decay else {**part, "weight_decay": 0.0})
    return split


def layer_depths(module: nn.Module, model: Model) -> dict[str, int]:
    """Map the name of each parameter to the depth of its layer; the first layer has depth 0.

    Layers are the model's stages. Without them they are, in the order in which they are defined,
    the entries of `Sequential` and `ModuleList`, such as the blocks of a transformer, and the other
    modules before, between and after them. Parts that only have vectors, such as normalisation,
    and parameters of their own, such as position embeddings, belong to the layer before.
    """
    stages = results.network_stages(model, module)
    parts = ((stage, True) for stage in stages) if stages else _parts(module)
    names = {id(weight): name for name, weight in module.named_parameters()}
    depths: dict[str, int] = {}
    depth, is_complete = 0, False
    for part, recurse in parts:
        weights = list(part.parameters(recurse))
        has_matrix = recurse and any(weight.ndim > 1 for weight in weights)
        depth += has_matrix and is_complete
        is_complete |= has_matrix
        depths |= {names[id(weight)]: depth for weight in weights if id(weight) in names}
    return depths


def _parts(module: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    """Yield the layers of a network, and whether all of a module's parameters are meant."""
    yield module, False
    for child in module.children():
        is_block = type(module) in _CONTAINERS and type(child) not in _CONTAINERS
        if is_block or not any(type(part) in _CONTAINERS for part in child.modules()):
            yield child, True
        else:
            yield from _parts(child)
