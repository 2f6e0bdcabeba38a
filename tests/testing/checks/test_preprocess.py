from __future__ import annotations

import pytest
import torch

from sightx.builtin.preprocess import CenterCrop, CropToFundus, Grayscale, Resize
from sightx.plugin import Preprocess, Shape
from sightx.testing.assertions import run_check
from sightx.testing.checks import preprocess as checks


class P(Preprocess):
    """Behave as a test requires."""

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
    """Crop the centre, and require the input size of a resize."""

    share: float = 1.0

    def apply(self, image):
        height, width = image.shape[-2:]
        return image[:, height // 4 : height - height // 4, width // 4 : width - width // 4]

    def required_input_size(self, size):
        return size and tuple(int(self.share * edge) for edge in size)


class Small(Resize):
    """Require an input that is smaller than the result."""

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
    (checks.output_is_uint8_chw, Floating(), "returns torch.float32"),
    (
        checks.output_is_uint8_chw,
        Squeezing(),
        "returns torch.uint8 (40, 60); return uint8 (C, H, W)",
    ),
    (checks.apply_is_deterministic, Rolling(), "random changes belong in an augmentation"),
    (checks.input_is_not_modified, Writing(), "work on a copy"),
    (
        checks.shape_matches_output,
        Turning(),
        "shape((3, 40, 60)) returns (3, 40, 60), but apply()",
    ),
    (checks.shape_matches_output, Forgetting(), "returns (3, 40, 8)"),
    (checks.required_input_size, Quarter(), "grey levels instead of"),
    (
        checks.required_input_size,
        Small(size=64),
        "return None if the result depends",
    ),
    (
        checks.required_input_size,
        Small(size=64, less=2),
        "return None if the result depends",
    ),
    (
        checks.required_input_size,
        Small(size=224),
        "required_input_size(None) returns (56, 56), but a reduced image",
    ),
    (
        checks.required_input_size,
        Swapped(size=(40, 160)),
        "required_input_size(None) returns (160, 40)",
    ),
    (
        checks.required_input_size,
        Middle(size=20),
        "return None if the result depends",
    ),
    (
        checks.required_input_size,
        Middle(size=160),
        "return None if the result depends",
    ),
    (
        checks.required_input_size,
        Blurred(),
        "required_input_size((48, 64)) returns (48, 64)",
    ),
    (checks.required_input_size, Thinned(), "return None for None"),
    (checks.required_input_size, Wordy(), "return (height, width), or None"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == {*checks.CHECKS}


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
def test_a_sufficient_input_size_passes(preprocess) -> None:
    result = run_check(checks.required_input_size, preprocess)
    assert result.ok, result.message
