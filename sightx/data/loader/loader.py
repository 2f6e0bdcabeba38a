"""From row positions to batches on a device: uint8 pixels travel, all else happens there."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from sightx.data.loader.augment import augment, to_device
from sightx.data.loader.prefetch import prefetch
from sightx.records.pixels import PixelRows, Positions
from sightx.registry.kinds import Augment, Statistics
from sightx.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor


# Pixels in memory are gathered for several small batches at once, because launching a copy costs
# more than copying: as many bytes as fit a CPU's cache as floats, and more on an accelerator.
_GATHER_BYTES = {"cpu": 1 << 16}
_GATHER_BYTES_ACCELERATOR = 1 << 24


class Batch(NamedTuple):
    """Some rows of a table: pixels (B, C, H, W) and targets (B,) on a device."""

    positions: Positions
    pixels: Tensor
    targets: Tensor


@dataclass(frozen=True)
class BatchLoader:
    """Load batches of a table's rows onto a device.

    `statistics` are mean and standard deviation per channel, for pixels in [0, 1]. `classes` is
    their number, which mixed targets must have; `steps` is the number of steps of the run.
    """

    rows: PixelRows
    labels: np.ndarray[Any, Any]
    statistics: Statistics
    device: torch.device
    augments: tuple[Augment, ...] = ()
    seed: int = 0
    classes: int | None = None
    steps: int = 1

    def iter_batches(
        self, batches: Sequence[Positions], *, normalize: bool = False
    ) -> Generator[Batch, None, None]:
        """Yield one batch per array of positions; its pixels are valid until the next one.

        The pixels are uint8, for `augment`, or with `normalize` normalised floats. Rows that are
        not in memory are read one batch ahead. Raises DataError for a damaged row.
        """
        if not batches:
            return
        # The targets of all batches travel at once: a copy per batch would wait for the device.
        targets = iter(_split(self._targets(np.concatenate(batches)), batches))
        groups = self._groups(batches)
        rows = [np.concatenate(group) for group in groups]
        with closing(prefetch(self.rows, rows, self.device)) as fetched:
            for group, pixels in zip(groups, fetched, strict=True):
                images = self.normalize(pixels) if normalize else pixels
                yield from map(Batch, group, _split(images, group), targets)

    def load(self, positions: Positions) -> tuple[Tensor, Tensor]:
        """Return normalised images (B, C, H, W) and targets (B,)."""
        pixels = self.rows.gather(positions).to(self.device)
        return self.normalize(pixels), self._targets(positions)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels as floats (x - mean) / std, with x in [0, 1]."""
        scale, shift = self._affine
        return pixels.float().mul_(scale).add_(shift)

    def augment(
        self, pixels: Tensor, targets: Tensor, step: int = 0, micro_batch: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return augmented, normalised images, and targets.

        The random draws depend on the seed, the step and the micro-batch. The values are checked in
        the first micro-batch of a run.
        """
        rng = generator(self.seed, "augment", step, micro_batch)
        images, targets = augment(
            pixels.float().div_(255), targets, self.augments, rng,
            classes=self.classes, progress=step / self.steps,
            check_values=not (step or micro_batch),
        )  # fmt: skip
        scale, shift = self._affine
        return images.mul(scale * 255).add_(shift), targets

    def _groups(self, batches: Sequence[Positions]) -> list[Sequence[Positions]]:
        """Return the batches in groups that are gathered at once."""
        batch_bytes = max(map(len, batches)) * math.prod(self.rows.shape)
        limit = _GATHER_BYTES.get(self.device.type, _GATHER_BYTES_ACCELERATOR)
        count = max(limit // batch_bytes, 1) if self.rows.is_in_memory else 1
        return [batches[start : start + count] for start in range(0, len(batches), count)]

    def _targets(self, positions: Positions) -> Tensor:
        return to_device(torch.from_numpy(self.labels[positions]), self.device)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift of pixels in 0..255, (C, 1, 1) each.

        They are sent to the device once, so that no batch waits for them.
        """
        mean, deviation = torch.tensor(self.statistics, dtype=torch.float64)[..., None, None]
        scale, shift = 1 / (255 * deviation), -mean / deviation
        return scale.float().to(self.device), shift.float().to(self.device)


def _split(tensor: Tensor, batches: Sequence[Positions]) -> Sequence[Tensor]:
    sizes = [len(batch) for batch in batches]
    return tensor.split(sizes)  # type: ignore[no-any-return, no-untyped-call]
