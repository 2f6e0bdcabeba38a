"""Preprocessed pixels: uint8 rows of one size, gathered by index from memory, device or disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Positions = np.ndarray[Any, Any]


def evenly_spaced(positions: Positions, count: int) -> Positions:
    """Return at most `count` positions, from the first to the last in equal steps."""
    spaced = np.linspace(0, len(positions) - 1, min(count, len(positions)))
    chosen: Positions = positions[spaced.round().astype(np.int64)]
    return chosen


class PixelSource(Protocol):
    """Preprocessed images of one shape: in memory, on a device, on disk, or decoded when read."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of one image."""

    @property
    def is_in_memory(self) -> bool:
        """Return whether reading is only a copy within memory, so that prefetching is useless."""

    def read(self, positions: Positions, out: Tensor | None = None) -> Tensor:
        """Return images, uint8 (len(positions), C, H, W), in the order of `positions`.

        They are written into `out` if it is given and the images are not on another device.
        """


@dataclass(frozen=True)
class InMemoryPixels:
    """Images as one tensor, uint8 (M, C, H, W), in memory or on a device."""

    tensor: Tensor
    is_in_memory = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of one image."""
        channels, height, width = self.tensor.shape[1:]
        return channels, height, width

    def read(self, positions: Positions, out: Tensor | None = None) -> Tensor:
        """Return images, uint8 (len(positions), C, H, W), in the order of `positions`."""
        import torch

        index = torch.from_numpy(positions).to(self.tensor.device, non_blocking=True)
        if out is None or self.tensor.device != out.device:
            return self.tensor[index]
        return torch.index_select(self.tensor, 0, index, out=out)


@dataclass(frozen=True)
class PixelRows:
    """The preprocessed images of some samples: row i is image `index[i]` of `pixels`."""

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
        """Return the shape (C, H, W) of one image."""
        return self.pixels.shape

    @property
    def is_in_memory(self) -> bool:
        """Return whether gathering is only a copy within memory."""
        return self.pixels.is_in_memory

    def take(self, rows: Positions) -> PixelRows:
        """Return a view of some rows; no pixel is copied."""
        return PixelRows(self.pixels, self.index[rows])

    def gather(self, rows: Positions, out: Tensor | None = None) -> Tensor:
        """Return the pixels of some rows, uint8 (len(rows), C, H, W), in their order."""
        return self.pixels.read(self.index[rows], out)
