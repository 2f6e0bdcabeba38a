"""Sharpness-aware minimisation, around any optimizer of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_EPSILON = 1e-12  # against a division by 0


class SharpnessAwareOptimizer(torch.optim.Optimizer):
    """Update weights with the gradient at the nearby point where the loss is largest.

    The parameter groups and the state are those of the base optimizer. Nothing else is kept between
    two steps.
    """

    def __init__(self, base: torch.optim.Optimizer, rho: float, adaptive: bool) -> None:
        # The constructor of torch's class is not called: it would make groups of its own.
        self.base, self.rho, self.adaptive = base, rho, adaptive

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return the groups of the base optimizer."""
        return self.base.param_groups

    @property
    def state(self) -> Any:
        """Return the state of the base optimizer."""
        return self.base.state

    def state_dict(self) -> dict[str, Any]:
        """Return the state dict of the base optimizer."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of the base optimizer."""
        self.base.load_state_dict(state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients."""
        self.base.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Any]) -> Any:
        """Move uphill, compute the gradient with `closure`, restore the weights, step the base.

        The gradient at the weights must have been computed. Return the loss of `closure`.
        """
        weights = [w for group in self.param_groups for w in group["params"] if w.grad is not None]
        before = [weight.detach().clone() for weight in weights]
        self._climb(weights)
        loss = closure()
        with torch.no_grad():
            torch._foreach_copy_(weights, before)
        self.base.step()
        return loss

    @torch.no_grad()
    def _climb(self, weights: list[Tensor]) -> None:
        """Add rho * g / |g|, with gradient g; adaptive: rho * w^2 g / |w g| (elementwise)."""
        direction = [weight.grad for weight in weights if weight.grad is not None]
        scales = torch._foreach_abs(weights) if self.adaptive else ()
        if scales:
            direction = list(torch._foreach_mul(direction, scales))
        norm = torch.nn.utils.get_total_norm(direction)
        if scales:
            direction = list(torch._foreach_mul(direction, scales))
        torch._foreach_add_(weights, torch._foreach_mul(direction, self.rho / (norm + _EPSILON)))
