"""Call the methods of components, and check what they return where it enters the core.

A result that breaks the contract of its kind would otherwise train on other data than the spec
says, or fail far from its cause. Each function raises PluginError, code wrong-result. Per step
nothing but one number is compared; everything else is looked at once per run, epoch or split.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.errors import PluginError, Problem, did_you_mean
from sightx.records import SPLITS
from sightx.records.history import Direction, History
from sightx.records.predictions import Predictions
from sightx.registry.components import Component, call_declared
from sightx.registry.kinds import (
    Average,
    Checkpoint,
    Dataset,
    Loss,
    Metric,
    Model,
    Normalize,
    Optimizer,
    Postprocess,
    Sampler,
    Scheduler,
    Split,
    Statistics,
    Stopping,
)

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor, nn

    from sightx.records.pixels import PixelRows, Positions
    from sightx.records.table import ImageTable

_CHECKPOINT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
SUM_TOLERANCE = 1e-2  # of probabilities; bf16 has 8 bits


def wrong_result(method: Callable[..., Any], message: str, hint: str) -> PluginError:
    """Return the error for what a method of a component returned."""
    component: Component = method.__self__  # type: ignore[attr-defined]
    subject = f"{method.__name__}() of {component.name} ({type(component).__module__})"
    return PluginError(Problem("wrong-result", f"{subject} {message}", hint, component.kind))


def image_table(dataset: Dataset) -> ImageTable:
    """Return the table of a dataset: unique paths, labels that are classes, groups of text."""
    from pandas.api.types import infer_dtype

    from sightx.records.table import ImageTable

    table = call_declared(dataset.table)
    if not isinstance(table, ImageTable):
        raise wrong_result(dataset.table, f"returned a {_type(table)}", "return an ImageTable")
    frame = table.frame
    if missing := [key for key in ("path", "label", "group") if key not in frame]:
        hint = "the columns are path, label and group"
        raise wrong_result(dataset.table, f"has no column {missing[0]!r}", hint)
    if not len(frame):
        return table
    for key in ("path", "group"):
        if infer_dtype(frame[key], skipna=False) != "string":
            raise wrong_result(dataset.table, f"has a {key} that is not text", "write strings")
    if not frame["path"].is_unique:
        path = frame["path"][frame["path"].duplicated()].iat[0]
        raise wrong_result(dataset.table, f"has the path {path!r} twice", "paths are unique")
    labels, count = frame["label"].to_numpy(), len(table.classes)
    if fault := _index_fault(labels, count):
        raise wrong_result(dataset.table, f"has labels {fault}", f"int64, 0 to {count - 1}")
    return table


def assigned_splits(split: Split, table: ImageTable) -> np.ndarray[Any, Any]:
    """Return the split of each row of a table, as an array of text."""
    splits: pd.Series[str] = call_declared(split.assign, table)
    if getattr(splits, "shape", None) != (len(table),):
        message = f"returned {shape_text(splits)} for {len(table)} rows"
        raise wrong_result(split.assign, message, "return a Series with one text per row")
    names: np.ndarray[Any, Any] = np.asarray(splits, dtype=object)
    known = (*SPLITS, "")
    if unknown := [name for name in dict.fromkeys(names) if name not in known]:
        hint = f"return {', '.join(SPLITS)} or an empty text"
        raise wrong_result(split.assign, f"returned the split {unknown[0]!r}", hint)
    return names


def normalization(
    normalize: Normalize, *, model: Model, training_rows: PixelRows, channels: int
) -> Statistics:
    """Return the mean and the standard deviation of each channel."""
    method = normalize.statistics
    result = call_declared(method, model=model, training_rows=training_rows)
    try:
        mean, std = (tuple(map(float, values)) for values in result)
        is_valid = len(mean) == len(std) == channels
        is_valid &= all(map(math.isfinite, (*mean, *std))) and min(std, default=0) > 0
    except (TypeError, ValueError):
        is_valid = False
    if not is_valid:
        hint = f"return (mean, std), {channels} finite floats each, every std above 0"
        raise wrong_result(method, f"returned {_short(result)}", hint)
    return mean, std


def sampler_order(
    sampler: Sampler, labels: np.ndarray[Any, Any], *, epoch: int, seed: int
) -> Positions:
    """Return the order of an epoch, as int64 positions in `labels`."""
    order = np.asarray(call_declared(sampler.order, labels, epoch=epoch, seed=seed))
    hint = f"return int64 positions (M,), 0 to {len(labels) - 1}; they may repeat"
    if order.ndim != 1:
        raise wrong_result(sampler.order, f"returned an array {order.shape}", hint)
    if len(order) and (fault := _index_fault(order, len(labels))):
        raise wrong_result(sampler.order, f"returned positions {fault}", hint)
    return order


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


def network_width(loss: Loss, classes: int) -> int:
    """Return the number of outputs that a network must have."""
    outputs = call_declared(loss.outputs, classes)
    if not isinstance(outputs, int) or isinstance(outputs, bool) or outputs < 1:
        message = f"returned {_short(outputs)} for {classes} classes"
        raise wrong_result(loss.outputs, message, "return the width of the network, 1 or more")
    return outputs


def network(model: Model, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Return a new network with its first weights."""
    from torch import nn

    method = model.build
    module = call_declared(method, channels=channels, outputs=outputs, size=size)
    if not isinstance(module, nn.Module):
        raise wrong_result(method, f"returned a {_type(module)}", "return a torch module")
    _check_state(method, module)
    return module


