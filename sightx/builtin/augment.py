"""Random augmentations of training batches, drawn independently for each sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from sightx.plugin import Augment, Params

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from torch import Tensor

    Array = np.ndarray[Any, Any]

Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class Flip(Augment):
    """Flip images horizontally, vertically, or both."""

    name = "flip"
    other_names = (
        "RandomHorizontalFlip", "RandomVerticalFlip", "hflip", "vflip", "Fliplr", "mirror",
    )  # fmt: skip

    horizontal: Probability = 0.5
    """Probability of exchanging left and right, 0 to 1."""
    vertical: Probability = 0.0
    """Probability of exchanging top and bottom, 0 to 1."""

    def mirrors(self) -> bool:
        """Return whether images may be flipped horizontally."""
        return self.horizontal > 0

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Draw the sign of each axis, 1 or -1."""
        import numpy as np

        return {
            "x": np.where(rng.random(n) < self.horizontal, -1.0, 1.0),
            "y": np.where(rng.random(n) < self.vertical, -1.0, 1.0),
        }

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor:
        """Return diagonal matrices of the signs."""
        return affine(params["x"], 0, 0, 0, params["y"], 0)


class Rotate(Augment):
    """Rotate images around their centre; uncovered corners become black."""

    name = "rotate"
    other_names = ("RandomRotation", "rotation", "RandomAffine", "affine", "ShiftScaleRotate")

    degrees: Annotated[float, Field(gt=0, le=180)]
    """Largest angle; angles are uniform in [-degrees, degrees]. 180 gives every angle."""

    def mirrors(self) -> bool:
        """Return whether left and right may be exchanged: beyond 90 degrees they are."""
        return self.degrees > 90

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Draw angles in degrees, counter-clockwise."""
        return {"angle": rng.uniform(-self.degrees, self.degrees, n)}

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor:
        """Return the inverse rotations: from output to input."""
        import numpy as np

        angle = np.deg2rad(params["angle"])
        cosine, sine = np.cos(angle), np.sin(angle)
        return affine(cosine, -sine, 0, sine, cosine, 0)


class Crop(Augment):
    """Crop a random rectangle and resize it to the full image.

    Area, aspect ratio and position are drawn as in torchvision's RandomResizedCrop. If a rectangle
    does not fit, its aspect ratio is changed and its area is kept, so there is no second try. A
    crop is never reduced, so no antialiasing is needed.
    """

    name = "crop"
    other_names = ("RandomResizedCrop", "RandomCrop", "RandomZoom", "zoom", "random_crop")

    scale: tuple[Fraction, Fraction] = (0.08, 1.0)
    """Smallest and largest fraction of the image's area, 0 to 1; uniformly distributed."""
    ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio, width / height; its logarithm is uniformly distributed."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        require_ascending(self, "scale", "ratio")
        return self

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Draw fractions of the area, aspect ratios, and positions from -0.5 to 0.5."""
        import numpy as np

        low, high = self.ratio
        return {
            "scale": rng.uniform(*self.scale, n),
            "ratio": np.exp(rng.uniform(math.log(low), math.log(high), n)),
            "x": rng.uniform(-0.5, 0.5, n),
            "y": rng.uniform(-0.5, 0.5, n),
        }

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor:
        """Return scalings to the size of each rectangle, and shifts to its centre."""
        import numpy as np

        full_height, full_width = size
        area = params["scale"] * full_height * full_width
        ratio = np.clip(params["ratio"], area / full_height**2, full_width**2 / area)
        width, height = np.sqrt(area * ratio), np.sqrt(area / ratio)
        x, y = params["x"] * (full_width - width), params["y"] * (full_height - height)
        return affine(width / full_width, 0, x, 0, height / full_height, y)


class Shift(Augment):
    """Shift images by whole pixels; uncovered pixels become black.

    This equals padding all four borders and cropping the old size at a random position, the usual
    augmentation for CIFAR.
    """

    name = "shift"
    other_names = (
        "translate", "translation", "RandomTranslation", "RandomAffine", "affine",
        "ShiftScaleRotate",
    )  # fmt: skip

    pixels: PositiveInt = 4
    """Largest shift along each axis in pixels; shifts are uniform in [-pixels, pixels]."""

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Draw shifts in pixels."""
        low, high = -self.pixels, self.pixels + 1
        return {axis: rng.integers(low, high, n).astype(float) for axis in ("x", "y")}

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor:
        """Return the shifts."""
        return affine(1, 0, params["x"], 0, 1, params["y"])


