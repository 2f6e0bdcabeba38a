from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sightx.builtin.clahe import Clahe


def by_pixels(plane, clip_limit, tiles):
    """Return what OpenCV documents, pixel by pixel: tables of tiles, bilinear between centres."""
    height, width = plane.shape
    rows, columns = math.ceil(height / tiles), math.ceil(width / tiles)
    padded = np.pad(
        plane, ((0, rows * tiles - height), (0, columns * tiles - width)), mode="reflect"
    )
    tables = {}
    for i in range(tiles):
        for j in range(tiles):
            tile = padded[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            counts = [int((tile == level).sum()) for level in range(256)]
            limit = max(int(clip_limit * tile.size / 256), 1)
            excess = sum(max(count - limit, 0) for count in counts)
            counts = [min(count, limit) + excess // 256 for count in counts]
            rest = excess % 256
            step = max(256 // rest, 1) if rest else 1
            for level in range(0, 256, step):
                if rest == 0:
                    break
                counts[level] += 1
                rest -= 1
            total, table = 0, []
            for count in counts:
                total += count
                table.append(min(round(total * 255 / tile.size), 255))
            tables[i, j] = table
    result = np.empty_like(plane)
    for y in range(height):
        for x in range(width):
            v, h = y / rows - 0.5, x / columns - 0.5
            i, j = math.floor(v), math.floor(h)
            corners = [
                ((1 - abs(v - a)) * (1 - abs(h - b)), *np.clip([a, b], 0, tiles - 1).tolist())
                for a in (i, i + 1)
                for b in (j, j + 1)
            ]
            result[y, x] = round(sum(w * tables[a, b][plane[y, x]] for w, a, b in corners))
    return result


@pytest.mark.parametrize(("size", "tiles"), [((40, 48), 4), ((37, 50), 4), ((9, 9), 8)])
@pytest.mark.parametrize("clip_limit", [1.0, 2.0, 40.0])
def test_a_grey_image_is_equalised_tile_by_tile(size, tiles, clip_limit) -> None:
    rng = np.random.default_rng(0)
    plane = (rng.normal(90, 20, size) + np.linspace(0, 60, size[1])).clip(0, 255).astype(np.uint8)
    own = Clahe(clip_limit=clip_limit, tiles=tiles).apply(torch.from_numpy(plane)[None])
    difference = own[0].numpy().astype(int) - by_pixels(plane.astype(int), clip_limit, tiles)
    assert abs(difference).max() <= 1  # ties of rounding
    assert (difference == 0).mean() > 0.99


def test_chroma_stays() -> None:
    image = torch.randint(60, 160, (3, 32, 32), dtype=torch.uint8)
    own = Clahe(clip_limit=1.5, tiles=2).apply(image)
    assert (own != image).any()
    inside = ((own > 0) & (own < 255)).all(dim=0)
    before, after = image.int(), own.int()
    for one, other in ((0, 1), (1, 2)):
        changed = (after[one] - after[other]) - (before[one] - before[other])
        assert changed[inside].abs().max() == 0


def test_local_contrast_rises_where_it_was_low() -> None:
    rng = np.random.default_rng(0)
    plane = torch.from_numpy(rng.normal(100, 3, (64, 64)).round().astype(np.uint8))
    own = Clahe().apply(plane.expand(3, 64, 64))
    assert own.float().std() > 1.5 * plane.float().std()