def _check_state(method: Callable[..., Any], module: nn.Module) -> None:
    """Raise unless all state of a module is in tensors whose shapes are known."""
    from torch import Tensor
    from torch.nn.parameter import is_lazy

    if lazy := [name for name, weight in module.named_parameters() if is_lazy(weight)]:
        hint = "give every layer its size; build() has the numbers that it depends on"
        raise wrong_result(method, f"has no size for the weight {lazy[0]!r}", hint)
    state = module.state_dict()
    if other := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        hint = "keep all state in parameters and buffers"
        raise wrong_result(method, f"has the state {other[0]!r}, not a tensor", hint)


def check_network_outputs(model: Model, outputs: object, shape: tuple[int, int]) -> None:
    """Raise unless what a network returned is a tensor of the shape (B, K)."""
    given = getattr(outputs, "shape", None)
    if given is None or tuple(given) != shape:
        hint = f"return {shape}: build(outputs={shape[1]}) says the width of the last layer"
        message = f"is a network that returns {shape_text(outputs)} for {shape[0]} images"
        raise wrong_result(model.build, message, hint)


def loss_module(loss: Loss, class_counts: Sequence[int]) -> nn.Module:
    """Return the module that computes per-sample losses."""
    from torch import nn

    module = call_declared(loss.build, class_counts=class_counts)
    if not isinstance(module, nn.Module):
        raise wrong_result(loss.build, f"returned a {_type(module)}", "return a torch module")
    _check_state(loss.build, module)
    return module


def torch_optimizer(
    optimizer: Optimizer, groups: list[dict[str, Any]], layers: Mapping[str, int]
) -> torch.optim.Optimizer:
    """Return the optimizer of all weights in `groups`; `layers` has their depths by name."""
    from torch.optim import Optimizer as TorchOptimizer

    weights = [weight for group in groups for weight in group["params"]]
    result = call_declared(optimizer.build, groups, layers=layers)
    if not isinstance(result, TorchOptimizer):
        hint = "return a torch optimizer"
        raise wrong_result(optimizer.build, f"returned a {_type(result)}", hint)
    updated = {id(weight) for group in result.param_groups for weight in group["params"]}
    if missing := [weight for weight in weights if id(weight) not in updated]:
        message = f"leaves out {len(missing)} of {len(weights)} weights"
        raise wrong_result(optimizer.build, message, "pass the groups on")
    return result


def lr_multiplier(
    scheduler: Scheduler, step: int, *, steps: int, steps_per_epoch: int, history: History
) -> float:
    """Return the factor of the learning rate at a step."""
    factor = call_declared(
        scheduler.multiplier, step, steps=steps, steps_per_epoch=steps_per_epoch, history=history
    )
    is_number = isinstance(factor, Real) and not isinstance(factor, bool)
    if not (is_number and 0 <= factor < math.inf):
        hint = "return a finite float, 0 or more"
        raise wrong_result(scheduler.factor, f"returned {_short(factor)} at step {step}", hint)
    return float(factor)


def average_share(
    average: Average, step: int, *, steps: int, steps_per_epoch: int, history: History
) -> float:
    """Return the share of the new weights in their average after a step."""
    share = call_declared(
        average.share, step, steps=steps, steps_per_epoch=steps_per_epoch, history=history
    )
    is_number = isinstance(share, Real) and not isinstance(share, bool)
    if not (is_number and 0 <= share <= 1):
        message = f"returned {_short(share)} at step {step}"
        raise wrong_result(average.share, message, "return a float, 0 to 1")
    return float(share)


def metric_directions(metric: Metric, classes: Sequence[str]) -> Mapping[str, Direction]:
    """Return the names of a metric's numbers, each with the direction that is better."""
    values = call_declared(metric.values, classes)
    is_valid = isinstance(values, Mapping) and all(
        isinstance(name, str) and name and direction in ("max", "min")
        for name, direction in values.items()
    )
    if not is_valid:
        hint = 'map each name to "max" or "min"'
        raise wrong_result(metric.values, f"returned {_short(values)}", hint)
    return dict(values)


