"""Augmentation of a batch: random draws on the host, computation where the images are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.registry import results
from sightx.registry.components import call_declared

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sightx.registry.kinds import Augment, Params

_PIXEL_TOLERANCE = 1e-3


def augment(
    images: Tensor,
    targets: Tensor,
    components: Sequence[Augment],
    rng: np.random.Generator,
    *,
    classes: int | None = None,
    progress: float = 0.0,
    check_values: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return augmented images, float (n, C, H, W) in [0, 1], and targets.

    Every component draws from `rng` in the order of the chain. All geometry comes first: the
    matrices are composed and the pixels sampled once. Then each component's `apply` runs, in order.
    Raises PluginError for a result of the wrong shape or type, with `check_values` also for values
    out of range, which waits for the device. Mixed targets have `classes` columns. `progress` is
    the part of all steps that is done.
    """
    n, size = len(images), (images.shape[-2], images.shape[-1])
    drawn = [(component, _draw(component, n, rng, progress)) for component in components]
    matrices = [
        _matrix(component, params, n=n, size=size, check_values=check_values)
        for component, params in drawn
    ]
    if given := [matrix for matrix in matrices if matrix is not None]:
        images = transform(images, compose(given))
    for component, params in drawn:
        images, targets = _apply(
            component, images, targets, params, classes=classes, check_values=check_values
        )
    return images, targets


def _draw(augment: Augment, n: int, rng: np.random.Generator, progress: float) -> Params:
    """Return the parameters of n samples: named arrays (n, ...)."""
    params = call_declared(augment.draw, n=n, rng=rng, progress=progress)
    if not isinstance(params, Mapping):
        raise results.wrong_result(augment.draw, f"returned {params!r}", "return named arrays")
    for name, values in params.items():
        if np.shape(values)[:1] != (n,):
            message = f"returned {name!r} of shape {np.shape(values)}"
            raise results.wrong_result(
                augment.draw, message, f"return a value per sample, ({n}, ...)"
            )
    return params


def _matrix(
    augment: Augment, params: Params, *, n: int, size: tuple[int, int], check_values: bool
) -> Tensor | None:
    """Return the affine maps (n, 2, 3) of a geometric transformation, None for another one."""
    matrix: Tensor | None = call_declared(augment.matrix, params=params, size=size)
    is_tensor = not isinstance(matrix, np.ndarray)
    if matrix is not None and (not is_tensor or getattr(matrix, "shape", None) != (n, 2, 3)):
        hint = f"return a tensor ({n}, 2, 3), or None"
        given = results.shape_text(matrix) if is_tensor else "an array"
        raise results.wrong_result(augment.matrix, f"returned {given}", hint)
    if check_values and matrix is not None and not matrix.isfinite().all():
        hint = "return finite, invertible maps"
        raise results.wrong_result(augment.matrix, "returned a map that is not finite", hint)
    return matrix


def _apply(
    augment: Augment,
    images: Tensor,
    targets: Tensor,
    params: Params,
    *,
    classes: int | None,
    check_values: bool,
) -> tuple[Tensor, Tensor]:
    """Return changed images and targets; their values are read only with `check_values`.

    Mixed targets have one column per class, if the number of classes is known.
    """
    method = augment.apply
    result = call_declared(method, images=images, targets=targets, params=params, classes=classes)
    if not isinstance(result, tuple) or len(result) != 2:
        raise results.wrong_result(
            method, f"returned a {type(result).__name__}", "return images, targets"
        )
    changed, mixed = result
    if _form(changed) != _form(images):
        message = f"returned images {_text(changed)}"
        raise results.wrong_result(method, message, f"return {_text(images)}, as given")
    is_mixed = getattr(mixed, "ndim", 0) == 2 and mixed.is_floating_point()
    columns = mixed.shape[1] if is_mixed and classes is None else classes
    if _form(mixed) != _form(targets) and not (
        is_mixed and tuple(mixed.shape) == (len(images), columns)
    ):
        hint = f"return {_text(targets)}, or probabilities ({len(images)}, {columns or 'classes'})"
        raise results.wrong_result(method, f"returned targets {_text(mixed)}", hint)
    if is_mixed and targets.ndim == 1 and not augment.mixes:
        hint = "set mixes = True on the class, so that only a loss for mixed targets gets them"
        raise results.wrong_result(method, "returned mixed targets", hint)
    if check_values:
        _check_values(augment, changed, mixed, classes)
    return changed, mixed


