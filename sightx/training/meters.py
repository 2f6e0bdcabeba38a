"""Meters of an epoch: the sums of its steps, and how fast it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch

from sightx.data.loader.loader import Batch
from sightx.training.profiling import span

if TYPE_CHECKING:
    from torch import Tensor


class EpochSums(NamedTuple):
    """Sums over the steps of an epoch: loss times samples, correct answers, samples."""

    loss: Tensor | float = 0.0
    num_correct: Tensor | float = 0.0
    num_samples: int = 0

    def add(self, loss: Tensor, num_correct: Tensor, num_samples: int) -> EpochSums:
        """Return the sums with one more step; on an accelerator the host does not read them."""
        return EpochSums(
            self.loss + _to_double(loss) * num_samples,
            self.num_correct + _to_double(num_correct),
            self.num_samples + num_samples,
        )


def _to_double(scalar: Tensor) -> Tensor | float:
    """Return a scalar as a double, so that long sums keep their digits; mps has only floats."""
    if scalar.is_cpu:
        return scalar.item()
    return scalar.to(torch.float32 if scalar.is_mps else torch.float64)


class EpochTimer:
    """How long the running epoch has taken, in all processes that have trained it together."""

    def __init__(self, earlier: float = 0.0) -> None:
        """Continue an epoch that took `earlier` seconds before this process."""
        self._earlier, self._start = earlier, math.nan

    def start(self) -> None:
        """Begin to count."""
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Return the duration so far."""
        now = time.perf_counter()
        return self._earlier + (0.0 if math.isnan(self._start) else now - self._start)


class Throughput:
    """Images per second, and the time spent waiting for data, from now on."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds = self._data_wait = 0.0
        self._images = 0

    def iterate(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches, and measure how long each one takes to come."""
        while True:
            start = time.perf_counter()
            with span("data"):
                batch = next(batches, None)
            self._data_wait += time.perf_counter() - start
            if batch is None:
                return
            self._images += len(batch.positions)
            yield batch

    def stop(self) -> None:
        """Stop the clock; call it when the device has finished the last step."""
        self._seconds = time.perf_counter() - self._start

    @property
    def images_per_second(self) -> float:
        """Return the images trained on per second; 0 without any."""
        return self._images / self._seconds if self._images else 0.0

    @property
    def data_wait_fraction(self) -> float:
        """Return the fraction of the time, 0 to 1, that the loop waited for batches."""
        return min(self._data_wait / self._seconds, 1.0) if self._images else 0.0
