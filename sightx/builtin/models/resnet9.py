"""ResNet9, a small residual network for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from .pretrained import PretrainedModel

if TYPE_CHECKING:
    from torch import nn

_SMALLEST = 8  # height and width: the three layers halve images


class ResNet9(PretrainedModel):
    """A small residual network, for images of about 32x32 pixels.

    The layers `layer1`, `layer2` and `layer3` begin with a 3x3 convolution, 2x2 max pooling, batch
    normalisation and a ReLU; `layer1` and `layer3` end with a residual block of two such
    convolutions without pooling. The maximum over the image is mapped by `head` to (B, outputs). D.
    Page, "How to train your ResNet", 2018; pooling comes before normalisation, which computes less.
    """

    name = "resnet9"
    capturable = True
    channels_last = True

    stem: Literal["conv", "cosine"] = "conv"
    """What precedes the layers. `conv`: a 3x3 convolution to half as many channels as `layer1` has,
    with normalisation and a ReLU. `cosine`: the discrete cosine transform of all 2x2 patches and
    their channels, normalised, and its negative, each with a ReLU. These are nearly uncorrelated in
    natural images, so that the layers learn faster, and nothing of it is trained."""
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=3, max_length=3)] = (128, 256, 512)
    """Numbers of output channels of the three layers."""
    logit_scale: Annotated[float, Field(gt=0)] = 0.125
    """Constant factor of the outputs; a small one allows a large learning rate."""

    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts with weights."""
        stem = ("stem",) if self.stem == "conv" else ()
        return (*stem, "layer1", "layer2", "layer3", "head")

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network. Raise ValueError if images are too small for the layers."""
        from .networks import resnet9

        if min(size) < _SMALLEST:
            raise ValueError(
                f"resnet9 halves images 3 times, so height and width must be at least {_SMALLEST} "
                f"pixels: {size[0]}x{size[1]} is too small"
            )
        return resnet9(self.stem, self.widths, self.logit_scale, channels=channels, outputs=outputs)

    def head_parts(self, module: nn.Module) -> tuple[str]:
        """Return the last layer."""
        return ("head",)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the stem, the layers, and what follows."""
        return list(module.children())
