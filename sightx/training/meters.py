"""How fast an epoch goes, and how much of its time is spent waiting for data."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sightx.data.loader.loader import Batch
from sightx.training.profiling import span


class Throughput:
    """Time the training of an epoch from now on."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._waited = 0.0
        self._images = 0
        self.seconds = 0.0

    def over(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches, timing how long each takes to come."""
        while True:
            asked = time.perf_counter()
            with span("data"):
                batch = next(batches, None)
            self._waited += time.perf_counter() - asked
            if batch is None:
                return
            self._images += len(batch.positions)
            yield batch

    def stop(self) -> None:
        """End the time: the device has done what it was given."""
        self.seconds = time.perf_counter() - self._started

    @property
    def images_per_second(self) -> float:
        """Return how many images were trained on per second; 0 without any."""
        return self._images / self.seconds if self._images else 0.0

    @property
    def data_wait_fraction(self) -> float:
        """Return the share of the time, 0 to 1, that the loop has waited for batches."""
        return min(self._waited / self.seconds, 1.0) if self._images else 0.0