class ColorJitter(Augment):
    """Change brightness, contrast, saturation and hue at random, in this order.

    Factors have torchvision's meaning: 1 changes nothing, and the result of each step is clamped to
    [0, 1]. Saturation and hue of images with one channel do not change.
    """

    name = "color-jitter"
    other_names = (
        "ColorJitter", "jitter", "colour-jitter", "brightness", "contrast", "RandomBrightness",
        "RandomContrast", "RandomBrightnessContrast", "HueSaturationValue",
    )  # fmt: skip

    brightness: NonNegativeFloat = 0.0
    """Pixels are multiplied by a factor from max(0, 1 - brightness) to 1 + brightness."""
    contrast: NonNegativeFloat = 0.0
    """Likewise, a factor for each pixel's difference from the mean luma of the image."""
    saturation: NonNegativeFloat = 0.0
    """Likewise, a factor for each channel's difference from the luma of the pixel."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift of the hue, in turns of the colour wheel; 0.5 gives every hue."""

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Draw factors, and shifts of the hue in turns."""
        factors = {
            key: rng.uniform(max(0.0, 1 - strength), 1 + strength, n)
            for key in ("brightness", "contrast", "saturation")
            for strength in [getattr(self, key)]
        }
        return {**factors, "hue": rng.uniform(-self.hue, self.hue, n)}

    def apply(
        self, images: Tensor, targets: Tensor, params: Params, *, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Return the images with changed colours."""
        values = {key: per_sample(images, value) for key, value in params.items()}
        is_rgb = images.shape[1] == 3
        if self.brightness:
            images = (images * values["brightness"]).clamp(0, 1)
        if self.contrast:
            mean = luma(images).mean(dim=(-2, -1), keepdim=True)
            images = mean.lerp(images, values["contrast"]).clamp(0, 1)
        if self.saturation and is_rgb:
            images = luma(images).lerp(images, values["saturation"]).clamp(0, 1)
        if self.hue and is_rgb:
            images = _shift_hue(images, values["hue"])
        return images, targets


def require_ascending(component: Augment, *keys: str) -> None:
    """Raise ValueError if the first of two numbers is greater than the second one."""
    for key in keys:
        low, high = getattr(component, key)
        if low > high:
            raise ValueError(f"{key} must be [smallest, largest], not [{low}, {high}]")


def affine(*entries: Array | float) -> Tensor:
    """Return float32 (n, 2, 3) from six entries, row by row: arrays (n,) or numbers."""
    import numpy as np
    import torch

    stacked = np.stack(np.broadcast_arrays(*entries), axis=-1)
    return torch.from_numpy(stacked.reshape(-1, 2, 3).astype(np.float32))


def per_sample(images: Tensor, values: Array) -> Tensor:
    """Return values (n,) as (n, 1, 1, 1), with the dtype and device of the images."""
    import torch

    from sightx.plugin import to_device

    return to_device(torch.from_numpy(values).to(images.dtype), images.device).view(-1, 1, 1, 1)


def luma(images: Tensor) -> Tensor:
    """Return the luma of ITU-R BT.601, (n, 1, H, W); a single channel is its own luma."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images[:, :, None].unbind(dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Shift the hue in the HSV colour model (A. R. Smith, 1978); saturation and value stay."""
    import torch

    red, green, blue = images[:, :, None].unbind(dim=1)
    high, low = images.amax(dim=1, keepdim=True), images.amin(dim=1, keepdim=True)
    chroma = high - low
    divisor = chroma.clamp(min=torch.finfo(images.dtype).tiny)  # greys have no hue: any will do
    other = torch.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    hue = torch.where(high == red, (green - blue) / divisor, other)
    hue = (hue + 6 * turns).remainder(6)  # in sixths of a turn: red is 0, green 2, blue 4
    # A channel has all of the chroma up to 1/6 turn from its own hue, and none beyond 2/6.
    portions = torch.cat([(hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs()], dim=1)
    return torch.addcmul(low, chroma, portions.clamp_(0, 1))
