"""Where features find room beside pixels: on the device, in memory, in a scratch file."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

import torch

from sightx.io import system
from sightx.records.pixels import InMemoryPixels, PixelRows

DEVICE, MEMORY, FILE = "on the device", "in memory", "in a scratch file"
_SHARE = 3  # one part in so many of a memory is for features, and for pixels beside them
_PIECE = 1 << 20  # bytes that are written at once


class Scratch(InMemoryPixels):
    """Hold rows in a file that has no name: reading them takes its time."""

    is_in_memory = False


def choose_place(size: int, device: torch.device, rows: PixelRows, folder: Path) -> str:
    """Return where so many bytes have room beside the pixels of rows; nowhere is empty.

    What is free just then does not count, but on a disk, so that a resumed run decides alike. So
    pixels count in both memories: which one they went to depends on that.
    """
    held = rows.pixels.tensor.nbytes if isinstance(rows.pixels, InMemoryPixels) else 0
    cuda = device.type == "cuda"
    if cuda and size < torch.cuda.get_device_properties(device).total_memory // _SHARE - held:
        return DEVICE
    if size < system.total_memory() // _SHARE - held:
        return MEMORY
    return FILE if size < system.free_space(folder) // _SHARE else ""


def allocate_rows(
    where: str, shape: tuple[int, ...], device: torch.device, folder: Path
) -> InMemoryPixels | None:
    """Return empty rows in a place, uint8; None where it is full after all."""
    with suppress(torch.OutOfMemoryError, MemoryError, OSError):
        if where != FILE:
            at = device if where == DEVICE else torch.device("cpu")
            return InMemoryPixels(torch.empty(shape, dtype=torch.uint8, device=at))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            _take(file, math.prod(shape))
            mapped = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.uint8)
        return Scratch(mapped.view(shape))
    return None


def _take(file: IO[bytes], size: int) -> None:
    """Take so many bytes of a disk: one that is full only later would end the process.

    Raises OSError where it is full now.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    zeros = bytes(_PIECE)
    for start in range(0, size, _PIECE):
        file.write(zeros[: size - start])
    file.flush()
