"""A small convolutional network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from .layers import hidden_layers
from .pretrained import SourcedModel

if TYPE_CHECKING:
    from torch import nn


class SimpleCnn(SourcedModel):
    """A few convolutions and a fully connected head.

    `block1`, `block2`, ... each keep height and width in a 3x3 convolution, normalise over the
    batch, apply a ReLU and halve height and width. Averages over a grid of at most `pool` x `pool`
    fields are flattened and go through `hidden1`, ... and `head` to (B, outputs).
    """

    name = "simple-cnn"
    capturable = True

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64, 128)
    """Channels that each block gives."""
    hidden: tuple[PositiveInt, ...] = (128,)
    """Widths of the hidden layers between the blocks and the head."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """The share that training leaves out after each hidden layer, or else before the head."""
    pool: PositiveInt = 4
    """Height and width of the grid of averages; what is smaller already stays."""

    def parts(self) -> tuple[str, ...]:
        """Return the parts that have weights."""
        return (
            *(f"block{number}" for number in range(1, len(self.widths) + 1)),
            *(f"hidden{number}" for number in range(1, len(self.hidden) + 1)),
            "head",
        )

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network. Raises ValueError where the images are too small for the blocks."""
        from torch import nn

        height, width = (side >> len(self.widths) for side in size)
        if not (height and width):
            raise ValueError(
                f"simple-cnn halves images {len(self.widths)} times, which needs "
                f"{1 << len(self.widths)} pixels a side: {size[0]}x{size[1]} is too small"
            )
        grid = min(self.pool, height), min(self.pool, width)
        inputs = self.widths[-1] * grid[0] * grid[1]
        parts = OrderedDict(
            (f"block{number}", _block(*ends))
            for number, ends in enumerate(pairwise([channels, *self.widths]), start=1)
        )
        parts["pool"] = _grid((height, width), grid)
        parts["flatten"] = nn.Flatten()
        parts.update(hidden_layers(inputs, self.hidden, self.dropout))
        parts["head"] = nn.Linear((inputs, *self.hidden)[-1], outputs)
        return nn.Sequential(parts)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the blocks and the layers, one by one."""
        return list(module.children())


def _block(channels: int, width: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, width, 3, padding=1, bias=False),  # the norm has the bias
            norm=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
        )
    )


def _grid(size: tuple[int, int], grid: tuple[int, int]) -> nn.Module:
    """Return the mean over a grid of equal windows that cover everything, overlapping if they must.

    Where the grid divides the size it is torch's adaptive mean, which on Apple's GPUs knows no
    other case and on CUDA sums its gradient in no fixed order.
    """
    from torch import nn

    stride = size[0] // grid[0], size[1] // grid[1]
    window = [side - (n - 1) * step for side, n, step in zip(size, grid, stride, strict=True)]
    return nn.AvgPool2d((window[0], window[1]), stride)
