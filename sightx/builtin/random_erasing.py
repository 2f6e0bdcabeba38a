"""Random erasing of a rectangle of each sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat, model_validator

from sightx.plugin import Augment, Params

from .augment import Fraction, Probability, require_ascending

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from torch import Tensor


class RandomErasing(Augment):
    """Replace a random rectangle of an image by one colour.

    Z. Zhong et al., AAAI 2020. Area, aspect ratio and position are drawn as in torchvision's
    RandomErasing. If a rectangle does not fit, its aspect ratio is changed and its area is kept, so
    there is no second try.
    """

    name = "random-erasing"
    other_names = ("cutout", "CoarseDropout", "erase")

    probability: Probability = 0.5
    """Probability that a rectangle is erased, 0 to 1."""
    scale: tuple[Fraction, Fraction] = (0.02, 0.33)
    """Smallest and largest fraction of the image's area, 0 to 1; uniformly distributed."""
    ratio: tuple[PositiveFloat, PositiveFloat] = (0.3, 3.3)
    """Smallest and largest aspect ratio, height / width; its logarithm is uniformly distributed."""
    fill: Literal["black", "mean", "random"] = "black"
    """Colour of the rectangle: black, the mean of the image, or a random one."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        require_ascending(self, "scale", "ratio")
        return self

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Draw fractions of the area (0 if nothing is erased), ratios, positions and colours."""
        import numpy as np

        low, high = self.ratio
        return {
            "scale": rng.uniform(*self.scale, n) * (rng.random(n) < self.probability),
            "ratio": np.exp(rng.uniform(math.log(low), math.log(high), n)),
            "position": rng.random((n, 2)),
            "color": rng.random((n, 3)),
        }

    def apply(
        self, images: Tensor, targets: Tensor, params: Params, *, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Return the images with their rectangles erased."""
        import numpy as np
        import torch

        from sightx.plugin import to_device

        height, width = images.shape[-2:]
        area = params["scale"] * height * width
        ratio = np.clip(params["ratio"], area / width**2, height**2 / np.maximum(area, 1e-9))
        edges = np.rint(np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=1))
        start = np.floor(params["position"] * ([height, width] - edges + 1))
        limits = torch.from_numpy(np.stack([start, start + edges]).astype(np.float32))
        rows, columns = to_device(limits, images.device)[..., None].unbind(dim=2)
        y, x = (torch.arange(size, device=images.device) for size in (height, width))
        is_row, is_column = (
            (at >= low) & (at < high) for at, (low, high) in ((y, rows), (x, columns))
        )
        is_erased = (is_row[:, :, None] & is_column[:, None, :])[:, None]
        return images.where(~is_erased, self._color(images, params)), targets

    def _color(self, images: Tensor, params: Params) -> Tensor:
        """Return the colour of each rectangle, (n, C, 1, 1)."""
        import numpy as np
        import torch

        from sightx.plugin import to_device

        if self.fill == "black":
            return images.new_zeros(())
        if self.fill == "mean":
            return images.mean(dim=(2, 3), keepdim=True)
        color = params["color"][:, np.arange(images.shape[1]) % 3, None, None]
        return to_device(torch.from_numpy(color.astype(np.float32)), images.device)
