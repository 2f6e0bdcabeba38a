"""Call the methods of components, and check what they return where it enters the core.

A result that breaks the contract of its kind would otherwise train on other data than the spec
says, or fail far from its cause. Each function raises PluginError, code wrong-result. Per step
nothing but one number is compared; everything else is looked at once per run, epoch or split.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.errors import PluginError, Problem, one_line
from sightx.records.history import History
from sightx.records.predictions import Predictions
from sightx.registry.components import Component, call_declared
from sightx.registry.kinds import (
    Average,
    Checkpoint,
    Loss,
    Model,
    Normalize,
    Optimizer,
    Postprocess,
    Scheduler,
    Statistics,
    Stopping,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sightx.records.pixels import PixelRows

_CHECKPOINT_NAME = re.compile(r"(?!step-\d)[A-Za-z0-9_-][A-Za-z0-9._-]*")  # not a directory's
SUM_TOLERANCE = 1e-2  # of probabilities; bf16 has 8 bits


def wrong_result(method: Callable[..., Any], message: str, hint: str) -> PluginError:
    """Return the error for what a method of a component returned."""
    component: Component = method.__self__  # type: ignore[attr-defined]
    subject = f"{method.__name__}() of {component.name} ({type(component).__module__})"
    return PluginError(Problem("wrong-result", f"{subject} {message}", hint, component.kind))


def normalization(
    normalize: Normalize, *, model: Model, training_rows: PixelRows, channels: int
) -> Statistics:
    """Return the mean and the standard deviation of each channel."""
    declared = call_declared(model.normalization)
    if declared is not None and _statistics(declared) is None:
        hint = "return (mean, std), finite floats for each channel and every std above 0, or None"
        raise wrong_result(model.normalization, f"returned {short_repr(declared)}", hint)
    method = normalize.statistics
    result = call_declared(method, model=model, training_rows=training_rows)
    statistics = _statistics(result)
    if statistics is None or len(statistics[0]) != channels:
        hint = f"return (mean, std), {channels} finite floats each, every std above 0"
        raise wrong_result(method, f"returned {short_repr(result)}", hint)
    return statistics


def _statistics(value: Any) -> Statistics | None:
    """Return mean and standard deviation as floats; None if a value is not such a pair."""
    try:
        mean, std = (tuple(map(float, values)) for values in value)
    except (TypeError, ValueError):
        return None
    is_valid = len(mean) == len(std) and all(map(math.isfinite, (*mean, *std)))
    return (mean, std) if is_valid and min(std, default=0) > 0 else None


def check_losses(
    loss: Loss, losses: Tensor, sample_weights: Tensor | None, *, has_gradient: bool
) -> None:
    """Raise unless losses (B,) can be trained on, and weights are (B,) and not negative."""
    if has_gradient and not losses.requires_grad:
        hint = "compute it with torch from the outputs, without .detach() or .item()"
        raise wrong_result(loss.build, "is a loss that has no gradient", hint)
    if sample_weights is None:
        return
    if shape_text(sample_weights) != shape_text(losses):
        message = f"returned {shape_text(sample_weights)} for {len(losses)} samples"
        raise wrong_result(loss.weights, message, "return one weight per sample, or None")
    if not ((sample_weights >= 0) & (sample_weights < math.inf)).all():
        hint = "return finite weights, 0 or more"
        raise wrong_result(loss.weights, "returned a negative or infinite weight", hint)
    if not sample_weights.any():
        hint = "give at least one sample a weight above 0"
        raise wrong_result(loss.weights, "returned only zeros for a batch", hint)


def check_answer(method: Callable[..., Any], value: object, shape: tuple[int, ...]) -> None:
    """Raise unless a loss returned a tensor of this shape, whose rows are the samples."""
    import torch

    if isinstance(value, torch.Tensor) and value.shape == shape:
        return
    text = shape_text(value) if isinstance(value, torch.Tensor) else f"a {type_name(value)}"
    message = f"returned {text} for {shape[0]} samples"
    raise wrong_result(method, message, f"return a tensor {shape}")


def network_width(loss: Loss, classes: int) -> int:
    """Return the number of outputs that a network must have."""
    outputs = call_declared(loss.outputs, classes)
    if not isinstance(outputs, int) or isinstance(outputs, bool) or outputs < 1:
        message = f"returned {short_repr(outputs)} for {classes} classes"
        raise wrong_result(loss.outputs, message, "return the width of the network, 1 or more")
    return outputs


def network(model: Model, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Return a new network with its first weights."""
    from torch import nn

    method = model.build
    module = call_declared(method, channels=channels, outputs=outputs, size=size)
    if not isinstance(module, nn.Module):
        raise wrong_result(method, f"returned a {type_name(module)}", "return a torch module")
    _check_state(method, module)
    return module


