from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sightx.training.tta import views, with_tta


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    return nn.Sequential(*layers).eval()


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("tta", "count"), [("horizontal-flip", 2), ("flips", 4), ("d4", 8), ("flip-and-shift", 6)]
)
@torch.no_grad()
def test_outputs_are_means_over_distinct_views(tta, count) -> None:
    seen = views(IMAGES, tta)
    assert len({view.numpy().tobytes() for view in seen}) == len(seen) == count
    assert torch.equal(seen[0], IMAGES)
    mean = torch.stack([network()(view) for view in seen]).mean(dim=0)
    torch.testing.assert_close(with_tta(network(), tta)(IMAGES), mean)


@torch.no_grad()
def test_the_mean_over_d4_does_not_depend_on_the_orientation() -> None:
    averaged = with_tta(network(), "d4")
    expected = averaged(IMAGES)
    for turns in range(4):
        turned = torch.rot90(IMAGES, turns, (-2, -1))
        torch.testing.assert_close(averaged(turned), expected)
        torch.testing.assert_close(averaged(turned.flip(-1)), expected)
    assert not torch.allclose(network()(IMAGES), network()(IMAGES.flip(-1)))


def test_without_views_the_network_itself_predicts() -> None:
    module = network()
    assert with_tta(module, "none") is module


def test_flip_and_shift_moves_the_image_and_its_mirror_image_by_a_pixel() -> None:
    plain, mirrored, *shifted = (view.numpy() for view in views(IMAGES, "flip-and-shift"))
    for image, lower_right, upper_left in ((plain, *shifted[:2]), (mirrored, *shifted[2:])):
        padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        assert np.array_equal(lower_right, padded[:, :, :8, :8])
        assert np.array_equal(upper_left, padded[:, :, 2:, 2:])
