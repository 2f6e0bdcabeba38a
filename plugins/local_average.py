"""Subtract the local average colour of a fundus photograph, as the EyePACS winner did.

Source: B. Graham, "Kaggle diabetic retinopathy detection competition report", 2015.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveFloat

from sightx.plugin import Component, Preprocess, Shape, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

_GREY = 128  # Pixels that equal the local average, and pixels outside the eye.
_REACH = 3  # Standard deviations after which the Gaussian is cut off.


class SubtractLocalAverage(Preprocess):
    """Scale the eye to a fixed radius and subtract the local average from each pixel.

    The result is a square of 2 * rim * radius pixels around the centre of the photograph:
    128 + gain * (pixel - local average), clamped to 0..255, and grey outside the eye. The diameter
    of the eye is the number of pixels of the middle row that are brighter than a tenth of its mean.
    Unlike in the source, scaling is antialiased and the average is not rounded.
    """

    name = "subtract-local-average"
    revision = 2

    radius: Annotated[float, Field(ge=1)] = 300.0
    """Radius that the eye is scaled to, in pixels."""
    gain: PositiveFloat = 4.0
    """Factor of the difference from the local average."""
    blur: Annotated[float, Field(gt=0, le=1)] = 1 / 30
    """Standard deviation of the averaging Gaussian, as a fraction of the radius."""
    rim: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Part of the radius that is kept, 0 to 1; the rim of the eye is an artefact of the average."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the eye without its local average, uint8 (C, S, S)."""
        import torch

        pixels = self._scaled(image).float()
        contrast = (pixels - _average(pixels, self.blur * self.radius)) * self.gain
        inside = _distance(contrast) <= self.rim * self.radius
        square = _centered(contrast * inside, self._side, self._side)
        return square.add(_GREY).round().clamp(0, 255).to(torch.uint8)

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of the square."""
        return Shape(shape.channels, self._side, self._side)

    @property
    def _side(self) -> int:
        return max(1, round(2 * self.rim * self.radius))

    def _scaled(self, image: Tensor) -> Tensor:
        """Return the part that the result depends on, with the eye scaled to the radius."""
        from torch.nn.functional import interpolate

        scale = self.radius / _radius(image)
        wanted = self._side + 2 * math.ceil(_REACH * self.blur * self.radius + 1)
        (height, rows), (width, columns) = (_part(edge, wanted, scale) for edge in image.shape[-2:])
        # Decoded pixels are stored channels last, which torch scales several times faster.
        part = _centered(image, height, width)[None]
        scaled: Tensor = interpolate(part, (rows, columns), mode="bilinear", antialias=True)
        return scaled[0]


def _radius(image: Tensor) -> float:
    """Return half of the number of bright pixels in the middle row; of a black row, of all."""
    row = image[:, image.shape[1] // 2].float().sum(dim=0)
    bright = int((row > row.mean() / 10).sum())
    return (bright or row.numel()) / 2


def _part(edge: int, wanted: int, scale: float) -> tuple[int, int]:
    """Return how many central pixels of an edge to take, and how many they are scaled to."""
    parity = edge % 2  # The parity stays the same, so that the centre does not move.
    part = min(edge, max(2 - parity, 2 * round((wanted / scale - parity) / 2) + parity))
    return part, max(1, round(part * scale))


def _average(pixels: Tensor, deviation: float) -> Tensor:
    """Blur (C, H, W) with a Gaussian, vertically and horizontally, mirrored at the borders."""
    import torch

    reach = max(1, round(_REACH * deviation))
    distance = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(distance.square() / (-2 * deviation**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    down = _blurred(pixels, kernel, reach)
    return _blurred(down.transpose(1, 2), kernel, reach).transpose(1, 2)


def _blurred(pixels: Tensor, kernel: Tensor, reach: int) -> Tensor:
    """Blur (C, H, W) along H."""
    import torch
    from torch.nn.functional import conv2d

    last = pixels.shape[1] - 1
    rows = torch.arange(-reach, last + reach + 1) % max(1, 2 * last)
    mirrored = torch.where(rows > last, 2 * last - rows, rows)  # cb|abcd|cb, for any length
    return conv2d(pixels[:, mirrored].unsqueeze(1), kernel).squeeze(1)


def _distance(image: Tensor) -> Tensor:
    """Return the distance of each pixel from the centre, (H, W)."""
    import torch

    height, width = image.shape[-2:]
    down = torch.arange(height) - (height - 1) / 2
    across = torch.arange(width) - (width - 1) / 2
    return torch.hypot(down.view(-1, 1), across)


def _centered(image: Tensor, height: int, width: int) -> Tensor:
    """Return the centre of an image, padded with 0 where the image is smaller."""
    from torch.nn.functional import pad

    top, left = (height - image.shape[-2]) // 2, (width - image.shape[-1]) // 2
    bottom, right = height - image.shape[-2] - top, width - image.shape[-1] - left
    result: Tensor = pad(image, [left, right, top, bottom])
    return result


@hookimpl
def sightx_components() -> list[type[Component]]:
    """Return the components of this plugin."""
    return [SubtractLocalAverage]