def _check_state(method: Callable[..., Any], module: nn.Module) -> None:
    """Raise unless all state of a module is in tensors whose shapes are known."""
    import torch
    from torch import Tensor
    from torch.nn.parameter import is_lazy

    if lazy := [name for name, weight in module.named_parameters() if is_lazy(weight)]:
        hint = "give every layer its size; build() has the numbers that it depends on"
        raise wrong_result(method, f"has no size for the weight {lazy[0]!r}", hint)
    if torch.empty(0).device.type != "meta" and (
        empty := [name for name, weight in module.named_parameters() if weight.is_meta]
    ):
        hint = "create it on torch's default device"
        raise wrong_result(method, f"has the weight {empty[0]!r} on the device meta", hint)
    state = module.state_dict()
    if other := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        hint = "keep all state in parameters and buffers"
        raise wrong_result(method, f"has the state {other[0]!r}, not a tensor", hint)


def check_network_outputs(
    model: Model,
    outputs: object,
    shape: tuple[int, int],
    *,
    has_gradient: bool = False,
    mode: str = "train",
) -> None:
    """Raise unless a network returned a tensor of the shape (B, K), if asked with a gradient.

    `mode` is that of the network, "train" or "eval".
    """
    given = getattr(outputs, "shape", None)
    if given is None or tuple(given) != shape:
        hint = f"return {shape}: build(outputs={shape[1]}) says the width of the last layer"
        where = " in eval mode" if mode == "eval" else ""
        message = f"is a network that returns {shape_text(outputs)} for {shape[0]} images{where}"
        raise wrong_result(model.build, message, hint)
    if has_gradient and not getattr(outputs, "requires_grad", False):
        hint = "leave out .detach() and torch.no_grad()"
        raise wrong_result(model.build, "is a network whose outputs have no gradient", hint)


def network_stages(model: Model, module: nn.Module) -> Sequence[nn.Module]:
    """Return the network as a chain of modules; empty if it is not one."""
    from torch import nn

    stages = call_declared(model.stages, module)
    if stages is None:
        return ()
    if isinstance(stages, str) or not isinstance(stages, Sequence | nn.Sequential):
        message = f"returned {short_repr(stages)}"
        raise wrong_result(model.stages, message, "return modules in their order, or None")
    if other := [stage for stage in stages if not isinstance(stage, nn.Module)]:
        raise wrong_result(model.stages, f"returned a {type_name(other[0])}", "return modules")
    return list(stages)


def loss_module(loss: Loss, class_counts: Sequence[int]) -> nn.Module:
    """Return the module that computes per-sample losses."""
    from torch import nn

    module = call_declared(loss.build, class_counts=class_counts)
    if not isinstance(module, nn.Module):
        raise wrong_result(loss.build, f"returned a {type_name(module)}", "return a torch module")
    _check_state(loss.build, module)
    return module


