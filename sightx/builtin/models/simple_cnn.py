"""A small convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from .pretrained import PretrainedModel

if TYPE_CHECKING:
    from torch import nn


class SimpleCnn(PretrainedModel):
    """A few convolutional blocks and a fully connected head.

    Each of `block1`, `block2`, ... consists of a 3x3 convolution, batch normalisation, a ReLU and
    2x2 max pooling. The result is averaged over a grid of at most `pool` x `pool` windows,
    flattened, and mapped by `hidden1`, ... and `head` to (B, outputs).
    """

    name = "simple-cnn"
    other_names = ("cnn", "convnet")
    capturable = True
    channels_last = True

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64, 128)
    """Number of output channels of each block."""
    hidden: tuple[PositiveInt, ...] = (128,)
    """Widths of the hidden layers between the blocks and the head."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Dropout rate after each hidden layer, or before the head if there is none."""
    pool: PositiveInt = 4
    """Height and width of the grid of averages; a smaller result is not pooled."""

    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts with weights."""
        return (
            *(f"block{number}" for number in range(1, len(self.widths) + 1)),
            *(f"hidden{number}" for number in range(1, len(self.hidden) + 1)),
            "head",
        )

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network. Raise ValueError if images are too small for the blocks."""
        from .networks import simple_cnn

        if min(size) >> len(self.widths) == 0:
            raise ValueError(
                f"simple-cnn halves images {len(self.widths)} times, so height and width must be "
                f"at least {1 << len(self.widths)} pixels: {size[0]}x{size[1]} is too small"
            )
        return simple_cnn(
            self.widths, self.hidden, self.dropout, self.pool,
            channels=channels, outputs=outputs, size=size,
        )  # fmt: skip

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the blocks and the layers."""
        return list(module.children())