def metric_values(metric: Metric, predictions: Predictions) -> dict[str, float]:
    """Return a metric's numbers: exactly those that its `values` names."""
    values, method = call_declared(metric.compute, predictions), metric.compute
    names = metric_directions(metric, predictions.classes)
    if not isinstance(values, Mapping):
        raise wrong_result(method, f"returned {_short(values)}", "return a float per name")
    for name in [*values, *names]:
        if name not in names:
            hint = did_you_mean(str(name), names) or "values() names every number"
            raise wrong_result(method, f"returned {name!r}, which values() does not name", hint)
        if name not in values:
            raise wrong_result(method, f"did not return {name!r}", "return NaN if undefined")
        if isinstance(values[name], bool) or not isinstance(values[name], Real):
            message = f"returned {_short(values[name])} for {name!r}"
            raise wrong_result(method, message, "return a float, NaN if it is undefined")
    return {name: float(value) for name, value in values.items()}


def checkpoint_names(checkpoint: Checkpoint, history: History) -> set[str]:
    """Return the names that a policy gives to the newest state."""
    names, method = call_declared(checkpoint.keep, history), checkpoint.keep
    if isinstance(names, str) or not isinstance(names, Collection):
        raise wrong_result(method, f"returned {_short(names)}", "return a set or tuple of names")
    for name in names:
        if not isinstance(name, str) or not _CHECKPOINT_NAME.fullmatch(name):
            hint = "a name has letters, digits, '.', '_' and '-', and does not begin with '.'"
            raise wrong_result(method, f"returned the name {_short(name)}", hint)
    return set(names)


def stop_reason(stopping: Stopping, history: History) -> str | None:
    """Return why training ends after the newest epoch; None if it goes on."""
    reason = call_declared(stopping.reason, history)
    if reason is None or (isinstance(reason, str) and reason.strip()):
        return reason
    raise wrong_result(stopping.reason, f"returned {_short(reason)}", "return a text, or None")


def fitted_state(postprocess: Postprocess, validation: Predictions) -> Mapping[str, Any]:
    """Return what a component learned, as JSON holds it: a resumed run reads the same values."""
    state = call_declared(postprocess.fit, validation)
    try:
        plain = json.loads(json.dumps(state))
    except (TypeError, ValueError) as error:
        hint = "return plain numbers, text, lists and mappings, such as array.tolist()"
        raise wrong_result(postprocess.fit, f"returned no JSON: {error}", hint) from error
    if not isinstance(plain, dict):
        raise wrong_result(postprocess.fit, f"returned {_short(state)}", "return a mapping")
    return plain


def postprocessed(
    postprocess: Postprocess, predictions: Predictions, state: Mapping[str, Any]
) -> Predictions:
    """Return predictions with other decisions or probabilities, for the same samples."""
    result = call_declared(postprocess.apply, predictions, state)
    if not isinstance(result, Predictions) or result.keys != predictions.keys:
        hint = "return predictions.with_decisions(...) or .with_probabilities(...)"
        raise wrong_result(postprocess.apply, "did not return the predictions it got", hint)
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
        row = _short(values[is_wrong][0].tolist())
        hint = "they are 0 or more, and each row has the sum 1"
        raise wrong_result(method, f"returned the probabilities {row}", hint)


def check_decisions(method: Callable[..., Any], predictions: Predictions) -> None:
    """Raise unless a method's decisions are (N,) positions in the classes."""
    decisions, classes = predictions.decisions, len(predictions.classes)
    hint = f"return integers ({len(predictions)},), 0 to {classes - 1}"
    if np.shape(decisions) != (len(predictions),):
        raise wrong_result(method, f"returned decisions {np.shape(decisions)}", hint)
    if len(decisions) and (fault := _index_fault(decisions, classes)):
        raise wrong_result(method, f"returned decisions {fault}", hint)


def _index_fault(values: np.ndarray[Any, Any], count: int) -> str:
    """Return why values are not positions in a sequence of `count` items, "" if they are."""
    if values.dtype.kind not in "iu":
        return f"of type {values.dtype}"
    low, high = int(values.min()), int(values.max())
    return "" if low >= 0 and high < count else f"from {low} to {high}"


def shape_text(value: Any) -> str:
    """Return the shape of an array or tensor, or the type of anything else."""
    shape = getattr(value, "shape", None)
    return f"a {_type(value)}" if shape is None else str(tuple(shape))


def _type(value: object) -> str:
    return type(value).__name__


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
