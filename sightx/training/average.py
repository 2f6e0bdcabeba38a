"""An average of a network's weights over the steps of training."""

from __future__ import annotations

import copy

import torch
from torch import nn

from sightx.errors import PluginError, Problem, first_line


class WeightAverage:
    """A copy of a network whose weights are an average; it is evaluated in the network's place.

    The parameters that are trained and all floating-point buffers, such as running statistics, are
    averaged. Other buffers, such as counters, are those of the newest weights.
    """

    def __init__(self, module: nn.Module) -> None:
        """Start from the network's present weights. Raises PluginError if it cannot be copied."""
        try:
            self.module = copy.deepcopy(module)
        except Exception as error:
            reason = first_line(error)
            hint = "keep all state in parameters and buffers, or leave [average] out"
            message = f"the network cannot be copied: {reason}"
            raise PluginError(Problem("broken-plugin", message, hint, "model")) from error
        pairs = [
            *zip(self.module.parameters(), module.parameters(), strict=True),
            *zip(self.module.buffers(), module.buffers(), strict=True),
        ]
        changing = [
            pair for pair in pairs if pair[1].requires_grad or not isinstance(pair[1], nn.Parameter)
        ]
        floats = [pair for pair in changing if pair[1].is_floating_point()]
        others = [pair for pair in changing if not pair[1].is_floating_point()]
        self._floats, self._others = _transposed(floats), _transposed(others)
        self.module.requires_grad_(False)

    @torch.no_grad()
    def update(self, share: float) -> None:
        """Add the network's weights: average + share * (weights - average)."""
        torch._foreach_lerp_(*self._floats, share)
        for average, new in zip(*self._others, strict=True):
            average.copy_(new)


def _transposed(
    pairs: list[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
