"""Test-time augmentation: the mean output over views of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from sightx.spec.experiment import Tta

_ONE: tuple[tuple[int, ...], ...] = ((),)
_AXES = {
    "none": _ONE,
    "horizontal-flip": (*_ONE, (-1,)),
    "flips": (*_ONE, (-1,), (-2,), (-2, -1)),
    "d4": (*_ONE, (-1,), (-2,), (-2, -1)),
    "flip-and-shift": (*_ONE, (-1,)),
}
"""Axes along which the views are flipped; `views` adds transposes and shifts."""


class ViewAverage(nn.Module):
    """Map images (B, C, H, W) to the mean of a network's outputs (B, K) over views of them."""

    def __init__(self, network: nn.Module, tta: Tta) -> None:
        super().__init__()
        self.network, self._tta = network, tta

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean outputs, float32 (B, K)."""
        outputs = [self.network(view).float() for view in views(images, self._tta)]
        return torch.stack(outputs).mean(dim=0)


def views(images: Tensor, tta: Tta) -> list[Tensor]:
    """Return the views of images (B, C, H, W), which begin with the images as they are.

    `d4` are all eight flips and quarter turns of a square: the four flips, and their transposes.
    `flip-and-shift` are an image and its mirror image, and both shifted along the diagonal by one
    pixel either way, with edge pixels repeated: K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a
    Single GPU", 2024.
    """
    flipped = [images.flip(axes) if axes else images for axes in _AXES[tta]]
    if tta == "d4":
        return [*flipped, *(view.mT.contiguous() for view in flipped)]
    if tta == "flip-and-shift":
        return [*flipped, *(moved for view in flipped for moved in _shifts(view))]
    return flipped


def _shifts(images: Tensor) -> list[Tensor]:
    """Return images shifted by one pixel, to the lower right and to the upper left."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    return [padded[..., :-2, :-2], padded[..., 2:, 2:]]


def with_tta(network: nn.Module, tta: Tta) -> nn.Module:
    """Return a network that averages over views; the network itself for `none`."""
    return network if tta == "none" else ViewAverage(network, tta)
