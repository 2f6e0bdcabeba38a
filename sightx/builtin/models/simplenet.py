"""A network of fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from .layers import hidden_layers
from .pretrained import SourcedModel

if TYPE_CHECKING:
    from torch import nn


class SimpleNet(SourcedModel):
    """A small multilayer perceptron on the pixels.

    (B, C, H, W) is flattened; linear layers `hidden1`, `hidden2`, ... with a ReLU each, then the
    linear layer `head`, lead to (B, outputs).
    """

    name = "simplenet"
    capturable = True

    hidden: tuple[PositiveInt, ...] = (84, 50)
    """Widths of the hidden layers, in order."""

    def parts(self) -> tuple[str, ...]:
        """Return the parts that have weights."""
        return (
            *(f"hidden{number}" for number in range(1, len(self.hidden) + 1)),
            "head",
        )

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the perceptron for images of one size."""
        from torch import nn

        inputs = channels * size[0] * size[1]
        layers = hidden_layers(inputs, self.hidden)
        layers["head"] = nn.Linear((inputs, *self.hidden)[-1], outputs)
        layers["flatten"] = nn.Flatten()
        layers.move_to_end("flatten", last=False)
        return nn.Sequential(layers)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the layers, one by one."""
        return list(module.children())
