from __future__ import annotations

import pytest
import torch

from sightx.builtin.preprocess import CenterCrop, CropToFundus, Grayscale, Resize
from sightx.plugin import Preprocess, Shape
from sightx.testing import preparing
from sightx.testing.demands import find


class P(Preprocess):
    """Do what a test says."""

    name = "p"


class Floating(P):
    def apply(self, image):
        return image.float()


class Squeezing(P):
    def apply(self, image):
        return image[0]


class Rolling(P):
    def apply(self, image):
        return image.roll(int(torch.randint(0, 8, ())), 2)


class Writing(P):
    def apply(self, image):
        return image.fill_(7)


class Turning(P):
    def apply(self, image):
        return image.transpose(1, 2)


class Forgetting(P):
    def apply(self, image):
        return image[:, :8, :8]

    def shape(self, shape):
        return Shape(shape.channels, shape.height or 1, 8)


class Quarter(P):
    """Cut the middle out, and ask for what a resize would."""

    share: float = 1.0

    def apply(self, image):
        height, width = image.shape[-2:]
        return image[:, height // 4 : height - height // 4, width // 4 : width - width // 4]

    def required_input_size(self, size):
        return size and tuple(int(self.share * side) for side in size)


class Small(Resize):
    """Ask for less than the result has."""

    name = "small"
    less: int = 4

    def required_input_size(self):
        return self.size // self.less, self.size // self.less


class Swapped(Resize):
    name = "swapped"

    def required_input_size(self):
        return self.size[::-1]


class Middle(CenterCrop):
    name = "middle"

    def required_input_size(self):
        return self.size, self.size


class Blurred(P):
    def apply(self, image):
        padded = torch.nn.functional.avg_pool2d(image.float(), 5, 1, 2, count_include_pad=False)
        return padded.byte()

    def required_input_size(self, size):
        return size


class Thinned(P):
    def apply(self, image):
        return image[:, ::2, ::2]

    def required_input_size(self, size):
        return size or (64, 64)


class Wordy(P):
    def apply(self, image):
        return image

    def required_input_size(self, size):
        return [64.0, 64.0]


BROKEN = [
    (preparing.uint8_in_and_out, Floating(), "gives torch.float32"),
    (preparing.uint8_in_and_out, Squeezing(), "gives torch.uint8 (40, 60); return uint8 (C, H, W)"),
    (preparing.prepare_repeats, Rolling(), "belongs into an augment"),
    (preparing.input_stays, Writing(), "work on a copy"),
    (
        preparing.shape_tells_the_truth,
        Turning(),
        "shape((3, 40, 60)) says (3, 40, 60), but apply()",
    ),
    (preparing.shape_tells_the_truth, Forgetting(), "says (3, 40, 8)"),
    (preparing.needs_suffice, Quarter(), "grey levels off"),
    (preparing.needs_suffice, Small(size=64), "return None if it counts pixels"),
    (preparing.needs_suffice, Small(size=64, less=2), "return None if it counts pixels"),
    (
        preparing.needs_suffice,
        Small(size=224),
        "required_input_size(None) says (56, 56), but an image reduced",
    ),
    (preparing.needs_suffice, Swapped(size=(40, 160)), "required_input_size(None) says (160, 40)"),
    (preparing.needs_suffice, Middle(size=20), "return None if it counts pixels"),
    (preparing.needs_suffice, Middle(size=160), "return None if it counts pixels"),
    (preparing.needs_suffice, Blurred(), "required_input_size((48, 64)) says (48, 64)"),
    (preparing.needs_suffice, Thinned(), "return None for None"),
    (preparing.needs_suffice, Wordy(), "return (height, width), or None"),
]


@pytest.mark.parametrize(("check", "broken", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_promise_is_found(caught, check, broken, words) -> None:
    caught(check, broken, words)


def test_the_table_of_broken_components_is_whole() -> None:
    assert {row[0] for row in BROKEN} == {*preparing.PREPARE}


@pytest.mark.parametrize(
    "preprocess",
    [
        Resize(size=64),
        Resize(size=9),
        Resize(size=(30, 90), fit="pad"),
        Resize(size=300, fit="cover"),
        Grayscale(),
        CropToFundus(),
        CenterCrop(size=9),
        Quarter(share=2.0),
        P(),
    ],
    ids=str,
)
def test_what_asks_for_enough_passes(preprocess) -> None:
    found = find(preparing.needs_suffice, preprocess)
    assert found.ok, found.message
