"""RandAugment with one resampling: a geometric and a colour operation for each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sightx.plugin import Augment, Params

from .augment import affine, luma, per_sample

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Array = np.ndarray[Any, Any]

# The strongest operations, as in torchvision's RandAugment.
_SHEAR, _TRANSLATION, _DEGREES, _FACTOR, _BITS = 0.3, 150 / 331, 30.0, 0.9, 4


class RandAugment(Augment):
    """Apply a random geometric operation and a random colour operation to each sample.

    They are the operations of RandAugment (E. D. Cubuk et al., 2020), which draws two out of all.
    With one of each kind, pixels are resampled only once, together with those of other
    augmentations. Geometry: nothing, shear or translation along x or y, or rotation; colour:
    nothing, brightness, saturation, contrast, sharpness, posterize, solarize, autocontrast or
    equalize. All are equally frequent, and the strength is that of torchvision's RandAugment with
    magnitude / 30.
    """

    name = "randaugment"
    other_names = ("AutoAugment", "TrivialAugment", "TrivialAugmentWide")

    magnitude: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Strength, from 0 to 1: 0.3 shears by 0.09, rotates by 9 degrees, changes colours by 27 %."""

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Draw the numbers of the operations, and the directions of their effects, 1 or -1."""
        return {
            "geometry": rng.integers(len(_GEOMETRY), size=n),
            "color": rng.integers(len(_COLORS), size=n),
            "geometry_sign": rng.choice([-1.0, 1.0], n),
            "color_sign": rng.choice([-1.0, 1.0], n),
        }

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor:
        """Return the maps of the geometric operations."""
        import numpy as np

        height, width = size
        number, strength = params["geometry"], self.magnitude * params["geometry_sign"]

        def only(name: str, strongest: float) -> Array:
            return np.where(number == _GEOMETRY.index(name), strongest * strength, 0.0)

        angle = np.deg2rad(only("rotate", _DEGREES))
        cosine, sine = np.cos(angle), np.sin(angle)
        return affine(
            cosine, only("shear-x", _SHEAR) - sine, -only("translate-x", _TRANSLATION * width),
            only("shear-y", _SHEAR) + sine, cosine, -only("translate-y", _TRANSLATION * height),
        )  # fmt: skip

    def apply(
        self, images: Tensor, targets: Tensor, params: Params, *, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Return the images with changed colours."""
        import numpy as np
        import torch

        from sightx.plugin import to_device

        images = images.clone()
        for number, operation in enumerate(_COLORS.values()):
            rows = np.flatnonzero(params["color"] == number)
            if operation is None or not len(rows):
                continue
            strength = per_sample(images, self.magnitude * params["color_sign"][rows])
            positions = to_device(torch.from_numpy(rows), images.device)
            images[positions] = operation(images[positions], strength).clamp(0, 1)
        return images, targets


def _brighten(images: Tensor, strength: Tensor) -> Tensor:
    return images * (1 + _FACTOR * strength)


def _saturate(images: Tensor, strength: Tensor) -> Tensor:
    return luma(images).lerp(images, 1 + _FACTOR * strength) if images.shape[1] == 3 else images


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    return luma(images).mean(dim=(-2, -1), keepdim=True).lerp(images, 1 + _FACTOR * strength)


def _sharpen(images: Tensor, strength: Tensor) -> Tensor:
    """Change the difference from the mean of 3x3 pixels, of which the middle one counts 5 times."""
    from torch.nn.functional import avg_pool2d, pad

    if min(images.shape[-2:]) <= 2:
        return images
    blurred = (9 * avg_pool2d(images, 3, stride=1) + 4 * images[..., 1:-1, 1:-1]) / 13
    change = (images[..., 1:-1, 1:-1] - blurred) * (_FACTOR * strength)
    return images + pad(change, (1, 1, 1, 1))  # pixels of the border stay


def _posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Keep 8 to 4 bits of 8."""
    lost = 2 ** (_BITS * strength.abs()).round()
    return _eight_bits(images).div(lost).floor() * lost / 255


def _solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Invert pixels that are as bright as 1 - strength."""
    return images.where(images < 1 - strength.abs(), 1 - images)


def _autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    """Stretch each channel to 0 and 1; a channel of one value stays."""
    low, high = (extreme(dim=(-2, -1), keepdim=True) for extreme in (images.amin, images.amax))
    return images.where(low == high, (images - low) / (high - low).where(low != high, 1))


def _equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Spread the 256 values of each channel evenly, in the integer arithmetic of Pillow."""
    import torch

    values = _eight_bits(images).long().flatten(2)  # (n, C, H W)
    counts = values.new_zeros((*values.shape[:2], 256))
    counts.scatter_add_(2, values, torch.ones_like(values))
    highest = values.amax(dim=2, keepdim=True)
    step = (values.shape[2] - counts.gather(2, highest)).div(255, rounding_mode="floor")
    before = counts.cumsum(dim=2) - counts  # pixels below each value
    table = (before + step.div(2, rounding_mode="floor")).div(
        step.clamp(min=1), rounding_mode="floor"
    )
    spread = table.clamp(max=255).gather(2, values).where(step > 0, values)
    return spread.to(images.dtype).div(255).view_as(images)


def _eight_bits(images: Tensor) -> Tensor:
    return (images * 255).round()


_GEOMETRY = ("identity", "shear-x", "shear-y", "translate-x", "translate-y", "rotate")
_COLORS: dict[str, Callable[[Tensor, Tensor], Tensor] | None] = {
    "identity": None,
    "brightness": _brighten,
    "saturation": _saturate,
    "contrast": _contrast,
    "sharpness": _sharpen,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
