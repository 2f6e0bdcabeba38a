from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from sightx import DataError
from sightx.data.loader.prefetch import prefetch
from sightx.plugin import Problem
from sightx.records.pixels import PixelRows, Positions

CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (20, 3, 2, 2), dtype=torch.uint8)
PARTS = [np.array([3, 1, 4]), np.array([1, 5, 9]), np.array([2])]


class Slow:
    """Pixels that take time to read: they say when they are asked for, and wait to be let go."""

    shape = (3, 2, 2)
    is_in_memory = False

    def __init__(self, bad: int = -1) -> None:
        self.asked: list[list[int]] = []
        self.threads: set[str] = set()
        self.buffers: set[int] = set()
        self._bad = bad

    def read(self, positions: Positions, out: Tensor | None = None) -> Tensor:
        assert out is not None
        self.asked.append(positions.tolist())
        self.threads.add(threading.current_thread().name)
        self.buffers.add(out.untyped_storage().data_ptr())
        if self._bad in positions:
            raise DataError(Problem("bad-row", f"row {self._bad}"))
        return torch.index_select(IMAGES, 0, torch.from_numpy(positions), out=out)


def slow(bad: int = -1) -> tuple[Slow, PixelRows]:
    pixels = Slow(bad)
    return pixels, PixelRows(pixels, np.arange(len(IMAGES)))


def readers() -> Iterator[threading.Thread]:
    return (t for t in threading.enumerate() if t.name.startswith("sightx-read"))


@pytest.mark.parametrize("instant", [False, True])
def test_pixels_come_in_order_even_of_a_ragged_part(instant: bool) -> None:
    rows = PixelRows.of(IMAGES) if instant else slow()[1]
    found = [pixels.clone() for pixels in prefetch(rows, PARTS, CPU)]
    assert all(torch.equal(a, IMAGES[b]) for a, b in zip(found, PARTS, strict=True))


def test_one_thread_reads_one_batch_ahead_into_two_buffers() -> None:
    pixels, rows = slow()
    parts = PARTS * 5
    for number, batch in enumerate(prefetch(rows, parts, CPU)):
        before = batch.clone()
        while len(pixels.asked) < min(number + 2, len(parts)):
            pass  # the next one is read while this one is in use
        assert torch.equal(batch, before)
        assert len(pixels.asked) <= number + 2
    assert pixels.asked == [part.tolist() for part in parts]
    assert len(pixels.buffers) == 2
    assert all(name.startswith("sightx-read") for name in pixels.threads)
    assert not list(readers())


def test_instant_rows_need_no_thread() -> None:
    for _ in prefetch(PixelRows.of(IMAGES), PARTS, CPU):
        assert not list(readers())


def test_an_error_is_raised_in_place_of_its_batch() -> None:
    _, rows = slow(bad=5)
    batches = prefetch(rows, PARTS, CPU)
    next(batches)
    with pytest.raises(DataError, match="row 5"):
        next(batches)
    assert not list(readers())


def test_whoever_stops_early_stops_the_thread() -> None:
    _, rows = slow()
    batches = prefetch(rows, PARTS * 100, CPU)
    next(batches)
    assert len(list(readers())) == 1
    batches.close()
    assert not list(readers())


def test_nothing_comes_of_nothing() -> None:
    assert list(prefetch(slow()[1], [], CPU)) == []
