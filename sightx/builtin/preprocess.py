"""Preprocessing of images: sizes, crops and colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from sightx.plugin import Preprocess, Shape

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

Size = PositiveInt | tuple[PositiveInt, PositiveInt]

_SEARCH_SIZE = 512  # The disc is detected on an image whose longer edge is 512 to 1023 pixels.
_MIN_DISC = 0.5  # A disc fills at least this fraction of a photograph's height and width.
_BLACK, _BRIGHT = 0.01, 0.9  # Quantiles for the brightness of the surround and of the retina.
_MIN_CHORD = 0.05  # A line crosses the disc if this fraction of the shorter edge is bright.


class Resize(Preprocess):
    """Resize images, bilinearly with antialiasing.

    The result is the same as torchvision's resize of uint8 tensors; Pillow's differs by at most one
    grey level.
    """

    name = "resize"
    other_names = ("scale", "rescale", "letterbox", "LongestMaxSize")

    size: Size
    """One number for a square, or height and width."""
    fit: Literal["stretch", "pad", "cover"] = "stretch"
    """How to reach another aspect ratio: `stretch`, `pad` with black, or `cover` and crop."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the resized image."""
        size = _pair(self.size)
        return _crop_or_pad(_resize(image, self._scaled_size(image.shape[-2:], size)), size)

    def shape(self, shape: Shape) -> Shape:
        """Return the new size with the same number of channels."""
        return Shape(shape.channels, *_pair(self.size))

    def required_input_size(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """Return the new size: `pad` and `cover` need no more pixels than `stretch`."""
        return _pair(self.size)

    def _scaled_size(self, old: tuple[int, ...], new: tuple[int, int]) -> tuple[int, int]:
        """Return the size before padding or cropping; its height or width is the new one."""
        if self.fit == "stretch":
            return new
        choose = min if self.fit == "pad" else max
        scale = choose(new[0] / old[0], new[1] / old[1])
        return max(1, round(old[0] * scale)), max(1, round(old[1] * scale))


class CenterCrop(Preprocess):
    """Crop the centre of images.

    An image that is smaller than the crop is padded with black. The result is the same as that of
    torchvision's center_crop, also for odd differences.
    """

    name = "center-crop"

    size: Size
    """One number for a square, or height and width."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the centre of the image."""
        return _crop_or_pad(image, _pair(self.size))

    def shape(self, shape: Shape) -> Shape:
        """Return the size of the crop."""
        return Shape(shape.channels, *_pair(self.size))


class CropToFundus(Preprocess):
    """Crop photographs of the retina to the bounding box of the bright disc.

    The box is wider than high if the camera has cut off the disc; resize with `fit = "pad"` to keep
    its aspect ratio. Rows and columns with few bright pixels, such as those of a label in a corner,
    do not count. Images without a black surround, and black images, are not changed.
    """

    name = "crop-to-fundus"
    revision = 2

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Pixels above surround + threshold x (retina - surround) in brightness are bright; 0 to 1."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Margin around the disc, as a fraction of its height and width."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the part of the image that contains the disc."""
        grid, cell = _halve(image)
        height, width = grid.shape[-2:]
        longer = max(height, width)
        # An odd height or width cannot be halved, so the image may still be large.
        step = longer / _SEARCH_SIZE if longer >= 2 * _SEARCH_SIZE else 1.0
        small = _resize(grid, (max(1, round(height / step)), max(1, round(width / step))))
        rows, columns = self._find_disc(small.amax(dim=0).numpy())
        top, bottom = self._with_margin(rows, small.shape[-2], height)
        left, right = self._with_margin(columns, small.shape[-1], width)
        return image[:, top * cell : bottom * cell, left * cell : right * cell]

    def shape(self, shape: Shape) -> Shape:
        """Return an unknown size: it depends on the image."""
        return Shape(shape.channels, None, None)

    def required_input_size(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return a size whose disc is large enough, and on which the same disc is detected."""
        if size is None:
            return None
        height, width = (max(_SEARCH_SIZE, math.ceil(edge / _MIN_DISC)) for edge in size)
        return height, width

    def _find_disc(self, light: npt.NDArray[np.uint8]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the (start, end) of the rows and of the columns of the disc in uint8 (H, W)."""
        import numpy as np

        counts = np.bincount(light.ravel()).cumsum()
        black, bright = np.searchsorted(counts, np.multiply([_BLACK, _BRIGHT], light.size))
        is_bright = light > black + self.threshold * (bright - black)
        chord = _MIN_CHORD * min(light.shape)
        rows = _longest_run(is_bright.sum(axis=1) > chord)
        columns = _longest_run(is_bright[slice(*rows)].sum(axis=0) > chord)
        if rows == (0, 0) or columns == (0, 0):
            return (0, light.shape[0]), (0, light.shape[1])
        return rows, columns

    def _with_margin(self, run: tuple[int, int], small: int, full: int) -> tuple[int, int]:
        """Scale a run of `small` positions to `full` positions, and add the margin."""
        start, end = (position * full / small for position in run)
        margin = self.margin * (end - start)
        return max(0, round(start - margin)), min(full, round(end + margin))


class Grayscale(Preprocess):
    """Convert images to greyscale.

    The luma of ITU-R BT.601, in the integer arithmetic of Pillow's convert("L").
    """

    name = "grayscale"
    other_names = ("gray", "grey", "greyscale", "ToGray")

    channels: Literal[1, 3] = 3
    """Number of channels of the result, all equal."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the greyscale image."""
        if image.shape[0] == 1:
            return image.repeat(self.channels, 1, 1)
        red, green, blue = image.int()
        luma: Tensor = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
        return luma.byte().repeat(self.channels, 1, 1)

    def shape(self, shape: Shape) -> Shape:
        """Return the same size and the new number of channels."""
        return Shape(self.channels, shape.height, shape.width)

    def required_input_size(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return the size of the output."""
        return size


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _halve(image: Tensor) -> tuple[Tensor, int]:
    """Halve an image repeatedly; return the means of square cells, and the cells' edge in pixels.

    The crop follows the edges of the cells. A photograph that was halved while it was decoded has
    the same cells and nearly the same means, so it is cropped at the same place. A resize to a
    fixed size would not give that.
    """
    from torch.nn.functional import interpolate

    cell = 1
    while max(image.shape[-2:]) >= 2 * _SEARCH_SIZE and not any(n % 2 for n in image.shape[-2:]):
        height, width = image.shape[-2:]
        image = interpolate(image[None], (height // 2, width // 2), mode="bilinear")[0]
        cell *= 2
    return image, cell


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image bilinearly with antialiasing; torch is much faster with channels last."""
    import torch
    from torch.nn.functional import interpolate

    if image.shape[-2:] == size:
        return image
    batch = image[None].contiguous(memory_format=torch.channels_last)
    resized: Tensor = interpolate(batch, size, mode="bilinear", antialias=True)
    return resized[0].contiguous()


def _crop_or_pad(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the centre of an image, padded with black where the image is smaller."""
    from torch.nn.functional import pad

    (top, bottom), (left, right) = map(_borders, image.shape[-2:], size)
    result: Tensor = pad(image, [left, right, top, bottom])
    return result


def _borders(old: int, new: int) -> tuple[int, int]:
    """Return how many pixels to add before and after; a negative number crops."""
    before = (new - old) // 2 if new > old else -round((old - new) / 2)
    return before, new - old - before


def _longest_run(marks: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return start and end of the longest run of true values, (0, 0) without any."""
    import numpy as np

    edges = np.flatnonzero(np.diff(marks, prepend=False, append=False)).reshape(-1, 2)
    if not len(edges):
        return 0, 0
    start, end = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return int(start), int(end)
