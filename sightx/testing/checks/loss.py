"""Checks of losses."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from sightx.plugin import Loss, call_declared
from sightx.testing.assertions import ContractCheck, on_meta, require
from sightx.testing.fixtures import columns

if TYPE_CHECKING:
    from torch import Tensor, nn

_CLASSES = 4
_BATCH = 12
_STEPS = 300
_COUNTS, _COUNTS_WITH_ZEROS = (6, 3, 2, 1), (6, 6, 0, 0)


def losses_are_per_sample(loss: Loss) -> None:
    """Require finite losses (B,), also if a class has no training samples."""
    for counts in (_COUNTS, _COUNTS_WITH_ZEROS):
        losses = _build(loss, counts)(*_batch(loss))
        shape = tuple(losses.shape)
        require(shape == (_BATCH,), f"losses are {shape} for {_BATCH} samples; do not reduce")
        require(bool(losses.isfinite().all()), f"losses are not finite for class counts {counts}")


def weights_of_the_loss_get_gradients(loss: Loss) -> None:
    """Require finite gradients for the trainable parameters of the module, if it has any."""
    module = _build(loss)
    module(*_batch(loss)).sum().backward()
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            gradient = weight.grad
            require(gradient is not None, f"the weight {name} gets no gradient; make it a buffer")
            is_finite = gradient is not None and bool(gradient.isfinite().all())
            require(is_finite, f"the gradient of the weight {name} is not finite")


def module_keeps_its_state(loss: Loss) -> None:
    """Require a module whose buffers and losses do not change, in training mode as well."""
    module = _build(loss)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    losses = [module(*_batch(loss)) for _ in range(2)]
    changed = [name for name, buffer in module.named_buffers() if not buffer.equal(before[name])]
    hint = "the number of its updates depends on micro-batching: use a parameter"
    require(not changed, f"the buffer {', '.join(changed)} changes; {hint}")
    require(losses[0].equal(losses[1]), "a second call with the same batch gives other losses")


def outputs_get_gradients(loss: Loss) -> None:
    """Require finite gradients for the outputs of all samples."""
    outputs, targets = _batch(loss)
    _build(loss)(outputs, targets).sum().backward()
    gradient = outputs.grad
    require(gradient is not None, "the outputs get no gradient; do not detach them")
    if gradient is not None:
        require(bool(gradient.isfinite().all()), "the gradient of the outputs is not finite")
        has_gradient = (gradient != 0).any(dim=1)
        require(bool(has_gradient.all()), "the outputs of some samples get no gradient")


def weights_are_per_sample(loss: Loss) -> None:
    """Require weights (B,), finite, not negative and not all 0, or None."""
    _, targets = _batch(loss)
    for counts, progress in product((_COUNTS, _COUNTS_WITH_ZEROS), (0.0, 0.99, 1.0)):
        weights = _weights(loss, targets, counts, progress)
        if weights is None:
            continue
        shape = tuple(weights.shape)
        require(shape == (_BATCH,), f"weights are {shape} for {_BATCH} samples; return (B,)")
        is_valid = bool((weights.isfinite() & (weights >= 0)).all()) and float(weights.sum()) > 0
        require(is_valid, f"weights are {weights.tolist()}; use finite ones >= 0, not all 0")


def probabilities_sum_to_one(loss: Loss) -> None:
    """Require probabilities (B, classes) with rows that sum to 1, for outputs of any size."""
    import torch

    for scale in (1.0, 100.0):
        probabilities = _probabilities(loss, _batch(loss)[0].detach() * scale)
        shape = tuple(probabilities.shape)
        require(shape == (_BATCH, _CLASSES), f"probabilities are {shape}; return (B, classes)")
        is_valid = bool(((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all())
        require(is_valid, "probabilities are outside of 0..1; outputs may have any size")
        ones = torch.ones(_BATCH, dtype=probabilities.dtype)
        sums = probabilities.sum(dim=1)
        require(torch.allclose(sums, ones, atol=1e-4), "a row of probabilities does not sum to 1")


def decisions_are_classes(loss: Loss) -> None:
    """Require predicted classes (B,)."""
    decisions = loss.decision(_probabilities(loss, _batch(loss)[0].detach()))
    is_valid = tuple(decisions.shape) == (_BATCH,) and not decisions.is_floating_point()
    form = f"{decisions.dtype} {tuple(decisions.shape)}"
    require(is_valid, f"decisions are {form}; return integers (B,)")
    is_valid = bool(((decisions >= 0) & (decisions < _CLASSES)).all())
    values = sorted(set(decisions.tolist()))
    require(is_valid, f"decisions {values} are outside of 0..{_CLASSES - 1}")


def minimum_predicts_targets(loss: Loss) -> None:
    """Require that outputs which minimise the loss lead to the target classes."""
    import torch

    outputs, targets = _batch(loss)
    module = _build(loss)
    optimizer = torch.optim.Adam([outputs], lr=0.1)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        module(outputs, targets).sum().backward()
        optimizer.step()
    decisions = loss.decision(_probabilities(loss, outputs.detach()))
    require(
        decisions.equal(targets),
        f"outputs trained for {targets.tolist()} give the decisions {decisions.tolist()}; "
        "probabilities() must interpret outputs as the loss does",
    )


def mixed_targets_are_taken(loss: Loss) -> None:
    """Require that a loss that takes probabilities gives that of a class for a certain one."""
    import torch

    if not loss.takes_mixed:
        return
    outputs, targets = _batch(loss)
    module, certain = _build(loss), torch.nn.functional.one_hot(targets, _CLASSES).float()
    for mixed in (certain, 0.7 * certain + 0.3 * certain.flip(0)):
        losses = module(outputs, mixed)
        is_valid = tuple(losses.shape) == (_BATCH,) and bool(losses.isfinite().all())
        require(is_valid, f"losses of mixed targets are {losses.tolist()}; return finite (B,)")
        weights = _weights(loss, mixed)
        is_valid = weights is None or tuple(weights.shape) == (_BATCH,)
        require(is_valid, "weights of mixed targets are not (B,)")
    is_same = torch.allclose(module(outputs, certain), module(outputs, targets), atol=1e-5)
    require(is_same, "the loss of a certain class, with probability 1, is not that of the class")


def loss_works_on_any_device(loss: Loss) -> None:
    """Require results on the device of the outputs, without reading values from it."""
    outputs, targets = (tensor.detach().to("meta") for tensor in _batch(loss))
    module = _build(loss).to("meta")
    with on_meta("the loss"):
        losses = module(outputs.requires_grad_(), targets)
        weights = _weights(loss, targets)
        decisions = loss.decision(_probabilities(loss, outputs.detach()))
    is_there = losses.is_meta and decisions.is_meta and (weights is None or weights.is_meta)
    require(is_there, "a result is on another device than the outputs")


def _weights(
    loss: Loss, targets: Tensor, counts: tuple[int, ...] = _COUNTS, progress: float = 1.0
) -> Tensor | None:
    offered = {"columns": columns(loss, _BATCH), "progress": progress}
    weights: Tensor | None = call_declared(loss.weights, targets, class_counts=counts, **offered)
    return weights


def _probabilities(loss: Loss, outputs: Tensor) -> Tensor:
    probabilities: Tensor = call_declared(loss.probabilities, outputs, classes=_CLASSES)
    return probabilities


def _build(loss: Loss, counts: tuple[int, ...] = _COUNTS) -> nn.Module:
    module: nn.Module = call_declared(loss.build, class_counts=counts)
    return module


def _batch(loss: Loss) -> tuple[Tensor, Tensor]:
    """Return random outputs (B, K) and targets of all classes."""
    import torch

    width = loss.outputs(_CLASSES)
    is_valid = type(width) is int and width > 0
    require(is_valid, f"outputs({_CLASSES}) is {width!r}; return a positive integer")
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(_BATCH, width, generator=generator, requires_grad=True)
    return outputs, torch.arange(_BATCH) % _CLASSES


CHECKS: tuple[ContractCheck, ...] = (
    losses_are_per_sample, weights_of_the_loss_get_gradients, module_keeps_its_state,
    outputs_get_gradients, weights_are_per_sample,
    probabilities_sum_to_one, decisions_are_classes, minimum_predicts_targets,
    mixed_targets_are_taken, loss_works_on_any_device,
)  # fmt: skip
