"""The golden images are those that they are named after."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sightx.builtin.preprocess import CenterCrop, Resize
from sightx.data.decode.decoder import decode
from sightx.export.golden import golden_images, golden_size


def test_each_image_is_of_another_sort_and_upright_after_decoding() -> None:
    images = golden_images(40, 60)
    modes = {name: Image.open(io.BytesIO(content)).mode for name, content in images.items()}
    assert modes == {
        "colour.jpeg": "RGB", "turned.jpeg": "RGB", "cmyk.jpeg": "CMYK", "dark.jpeg": "RGB",
        "grey.png": "L", "alpha.png": "RGBA", "deep.png": "I;16", "palette.png": "P",
    }  # fmt: skip
    pixels = {name: decode(content).astype(int) for name, content in images.items()}
    assert {array.shape for array in pixels.values()} == {(40, 60, 3)}
    assert np.abs(pixels["turned.jpeg"] - pixels["colour.jpeg"]).mean() < 5
    assert np.array_equal(pixels["deep.png"], pixels["grey.png"])
    assert pixels["dark.jpeg"].max() < 70


def test_images_are_the_same_every_time() -> None:
    assert golden_images(40, 60) == golden_images(40, 60)


@pytest.mark.parametrize(
    ("chain", "size"),
    [((Resize(size=224),), (280, 336)), ((), (224, 224)), ((CenterCrop(size=224),), (280, 336))],
)
def test_a_chain_that_keeps_the_size_gets_images_of_the_input_size(
    chain: tuple[object, ...], size: tuple[int, int]
) -> None:
    assert golden_size(chain, (3, 224, 224)) == size