def torch_optimizer(
    optimizer: Optimizer, groups: list[dict[str, Any]], layers: Mapping[str, int]
) -> torch.optim.Optimizer:
    """Return the optimizer of all weights in `groups`; `layers` has their depths by name."""
    from torch.optim import Optimizer as TorchOptimizer

    expected = dict(_names_and_rates(groups, layers))
    result = call_declared(optimizer.build, groups, layers=layers)
    if not isinstance(result, TorchOptimizer):
        hint = "return a torch optimizer"
        raise wrong_result(optimizer.build, f"returned a {type_name(result)}", hint)
    if optimizer.passes not in (1, 2):
        hint = "write 1 or 2: step() calls its closure so often"
        raise wrong_result(optimizer.build, f"has passes = {optimizer.passes}", hint)
    if optimizer.passes == 1 and _needs_closure(result):
        hint = "use one without a closure; if step() calls it once, set passes = 2 on the class"
        message = f"returned a {type_name(result)}, which needs a closure"
        raise wrong_result(optimizer.build, message, hint)
    built = [(group, id(weight)) for group in result.param_groups for weight in group["params"]]
    if missing := expected.keys() - {weight for _, weight in built}:
        message = f"leaves out {len(missing)} of {len(expected)} weights"
        raise wrong_result(optimizer.build, message, "pass the groups on")
    hint = "pass the groups on, or parts of them with their name and lr"
    for group, weight in built:
        name, lr = expected.get(weight, (group.get("name"), None))
        if group.get("name") != name:
            message = f"puts weights of the group {name!r} into one called {group.get('name')!r}"
            raise wrong_result(optimizer.build, message, hint)
        if lr not in (None, group["lr"]):
            message = f"gives weights of the group {name!r} the rate {group['lr']}, not {lr}"
            raise wrong_result(optimizer.build, message, hint)
    return result


def _names_and_rates(
    groups: Iterable[Mapping[str, Any]], layers: Mapping[str, int]
) -> Iterator[tuple[int, tuple[str, float | None]]]:
    """Yield the id of each weight, the name of its group, and its rate, None if layers scale it."""
    last = max(layers.values(), default=0)
    for group in groups:
        for name, weight in zip(group["param_names"], group["params"], strict=True):
            is_last = layers.get(name, last) == last  # weights of the loss have no layer
            yield id(weight), (group["name"], group["lr"] if is_last else None)


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def lr_multiplier(scheduler: Scheduler, step: int, **run: Any) -> float:
    """Return the factor of a learning rate at a step; `run` has the arguments of `multiplier`."""
    factor = call_declared(scheduler.multiplier, step, **run)
    is_number = isinstance(factor, Real) and not isinstance(factor, bool)
    if not (is_number and 0 <= factor < math.inf):
        hint = "return a finite float, 0 or more"
        raise wrong_result(scheduler.factor, f"returned {short_repr(factor)} at step {step}", hint)
    return float(factor)


def average_share(average: Average, step: int, **run: Any) -> float:
    """Return the share of the new weights in their average; `run` has the arguments of `share`."""
    share = call_declared(average.share, step, **run)
    is_number = isinstance(share, Real) and not isinstance(share, bool)
    if not (is_number and 0 <= share <= 1):
        message = f"returned {short_repr(share)} at step {step}"
        raise wrong_result(average.share, message, "return a float, 0 to 1")
    return float(share)


def checkpoint_names(checkpoint: Checkpoint, history: History) -> set[str]:
    """Return the names that a policy gives to the newest state."""
    names, method = call_declared(checkpoint.keep, history), checkpoint.keep
    if isinstance(names, str) or not isinstance(names, Collection):
        hint = "return a set or tuple of names"
        raise wrong_result(method, f"returned {short_repr(names)}", hint)
    for name in names:
        if not isinstance(name, str) or not _CHECKPOINT_NAME.fullmatch(name):
            hint = "use letters, digits, '.', '_' and '-'; no '.' at the beginning, and no step-1"
            raise wrong_result(method, f"returned the name {short_repr(name)}", hint)
    return set(names)


