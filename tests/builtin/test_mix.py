"""Mixing augmentations, pair by pair against torchvision's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot
from torchvision.transforms import v2

from sightx.builtin.mix import CutMix, MixUp
from sightx.data.loader.augment import augment
from sightx.errors import PluginError
from sightx.plugin import Augment, generator

CLASSES = 4


def batch(n: int = 24, size: tuple[int, int] = (9, 14)) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(n) % CLASSES


def pair(values: torch.Tensor, one: int, other: int) -> torch.Tensor:
    """A batch of two: torchvision mixes its first sample with the second."""
    return values[[one, other]]


def torchvision_mix(
    cls: type, images: torch.Tensor, targets: torch.Tensor, drawn: Any, row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a sample as torchvision's transform mixes it with its partner, for the same draws."""
    reference, partner = cls(num_classes=CLASSES), int(drawn["partner"][row])
    labels, weight = pair(targets, row, partner), float(drawn["weight"][row])
    params: dict[str, Any] = {"labels": labels, "batch_size": 2, "lam": weight}
    if cls is v2.CutMix:
        height, width = images.shape[-2:]
        x, y = int(drawn["x"][row] * width), int(drawn["y"][row] * height)
        reach = 0.5 * np.sqrt(1 - weight)
        box = (
            max(x - int(reach * width), 0), max(y - int(reach * height), 0),
            min(x + int(reach * width), width), min(y + int(reach * height), height),
        )  # fmt: skip
        area = (box[2] - box[0]) * (box[3] - box[1])
        params |= {"box": box, "lam_adjusted": 1 - area / (width * height)}
    mixed = reference.transform(pair(images, row, partner), params)
    return mixed[0], reference.transform(labels, params)[0]


@pytest.mark.parametrize(
    ("component", "cls"), [(MixUp(alpha=0.4), v2.MixUp), (CutMix(), v2.CutMix)]
)
def test_each_sample_is_mixed_as_torchvision_mixes_it(component: Augment, cls: type) -> None:
    images, targets = batch()
    drawn = component.draw(len(images), generator(0, "augment", 3, 0), progress=0.0)
    mixed, probabilities = component.apply(images, targets, drawn, classes=CLASSES)
    for row in range(len(images)):
        image, target = torchvision_mix(cls, images, targets, drawn, row)
        torch.testing.assert_close(mixed[row], image)
        torch.testing.assert_close(probabilities[row], target)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(images)))
    assert len(np.unique(drawn["weight"])) == len(images)  # a weight per sample


@pytest.mark.parametrize("component", [MixUp(probability=0.3), CutMix(probability=0.3)])
def test_only_a_share_of_the_samples_is_mixed(component: Augment) -> None:
    images, targets = batch(400)
    drawn = component.draw(400, generator(0, "augment", 0, 0), progress=0.0)
    mixed, probabilities = component.apply(images, targets, drawn, classes=CLASSES)
    is_kept = (mixed == images).flatten(1).all(dim=1)
    assert 0.6 < float(is_kept.float().mean()) < 0.85
    unmixed = torch.from_numpy(drawn["weight"] == 1)
    assert torch.equal(mixed[unmixed], images[unmixed])
    assert torch.equal(probabilities[unmixed], one_hot(targets, CLASSES).float()[unmixed])


def test_a_single_sample_stays_as_it_is() -> None:
    images, targets = batch(1)
    for component in (MixUp(), CutMix()):
        mixed, probabilities = augment(
            images, targets, [component], generator(0, "augment", 0, 0), classes=CLASSES
        )
        torch.testing.assert_close(mixed, images)
        assert probabilities.argmax(dim=1).equal(targets)


def test_mixtures_can_be_mixed_again() -> None:
    images, targets = batch()
    mixed, probabilities = augment(
        images, targets, [MixUp(), CutMix()], generator(0, "augment", 0, 0),
        classes=CLASSES, check_values=True,
    )  # fmt: skip
    assert mixed.shape == images.shape
    assert probabilities.shape == (len(images), CLASSES)
    assert ((probabilities > 0).sum(dim=1) > 2).any()


def test_mixed_targets_must_be_declared() -> None:
    class Undeclared(MixUp):
        """Mix, and do not say so."""

        name = "undeclared"
        mixes = False

    images, targets = batch()
    with pytest.raises(PluginError, match="returned mixed targets; set mixes = True"):
        augment(images, targets, [Undeclared()], generator(0, "x"), classes=CLASSES)


@pytest.mark.parametrize("component", [MixUp(off_after=0.5), CutMix(off_after=0.5)])
def test_nothing_is_mixed_after_a_part_of_training(component: Augment) -> None:
    images, targets = batch()
    for progress in (0.0, 0.49, 0.5, 0.99):
        mixed, probabilities = augment(
            images, targets, [component], generator(0, "x"), classes=CLASSES, progress=progress
        )
        assert torch.equal(mixed, images) == (progress >= 0.5)
        assert torch.equal(probabilities, one_hot(targets, CLASSES).float()) == (progress >= 0.5)
