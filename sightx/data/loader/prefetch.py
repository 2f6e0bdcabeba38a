"""Pixels one batch ahead: the next ones are read while a step computes on these."""

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
    rows: PixelRows, parts: Sequence[Positions], device: torch.device
) -> Generator[Tensor, None, None]:
    """Yield the pixels of each part in turn, uint8 (len(part), C, H, W), on the device.

    They stay valid until the next ones are asked for: the buffers below them are used again.
    Raises what reading raises; closing the generator ends the thread that reads.
    """
    if not parts:
        return
    shape = (max(map(len, parts)), *rows.shape)
    if rows.is_in_memory and rows.gather(parts[0][:1]).device.type == device.type:
        buffer = torch.empty(shape, dtype=torch.uint8, device=device)
        for part in parts:
            yield rows.gather(part, buffer[: len(part)])
        return
    # One buffer is read into while the batch in the other is in use.
    buffers = cycle([_Buffer(shape, device), _Buffer(shape, device)])
    with ThreadPoolExecutor(1, thread_name_prefix="sightx-read") as reader:
        here, waiting = next(buffers), iter(parts)
        coming = reader.submit(here.fill, rows, next(waiting))
        for part in waiting:
            pixels, there = coming.result(), next(buffers)
            coming = reader.submit(there.fill, rows, part)
            yield here.send(pixels)
            here = there
        yield here.send(coming.result())


class _Buffer:
    """Hold one batch on the host, in pinned memory where a GPU copies from it."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        pinned = device.type == "cuda"
        self._device = device
        self._host = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        self._sent = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]

    def fill(self, rows: PixelRows, part: Positions) -> Tensor:
        """Read pixels, as soon as the ones before have reached the device."""
        if self._sent:
            self._sent.synchronize()
        return rows.gather(part, self._host[: len(part)])

    def send(self, pixels: Tensor) -> Tensor:
        """Return the pixels on the device; nobody waits for the copy."""
        sent = pixels.to(self._device, non_blocking=self._sent is not None)
        if self._sent:
            self._sent.record()
        return sent
