from __future__ import annotations

import numpy as np
import torch

from sightx.records.pixels import InMemoryPixels, PixelRows

PIXELS = torch.arange(5 * 3 * 2 * 2, dtype=torch.uint8).view(5, 3, 2, 2)


def test_gather_follows_the_index_in_the_order_asked():
    rows = PixelRows(InMemoryPixels(PIXELS), np.array([4, 0, 2]))

    found = rows.gather(np.array([2, 0, 0]))

    assert len(rows) == 3
    assert torch.equal(found, torch.stack([PIXELS[2], PIXELS[4], PIXELS[4]]))


def test_take_is_a_view_and_gather_a_copy():
    taken = (
        PixelRows(InMemoryPixels(PIXELS), np.arange(5)).take(np.array([3, 1])).take(np.array([1]))
    )

    found = taken.gather(np.array([0]))

    assert taken.pixels.tensor is PIXELS
    assert torch.equal(found[0], PIXELS[1])
    assert found.data_ptr() != PIXELS[1].data_ptr()


def test_no_rows_are_an_empty_batch():
    rows = PixelRows(InMemoryPixels(PIXELS), np.arange(5)).take(np.array([], dtype=int))

    assert rows.gather(np.array([], dtype=int)).shape == (0, 3, 2, 2)
