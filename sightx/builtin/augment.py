"""Random changes of a batch in training; each sample has a draw of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from sightx.plugin import Augment

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from torch import Tensor

    Array = np.ndarray[Any, Any]
    Params = Mapping[str, Array]

Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class Flip(Augment):
    """Mirror images left to right, upside down, or both."""

    name = "flip"

    horizontal: Probability = 0.5
    """How often left and right change places."""
    vertical: Probability = 0.0
    """How often top and bottom change places."""

    def mirrors(self) -> bool:
        """Say whether left and right may change places."""
        return self.horizontal > 0

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Return the sign of each axis."""
        import numpy as np

        return {
            "x": np.where(rng.random(n) < self.horizontal, -1.0, 1.0),
            "y": np.where(rng.random(n) < self.vertical, -1.0, 1.0),
        }

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor:
        """Return diagonals of 1 and -1."""
        return _matrix(params["x"], 0, 0, 0, params["y"], 0)


class Rotate(Augment):
    """Turn images about their centre; the corners that come in are black."""

    name = "rotate"

    degrees: Annotated[float, Field(gt=0, le=180)]
    """The largest turn, either way; turns are spread evenly. 180 gives every angle."""

    def mirrors(self) -> bool:
        """Say whether left and right may change places: beyond a quarter turn they do."""
        return self.degrees > 90

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Return angles in degrees, counter-clockwise."""
        return {"angle": rng.uniform(-self.degrees, self.degrees, n)}

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor:
        """Return the turns back."""
        import numpy as np

        angle = np.deg2rad(params["angle"])
        cosine, sine = np.cos(angle), np.sin(angle)
        return _matrix(cosine, -sine, 0, sine, cosine, 0)


class Crop(Augment):
    """Cut out a random part and enlarge it to the whole.

    Area, aspect and place are drawn as for torchvision's RandomResizedCrop; where such a part would
    not fit, its aspect gives way and its area stays, without another try. Nothing is ever reduced,
    so no antialiasing is needed.
    """

    name = "crop"

    scale: tuple[Share, Share] = (0.08, 1.0)
    """The smallest and the largest share of the area."""
    ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    """The smallest and the largest width for a height of one; logarithms are spread evenly."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key} must be [smallest, largest], not [{low}, {high}]")
        return self

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Return shares of the area, aspects, and places between the borders, -0.5 to 0.5."""
        import numpy as np

        low, high = self.ratio
        return {
            "scale": rng.uniform(*self.scale, n),
            "ratio": np.exp(rng.uniform(math.log(low), math.log(high), n)),
            "x": rng.uniform(-0.5, 0.5, n),
            "y": rng.uniform(-0.5, 0.5, n),
        }

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor:
        """Return the size of each part as shares of the whole, and its centre."""
        import numpy as np

        full_height, full_width = size
        area = params["scale"] * full_height * full_width
        ratio = np.clip(params["ratio"], area / full_height**2, full_width**2 / area)
        width, height = np.sqrt(area * ratio), np.sqrt(area / ratio)
        x, y = params["x"] * (full_width - width), params["y"] * (full_height - height)
        return _matrix(width / full_width, 0, x, 0, height / full_height, y)


class Shift(Augment):
    """Move images by whole pixels; what comes in is black.

    The same as padding every side and cutting the old size out again at random, as is customary
    with CIFAR.
    """

    name = "shift"

    pixels: PositiveInt = 4
    """The largest move along each axis, either way."""

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Return moves in pixels."""
        low, high = -self.pixels, self.pixels + 1
        return {axis: rng.integers(low, high, n).astype(float) for axis in ("x", "y")}

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor:
        """Return the moves."""
        return _matrix(1, 0, params["x"], 0, 1, params["y"])


class ColorJitter(Augment):
    """Change brightness, contrast, saturation and hue, in this order.

    Each factor means what it does in torchvision: 1 changes nothing, and every step ends in [0, 1].
    Images of one channel have neither saturation nor hue.
    """

    name = "color-jitter"

    brightness: NonNegativeFloat = 0.0
    """Pixels times a factor between 1 - brightness (not below 0) and 1 + brightness."""
    contrast: NonNegativeFloat = 0.0
    """The distance to the image's mean luma, times such a factor."""
    saturation: NonNegativeFloat = 0.0
    """The distance to each pixel's luma, times such a factor."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """The largest turn of the colour wheel either way; 0.5 is half of it."""

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Return factors, and the turn of the hue."""
        factors = {
            key: rng.uniform(max(0.0, 1 - strength), 1 + strength, n)
            for key in ("brightness", "contrast", "saturation")
            for strength in [getattr(self, key)]
        }
        return {**factors, "hue": rng.uniform(-self.hue, self.hue, n)}

    def apply(self, images: Tensor, targets: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        """Return images in other colours."""
        values = {key: _beside(images, drawn) for key, drawn in params.items()}
        coloured = images.shape[1] == 3
        if self.brightness:
            images = (images * values["brightness"]).clamp(0, 1)
        if self.contrast:
            mean = _luma(images).mean(dim=(-2, -1), keepdim=True)
            images = mean.lerp(images, values["contrast"]).clamp(0, 1)
        if self.saturation and coloured:
            images = _luma(images).lerp(images, values["saturation"]).clamp(0, 1)
        if self.hue and coloured:
            images = _hue_turned(images, values["hue"])
        return images, targets


def _matrix(*entries: Array | float) -> Tensor:
    """Return (n, 2, 3) from six entries, row by row; numbers hold for all samples."""
    import numpy as np
    import torch

    stacked = np.stack(np.broadcast_arrays(*entries), axis=-1)
    return torch.from_numpy(stacked.reshape(-1, 2, 3).astype(np.float32))


def _beside(images: Tensor, drawn: Array) -> Tensor:
    """Return one number a sample, (n, 1, 1, 1), where the images are."""
    import torch

    from sightx.plugin import to_device

    return to_device(torch.from_numpy(drawn).to(images.dtype), images.device).view(-1, 1, 1, 1)


def _luma(images: Tensor) -> Tensor:
    """Return ITU-R 601 luma, (n, 1, H, W); of one channel, that channel."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images[:, :, None].unbind(dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _hue_turned(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of the HSV hexcone (Smith 1978), keeping saturation and value."""
    import torch

    red, green, blue = images[:, :, None].unbind(dim=1)
    high, low = images.amax(dim=1, keepdim=True), images.amin(dim=1, keepdim=True)
    chroma = high - low
    by = chroma.clamp(min=torch.finfo(images.dtype).tiny)  # greys have no hue: any does
    other = torch.where(high == green, 2 + (blue - red) / by, 4 + (red - green) / by)
    hue = torch.where(high == red, (green - blue) / by, other)
    hue = (hue + 6 * turn).remainder(6)  # in sixths: red is 0, green 2, blue 4
    # A channel has all chroma up to one sixth from its own hue, and none from two sixths on.
    shares = torch.cat([(hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs()], dim=1)
    return torch.addcmul(low, chroma, shares.clamp_(0, 1))
