from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightx.io import system
from sightx.records.pixels import InMemoryPixels, PixelRows, PixelSource, Positions
from sightx.training import room

CPU = torch.device("cpu")


class OnDisk:
    """Pixels that take no memory of their own."""

    shape, is_in_memory = (1, 10, 100), False

    def read(self, positions: Positions, out: torch.Tensor | None = None) -> torch.Tensor:
        raise NotImplementedError


HELD = InMemoryPixels(torch.zeros(10, 1, 10, 100, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("pixels", "memory", "where"),
    [
        (HELD, 90_000, room.FILE),
        (HELD, 90_003, room.MEMORY),
        (OnDisk(), 60_000, room.FILE),
        (OnDisk(), 60_003, room.MEMORY),
    ],
)
def test_pixels_that_lie_in_memory_leave_less_for_features(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pixels: PixelSource, memory: int, where: str
) -> None:
    monkeypatch.setattr(system, "total_memory", lambda: memory)
    assert room.choose_place(20_000, CPU, PixelRows(pixels, np.arange(10)), tmp_path) == where


def test_a_scratch_file_lies_in_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    folder = tmp_path / "new" / "store"
    held = room.allocate_rows(room.FILE, (5, 1, 1, 3000), CPU, folder)
    assert held is not None
    assert not held.is_in_memory
    assert held.tensor.shape == (5, 1, 1, 3000)
    held.tensor[3] = 7
    assert torch.equal(held.read(np.array([3, 2])).sum((1, 2, 3)), torch.tensor([21_000, 0]))
    assert list(folder.iterdir()) == []  # nothing is left where the process is killed


@pytest.mark.parametrize("allocates", [True, False])
def test_a_scratch_file_has_its_bytes_before_it_is_mapped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allocates: bool
) -> None:
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    taken, size = [], 3 * (1 << 20) + 5
    plain = mmap.mmap

    def seen(number: int, *rest: Any) -> mmap.mmap:
        status = os.fstat(number)
        taken.append((status.st_size, status.st_blocks * 512))
        return plain(number, *rest)

    monkeypatch.setattr(mmap, "mmap", seen)
    assert room.allocate_rows(room.FILE, (1, 1, 1, size), CPU, tmp_path) is not None
    ((length, blocks),) = taken
    assert length == size
    assert blocks >= size


def test_a_full_disk_is_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    assert room.allocate_rows(room.FILE, (1, 1, 1, 10), CPU, tmp_path) is None
