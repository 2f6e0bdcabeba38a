"""Take the lighting out of a fundus photograph, as the winner of the EyePACS competition did.

Source: B. Graham, "Kaggle diabetic retinopathy detection competition report", 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sightx import Component, Prepare, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


class SubtractLocalAverage(Prepare):
    """Show each pixel against the average around it.

    The result is 128 + gain * (pixel - local average), cut to 0..255, black outside the disc.
    """

    name = "subtract-local-average"

    share: Annotated[float, Field(gt=0, le=0.5)] = 1 / 15
    """The deviation of the Gaussian that averages, as a share of half the image's height."""
    gain: Annotated[float, Field(gt=0)] = 4.0
    """How much the difference is stretched."""
    rim: Annotated[float, Field(gt=0, le=2)] = 0.95
    """The radius, as a share of half the image's height, beyond which all is grey."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the image freed of its lighting, uint8 (C, H, W)."""
        import torch

        height, width = image.shape[1:]
        pixels = image.float()
        contrast = (pixels - _average(pixels, self.share * height / 2)) * self.gain
        rows = torch.arange(height).sub(height / 2 - 0.5).view(-1, 1)
        columns = torch.arange(width).sub(width / 2 - 0.5).view(1, -1)
        inside = rows.square() + columns.square() < (self.rim * height / 2) ** 2
        return (128 + contrast * inside).clamp(0, 255).round().to(torch.uint8)


def _average(pixels: Tensor, deviation: float) -> Tensor:
    """Return a Gaussian blur of (C, H, W), rows first, then columns; edges are repeated."""
    import torch
    from torch.nn import functional

    reach = max(1, round(3 * deviation))
    distance = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-(distance.square()) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    batch = pixels.unsqueeze(1)  # one channel each, so that one kernel serves them all
    batch = functional.conv2d(functional.pad(batch, (0, 0, reach, reach), "replicate"), kernel)
    across = kernel.transpose(2, 3)
    batch = functional.conv2d(functional.pad(batch, (reach, reach, 0, 0), "replicate"), across)
    return batch.squeeze(1)


@hookimpl
def sightx_components() -> list[type[Component]]:
    """Return what this plugin brings."""
    return [SubtractLocalAverage]
