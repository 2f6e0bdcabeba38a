"""Checks of preprocessing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sightx.plugin import Preprocess, Shape, call_declared
from sightx.testing.assertions import ContractCheck, require
from sightx.testing.fixtures import images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_SIZES = ((40, 60), (61, 37), (9, 8))
_DECODER_MARGIN = 1.75  # The decoder keeps this multiple of the required height and width.
_TOLERANCE = 1.5  # A result may differ this many times as much as the reduced image does.


def output_is_uint8_chw(preprocess: Preprocess) -> None:
    """Require uint8 (C, H, W), for noisy, black and white images."""
    for image in _images():
        result = preprocess.apply(image)
        form = f"{getattr(result, 'dtype', type(result))} {tuple(getattr(result, 'shape', ()))}"
        require(
            form.startswith("torch.uint8") and result.ndim == 3 and result.numel(),
            f"apply() of {tuple(image.shape)} returns {form}; return uint8 (C, H, W)",
        )


def apply_is_deterministic(preprocess: Preprocess) -> None:
    """Require the same pixels each time, because they are cached."""
    for image in _images():
        require(
            preprocess.apply(image).equal(preprocess.apply(image)),
            "apply() differs from call to call; random changes belong in an augmentation",
        )


def input_is_not_modified(preprocess: Preprocess) -> None:
    """Require that the input is only read."""
    for image in _images():
        before = image.clone()
        preprocess.apply(image)
        require(image.equal(before), "apply() modifies its input; work on a copy")


def shape_matches_output(preprocess: Preprocess) -> None:
    """Require that shape() predicts the result of apply(), with None for what it cannot know."""
    for image in _images():
        actual = tuple(preprocess.apply(image).shape)
        for given in (Shape(*image.shape), Shape(image.shape[0], None, None)):
            declared = tuple(preprocess.shape(given))
            is_match = len(declared) == 3 and all(
                expected in (None, got) for expected, got in zip(declared, actual, strict=True)
            )
            require(
                is_match, f"shape({tuple(given)}) returns {declared}, but apply() gives {actual}"
            )


def required_input_size(preprocess: Preprocess) -> None:
    """Require nearly the same result from an image that is reduced to the required size.

    The results may differ by 1.5 times as much as the images differ at the required size.
    """
    for size in (None, (48, 64)):
        required = call_declared(preprocess.required_input_size, size=size)
        if required is None:
            continue
        call = f"required_input_size({size}) returns {required}"
        is_size = isinstance(required, tuple) and [type(edge) for edge in required] == [int, int]
        require(is_size and min(required) > 0, f"{call}; return (height, width), or None")
        decoded = [math.ceil(_DECODER_MARGIN * edge) for edge in required]
        factor = 4 if max(required) < 200 else 2  # A larger photograph would take seconds.
        full = _photograph(factor * decoded[0], factor * decoded[1])
        reduced = _resize(full, decoded)
        results = preprocess.apply(full), preprocess.apply(reduced)
        require(
            size or results[0].shape == results[1].shape,
            f"{call}, but the size of the result depends on the input's; return None for None",
        )
        actual, expected = _distance(*results, size), _distance(full, reduced, required)
        require(
            actual <= _TOLERANCE * expected,
            f"{call}, but a reduced image gives another result: it differs by {actual:.1f} grey "
            f"levels instead of {expected:.1f}; return None if the result depends on the size",
        )


def _photograph(height: int, width: int) -> Tensor:
    """Return a disc on black, uint8 (3, H, W), with detail of all sizes, like a photograph."""
    import torch

    generator = torch.Generator().manual_seed(0)
    detail, grain = torch.zeros(3, height, width), 1
    while grain < max(height, width):
        noise = torch.randn(3, height // grain + 1, width // grain + 1, generator=generator)
        detail += _resize(noise, (height, width)) * min(32, 6 * grain)
        grain *= 2
    y, x = (torch.linspace(-1, 1, length).square() for length in (height, width))
    disc = y[:, None] + x <= 0.8
    return ((detail + 130).clamp(60, 255) * disc).byte()


def _distance(one: Tensor, two: Tensor, size: Sequence[int] | None) -> float:
    """Return the mean absolute difference of two images at one size, in grey levels."""
    size = size or one.shape[-2:]
    return float((_resize(one.float(), size) - _resize(two.float(), size)).abs().mean())


def _resize(image: Tensor, size: Sequence[int]) -> Tensor:
    from torch.nn.functional import interpolate

    return interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0]


def _images() -> list[Tensor]:
    import torch

    noise = [images(1, size, seed=number)[0][0] for number, size in enumerate(_SIZES)]
    constant = [torch.full((3, 33, 21), level, dtype=torch.uint8) for level in (0, 255)]
    return noise + constant


CHECKS: tuple[ContractCheck, ...] = (
    output_is_uint8_chw, apply_is_deterministic, input_is_not_modified, shape_matches_output,
    required_input_size,
)  # fmt: skip
