"""From positions to batches on a device: uint8 travels, everything else happens there."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from sightx.data.loader import prefetch
from sightx.data.loader.augment import augment, to_device
from sightx.records.pixels import PixelRows, Positions
from sightx.registry.kinds import Augment, Statistics
from sightx.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor


# Bytes of pixels that are gathered at once where that is instant: for small batches, launching
# costs more than moving. What a processor's cache holds as floats, and more on an accelerator.
_AT_ONCE = {"cpu": 1 << 16}
_AT_ONCE_ELSEWHERE = 1 << 24


class Batch(NamedTuple):
    """Hold some rows of a table: pixels (B, C, H, W) and targets, (B,), on a device."""

    positions: Positions
    pixels: Tensor
    targets: Tensor


@dataclass(frozen=True)
class BatchLoader:
    """Make batches of a table's rows.

    `statistics` are mean and deviation per channel, for pixels in [0, 1].
    """

    rows: PixelRows
    labels: np.ndarray[Any, Any]
    statistics: Statistics
    device: torch.device
    augments: tuple[Augment, ...] = ()
    seed: int = 0

    def stream(
        self, parts: Sequence[Positions], *, plain: bool = False
    ) -> Generator[Batch, None, None]:
        """Yield one batch a part, its pixels valid until the next is asked for.

        They are normalised with `plain`, else uint8 for `augmented`. Rows that take time to read
        are read one batch ahead. Raises DataError.
        """
        if not parts:
            return
        # The targets of all parts travel at once: a copy a batch would wait for the device.
        targets = iter(_split(self._targets(np.concatenate(parts)), parts))
        groups = self._groups(parts)
        wanted = [np.concatenate(group) for group in groups]
        with closing(prefetch.prefetch(self.rows, wanted, self.device)) as read:
            for group, pixels in zip(groups, read, strict=True):
                images = self.normalised(pixels) if plain else pixels
                yield from map(Batch, group, _split(images, group), targets)

    def _groups(self, parts: Sequence[Positions]) -> list[Sequence[Positions]]:
        """Return the parts in groups that are read at once."""
        size = max(map(len, parts)) * math.prod(self.rows.shape)
        most = _AT_ONCE.get(self.device.type, _AT_ONCE_ELSEWHERE) // size
        count = max(most, 1) if self.rows.is_in_memory else 1
        return [parts[start : start + count] for start in range(0, len(parts), count)]

    def plain(self, positions: Positions) -> tuple[Tensor, Tensor]:
        """Return normalised images (B, C, H, W) and targets (B,)."""
        pixels = self.rows.gather(positions).to(self.device)
        return self.normalised(pixels), self._targets(positions)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return float images, from uint8, freed of mean and deviation."""
        scale, shift = self._affine
        return pixels.float().mul_(scale).add_(shift)

    def augmented(self, pixels: Tensor, targets: Tensor, *purpose: int) -> tuple[Tensor, Tensor]:
        """Return normalised images with random changes drawn for a purpose, and targets.

        The purpose is a step and a micro-batch.
        """
        rng = generator(self.seed, "augment", *purpose)
        images, targets = augment(pixels.float().div_(255), targets, self.augments, rng)
        scale, shift = self._affine
        return images.mul(scale * 255).add_(shift), targets

    def _targets(self, positions: Positions) -> Tensor:
        return to_device(torch.from_numpy(self.labels[positions]), self.device)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """Return what pixels 0 to 255 are multiplied by, and what is added, (C, 1, 1).

        Sent to the device once, so that no batch waits for them.
        """
        mean, deviation = torch.tensor(self.statistics, dtype=torch.float64)[..., None, None]
        scale, shift = 1 / (255 * deviation), -mean / deviation
        return scale.float().to(self.device), shift.float().to(self.device)


def _split(tensor: Tensor, parts: Sequence[Positions]) -> Sequence[Tensor]:
    return tensor.split([len(part) for part in parts])  # type: ignore[no-any-return, no-untyped-call]
