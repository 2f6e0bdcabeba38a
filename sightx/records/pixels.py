"""Prepared pixels: uint8 rows of one size, gathered by index, wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Positions = np.ndarray[Any, Any]


class PixelSource(Protocol):
    """Hold prepared images of one shape (C, H, W): in memory, on a device, on disk, or nowhere.

    `instant` says that reading is a copy within memory, so that nobody need read ahead.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of one image."""

    @property
    def instant(self) -> bool:
        """Say whether reading costs next to nothing."""

    def read(self, positions: Positions, out: Tensor | None = None) -> Tensor:
        """Return images, uint8 (len(positions), C, H, W), in the order of their positions.

        They are written into `out`, where it is given and the images are not on a device.
        """


@dataclass(frozen=True)
class InMemoryPixels:
    """Hold images as one tensor, uint8 (M, C, H, W), in memory or on a device."""

    tensor: Tensor
    instant = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of one image."""
        channels, height, width = self.tensor.shape[1:]
        return channels, height, width

    def read(self, positions: Positions, out: Tensor | None = None) -> Tensor:
        """Return images in the order of their positions."""
        import torch

        index = torch.from_numpy(positions).to(self.tensor.device, non_blocking=True)
        if out is None or self.tensor.device != out.device:
            return self.tensor[index]
        return torch.index_select(self.tensor, 0, index, out=out)


@dataclass(frozen=True)
class PixelRows:
    """Name the prepared images of some samples: `index` (N,) says which image each row is."""

    pixels: PixelSource
    index: Positions

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.index)

    @classmethod
    def of(cls, tensor: torch.Tensor) -> PixelRows:
        """Return the rows of a tensor, uint8 (N, C, H, W), in its order."""
        return cls(InMemoryPixels(tensor), np.arange(len(tensor)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of one image: channels, height, width."""
        return self.pixels.shape

    @property
    def instant(self) -> bool:
        """Say whether gathering costs next to nothing."""
        return self.pixels.instant

    def take(self, rows: Positions) -> PixelRows:
        """Return a view of some rows; no pixel is copied."""
        return PixelRows(self.pixels, self.index[rows])

    def gather(self, rows: Positions, out: Tensor | None = None) -> Tensor:
        """Return the pixels of some rows, uint8 (len(rows), C, H, W), in their order."""
        return self.pixels.read(self.index[rows], out)
