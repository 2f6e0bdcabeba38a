"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from .pretrained import PretrainedModel

if TYPE_CHECKING:
    from torch import nn


class SimpleNet(PretrainedModel):
    """A multilayer perceptron on the pixels of images.

    Linear layers `hidden1`, `hidden2`, ... with ReLUs and the linear layer `head` map flattened
    images (B, C, H, W) to (B, outputs). Images must have one size.
    """

    name = "simplenet"
    other_names = ("mlp", "perceptron")
    capturable = True
    channels_last = True

    hidden: tuple[PositiveInt, ...] = (84, 50)
    """Widths of the hidden layers, in order."""

    def parts(self) -> tuple[str, ...]:
        """Return the names of the layers with weights."""
        return (*(f"hidden{number}" for number in range(1, len(self.hidden) + 1)), "head")

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network for images of one size."""
        from .networks import multilayer_perceptron

        return multilayer_perceptron(channels * size[0] * size[1], self.hidden, outputs)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the layers."""
        return list(module.children())
