"""Take the lighting out of a fundus photograph, as the winner of the EyePACS competition did.

Source: B. Graham, "Kaggle diabetic retinopathy detection competition report", 2015.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveFloat

from sightx.plugin import Component, Preprocess, Shape, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

_GREY = 128  # what equals the average around it, and what is not the eye
_REACH = 3  # deviations after which the Gaussian ends


class SubtractLocalAverage(Preprocess):
    """Scale the eye to one radius and show each pixel against the average around it.

    The result is a square of 2 * rim * radius pixels around the middle of the photograph:
    128 + gain * (pixel - local average), cut to 0..255, and grey where the eye is not.
    The eye is measured on the middle row: what is brighter than a tenth of that row's mean.
    Other than in the source, scaling is antialiased and the average is not rounded.
    """

    name = "subtract-local-average"
    revision = 2

    radius: Annotated[float, Field(ge=1)] = 300.0
    """The radius that the eye is scaled to, in pixels."""
    gain: PositiveFloat = 4.0
    """How much the difference from the average is stretched."""
    blur: Annotated[float, Field(gt=0, le=1)] = 1 / 30
    """The deviation of the Gaussian that averages, as a share of the radius."""
    rim: Annotated[float, Field(gt=0, le=1)] = 0.9
    """What is kept, as a share of the radius: the rim of the eye is nothing but contrast."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the eye freed of its lighting, uint8 (C, S, S)."""
        import torch

        pixels = self._scaled(image).float()
        contrast = (pixels - _average(pixels, self.blur * self.radius)) * self.gain
        inside = _distance(contrast) <= self.rim * self.radius
        square = _centered(contrast * inside, self._side, self._side)
        return square.add(_GREY).round().clamp(0, 255).to(torch.uint8)

    def shape(self, shape: Shape) -> Shape:
        """Return the square."""
        return Shape(shape.channels, self._side, self._side)

    @property
    def _side(self) -> int:
        return max(1, round(2 * self.rim * self.radius))

    def _scaled(self, image: Tensor) -> Tensor:
        """Return what the result can depend on, with the eye at its radius."""
        from torch.nn.functional import interpolate

        scale = self.radius / _radius(image)
        wanted = self._side + 2 * math.ceil(_REACH * self.blur * self.radius + 1)
        (height, rows), (width, columns) = (_part(side, wanted, scale) for side in image.shape[-2:])
        # Decoded pixels lie channels last, and torch scales them several times faster so.
        part = _centered(image, height, width)[None]
        scaled: Tensor = interpolate(part, (rows, columns), mode="bilinear", antialias=True)
        return scaled[0]


def _radius(image: Tensor) -> float:
    """Return half of the lit part of the middle row; of a black row, half of the row."""
    row = image[:, image.shape[1] // 2].float().sum(dim=0)
    lit = int((row > row.mean() / 10).sum())
    return (lit or row.numel()) / 2


def _part(side: int, wanted: int, scale: float) -> tuple[int, int]:
    """Return how much of a side to take, about its middle, and what it is scaled to."""
    odd = side % 2  # kept, so that the middle stays where it is
    part = min(side, max(2 - odd, 2 * round((wanted / scale - odd) / 2) + odd))
    return part, max(1, round(part * scale))


def _average(pixels: Tensor, deviation: float) -> Tensor:
    """Return a Gaussian blur of (C, H, W), mirrored at the edges: down, then across."""
    import torch

    reach = max(1, round(_REACH * deviation))
    distance = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(distance.square() / (-2 * deviation**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    down = _blurred(pixels, kernel, reach)
    return _blurred(down.transpose(1, 2), kernel, reach).transpose(1, 2)


def _blurred(pixels: Tensor, kernel: Tensor, reach: int) -> Tensor:
    """Return (C, H, W) blurred along H."""
    import torch
    from torch.nn.functional import conv2d

    last = pixels.shape[1] - 1
    rows = torch.arange(-reach, last + reach + 1) % max(1, 2 * last)
    mirrored = torch.where(rows > last, 2 * last - rows, rows)  # cb|abcd|cb, however short
    return conv2d(pixels[:, mirrored].unsqueeze(1), kernel).squeeze(1)


def _distance(image: Tensor) -> Tensor:
    """Return how far each pixel (H, W) is from the middle."""
    import torch

    height, width = image.shape[-2:]
    down = torch.arange(height) - (height - 1) / 2
    across = torch.arange(width) - (width - 1) / 2
    return torch.hypot(down.view(-1, 1), across)


def _centered(image: Tensor, height: int, width: int) -> Tensor:
    """Return the middle, zero where the image is smaller."""
    from torch.nn.functional import pad

    top, left = (height - image.shape[-2]) // 2, (width - image.shape[-1]) // 2
    bottom, right = height - image.shape[-2] - top, width - image.shape[-1] - left
    middle: Tensor = pad(image, [left, right, top, bottom])
    return middle


@hookimpl
def sightx_components() -> list[type[Component]]:
    """Return what this plugin brings."""
    return [SubtractLocalAverage]
