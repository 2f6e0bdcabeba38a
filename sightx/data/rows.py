"""Prepared pixels: uint8 rows of one size, gathered by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Hold the prepared images of some samples.

    `pixels` is uint8 (M, C, H, W); `index` (N,) says which of them each row here is.
    """

    pixels: Tensor
    index: np.ndarray[Any, Any]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.index)

    def take(self, rows: np.ndarray[Any, Any]) -> Rows:
        """Return a view of some rows; no pixel is copied."""
        return Rows(self.pixels, self.index[rows])

    def gather(self, rows: np.ndarray[Any, Any]) -> Tensor:
        """Return the pixels of some rows, uint8 (len(rows), C, H, W), in their order."""
        import torch

        return self.pixels[torch.from_numpy(self.index[rows])]
