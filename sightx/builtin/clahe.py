"""Contrast-limited adaptive histogram equalisation (CLAHE)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat, PositiveInt

from sightx.plugin import Preprocess

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Array = np.ndarray[Any, Any]

_LEVELS = 256


class Clahe(Preprocess):
    """Equalise the brightness of tiles, with limited contrast (K. Zuiderveld, 1994).

    The luma of ITU-R BT.601 becomes that of OpenCV's CLAHE, and all channels of a pixel change by
    the same difference, so that its chroma stays. Place it after `resize`: the contrast of a tile
    depends on its size in pixels, so images are decoded at full size for it.
    """

    name = "clahe"
    other_names = ("equalize", "equalize_adapthist")

    clip_limit: PositiveFloat = 2.0
    """Largest count of a grey level in a tile's histogram, as a multiple of the mean count."""
    tiles: PositiveInt = 8
    """Number of tiles along each edge."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the image with equalised luma."""
        import numpy as np
        import torch

        pixels = image.numpy().astype(np.int32)
        luma = np.rint(np.tensordot(_weights(len(pixels)), pixels, axes=1)).astype(np.int32)
        change = _equalize(luma, self.clip_limit, self.tiles) - luma
        return torch.from_numpy((pixels + change).clip(0, 255).astype(np.uint8))


def _weights(channels: int) -> Array:
    """Return the weight of each channel in the luma."""
    import numpy as np

    return np.array([0.299, 0.587, 0.114]) if channels == 3 else np.full(channels, 1 / channels)


def _equalize(luma: Array, clip_limit: float, tiles: int) -> Array:
    """Return the equalised luma, int (H, W); it is interpolated between the four nearest tiles."""
    import numpy as np

    height, width = luma.shape
    rows, columns = -(-height // tiles), -(-width // tiles)  # pixels of a tile, rounded up
    padding = (0, rows * tiles - height), (0, columns * tiles - width)
    padded = np.pad(luma, padding, mode="reflect")
    blocks = padded.reshape(tiles, rows, tiles, columns).swapaxes(1, 2).reshape(tiles**2, -1)
    tables = np.stack([_table(block, clip_limit) for block in blocks]).reshape(tiles, tiles, -1)
    (top, bottom, down), (left, right, across) = (
        _neighbours(length, edge, tiles) for length, edge in ((height, rows), (width, columns))
    )
    down = down[:, None]
    upper, lower = (
        (1 - across) * tables[row[:, None], left, luma] + across * tables[row[:, None], right, luma]
        for row in (top, bottom)
    )
    result: Array = np.rint((1 - down) * upper + down * lower).astype(np.int32)
    return result


def _table(block: Array, clip_limit: float) -> Array:
    """Return the new level of each of 256 levels; counts above the limit are spread over all."""
    import numpy as np

    counts = np.bincount(block, minlength=_LEVELS)
    limit = max(int(clip_limit * block.size / _LEVELS), 1)
    excess = int(np.maximum(counts - limit, 0).sum())
    counts = np.minimum(counts, limit) + excess // _LEVELS
    if rest := excess % _LEVELS:
        counts[:: max(_LEVELS // rest, 1)][:rest] += 1
    table: Array = np.rint(counts.cumsum() * ((_LEVELS - 1) / block.size)).clip(0, _LEVELS - 1)
    return table


def _neighbours(length: int, edge: int, tiles: int) -> tuple[Array, Array, Array]:
    """Return the tile before and after each pixel, by their centres, and the weight of the latter.

    `edge` is the length of a tile.
    """
    import numpy as np

    position = np.arange(length) / edge - 0.5
    before = np.floor(position).astype(np.int32)
    after = np.minimum(before + 1, tiles - 1)
    return np.maximum(before, 0), after, position - before
