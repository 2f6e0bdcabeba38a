"""Every classification network of torchvision, by its name there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from sightx.plugin import Problem, SpecError, did_you_mean

from .pretrained import IMAGENET, SourcedModel, load

if TYPE_CHECKING:
    from torch import nn

_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_TRAINED_ON_HALF = frozenset({"efficientnet_v2_l"})  # a test asks torchvision whether this holds
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # extra heads of inception_v3 and googlenet
_WITH_AUXILIARY = frozenset({"googlenet", "inception_v3"})
_ANY_SIZE = ("swin_", "vit_", "maxvit_")  # their published least size is only what they saw


class TorchvisionModel(SourcedModel):
    """Any classification network of torchvision.

    (B, 3, H, W) leads to (B, outputs); names of parts and weights are torchvision's.
    """

    name = "torchvision"
    capturable = True
    sources = ("imagenet",)

    arch: str
    """The name in torchvision.models: resnet18, efficientnet_b0, convnext_tiny, vit_b_16, ..."""

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network with a head for `outputs`.

        Raises SpecError for an unknown name or other than three channels, ValueError for a size
        that the network cannot take.
        """
        import torch
        from torchvision.models import get_model

        entry = self._entry()
        if channels != 3:
            message = f"{self.arch} wants 3 channels, the images have {channels}"
            raise SpecError(Problem("channels", message, path="model.arch"))
        self._check_size(size, entry)
        # torchvision computes the widths of a RegNet with tensors, which the meta device cannot
        place = torch.device("cpu") if self.arch.startswith("regnet_") else nullcontext()
        with place:
            network: nn.Module = get_model(
                self.arch, weights=None, num_classes=outputs, **self._options(size)
            )
        return network.to(torch.get_default_device())

    def _entry(self) -> Any:
        """Return torchvision's entry of the best published weights."""
        from torchvision import models

        names = models.list_models(module=models)
        if self.arch in names:
            return models.get_model_weights(self.arch).DEFAULT
        hint = did_you_mean(self.arch, names, 3) or "resnet18 and vit_b_16 are some"
        message = f"{self.arch!r} is no classification network of torchvision"
        raise SpecError(Problem("unknown-arch", message, hint, path="model.arch"))

    def _check_size(self, size: tuple[int, int], entry: Any) -> None:
        height, width = size
        least = (1, 1) if self.arch.startswith(_ANY_SIZE) else entry.meta["min_size"]
        if height < least[0] or width < least[1]:
            raise ValueError(
                f"{self.arch} needs {least[0]}x{least[1]} pixels, not {height}x{width}"
            )
        if not self.arch.startswith("vit_"):
            return
        patch = int(self.arch.rpartition("_")[2])
        if height != width or height % patch:
            raise ValueError(
                f"{self.arch} needs squares of a multiple of {patch} pixels, not {height}x{width}"
            )
        if self.weights == "imagenet" and height != (side := entry.meta["min_size"][0]):
            raise ValueError(
                f"{self.arch} with weights imagenet needs {side}x{side}, not {height}x{width}"
            )

    def _options(self, size: tuple[int, int]) -> dict[str, Any]:
        """Return what some networks need to be told.

        Those that published weights feed with rescaled pixels rescale them whatever the source of
        the weights, so that `normalization` always holds.
        """
        if self.arch in _WITH_AUXILIARY:
            return {"aux_logits": False, "init_weights": True, "transform_input": True}
        if self.arch.startswith("vit_"):
            return {"image_size": size[0]}
        return {"input_size": size} if self.arch.startswith("maxvit_") else {}

    def stages(self, module: nn.Module) -> Sequence[nn.Module] | None:
        """Return the blocks, what joins them to the head, and the head; None for no such chain."""
        from torch import nn

        parts, flat = dict(module.named_children()), nn.Flatten()
        match list(parts):
            case ["conv1", "bn1", "relu", "maxpool", *layers, "avgpool", "fc"]:
                stem = nn.Sequential(*(parts[name] for name in ("conv1", "bn1", "relu", "maxpool")))
                chain = [stem, *(parts[name] for name in layers), parts["avgpool"], flat]
            case ["stem", "trunk_output", "avgpool", "fc"]:
                chain = [parts["stem"], *parts["trunk_output"].children(), parts["avgpool"], flat]
            case ["features", "avgpool", "classifier"]:
                flattens = any(
                    isinstance(part, nn.Flatten) for part in parts["classifier"].children()
                )
                chain = [
                    *parts["features"].children(),
                    parts["avgpool"],
                    *([] if flattens else [flat]),
                ]
            case ["features", *joint, "flatten", "head"]:
                chain = [*parts["features"].children(), *(parts[name] for name in joint), flat]
            case ["features", "classifier"] if self.arch.startswith(("densenet", "mobilenet_v2")):
                last = [nn.ReLU()] if self.arch.startswith("densenet") else []
                chain = [*parts["features"].children(), *last, nn.AdaptiveAvgPool2d(1), flat]
            case _:
                return None
        return [*chain, list(parts.values())[-1]]

    def initialise(self, module: nn.Module) -> None:
        """Load the best ImageNet weights that torchvision has; the last layer stays."""
        if self.weights not in self.sources:
            return super().initialise(module)
        head = f"{_last(module)}."
        rename = _densenet if self.arch.startswith("densenet") else str
        return load(module, self._entry(), head=head, dropped=(head, *_AUXILIARY), rename=rename)

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the statistics that the published weights were trained with."""
        return _HALF if self.arch in _TRAINED_ON_HALF else IMAGENET


def _last(module: nn.Module) -> str:
    """Return the name of the last part that has weights of its own: the classifier, everywhere."""
    owners: list[str] = [
        name for name, part in module.named_modules() if list(part.parameters(recurse=False))
    ]
    return owners[-1]


def _densenet(name: str) -> str:
    """Return the present name of a weight: old files say `norm.1.weight` for `norm1.weight`."""
    return re.sub(r"(?<=\d\.)(norm|conv)\.([12])\.", r"\1\2.", name)
