"""Augmentations that mix pairs of images and their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveFloat

from sightx.plugin import Augment, Params

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Array = np.ndarray[Any, Any]


class _Mix(Augment):
    """Mix each sample with another one of its micro-batch.

    `weight` is the fraction of the sample itself, 1 for a sample that stays as it is.
    """

    mixes = True

    alpha: PositiveFloat = 1.0
    """Weights have the distribution Beta(alpha, alpha): 1 is uniform, less is nearer to 0 and 1."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Probability that a sample is mixed, 0 to 1."""
    off_after: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Part of all steps after which no sample is mixed: 0.9 leaves the last tenth unmixed."""

    def draw(self, n: int, rng: np.random.Generator, *, progress: float) -> Params:
        """Draw a weight and the position of another sample for each sample."""
        import numpy as np

        weight = rng.beta(self.alpha, self.alpha, n)
        is_mixed = rng.random(n) < self.probability * (progress < self.off_after)
        return {"weight": np.where(is_mixed, weight, 1.0), "partner": rng.permutation(n)}


class MixUp(_Mix):
    """Replace each image and its class by a weighted mean with another image and its class.

    H. Zhang et al., 2018. Each sample has its own weight; in torchvision's MixUp a batch has one.
    """

    name = "mixup"

    def apply(
        self, images: Tensor, targets: Tensor, params: Params, *, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Return weighted means of images and targets."""
        partner, weight = _send(images, params["partner"], params["weight"])
        mixed = images[partner].lerp(images, weight.view(-1, 1, 1, 1))
        return mixed, _mixed_targets(targets, partner, weight, classes)


class CutMix(_Mix):
    """Replace a rectangle of each image by that of another image, and mix classes by area.

    S. Yun et al., 2019. The rectangle has a fraction of about 1 - weight of the area, less if it
    reaches beyond a border. Each sample has its own rectangle; in torchvision's CutMix a batch has
    one.
    """

    name = "cutmix"

    def draw(self, n: int, rng: np.random.Generator, *, progress: float) -> Params:
        """Draw weights, other samples, and centres of rectangles as fractions of width and height.

        A fraction is below 1.
        """
        return {**super().draw(n, rng, progress=progress), "x": rng.random(n), "y": rng.random(n)}

    def apply(
        self, images: Tensor, targets: Tensor, params: Params, *, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Return images with rectangles of others, and targets mixed by area."""
        import numpy as np
        import torch

        height, width = images.shape[-2:]
        half = 0.5 * np.sqrt(1 - params["weight"])
        left, right = _limits(params["x"], half, width)
        top, bottom = _limits(params["y"], half, height)
        area = (right - left) * (bottom - top) / (width * height)
        partner, weight, edges = _send(
            images, params["partner"], 1 - area, np.stack([left, right, top, bottom])
        )
        x, y = (torch.arange(size, device=images.device) for size in (width, height))
        left, right, top, bottom = edges[..., None]
        is_column, is_row = (x >= left) & (x < right), (y >= top) & (y < bottom)
        is_other = (is_row[:, :, None] & is_column[:, None, :])[:, None]
        mixed = torch.where(is_other, images[partner], images)
        return mixed, _mixed_targets(targets, partner, weight, classes)


def _limits(centre: Array, half: Array, size: int) -> tuple[Array, Array]:
    """Return the pixels (n,) at which rectangles begin and end, as torchvision's CutMix."""
    import numpy as np

    pixel, reach = np.floor(centre * size), np.floor(half * size)
    return np.clip(pixel - reach, 0, size), np.clip(pixel + reach, 0, size)


def _send(images: Tensor, partner: Array, *values: Array) -> tuple[Tensor, ...]:
    """Return positions, and values as float32, on the device of the images."""
    import numpy as np
    import torch

    from sightx.plugin import to_device

    arrays = [partner, *(value.astype(np.float32) for value in values)]
    return tuple(to_device(torch.from_numpy(array), images.device) for array in arrays)


def _mixed_targets(targets: Tensor, partner: Tensor, weight: Tensor, classes: int) -> Tensor:
    """Return probabilities (n, classes), the weighted means of two targets."""
    from torch.nn.functional import one_hot

    if targets.ndim == 1:
        targets = one_hot(targets, classes).float()
    return targets[partner].lerp(targets, weight[:, None])
