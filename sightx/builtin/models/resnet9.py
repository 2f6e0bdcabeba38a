"""ResNet9, a small residual network for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from .pretrained import PretrainedModel

if TYPE_CHECKING:
    from torch import nn

_SMALLEST = 8  # height and width: the three layers halve images


class ResNet9(PretrainedModel):
    """A small residual network, for images of about 32x32 pixels.

    `stem`, `layer1`, `layer2` and `layer3` begin with a 3x3 convolution, batch normalisation and a
    ReLU; the layers also halve height and width by max pooling, and `layer1` and `layer3` end with
    a residual block of two such convolutions. The maximum over the image is mapped by `head` to (B,
    outputs). D. Page, "How to train your ResNet", 2018, the fastest network of DAWNBench's
    competition on CIFAR-10 then; pooling comes before normalisation, which computes less.
    """

    name = "resnet9"
    capturable = True
    channels_last = True

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=4, max_length=4)] = (
        64, 128, 256, 512,
    )  # fmt: skip
    """Numbers of output channels of the stem and of the three layers."""
    logit_scale: Annotated[float, Field(gt=0)] = 0.125
    """Constant factor of the outputs; a small one allows a large learning rate."""

    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts with weights."""
        return ("stem", "layer1", "layer2", "layer3", "head")

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network. Raise ValueError if images are too small for the layers."""
        from .networks import resnet9

        if min(size) < _SMALLEST:
            raise ValueError(
                f"resnet9 halves images 3 times, so height and width must be at least {_SMALLEST} "
                f"pixels: {size[0]}x{size[1]} is too small"
            )
        return resnet9(self.widths, self.logit_scale, channels=channels, outputs=outputs)

    def head_parts(self, module: nn.Module) -> tuple[str]:
        """Return the last layer."""
        return ("head",)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the stem, the layers, and what follows."""
        return list(module.children())
