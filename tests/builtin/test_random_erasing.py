from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torchvision.transforms import RandomErasing as Reference

from sightx.builtin.random_erasing import RandomErasing

SIZE = (40, 56)


def erased(component, n=2000, size=SIZE, seed=0):
    """Return the rectangles that are erased of white images: top, left, height, width."""
    images = torch.ones(n, 1, *size)
    params = component.draw(n, np.random.default_rng(seed))
    result, _ = component.apply(images, torch.zeros(n), params, classes=2)
    holes = (result[:, 0] == 0).numpy()
    boxes = []
    for hole in holes[holes.any(axis=(1, 2))]:
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert hole.sum() == height * width
        boxes.append((rows[0], columns[0], height, width))
    return np.array(boxes).T


def test_rectangles_are_spread_as_torchvisions() -> None:
    torch.manual_seed(0)
    size, settings = (200, 200), {"scale": (0.05, 0.3), "ratio": (0.5, 2.0)}
    white = torch.ones(1, *size)
    draws = [Reference.get_params(white, value=[0.0], **settings)[:4] for _ in range(800)]
    theirs = np.array(draws).T
    own = erased(RandomErasing(probability=1.0, **settings), 800, size)
    for one, other in zip(own, theirs, strict=True):
        levels = [0.05, 0.25, 0.5, 0.75, 0.95]
        assert np.abs(np.quantile(one, levels) - np.quantile(other, levels)).max() < 14


def test_rectangles_lie_within_the_image_and_have_the_area_asked_for() -> None:
    top, left, height, width = erased(RandomErasing(probability=1.0, ratio=(0.05, 20.0)))
    share = height * width / (SIZE[0] * SIZE[1])
    assert ((top + height) <= SIZE[0]).all()
    assert ((left + width) <= SIZE[1]).all()
    assert 0.01 < share.min() < 0.03
    assert 0.3 < share.max() < 0.35


def test_as_many_images_are_erased_as_asked() -> None:
    count = erased(RandomErasing(probability=0.25), 4000).shape[1]
    assert count / 4000 == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("fill", ["mean", "random"])
def test_rectangles_have_one_colour(fill) -> None:
    component = RandomErasing(probability=1.0, fill=fill)
    images = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    params = component.draw(4, np.random.default_rng(0))
    result, _ = component.apply(images, torch.zeros(4), params, classes=2)
    for image, given, color in zip(result, images, params["color"], strict=True):
        colors = image[:, (image != given).all(dim=0)]
        assert len(colors.T) > 0.01 * SIZE[0] * SIZE[1]
        expected = given.mean(dim=(1, 2)) if fill == "mean" else torch.tensor(color).float()
        torch.testing.assert_close(colors, expected[:, None].expand_as(colors))


def test_limits_must_ascend() -> None:
    with pytest.raises(ValidationError, match=r"scale must be \[smallest, largest\]"):
        RandomErasing(scale=(0.3, 0.2))