def stop_reason(stopping: Stopping, history: History) -> str | None:
    """Return why training ends after the newest epoch; None if it goes on."""
    reason = call_declared(stopping.reason, history)
    if reason is None or (isinstance(reason, str) and reason.strip()):
        return reason and one_line(reason)
    raise wrong_result(stopping.reason, f"returned {short_repr(reason)}", "return a text, or None")


def fitted_state(postprocess: Postprocess, validation: Predictions) -> Mapping[str, Any]:
    """Return what a component learned, as JSON holds it: a resumed run reads the same values."""
    state = call_declared(postprocess.fit, validation)
    try:
        plain = json.loads(json.dumps(state))
    except (TypeError, ValueError) as error:
        hint = "return plain numbers, text, lists and mappings, such as array.tolist()"
        raise wrong_result(postprocess.fit, f"returned no JSON: {error}", hint) from error
    if not isinstance(plain, dict):
        raise wrong_result(postprocess.fit, f"returned {short_repr(state)}", "return a mapping")
    return plain


def postprocessed(
    postprocess: Postprocess, predictions: Predictions, state: Mapping[str, Any]
) -> Predictions:
    """Return predictions with other decisions or probabilities, for the same samples."""
    result = call_declared(postprocess.apply, predictions, state)
    if not isinstance(result, Predictions) or result.keys != predictions.keys:
        hint = "return predictions.with_decisions(...) or .with_probabilities(...)"
        raise wrong_result(postprocess.apply, "did not return the predictions it got", hint)
    for name in ("labels", "outputs"):
        if not np.array_equal(getattr(result, name), getattr(predictions, name), equal_nan=True):
            hint = "change decisions and probabilities only"
            raise wrong_result(postprocess.apply, f"changed {name}", hint)
    check_decisions(postprocess.apply, result)
    check_probabilities(postprocess.apply, result)
    return result


def check_probabilities(method: Callable[..., Any], predictions: Predictions) -> None:
    """Raise unless a method's probabilities are (N, classes), with rows of sum 1."""
    values, shape = predictions.probabilities, (len(predictions), len(predictions.classes))
    if np.shape(values) != shape:
        message = f"returned probabilities {np.shape(values)}"
        raise wrong_result(method, message, f"return {shape}: one column per class")
    sums = values.sum(axis=1)
    is_wrong = ~(np.abs(sums - 1) <= SUM_TOLERANCE) | (values < -SUM_TOLERANCE).any(axis=1)
    # An output that is not finite is reported as a loss that is not finite.
    is_wrong &= np.isfinite(predictions.outputs).all(axis=1)
    if is_wrong.any():
        row = short_repr(values[is_wrong][0].tolist())
        hint = "they are 0 or more, and each row has the sum 1"
        raise wrong_result(method, f"returned the probabilities {row}", hint)


def check_decisions(method: Callable[..., Any], predictions: Predictions) -> None:
    """Raise unless a method's decisions are (N,) positions in the classes."""
    decisions, classes = predictions.decisions, len(predictions.classes)
    hint = f"return integers ({len(predictions)},), 0 to {classes - 1}"
    if np.shape(decisions) != (len(predictions),):
        raise wrong_result(method, f"returned decisions {np.shape(decisions)}", hint)
    if len(decisions) and (fault := index_fault(decisions, classes)):
        raise wrong_result(method, f"returned decisions {fault}", hint)


def index_fault(values: np.ndarray[Any, Any], count: int) -> str:
    """Return why values are not positions in a sequence of `count` items, "" if they are."""
    if values.dtype.kind not in "iu":
        return f"of type {values.dtype}"
    low, high = int(values.min()), int(values.max())
    return "" if low >= 0 and high < count else f"from {low} to {high}"


def shape_text(value: Any) -> str:
    """Return the shape of an array or tensor, or the type of anything else."""
    shape = getattr(value, "shape", None)
    return f"a {type_name(value)}" if shape is None else str(tuple(shape))


def type_name(value: object) -> str:
    """Return the name of a value's class."""
    return type(value).__name__


def short_repr(value: object) -> str:
    """Return a value as text of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
