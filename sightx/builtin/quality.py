"""Whether a photograph is good enough for a grade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightx.plugin import Direction, Quality

if TYPE_CHECKING:
    import numpy as np


class Fundus(Quality):
    """Judge photographs of the retina by their light, their sharpness and the visible disc.

    The measures are those by which `sightx audit` finds the images of the worst quality: sharpness,
    contrast, unevenness of light, brightness, share of the disc, share of overexposed pixels.
    """

    name = "fundus"

    def values(self) -> Mapping[str, Direction]:
        """Return the measures of `sightx audit` that have a worse end."""
        from sightx.plugin import QUALITY_DIRECTIONS

        return QUALITY_DIRECTIONS

    def measure(self, image: np.ndarray[Any, Any]) -> Mapping[str, float]:
        """Measure the first three channels, or a grey image as one of three equal channels."""
        from sightx.plugin import QUALITY_DIRECTIONS, measure_quality

        colours = image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)
        measures = measure_quality(colours)._asdict()
        return {name: measures[name] for name in QUALITY_DIRECTIONS}
