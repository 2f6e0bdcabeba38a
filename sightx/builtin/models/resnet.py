"""ResNet50."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from sightx.plugin import Problem, SpecError, Statistics

from .pretrained import IMAGENET, PretrainedModel, load_pretrained

if TYPE_CHECKING:
    from torch import nn


class ResNet50(PretrainedModel):
    """ResNet50 with a fully connected head.

    The parts conv1, bn1, relu, maxpool, layer1, layer2, layer3, layer4, avgpool, flatten and head
    map images (B, C, H, W) of any size to (B, outputs); all but the head are torchvision's. K. He,
    X. Zhang, S. Ren and J. Sun, CVPR 2016, with the stride in the 3x3 convolution of a bottleneck.
    """

    name = "resnet50"
    capturable = True
    channels_last = True
    pretrained = ("imagenet", "imagenet-v1")

    hidden: tuple[PositiveInt, ...] = (512,)
    """Widths of the hidden layers of the head; empty: the head is one linear layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate after each hidden layer, or before the last layer if there is none."""

    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts with weights."""
        return ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "head")

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network; its first convolution has as many inputs as images have channels.

        Raise SpecError if pretrained weights are wanted for other than three channels.
        """
        from .networks import resnet50

        if channels != 3 and self.weights in self.pretrained:
            message = f"the weights {self.weights!r} are for 3 channels, the images have {channels}"
            raise SpecError(Problem("channels", message, 'use "none"', path="model.weights"))
        return resnet50(self.hidden, self.dropout, channels=channels, outputs=outputs)

    def head_parts(self, module: nn.Module) -> tuple[str]:
        """Return the head with its hidden layers."""
        return ("head",)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the stem, the four layers, the pooling and the head."""
        from torch import nn

        parts = list(module.children())
        return [nn.Sequential(*parts[:4]), *parts[4:8], nn.Sequential(*parts[8:10]), parts[10]]

    def initialise(self, module: nn.Module) -> None:
        """Load torchvision's ImageNet weights, V2 for `imagenet`; the head stays random."""
        if self.weights not in self.pretrained:
            return super().initialise(module)
        from torchvision.models import ResNet50_Weights as Weights

        entry = {"imagenet": Weights.IMAGENET1K_V2, "imagenet-v1": Weights.IMAGENET1K_V1}
        return load_pretrained(module, entry[self.weights], head="head.", ignored=("fc.",))

    def normalization(self) -> Statistics:
        """Return the statistics of ImageNet."""
        return IMAGENET
