"""What normalize and augment promise: what works on pixels as they are trained with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sightx.plugin import Augment, Model, Normalize, SpecError
from sightx.testing.demands import Check, demand, offer
from sightx.testing.worlds import images

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

    from sightx.plugin import PixelRows

    Params = Mapping[str, np.ndarray[Any, Any]]

_N = 64


class _Declaring(Model):
    """A network that only says what it expects."""

    name = "declaring"

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


class _Silent(Model):
    """A network that expects nothing."""

    name = "silent"


def one_number_a_channel(normalize: Normalize) -> None:
    """Demand finite means and positive deviations, for colour, for grey, for flat images."""
    refused = []
    for channels in (3, 1):
        try:
            for rows in (_rows(channels), _rows(channels, flat=True)):
                for model in (_Declaring(), _Silent()):
                    _demand_statistics(_statistics(normalize, model, rows), channels)
        except SpecError as error:
            refused.append(str(error))
    demand(len(refused) < 2, f"it refuses images of three channels and of one: {refused[:1]}")


def _demand_statistics(found: Any, channels: int) -> None:
    mean, deviation = found
    for title, numbers in (("means", mean), ("deviations", deviation)):
        demand(
            len(numbers) == channels and all(type(each) is float for each in numbers),
            f"{title} are {numbers!r}; give one float for each of {channels} channels",
        )
        demand(all(map(math.isfinite, numbers)), f"{title} are {numbers!r}; they must be finite")
    demand(min(deviation) > 0, f"deviations are {deviation}; pixels are divided by them")


def statistics_repeat(normalize: Normalize) -> None:
    """Demand the same numbers each time, and pixels that stay."""
    import numpy as np

    rows = _rows(3)
    before = rows.gather(np.arange(len(rows)))
    one, two = (_statistics(normalize, _Silent(), rows) for _ in range(2))
    demand(one == two, f"statistics() gives {one}, then {two}")
    demand(
        rows.gather(np.arange(len(rows))).equal(before),
        "statistics() changes the pixels; work on a copy",
    )


def _statistics(normalize: Normalize, model: Model, rows: PixelRows) -> Any:
    return offer(normalize.statistics, model=model, training_rows=rows)


def _rows(channels: int, *, flat: bool = False) -> PixelRows:
    from sightx.plugin import PixelRows

    pixels, _ = images(6, channels=channels)
    return PixelRows.of(pixels * 0 if flat else pixels)


def draws_are_one_a_sample(augment: Augment) -> None:
    """Demand a mapping of arrays whose first side is the number of samples."""
    for n in (1, 5):
        for key, drawn in _draw(augment, 0, n).items():
            shape = getattr(drawn, "shape", None)
            demand(
                shape is not None and shape[:1] == (n,),
                f"draw({n}) gives {key!r} of shape {shape}; draw one for each of the n samples",
            )


def draws_repeat(augment: Augment) -> None:
    """Demand that everything comes from the generator that draw() is given."""
    demand(
        _text(_draw(augment, 0)) == _text(_draw(augment, 0)),
        "the same rng gives another draw; take every number from rng",
    )


def samples_differ(augment: Augment) -> None:
    """Demand a draw of its own for each sample, where anything is drawn at all."""
    one, two = _draw(augment, 0), _draw(augment, 1)
    if _text(one) == _text(two):
        return
    differ = any((drawn != drawn[:1]).any() for drawn in one.values())
    demand(differ, f"all {_N} samples get the same draw; ask rng for n numbers")


def geometry_is_a_map(augment: Augment) -> None:
    """Demand finite maps (n, 2, 3), or None, for sizes that are not square."""
    import torch

    for size in ((8, 12), (12, 8), (9, 9)):
        matrix = _matrix(augment, _draw(augment, 0), size)
        if matrix is None:
            return
        good = isinstance(matrix, torch.Tensor) and tuple(matrix.shape) == (_N, 2, 3)
        demand(good, f"matrix() must return a tensor ({_N}, 2, 3) for {_N} samples, or None")
        demand(bool(matrix.isfinite().all()), f"matrix() is not finite for the size {size}")
        flat = bool((torch.linalg.det(matrix[:, :, :2].double()).abs() < 1e-9).any())
        demand(not flat, f"matrix() maps images of {size} to a line; it must be invertible")


def images_stay_images(augment: Augment) -> None:
    """Demand float images of the same shape in [0, 1], and targets that stay targets."""
    import torch

    for size in ((8, 12), (12, 8)):
        pixels, targets = _batch(size)
        made, mixed = _applied(augment, pixels, targets)
        form = f"{getattr(made, 'dtype', '')} {tuple(getattr(made, 'shape', ()))}"
        same = made.dtype == torch.float32 and made.shape == pixels.shape
        demand(same, f"apply() gives {form}; keep {pixels.dtype} {tuple(pixels.shape)}")
        low, high = float(made.min()), float(made.max())
        demand(low >= -1e-6 and high <= 1 + 1e-6, f"pixels go from {low:.3g} to {high:.3g}; clamp")
        if mixed.ndim == 2:
            sums = mixed.sum(dim=1)
            kept = len(mixed) == _N and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
        else:
            kept = mixed.equal(targets)
        demand(kept, "targets must stay, or become probabilities (n, classes) when they are mixed")


def apply_repeats(augment: Augment) -> None:
    """Demand that the same draw makes the same images."""
    one, two = (_applied(augment, *_batch((8, 12)))[0] for _ in range(2))
    demand(one.equal(two), "apply() differs for the same draw; draw in draw(), from rng")


def something_changes(augment: Augment) -> None:
    """Demand that matrix() or apply() does anything."""
    import torch

    pixels, targets = _batch((8, 12))
    matrix = _matrix(augment, _draw(augment, 0), (8, 12))
    moved = matrix is not None and not torch.equal(matrix.cpu().float(), _still())
    made, mixed = _applied(augment, pixels, targets)
    demand(
        moved or not (made.equal(pixels) and mixed.equal(targets)),
        "neither matrix() nor apply() changes an image; give settings under which it does",
    )


def _still() -> Tensor:
    import torch

    return torch.eye(2, 3).expand(_N, 2, 3)


def _draw(augment: Augment, seed: int, n: int = _N) -> Params:
    import numpy as np

    params: Params = offer(augment.draw, n=n, rng=np.random.default_rng(seed))
    return params


def _text(params: Params) -> list[tuple[str, bytes]]:
    return [(key, drawn.tobytes()) for key, drawn in sorted(params.items())]


def _matrix(augment: Augment, params: Params, size: tuple[int, int]) -> Tensor | None:
    matrix: Tensor | None = offer(augment.matrix, params=params, size=size)
    return matrix


def _batch(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    import torch

    pixels, labels = images(_N, size)
    return pixels.float() / 255, torch.from_numpy(labels)


def _applied(augment: Augment, pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    made, mixed = offer(
        augment.apply, images=pixels.clone(), targets=targets.clone(), params=_draw(augment, 0)
    )
    return made, mixed


NORMALIZE: tuple[Check, ...] = (one_number_a_channel, statistics_repeat)
AUGMENT: tuple[Check, ...] = (
    draws_are_one_a_sample, draws_repeat, samples_differ, geometry_is_a_map, images_stay_images,
    apply_repeats, something_changes,
)  # fmt: skip
