"""Read the next batch of pixels in a thread while a step computes on this one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import TYPE_CHECKING

import torch

from sightx.records.pixels import PixelRows, Positions

if TYPE_CHECKING:
    from torch import Tensor


def prefetch(
    rows: PixelRows, batches: Sequence[Positions], device: torch.device
) -> Generator[Tensor, None, None]:
    """Yield the pixels of each batch in turn, uint8 (len(batch), C, H, W), on the device.

    They are valid until the next ones, because their buffers are reused. Raises what reading
    raises; closing the generator ends the thread that reads.
    """
    if not batches:
        return
    shape = (max(map(len, batches)), *rows.shape)
    if rows.is_in_memory and rows.gather(batches[0][:1]).device.type == device.type:
        buffer = torch.empty(shape, dtype=torch.uint8, device=device)
        for batch in batches:
            yield rows.gather(batch, buffer[: len(batch)])
        return
    # One buffer is filled while the batch in the other one is in use.
    buffers = cycle([_Buffer(shape, device), _Buffer(shape, device)])
    with ThreadPoolExecutor(1, thread_name_prefix="sightx-read") as reader:
        current, remaining = next(buffers), iter(batches)
        reading = reader.submit(current.fill, rows, next(remaining))
        for batch in remaining:
            pixels, other = reading.result(), next(buffers)
            reading = reader.submit(other.fill, rows, batch)
            yield current.send(pixels)
            current = other
        yield current.send(reading.result())


class _Buffer:
    """One batch on the host, in pinned memory if a GPU copies from it."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        is_pinned = device.type == "cuda"
        self._device = device
        self._host = torch.empty(shape, dtype=torch.uint8, pin_memory=is_pinned)
        self._sent = torch.cuda.Event() if is_pinned else None  # type: ignore[no-untyped-call]

    def fill(self, rows: PixelRows, batch: Positions) -> Tensor:
        """Read pixels, as soon as the previous ones have reached the device."""
        if self._sent:
            self._sent.synchronize()
        return rows.gather(batch, self._host[: len(batch)])

    def send(self, pixels: Tensor) -> Tensor:
        """Return the pixels on the device, without waiting for the copy."""
        on_device = pixels.to(self._device, non_blocking=self._sent is not None)
        if self._sent:
            self._sent.record()
        return on_device
