"""What the kind preprocess promises: the same change of an image each time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sightx.plugin import Preprocess, Shape
from sightx.testing.demands import Check, demand, offer
from sightx.testing.worlds import images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_SIZES = ((40, 60), (61, 37), (9, 8))
_MARGIN = 1.75  # how many times what is needed a decoder leaves of an image, on each side
_CLOSE = 1.5  # how many times as far off as the reduced image a result may be


def uint8_in_and_out(preprocess: Preprocess) -> None:
    """Demand uint8 (C, H, W), of ordinary pictures, black ones and white ones."""
    for picture in _pictures():
        result = preprocess.apply(picture)
        form = f"{getattr(result, 'dtype', type(result))} {tuple(getattr(result, 'shape', ()))}"
        demand(
            form.startswith("torch.uint8") and result.ndim == 3 and result.numel(),
            f"apply() of {tuple(picture.shape)} gives {form}; return uint8 (C, H, W)",
        )


def prepare_repeats(preprocess: Preprocess) -> None:
    """Demand the same pixels each time: they are made once and kept."""
    for picture in _pictures():
        demand(
            preprocess.apply(picture).equal(preprocess.apply(picture)),
            "apply() differs from call to call; what is random belongs into an augment",
        )


def input_stays(preprocess: Preprocess) -> None:
    """Demand that the image it is given is not written to."""
    for picture in _pictures():
        before = picture.clone()
        preprocess.apply(picture)
        demand(picture.equal(before), "apply() changes the image it is given; work on a copy")


def shape_tells_the_truth(preprocess: Preprocess) -> None:
    """Demand that shape() foretells apply(), None standing for what it cannot know."""
    for picture in _pictures():
        result = tuple(preprocess.apply(picture).shape)
        for given in (Shape(*picture.shape), Shape(picture.shape[0], None, None)):
            said = tuple(preprocess.shape(given))
            true = len(said) == 3 and all(
                want in (None, got) for want, got in zip(said, result, strict=True)
            )
            demand(true, f"shape({tuple(given)}) says {said}, but apply() gives {result}")


def needs_suffice(preprocess: Preprocess) -> None:
    """Demand nearly the same result from an image reduced to required_input_size().

    Nearly means: not much further off than the reduced image itself is, both seen at the size that
    is needed.
    """
    for size in (None, (48, 64)):
        need = offer(preprocess.required_input_size, size=size)
        if need is None:
            continue
        said = f"required_input_size({size}) says {need}"
        good = isinstance(need, tuple) and [type(side) for side in need] == [int, int]
        demand(good and min(need) > 0, f"{said}; return (height, width), or None")
        enough = [math.ceil(_MARGIN * side) for side in need]
        times = 4 if max(need) < 200 else 2  # more would take seconds
        whole = _photograph(times * enough[0], times * enough[1])
        less = _scaled(whole, enough)
        results = preprocess.apply(whole), preprocess.apply(less)
        demand(
            size or results[0].shape == results[1].shape,
            f"{said}, but the size of the result depends on the image's; return None for None",
        )
        off, unseen = _distance(*results, size), _distance(whole, less, need)
        demand(
            off <= _CLOSE * unseen,
            f"{said}, but an image reduced so far gives another result: {off:.1f} grey levels off "
            f"where {unseen:.1f} are due; return None if it counts pixels",
        )


def _photograph(height: int, width: int) -> Tensor:
    """Return a disc on black, uint8 (3, H, W), with detail of every size, as in nature."""
    import torch

    random = torch.Generator().manual_seed(0)
    made, grain = torch.zeros(3, height, width), 1
    while grain < max(height, width):
        coarse = torch.randn(3, height // grain + 1, width // grain + 1, generator=random)
        made += _scaled(coarse, (height, width)) * min(32, 6 * grain)
        grain *= 2
    y, x = (torch.linspace(-1, 1, side).square() for side in (height, width))
    disc = y[:, None] + x <= 0.8
    return ((made + 130).clamp(60, 255) * disc).byte()


def _distance(one: Tensor, other: Tensor, size: Sequence[int] | None) -> float:
    """Return the mean difference of two images seen at one size, in grey levels."""
    size = size or one.shape[-2:]
    return float((_scaled(one.float(), size) - _scaled(other.float(), size)).abs().mean())


def _scaled(image: Tensor, size: Sequence[int]) -> Tensor:
    from torch.nn.functional import interpolate

    return interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0]


def _pictures() -> list[Tensor]:
    import torch

    noise = [images(1, size, seed=number)[0][0] for number, size in enumerate(_SIZES)]
    flat = [torch.full((3, 33, 21), level, dtype=torch.uint8) for level in (0, 255)]
    return noise + flat


PREPARE: tuple[Check, ...] = (
    uint8_in_and_out, prepare_repeats, input_stays, shape_tells_the_truth, needs_suffice,
)  # fmt: skip
