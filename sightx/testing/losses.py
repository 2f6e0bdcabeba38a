"""What a loss promises: one number a sample, and outputs that mean what it trains them to mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightx.plugin import Loss
from sightx.testing.demands import Check, demand, offer

if TYPE_CHECKING:
    from torch import Tensor, nn

_CLASSES = 4
_B = 12
_STEPS = 300


def one_number_a_sample(loss: Loss) -> None:
    """Demand finite losses (B,), where a class has no sample too."""
    for counts in ((6, 3, 2, 1), (6, 6, 0, 0)):
        outputs, targets = _batch(loss)
        losses = _module(loss, counts)(outputs, targets)
        shape = tuple(losses.shape)
        demand(shape == (_B,), f"the loss is {shape} for {_B} samples; reduction is the runner's")
        demand(bool(losses.isfinite().all()), f"losses are not finite for class counts {counts}")


def gradient_reaches_outputs(loss: Loss) -> None:
    """Demand that every sample's outputs are told where to go."""
    outputs, targets = _batch(loss)
    _module(loss)(outputs, targets).sum().backward()
    gradient = outputs.grad
    demand(gradient is not None, "no gradient reaches the outputs; do not detach them")
    if gradient is not None:
        demand(bool(gradient.isfinite().all()), "the gradient of the outputs is not finite")
        demand(bool((gradient != 0).any(dim=1).all()), "some samples' outputs get no gradient")


def weights_are_one_a_sample(loss: Loss) -> None:
    """Demand weights (B,), none negative, not all 0; or None."""
    _, targets = _batch(loss)
    for counts in ((6, 3, 2, 1), (6, 6, 0, 0)):
        weights = offer(loss.weights, targets, class_counts=counts)
        if weights is None:
            continue
        shape = tuple(weights.shape)
        demand(shape == (_B,), f"weights are {shape} for {_B} samples; give one a sample")
        good = bool((weights.isfinite() & (weights >= 0)).all()) and float(weights.sum()) > 0
        demand(good, f"weights are {weights.tolist()}; they must be finite, not below 0, not all 0")


def probabilities_sum_to_one(loss: Loss) -> None:
    """Demand probabilities (B, classes) whose rows sum to one, of whatever outputs."""
    import torch

    for scale in (1.0, 100.0):
        outputs = _batch(loss)[0].detach() * scale
        shares = loss.probabilities(outputs)
        shape = tuple(shares.shape)
        demand(shape == (_B, _CLASSES), f"probabilities are {shape}; return (B, classes)")
        inside = bool(((shares >= 0) & (shares <= 1 + 1e-6)).all())
        demand(inside, "probabilities leave 0..1; outputs may be of any size")
        ones = torch.ones(_B, dtype=shares.dtype)
        demand(torch.allclose(shares.sum(dim=1), ones, atol=1e-4), "a row does not sum to one")


def decisions_are_classes(loss: Loss) -> None:
    """Demand positions in the classes, (B,)."""
    made = loss.decision(loss.probabilities(_batch(loss)[0].detach()))
    good = tuple(made.shape) == (_B,) and not made.is_floating_point()
    demand(good, f"decisions are {made.dtype} {tuple(made.shape)}; return integers (B,)")
    inside = bool(((made >= 0) & (made < _CLASSES)).all())
    demand(inside, f"decisions {sorted(set(made.tolist()))} leave 0..{_CLASSES - 1}")


def small_loss_means_right(loss: Loss) -> None:
    """Demand that outputs moved until the loss is small decide for their targets."""
    import torch

    outputs, targets = _batch(loss)
    module = _module(loss)
    optimizer = torch.optim.Adam([outputs], lr=0.1)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        module(outputs, targets).sum().backward()
        optimizer.step()
    made = loss.decision(loss.probabilities(outputs.detach()))
    demand(
        made.equal(targets),
        f"outputs trained for {targets.tolist()} decide for {made.tolist()}; "
        "probabilities() must read outputs as the loss trains them",
    )


def _module(loss: Loss, counts: tuple[int, ...] = (6, 3, 2, 1)) -> nn.Module:
    module: nn.Module = offer(loss.build, class_counts=counts)
    return module


def _batch(loss: Loss) -> tuple[Tensor, Tensor]:
    """Return random outputs of the width that the loss asks for, and targets of every class."""
    import torch

    width = loss.outputs(_CLASSES)
    demand(type(width) is int and width > 0, f"outputs({_CLASSES}) is {width!r}; return a width")
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(_B, width, generator=generator, requires_grad=True)
    return outputs, torch.arange(_B) % _CLASSES


LOSS: tuple[Check, ...] = (
    one_number_a_sample, gradient_reaches_outputs, weights_are_one_a_sample,
    probabilities_sum_to_one, decisions_are_classes, small_loss_means_right,
)  # fmt: skip
