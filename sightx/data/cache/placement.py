"""Where a run reads preprocessed pixels from: device, memory or disk; or decoded when read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sightx.data.preprocess import Preprocessor, decode_pool
from sightx.errors import DataError, Problem, ResourceError
from sightx.io import system
from sightx.io.system import format_bytes
from sightx.records.hashes import Hashes
from sightx.records.pixels import InMemoryPixels, PixelRows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CacheMode = Literal["auto", "device", "memory", "disk", "off"]
Array = np.ndarray[Any, Any]

_LOAD_BYTES, _LOAD_ROWS = 64_000_000, 65536  # that are loaded at once


class Placement(NamedTuple):
    """Where pixels are read from, and why."""

    where: str
    why: str

    def __str__(self) -> str:
        """Return the line that a run logs."""
        return f"pixels: {self.where} ({self.why})"


def place(
    rows: PixelRows, mode: CacheMode, device: torch.device | None
) -> tuple[PixelRows, Placement]:
    """Return the rows at the place that `mode` names; auto takes the fastest one with room.

    Pixels may use at most half of the device's free memory, or of this machine's memory. Raises
    ResourceError if the named place is too small.
    """
    if isinstance(rows.pixels, OnTheFlyPixels):
        return rows, Placement("off", rows.pixels.why)
    need = len(np.unique(rows.index)) * int(np.prod(rows.shape))
    if rows.is_in_memory:
        return rows, Placement("memory", format_bytes(need))
    limits = {"device": _device_limit(device), "memory": system.total_memory() // 2}
    if mode == "device" and (device is None or device.type == "cpu"):
        mode = "memory"  # the CPU's own memory
    for where, limit in limits.items():
        if mode == where and need > limit:
            message = f"pixels need {format_bytes(need)}, half of the {where} is "
            message += format_bytes(limit)
            hint = 'let execution.cache be "auto" or "disk", or preprocess to a smaller size'
            raise ResourceError(Problem("no-room", message, hint, "execution.cache"))
        if mode in (where, "auto") and need <= limit:
            loaded = _load(rows, device if where == "device" else None)
            return loaded, Placement(where, f"{format_bytes(need)} of {format_bytes(limit)}")
    why = "" if mode == "disk" else f"; memory takes {format_bytes(limits['memory'])}"
    return rows, Placement("disk", format_bytes(need) + why)


def _device_limit(device: torch.device | None) -> int:
    """Return half of the bytes that are free on an accelerator; -1 if there is none."""
    import torch

    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // 2
    if device is not None and device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return int(free) // 2
    return -1


def _load(rows: PixelRows, device: torch.device | None) -> PixelRows:
    """Return the rows in memory or on a device: each image once, in the order of first use."""
    import torch

    images, first, inverse = np.unique(rows.index, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    tensor = torch.empty((len(images), *rows.shape), dtype=torch.uint8, device=device)
    step = min(max(_LOAD_BYTES // int(np.prod(rows.shape)), 1), _LOAD_ROWS)
    for start in range(0, len(images), step):
        block, out = images[order[start : start + step]], tensor[start : start + step]
        if device is None:
            rows.pixels.read(block, out)
        else:
            out.copy_(rows.pixels.read(block))
    return PixelRows(InMemoryPixels(tensor), rank[inverse])


class OnTheFlyPixels:
    """Read, decode and preprocess images each time they are read.

    `hashes` are those of the images' contents before training began; `why` says why there is no
    cache.
    """

    is_in_memory = False

    def __init__(
        self,
        preprocessor: Preprocessor,
        hashes: Hashes,
        shape: tuple[int, int, int],
        threads: int = 0,
        why: str = "",
    ) -> None:
        self.shape, self.why = shape, why
        self._preprocessor, self._hashes = preprocessor, hashes
        self._pool: ThreadPoolExecutor = decode_pool(threads)

    def read(self, positions: Array, out: Tensor | None = None) -> Tensor:
        """Return images in the order of their positions in the table.

        Raises DataError for an image that has changed, or cannot be read any more.
        """
        import torch

        if out is None:
            out = torch.empty((len(positions), *self.shape), dtype=torch.uint8)
        rows = self._pool.map(self._read_one, positions.tolist())
        for target, row in zip(out, rows, strict=True):
            target.copy_(torch.from_numpy(row))
        return out

    def _read_one(self, index: int) -> Array:
        image = self._preprocessor.process(index)
        has_changed = bool(image.digest) and image.digest.hex() != self._hashes[index]
        if image.row is None or has_changed:
            reason = "has changed" if has_changed else f"cannot be read any more ({image.reason})"
            table = self._preprocessor.table
            message = f"{table.frame['path'].iat[index]} {reason} since the run began"
            hint = 'run again: execution.cache = "auto" keeps preprocessed images'
            problem = Problem("image-changed", message, hint)
            raise DataError(problem.at(*table.place(index)))
        return image.row
