from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sightx import SpecError
from sightx.builtin import normalize
from sightx.builtin.normalize import FromModel, ImageNet, OverDataset, Values
from sightx.plugin import Model, PixelRows
from sightx.records.pixels import InMemoryPixels

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Plain(Model):
    """Declare nothing."""

    name = "plain"


class Lite(Model):
    """Declare the range -1 to 1."""

    name = "lite"

    def normalization(self):
        return (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)


def rows_of(count=50, channels=3, index=None):
    rng = np.random.default_rng(channels)
    pixels = rng.integers(0, 256, (count, channels, 13, 17), dtype=np.uint8)
    pixels[:, 0] //= 3
    index = np.arange(count) if index is None else np.asarray(index)
    return PixelRows(InMemoryPixels(torch.from_numpy(pixels)), index)


def reference(rows):
    values = rows.gather(np.arange(len(rows))).numpy().astype(np.float64) / 255
    return values.mean(axis=(0, 2, 3)), values.std(axis=(0, 2, 3))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("chunk", [1, 5000, 2**24])
def test_dataset_statistics_are_numpys(channels, chunk, monkeypatch):
    monkeypatch.setattr(normalize, "_CHUNK", chunk)
    rows = rows_of(channels=channels)
    found = OverDataset().statistics(model=Plain(), training_rows=rows)
    np.testing.assert_allclose(found, reference(rows), rtol=1e-13)
    assert {type(number) for numbers in found for number in numbers} == {float}


def test_only_the_training_rows_count_each_as_often_as_it_is_there():
    some = rows_of(index=[3, 4, 4, 4, 20])
    found = OverDataset().statistics(model=Plain(), training_rows=some)
    np.testing.assert_allclose(found, reference(some), rtol=1e-13)
    everything = OverDataset().statistics(model=Plain(), training_rows=rows_of())
    assert found != everything


def test_the_order_of_rows_does_not_matter_to_the_last_bit():
    one = OverDataset().statistics(model=Plain(), training_rows=rows_of())
    other = OverDataset().statistics(model=Plain(), training_rows=rows_of(index=range(49, -1, -1)))
    assert one == other


def test_a_channel_that_never_varies_has_deviation_one():
    pixels = torch.zeros(4, 2, 5, 5, dtype=torch.uint8)
    pixels[:, 1] = 51
    found = OverDataset().statistics(model=Plain(), training_rows=PixelRows.of(pixels))
    assert found == ((0.0, 0.2), (1.0, 1.0))


def test_a_tiny_deviation_is_not_lost_in_rounding():
    pixels = torch.full((64, 1, 128, 128), 254, dtype=torch.uint8)
    pixels[0, 0, 0, 0] = 255
    _, deviation = OverDataset().statistics(model=Plain(), training_rows=PixelRows.of(pixels))
    share = 1 / (64 * 128 * 128)
    assert deviation[0] == pytest.approx((share * (1 - share)) ** 0.5 / 255, rel=1e-12)


def test_a_models_own_statistics_are_used():
    found = FromModel().statistics(model=Lite(), training_rows=rows_of())
    assert found == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def test_a_model_that_declares_none_gets_the_training_sides():
    found = FromModel().statistics(model=Plain(), training_rows=rows_of())
    np.testing.assert_allclose(found, reference(rows_of()), rtol=1e-13)


def test_one_channel_gets_the_average_of_three():
    grey = rows_of(channels=1)
    found = FromModel().statistics(model=Lite(), training_rows=grey)
    np.testing.assert_allclose(found, ((0.5,), (0.2,)))
    found = ImageNet().statistics(model=Plain(), training_rows=grey)
    np.testing.assert_allclose(found, ((0.449,), (0.226,)))


def test_imagenet_is_what_torchvision_normalises_by():
    assert ImageNet().statistics(model=Plain(), training_rows=rows_of()) == IMAGENET


def values(**settings):
    return Values.model_validate_json(json.dumps(settings))


def test_values_are_used_as_they_are_and_one_stands_for_all():
    three = values(mean=[0.1, 0.2, 0.3], deviation=[1, 2, 3])
    assert three.statistics(model=Plain(), training_rows=rows_of()) == (
        (0.1, 0.2, 0.3),
        (1.0, 2.0, 3.0),
    )
    one = values(mean=[0.5], deviation=[0.25])
    assert one.statistics(model=Plain(), training_rows=rows_of()) == ((0.5,) * 3, (0.25,) * 3)


def test_values_for_other_channels_are_an_error_of_the_spec():
    with pytest.raises(SpecError, match=r"normalize\.mean: 3 numbers for images of 1 channels"):
        values(mean=[0, 0, 0], deviation=[1, 1, 1]).statistics(
            model=Plain(), training_rows=rows_of(channels=1)
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mean": [0.5, 0.5], "deviation": [1.0]}, "mean has 2 numbers and deviation 1"),
        ({"mean": [0.5], "deviation": [0.0]}, "greater than 0"),
        ({"mean": [], "deviation": []}, "at least 1"),
        ({"mean": [0.5]}, "deviation"),
    ],
)
def test_values_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        values(**settings)
