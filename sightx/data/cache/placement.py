"""Where prepared pixels are read from in a run: device, memory, disk; or made each time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sightx.data.preprocess import Preprocessor, decode_pool
from sightx.errors import DataError, Problem, ResourceError
from sightx.io import system
from sightx.records.hashes import Hashes
from sightx.records.pixels import InMemoryPixels, PixelRows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CacheMode = Literal["auto", "device", "memory", "disk", "off"]
Array = np.ndarray[Any, Any]

_PIECE, _ROWS = 64_000_000, 65536  # bytes, and rows, that are loaded at once


class Placement(NamedTuple):
    """Say where pixels are read from, and why there."""

    where: str
    why: str

    def __str__(self) -> str:
        """Return the one line that a run says of it."""
        return f"pixels: {self.where} ({self.why})"


def place(
    rows: PixelRows, where: CacheMode, device: torch.device | None
) -> tuple[PixelRows, Placement]:
    """Return rows of a file where they are wanted; auto takes the nearest place with room.

    They may take half of a place. Raises ResourceError where the place that is named is smaller.
    """
    if isinstance(rows.pixels, OnTheFlyPixels):
        return rows, Placement("off", rows.pixels.why)
    places = np.unique(rows.index)
    need = len(places) * int(np.prod(rows.shape))
    if rows.is_in_memory:
        return rows, Placement("memory", system.format_bytes(need))
    room = {"device": _device(device), "memory": system.total_memory() // 2}
    if where == "device" and (device is None or device.type == "cpu"):
        where = "memory"  # that is where this device keeps everything
    for place, size in room.items():
        if where == place and need > size:
            message = f"pixels need {system.format_bytes(need)}, half of the {place} is "
            hint = 'let execution.cache be "auto" or "disk", or prepare a smaller size'
            problem = Problem(
                "no-room", message + system.format_bytes(size), hint, "execution.cache"
            )
            raise ResourceError(problem)
        if where in (place, "auto") and need <= size:
            held = _load(rows, device if place == "device" else None)
            return held, Placement(
                place, f"{system.format_bytes(need)} of {system.format_bytes(size)}"
            )
    why = "" if where == "disk" else f"; memory takes {system.format_bytes(room['memory'])}"
    return rows, Placement("disk", system.format_bytes(need) + why)


def _device(device: torch.device | None) -> int:
    """Return half of the bytes that are free on an accelerator."""
    import torch

    if device is None or device.type == "cpu":
        return -1
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // 2
    if device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return int(free) // 2
    return -1


def _load(rows: PixelRows, device: torch.device | None) -> PixelRows:
    """Return rows held in memory or on a device: each once, in the order of their first use."""
    import torch

    places, first, inverse = np.unique(rows.index, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    tensor = torch.empty((len(places), *rows.shape), dtype=torch.uint8, device=device)
    step = min(max(_PIECE // int(np.prod(rows.shape)), 1), _ROWS)
    for start in range(0, len(places), step):
        some, out = places[order[start : start + step]], tensor[start : start + step]
        if device is None:
            rows.pixels.read(some, out)
        else:
            out.copy_(rows.pixels.read(some))
    return PixelRows(InMemoryPixels(tensor), rank[inverse])


class OnTheFlyPixels:
    """Read, decode and prepare images whenever they are asked for.

    `digests` has what each image held when it was looked at, before training began; `why` says
    why nothing is kept.
    """

    is_in_memory = False

    def __init__(
        self,
        maker: Preprocessor,
        digests: Hashes,
        shape: tuple[int, int, int],
        threads: int = 0,
        why: str = "",
    ) -> None:
        self.shape, self.why = shape, why
        self._maker, self._digests = maker, digests
        self._pool: ThreadPoolExecutor = decode_pool(threads)

    def read(self, positions: Array, out: Tensor | None = None) -> Tensor:
        """Return images in the order of their positions in the table.

        Raises DataError where one has changed, or cannot be read any more.
        """
        import torch

        if out is None:
            out = torch.empty((len(positions), *self.shape), dtype=torch.uint8)
        for place, image in zip(out, self._pool.map(self._one, positions.tolist()), strict=True):
            place.copy_(torch.from_numpy(image))
        return out

    def _one(self, index: int) -> Array:
        made = self._maker.make(index)
        changed = (
            Hashes.from_bytes([made.digest])[0] != self._digests[index] if made.digest else False
        )
        if made.row is None or changed:
            reason = "has changed" if changed else f"cannot be read any more ({made.reason})"
            table = self._maker.table
            message = f"{table.frame['path'].iat[index]} {reason} since the run began"
            hint = 'run again: execution.cache = "auto" keeps prepared images'
            problem = Problem("image-changed", message, hint)
            raise DataError(problem.at(table.source, table.line(index)))
        return made.row
