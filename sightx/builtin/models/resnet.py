"""The residual network with 50 layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from sightx.plugin import Problem, SpecError

from .layers import hidden_layers
from .pretrained import IMAGENET, SourcedModel, load

if TYPE_CHECKING:
    from torch import nn

_FEATURES = 2048  # what the last stage gives


class ResNet50(SourcedModel):
    """ResNet50 in stages, with a head of its own.

    conv1, bn1, relu, maxpool, layer1, layer2, layer3, layer4, avgpool, flatten and head lead from
    (B, C, H, W) of any size to (B, outputs); all but the head are as torchvision names them.
    He, Zhang, Ren, Sun, CVPR 2016, with the stride in a bottleneck's 3x3 convolution.
    """

    name = "resnet50"
    capturable = True
    sources = ("imagenet", "imagenet-v1")

    hidden: tuple[PositiveInt, ...] = (512,)
    """Widths of the head's hidden layers; none leaves one linear layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share that training leaves out after each hidden layer, or else before the last."""

    def parts(self) -> tuple[str, ...]:
        """Return the stages that have weights."""
        return ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "head")

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network; its first layer fits the channels of the images."""
        from torch import nn
        from torchvision.models import resnet50

        if channels != 3 and self.weights in self.sources:
            message = f"the weights {self.weights!r} are for 3 channels, the images have {channels}"
            raise SpecError(Problem("channels", message, 'use "none"', path="model.weights"))
        parts = OrderedDict(resnet50(weights=None, num_classes=outputs).named_children())
        if channels != 3:
            parts["conv1"] = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(parts["conv1"].weight, mode="fan_out", nonlinearity="relu")
        del parts["fc"]
        parts["flatten"] = nn.Flatten()
        parts["head"] = self._head(outputs)
        return nn.Sequential(parts)

    def _head(self, outputs: int) -> nn.Module:
        from torch import nn

        layers = hidden_layers(_FEATURES, self.hidden, self.dropout)
        layers["output"] = nn.Linear((_FEATURES, *self.hidden)[-1], outputs)
        return nn.Sequential(layers)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the stem, the four layers, the pool and the head."""
        from torch import nn

        parts = list(module.children())
        return [nn.Sequential(*parts[:4]), *parts[4:8], nn.Sequential(*parts[8:10]), parts[10]]

    def initialise(self, module: nn.Module) -> None:
        """Load torchvision's ImageNet weights, "imagenet" the better second set; the head stays."""
        if self.weights not in self.sources:
            return super().initialise(module)
        from torchvision.models import ResNet50_Weights as Published

        entry = {"imagenet": Published.IMAGENET1K_V2, "imagenet-v1": Published.IMAGENET1K_V1}
        return load(module, entry[self.weights], head="head.", dropped=("fc.",))

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return ImageNet's statistics."""
        return IMAGENET
