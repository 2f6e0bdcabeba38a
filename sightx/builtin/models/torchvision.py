"""All classification networks of torchvision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from sightx.plugin import Problem, SpecError, Statistics, did_you_mean

from .pretrained import IMAGENET, PretrainedModel, load_pretrained

if TYPE_CHECKING:
    from torch import nn

_HALF: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_NORMALIZED_BY_HALF = frozenset({"efficientnet_v2_l"})  # A test compares with torchvision.
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # Extra heads of inception_v3 and googlenet.
_WITH_AUXILIARY = frozenset({"googlenet", "inception_v3"})
_ANY_SIZE = ("swin_", "vit_", "maxvit_")  # Their published minimum size is their training size.


class TorchvisionModel(PretrainedModel):
    """Any classification network of torchvision.

    It maps images (B, 3, H, W) to (B, outputs). Names of parts and weights are torchvision's.
    """

    name = "torchvision"
    capturable = True
    channels_last = True
    pretrained = ("imagenet",)

    arch: str = Field(examples=["resnet18"])
    """Name in torchvision.models, such as resnet18, efficientnet_b0, convnext_tiny or vit_b_16."""

    @field_validator("arch")
    @classmethod
    def _check_arch(cls, arch: str) -> str:
        """Look the name up in a list, because importing torchvision takes seconds.

        The list is of one release; a newer torchvision may have more networks.
        """
        text = (files("sightx.builtin.models") / "torchvision_names.txt").read_text(
            encoding="utf-8"
        )
        release, *known = text.split()
        is_newer = _release_numbers(version("torchvision")) > _release_numbers(release)
        if arch in known or is_newer:
            return arch
        context = {
            "message": f"torchvision has no classification network {arch!r}",
            "hint": did_you_mean(arch, known, 3) or "resnet18 and vit_b_16 are some",
            "known": known,
        }
        raise PydanticCustomError("unknown-arch", "{message}", context)

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network with `outputs` outputs.

        Raise SpecError for an unknown name or other than three channels, and ValueError for a size
        that the network does not support.
        """
        import torch
        from torchvision.models import get_model

        entry = self._entry()
        if channels != 3:
            message = f"{self.arch} needs 3 channels, the images have {channels}"
            raise SpecError(Problem("channels", message, path="model.arch"))
        self._check_size(size, entry)
        # torchvision computes the widths of a RegNet from tensors, which have no values on `meta`.
        device = torch.device("cpu") if self.arch.startswith("regnet_") else nullcontext()
        with device:
            network: nn.Module = get_model(
                self.arch, weights=None, num_classes=outputs, **self._options(size)
            )
        return network.to(torch.get_default_device())

    def _entry(self) -> Any:
        """Return torchvision's entry of the best published weights. Raise SpecError without one."""
        from torchvision import models

        names = models.list_models(module=models)
        if self.arch in names:
            return models.get_model_weights(self.arch).DEFAULT
        hint = did_you_mean(self.arch, names, 3) or "resnet18 and vit_b_16 are some"
        message = f"{self.arch!r} is not a classification network of torchvision"
        raise SpecError(Problem("unknown-arch", message, hint, path="model.arch"))

    def _check_size(self, size: tuple[int, int], entry: Any) -> None:
        height, width = size
        minimum = (1, 1) if self.arch.startswith(_ANY_SIZE) else entry.meta["min_size"]
        if height < minimum[0] or width < minimum[1]:
            raise ValueError(
                f"{self.arch} needs at least {minimum[0]}x{minimum[1]} pixels, not {height}x{width}"
            )
        if not self.arch.startswith("vit_"):
            return
        patch = int(self.arch.rpartition("_")[2])
        if height != width or height % patch:
            raise ValueError(
                f"{self.arch} needs squares with a multiple of {patch} pixels, not {height}x{width}"
            )
        if self.weights == "imagenet" and height != (size_of_weights := entry.meta["min_size"][0]):
            raise ValueError(
                f"{self.arch} with weights imagenet needs {size_of_weights}x{size_of_weights}, "
                f"not {height}x{width}"
            )

    def _options(self, size: tuple[int, int]) -> dict[str, Any]:
        """Return further arguments for some networks.

        Networks whose published weights expect rescaled pixels rescale them with any weights, so
        that `normalization` is always right.
        """
        if self.arch in _WITH_AUXILIARY:
            return {"aux_logits": False, "init_weights": True, "transform_input": True}
        if self.arch.startswith("vit_"):
            return {"image_size": size[0]}
        return {"input_size": size} if self.arch.startswith("maxvit_") else {}

    def stages(self, module: nn.Module) -> Sequence[nn.Module] | None:
        """Return the blocks, the pooling and the head; None if the network is not a known chain."""
        from torch import nn

        parts, flat = dict(module.named_children()), nn.Flatten()
        match list(parts):
            case ["conv1", "bn1", "relu", "maxpool", *layers, "avgpool", "fc"]:
                stem = nn.Sequential(*(parts[name] for name in ("conv1", "bn1", "relu", "maxpool")))
                chain = [stem, *(parts[name] for name in layers), parts["avgpool"], flat]
            case ["stem", "trunk_output", "avgpool", "fc"]:
                chain = [parts["stem"], *parts["trunk_output"].children(), parts["avgpool"], flat]
            case ["features", "avgpool", "classifier"]:
                chain = [*parts["features"].children(), parts["avgpool"]]
                if not any(isinstance(part, nn.Flatten) for part in parts["classifier"].children()):
                    chain.append(flat)
            case ["features", *middle, "flatten", "head"]:
                chain = [*parts["features"].children(), *(parts[name] for name in middle), flat]
            case ["features", "classifier"] if self.arch.startswith(("densenet", "mobilenet_v2")):
                relu = [nn.ReLU()] if self.arch.startswith("densenet") else []
                chain = [*parts["features"].children(), *relu, nn.AdaptiveAvgPool2d(1), flat]
            case _:
                return None
        return [*chain, list(parts.values())[-1]]

    def initialise(self, module: nn.Module) -> None:
        """Load torchvision's best ImageNet weights, except for the last layer."""
        if self.weights not in self.pretrained:
            return super().initialise(module)
        head = f"{_last_layer(module)}."
        rename = _rename_densenet if self.arch.startswith("densenet") else str
        ignored = (head, *_AUXILIARY)
        return load_pretrained(module, self._entry(), head=head, ignored=ignored, rename=rename)

    def normalization(self) -> Statistics:
        """Return the mean and standard deviation that the published weights expect."""
        return _HALF if self.arch in _NORMALIZED_BY_HALF else IMAGENET


def _last_layer(module: nn.Module) -> str:
    """Return the name of the last layer with weights; in all networks it is the classifier."""
    layers: list[str] = [
        name for name, part in module.named_modules() if list(part.parameters(recurse=False))
    ]
    return layers[-1]


def _rename_densenet(name: str) -> str:
    """Return today's name of a weight: the files have `norm.1.weight` for `norm1.weight`."""
    return re.sub(r"(?<=\d\.)(norm|conv)\.([12])\.", r"\1\2.", name)


def _release_numbers(release: str) -> list[int]:
    return [int(part) for part in release.split(".")[:2]]
