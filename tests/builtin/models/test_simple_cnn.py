from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sightx.builtin.models.simple_cnn import SimpleCnn


def test_default_for_cifar_has_the_weights_one_counts() -> None:
    network = SimpleCnn().build(channels=3, outputs=10, size=(32, 32))
    blocks = sum(9 * wide * width + 2 * width for wide, width in [(3, 32), (32, 64), (64, 128)])
    dense = (128 * 4 * 4 + 1) * 128 + (128 + 1) * 10
    assert sum(weight.numel() for weight in network.parameters()) == blocks + dense
    parts = [name for name, _ in network.named_children()]
    assert parts == [
        "block1", "block2", "block3", "pool", "flatten", "hidden1", "relu1", "dropout1", "head",
    ]  # fmt: skip


def test_pool_is_the_adaptive_mean_where_the_grid_divides() -> None:
    network = SimpleCnn(pool=2).build(channels=3, outputs=2, size=(64, 96))
    features = torch.randn(2, 128, 8, 12)
    torch.testing.assert_close(network.pool(features), nn.AdaptiveAvgPool2d(2)(features))


@pytest.mark.parametrize("side", range(8, 120, 7))
def test_pool_sees_every_pixel_at_every_size(side: int) -> None:
    pool = SimpleCnn().build(channels=3, outputs=2, size=(side, 40)).pool
    features = torch.ones(1, 1, side // 8, 5, requires_grad=True)
    pooled = pool(features)
    assert pooled.shape == (1, 1, min(4, side // 8), 4)
    torch.testing.assert_close(pooled, torch.ones_like(pooled))
    pooled.sum().backward()
    assert features.grad.min() > 0


def test_dropout_rests_in_evaluation_and_works_in_training() -> None:
    network = SimpleCnn(dropout=0.5, hidden=()).build(channels=3, outputs=2, size=(16, 16))
    assert network.dropout.p == 0.5
    features = torch.ones(1000)
    assert 400 < (network.train().dropout(features) == 0).sum() < 600
    assert torch.equal(network.eval().dropout(features), features)


def test_too_small_images_are_refused_with_the_size_they_need() -> None:
    SimpleCnn().build(channels=3, outputs=2, size=(8, 8))
    with pytest.raises(ValueError, match="must be at least 8 pixels: 8x7 is too small"):
        SimpleCnn().build(channels=3, outputs=2, size=(8, 7))


@pytest.mark.parametrize("text", ['{"widths": []}', '{"dropout": 1.0}', '{"pool": 0}'])
def test_wrong_settings_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        SimpleCnn.model_validate_json(text)