def _check_values(augment: Augment, images: Tensor, targets: Tensor, classes: int | None) -> None:
    """Raise PluginError for pixels out of range, and targets that are not (mixed) classes."""
    low, high = images.aminmax()
    if not (low >= -_PIXEL_TOLERANCE and high <= 1 + _PIXEL_TOLERANCE):  # also for NaN
        message = f"returned pixels from {float(low):.3g} to {float(high):.3g}"
        raise results.wrong_result(augment.apply, message, "keep them in 0 to 1")
    if targets.ndim == 1:
        low, high = targets.aminmax()
        if low < 0 or (classes is not None and high >= classes):
            message = f"returned targets from {int(low)} to {int(high)}"
            raise results.wrong_result(
                augment.apply, message, f"they are classes, from 0 to {(classes or 1) - 1}"
            )
    elif not ((targets.sum(dim=1) - 1).abs() <= results.SUM_TOLERANCE).all():
        message = "returned targets that are not probabilities"
        raise results.wrong_result(augment.apply, message, "each row has the sum 1")


def _form(value: Any) -> tuple[Any, Any]:
    """Return shape and dtype of a tensor."""
    return getattr(value, "shape", None), getattr(value, "dtype", None)


def _text(value: Any) -> str:
    dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
    return f"{dtype} {results.shape_text(value)}".strip()


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a host tensor on a device; on CUDA without waiting for the copy."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def compose(matrices: Sequence[Tensor]) -> Tensor:
    """Return the composition of matrices (n, 2, 3) in the order in which images change.

    The result is float64 on the host. A matrix maps output to input, so the last change is undone
    first.
    """
    import torch

    def homogeneous(matrix: Tensor) -> Tensor:
        bottom = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(len(matrix), 1, 3)
        return torch.cat([matrix.cpu().double(), bottom], dim=1)

    return reduce(torch.matmul, map(homogeneous, matrices))[:, :2]


def transform(images: Tensor, matrices: Tensor) -> Tensor:
    """Return images resampled bilinearly, with black outside; mere flips are exact.

    `matrices` (n, 2, 3), on the host, map output to input, in pixels from the centre.
    """
    import torch
    from torch.nn.functional import grid_sample

    signs = matrices.diagonal(dim1=1, dim2=2)
    if torch.equal(matrices[:, :, :2], torch.diag_embed(signs)) and _are_flips(matrices, signs):
        return _flipped(images, signs < 0)
    return grid_sample(images, _grid(images, matrices), padding_mode="zeros", align_corners=False)


def _are_flips(matrices: Tensor, signs: Tensor) -> bool:
    return bool((signs.abs() == 1).all() and (matrices[:, :, 2] == 0).all())


def _flipped(images: Tensor, mirrored: Tensor) -> Tensor:
    """Return images flipped along x and y where `mirrored`, bool (n, 2), says so."""
    for axis, chosen in zip((-1, -2), mirrored.unbind(dim=1), strict=True):
        if chosen.any():
            mask = to_device(chosen, images.device).view(-1, 1, 1, 1)
            images = images.flip(axis).where(mask, images)
    return images


def _grid(images: Tensor, matrices: Tensor) -> Tensor:
    """Return the sampling points (n, H, W, 2), from -1 to 1 between the borders.

    They are computed element by element: a matrix product would round coordinates to TF32 or
    bfloat16 if the step allows that.
    """
    import torch

    height, width = images.shape[-2:]
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    # Input points are in half sizes, output points in pixels from the centre.
    coefficients = to_device((matrices / half[:, None]).float(), images.device)
    x, y = (
        torch.arange(length, device=images.device, dtype=torch.float32) - (length - 1) / 2
        for length in (width, height)
    )
    by_x, by_y, shift = coefficients[:, None, None].unbind(dim=-1)
    return by_x * x[:, None] + (by_y * y[:, None, None] + shift)
