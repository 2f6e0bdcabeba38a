"""Deterministic changes of one image, made once: sizes, crops and colours."""

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

_LOOK = 512  # the longer side, or up to twice that, of the image on which a disc is looked for
_FILLS = 0.5  # a disc fills this share of a photograph's height and width, or more
_BLACK, _BRIGHT = 0.01, 0.9  # quantiles that stand for the surround and for the lit retina
_CHORD = 0.05  # a line crosses the disc where this share of the image's shorter side is lit


class Resize(Preprocess):
    """Change the size.

    Bilinear with antialiasing, in the integer arithmetic that torchvision's resize of uint8
    tensors uses too; Pillow's differs by one grey level at most.
    """

    name = "resize"

    size: Size
    """One number for a square, or height and width."""
    fit: Literal["stretch", "pad", "cover"] = "stretch"
    """What keeps another shape out: stretch both sides, pad with black, or cut the longer side."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the image in the new size."""
        wanted = _pair(self.size)
        return _centered(_resized(image, self._scaled(image.shape[-2:], wanted)), wanted)

    def shape(self, shape: Shape) -> Shape:
        """Return the new size, whatever the old one is."""
        return Shape(shape.channels, *_pair(self.size))

    def required_input_size(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """Return the new size, whatever follows; `pad` and `cover` need no more of either side."""
        return _pair(self.size)

    def _scaled(self, size: tuple[int, ...], wanted: tuple[int, int]) -> tuple[int, int]:
        """Return the size before padding or cutting; at least one side is the wanted one."""
        if self.fit == "stretch":
            return wanted
        choose = min if self.fit == "pad" else max
        scale = choose(wanted[0] / size[0], wanted[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


class CenterCrop(Preprocess):
    """Cut out the middle.

    A side that is smaller than the crop is padded with black; an odd pixel goes where torchvision's
    center_crop puts it.
    """

    name = "center-crop"

    size: Size
    """One number for a square, or height and width."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the middle of the image."""
        return _centered(image, _pair(self.size))

    def shape(self, shape: Shape) -> Shape:
        """Return the size of the crop."""
        return Shape(shape.channels, *_pair(self.size))


class CropToFundus(Preprocess):
    """Cut a photograph of the retina down to its disc.

    The result is the bounding box of the lit disc, less high than wide where the camera cut it off;
    a resize with `fit = "pad"` keeps its proportions. Lines with but few lit pixels, such as those
    of a label in a corner, do not count. Images without a black surround, and black ones, stay.
    """

    name = "crop-to-fundus"
    revision = 2

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What is lit: this share of the way from the surround's brightness to the retina's."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.0
    """What to keep around the disc, as a share of its height and width."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the part of the image that shows the disc."""
        grid, cell = _squares(image)
        height, width = grid.shape[-2:]
        long = max(height, width)
        step = long / _LOOK if long >= 2 * _LOOK else 1.0  # where sides cannot be halved so far
        small = _resized(grid, (max(1, round(height / step)), max(1, round(width / step))))
        rows, columns = self._box(small.amax(dim=0).numpy())
        top, bottom = self._widened(rows, small.shape[-2], height)
        left, right = self._widened(columns, small.shape[-1], width)
        return image[:, top * cell : bottom * cell, left * cell : right * cell]

    def shape(self, shape: Shape) -> Shape:
        """Return the channels; only the image itself tells how large its disc is."""
        return Shape(shape.channels, None, None)

    def required_input_size(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return a size of which the disc fills enough, and on which the same disc is found."""
        if size is None:
            return None
        height, width = (max(_LOOK, math.ceil(side / _FILLS)) for side in size)
        return height, width

    def _box(self, light: npt.NDArray[np.uint8]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the rows and the columns of the disc, each as start and end."""
        import numpy as np

        counts = np.bincount(light.ravel()).cumsum()
        black, bright = np.searchsorted(counts, np.multiply([_BLACK, _BRIGHT], light.size))
        lit = light > black + self.threshold * (bright - black)
        chord = _CHORD * min(light.shape)
        rows = _longest_run(lit.sum(axis=1) > chord)
        columns = _longest_run(lit[slice(*rows)].sum(axis=0) > chord)
        if rows == (0, 0) or columns == (0, 0):
            return (0, light.shape[0]), (0, light.shape[1])
        return rows, columns

    def _widened(self, run: tuple[int, int], small: int, full: int) -> tuple[int, int]:
        """Return a run found on the reduced image in squares of the full one, with the margin."""
        start, end = (position * full / small for position in run)
        margin = self.margin * (end - start)
        return max(0, round(start - margin)), min(full, round(end + margin))


class Grayscale(Preprocess):
    """Take the colour away.

    Luma after ITU-R 601, in the integer arithmetic of Pillow's convert("L").
    """

    name = "grayscale"

    channels: Literal[1, 3] = 3
    """How many equal channels the result has."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the image in shades of grey."""
        if image.shape[0] == 1:
            return image.repeat(self.channels, 1, 1)
        red, green, blue = image.int()
        luma: Tensor = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
        return luma.byte().repeat(self.channels, 1, 1)

    def shape(self, shape: Shape) -> Shape:
        """Return the same size with the new number of channels."""
        return Shape(self.channels, shape.height, shape.width)

    def required_input_size(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return the size of the result."""
        return size


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _squares(image: Tensor) -> tuple[Tensor, int]:
    """Return the means of an image's squares, and their side: a disc is cut out along their edges.

    A photograph that was halved while it was decoded has the same squares, of half the side, and
    nearly the same means, which a resize would not give; so it is cut at the same place.
    """
    from torch.nn.functional import interpolate

    side = 1
    while max(image.shape[-2:]) >= 2 * _LOOK and not any(n % 2 for n in image.shape[-2:]):
        height, width = image.shape[-2:]
        image = interpolate(image[None], (height // 2, width // 2), mode="bilinear")[0]
        side *= 2
    return image, side


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the image scaled to a size; torch is several times faster with channels last."""
    import torch
    from torch.nn.functional import interpolate

    if image.shape[-2:] == size:
        return image
    batch = image[None].contiguous(memory_format=torch.channels_last)
    scaled: Tensor = interpolate(batch, size, mode="bilinear", antialias=True)
    return scaled[0].contiguous()


def _centered(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the middle of an image, with black around it where the image is smaller."""
    from torch.nn.functional import pad

    (top, bottom), (left, right) = map(_borders, image.shape[-2:], size)
    middle: Tensor = pad(image, [left, right, top, bottom])
    return middle


def _borders(old: int, new: int) -> tuple[int, int]:
    """Return what to add before and after; what is to be cut is negative."""
    before = (new - old) // 2 if new > old else -round((old - new) / 2)
    return before, new - old - before


def _longest_run(marks: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return start and end of the longest stretch of marks, (0, 0) without any."""
    import numpy as np

    edges = np.flatnonzero(np.diff(marks, prepend=False, append=False)).reshape(-1, 2)
    if not len(edges):
        return 0, 0
    start, end = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return int(start), int(end)
